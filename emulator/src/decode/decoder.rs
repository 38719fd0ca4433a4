//! The driver: one entry in, with the functions it calls, one kernel out.

use super::calls::{self, Reach};
use super::layout::{Layout, Place, SharedLayout};
use super::modifiers::Modifiers;
use super::slots::Slots;
use super::special::{SpecialKind, special};
use super::ty::Ty;
use crate::error::ParseError;
use crate::memory::space::function_address;
use crate::module::Arch;
use crate::parse::ast::{self, Instr, Operand, RegClass, ScopeId};
use crate::program::call_op::Callee;
use crate::program::watch::{Named, Watch};
use crate::program::{Const, D, Guard, Inst, Kernel, Op, R, Reg, cfg};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Decodes an entry of a module, with the device functions it can reach; in the ring its float instructions work on
/// payloads.
pub fn decode(module: &ast::Module, arch: Arch, entry: &ast::Function, ring: bool) -> Result<Kernel> {
    let reach = Reach::new(module, entry);
    let functions = || reach.functions.iter().map(|&index| &module.functions[index]);
    let mut shared = SharedLayout::new();
    let mut layouts: VecDeque<Layout> =
        std::iter::once(entry).chain(functions()).map(|function| Layout::new(module, function, &mut shared)).collect();
    let dynamic_shared_at = shared.dynamic_at();
    layouts.iter_mut().for_each(|layout| layout.place_dynamic(dynamic_shared_at));
    let frames: Vec<u32> = layouts.iter().map(|layout| whole_frame(layout).max(16)).collect();
    // A kernel that calls nothing may have no local memory at all.
    let frame_bytes = layouts.front().map_or(0, whole_frame);
    let local_bytes = match layouts.front() {
        Some(layout) if reach.functions.is_empty() => layout.frame_bytes,
        _ => frame_bytes.saturating_add(reach.stack_bytes(&frames[1..])),
    };
    let mut decoder = Decoder {
        module,
        arch,
        function: entry,
        reach: &reach,
        callee: None,
        base: 0,
        layout: layouts.pop_front().unwrap_or_default(),
        slots: Slots::new(),
        consts32: FxHashMap::default(),
        consts64: FxHashMap::default(),
        order32: Vec::new(),
        order64: Vec::new(),
        frame32: Vec::new(),
        frame64: Vec::new(),
        line: entry.line,
        opcode: "",
        talks_through_global: false,
        ring,
    };
    let mut code = Code::default();
    decoder.body(&mut code)?;
    let (params, param_bytes) = (std::mem::take(&mut decoder.layout.params), decoder.layout.param_bytes);
    let mut callees = Vec::with_capacity(reach.functions.len());
    for (at, layout) in layouts.into_iter().enumerate() {
        decoder.layout = layout;
        callees.push(decoder.callee(at, frames[at + 1], &mut code)?);
    }
    decoder.line = entry.line;
    decoder.check_slots()?;
    if local_bytes > MAX_LOCAL_BYTES {
        let name = &entry.name;
        let text = format!("`{name}` needs {local_bytes} bytes of local memory a thread, a device has {MAX_LOCAL_BYTES}");
        return Err(ParseError::on(entry.line, text));
    }
    let join = cfg::reconvergence(&code.insts);
    let Code { mut insts, sources, names, named } = code;
    let watch = Watch::new(&mut insts, &named);
    Ok(Kernel {
        name: entry.name.clone(),
        code: insts,
        sources,
        join,
        rows32: decoder.slots.rows32 as usize,
        rows64: decoder.slots.rows64 as usize,
        preds: decoder.slots.preds as usize,
        consts32: decoder.order32,
        consts64: decoder.order64,
        names,
        params,
        param_bytes,
        static_shared: shared.static_bytes,
        dynamic_shared_at,
        local_bytes,
        frame_bytes,
        callees,
        reqntid: entry.reqntid,
        maxntid: entry.maxntid,
        reqcluster: entry.reqcluster,
        explicit_cluster: entry.explicit_cluster,
        min_ctas: entry.min_ctas,
        maxnreg: entry.maxnreg,
        talks_through_global: decoder.talks_through_global,
        watch,
    })
}

fn whole_frame(layout: &Layout) -> u32 {
    layout.frame_bytes.checked_next_multiple_of(16).unwrap_or(u32::MAX)
}

/// Local memory of a thread (CUDA C++ Programming Guide, "Compute Capabilities").
const MAX_LOCAL_BYTES: u32 = 512 << 10;

/// Decoded instructions of the entry and its functions, one after the other.
#[derive(Default)]
struct Code {
    insts: Vec<Inst>,
    sources: Vec<Option<u32>>,
    names: Vec<(Reg, String)>,
    named: Vec<Named>,
}

pub(super) struct Decoder<'a> {
    pub module: &'a ast::Module,
    pub arch: Arch,
    pub function: &'a ast::Function,
    pub reach: &'a Reach,
    /// Which of the reachable functions this is; `None` in the entry.
    pub callee: Option<u32>,
    /// Where the function's code starts.
    base: u32,
    pub layout: Layout,
    pub slots: Slots,
    consts32: FxHashMap<Const, R>,
    consts64: FxHashMap<Const, D>,
    order32: Vec<(R, Const)>,
    order64: Vec<(D, Const)>,
    frame32: Vec<(R, u32)>,
    frame64: Vec<(D, u32)>,
    pub line: u32,
    pub opcode: &'a str,
    pub talks_through_global: bool,
    pub ring: bool,
}

pub(super) type Result<T> = std::result::Result<T, ParseError>;

impl<'a> Decoder<'a> {
    /// Decodes the body of `self.function` behind the code that is there.
    fn body(&mut self, code: &mut Code) -> Result<()> {
        let function = self.function;
        self.line = function.line;
        self.base = code.insts.len() as u32;
        if self.slots.declare(function).is_none() {
            return self.check_slots_of(u32::MAX);
        }
        for instr in &function.body {
            self.line = instr.line;
            self.opcode = &instr.opcode;
            let op = self.instruction(instr)?;
            let guard = match instr.guard {
                Some((reg, negated)) => match self.slots.regs[reg.0 as usize] {
                    Reg::P(reg) => Some(Guard { reg, negated }),
                    _ => return self.error("guard is not a predicate"),
                },
                None => None,
            };
            code.insts.push(Inst { op, guard, line: instr.line, watch: 0 });
            code.named.push(self.named(instr));
            code.sources.push(instr.source);
        }
        // Falling off the end is a return.
        let last = function.body.last().map_or(function.line, |instr| instr.line);
        let op = if function.is_entry { Op::Exit } else { Op::Ret };
        code.insts.push(Inst { op, guard: None, line: last, watch: 0 });
        code.named.push(Named::new());
        code.sources.push(None);
        code.names.extend(function.regs.iter().zip(&self.slots.regs).map(|((name, _), reg)| (*reg, name.clone())));
        Ok(())
    }

    /// Decodes the n-th reachable function.
    fn callee(&mut self, at: usize, frame_bytes: u32, code: &mut Code) -> Result<Callee> {
        let index = self.reach.functions[at];
        let function = &self.module.functions[index];
        calls::check_formals(function)?;
        self.function = function;
        self.callee = Some(at as u32);
        let entry = code.insts.len() as u32;
        let first = (self.slots.rows32, self.slots.rows64, self.slots.preds);
        self.check_slots()?;
        self.body(code)?;
        let count = |bits: fn(RegClass) -> u32| function.regs.iter().map(|(_, class)| bits(*class)).sum::<u32>();
        // The registers of the function come first, constants that its code needs after them.
        let range = |first: u32, count: u32| first as u16..(first + count) as u16;
        let callee = Callee {
            name: function.name.clone(),
            address: function_address(index),
            entry,
            params: self.formal_slots(&function.formals)?,
            returns: self.formal_slots(&function.returns)?,
            frame_bytes,
            rows32: range(first.0, count(|class| u32::from(matches!(class, RegClass::Word(_))))),
            rows64: range(
                first.1,
                count(|class| match class {
                    RegClass::Double => 1,
                    RegClass::Quad => 2,
                    _ => 0,
                }),
            ),
            preds: range(first.2, count(|class| u32::from(class == RegClass::Pred))),
            frame32: std::mem::take(&mut self.frame32),
            frame64: std::mem::take(&mut self.frame64),
        };
        Ok(callee)
    }

    fn check_slots(&self) -> Result<()> {
        let Slots { rows32, rows64, preds, .. } = self.slots;
        self.check_slots_of(rows32.max(rows64).max(preds))
    }

    fn check_slots_of(&self, count: u32) -> Result<()> {
        if count > 65_535 {
            let name = &self.function.name;
            return Err(ParseError::on(
                self.line,
                format!("`{name}` and the functions it calls declare more than 65535 registers"),
            ));
        }
        Ok(())
    }

    pub fn error<T>(&self, message: impl std::fmt::Display) -> Result<T> {
        Err(ParseError::on(self.line, format!("`{}`: {message}", self.opcode)))
    }

    pub fn unknown<T>(&self) -> Result<T> {
        Err(ParseError::on(self.line, format!("unknown instruction `{}`", self.opcode)))
    }

    fn instruction(&mut self, instr: &'a Instr) -> Result<Op> {
        let (root, mut m) = Modifiers::new(&instr.opcode);
        let ops = instr.operands.as_slice();
        let op = match root {
            "add" | "sub" | "mul" | "mad" | "fma" | "div" | "rem" | "abs" | "neg" | "min" | "max" | "rcp" | "sqrt" | "rsqrt"
            | "sin" | "cos" | "lg2" | "ex2" | "tanh" | "copysign" | "mul24" | "mad24" | "sad" => self.arith(root, &mut m, ops)?,
            "addc" | "subc" | "madc" => self.carry(root, &mut m, ops)?,
            "and" | "or" | "xor" | "not" | "cnot" | "lop3" | "shl" | "shr" | "shf" | "prmt" | "bfe" | "bfi" | "bfind"
            | "brev" | "popc" | "clz" | "fns" | "bmsk" | "szext" | "dp4a" | "dp2a" => self.bits(root, &mut m, ops)?,
            "setp" | "set" | "selp" | "slct" | "testp" => self.compare(root, &mut m, ops)?,
            "mov" | "cvta" | "mapa" | "getctarank" | "isspacep" | "activemask" => self.moves(root, &mut m, ops)?,
            "cvt" => self.convert(&mut m, ops)?,
            "ld" | "ldu" | "st" | "atom" | "red" | "prefetch" | "prefetchu" | "applypriority" | "discard" | "createpolicy" => {
                self.memory(root, &mut m, ops)?
            }
            "tensormap" => self.tensormap(&mut m, ops)?,
            "cp" => self.async_copy(&mut m, ops)?,
            "shfl" | "vote" | "match" | "redux" | "elect" | "bar" | "barrier" | "mbarrier" | "membar" | "fence"
            | "griddepcontrol" | "setmaxnreg" | "nanosleep" | "pmevent" => self.sync(root, &mut m, ops)?,
            "ldmatrix" | "stmatrix" | "movmatrix" | "mma" | "wmma" | "wgmma" => self.matrix(root, &mut m, ops)?,
            "bra" | "brx" | "ret" | "exit" | "trap" | "brkpt" => self.control(root, &mut m, ops)?,
            "multimem" => return self.error("multicast objects of several GPUs are not emulated"),
            "clusterlaunchcontrol" | "tcgen05" => return self.error("needs sm_100, the emulator runs sm_80 to sm_90a"),
            "call" => {
                m.take("uni");
                self.call(ops)?
            }
            "alloca" | "stacksave" | "stackrestore" => return self.error("a stack of changing size is not supported"),
            _ => return self.unknown(),
        };
        match m.left() {
            Some(_) => self.unknown(),
            None => Ok(op),
        }
    }

    pub fn expect_operands(&self, ops: &[Operand], count: usize) -> Result<()> {
        if ops.len() == count {
            return Ok(());
        }
        self.error(format!("takes {count} operands, has {}", ops.len()))
    }

    pub fn const32(&mut self, value: Const) -> R {
        if let Some(&row) = self.consts32.get(&value) {
            return row;
        }
        let row = R(self.slots.rows32 as u16);
        self.slots.rows32 += 1;
        self.consts32.insert(value, row);
        match value {
            Const::Frame { offset, .. } => self.frame32.push((row, offset)),
            _ => self.order32.push((row, value)),
        }
        row
    }

    pub fn const64(&mut self, value: Const) -> D {
        if let Some(&row) = self.consts64.get(&value) {
            return row;
        }
        let row = D(self.slots.rows64 as u16);
        self.slots.rows64 += 1;
        self.consts64.insert(value, row);
        match value {
            Const::Frame { offset, .. } => self.frame64.push((row, offset)),
            _ => self.order64.push((row, value)),
        }
        row
    }

    pub fn imm32(&mut self, bits: u32) -> R {
        self.const32(Const::Bits(u64::from(bits)))
    }

    /// The place of a variable or parameter, as a constant.
    pub fn place(&self, name: &str, offset: i64) -> Result<Const> {
        Ok(match self.layout.find(name) {
            Some(Place::Param { offset: at, .. }) => Const::Bits((i64::from(at) + offset) as u64),
            Some(Place::Local(at) | Place::Call { offset: at, .. }) => self.frame_address((i64::from(at) + offset) as u32),
            Some(Place::Shared(at)) => Const::Shared { offset: (i64::from(at) + offset) as u32, generic: false },
            Some(Place::Global(index)) => Const::Global { index, offset },
            None => match self.function_address(name) {
                Some(address) if offset == 0 => address,
                _ => return self.error(format!("`{name}` is not a variable, parameter or register")),
            },
        })
    }

    pub fn reg(&self, operand: &Operand) -> Option<Reg> {
        match operand {
            Operand::Reg(id) => self.slots.regs.get(id.0 as usize).copied(),
            _ => None,
        }
    }

    /// 32-bit registers of an instruction, and whether they are in its first operand.
    fn named(&self, instr: &Instr) -> Named {
        fn collect(decoder: &Decoder<'_>, operand: &Operand, first: bool, out: &mut Named) {
            match operand {
                Operand::Reg(_) => {
                    if let Some(Reg::R(reg)) = decoder.reg(operand) {
                        out.push((reg, first));
                    }
                }
                Operand::Vector(parts) => parts.iter().for_each(|part| collect(decoder, part, first, out)),
                Operand::Pair(a, b) => [a, b].into_iter().for_each(|part| collect(decoder, part, first, out)),
                Operand::Address { base: Some(base), .. } => collect(decoder, base, false, out),
                _ => {}
            }
        }
        let mut out = Named::new();
        instr.operands.iter().enumerate().for_each(|(at, operand)| collect(self, operand, at == 0, &mut out));
        out
    }

    pub fn name_of(&self, operand: &Operand) -> String {
        match operand {
            Operand::Reg(id) | Operand::NotReg(id) => {
                self.function.regs.get(id.0 as usize).map_or_else(String::new, |(name, _)| name.clone())
            }
            Operand::Special(name) | Operand::Name { name, .. } => name.clone(),
            Operand::Int(value) => value.to_string(),
            Operand::Double(value) => value.to_string(),
            Operand::Single(bits) => format!("0f{bits:08X}"),
            Operand::Address { .. } => "[...]".into(),
            Operand::Vector(_) => "{...}".into(),
            Operand::Pair(..) => "a|b".into(),
            Operand::Args(_) => "(...)".into(),
            Operand::Sink => "_".into(),
        }
    }

    pub fn special(&self, name: &str) -> Result<SpecialKind> {
        match special(name) {
            Some(kind) => Ok(kind),
            None => self.error(format!("`{name}` is not a special register this emulator knows")),
        }
    }

    /// The target of a label visible from `scope`.
    pub fn label(&self, operand: &Operand) -> Result<u32> {
        let Operand::Name { name, scope, .. } = operand else {
            return self.error(format!("expected a label, found `{}`", self.name_of(operand)));
        };
        self.label_in(name, *scope)
    }

    pub fn label_in(&self, name: &str, scope: ScopeId) -> Result<u32> {
        match self.lookup(scope, |scope| self.function.labels.get(&(scope, name.to_string())).copied()) {
            Some(target) => Ok(self.base + target),
            None => self.error(format!("no label `{name}`")),
        }
    }

    /// The first hit from `scope` outwards.
    pub fn lookup<T>(&self, mut scope: ScopeId, find: impl Fn(ScopeId) -> Option<T>) -> Option<T> {
        loop {
            if let Some(found) = find(scope) {
                return Some(found);
            }
            if scope.0 == 0 {
                return None;
            }
            scope = self.function.scopes.get(scope.0 as usize).copied()?;
        }
    }

    pub fn bits_of(&self, ty: Option<Ty>) -> Result<Ty> {
        match ty {
            Some(ty) => Ok(ty),
            None => self.unknown(),
        }
    }

    pub fn ty(&self, m: &mut Modifiers) -> Result<Ty> {
        let ty = m.ty();
        self.bits_of(ty)
    }
}
