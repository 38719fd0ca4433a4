//! wgmma.mma_async: four warps meet, then the operation goes to the queue.

use super::cluster::{At, Cluster, Event};
use super::queue::{Action, Issued, WgmmaAction};
use super::regs::FULL;
use super::step::Flow;
use super::warp::{GroupOp, State, Wait, Warp};
use crate::finding::FindingKind;
use crate::memory::space::RESERVED_SHARED;
use crate::program::Op;
use crate::program::sync_op::{Wgmma, WgmmaA};
use crate::tensor::descriptor::{Descriptor, DescriptorError, Major, SharedOperand};
use crate::tensor::wgmma::{Accumulators, Scale, wgmma};

impl<'a> Cluster<'a> {
    /// A warp arrives at a `wgmma`; the last of its warpgroup issues it for all.
    pub(super) fn wgmma(&mut self, warp: &Warp, at: &At, mask: u32) -> Flow {
        self.check_aligned(warp, at, mask, "wgmma");
        let first_warp = at.warp / 4 * 4;
        if first_warp + 4 > self.ctas[at.cta].warps.len() {
            self.report(FindingKind::Unsupported, at, mask, None, || {
                "wgmma needs four consecutive warps, the first a multiple of four".into()
            });
            self.fatal = true;
            return Flow::Ended;
        }
        self.events.push(Event::Wgmma { cta: at.cta, first_warp });
        Flow::Block(Wait::Wgmma)
    }

    /// Where a split of a warp waits at a `wgmma`.
    fn waiting_at(&self, cta: usize, warp: usize) -> Option<usize> {
        let waits = |split: &super::warp::Split| split.state == State::Blocked(Wait::Wgmma);
        self.ctas[cta].warps[warp].splits.iter().position(waits)
    }

    pub(super) fn issue_wgmma(&mut self, cta: usize, first_warp: usize) {
        let mut splits = [0; 4];
        for (index, slot) in splits.iter_mut().enumerate() {
            match self.waiting_at(cta, first_warp + index) {
                Some(split) => *slot = split,
                None => return,
            }
        }
        let pcs: [u32; 4] = std::array::from_fn(|i| self.ctas[cta].warps[first_warp + i].splits[splits[i]].pc);
        let at = At { cta, warp: first_warp, pc: pcs[0] };
        if pcs.iter().any(|pc| *pc != pcs[0]) {
            let lines = pcs.map(|pc| self.line(&At { cta, warp: first_warp, pc }));
            self.report(FindingKind::Divergence, &at, FULL, None, || {
                format!("the four warps of a warpgroup execute different wgmma instructions, at lines {lines:?}")
            });
            self.fatal = true;
            return;
        }
        let Op::Wgmma(op) = &self.m.kernel.code[pcs[0] as usize].op else { return };
        if let Some(action) = self.wgmma_action(op, &at, first_warp) {
            self.hold_wgmma(&at, op);
            let mut due = self.ctas[cta].warps[first_warp].last_due;
            let Issued { id, token } = self.issue(at, Action::Wgmma(Box::new(action)), &mut due);
            let tracks = self.tracks_groups();
            for warp in &mut self.ctas[cta].warps[first_warp..first_warp + 4] {
                warp.last_due = due;
                if tracks {
                    warp.wgmma.open.push(GroupOp { id, lanes: FULL, pc: at.pc, token, told: false });
                }
            }
        }
        for (index, split) in splits.into_iter().enumerate() {
            let split = &mut self.ctas[cta].warps[first_warp + index].splits[split];
            split.state = State::Ready;
            split.pc += 1;
            self.requeue(cta, first_warp + index);
        }
    }

    /// Reads the operands that must agree between the warps.
    fn wgmma_action(&mut self, op: &'a Wgmma, at: &At, first_warp: usize) -> Option<WgmmaAction<'a>> {
        let warps = &self.ctas[at.cta].warps[first_warp..first_warp + 4];
        let mut sources = vec![(op.b, "b")];
        if let WgmmaA::Descriptor(a) = &op.a {
            sources.push((*a, "a"));
        }
        let mut problem = None;
        for (reg, name) in &sources {
            let value = warps[0].regs.q(*reg)[0];
            for (index, warp) in warps.iter().enumerate() {
                if warp.regs.qdef(*reg) != FULL {
                    problem = Some((index, FindingKind::Uninit, format!("descriptor {name} is undefined")));
                } else if warp.regs.q(*reg).iter().any(|other| *other != value) {
                    let text = format!("descriptor {name} is not the same in all threads of the warpgroup");
                    problem = Some((index, FindingKind::Descriptor, text));
                }
            }
        }
        let scale_d = warps[0].regs.pred(op.scale_d);
        for (index, warp) in warps.iter().enumerate() {
            if warp.regs.pdef(op.scale_d.0) != FULL {
                problem = Some((index, FindingKind::Uninit, "predicate scale-d is undefined".into()));
            } else if warp.regs.pred(op.scale_d) != scale_d || (scale_d != 0 && scale_d != FULL) {
                problem = Some((index, FindingKind::Divergence, "scale-d differs between threads of the warpgroup".into()));
            }
        }
        let (b, a) = (
            warps[0].regs.q(op.b)[0],
            match &op.a {
                WgmmaA::Descriptor(a) => Some(warps[0].regs.q(*a)[0]),
                WgmmaA::Registers(_) => None,
            },
        );
        let scale_d = scale_d != 0;
        if let Some((index, kind, text)) = problem {
            let at = At { warp: first_warp + index, ..*at };
            self.report(kind, &at, FULL, None, || text);
            return None;
        }
        Some(WgmmaAction { op, first_warp, a, b, scale_d })
    }

    fn operand(&mut self, at: &At, name: &str, descriptor: u64, trans: bool, mn: u32, bits: u32) -> Option<SharedOperand> {
        let major = if trans { Major::Mn } else { Major::K };
        let made: Result<SharedOperand, DescriptorError> =
            Descriptor::decode(descriptor).and_then(|d| SharedOperand::new(d, major, mn, bits / 8));
        match made {
            Ok(operand) => Some(operand),
            Err(error) => {
                self.report(FindingKind::Descriptor, at, FULL, None, || format!("operand {name}: {error}"));
                None
            }
        }
    }

    /// Reads an operand into a panel; bytes that do not exist or were never written are findings.
    fn load_panel(&mut self, at: &At, which: usize, ty: crate::tensor::element::ElementType, operand: &SharedOperand) -> bool {
        if self.check.is_some() {
            // A warp reads its own 16 rows of a, and all of b.
            let view = |row: u32| if which == 0 { 1 + row as usize / 16 } else { 0 };
            let inside = |address: u32| address >= RESERVED_SHARED && address < self.m.shared_window;
            let chunks = operand.chunks_by_row().filter(|(address, _)| inside(*address));
            let chunks: Vec<(u32, usize)> = chunks.map(|(address, row)| (address, view(row))).collect();
            self.observe_operand(at, &chunks);
        }
        let mut panel = std::mem::take(&mut self.panels[which]);
        let shared = &self.ctas[at.cta].shared;
        let (mut outside, mut unwritten, mut bytes) = (None, None, 0u64);
        panel.load_shared(ty, operand, |address| {
            bytes += 16;
            if address < RESERVED_SHARED || !shared.contains(address, 16) {
                outside.get_or_insert(address);
                return [crate::memory::POISON; 16];
            }
            if !shared.is_init(address, 16) {
                unwritten.get_or_insert(address);
            }
            shared.chunk(address)
        });
        self.panels[which] = panel;
        self.probe.counters.wgmma_shared_bytes += bytes;
        let name = if which == 0 { "a" } else { "b" };
        if let Some(address) = outside {
            let size = self.m.shared_window - RESERVED_SHARED;
            self.report(FindingKind::Oob, at, FULL, Some(address.into()), || {
                let offset = i64::from(address) - i64::from(RESERVED_SHARED);
                format!("operand {name} of wgmma reads offset {offset} of the block's {size} bytes of shared memory")
            });
        }
        if let Some(address) = unwritten {
            self.report(FindingKind::Uninit, at, FULL, Some(address.into()), || {
                let offset = address - RESERVED_SHARED;
                format!("operand {name} of wgmma reads offset {offset} of shared memory, which nobody wrote")
            });
        }
        outside.is_none()
    }

    pub(super) fn perform_wgmma(&mut self, at: At, action: &WgmmaAction<'a>) {
        let op = action.op;
        let kind = &op.kind;
        let Some(b) = self.operand(&at, "b", action.b, op.trans_b, kind.n, kind.b.bits()) else { return };
        self.load_panel(&at, 1, kind.b, &b);
        if let Some(descriptor) = action.a {
            let Some(a) = self.operand(&at, "a", descriptor, op.trans_a, 64, kind.a.bits()) else { return };
            self.load_panel(&at, 0, kind.a, &a);
        }
        self.check_wgmma_registers(&at, action);
        let Cluster { ctas, panels, .. } = self;
        let [panel_a, panel_b] = panels;
        let [w0, w1, w2, w3] = &mut ctas[at.cta].warps[action.first_warp..action.first_warp + 4] else { return };
        if let WgmmaA::Registers(regs) = &op.a {
            let slots: Vec<u32> = regs.iter().map(|r| u32::from(r.0)).collect();
            panel_a.load_registers(kind.a, [&w0.regs.r, &w1.regs.r, &w2.regs.r, &w3.regs.r], &slots);
        }
        let scale = Scale { d: action.scale_d, negate_a: op.negate_a, negate_b: op.negate_b };
        let files = [&mut w0.regs.r[..], &mut w1.regs.r[..], &mut w2.regs.r[..], &mut w3.regs.r[..]];
        let result = wgmma(kind, self.m.arithmetic, panel_a, panel_b, scale, Accumulators { files, slots: &op.d });
        for warp in [w0, w1, w2, w3] {
            for &slot in &op.d {
                warp.regs.rd[slot as usize] = FULL;
            }
        }
        if let Err(error) = result {
            self.report(FindingKind::Unsupported, &at, FULL, None, || error.to_string());
            self.fatal = true;
        }
        self.probe.counters.tensor_flops += 2 * 64 * u64::from(kind.n) * u64::from(kind.k());
    }

    fn check_wgmma_registers(&mut self, at: &At, action: &WgmmaAction<'a>) {
        let op = action.op;
        for index in action.first_warp..action.first_warp + 4 {
            let regs = &self.ctas[at.cta].warps[index].regs;
            let d = if action.scale_d { op.d.iter().fold(FULL, |all, &slot| all & regs.rd[slot as usize]) } else { FULL };
            let a = match &op.a {
                WgmmaA::Registers(list) => list.iter().fold(FULL, |all, r| all & regs.rdef(*r)),
                WgmmaA::Descriptor(_) => FULL,
            };
            let at = At { warp: index, ..*at };
            if d != FULL {
                self.report(FindingKind::Uninit, &at, !d, None, || {
                    "an accumulator of wgmma is undefined, and scale-d is not 0".into()
                });
            }
            if a != FULL {
                self.report(FindingKind::Uninit, &at, !a, None, || "operand a of wgmma is undefined".into());
            }
        }
    }
}
