//! What the trials of a log are of.

use super::lines::Header;
use crate::device::Capabilities;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Version of the form.
const SCHEMA: u32 = 1;

/// Where times come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A GPU.
    Measured,
    /// The emulator, whose times mean nothing for a GPU.
    Emulated,
    /// The simulated device, which is good for tests only.
    Simulated,
}

/// A device as results are kept for it: by what it can do, not by what it is called in shops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceId {
    /// The device profile that stands for it.
    pub profile: String,
    /// What it says of itself: `sms`, `l2_bytes`, `clock_hz` and the like.
    pub capabilities: BTreeMap<String, u64>,
}

/// The header of a log: trials of two searches belong together where this is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Version of the form.
    pub schema: u32,
    /// Where times come from.
    pub source: Source,
    /// Target of the kernels, `sm90a`.
    pub target: String,
    /// What they ran on.
    pub device: DeviceId,
    /// What made them: versions of the generator, LLVM, ptxas.
    pub toolchain: String,
    /// Revision of how the device takes times.
    pub protocol: u32,
    /// Fingerprint of how candidates are searched, the seed with it and the budget without: a search goes on with a larger one.
    pub search: String,
}

impl DeviceId {
    /// A device as its driver describes it, and the profile that stands for it.
    pub fn new(profile: &str, c: &Capabilities) -> Self {
        let capabilities = [
            ("compute", u64::from(c.compute[0] * 10 + c.compute[1])),
            ("sms", c.sms.into()),
            ("smem_per_sm_bytes", c.smem_per_sm_bytes.into()),
            ("l2_bytes", c.l2_bytes),
            ("memory_bytes_per_second", c.memory_bytes_per_second as u64),
            ("clock_hz", c.clock_hz as u64),
        ];
        DeviceId { profile: profile.into(), capabilities: capabilities.map(|(name, value)| (name.to_string(), value)).into() }
    }
}

impl Identity {
    /// The identity of a search.
    pub fn new(source: Source, target: &str, device: DeviceId, toolchain: String, protocol: u32, search: String) -> Self {
        Identity { schema: SCHEMA, source, target: target.into(), device, toolchain, protocol, search }
    }
}

impl Header for Identity {
    fn differs(&self, found: &Identity) -> Option<(&'static str, String, String)> {
        let fields = |i: &Identity| {
            [
                ("version", i.schema.to_string()),
                ("source of times", i.source.to_string()),
                ("target", i.target.clone()),
                ("device profile", i.device.profile.clone()),
                ("device", i.device.to_string()),
                ("toolchain", i.toolchain.clone()),
                ("protocol", i.protocol.to_string()),
                ("search", i.search.clone()),
            ]
        };
        let pairs = fields(found).into_iter().zip(fields(self));
        pairs.map(|((what, found), (_, expected))| (what, found, expected)).find(|(_, found, expected)| found != expected)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Measured => "measured",
            Source::Emulated => "emulated",
            Source::Simulated => "simulated",
        })
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.profile)?;
        self.capabilities.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}
