//! The runtime for C: `libtilewright`, shared and static, with the header `include/tilewright.h`.
//!
//! The header is generated from this crate by cbindgen (`BLESS=1 cargo test -p tilewright-c header`), so what is said of a
//! function here is what its callers in C read. Every function checks its pointers for null, returns a status, leaves the
//! reason in its thread's last error, and stops panics at the border.
//!
//! | file | part |
//! |---|---|
//! | `status.rs` | statuses, the last error, versions |
//! | `pack.rs`, `device.rs` | a pack on a GPU or on the emulator |
//! | `memory.rs` | device memory for who has no other way to it |
//! | `problem.rs`, `select.rs`, `op.rs` | problems, plans for them, plans prepared and run |
//! | `dlpack.rs` | the same with DLPack tensors |
//! | `read.rs` | what callers hand over, looked at before it is believed |

mod device;
mod dlpack;
mod memory;
mod op;
mod pack;
mod problem;
mod read;
mod select;
mod status;

pub use dlpack::{DLDataType, DLDevice, DLManagedTensorVersioned, DLPackVersion, DLTensor, tw_run_dlpack};
pub use memory::{tw_alloc, tw_download, tw_free, tw_sync, tw_upload};
pub use op::{
    OpHandle, TW_INPUT, TW_MAX_RANK, TW_OUTPUT, Tensor, tw_op_close, tw_op_tensor, tw_op_tensor_count, tw_op_workspace_bytes,
    tw_prepare, tw_prepare_gemm, tw_prepare_plan, tw_run,
};
pub use pack::{PackHandle, tw_close, tw_device, tw_manifest_hash, tw_open, tw_open_on, tw_verify};
pub use problem::{Gemm, Number, Size, Sizes, TW_BATCH_INVARIANT, TW_FASTEST};
pub use select::{tw_check, tw_check_gemm, tw_select, tw_select_gemm};
pub use status::{
    TW_ABI, TW_FAILED, TW_INVALID, TW_NO_DRIVER, TW_OK, TW_UNFIT, tw_check_abi, tw_last_error, tw_status_text, tw_version,
};
