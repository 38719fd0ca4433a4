//! Profiles of GPUs, as data.

use crate::model::Coefficients;
use serde::Deserialize;
use std::sync::LazyLock;
use tilewright_ir::Arch;

/// Rates of one GPU. Where each number comes from stands beside it in `profiles/*.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceProfile {
    /// Name.
    pub name: String,
    /// The target whose kernels it runs.
    #[serde(rename = "target", deserialize_with = "target")]
    pub arch: Arch,
    /// Compute capability, major and minor.
    pub compute: [u32; 2],
    /// What times of it may be asked for, and on what they rest.
    pub answers: String,
    /// Multiprocessors.
    pub sms: u32,
    /// Highest clock, held where tensor cores idle, Hz.
    pub boost_hz: f64,
    /// Clock under full tensor load, Hz.
    pub clock_hz: f64,
    /// Dense 16-bit tensor-core FLOP of one SM and clock, with f32 sums.
    pub tensor_flops: f64,
    /// The same of 8-bit operands.
    pub tensor8_flops: f64,
    /// The part of it that `mma.sync` reaches; `wgmma` reaches all.
    pub mma_sync_share: f64,
    /// f32 multiply-adds of one SM and clock.
    pub float_lanes: f64,
    /// 32-bit integer operations of one SM and clock.
    pub int_lanes: f64,
    /// Exponentials of one SM and clock.
    pub special_lanes: f64,
    /// Shared-memory bytes of one SM and clock.
    pub smem_bytes: f64,
    /// Shared memory of an SM, bytes.
    pub smem_capacity: u32,
    /// L2 bytes of the whole GPU and clock.
    pub l2_bytes: f64,
    /// L2 capacity, bytes.
    pub l2_capacity: f64,
    /// Device memory's rate as a driver computes it from clock and width, bytes a second.
    pub memory_peak: f64,
    /// What copies reach of it, bytes a second.
    pub memory_bytes: f64,
    /// First bytes of a tile, cycles.
    pub load_latency: f64,
    /// From launch to first instruction and from last to done, seconds.
    pub launch_seconds: f64,
    /// Coefficients fitted to trials on this GPU; the literature's without.
    #[serde(default)]
    pub coefficients: Option<Coefficients>,
}

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not the TOML of a profile.
    #[error("no device profile: {0}")]
    Toml(#[from] toml::de::Error),
    /// A rate that is none.
    #[error("device profile {name}: {field} = {value}: must be a number above 0")]
    Rate {
        /// The profile.
        name: String,
        /// The field.
        field: &'static str,
        /// Its value.
        value: f64,
    },
}

/// The profiles this crate knows; the first of a target stands for it.
const TEXTS: [&str; 6] = [
    include_str!("../../profiles/h200.toml"),
    include_str!("../../profiles/a100.toml"),
    include_str!("../../profiles/l40s.toml"),
    include_str!("../../profiles/rtx4090.toml"),
    include_str!("../../profiles/h100.toml"),
    include_str!("../../profiles/b200.toml"),
];

// The files are part of this source: a test reads them.
#[allow(clippy::expect_used)]
static ALL: LazyLock<Vec<DeviceProfile>> =
    LazyLock::new(|| TEXTS.iter().map(|t| DeviceProfile::parse(t).expect("a committed profile")).collect());

impl DeviceProfile {
    /// Every profile.
    pub fn all() -> &'static [DeviceProfile] {
        &ALL
    }

    /// The profile of a name, in whatever case.
    pub fn named(name: &str) -> Option<&'static DeviceProfile> {
        ALL.iter().find(|d| d.name.eq_ignore_ascii_case(name))
    }

    /// The GPU that stands for a target until tuning records name the real one.
    pub fn typical(arch: Arch) -> &'static DeviceProfile {
        // Consumer Ampere has no profile; Ada has its SM with more L2.
        let arch = if arch == Arch::Sm86 { Arch::Sm89 } else { arch };
        ALL.iter().find(|d| d.arch == arch).unwrap_or(&ALL[0])
    }

    /// What the model uses for it.
    pub fn coefficients(&self) -> Coefficients {
        self.coefficients.unwrap_or_default()
    }

    /// Reads the text of a profile.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let profile: DeviceProfile = toml::from_str(text)?;
        match profile.rates().into_iter().find(|(_, v)| !(v.is_finite() && *v > 0.0)) {
            Some((field, value)) => Err(ProfileError::Rate { name: profile.name.clone(), field, value }),
            None => Ok(profile),
        }
    }

    fn rates(&self) -> [(&'static str, f64); 17] {
        [
            ("sms", self.sms.into()),
            ("boost_hz", self.boost_hz),
            ("clock_hz", self.clock_hz),
            ("tensor_flops", self.tensor_flops),
            ("tensor8_flops", self.tensor8_flops),
            ("mma_sync_share", self.mma_sync_share),
            ("float_lanes", self.float_lanes),
            ("int_lanes", self.int_lanes),
            ("special_lanes", self.special_lanes),
            ("smem_bytes", self.smem_bytes),
            ("smem_capacity", self.smem_capacity.into()),
            ("l2_bytes", self.l2_bytes),
            ("l2_capacity", self.l2_capacity),
            ("memory_peak", self.memory_peak),
            ("memory_bytes", self.memory_bytes),
            ("load_latency", self.load_latency),
            ("launch_seconds", self.launch_seconds),
        ]
    }
}

fn target<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Arch, D::Error> {
    String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_reads_and_no_clock_or_rate_is_above_its_peak() {
        for d in DeviceProfile::all() {
            assert!(d.clock_hz <= d.boost_hz && d.memory_bytes <= d.memory_peak && d.mma_sync_share <= 1.0, "{}", d.name);
            assert!(d.tensor8_flops >= d.tensor_flops && !d.answers.is_empty(), "{}", d.name);
            assert_eq!(DeviceProfile::named(&d.name.to_lowercase()), Some(d));
        }
        for arch in Arch::all() {
            let typical = DeviceProfile::typical(arch);
            assert!(typical.arch.sm() / 10 == arch.sm() / 10, "{arch}");
        }
        assert_eq!(DeviceProfile::typical(Arch::Sm90a).name, "H200");
    }

    #[test]
    fn every_number_says_where_it_comes_from() {
        for line in TEXTS.iter().flat_map(|t| t.lines()).filter(|l| l.contains(" = ") && !l.starts_with('#')) {
            let words = ["name", "target", "answers"].iter().any(|w| line.starts_with(w));
            assert!(words || line.split_once('#').is_some_and(|(_, s)| s.len() > 5), "{line}");
        }
    }

    #[test]
    fn a_rate_of_nothing_and_an_unknown_key_are_refused() {
        let zero = TEXTS[0].replace("sms = 132", "sms = 0");
        assert!(DeviceProfile::parse(&zero).unwrap_err().to_string().contains("H200: sms = 0"));
        let more = format!("{}\ncolour = 1\n", TEXTS[0]);
        assert!(DeviceProfile::parse(&more).unwrap_err().to_string().contains("colour"));
        let target = TEXTS[0].replace("\"sm90\"", "\"sm70\"");
        assert!(DeviceProfile::parse(&target).unwrap_err().to_string().contains("sm70"));
    }
}
