//! From Tile IR to Lane IR. [`lower`] lists the passes in order; each is one function in a file of its name.

mod barriers;
mod expand;
mod fences;
mod pipeline;
pub mod protocol;
mod resources;
mod simplify;
mod smem;
mod wgmma;

pub use barriers::derive_barriers;
pub use expand::{ParamDesc, TensorMapDesc, Touch, expand};
pub use fences::insert_proxy_fences;
pub use pipeline::{Lowered, PassError, lower, prepare};
pub use protocol::{ProtocolError, check_protocol};
pub use resources::{Estimate, ResourceError, estimate_resources};
pub use simplify::simplify;
pub use smem::plan_smem;
pub use wgmma::check_wgmma;
