//! Which profile is a device's. By what it can do, never by its marketing name: tables keyed by names miss the same GPU under
//! another.

use super::profile::DeviceProfile;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a driver tells of a device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// Compute capability, major and minor.
    pub compute: [u32; 2],
    /// Multiprocessors.
    pub sms: u32,
    /// Shared memory of an SM, bytes.
    pub smem_per_sm_bytes: u32,
    /// L2, bytes.
    pub l2_bytes: u64,
    /// Memory clock times width, bytes a second.
    pub memory_bytes_per_second: f64,
    /// Highest SM clock, Hz.
    pub clock_hz: f64,
}

/// The profile for a device.
#[derive(Clone, Debug, PartialEq)]
pub enum Match {
    /// It is this one.
    Exact(&'static DeviceProfile),
    /// It is like this one but for what is named.
    Near {
        /// The nearest profile.
        profile: &'static DeviceProfile,
        /// What differs, `sms: 78, H100 has 132`.
        differs: Vec<String>,
    },
    /// No profile has its major compute capability.
    None {
        /// In words.
        why: String,
    },
}

/// Clocks and rates that differ by less are the same: parts of one kind are sold with slightly different ones.
const SAME: f64 = 0.08;
/// L2 that differs by less is the same: MIG, ECC and marketing count it differently.
const SAME_L2: f64 = 0.15;

impl Capabilities {
    /// What a driver says of a GPU with this profile.
    pub fn of(d: &DeviceProfile) -> Self {
        Capabilities {
            compute: d.compute,
            sms: d.sms,
            smem_per_sm_bytes: d.smem_capacity,
            l2_bytes: d.l2_capacity as u64,
            memory_bytes_per_second: d.memory_peak,
            clock_hz: d.boost_hz,
        }
    }

    /// How far from a profile, 0 for the same, and what differs.
    fn differences(&self, d: &DeviceProfile) -> (f64, Vec<String>) {
        let of = Capabilities::of(d);
        let rows = [
            ("sms", self.sms.into(), of.sms.into(), 0.0),
            ("smem_per_sm_bytes", self.smem_per_sm_bytes.into(), of.smem_per_sm_bytes.into(), 0.0),
            ("l2_bytes", self.l2_bytes as f64, of.l2_bytes as f64, SAME_L2),
            ("memory_bytes_per_second", self.memory_bytes_per_second, of.memory_bytes_per_second, SAME),
            ("clock_hz", self.clock_hz, of.clock_hz, SAME),
        ];
        let mut far = 0.0;
        let mut differs = Vec::new();
        if self.compute != of.compute {
            far += 1.0;
            let [[major, minor], [of_major, of_minor]] = [self.compute, of.compute];
            differs.push(format!("compute capability: {major}.{minor}, {} has {of_major}.{of_minor}", d.name));
        }
        for (name, here, there, same) in rows {
            let apart = (here.max(1.0) / there).ln().abs();
            far += apart;
            if apart > same {
                differs.push(format!("{name}: {here}, {} has {there}", d.name));
            }
        }
        (far, differs)
    }
}

impl DeviceProfile {
    /// The profile of a device. A near one is the least different of the same major compute capability.
    pub fn matching(caps: &Capabilities) -> Match {
        let kin = DeviceProfile::all().iter().filter(|d| d.compute[0] == caps.compute[0]);
        let ranked = kin.map(|d| (d, caps.differences(d)));
        match ranked.min_by(|a, b| a.1.0.total_cmp(&b.1.0)) {
            Some((profile, (_, differs))) if differs.is_empty() => Match::Exact(profile),
            Some((profile, (_, differs))) => Match::Near { profile, differs },
            None => Match::None { why: format!("no device profile of compute capability {}.x", caps.compute[0]) },
        }
    }

    /// The profile with what a driver says of a device put in its place: rates that follow from clock and memory are scaled
    /// along.
    pub fn with(&self, caps: &Capabilities) -> DeviceProfile {
        let by_clock = caps.clock_hz / self.boost_hz;
        let by_memory = caps.memory_bytes_per_second / self.memory_peak;
        DeviceProfile {
            compute: caps.compute,
            sms: caps.sms,
            smem_capacity: caps.smem_per_sm_bytes,
            l2_capacity: caps.l2_bytes as f64,
            boost_hz: caps.clock_hz,
            clock_hz: self.clock_hz * by_clock,
            memory_peak: caps.memory_bytes_per_second,
            memory_bytes: self.memory_bytes * by_memory,
            ..self.clone()
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Match::Exact(d) => write!(f, "{}", d.name),
            Match::Near { profile, differs } => write!(f, "near {} ({})", profile.name, differs.join("; ")),
            Match::None { why } => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_profile_is_its_own_match_and_small_differences_do_not_count() {
        for d in DeviceProfile::all() {
            let caps = Capabilities::of(d);
            assert_eq!(DeviceProfile::matching(&caps), Match::Exact(d));
            let slower = Capabilities { clock_hz: caps.clock_hz * 0.96, ..caps };
            assert_eq!(DeviceProfile::matching(&slower), Match::Exact(d), "{}", d.name);
            assert_eq!(d.with(&caps), *d);
        }
    }

    #[test]
    fn an_h20_is_near_a_hopper_and_says_why_not_exact() {
        let h200 = Capabilities::of(DeviceProfile::named("H200").unwrap());
        let h20 = Capabilities { sms: 78, memory_bytes_per_second: 4.0e12, ..h200 };
        let Match::Near { profile, differs } = DeviceProfile::matching(&h20) else { panic!("{h20:?}") };
        assert_eq!(profile.compute, [9, 0]);
        assert!(differs.iter().any(|d| d == "sms: 78, H200 has 132"), "{differs:?}");
        let adapted = profile.with(&h20);
        assert_eq!((adapted.sms, adapted.memory_peak), (78, 4.0e12));
        assert!(adapted.memory_bytes < 4.0e12 && adapted.memory_bytes > 3.0e12);
    }

    #[test]
    fn a_generation_without_a_profile_has_none() {
        let pascal = Capabilities { compute: [6, 0], ..Capabilities::of(&DeviceProfile::all()[0]) };
        assert!(matches!(DeviceProfile::matching(&pascal), Match::None { .. }));
        let a10 = Capabilities {
            compute: [8, 6],
            sms: 72,
            smem_per_sm_bytes: 102400,
            l2_bytes: 6 << 20,
            memory_bytes_per_second: 6e11,
            clock_hz: 1.695e9,
        };
        let Match::Near { differs, .. } = DeviceProfile::matching(&a10) else { panic!("{a10:?}") };
        assert!(differs[0].starts_with("compute capability: 8.6"), "{differs:?}");
    }
}
