//! Works out what every pipe's barriers count.

use super::PassError;
use crate::tile::{BarrierPlan, Kernel, OpKind, PipeDecl, Role, Unit};

/// Fills [`Kernel::barriers`]: arrivals and transaction bytes for the full and empty barrier of each pipe.
///
/// - A stage is full after its one producer's arrival and all bytes of its tiles; with multicast the bytes come from
///   several CTAs, but each CTA still receives every tile whole.
/// - A producer of whole warps fills some tiles of a stage itself: each of its warps arrives when its part is there, and its first
///   thread once more for the bytes that TMA brings, if there are any.
/// - A stage is empty after each consuming warp of each CTA whose producer writes here has arrived. A warp, not a
///   warpgroup: `wgmma.wait_group` tells a warp about its own reads only.
pub fn derive_barriers(k: &mut Kernel) -> Result<(), PassError> {
    let plans: Result<Vec<_>, _> = k.pipes.iter().map(|p| plan(k, p)).collect();
    k.barriers = plans?;
    Ok(())
}

fn plan(k: &Kernel, pipe: &PipeDecl) -> Result<BarrierPlan, PassError> {
    let one = |kind: OpKind, what: &str| -> Result<&Role, PassError> {
        let mut users = k.roles.iter().filter(|r| uses(r, kind, &pipe.name));
        match (users.next(), users.next()) {
            (Some(r), None) => Ok(r),
            (None, _) => Err(PassError::Pipe { pipe: pipe.name.clone(), what: format!("has no {what}") }),
            (Some(a), Some(b)) => Err(PassError::Pipe {
                pipe: pipe.name.clone(),
                what: format!("has two {what}s, roles {} and {}", a.name, b.name),
            }),
        }
    };
    let producer = one(OpKind::PipeAcquire, "producer")?;
    let consumer = one(OpKind::PipeWait, "consumer")?;
    // Where warpgroups take turns, one of them consumes a stage; else all of the role do.
    let warps = if uses(consumer, OpKind::PipeSkip, &pipe.name) { 4 } else { consumer.warps };
    let loaded = |slot: usize| producer.unit == Unit::Thread || loads(producer, &pipe.name, slot);
    let tx_bytes = pipe.slots.iter().enumerate().filter(|(i, _)| loaded(*i)).map(|(_, s)| s.tile.bytes()).sum();
    let committing = if producer.unit == Unit::Thread { 0 } else { producer.warps };
    Ok(BarrierPlan {
        pipe: pipe.name.clone(),
        full_arrivals: u32::from(tx_bytes > 0) + committing,
        tx_bytes,
        empty_arrivals: warps * writers(k, pipe),
    })
}

/// CTAs whose producers write into one CTA's stages.
pub(super) fn writers(k: &Kernel, pipe: &PipeDecl) -> u32 {
    if pipe.slots.iter().any(|s| s.multicast > 1) { k.cluster_size() } else { 1 }
}

/// Whether asynchronous loads fill a slot.
fn loads(role: &Role, pipe: &str, slot: usize) -> bool {
    let mut found = false;
    role.body.walk(&mut |op| {
        found |= matches!(op.kind, OpKind::TmaLoad | OpKind::BulkLoad)
            && op.attrs.get_sym("pipe") == pipe
            && op.attrs.get_int("slot") == slot as i64;
    });
    found
}

fn uses(role: &Role, kind: OpKind, pipe: &str) -> bool {
    let mut found = false;
    role.body.walk(&mut |op| found |= op.kind == kind && op.attrs.get_sym("pipe") == pipe);
    found
}
