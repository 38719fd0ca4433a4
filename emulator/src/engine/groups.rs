//! Waits for groups of asynchronous operations.

use super::cluster::{At, Cluster};
use super::step::Flow;
use super::warp::{Groups, Wait, Warp};
use crate::check::Part;

impl Cluster<'_> {
    pub(super) fn cp_async_wait(&mut self, warp: &mut Warp, at: &At, mask: u32, pending: Option<u32>) -> Flow {
        let everything = pending.is_none();
        let open = everything && warp.cp_async.open.iter().any(|op| op.lanes & mask != 0 && self.queue.is_outstanding(op.id));
        if open {
            return Flow::Block(Wait::Groups);
        }
        let flow = self.wait_groups(&mut warp.cp_async, at, mask, pending.unwrap_or(0), Part::All);
        if everything && flow == Flow::Next {
            if let Some(check) = &mut self.check {
                let tokens = warp.cp_async.open.iter().filter(|op| op.lanes & mask != 0).filter_map(|op| op.token);
                tokens.for_each(|token| check.waited(at.cta, at.warp, token, Part::All));
            }
            warp.cp_async.open.retain(|op| op.lanes & !mask != 0);
        }
        flow
    }

    pub(super) fn bulk_wait(&mut self, warp: &mut Warp, at: &At, mask: u32, pending: u32, read: bool) -> Flow {
        let part = if read { Part::Reads } else { Part::All };
        self.wait_groups(&mut warp.bulk, at, mask, pending, part)
    }

    pub(super) fn wgmma_wait(&mut self, warp: &mut Warp, at: &At, mask: u32, pending: u32) -> Flow {
        self.check_aligned(warp, at, mask, "wgmma.wait_group");
        let flow = self.wait_groups(&mut warp.wgmma, at, mask, pending, Part::All);
        if flow == Flow::Next {
            self.release_wgmma(warp, pending);
        }
        flow
    }

    fn wait_groups(&mut self, groups: &mut Groups, at: &At, mask: u32, pending: u32, part: Part) -> Flow {
        if self.must_wait(groups, mask, pending) {
            return Flow::Block(Wait::Groups);
        }
        self.pass_groups(groups, at, mask, pending, part);
        Flow::Next
    }
}
