//! Inserts `fence.async` between generic writes to shared memory and asynchronous reads of it.

use crate::attr::Attrs;
use crate::tile::{Kernel, Op, OpKind};

/// Puts a `fence.async` before the first synchronisation after generic writes to shared memory (PTX ISA 8.8, async
/// proxy): each writer fences its own writes, then the barrier orders them before the thread that starts the
/// asynchronous read. Only kernels that read shared memory asynchronously at all need it.
pub fn insert_proxy_fences(k: &mut Kernel) {
    let mut asynchronous = false;
    for r in &k.roles {
        r.body.walk(&mut |op| asynchronous |= matches!(op.kind, OpKind::TmaStore | OpKind::MmaAsync));
    }
    if !asynchronous {
        return;
    }
    for r in &mut k.roles {
        r.body.rewrite(&mut fence_list);
    }
}

fn fence_list(ops: &mut Vec<Op>) {
    let mut dirty = false;
    let mut i = 0;
    while i < ops.len() {
        match ops[i].kind {
            OpKind::StMatrix | OpKind::StoreShared | OpKind::ZeroRows | OpKind::CopyAsync | OpKind::CopyRows => dirty = true,
            OpKind::FenceAsync => dirty = false,
            OpKind::UnitSync | OpKind::BarSync if dirty => {
                let loc = ops[i].loc;
                let fence =
                    Op { kind: OpKind::FenceAsync, args: vec![], outs: vec![], attrs: Attrs::none(), regions: vec![], loc };
                ops.insert(i, fence);
                dirty = false;
                i += 1;
            }
            _ => {}
        }
        i += 1;
    }
}
