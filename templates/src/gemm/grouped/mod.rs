//! Grouped GEMM: rows sorted by expert, each expert's with a matrix of its own (mixture of experts).
//!
//! A first launch turns offsets or counts into a list of tiles, on the device; the GEMM walks the list. Grids depend on extents
//! only, so a captured launch serves any routing.
//!
//! | file | holds |
//! |---|---|
//! | `extents` | extents and numbers of tiles of each way to group rows |
//! | `list` | the kernel that makes the list, and how a GEMM reads it |
//! | `gather` | the kernel that sorts rows by an index |
//! | `plan` | launches, tensors and requirements for the manifest |

mod extents;
mod gather;
mod list;
mod plan;

pub use gather::gather_rows;
pub use list::group_tiles;
pub(super) use list::{TileList, store_some_rows};
pub use plan::{gather_kernel, grouped_class, grouped_dequantised_plan, grouped_plan, tiles_kernel};
