//! The mbarrier instructions (PTX ISA 9.7.13.15).

use super::decoder::{Decoder, Result};
use super::memory::take_order;
use super::modifiers::Modifiers;
use super::moves::take_space;
use super::ty::Ty;
use crate::parse::ast::{Operand, Space};
use crate::program::memory_op::{Addr, Base, Order, Scope};
use crate::program::sync_op::{MBarrier, MBarrierKind, MBarrierWait};
use crate::program::{D, Op};

const NAMES: [&str; 9] =
    ["init", "inval", "expect_tx", "complete_tx", "arrive", "arrive_drop", "test_wait", "try_wait", "pending_count"];

impl Decoder<'_> {
    pub(super) fn mbarrier(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let Some(&name) = m.all().first() else { return self.unknown() };
        if !NAMES.contains(&name) {
            return self.unknown();
        }
        m.take(name);
        let is_wait = matches!(name, "test_wait" | "try_wait");
        let is_arrive = matches!(name, "arrive" | "arrive_drop");
        let expect = is_arrive && m.take("expect_tx");
        let no_complete = is_arrive && m.take("noComplete");
        let parity = is_wait && m.take("parity");
        let (order, scope) = self.mbarrier_order(name, no_complete, m)?;
        let space = take_space(m);
        let space_fits = match space {
            None | Some(Space::Shared) => true,
            Some(Space::SharedCluster) => is_arrive && !no_complete || matches!(name, "expect_tx" | "complete_tx"),
            _ => false,
        };
        if !space_fits || (expect && no_complete) || self.ty(m)? != Ty::B(64) {
            return self.unknown();
        }
        let space = space.unwrap_or(Space::Generic);
        let made = |kind, addr| Ok(Op::MBarrier(Box::new(MBarrier { kind, addr, space, order, scope })));
        if name == "pending_count" {
            self.expect_operands(ops, 2)?;
            let kind = MBarrierKind::PendingCount { d: self.dst32(&ops[0])?, state: self.src64(&ops[1])? };
            return made(kind, Addr { base: Base::Zero, offset: 0 });
        }
        // A destination comes first where there is one; `arrive` may leave it out.
        let has_dst = is_wait || (is_arrive && !matches!(ops.first(), Some(Operand::Address { .. })));
        let rest = ops.get(usize::from(has_dst)..).unwrap_or_default();
        let Some(address) = rest.first() else { return self.error("takes the address of an mbarrier") };
        let addr = self.addr(address)?;
        let (least, most) = match name {
            "inval" => (1, 1),
            "init" | "expect_tx" | "complete_tx" | "test_wait" => (2, 2),
            "try_wait" => (2, 3),
            _ if expect || no_complete => (2, 2),
            _ => (1, 2),
        };
        if !(least..=most).contains(&rest.len()) {
            return self.error(format!("has {} operands", ops.len()));
        }
        if is_wait {
            let on = match parity {
                true => MBarrierWait::Parity(self.src32(&rest[1], Ty::U(32))?),
                false => MBarrierWait::State(self.src64(&rest[1])?),
            };
            // A time limit is a hint: when it ends is up to the schedule.
            if let Some(hint) = rest.get(2) {
                self.src32(hint, Ty::U(32))?;
            }
            return made(MBarrierKind::Wait { d: self.dst_pred(&ops[0])?, on, may_block: name == "try_wait" }, addr);
        }
        let value = match rest.get(1) {
            Some(value) => Some(self.src32(value, Ty::U(32))?),
            None => None,
        };
        let kind = match (name, value) {
            ("init", Some(count)) => MBarrierKind::Init { count },
            ("inval", _) => MBarrierKind::Inval,
            ("expect_tx", Some(bytes)) => MBarrierKind::ExpectTx { bytes },
            ("complete_tx", Some(bytes)) => MBarrierKind::CompleteTx { bytes },
            _ => {
                let state = if has_dst { self.dst64(&ops[0])? } else { D::SINK };
                if space == Space::SharedCluster && state != D::SINK {
                    return self.error("an arrival at .shared::cluster returns no state: the destination is `_`");
                }
                let (count, expect) = if expect { (None, value) } else { (value, None) };
                MBarrierKind::Arrive { state, count, drop: name == "arrive_drop", no_complete, expect }
            }
        };
        made(kind, addr)
    }

    /// Order and scope, both spelt or neither: arrivals release and waits acquire, at block scope, unless they say.
    fn mbarrier_order(&self, name: &str, no_complete: bool, m: &mut Modifiers) -> Result<(Order, Scope)> {
        let default = match name {
            "arrive" | "arrive_drop" => Order::Release,
            "test_wait" | "try_wait" => Order::Acquire,
            _ => Order::Relaxed,
        };
        match take_order(m) {
            (None, None) => Ok((default, Scope::Cta)),
            (Some(order), Some(scope @ (Scope::Cta | Scope::Cluster))) => {
                let has_order = !matches!(name, "init" | "inval" | "pending_count");
                let fits = order == default || order == Order::Relaxed;
                if !has_order || !fits || (no_complete && (order, scope) != (Order::Release, Scope::Cta)) {
                    return self.unknown();
                }
                Ok((order, scope))
            }
            _ => self.unknown(),
        }
    }
}
