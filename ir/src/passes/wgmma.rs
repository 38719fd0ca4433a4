//! Rules for accumulators in flight, checked on Lane IR. ptxas repairs what breaks them by waiting (C7514 to C7520),
//! which costs more than the whole pipeline gains; so it is an error here, with the template's line.
//!
//! - W1: a value a wgmma produced is used by nothing but wgmmas and waits until a wait hands it through.
//! - W2: the first wgmma of a group follows a `wgmma.fence` in its block.
//! - W3: a loop does not rotate accumulators: a value in flight goes around in the parameter its chain started from.
//! - W4: a wait that leaves `n` groups pending hands through only accumulators of older groups.

use super::PassError;
use crate::lane::{Func, Inst, Op, Value};
use crate::loc::Loc;
use rustc_hash::FxHashMap;

/// Checks W1 to W4.
pub fn check_wgmma(f: &Func) -> Result<(), PassError> {
    let fail = |loc: Loc, what: String| Err(PassError::Wgmma { at: f.sources.display(loc), what });
    let flying = in_flight(f);
    let mut last_loc = Loc::default();
    let origins = origins(f);
    // W4 counts groups in the order of the text: a template writes a group and its wait in one loop body.
    let mut groups = 0;
    let mut group_of: FxHashMap<Value, i64> = FxHashMap::default();
    for (at, block) in f.blocks.iter().enumerate() {
        let mut fenced = false;
        for inst in &block.insts {
            last_loc = inst.loc;
            match inst.op {
                Op::WgmmaFence => fenced = true,
                Op::WgmmaCommit => {
                    fenced = false;
                    groups += 1;
                }
                Op::WgmmaSs | Op::WgmmaRs if !fenced => {
                    return fail(inst.loc, "W2: a wgmma group starts without a fence in its block".into());
                }
                _ => {}
            }
            match inst.op {
                Op::WgmmaSs | Op::WgmmaRs => group_of.extend(inst.outs.iter().map(|v| (*v, groups))),
                Op::WgmmaWait
                    if inst.args.first().and_then(|v| group_of.get(v)).is_some_and(|g| g + inst.attrs.get_int("n") >= groups) =>
                {
                    return fail(
                        inst.loc,
                        "W4: the wait may leave the accumulator's own group pending: allow fewer groups".into(),
                    );
                }
                _ => {}
            }
            let free = match inst.op {
                Op::WgmmaSs | Op::WgmmaRs => &inst.args[..first_accumulator(inst.op)],
                Op::WgmmaWait => &[],
                _ => &inst.args[..],
            };
            if let Some(v) = free.iter().find(|v| flying[v.0 as usize]) {
                return fail(
                    inst.loc,
                    format!("W1: {} reads %{}, an accumulator in flight: wait for all groups first", inst.op.row().name, v.0),
                );
            }
        }
        for (to, args) in block.term.targets().into_iter().filter(|(to, _)| to.0 as usize <= at) {
            let params = &f.blocks[to.0 as usize].params;
            let rotated = |(p, a): &(&Value, &Value)| flying[a.0 as usize] && origins[a.0 as usize] != Some(**p);
            if let Some((_, a)) = params.iter().zip(args).find(rotated) {
                return fail(
                    last_loc,
                    format!("W3: the loop rotates %{}, an accumulator in flight: unroll and peel instead", a.0),
                );
            }
        }
    }
    Ok(())
}

/// Operands before the accumulators.
fn first_accumulator(op: Op) -> usize {
    if op == Op::WgmmaSs { 3 } else { 6 }
}

/// Values that may belong to a group not yet waited for: results of wgmma, and block parameters that receive them.
fn in_flight(f: &Func) -> Vec<bool> {
    let mut flying = vec![false; f.types.len()];
    let mark = |v: &Value, flying: &mut Vec<bool>| !std::mem::replace(&mut flying[v.0 as usize], true);
    let produced = |i: &&Inst| matches!(i.op, Op::WgmmaSs | Op::WgmmaRs);
    f.blocks.iter().flat_map(|b| &b.insts).filter(produced).flat_map(|i| &i.outs).for_each(|v| {
        mark(v, &mut flying);
    });
    loop {
        let mut changed = false;
        for block in &f.blocks {
            for (to, args) in block.term.targets() {
                for (p, a) in f.blocks[to.0 as usize].params.iter().zip(args) {
                    if flying[a.0 as usize] {
                        changed |= mark(p, &mut flying);
                    }
                }
            }
        }
        if !changed {
            return flying;
        }
    }
}

/// The block parameter that each accumulator's chain of wgmmas started from, where there is one.
fn origins(f: &Func) -> Vec<Option<Value>> {
    let mut origins: Vec<Option<Value>> = vec![None; f.types.len()];
    for block in &f.blocks {
        for p in &block.params {
            origins[p.0 as usize] = Some(*p);
        }
        for inst in &block.insts {
            let before = match inst.op {
                Op::WgmmaSs | Op::WgmmaRs => &inst.args[first_accumulator(inst.op)..],
                Op::WgmmaWait => &inst.args[..],
                _ => continue,
            };
            for (o, a) in inst.outs.iter().zip(before) {
                origins[o.0 as usize] = origins[a.0 as usize];
            }
        }
    }
    origins
}
