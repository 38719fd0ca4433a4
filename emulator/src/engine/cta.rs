//! A block: its shared memory, barriers and warps.

use super::machine::Machine;
use super::mbarrier::MBarrier;
use super::regs::{FULL, UNFENCED};
use super::warp::{NO_FRAME, NO_JOIN, Split, Warp};
use crate::memory::shared::Bytes;
use crate::memory::space::{CTA_SHIFT, RESERVED_SHARED, SHARED_WINDOW};
use crate::program::{Const, Special};
use rustc_hash::FxHashMap;

/// A named barrier in use.
#[derive(Clone, Copy, Debug, Default)]
pub struct NamedBarrier {
    /// Threads each phase expects; `None` stands for the whole block.
    pub count: Option<u32>,
    pub arrived: u32,
    /// Warps that have arrived in this phase.
    pub warps: u64,
    pub popc: u32,
    pub all: bool,
    pub any: bool,
}

#[derive(Debug)]
pub struct Cta {
    pub id: [u32; 3],
    pub shared: Bytes,
    pub mbarriers: FxHashMap<u32, MBarrier>,
    pub bars: [NamedBarrier; 16],
    pub warps: Vec<Warp>,
    pub live_warps: u32,
    /// Registers nobody holds, in units of one register of one warp's threads.
    pub free_registers: u32,
}

impl Cta {
    pub fn new(machine: &Machine, id: [u32; 3], rank: u32, cluster: [u32; 3], rank_coords: [u32; 3]) -> Self {
        let threads = machine.threads();
        let warps = (0..machine.warps())
            .map(|index| {
                let lanes = (threads - 32 * index).min(32);
                let live = if lanes == 32 { FULL } else { (1 << lanes) - 1 };
                let mut warp = Warp {
                    live,
                    splits: vec![Split::ready(0, live, NO_JOIN, NO_FRAME)],
                    local: Bytes::new(32 * machine.kernel.local_bytes.next_multiple_of(16)),
                    registers: machine.launch_registers.unwrap_or(0),
                    ..Warp::default()
                };
                let kernel = machine.kernel;
                warp.regs.reset(kernel.rows32, kernel.rows64, kernel.preds);
                warp.regs.held = vec![UNFENCED; kernel.watch.count()];
                let place = Place { id, rank, cluster, rank_coords, warp: index };
                for &(row, value) in &kernel.consts32 {
                    let at = row.0 as usize;
                    warp.regs.r[at] = std::array::from_fn(|lane| value_of(machine, &place, lane as u32, value) as u32);
                    warp.regs.rd[at] = FULL;
                }
                for &(row, value) in &kernel.consts64 {
                    let at = row.0 as usize;
                    warp.regs.q[at] = std::array::from_fn(|lane| value_of(machine, &place, lane as u32, value));
                    warp.regs.qd[at] = FULL;
                }
                warp
            })
            .collect();
        Cta {
            id,
            shared: Bytes::new(machine.shared_window),
            mbarriers: FxHashMap::default(),
            bars: [NamedBarrier::default(); 16],
            warps,
            live_warps: machine.warps(),
            free_registers: 0,
        }
    }

    /// The live mbarrier that these bytes overlap.
    pub fn mbarrier_at(&self, offset: u32, bytes: u32) -> Option<u32> {
        if self.mbarriers.is_empty() {
            return None;
        }
        let first = offset & !7;
        (first..offset + bytes).step_by(8).find(|at| self.mbarriers.contains_key(at))
    }
}

struct Place {
    id: [u32; 3],
    rank: u32,
    cluster: [u32; 3],
    rank_coords: [u32; 3],
    warp: u32,
}

fn value_of(machine: &Machine, place: &Place, lane: u32, value: Const) -> u64 {
    match value {
        Const::Bits(bits) => bits,
        // A call sets it.
        Const::Frame { .. } => 0,
        Const::Shared { offset, generic } => {
            let address = (place.rank << CTA_SHIFT) + RESERVED_SHARED + offset;
            u64::from(address) + if generic { SHARED_WINDOW } else { 0 }
        }
        Const::Global { index, offset } => {
            let base = machine.variables.get(index as usize).copied().unwrap_or(0);
            base.wrapping_add(offset as u64)
        }
        Const::Special(special) => special_value(machine, place, lane, special),
    }
}

fn special_value(machine: &Machine, place: &Place, lane: u32, special: Special) -> u64 {
    let axis = |values: [u32; 3], axis: u8| values.get(axis as usize).copied().unwrap_or(0);
    // The fourth component of a size is 1, of an index 0.
    let size = |values: [u32; 3], axis: u8| values.get(axis as usize).copied().unwrap_or(1);
    let thread = place.warp * 32 + lane;
    let linear = place.id[0] + machine.grid[0] * (place.id[1] + machine.grid[1] * place.id[2]);
    u64::from(match special {
        Special::Tid(a) => axis(machine.tid(thread), a),
        Special::NTid(a) => size(machine.block, a),
        Special::CtaId(a) => axis(place.id, a),
        Special::NCtaId(a) => size(machine.grid, a),
        Special::LaneId => lane,
        Special::WarpId => place.warp,
        Special::NWarpId => machine.warps(),
        Special::SmId => linear % machine.sm_count,
        Special::NSmId => machine.sm_count,
        Special::GridId => 1,
        Special::ClusterId(a) => axis(place.cluster, a),
        Special::NClusterId(a) => size(machine.clusters(), a),
        Special::ClusterCtaId(a) => axis(place.rank_coords, a),
        Special::ClusterNCtaId(a) => size(machine.cluster, a),
        Special::ClusterCtaRank => place.rank,
        Special::ClusterNCtaRank => machine.cluster_size(),
        Special::IsExplicitCluster => u32::from(machine.explicit_cluster),
        Special::LaneMaskEq => 1 << lane,
        Special::LaneMaskLt => (1 << lane) - 1,
        Special::LaneMaskLe => ((1 << lane) - 1) | (1 << lane),
        Special::LaneMaskGt => !(((1 << lane) - 1) | (1 << lane)),
        Special::LaneMaskGe => !((1 << lane) - 1),
        Special::TotalSmemSize => machine.shared_window - RESERVED_SHARED,
        Special::DynamicSmemSize => machine.dynamic_shared,
        Special::ReservedSmemBegin | Special::CurrentGraphExec => 0,
        Special::ReservedSmemEnd => RESERVED_SHARED,
    })
}
