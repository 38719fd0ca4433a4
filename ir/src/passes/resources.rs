//! Registers and shared memory, estimated before LLVM runs: what surely cannot fit is refused at once.

use crate::tile::{Kernel, OpKind, Region, Role, Ty, Value};
use rustc_hash::FxHashMap;

/// Registers besides tiles: addresses, loop counters, pipe cursors, descriptors. Measured on the GEMM kernels: ptxas
/// needs 24 to 40 of them besides the accumulators.
const BOOKKEEPING: u32 = 24;
/// Registers of an SM are handed out to warps in units of 8 per thread.
const GRANULE: u32 = 8;

/// Too few registers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// A role's tiles do not fit its registers.
    #[error(
        "role {role} holds {tiles} registers of tiles a thread and needs about {need}, but has {have}: smaller tiles or more warpgroups"
    )]
    Role {
        /// The role.
        role: String,
        /// Registers of its cells.
        tiles: u32,
        /// With bookkeeping.
        need: u32,
        /// What it may use.
        have: u32,
    },
    /// `setmaxnreg` asks for more than the SM has.
    #[error("roles set {asked} registers in all, the CTA was launched with {have}: setmaxnreg.inc would wait forever")]
    Pool {
        /// Sum over roles of registers times threads.
        asked: u32,
        /// Registers at launch.
        have: u32,
    },
}

/// What a kernel will need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Shared memory, bytes.
    pub smem_bytes: u32,
    /// Registers a thread at launch: what `.reqntid` and `.minnctapersm` leave.
    pub launch_registers: u32,
    /// Registers of tiles a thread, by role.
    pub tile_registers: Vec<(String, u32)>,
}

/// Estimates registers and checks the `setmaxnreg` pool.
pub fn estimate_resources(k: &Kernel) -> Result<Estimate, ResourceError> {
    let file = k.arch.caps().registers_per_sm;
    let threads = k.threads();
    let launch = (file / (threads * k.min_ctas) / GRANULE * GRANULE).min(255);
    let mut tile_registers = Vec::new();
    for role in &k.roles {
        let tiles = cells(k, role);
        let have = role.regs.unwrap_or(launch);
        let need = tiles + BOOKKEEPING;
        if need > have {
            return Err(ResourceError::Role { role: role.name.clone(), tiles, need, have });
        }
        tile_registers.push((role.name.clone(), tiles));
    }
    if k.roles.iter().any(|r| r.regs.is_some()) {
        let asked = k.roles.iter().map(|r| r.regs.unwrap_or(launch) * r.warps * 32).sum();
        let have = launch * threads;
        if asked > have {
            return Err(ResourceError::Pool { asked, have });
        }
    }
    Ok(Estimate { smem_bytes: k.smem_bytes(), launch_registers: launch, tile_registers })
}

/// Most registers a thread holds in cells at once. A cell lives from its first mention to its last; one that a loop uses
/// and did not make lives through the whole loop.
fn cells(k: &Kernel, role: &Role) -> u32 {
    let mut lives = Lives::default();
    lives.region(k, &role.body);
    let mut events: Vec<(u32, i64)> = Vec::new();
    for l in lives.cells.values() {
        events.extend([(l.from, i64::from(l.registers)), (l.to + 1, -i64::from(l.registers))]);
    }
    events.sort_unstable();
    let (mut now, mut peak) = (0, 0);
    for (_, change) in events {
        now += change;
        peak = peak.max(now);
    }
    peak as u32
}

/// Where each cell is used, in the order of the text.
#[derive(Default)]
struct Lives {
    at: u32,
    cells: FxHashMap<Value, Life>,
}

struct Life {
    from: u32,
    to: u32,
    registers: u32,
}

impl Lives {
    fn region(&mut self, k: &Kernel, r: &Region) {
        for op in &r.ops {
            self.at += 1;
            if let (OpKind::CellNew, Ty::Cell(inner)) = (op.kind, op.outs.first().map_or(&Ty::I32, |v| k.ty(*v)))
                && let Ty::Reg(t) = &**inner
            {
                let bits = t.layout.in_size(crate::layout::Dim::Reg) * t.dtype.bytes();
                self.cells.insert(op.outs[0], Life { from: self.at, to: self.at, registers: bits / 4 });
            }
            for v in &op.args {
                if let Some(l) = self.cells.get_mut(v) {
                    l.to = self.at;
                }
            }
            let start = self.at;
            op.regions.iter().for_each(|r| self.region(k, r));
            if op.kind == OpKind::For {
                let end = self.at;
                self.cells.values_mut().filter(|l| l.from <= start && l.to > start).for_each(|l| l.to = end);
            }
        }
    }
}
