//! What would mend a hazard.

use crate::check::{Conflict, Hazard, How, Place, Touch};

/// The missing piece, for the kinds of accesses that collide.
pub fn advice(hazard: &Hazard) -> String {
    let Hazard { before, now, place, conflict, before_read, touch } = hazard;
    let space = if matches!(place, Place::Shared { .. }) { "shared::cta" } else { "global" };
    match conflict {
        Conflict::Unfenced if now.how == How::MapRead => {
            return "put fence.proxy.tensormap::generic.release after the write (tensormap.cp_fenceproxy has one), and \
                    fence.proxy.tensormap::generic.acquire of the map before the copy"
                .into();
        }
        Conflict::Unfenced => {
            return format!(
                "put fence.proxy.async.{space} after the write, in the writing threads and before the barrier that \
                 orders the two"
            );
        }
        Conflict::UnfencedRead => {
            return format!("put fence.proxy.async.{space} after the read, before the arrival that frees the buffer");
        }
        Conflict::Unordered => {}
    }
    let across_blocks = before.cta != now.cta;
    if before.how == How::MBarrierInit && now.how != How::Store && now.how != How::Load {
        return if across_blocks {
            "after mbarrier.init, use fence.mbarrier_init.release.cluster and barrier.cluster.arrive and .wait before \
             other blocks touch the mbarrier"
                .into()
        } else {
            "put bar.sync between mbarrier.init and its first use by other threads".into()
        };
    }
    let text = match (before.how, before_read) {
        (How::Bulk | How::Tensor, false) if matches!(place, Place::Shared { .. }) => {
            "wait, in every warp that touches these bytes, for the phase of the mbarrier that the copy completes"
        }
        (How::Bulk | How::Tensor, false) => {
            "wait with cp.async.bulk.wait_group (without .read) in the thread that issued the copy, then synchronise"
        }
        (How::Bulk | How::Tensor, true) => {
            "wait with cp.async.bulk.wait_group.read in the thread that issued the copy, then synchronise, before the \
             bytes are written again"
        }
        (How::CpAsync, _) => {
            "wait with cp.async.wait_group in the threads that issued the copies, then synchronise, or let \
             cp.async.mbarrier.arrive tell an mbarrier"
        }
        (How::Wgmma, _) => {
            "wait with wgmma.wait_group for the wgmma that reads these bytes, and then arrive on the mbarrier that \
             frees them"
        }
        (How::StAsync, _) => "wait for the phase of the mbarrier that st.async completes",
        _ if now.how.is_detached() && *touch == Touch::Write && !across_blocks => {
            "the copy may start only after an arrival of the threads that still use these bytes: wait for their mbarrier \
             before it is issued"
        }
        _ if before.cluster != now.cluster => {
            "blocks of different clusters are ordered by release and acquire at .gpu scope on a flag, or by a second \
             launch"
        }
        _ if across_blocks => {
            "order the blocks with barrier.cluster.arrive and .wait, or with a remote mbarrier and .cluster scope"
        }
        _ => "put bar.sync, or an mbarrier arrival and wait, between the two",
    };
    text.into()
}
