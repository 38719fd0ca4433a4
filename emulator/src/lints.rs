//! What is not wrong, but slow or unwise.

use crate::engine::probe::Cost;
use crate::finding::{Finding, FindingKind, Severity};
use crate::program::{Kernel, Op};

/// Requests of an instruction below which its cost says nothing.
const FEW: u64 = 16;
/// Passes through shared memory, and sectors of global memory, over what the bytes need, from which on it is said.
const MANY: [u64; 2] = [4, 8];

/// Instructions whose memory accesses cost several times what their bytes need.
pub fn costly<'k>(kernel: &'k Kernel, costs: &'k [[Cost; 2]], seed: u64) -> impl Iterator<Item = Finding> + 'k {
    costs.iter().enumerate().flat_map(move |(pc, cost)| {
        (0..2).filter_map(move |which| {
            let Cost { requests, needed, ideal } = cost[which];
            if requests < FEW || ideal == 0 || needed < MANY[which] * ideal {
                return None;
            }
            let (per, least) = (needed as f64 / requests as f64, ideal as f64 / requests as f64);
            let (kind, message, help) = if which == 0 {
                let message = format!("takes {per:.1} passes through shared memory a time, {least:.1} without bank conflicts");
                (FindingKind::BankConflict, message, "swizzle or pad the layout so that lanes reach different banks")
            } else {
                let message = format!("touches {per:.1} sectors of 32 bytes a time, its bytes would fit in {least:.1}");
                (FindingKind::Uncoalesced, message, "let neighbouring lanes access neighbouring bytes")
            };
            Some(lint(kernel, pc, kind, message, help, requests, seed))
        })
    })
}

/// `try_wait` that no loop repeats: it may return false before the phase is complete.
pub fn unlooped(kernel: &Kernel, ran: impl Fn(usize) -> bool, seed: u64) -> Vec<Finding> {
    let is_wait = |pc: &usize| match &kernel.code[*pc].op {
        Op::MBarrier(op) => matches!(op.kind, crate::program::sync_op::MBarrierKind::Wait { may_block: true, .. }),
        _ => false,
    };
    let waits: Vec<usize> = (0..kernel.code.len()).filter(is_wait).filter(|pc| ran(*pc)).collect();
    // Where a loop waits as well, the single test is a peek ahead of it.
    if waits.iter().any(|pc| crate::program::cfg::in_loop(&kernel.code, *pc)) {
        return Vec::new();
    }
    let message = "this wait may return false before the phase is complete, and nothing repeats it";
    let help = "branch back to the wait until it returns true";
    let lint = |pc| lint(kernel, pc, FindingKind::UnloopedWait, message.into(), help, 1, seed);
    waits.into_iter().map(lint).collect()
}

fn lint(kernel: &Kernel, pc: usize, kind: FindingKind, message: String, help: &str, count: u64, seed: u64) -> Finding {
    Finding {
        kind,
        severity: Severity::Lint,
        line: kernel.code.get(pc).map_or(0, |inst| inst.line),
        source: None,
        thread: None,
        address: None,
        message,
        other: None,
        help: Some(help.into()),
        seed,
        count,
    }
}
