//! The generated kernels, embedded for servers that ship as one file.
//!
//! The packs are what `gen --target` wrote beside this crate when it was built; without any it holds none.
//!
//! ```
//! for target in tilewright_kernels::targets() {
//!     let pack = tilewright_kernels::pack(target).expect("a listed target")?;
//!     println!("{target}: {} plans", pack.manifest().plans.len());
//! }
//! # Ok::<(), tilewright_runtime::pack::PackError>(())
//! ```

use tilewright_runtime::pack::{Embedded, Pack, PackError};

include!(concat!(env!("OUT_DIR"), "/packs.rs"));

/// Targets with a pack, such as `sm90`.
pub fn targets() -> impl Iterator<Item = &'static str> {
    PACKS.iter().map(|(target, _)| *target)
}

/// The pack of a target, its hashes checked as kernels are loaded; `None` where there is none.
pub fn pack(target: &str) -> Option<Result<Pack, PackError>> {
    PACKS.iter().find(|(t, _)| *t == target).map(|(_, files)| Pack::embedded(files))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_embedded_pack_is_whole() {
        for target in super::targets() {
            let pack = super::pack(target).expect("a listed target").unwrap_or_else(|e| panic!("{target}: {e}"));
            pack.verify_all().unwrap_or_else(|e| panic!("{target}: {e}"));
            assert_eq!(pack.manifest().target, target);
        }
    }
}
