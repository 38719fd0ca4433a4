//! Which of a pack's code a device gets: machine code, or PTX that the driver compiles; and which drivers take it.

use std::fmt;
use std::str::FromStr;

use crate::arch::{Arch, ComputeCapability, Reach, UnknownArch};
use crate::device::ImageKind;
use crate::manifest::Manifest;

/// What a device is given of a pack, where a kernel has both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The machine code that was checked when the pack was made.
    Cubin,
    /// PTX, because the device itself reads PTX, as the emulator does.
    Ptx,
    /// PTX that the driver compiles as kernels are loaded: correct, but slow to load, and what ptxas promised of the
    /// pack's own machine code (registers, no spills) says nothing about it.
    Jit(JitReason),
}

/// Why the machine code is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JitReason {
    /// It is for another architecture.
    Arch,
    /// The driver is of an earlier major CUDA version than the assembler that made it.
    Driver,
    /// The pack was made without an assembler.
    NoCubins,
}

/// A version of CUDA: a toolkit's, or the latest that a driver supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CudaVersion {
    /// 12 of 12.4.
    pub major: u32,
    /// 4 of 12.4.
    pub minor: u32,
}

/// A version of the PTX language, as files say it in `.version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PtxVersion {
    /// 8 of 8.1.
    pub major: u32,
    /// 1 of 8.1.
    pub minor: u32,
}

/// Why a device gets nothing of a pack.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompatError {
    /// The manifest's architecture has no meaning.
    #[error(transparent)]
    UnknownArch(#[from] UnknownArch),
    /// Neither machine code nor PTX is for the device.
    #[error("the pack is for {arch}, and the device has compute capability {device}: use the pack for its target")]
    WrongArch {
        /// The pack's architecture.
        arch: Arch,
        /// The device's capability.
        device: ComputeCapability,
    },
    /// As above, where one might expect that PTX runs on later devices.
    #[error(
        "the pack is for {arch}, whose machine code and PTX run on compute capability {base} {}, and the device has \
         {device}: use the pack for its target", if arch.reach == Reach::Exact { "alone" } else { "and its family" }
    )]
    Specific {
        /// The pack's architecture.
        arch: Arch,
        /// Its capability.
        base: ComputeCapability,
        /// The device's capability.
        device: ComputeCapability,
    },
    /// The driver does not know the PTX, and the machine code is of no use.
    #[error(
        "the driver supports CUDA {driver}, and the pack's PTX {ptx} needs a driver for CUDA {needed} or later \
         (its machine code is {}): update the driver", reason.words()
    )]
    Driver {
        /// What the driver supports.
        driver: CudaVersion,
        /// The pack's PTX.
        ptx: PtxVersion,
        /// The first CUDA version that knows it.
        needed: CudaVersion,
        /// Why the machine code does not help.
        reason: JitReason,
    },
    /// No driver is known to know the PTX.
    #[error("toolchain.ptx_version: PTX {ptx} is newer than this runtime knows: use the runtime the pack came with")]
    FuturePtx {
        /// The pack's PTX.
        ptx: PtxVersion,
    },
}

/// What a device is given of a pack. `driver` is what CUDA version its driver supports; a device without a driver, such
/// as a recording one, has none and takes any.
pub fn code_for(
    manifest: &Manifest,
    device: ComputeCapability,
    driver: Option<CudaVersion>,
    wants: ImageKind,
) -> Result<Code, CompatError> {
    let arch: Arch = manifest.arch.parse()?;
    if wants == ImageKind::Cubin && arch.runs_on(device) && manifest.kernels.iter().any(|kernel| kernel.cubin.is_some()) {
        let assembler: Option<CudaVersion> = manifest.toolchain.ptxas.parse().ok();
        // Machine code runs under every driver of its major version or a later one (CUDA compatibility guide, "minor
        // version compatibility").
        if assembler.zip(driver).is_none_or(|(assembler, driver)| driver.major >= assembler.major) {
            // A kernel that has no machine code comes as PTX.
            if manifest.kernels.iter().any(|kernel| kernel.cubin.is_none()) {
                check_ptx(manifest, driver, JitReason::NoCubins)?;
            }
            return Ok(Code::Cubin);
        }
    }
    if !arch.compiles_for(device) {
        return Err(match arch.reach {
            Reach::Baseline => CompatError::WrongArch { arch, device },
            Reach::Family | Reach::Exact => CompatError::Specific { arch, base: arch.base, device },
        });
    }
    if wants == ImageKind::Ptx {
        return Ok(Code::Ptx);
    }
    let reason = match () {
        () if !arch.runs_on(device) => JitReason::Arch,
        () if manifest.kernels.iter().all(|kernel| kernel.cubin.is_none()) => JitReason::NoCubins,
        () => JitReason::Driver,
    };
    check_ptx(manifest, driver, reason)?;
    Ok(Code::Jit(reason))
}

/// The driver's compiler knows PTX up to the version of its CUDA; minor version compatibility does not extend to PTX.
fn check_ptx(manifest: &Manifest, driver: Option<CudaVersion>, reason: JitReason) -> Result<(), CompatError> {
    // An empty pack has no PTX; others were refused when the manifest was read.
    let Ok(ptx) = manifest.toolchain.ptx_version.parse::<PtxVersion>() else { return Ok(()) };
    let needed = ptx.cuda().ok_or(CompatError::FuturePtx { ptx })?;
    match driver {
        Some(driver) if driver < needed => Err(CompatError::Driver { driver, ptx, needed, reason }),
        _ => Ok(()),
    }
}

impl Code {
    /// What [`crate::pack::Pack::image`] is asked for.
    pub fn kind(self) -> ImageKind {
        match self {
            Code::Cubin => ImageKind::Cubin,
            Code::Ptx | Code::Jit(_) => ImageKind::Ptx,
        }
    }
}

impl JitReason {
    /// Completes "the machine code is ...".
    fn words(self) -> &'static str {
        match self {
            JitReason::Arch => "for another architecture",
            JitReason::Driver => "of a later CUDA, too",
            JitReason::NoCubins => "missing",
        }
    }
}

impl PtxVersion {
    /// The first CUDA version that knows it; None for versions later than this runtime (PTX ISA, "release notes").
    pub fn cuda(self) -> Option<CudaVersion> {
        let (major, minor) = match (self.major, self.minor) {
            (7, minor @ 0..=8) => (11, minor),
            (8, minor @ 0..=5) => (12, minor),
            (8, minor @ 6..=8) => (12, minor + 1),
            (9, minor) => (13, minor),
            (0..=6, _) => (11, 0),
            _ => return None,
        };
        Some(CudaVersion { major, minor })
    }
}

impl CudaVersion {
    /// From the driver's number: 12040 for 12.4.
    pub fn from_number(number: u32) -> Self {
        CudaVersion { major: number / 1000, minor: number % 1000 / 10 }
    }
}

/// A text that begins with no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no version: expected <major>.<minor>")]
pub struct NoVersion(pub String);

/// The first two numbers of `13.0.88`.
fn numbers(text: &str) -> Result<(u32, u32), NoVersion> {
    let number = |part: Option<&str>| part.filter(|p| p.bytes().all(|c| c.is_ascii_digit()))?.parse().ok();
    let mut parts = text.split('.');
    number(parts.next()).zip(number(parts.next())).ok_or_else(|| NoVersion(text.to_owned()))
}

impl FromStr for CudaVersion {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        numbers(text).map(|(major, minor)| CudaVersion { major, minor })
    }
}

impl FromStr for PtxVersion {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        numbers(text).map(|(major, minor)| PtxVersion { major, minor })
    }
}

impl fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl fmt::Display for PtxVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Code::Cubin => f.write_str("the pack's machine code"),
            Code::Ptx => f.write_str("the pack's PTX"),
            Code::Jit(reason) => write!(f, "PTX compiled by the driver (the pack's machine code is {})", reason.words()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ptx_versions_name_the_cuda_they_came_with() {
        let cuda = |text: &str| text.parse::<PtxVersion>().unwrap().cuda().map(|c| c.to_string());
        let known = [("7.8", "11.8"), ("8.1", "12.1"), ("8.5", "12.5"), ("8.6", "12.7"), ("8.8", "12.9"), ("9.0", "13.0")];
        for (ptx, expected) in known {
            assert_eq!(cuda(ptx).as_deref(), Some(expected), "{ptx}");
        }
        assert_eq!(cuda("10.0"), None);
        assert!(["", "8", "8.", "x.1", "-8.1", "8.99999999999"].iter().all(|text| text.parse::<PtxVersion>().is_err()));
    }
}
