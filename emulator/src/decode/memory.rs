//! Loads, stores, atomics and prefetches.

use super::decoder::{Decoder, Result};
use super::modifiers::Modifiers;
use super::moves::take_space;
use super::ty::Ty;
use crate::parse::ast::{Operand, Space};
use crate::program::memory_op::{Addr, Atom, AtomOp, Base, Elem, LdParam, Load, Order, Prefetch, Regs, Scope, Store};
use crate::program::{Const, Op, Reg};

pub(super) fn take_scope(m: &mut Modifiers) -> Option<Scope> {
    m.choose(&[("cta", Scope::Cta), ("cluster", Scope::Cluster), ("gpu", Scope::Gpu), ("sys", Scope::Sys)])
}

/// The memory order and scope that are spelt out.
pub(super) fn take_order(m: &mut Modifiers) -> (Option<Order>, Option<Scope>) {
    let order = m.choose(&[
        ("weak", Order::Weak),
        ("volatile", Order::Volatile),
        ("relaxed", Order::Relaxed),
        ("acquire", Order::Acquire),
        ("release", Order::Release),
        ("acq_rel", Order::AcqRel),
    ]);
    (order, take_scope(m))
}

/// Order and scope of `ld` and `st`: weak unless they say more; volatile is relaxed at system scope (PTX ISA 8.4).
fn access_order(m: &mut Modifiers) -> (Order, Scope) {
    let (order, scope) = take_order(m);
    m.take("mmio");
    (order.unwrap_or(Order::Weak), scope.unwrap_or(Scope::Sys))
}

/// Bytes a register takes in memory operations.
fn reg_bits(reg: Reg) -> u32 {
    match reg {
        Reg::P(_) => 1,
        Reg::R(_) => 32,
        Reg::D(_) => 64,
        Reg::Q(..) => 128,
    }
}

impl Decoder<'_> {
    pub(super) fn memory(&mut self, root: &str, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        match root {
            "ld" | "ldu" => self.load(m, ops),
            "st" => self.store(m, ops),
            "atom" | "red" => self.atom(root == "atom", m, ops),
            "prefetch" | "prefetchu" | "applypriority" => {
                let space = take_space(m).unwrap_or(Space::Generic);
                let tensormap = m.take("tensormap");
                let level = m.choose(&[("L1", false), ("L2", false), ("L2::evict_last", true), ("L2::evict_normal", true)]);
                let spaces_fit = match (tensormap, root, level) {
                    (true, "prefetch", None) => matches!(space, Space::Generic | Space::Const | Space::Param),
                    (false, "prefetchu", Some(false)) => space == Space::Generic,
                    (false, "prefetch", Some(false)) => matches!(space, Space::Generic | Space::Global | Space::Local),
                    (false, "prefetch", Some(true)) => space == Space::Global,
                    (false, "applypriority", Some(true)) => matches!(space, Space::Generic | Space::Global),
                    _ => false,
                };
                if !spaces_fit {
                    return self.unknown();
                }
                // `applypriority` has a size, which is always 128.
                self.expect_operands(ops, if root == "applypriority" { 2 } else { 1 })?;
                Ok(Op::Prefetch(Box::new(Prefetch { space, addr: self.addr(&ops[0])?, tensormap })))
            }
            "createpolicy" => {
                // A cache policy is only ever a hint: any value will do.
                m.take_all();
                let Some(d) = ops.first() else { return self.unknown() };
                let zero = self.const64(Const::Bits(0));
                Ok(Op::Mov64(self.dst64(d)?, zero))
            }
            _ => self.error("is not supported"),
        }
    }

    fn vector(&self, m: &mut Modifiers) -> usize {
        m.choose(&[("v2", 2), ("v4", 4), ("v8", 8)]).unwrap_or(1)
    }

    /// Registers of a load or store, checked against the vector length and element size.
    pub(super) fn data(&mut self, operand: &Operand, count: usize, ty: Ty, is_source: bool) -> Result<Regs> {
        let regs = self.any_regs(operand, ty.bits(), is_source)?;
        if regs.len() != count {
            return self.error(format!("expected {count} registers, found {}", regs.len()));
        }
        if regs.iter().any(|reg| reg_bits(*reg) < ty.bits()) {
            return self.error(format!("a register is narrower than {} bits", ty.bits()));
        }
        Ok(regs)
    }

    fn load(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let (order, scope) = access_order(m);
        let space = take_space(m).unwrap_or(Space::Generic);
        m.take_any(&["ca", "cg", "cs", "lu", "cv", "nc"]);
        m.take_cache_hints();
        let count = self.vector(m);
        let ty = self.ty(m)?;
        if ty == Ty::Pred || !(2..=3).contains(&ops.len()) {
            return self.unknown();
        }
        let dst = self.data(&ops[0], count, ty, false)?;
        let elem = Elem { bytes: ty.bits() / 8, signed: ty.signed() };
        if space == Space::Param
            && let Some(access) = self.frame_access(&ops[1], elem, &dst)?
        {
            return Ok(Op::LdFrame(Box::new(access)));
        }
        let addr = self.addr(&ops[1])?;
        let space = self.param_space(space);
        if space == Space::Param
            && let Addr { base: Base::Zero, offset } = addr
        {
            let end = offset + i64::from(elem.bytes) * count as i64;
            if offset < 0 || end > i64::from(self.layout.param_bytes) {
                return self.error(format!("reads parameter bytes {offset}..{end} of {}", self.layout.param_bytes));
            }
            if offset % i64::from(elem.bytes) != 0 {
                return self.error(format!("parameter offset {offset} is not a multiple of {}", elem.bytes));
            }
            return Ok(Op::LdParam(Box::new(LdParam { offset: offset as u32, elem, dst })));
        }
        if order != Order::Weak && matches!(space, Space::Global | Space::Generic) {
            self.talks_through_global = true;
        }
        Ok(Op::Load(Box::new(Load { space, addr, elem, dst, order, scope })))
    }

    fn store(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        if m.take("async") {
            return self.async_store(false, m, ops);
        }
        if m.take("bulk") {
            return self.error("st.bulk needs sm_100");
        }
        let (order, scope) = access_order(m);
        let space = take_space(m).unwrap_or(Space::Generic);
        m.take_any(&["wb", "cg", "cs", "wt"]);
        m.take_cache_hints();
        let count = self.vector(m);
        let ty = self.ty(m)?;
        if ty == Ty::Pred || !(2..=3).contains(&ops.len()) {
            return self.unknown();
        }
        let src = self.data(&ops[1], count, ty, true)?;
        let elem = Elem { bytes: ty.bits() / 8, signed: false };
        if space == Space::Param
            && let Some(access) = self.frame_access(&ops[0], elem, &src)?
        {
            return Ok(Op::StFrame(Box::new(access)));
        }
        let space = self.param_space(space);
        if matches!(space, Space::Param | Space::Const) {
            return self.error("this space cannot be written");
        }
        let addr = self.addr(&ops[0])?;
        if order != Order::Weak && matches!(space, Space::Global | Space::Generic) {
            self.talks_through_global = true;
        }
        Ok(Op::Store(Box::new(Store { space, addr, elem, src, order, scope })))
    }

    fn atom(&mut self, returns: bool, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        if m.take("async") {
            return if returns { self.unknown() } else { self.async_store(true, m, ops) };
        }
        // PTX ISA 9.7.13.5: relaxed at GPU scope unless it says more.
        let (order, scope) = take_order(m);
        let (order, scope) = (order.unwrap_or(Order::Relaxed), scope.unwrap_or(Scope::Gpu));
        let space = take_space(m).unwrap_or(Space::Generic);
        let names = ["exch", "cas", "add", "min", "max", "and", "or", "xor", "inc", "dec"];
        let Some(name) = names.into_iter().find(|name| m.take(name)) else { return self.unknown() };
        m.take_cache_hints();
        m.take("noftz");
        let count = self.vector(m);
        let ty = self.ty(m)?;
        let Some(op) = atom_op(name, ty) else { return self.unknown() };
        let op = if self.ring { op.in_ring() } else { op };
        let inputs = if op == AtomOp::Cas { 2 } else { 1 };
        let fixed = usize::from(returns) + 1 + inputs;
        if ops.len() != fixed && ops.len() != fixed + 1 {
            return self.error(format!("takes {fixed} operands, has {}", ops.len()));
        }
        let (dst, rest) = if returns { (self.data(&ops[0], count, ty, false)?, &ops[1..]) } else { (Regs::new(), ops) };
        let addr = self.addr(&rest[0])?;
        let src = self.data(&rest[1], count, ty, true)?;
        let swap = if op == AtomOp::Cas { Some(self.any_reg(&rest[2], ty.bits(), true)?) } else { None };
        if matches!(space, Space::Global | Space::Generic) {
            self.talks_through_global = true;
        }
        Ok(Op::Atom(Box::new(Atom { space, addr, op, bytes: ty.bits() / 8, dst, src, swap, order, scope })))
    }
}

/// The operation of `atom.name.ty`, if PTX has it.
pub(super) fn atom_op(name: &str, ty: Ty) -> Option<AtomOp> {
    Some(match (name, ty) {
        ("exch", Ty::B(32 | 64 | 128)) => AtomOp::Exch,
        ("cas", Ty::B(16 | 32 | 64 | 128)) => AtomOp::Cas,
        ("add", Ty::U(32 | 64) | Ty::S(32 | 64)) => AtomOp::Add,
        ("min", Ty::U(32 | 64)) => AtomOp::MinU,
        ("max", Ty::U(32 | 64)) => AtomOp::MaxU,
        ("min", Ty::S(32 | 64)) => AtomOp::MinS,
        ("max", Ty::S(32 | 64)) => AtomOp::MaxS,
        ("and", Ty::B(32 | 64)) => AtomOp::And,
        ("or", Ty::B(32 | 64)) => AtomOp::Or,
        ("xor", Ty::B(32 | 64)) => AtomOp::Xor,
        ("inc", Ty::U(32)) => AtomOp::Inc,
        ("dec", Ty::U(32)) => AtomOp::Dec,
        ("add", Ty::F32) => AtomOp::AddF32,
        ("add", Ty::F64) => AtomOp::AddF64,
        ("add", Ty::F16) => AtomOp::AddF16,
        ("add", Ty::Bf16) => AtomOp::AddBf16,
        ("add", Ty::F16x2) => AtomOp::AddF16x2,
        ("add", Ty::Bf16x2) => AtomOp::AddBf16x2,
        ("min", Ty::F16) => AtomOp::MinF16,
        ("max", Ty::F16) => AtomOp::MaxF16,
        ("min", Ty::Bf16) => AtomOp::MinBf16,
        ("max", Ty::Bf16) => AtomOp::MaxBf16,
        ("min", Ty::F16x2) => AtomOp::MinF16x2,
        ("max", Ty::F16x2) => AtomOp::MaxF16x2,
        ("min", Ty::Bf16x2) => AtomOp::MinBf16x2,
        ("max", Ty::Bf16x2) => AtomOp::MaxBf16x2,
        _ => return None,
    })
}
