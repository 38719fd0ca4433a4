//! Launches that only move data.

use super::coefficients::{ATOMIC_SLOWDOWN, BURST, COMPARE_CYCLES, LANES, RESIDENT, SECTOR};
use super::{Bound, LaunchCost, largest};
use crate::device::DeviceProfile;

/// What one or more launches move.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    /// Bytes read or written in order, that an earlier launch just wrote or a later one reads: L2 may have them.
    pub near: f64,
    /// Bytes in order that device memory must give, whatever came before.
    pub far: f64,
    /// Accesses to random places.
    pub random: f64,
    /// Bytes of each.
    pub random_bytes: f64,
    /// Bytes of what they go to.
    pub footprint: f64,
    /// Atomics on random sectors of the same.
    pub atomics: f64,
    /// Comparisons in registers.
    pub compares: f64,
    /// Accesses that wait for each other.
    pub chain: f64,
}

/// The part of a tensor of so many bytes that L2 does not hold when it is read again.
pub(super) fn misses(d: &DeviceProfile, bytes: f64) -> f64 {
    if bytes > 0.0 { (1.0 - RESIDENT * d.l2_capacity / bytes).max(0.0) } else { 0.0 }
}

/// L2's rate, bytes a second.
pub(super) fn l2_rate(d: &DeviceProfile) -> f64 {
    d.l2_bytes * d.clock_hz
}

impl Traffic {
    /// Time of `launches` launches that together move this.
    pub(super) fn cost(&self, d: &DeviceProfile, what: &'static str, launches: u32) -> LaunchCost {
        let whole = |bytes: f64, unit: f64| (bytes / unit).ceil() * unit;
        let accesses = self.random + self.atomics;
        let missed = misses(d, self.footprint);
        let l2 = self.near + self.far + self.random * whole(self.random_bytes, SECTOR);
        let memory =
            self.far + self.near * misses(d, self.near) + accesses * missed * whole(self.random_bytes.max(SECTOR), BURST);
        let lanes = f64::from(d.sms) * LANES * d.clock_hz;
        let terms = [
            (Bound::Issue, self.compares * COMPARE_CYCLES / lanes),
            (Bound::Memory, memory / d.memory_bytes),
            (Bound::L2, l2 / l2_rate(d)),
            (Bound::Atomics, self.atomics * SECTOR * ATOMIC_SLOWDOWN / l2_rate(d)),
        ];
        let (bound, moving) = largest(&terms);
        let waiting = self.chain * d.load_latency / d.clock_hz;
        let starting = f64::from(launches) * d.launch_seconds;
        let (bound, _) = largest(&[(bound, moving), (Bound::Latency, waiting), (Bound::Launch, starting)]);
        LaunchCost { what, layer: None, launches, seconds: moving + waiting + starting, bound }
    }
}
