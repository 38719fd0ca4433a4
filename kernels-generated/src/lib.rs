//! The generated kernels, embedded for servers that ship as one file.
//!
//! Each feature (`sm80`, `sm90`) builds the pack of that target, its `kernels.pack`, into the program; without features
//! there is none, so that nobody carries kernels for a GPU that is not there. A program that reads the pack from disk needs
//! `tilewright-runtime` alone.
//!
//! ```
//! for target in tilewright_kernels::targets() {
//!     let pack = tilewright_kernels::pack(target).expect("a listed target")?;
//!     println!("{target}: {} plans", pack.manifest().plans.len());
//! }
//! # assert_eq!(tilewright_kernels::targets().count(), 2, "the features of this example");
//! # Ok::<(), tilewright_runtime::pack::PackError>(())
//! ```

use tilewright_runtime::arch::ComputeCapability;
use tilewright_runtime::compat::{Code, CudaVersion};
use tilewright_runtime::device::ImageKind;
use tilewright_runtime::pack::{Pack, PackError};

/// Targets in ascending order with their `kernels.pack`.
const PACKS: &[(&str, &[u8])] = &[
    #[cfg(feature = "sm80")]
    ("sm80", include_bytes!("../sm80/kernels.pack")),
    #[cfg(feature = "sm90")]
    ("sm90", include_bytes!("../sm90/kernels.pack")),
];

/// Targets with a pack, such as `sm90`, in ascending order.
pub fn targets() -> impl Iterator<Item = &'static str> {
    PACKS.iter().map(|(target, _)| *target)
}

/// The pack of a target, its files checked as kernels are loaded; `None` where its feature is off.
pub fn pack(target: &str) -> Option<Result<Pack, PackError>> {
    PACKS.iter().find(|(t, _)| *t == target).map(|(_, bytes)| Pack::embedded_archive(bytes))
}

/// The pack for a GPU of this capability whose driver supports this CUDA version, and what of it runs there: the latest
/// target whose machine code does, else the latest whose PTX the driver can compile. `None` where nothing runs.
pub fn pack_for(device: ComputeCapability, driver: Option<CudaVersion>) -> Result<Option<(Pack, Code)>, PackError> {
    let mut compiled = None;
    for (_, bytes) in PACKS.iter().rev() {
        let pack = Pack::embedded_archive(bytes)?;
        match pack.check_device(device, driver, ImageKind::Cubin) {
            Ok(Code::Cubin) => return Ok(Some((pack, Code::Cubin))),
            Ok(code) => compiled = compiled.or(Some((pack, code))),
            Err(_) => {}
        }
    }
    Ok(compiled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_runtime::compat::JitReason;

    #[test]
    fn every_embedded_pack_is_whole() {
        assert_eq!(targets().collect::<Vec<_>>(), ["sm80", "sm90"], "this crate's tests turn both features on");
        for target in targets() {
            let pack = pack(target).unwrap().unwrap_or_else(|e| panic!("{target}: {e}"));
            pack.verify_all().unwrap_or_else(|e| panic!("{target}: {e}"));
            assert_eq!(pack.manifest().target, target);
        }
        assert!(pack("sm70").is_none());
    }

    #[test]
    fn a_gpu_gets_its_own_target_or_the_ptx_of_an_earlier_one() {
        let chosen = |major, minor| {
            let found = pack_for(ComputeCapability { major, minor }, "13.0".parse().ok()).unwrap();
            found.map(|(pack, code)| (pack.manifest().target.clone(), code))
        };
        assert_eq!(chosen(9, 0), Some(("sm90".to_owned(), Code::Cubin)));
        assert_eq!(chosen(8, 9), Some(("sm80".to_owned(), Code::Cubin)));
        assert_eq!(chosen(12, 0), Some(("sm80".to_owned(), Code::Jit(JitReason::Arch))));
        assert_eq!(chosen(7, 5), None);
    }
}
