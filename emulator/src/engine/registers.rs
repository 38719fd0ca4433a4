//! The register pool of a block that `setmaxnreg` moves registers in and out of (PTX ISA 9.7.19.5).

use super::cluster::{At, Cluster, Event};
use super::step::Flow;
use super::warp::{Wait, Warp};
use crate::finding::FindingKind;

impl Cluster<'_> {
    pub(super) fn set_max_registers(&mut self, warp: &mut Warp, at: &At, mask: u32, increase: bool, wanted: u32) -> Flow {
        self.check_aligned(warp, at, mask, "setmaxnreg");
        if !(24..=256).contains(&wanted) || !wanted.is_multiple_of(8) {
            self.report(FindingKind::Register, at, mask, None, || {
                format!("setmaxnreg {wanted} is not a multiple of 8 from 24 to 256")
            });
            return Flow::Next;
        }
        if self.m.launch_registers.is_none() {
            self.report(FindingKind::Register, at, mask, None, || {
                "setmaxnreg needs a kernel with .maxnreg, or with .maxntid or .reqntid, or it has no effect".into()
            });
            return Flow::Next;
        }
        let held = warp.registers;
        if (increase && wanted < held) || (!increase && wanted > held) {
            let verb = if increase { "inc" } else { "dec" };
            self.report(FindingKind::Register, at, mask, None, || {
                format!("setmaxnreg.{verb} to {wanted}, but the warp has {held} registers a thread")
            });
            return Flow::Next;
        }
        let pool = &mut self.ctas[at.cta].free_registers;
        if increase {
            if *pool < wanted - held {
                return Flow::Block(Wait::Registers { registers: wanted - held });
            }
            *pool -= wanted - held;
        } else {
            *pool += held - wanted;
            self.events.push(Event::Registers { cta: at.cta });
        }
        warp.registers = wanted;
        self.progress();
        Flow::Next
    }
}
