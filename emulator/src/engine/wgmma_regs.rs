//! Registers under way: what `wgmma` reads and writes until it was waited for, and what ordinary instructions touched
//! since the last `wgmma.fence` (PTX ISA 9.7.15.7.1).

use super::cluster::{At, Cluster};
use super::regs::{FULL, HELD_AS_A, HELD_AS_D, Regs, UNFENCED};
use super::warp::Warp;
use crate::finding::{FindingKind, OtherSide, Severity};
use crate::program::Reg;
use crate::program::sync_op::{Wgmma, WgmmaA};
use crate::program::watch::Watch;
use crate::program::{Inst, R};
use std::collections::VecDeque;

/// A `wgmma` of a warp that nobody has waited for.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    pc: u32,
}

/// The `wgmma`s of a warp that nobody has waited for, by group.
#[derive(Debug, Default)]
pub struct WgmmaGroups {
    open: Vec<InFlight>,
    committed: VecDeque<Vec<InFlight>>,
}

impl WgmmaGroups {
    pub fn commit(&mut self) {
        let group = std::mem::take(&mut self.open);
        self.committed.push_back(group);
    }

    /// All but the latest `pending` groups are done.
    fn wait(&mut self, pending: u32) {
        while self.committed.len() > pending as usize {
            self.committed.pop_front();
        }
    }

    fn all(&self) -> impl Iterator<Item = &InFlight> {
        self.committed.iter().flatten().chain(&self.open)
    }
}

fn a_regs(op: &Wgmma) -> &[R] {
    match &op.a {
        WgmmaA::Registers(regs) => regs,
        WgmmaA::Descriptor(_) => &[],
    }
}

fn d_regs(op: &Wgmma) -> impl Iterator<Item = R> + '_ {
    op.d.iter().map(|slot| R(*slot as u16))
}

impl Regs {
    /// Whether an instruction may touch what it names; if so it is noted.
    #[inline]
    pub fn may_touch(&mut self, watch: &Watch, inst: &Inst) -> bool {
        let touches = watch.touches(inst);
        let clash = touches.iter().any(|touch| {
            let held = self.held[touch.reg as usize];
            held & HELD_AS_D != 0 || (touch.writes && held & HELD_AS_A != 0)
        });
        if !clash {
            touches.iter().for_each(|touch| self.held[touch.reg as usize] |= UNFENCED);
        }
        !clash
    }
}

impl<'a> Cluster<'a> {
    fn wgmma_at(&self, pc: u32) -> Option<&'a Wgmma> {
        match &self.m.kernel.code.get(pc as usize)?.op {
            crate::program::Op::Wgmma(op) => Some(op),
            _ => None,
        }
    }

    /// The unfinished `wgmma` that holds a register.
    fn holder(&self, groups: &WgmmaGroups, reg: R) -> Option<u32> {
        let holds = |flight: &&InFlight| {
            self.wgmma_at(flight.pc).is_some_and(|op| d_regs(op).any(|d| d == reg) || a_regs(op).contains(&reg))
        };
        groups.all().find(holds).map(|flight| flight.pc)
    }

    /// An ordinary instruction touches registers of an unfinished `wgmma`; they are let go, so that it is said once.
    #[cold]
    pub(super) fn touches_held(&mut self, warp: &mut Warp, at: &At, mask: u32) {
        let watch = &self.m.kernel.watch;
        let inst = &self.m.kernel.code[at.pc as usize];
        for touch in watch.touches(inst) {
            let held = &mut warp.regs.held[touch.reg as usize];
            let (as_d, as_a) = (*held & HELD_AS_D != 0, *held & HELD_AS_A != 0);
            *held &= !(HELD_AS_D | HELD_AS_A);
            if !(as_d || as_a && touch.writes) {
                continue;
            }
            let Some(reg) = watch.register(touch.reg) else { continue };
            self.report_held(&warp.wgmma_groups, at, mask, reg, touch.writes, as_d);
        }
    }

    fn report_held(&mut self, groups: &WgmmaGroups, at: &At, mask: u32, reg: R, writes: bool, as_d: bool) {
        let name = self.register_name(Reg::R(reg));
        let pc = self.holder(groups, reg).unwrap_or(at.pc);
        let line = self.line(&At { pc, ..*at });
        let does = if writes { "writes" } else { "reads" };
        let role = if as_d { "an accumulator" } else { "operand a" };
        let other = OtherSide {
            what: format!("wgmma with {name} as {role}"),
            line,
            source: self.m.source(pc),
            thread: Some(self.thread(at, FULL)),
        };
        let help = "wait with wgmma.wait_group for the group of that wgmma first".to_string();
        self.report_full(FindingKind::WgmmaInFlight, Severity::Error, at, mask, None, Some(other), Some(help), || {
            format!("{does} {name}, {role} of the wgmma at line {line}, which nobody has waited for")
        });
    }

    /// A warpgroup issues a `wgmma`: its registers must be fenced, and not be under way as something else.
    pub(super) fn hold_wgmma(&mut self, at: &At, op: &Wgmma) {
        if self.check.is_none() {
            return;
        }
        for index in at.warp..at.warp + 4 {
            let at = At { warp: index, ..*at };
            let mut warp = std::mem::take(&mut self.ctas[at.cta].warps[index]);
            self.hold_wgmma_of(&mut warp, &at, op);
            self.ctas[at.cta].warps[index] = warp;
        }
    }

    fn hold_wgmma_of(&mut self, warp: &mut Warp, at: &At, op: &Wgmma) {
        let watch = &self.m.kernel.watch;
        let mut unfenced = None;
        let same_shape =
            |cluster: &Self, pc: u32| cluster.wgmma_at(pc).is_some_and(|other| other.kind == op.kind && other.d == op.d);
        for (reg, as_d) in d_regs(op).map(|d| (d, true)).chain(a_regs(op).iter().map(|a| (*a, false))) {
            let Some(number) = watch.number(reg) else { continue };
            let held = warp.regs.held[number as usize];
            if held & UNFENCED != 0 {
                unfenced.get_or_insert(reg);
            }
            warp.regs.held[number as usize] &= !UNFENCED;
            let clashes = match as_d {
                true if held & HELD_AS_A != 0 => true,
                // Accumulating further with the same shape is in order by itself.
                true if held & HELD_AS_D != 0 => !warp.wgmma_groups.all().any(|flight| same_shape(self, flight.pc)),
                true => false,
                false => held & HELD_AS_D != 0,
            };
            if clashes {
                self.report_held(&warp.wgmma_groups, at, FULL, reg, as_d, held & HELD_AS_D != 0);
            }
            warp.regs.held[number as usize] |= if as_d { HELD_AS_D } else { HELD_AS_A };
        }
        if let Some(reg) = unfenced {
            let name = self.register_name(Reg::R(reg));
            let help =
                "put wgmma.fence.sync.aligned after the last instruction that touches the registers, before this".to_string();
            self.report_full(FindingKind::WgmmaFence, Severity::Error, at, FULL, None, None, Some(help), || {
                format!("{name} was touched, or never set, since the last wgmma.fence of this warp")
            });
        }
        warp.wgmma_groups.open.push(InFlight { pc: at.pc });
    }

    pub(super) fn fence_wgmma(&mut self, warp: &mut Warp) {
        warp.regs.held.iter_mut().for_each(|held| *held &= !UNFENCED);
    }

    /// All but `pending` groups of the warp are done: their registers are free.
    pub(super) fn release_wgmma(&mut self, warp: &mut Warp, pending: u32) {
        if self.m.kernel.watch.count() == 0 {
            return;
        }
        warp.wgmma_groups.wait(pending);
        warp.regs.held.iter_mut().for_each(|held| *held &= UNFENCED);
        let watch = &self.m.kernel.watch;
        for flight in warp.wgmma_groups.all() {
            let Some(op) = self.wgmma_at(flight.pc) else { continue };
            for (reg, bit) in d_regs(op).map(|d| (d, HELD_AS_D)).chain(a_regs(op).iter().map(|a| (*a, HELD_AS_A))) {
                if let Some(number) = watch.number(reg) {
                    warp.regs.held[number as usize] |= bit;
                }
            }
        }
    }
}
