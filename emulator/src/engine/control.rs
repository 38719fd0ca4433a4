//! Branches, exits, traps.

use super::cluster::{At, Cluster};
use super::step::Flow;
use super::warp::Warp;
use crate::finding::FindingKind;
use crate::program::R;

impl Cluster<'_> {
    /// A branch that is known to go both ways or to be taken by all.
    pub(super) fn branch(&mut self, warp: &mut Warp, index: usize, at: &At, taken: u32, target: u32) -> Flow {
        let mask = warp.splits[index].mask;
        if taken == mask {
            return Flow::Jump(target);
        }
        let meet = self.m.kernel.join.at[at.pc as usize];
        // The path that falls through goes first, as it would in program order.
        warp.diverge(index, &[(at.pc + 1, mask & !taken), (target, taken)], meet);
        Flow::Ended
    }

    pub(super) fn branch_table(
        &mut self,
        warp: &mut Warp,
        index: usize,
        at: &At,
        lanes: u32,
        selector: R,
        targets: &[u32],
    ) -> Flow {
        let mask = warp.splits[index].mask;
        let undefined = lanes & !warp.regs.rdef(selector);
        if undefined != 0 {
            self.report(FindingKind::Uninit, at, undefined, None, || "branch index was never set".into());
        }
        let mut parts: Vec<(u32, u32)> = Vec::new();
        let mut add = |pc: u32, bits: u32| match parts.iter_mut().find(|(to, _)| *to == pc) {
            Some((_, mask)) => *mask |= bits,
            None => parts.push((pc, bits)),
        };
        if mask & !lanes != 0 {
            add(at.pc + 1, mask & !lanes);
        }
        let mut outside = 0;
        for lane in (0..32).filter(|lane| (lanes >> lane) & 1 == 1) {
            match targets.get(warp.regs.r(selector)[lane] as usize) {
                Some(&target) => add(target, 1 << lane),
                None => {
                    outside |= 1 << lane;
                    add(at.pc + 1, 1 << lane);
                }
            }
        }
        if outside != 0 {
            let count = targets.len();
            self.report(FindingKind::Oob, at, outside, None, || format!("branch index is not below {count}"));
        }
        if let [(target, _)] = parts[..] {
            return Flow::Jump(target);
        }
        warp.diverge(index, &parts, self.m.kernel.join.at[at.pc as usize]);
        Flow::Ended
    }

    pub(super) fn exit(&mut self, warp: &mut Warp, index: usize, at: &At, lanes: u32) -> Flow {
        let remaining = warp.splits[index].mask & !lanes;
        if remaining != 0 {
            warp.splits[index].pc = at.pc + 1;
        }
        warp.exit(index, lanes);
        self.lanes_exited(warp, at, lanes);
        self.progress();
        Flow::Ended
    }

    pub(super) fn trap(&mut self, at: &At, lanes: u32) -> Flow {
        self.report(FindingKind::Exit, at, lanes, None, || "the kernel trapped".into());
        self.fatal = true;
        Flow::Ended
    }
}
