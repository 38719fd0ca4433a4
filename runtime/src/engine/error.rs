//! What can go wrong with a plan on a device.

use crate::device::DeviceError;
use crate::dispatch::{PlanIndex, SelectError};
use crate::expr::{EvalError, TooManyVars};
use crate::pack::PackError;
use crate::plan::PlanError;
use crate::tensor_map::TensorMapError;

/// Why a plan cannot be prepared or launched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each field is
pub enum EngineError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error(transparent)]
    Eval(#[from] EvalError),
    #[error(transparent)]
    TooManyVars(#[from] TooManyVars),
    #[error("no plan {index}: the pack has {count}")]
    NoSuchPlan { index: u32, count: usize },
    #[error("plan `{plan}`: extent {extent} of dim {dim} of tensor `{tensor}` is negative or too large")]
    Extent { plan: String, tensor: String, dim: usize, extent: i64 },
    #[error("kernel `{kernel}`: parameter `{param}` is {value}, which does not fit 32 bits")]
    ParamRange { kernel: String, param: String, value: i64 },
    #[error("kernel `{kernel}`: grid {grid:?} must be 0..=2147483647 x 0..=65535 x 0..=65535")]
    GridRange { kernel: String, grid: [i64; 3] },
    #[error("kernel `{kernel}`: grid {grid:?} is no multiple of the cluster {cluster:?}")]
    GridCluster { kernel: String, grid: [i64; 3], cluster: [u32; 3] },
    #[error("kernel `{kernel}`: tensor map `{param}`: {error}")]
    TensorMap { kernel: String, param: String, error: TensorMapError },
    #[error("plan `{plan}` needs scalar `{scalar}`")]
    MissingScalar { plan: String, scalar: String },
    #[error("plan `{plan}` takes no scalar `{scalar}`, so it would be ignored: use a plan that does")]
    UnusedScalar { plan: String, scalar: String },
    #[error("plan `{plan}` takes {expected} tensors and {found} were given")]
    TensorCount { plan: String, expected: usize, found: usize },
    #[error("plan `{plan}` needs {needed} bytes of workspace, and there are {found}: prepare its largest problem first")]
    Workspace { plan: String, needed: u64, found: u64 },
    #[error("plan `{plan}`: its workspaces are beyond 64 bits")]
    WorkspaceRange { plan: String },
    #[error("plan `{plan}` is ready for no problem, since its last one was refused: reshape it again")]
    NotReady { plan: String },
    #[error("plan {} was prepared by another engine: launch it there", plan.0)]
    OtherEngine { plan: PlanIndex },
    #[error("plan `{plan}` keeps to stream {own:#x} and was launched on {found:#x}: prepare another for that stream")]
    OtherStream { plan: String, own: usize, found: usize },
    #[error("tensor `{tensor}` has address {address:#x}, which must not be null and be a multiple of {alignment}")]
    Address { tensor: String, address: u64, alignment: u64 },
}
