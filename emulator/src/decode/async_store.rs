//! st.async and red.async (PTX ISA 9.7.9.12, 9.7.13.7).

use super::decoder::{Decoder, Result};
use super::memory::{atom_op, take_order};
use super::modifiers::Modifiers;
use super::moves::take_space;
use super::ty::Ty;
use crate::parse::ast::{Operand, Space};
use crate::program::Op;
use crate::program::memory_op::{AsyncStore, Order, Scope};

impl Decoder<'_> {
    /// The modifiers after `async`.
    pub(super) fn async_store(&mut self, reduce: bool, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let (order, scope) = take_order(m);
        if order == Some(Order::Release) || m.all().contains(&"mmio") {
            return self.error("releasing stores to global memory need sm_100");
        }
        let space = take_space(m).unwrap_or(Space::Generic);
        let order_fits = match reduce {
            true => order == Some(Order::Relaxed) && scope == Some(Scope::Cluster),
            false => matches!((order, scope), (None | Some(Order::Weak), None) | (None, Some(Scope::Cluster))),
        };
        if !order_fits || !matches!(space, Space::Generic | Space::SharedCluster) || !m.take("mbarrier::complete_tx::bytes") {
            return self.unknown();
        }
        let count = m.choose(&[("v2", 2), ("v4", 4)]).unwrap_or(1);
        let name = ["inc", "dec", "min", "max", "and", "or", "xor", "add"].into_iter().find(|name| reduce && m.take(name));
        let ty = self.ty(m)?;
        let op = match name {
            Some(name) => {
                let fits = matches!(
                    (name, ty),
                    ("inc" | "dec", Ty::U(32))
                        | ("min" | "max", Ty::U(32) | Ty::S(32))
                        | ("and" | "or" | "xor", Ty::B(32))
                        | ("add", Ty::U(32) | Ty::S(32) | Ty::U(64))
                );
                match atom_op(name, ty) {
                    Some(op) if fits && count == 1 => Some(op),
                    _ => return self.unknown(),
                }
            }
            None if reduce => return self.unknown(),
            None => None,
        };
        let fits = matches!(ty, Ty::B(32 | 64) | Ty::U(32 | 64) | Ty::S(32 | 64) | Ty::F32 | Ty::F64);
        if !fits || count * ty.bits() as usize > 128 {
            return self.unknown();
        }
        self.expect_operands(ops, 3)?;
        let (addr, barrier) = (self.addr(&ops[0])?, self.addr(&ops[2])?);
        let src = self.data(&ops[1], count, ty, true)?;
        Ok(Op::AsyncStore(Box::new(AsyncStore { space, addr, bytes: ty.bits() / 8, src, barrier, reduce: op })))
    }
}
