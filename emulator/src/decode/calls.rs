//! Device functions: which of them a kernel can reach, and the calls.

use super::decoder::{Decoder, Result};
use super::layout::Place;
use crate::error::ParseError;
use crate::memory::space::function_address;
use crate::parse::ast::{Formal, Function, InitItem, Module, Operand, RegClass, Space};
use crate::program::call_op::{Builtin, Call, FrameAccess, Slot, Target};
use crate::program::memory_op::{Elem, Regs};
use crate::program::{Const, Op, Reg};

/// Local memory for the calls of a kernel whose depth of calls is not known: recursion, or calls through registers.
const STACK_BYTES: u32 = 16 << 10;

/// Functions that some instruction or initialiser takes the address of.
fn address_taken(module: &Module) -> Vec<usize> {
    let mut taken = Vec::new();
    let mut add = |name: &str| {
        if let Some(index) = module.function(name)
            && !taken.contains(&index)
        {
            taken.push(index);
        }
    };
    for instr in module.functions.iter().flat_map(|function| &function.body) {
        if !instr.opcode.starts_with("call") {
            for operand in &instr.operands {
                if let Operand::Name { name, .. } = operand {
                    add(name);
                }
            }
        }
    }
    for item in module.variables.iter().flat_map(|variable| &variable.init) {
        if let InitItem::Symbol { name, .. } | InitItem::SymbolByte { name, .. } = item {
            add(name);
        }
    }
    taken
}

/// The function operand of a call, with what comes before and after it.
fn split_call(ops: &[Operand]) -> Option<(&[Operand], &Operand, &[Operand])> {
    let (returns, rest) = match ops {
        [Operand::Args(returns), rest @ ..] => (returns.as_slice(), rest),
        rest => (&[][..], rest),
    };
    match rest {
        [function] => Some((returns, function, &[])),
        [function, Operand::Args(args)] | [function, Operand::Args(args), Operand::Name { .. }] => {
            Some((returns, function, args))
        }
        [function @ Operand::Reg(_), Operand::Name { .. }] => Some((returns, function, &[])),
        _ => None,
    }
}

/// Functions that `function` calls.
fn called(module: &Module, function: &Function, taken: &[usize]) -> Vec<usize> {
    let mut found = Vec::new();
    for instr in function.body.iter().filter(|instr| instr.opcode.starts_with("call")) {
        match split_call(&instr.operands) {
            Some((_, Operand::Name { name, .. }, _)) => found.extend(module.function(name)),
            Some((_, Operand::Reg(_), _)) => found.extend(taken),
            _ => {}
        }
    }
    found.retain(|index| !module.functions[*index].is_entry);
    found.sort_unstable();
    found.dedup();
    found
}

/// Device functions an entry can reach, as indices into the module's functions, and the calls between them.
pub struct Reach {
    /// In the order they are found.
    pub functions: Vec<usize>,
    /// For the entry (first) and each of `functions`, positions in `functions` of those it calls.
    edges: Vec<Vec<usize>>,
}

impl Reach {
    pub fn new(module: &Module, entry: &Function) -> Self {
        let taken = address_taken(module);
        let mut reach = Reach { functions: Vec::new(), edges: Vec::new() };
        let mut next = 0;
        loop {
            let function = match next {
                0 => entry,
                n => match reach.functions.get(n - 1) {
                    Some(&index) => &module.functions[index],
                    None => return reach,
                },
            };
            let edges = called(module, function, &taken)
                .into_iter()
                .map(|index| match reach.functions.iter().position(|known| *known == index) {
                    Some(at) => at,
                    None => {
                        reach.functions.push(index);
                        reach.functions.len() - 1
                    }
                })
                .collect();
            reach.edges.push(edges);
            next += 1;
        }
    }

    /// Bytes of local memory that calls need below the entry's own frame, from each function's frame size.
    pub fn stack_bytes(&self, frames: &[u32]) -> u32 {
        let mut open = vec![false; self.functions.len()];
        self.deepest(0, frames, &mut open).unwrap_or(STACK_BYTES)
    }

    /// The longest chain of frames below a node; `None` when it has no end.
    fn deepest(&self, node: usize, frames: &[u32], open: &mut [bool]) -> Option<u32> {
        let mut most = 0;
        for &callee in &self.edges[node] {
            if open[callee] {
                return None;
            }
            open[callee] = true;
            most = most.max(frames[callee].saturating_add(self.deepest(callee + 1, frames, open)?));
            open[callee] = false;
        }
        Some(most)
    }
}

impl Decoder<'_> {
    /// The address of a place in the frame: fixed for an entry, a register that the call sets for a function.
    pub(super) fn frame_address(&self, at: u32) -> Const {
        match self.callee {
            None => Const::Bits(u64::from(at)),
            Some(function) => Const::Frame { function, offset: at },
        }
    }

    /// Registers of device functions that hold addresses of parameters hold local addresses.
    pub(super) fn param_space(&self, space: Space) -> Space {
        if space == Space::Param && self.callee.is_some() { Space::Local } else { space }
    }

    /// `[name + offset]` of a parameter of a call or of a device function.
    pub(super) fn frame_access(&self, operand: &Operand, elem: Elem, regs: &Regs) -> Result<Option<FrameAccess>> {
        let Operand::Address { base: Some(base), offset, extra } = operand else { return Ok(None) };
        let Operand::Name { name, offset: inner, .. } = &**base else { return Ok(None) };
        let Some(Place::Call { offset: at, bytes }) = self.layout.find(name) else { return Ok(None) };
        let offset = inner + offset;
        let end = offset + i64::from(elem.bytes) * regs.len() as i64;
        if offset < 0 || end > i64::from(bytes) || !extra.is_empty() {
            return self.error(format!("accesses bytes {offset}..{end} of a parameter of {bytes}"));
        }
        if offset % i64::from(elem.bytes) != 0 {
            return self.error(format!("parameter offset {offset} is not a multiple of {}", elem.bytes));
        }
        Ok(Some(FrameAccess { offset: at + offset as u32, elem, regs: regs.clone() }))
    }

    pub(super) fn call(&mut self, ops: &[Operand]) -> Result<Op> {
        let Some((returns, function, args)) = split_call(ops) else {
            return self.error("expected `(results), function, (arguments)`");
        };
        let name = match function {
            Operand::Name { name, .. } => name,
            Operand::Reg(_) => {
                let target = Target::Indirect(self.src64(function)?);
                return self.call_to(target, returns, args, None);
            }
            _ => return self.error("expected a function"),
        };
        let module = self.module;
        let Some(index) = module.function(name) else {
            let builtin = match name.as_str() {
                "vprintf" => Builtin::Printf,
                "__assertfail" => Builtin::AssertFail,
                "malloc" | "free" => {
                    return self.error(format!("`{name}` of device code is not emulated: pass a buffer as an argument"));
                }
                _ => return self.error(format!("`{name}` has no body in this module: link or inline it")),
            };
            let sizes: (&[u32], &[u32]) = match builtin {
                Builtin::Printf => (&[8, 8], &[4]),
                Builtin::AssertFail => (&[8, 8, 4, 8, 8], &[]),
            };
            return self.call_to(Target::Builtin(builtin), returns, args, Some(sizes));
        };
        let callee = &module.functions[index];
        if callee.is_entry {
            return self.error(format!("`{name}` is an entry, not a device function"));
        }
        let sizes = |formals: &[Formal]| formals.iter().map(|formal| formal_bytes(callee, formal)).collect::<Vec<_>>();
        let Some(at) = self.reach.functions.iter().position(|known| *known == index) else {
            return self.error(format!("`{name}` cannot be called"));
        };
        let (params, results) = (sizes(&callee.formals), sizes(&callee.returns));
        self.call_to(Target::Direct(at as u32), returns, args, Some((&params, &results)))
    }

    /// `sizes` are those of the callee's parameters and return values.
    fn call_to(&mut self, target: Target, returns: &[Operand], args: &[Operand], sizes: Option<(&[u32], &[u32])>) -> Result<Op> {
        if let Some((params, results)) = sizes {
            if args.len() != params.len() {
                return self.error(format!("takes {} arguments, has {}", params.len(), args.len()));
            }
            // A call may leave the results away.
            if returns.len() != results.len() && !returns.is_empty() {
                return self.error(format!("gives {} results, {} are taken", results.len(), returns.len()));
            }
        }
        let mut slots = |operands: &[Operand], is_source, sizes: Option<&[u32]>| {
            let size = |at: usize| sizes.and_then(|sizes| sizes.get(at).copied());
            operands.iter().enumerate().map(|(at, operand)| self.slot(operand, is_source, size(at))).collect::<Result<Vec<_>>>()
        };
        let args = slots(args, true, sizes.map(|(params, _)| params))?;
        let returns = slots(returns, false, sizes.map(|(_, results)| results))?;
        Ok(Op::Call(Box::new(Call { target, args, returns })))
    }

    fn slot(&mut self, operand: &Operand, is_source: bool, bytes: Option<u32>) -> Result<Slot> {
        let slot = match operand {
            Operand::Name { name, offset: 0, .. } if matches!(self.layout.find(name), Some(Place::Call { .. })) => {
                match self.layout.find(name) {
                    Some(Place::Call { offset, bytes }) => Slot::Frame { offset, bytes },
                    _ => return self.unknown(),
                }
            }
            Operand::Reg(_) => match self.reg(operand) {
                Some(reg) => Slot::Reg(reg),
                None => return self.unknown(),
            },
            _ => match bytes {
                Some(bytes) => Slot::Reg(self.any_reg(operand, 8 * bytes, is_source)?),
                None => return self.error("arguments of a call through a register must be registers or parameters"),
            },
        };
        match bytes {
            Some(bytes) if !slot.fits(Slot::Frame { offset: 0, bytes }) => {
                let (name, given) = (self.name_of(operand), slot.bytes());
                self.error(format!("`{name}` has {given} bytes, the function's parameter has {bytes}"))
            }
            _ => Ok(slot),
        }
    }

    /// The callee's side of its parameters or return values.
    pub(super) fn formal_slots(&self, formals: &[Formal]) -> Result<Vec<Slot>> {
        let slot = |formal: &Formal| match formal {
            Formal::Memory(variable) => match self.layout.find(&variable.name) {
                Some(Place::Call { offset, bytes }) => Ok(Slot::Frame { offset, bytes }),
                _ => self.error(format!("parameter `{}` has no place", variable.name)),
            },
            Formal::Register(id) => match self.slots.regs.get(id.0 as usize) {
                Some(reg) if !matches!(reg, Reg::P(_)) => Ok(Slot::Reg(*reg)),
                _ => self.error("a parameter cannot be a predicate"),
            },
        };
        formals.iter().map(slot).collect()
    }

    /// The address of a function by name.
    pub(super) fn function_address(&self, name: &str) -> Option<Const> {
        self.module.function(name).map(|index| Const::Bits(function_address(index)))
    }
}

fn formal_bytes(function: &Function, formal: &Formal) -> u32 {
    match formal {
        Formal::Memory(variable) => variable.bytes as u32,
        Formal::Register(id) => match function.regs.get(id.0 as usize).map(|(_, class)| class) {
            Some(RegClass::Double) => 8,
            Some(RegClass::Quad) => 16,
            _ => 4,
        },
    }
}

/// Formals that no call can pass.
pub(super) fn check_formals(function: &Function) -> std::result::Result<(), ParseError> {
    for formal in function.formals.iter().chain(&function.returns) {
        if let Formal::Memory(variable) = formal
            && variable.bytes == 0
        {
            return Err(ParseError::on(
                variable.line,
                format!("parameter `{}` has no size: variadic functions are not supported", variable.name),
            ));
        }
    }
    Ok(())
}
