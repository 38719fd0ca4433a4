//! fence and membar (PTX ISA 9.7.13.4).

use super::decoder::{Decoder, Result};
use super::memory::{take_order, take_scope};
use super::modifiers::Modifiers;
use crate::parse::ast::{Operand, Space};
use crate::program::Op;
use crate::program::memory_op::{Order, Scope};
use crate::program::op::Fence;

/// `.sync_restrict`, if it is there: what a fence is limited to.
fn take_restrict(m: &mut Modifiers) -> Option<Space> {
    m.choose(&[("sync_restrict::shared::cta", Space::Shared), ("sync_restrict::shared::cluster", Space::SharedCluster)])
}

/// A limit goes with one direction only, and with cluster scope.
fn restricted(only: Space, order: Option<Order>, scope: Option<Scope>) -> bool {
    let order_fits = match only {
        Space::Shared => order == Some(Order::Release),
        _ => order == Some(Order::Acquire),
    };
    order_fits && scope == Some(Scope::Cluster)
}

impl Decoder<'_> {
    pub(super) fn fence(&mut self, root: &str, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        if m.take("proxy") {
            return self.proxy_fence(root, m, ops);
        }
        self.expect_operands(ops, 0)?;
        if root == "membar" {
            let scope = m.choose(&[("cta", Scope::Cta), ("gl", Scope::Gpu), ("sys", Scope::Sys)]);
            let Some(scope) = scope else { return self.unknown() };
            return Ok(Op::Fence(Fence::Memory { order: Order::SeqCst, scope, only: None }));
        }
        if m.take("mbarrier_init") {
            return match (m.take("release"), take_scope(m)) {
                (true, Some(Scope::Cluster)) => Ok(Op::Fence(Fence::MBarrierInit)),
                _ => self.unknown(),
            };
        }
        let order = m.choose(&[
            ("sc", Order::SeqCst),
            ("acq_rel", Order::AcqRel),
            ("acquire", Order::Acquire),
            ("release", Order::Release),
        ]);
        let only = take_restrict(m);
        let Some(scope) = take_scope(m) else { return self.unknown() };
        if only.is_some_and(|only| !restricted(only, order, Some(scope))) {
            return self.unknown();
        }
        Ok(Op::Fence(Fence::Memory { order: order.unwrap_or(Order::AcqRel), scope, only }))
    }

    fn proxy_fence(&mut self, root: &str, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        if m.take("alias") {
            self.expect_operands(ops, 0)?;
            return Ok(Op::Fence(Fence::ProxyAlias));
        }
        if root == "membar" {
            return self.unknown();
        }
        if m.take("async") {
            let only =
                m.choose(&[("global", Space::Global), ("shared::cta", Space::Shared), ("shared::cluster", Space::SharedCluster)]);
            self.expect_operands(ops, 0)?;
            return Ok(Op::Fence(Fence::ProxyAsync { only }));
        }
        if m.take("async::generic") {
            let (order, scope) = take_order(m);
            self.expect_operands(ops, 0)?;
            return match (take_restrict(m), order) {
                (Some(only), Some(order)) if restricted(only, Some(order), scope) => {
                    Ok(Op::Fence(Fence::ProxyAsyncGeneric { order, only }))
                }
                _ => self.unknown(),
            };
        }
        if !m.take("tensormap::generic") {
            return self.unknown();
        }
        let (order, scope) = take_order(m);
        let Some(scope) = scope else { return self.unknown() };
        match order {
            Some(Order::Release) => {
                self.expect_operands(ops, 0)?;
                Ok(Op::Fence(Fence::ProxyTensorMap { order: Order::Release, scope, addr: None }))
            }
            Some(Order::Acquire) => {
                self.expect_operands(ops, 2)?;
                if self.constant(ops, 1)? != 128 {
                    return self.error("orders 128 bytes, no other size");
                }
                let addr = Some(self.addr(&ops[0])?);
                Ok(Op::Fence(Fence::ProxyTensorMap { order: Order::Acquire, scope, addr }))
            }
            _ => self.unknown(),
        }
    }
}
