//! Counters of memory accesses.

use super::cluster::At;
use crate::counters::Counters;
use crate::parse::ast::Space;
use crate::program::memory_op::{Order, Scope};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    Atomic,
}

/// Memory as the checker tells it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    Global,
    /// Of the block with this rank; lanes of one instruction may differ.
    Shared,
    Local,
}

impl Memory {
    /// What a state space is; of generic addresses each has to be asked.
    pub fn of(space: Space) -> Memory {
        match space {
            Space::Shared | Space::SharedCluster => Memory::Shared,
            Space::Global | Space::Const => Memory::Global,
            _ => Memory::Local,
        }
    }
}

/// One access instruction of a warp.
#[derive(Clone, Copy, Debug)]
pub struct WarpAccess<'a> {
    pub at: At,
    pub lanes: u32,
    pub memory: Memory,
    pub access: Access,
    pub order: Order,
    pub scope: Scope,
    pub addresses: &'a [u64; 32],
    /// Bytes of each lane.
    pub bytes: u32,
    /// Meeting of the warp's lanes before it, if they act each for themselves.
    pub meeting: Option<u32>,
}

/// Consecutive bytes that a bulk or tensor copy touches, through the async proxy (PTX ISA 8.6).
#[derive(Clone, Copy, Debug)]
pub struct RangeAccess {
    pub at: At,
    pub memory: Memory,
    pub access: Access,
    pub address: u64,
    pub bytes: u32,
}

/// What an instruction's requests cost, in passes through shared memory or sectors of global memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub requests: u64,
    pub needed: u64,
    pub ideal: u64,
}

#[derive(Debug, Default)]
pub struct Probe {
    pub counters: Counters,
    /// By instruction, for shared and for global memory.
    pub costs: Vec<[Cost; 2]>,
    /// Instructions at which somebody waited for an mbarrier.
    pub waits: Vec<bool>,
}

impl std::ops::AddAssign for Probe {
    fn add_assign(&mut self, other: Self) {
        let Probe { counters, costs, waits } = other;
        self.counters += counters;
        self.costs.resize(self.costs.len().max(costs.len()), Default::default());
        for (mine, theirs) in self.costs.iter_mut().flatten().zip(costs.into_iter().flatten()) {
            mine.requests += theirs.requests;
            mine.needed += theirs.needed;
            mine.ideal += theirs.ideal;
        }
        self.waits.resize(self.waits.len().max(waits.len()), false);
        self.waits.iter_mut().zip(waits).for_each(|(mine, theirs)| *mine |= theirs);
    }
}

impl Probe {
    #[inline]
    pub fn warp_access(&mut self, access: &WarpAccess) {
        let total = u64::from(access.bytes) * u64::from(access.lanes.count_ones());
        let writes = access.access != Access::Read;
        match access.memory {
            Memory::Global => {
                let needed = sectors(access);
                self.counters.global_sectors += needed;
                self.add_cost(access, 1, needed, total.div_ceil(SECTOR));
                if writes {
                    self.counters.global_bytes_written += total;
                    self.counters.l2_bytes_written += SECTOR * needed;
                } else {
                    self.counters.global_bytes_read += total;
                    self.counters.l2_bytes_read += SECTOR * needed;
                }
            }
            Memory::Shared => {
                let (needed, ideal) = wavefronts(access.addresses, access.lanes, access.bytes);
                self.counters.shared_wavefronts += needed;
                self.counters.shared_wavefronts_ideal += ideal;
                self.add_cost(access, 0, needed, ideal);
                if writes {
                    self.counters.shared_bytes_written += total;
                } else {
                    self.counters.shared_bytes_read += total;
                }
            }
            Memory::Local => {}
        }
    }

    pub fn waits_at(&mut self, pc: u32) {
        let pc = pc as usize;
        if pc >= self.waits.len() {
            self.waits.resize(pc + 1, false);
        }
        self.waits[pc] = true;
    }

    #[inline]
    fn add_cost(&mut self, access: &WarpAccess, which: usize, needed: u64, ideal: u64) {
        let pc = access.at.pc as usize;
        if pc >= self.costs.len() {
            self.costs.resize(pc + 1, Default::default());
        }
        let cost = &mut self.costs[pc][which];
        *cost = Cost { requests: cost.requests + 1, needed: cost.needed + needed, ideal: cost.ideal + ideal };
    }

    #[inline]
    pub fn range_access(&mut self, access: &RangeAccess) {
        if access.memory != Memory::Global || access.bytes == 0 {
            return;
        }
        let bytes = u64::from(access.bytes);
        let last = access.address.wrapping_add(bytes - 1);
        let whole = SECTOR * (last / SECTOR).wrapping_sub(access.address / SECTOR).wrapping_add(1);
        if access.access == Access::Read {
            self.counters.tma_bytes_read += bytes;
            self.counters.l2_bytes_read += whole;
        } else {
            self.counters.tma_bytes_written += bytes;
            self.counters.l2_bytes_written += whole;
        }
    }
}

/// Bytes that L2 moves at least.
const SECTOR: u64 = 32;

fn lanes_of(mask: u32) -> impl Iterator<Item = usize> {
    (0..32).filter(move |lane| (mask >> lane) & 1 == 1)
}

/// Distinct 32-byte sectors of a request.
fn sectors(access: &WarpAccess) -> u64 {
    if access.lanes == u32::MAX {
        let (first, bytes) = (access.addresses[0], u64::from(access.bytes));
        if (0..32).all(|lane| access.addresses[lane] == first.wrapping_add(lane as u64 * bytes)) {
            return ((first.wrapping_add(32 * bytes - 1)) >> 5).wrapping_sub(first >> 5) + 1;
        }
    }
    let mut seen: [u64; 64] = [u64::MAX; 64];
    let mut count = 0usize;
    for lane in lanes_of(access.lanes) {
        let address = access.addresses[lane];
        let (first, last) = (address >> 5, (address + u64::from(access.bytes) - 1) >> 5);
        for sector in first..=last {
            // Neighbouring lanes mostly share or continue the last sector.
            let recent = count.saturating_sub(4);
            if seen[recent..count].contains(&sector) || seen[..recent].contains(&sector) {
                continue;
            }
            if count < seen.len() {
                seen[count] = sector;
                count += 1;
            }
        }
    }
    count as u64
}

/// Passes through shared memory: 4-byte accesses go together, 8-byte ones by half warps, 16-byte ones by quarters; a
/// bank serves one word a pass, to any number of lanes.
fn wavefronts(addresses: &[u64; 32], lanes: u32, bytes: u32) -> (u64, u64) {
    let per_group: u32 = match bytes {
        16.. => 8,
        8.. => 16,
        _ => 32,
    };
    if lanes == u32::MAX && bytes >= 4 {
        let first = addresses[0];
        let consecutive = (0..32).all(|lane| addresses[lane] == first + lane as u64 * u64::from(bytes));
        if consecutive {
            let groups = u64::from(32 / per_group);
            return (groups, groups);
        }
    }
    let words = bytes.div_ceil(4).min(4);
    let (mut needed, mut ideal) = (0, 0);
    let mut group = 0;
    while group < 32 {
        let mask = (((1u64 << per_group) - 1) as u32) << group & lanes;
        group += per_group;
        if mask == 0 {
            continue;
        }
        ideal += 1;
        let mut row_of_bank = [u32::MAX; 32];
        let mut conflict = false;
        for lane in lanes_of(mask) {
            let first = (addresses[lane] >> 2) as u32;
            for word in first..first + words {
                let slot = &mut row_of_bank[(word & 31) as usize];
                conflict |= *slot != u32::MAX && *slot != word;
                *slot = word;
            }
        }
        needed += if conflict { passes(addresses, mask, words) } else { 1 };
    }
    (needed, ideal)
}

#[cold]
fn passes(addresses: &[u64; 32], mask: u32, words: u32) -> u64 {
    let mut all: Vec<u32> = lanes_of(mask)
        .flat_map(|lane| {
            let first = (addresses[lane] >> 2) as u32;
            first..first + words
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    let mut per_bank = [0u64; 32];
    for word in all {
        per_bank[(word & 31) as usize] += 1;
    }
    per_bank.into_iter().max().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wavefronts_count_bank_conflicts() {
        let consecutive: [u64; 32] = std::array::from_fn(|lane| 0x400 + 4 * lane as u64);
        assert_eq!(wavefronts(&consecutive, u32::MAX, 4), (1, 1));
        let same_bank: [u64; 32] = std::array::from_fn(|lane| 0x400 + 128 * lane as u64);
        assert_eq!(wavefronts(&same_bank, u32::MAX, 4), (32, 1));
        let broadcast = [0x400; 32];
        assert_eq!(wavefronts(&broadcast, u32::MAX, 4), (1, 1));
        let wide: [u64; 32] = std::array::from_fn(|lane| 0x400 + 16 * lane as u64);
        assert_eq!(wavefronts(&wide, u32::MAX, 16), (4, 4));
    }
}
