//! Targets: what each GPU generation can do, as data.

use std::fmt;
use std::str::FromStr;

/// A compilation target. `sm90` on the command line means [`Arch::Sm90a`]: Hopper with its own instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// Ampere data centre (A100).
    Sm80,
    /// Ampere consumer (RTX 30, A10).
    Sm86,
    /// Ada (RTX 40, L40S).
    Sm89,
    /// Hopper (H100, H200) with `wgmma`, `setmaxnreg` and TMA.
    Sm90a,
}

/// What a compiler or a template must know of a target. One row a target; a new GPU is a new row.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// The target.
    pub arch: Arch,
    /// The command line's name, `sm90`.
    pub name: &'static str,
    /// The PTX `.target` and `ptxas -arch` name, `sm_90a`.
    pub ptx_target: &'static str,
    /// Compute capability, major then minor.
    pub compute: (u8, u8),
    /// The lowest PTX ISA version (times ten) that knows the target.
    pub base_ptx: u32,
    /// Shared memory one CTA may use, bytes (CUDA programming guide, "Technical Specifications per Compute Capability").
    pub max_smem_bytes: u32,
    /// 32-bit registers of one SM.
    pub registers_per_sm: u32,
    /// Highest cluster size that is portable, in CTAs; 1 where there are no clusters.
    pub max_cluster: u32,
}

const TABLE: &[Capabilities] = &[
    Capabilities {
        arch: Arch::Sm80,
        name: "sm80",
        ptx_target: "sm_80",
        compute: (8, 0),
        base_ptx: 70,
        max_smem_bytes: 163 * 1024,
        registers_per_sm: 65536,
        max_cluster: 1,
    },
    Capabilities {
        arch: Arch::Sm86,
        name: "sm86",
        ptx_target: "sm_86",
        compute: (8, 6),
        base_ptx: 71,
        max_smem_bytes: 99 * 1024,
        registers_per_sm: 65536,
        max_cluster: 1,
    },
    Capabilities {
        arch: Arch::Sm89,
        name: "sm89",
        ptx_target: "sm_89",
        compute: (8, 9),
        base_ptx: 78,
        max_smem_bytes: 99 * 1024,
        registers_per_sm: 65536,
        max_cluster: 1,
    },
    Capabilities {
        arch: Arch::Sm90a,
        name: "sm90",
        ptx_target: "sm_90a",
        compute: (9, 0),
        base_ptx: 80,
        max_smem_bytes: 227 * 1024,
        registers_per_sm: 65536,
        max_cluster: 8,
    },
];

impl Arch {
    /// Every target there is.
    pub fn all() -> impl Iterator<Item = Arch> {
        TABLE.iter().map(|c| c.arch)
    }

    /// The target's row.
    pub fn caps(self) -> &'static Capabilities {
        TABLE.iter().find(|c| c.arch == self).expect("every Arch has a row")
    }

    /// Compute capability as one number, 90 for sm_90a.
    pub fn sm(self) -> u32 {
        let (major, minor) = self.caps().compute;
        u32::from(major) * 10 + u32::from(minor)
    }

    /// True for targets with `wgmma`, TMA and `mbarrier` transaction counts.
    pub fn is_hopper(self) -> bool {
        self == Arch::Sm90a
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.caps().ptx_target)
    }
}

/// A target name nobody knows.
#[derive(Clone, Debug, thiserror::Error)]
#[error("unknown target `{0}`: expected one of {known}", known = TABLE.iter().map(|c| c.name).collect::<Vec<_>>().join(", "))]
pub struct UnknownArch(pub String);

impl FromStr for Arch {
    type Err = UnknownArch;

    /// Takes the command line's name (`sm90`) or the PTX one (`sm_90a`).
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        TABLE.iter().find(|c| c.name == s || c.ptx_target == s).map(|c| c.arch).ok_or_else(|| UnknownArch(s.to_string()))
    }
}
