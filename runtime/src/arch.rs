//! Architecture names (`sm_90a`) and the devices that run them.

use std::fmt;
use std::str::FromStr;

/// A device's compute capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComputeCapability {
    /// 9 of 9.0.
    pub major: u32,
    /// 0 of 9.0.
    pub minor: u32,
}

/// An architecture that kernels are assembled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arch {
    /// The capability in its name.
    pub base: ComputeCapability,
    /// What its suffix says.
    pub reach: Reach,
}

/// Which devices code for an architecture runs on (CUDA programming guide, "binary compatibility", "PTX compatibility",
/// "feature set compiler targets").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// No suffix: machine code on the same major capability, this minor one or later; PTX on every later device.
    Baseline,
    /// `f`: machine code and PTX on the same major capability, this minor one or later.
    Family,
    /// `a`: machine code and PTX on this capability alone.
    Exact,
}

/// A text that names no architecture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no architecture: expected sm_<number>, sm_<number>a or sm_<number>f")]
pub struct UnknownArch(pub String);

impl Arch {
    /// Whether a device with capability `device` runs machine code for this architecture.
    pub fn runs_on(self, device: ComputeCapability) -> bool {
        match self.reach {
            Reach::Exact => device == self.base,
            Reach::Baseline | Reach::Family => device.major == self.base.major && device.minor >= self.base.minor,
        }
    }

    /// Whether PTX for this architecture can be compiled for a device with capability `device`.
    pub fn compiles_for(self, device: ComputeCapability) -> bool {
        match self.reach {
            Reach::Baseline => device >= self.base,
            Reach::Family | Reach::Exact => self.runs_on(device),
        }
    }
}

impl FromStr for Arch {
    type Err = UnknownArch;

    fn from_str(text: &str) -> Result<Self, UnknownArch> {
        let unknown = || UnknownArch(text.to_owned());
        let name = text.strip_prefix("sm_").ok_or_else(unknown)?;
        let (digits, reach) = match name.strip_suffix('a') {
            Some(digits) => (digits, Reach::Exact),
            None => name.strip_suffix('f').map_or((name, Reach::Baseline), |digits| (digits, Reach::Family)),
        };
        if !(2..=3).contains(&digits.len()) || !digits.bytes().all(|c| c.is_ascii_digit()) {
            return Err(unknown());
        }
        let number: u32 = digits.parse().map_err(|_| unknown())?;
        Ok(Arch { base: ComputeCapability { major: number / 10, minor: number % 10 }, reach })
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = match self.reach {
            Reach::Baseline => "",
            Reach::Family => "f",
            Reach::Exact => "a",
        };
        write!(f, "sm_{}{}{suffix}", self.base.major, self.base.minor)
    }
}

impl fmt::Display for ComputeCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(arch: &str, major: u32, minor: u32) -> bool {
        arch.parse::<Arch>().unwrap().runs_on(ComputeCapability { major, minor })
    }

    #[test]
    fn machine_code_runs_where_nvidia_says() {
        assert!(runs("sm_90a", 9, 0) && !runs("sm_90a", 10, 0));
        assert!(runs("sm_80", 8, 0) && runs("sm_80", 8, 6) && !runs("sm_86", 8, 0) && !runs("sm_80", 9, 0));
        assert!(runs("sm_100f", 10, 3) && !runs("sm_100a", 10, 3));
        assert!(runs("sm_120", 12, 0));
    }

    #[test]
    fn ptx_runs_on_later_devices_unless_its_name_says_which() {
        let compiles = |arch: &str, major, minor| arch.parse::<Arch>().unwrap().compiles_for(ComputeCapability { major, minor });
        assert!(compiles("sm_80", 8, 0) && compiles("sm_80", 9, 0) && compiles("sm_80", 12, 0) && !compiles("sm_86", 8, 0));
        assert!(compiles("sm_90a", 9, 0) && !compiles("sm_90a", 10, 0));
        assert!(compiles("sm_100f", 10, 3) && !compiles("sm_100f", 12, 0));
        assert_eq!(
            ["sm_80", "sm_90a", "sm_100f"].map(|a| a.parse::<Arch>().unwrap().to_string()),
            ["sm_80", "sm_90a", "sm_100f"]
        );
    }

    #[test]
    fn other_names_are_refused() {
        for text in ["", "sm90", "sm_", "sm_9", "sm_9x", "sm_90b", "compute_90", "sm_90aa", "sm_+90", "sm_90000"] {
            assert!(text.parse::<Arch>().is_err(), "{text}");
        }
    }
}
