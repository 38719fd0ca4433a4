//! The driver: one function in, one kernel out.

use super::layout::{Layout, Place};
use super::modifiers::Modifiers;
use super::slots::Slots;
use super::special::{SpecialKind, special};
use super::ty::Ty;
use crate::error::ParseError;
use crate::parse::ast::{self, Instr, Operand, ScopeId};
use crate::program::{Const, D, Guard, Inst, Kernel, Op, R, Reg, cfg};
use rustc_hash::FxHashMap;

/// Decodes a function of a module.
pub fn decode(module: &ast::Module, function: &ast::Function) -> Result<Kernel> {
    let too_many = || ParseError::on(function.line, format!("`{}` declares more than 65535 registers", function.name));
    let slots = Slots::new(function).ok_or_else(too_many)?;
    let layout = Layout::new(module, function);
    let mut decoder = Decoder {
        function,
        layout,
        slots,
        consts32: FxHashMap::default(),
        consts64: FxHashMap::default(),
        order32: Vec::new(),
        order64: Vec::new(),
        line: function.line,
        opcode: "",
        talks_through_global: false,
    };
    let mut code = Vec::with_capacity(function.body.len() + 1);
    let mut sources = Vec::with_capacity(function.body.len() + 1);
    for instr in &function.body {
        decoder.line = instr.line;
        decoder.opcode = &instr.opcode;
        let op = decoder.instruction(instr)?;
        let guard = match instr.guard {
            Some((reg, negated)) => match decoder.slots.regs[reg.0 as usize] {
                Reg::P(reg) => Some(Guard { reg, negated }),
                _ => return decoder.error("guard is not a predicate"),
            },
            None => None,
        };
        code.push(Inst { op, guard, line: instr.line });
        sources.push(instr.source);
    }
    // Falling off the end is a return.
    let last = function.body.last().map_or(function.line, |instr| instr.line);
    code.push(Inst { op: Op::Exit, guard: None, line: last });
    sources.push(None);
    let join = cfg::reconvergence(&code);
    let names = function.regs.iter().zip(&decoder.slots.regs).map(|((name, _), reg)| (*reg, name.clone())).collect();
    if decoder.slots.rows32 > 65_535 || decoder.slots.rows64 > 65_535 || decoder.slots.preds > 65_535 {
        return Err(too_many());
    }
    Ok(Kernel {
        name: function.name.clone(),
        code,
        sources,
        join,
        rows32: decoder.slots.rows32 as usize,
        rows64: decoder.slots.rows64 as usize,
        preds: decoder.slots.preds as usize,
        consts32: decoder.order32,
        consts64: decoder.order64,
        names,
        params: decoder.layout.params,
        param_bytes: decoder.layout.param_bytes,
        static_shared: decoder.layout.static_shared,
        dynamic_shared_at: decoder.layout.dynamic_shared_at,
        local_bytes: decoder.layout.local_bytes,
        reqntid: function.reqntid,
        maxntid: function.maxntid,
        reqcluster: function.reqcluster,
        explicit_cluster: function.explicit_cluster,
        min_ctas: function.min_ctas,
        maxnreg: function.maxnreg,
        talks_through_global: decoder.talks_through_global,
    })
}

pub(super) struct Decoder<'a> {
    pub function: &'a ast::Function,
    pub layout: Layout,
    pub slots: Slots,
    consts32: FxHashMap<Const, R>,
    consts64: FxHashMap<Const, D>,
    order32: Vec<(R, Const)>,
    order64: Vec<(D, Const)>,
    pub line: u32,
    pub opcode: &'a str,
    pub talks_through_global: bool,
}

pub(super) type Result<T> = std::result::Result<T, ParseError>;

impl<'a> Decoder<'a> {
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
            "cp" => self.async_copy(&mut m, ops)?,
            "shfl" | "vote" | "match" | "redux" | "elect" | "bar" | "barrier" | "mbarrier" | "membar" | "fence"
            | "griddepcontrol" | "setmaxnreg" | "nanosleep" | "pmevent" => self.sync(root, &mut m, ops)?,
            "ldmatrix" | "stmatrix" | "movmatrix" | "mma" | "wgmma" => self.matrix(root, &mut m, ops)?,
            "bra" | "brx" | "ret" | "exit" | "trap" | "brkpt" => self.control(root, &mut m, ops)?,
            "multimem" => return self.error("multicast objects of several GPUs are not emulated"),
            "clusterlaunchcontrol" | "tcgen05" => return self.error("needs sm_100, the emulator runs sm_80 to sm_90a"),
            "call" => return self.error("function calls are not supported: inline the callee"),
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
        self.order32.push((row, value));
        row
    }

    pub fn const64(&mut self, value: Const) -> D {
        if let Some(&row) = self.consts64.get(&value) {
            return row;
        }
        let row = D(self.slots.rows64 as u16);
        self.slots.rows64 += 1;
        self.consts64.insert(value, row);
        self.order64.push((row, value));
        row
    }

    pub fn imm32(&mut self, bits: u32) -> R {
        self.const32(Const::Bits(u64::from(bits)))
    }

    /// The place of a variable or parameter, as a constant.
    pub fn place(&self, name: &str, offset: i64) -> Result<Const> {
        Ok(match self.layout.find(name) {
            Some(Place::Param { offset: at, .. }) => Const::Bits((i64::from(at) + offset) as u64),
            Some(Place::Local(at)) => Const::Bits((i64::from(at) + offset) as u64),
            Some(Place::Shared(at)) => Const::Shared { offset: (i64::from(at) + offset) as u32, generic: false },
            Some(Place::Global(index)) => Const::Global { index, offset },
            None => return self.error(format!("`{name}` is not a variable, parameter or register")),
        })
    }

    pub fn reg(&self, operand: &Operand) -> Option<Reg> {
        match operand {
            Operand::Reg(id) => self.slots.regs.get(id.0 as usize).copied(),
            _ => None,
        }
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
            Some(target) => Ok(target),
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
