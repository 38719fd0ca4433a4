//! Waits for groups of asynchronous operations.

use super::cluster::{At, Cluster};
use super::probe::SyncEvent;
use super::step::Flow;
use super::warp::{Wait, Warp};

impl Cluster<'_> {
    pub(super) fn cp_async_wait(&mut self, warp: &mut Warp, at: &At, mask: u32, pending: Option<u32>) -> Flow {
        let open =
            pending.is_none() && warp.cp_async.open.iter().any(|(id, who)| who & mask != 0 && self.queue.is_outstanding(*id));
        if open || self.must_wait(&warp.cp_async, mask, pending.unwrap_or(0)) {
            return Flow::Block(Wait::Groups);
        }
        self.probe.sync(*at, mask, SyncEvent::GroupWait);
        Flow::Next
    }

    pub(super) fn bulk_wait(&mut self, warp: &mut Warp, at: &At, mask: u32, pending: u32) -> Flow {
        if self.must_wait(&warp.bulk, mask, pending) {
            return Flow::Block(Wait::Groups);
        }
        self.probe.sync(*at, mask, SyncEvent::GroupWait);
        Flow::Next
    }

    pub(super) fn wgmma_wait(&mut self, warp: &mut Warp, at: &At, mask: u32, pending: u32) -> Flow {
        self.check_aligned(warp, at, mask, "wgmma.wait_group");
        if self.must_wait(&warp.wgmma, mask, pending) {
            return Flow::Block(Wait::Groups);
        }
        self.probe.sync(*at, mask, SyncEvent::GroupWait);
        Flow::Next
    }
}
