//! Works out what every pipe's barriers count.

use super::PassError;
use crate::tile::{BarrierPlan, Kernel, OpKind, PipeDecl, Role};

/// Fills [`Kernel::barriers`]: arrivals and transaction bytes for the full and empty barrier of each pipe.
///
/// - A stage is full after its one producer's arrival and all bytes of its tiles; with multicast the bytes come from
///   several CTAs, but each CTA still receives every tile whole.
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
    one(OpKind::PipeAcquire, "producer")?;
    let consumer = one(OpKind::PipeWait, "consumer")?;
    // Where warpgroups take turns, one of them consumes a stage; else all of the role do.
    let warps = if uses(consumer, OpKind::PipeSkip, &pipe.name) { 4 } else { consumer.warps };
    Ok(BarrierPlan {
        pipe: pipe.name.clone(),
        full_arrivals: 1,
        tx_bytes: pipe.slots.iter().map(|s| s.tile.bytes()).sum(),
        empty_arrivals: warps * writers(k, pipe),
    })
}

/// CTAs whose producers write into one CTA's stages.
pub(super) fn writers(k: &Kernel, pipe: &PipeDecl) -> u32 {
    if pipe.slots.iter().any(|s| s.multicast > 1) { k.cluster_size() } else { 1 }
}

fn uses(role: &Role, kind: OpKind, pipe: &str) -> bool {
    let mut found = false;
    role.body.walk(&mut |op| found |= op.kind == kind && op.attrs.get_sym("pipe") == pipe);
    found
}
