//! Preparing a plan for a shape and launching it on a device.
//!
//! [`Engine::prepare`] does all that may allocate: it loads kernels, evaluates every expression, allocates workspaces.
//! [`Engine::launch`] then writes the caller's addresses into the arguments and launches; it allocates nothing, so it is
//! fit for a server's step and for capture into a CUDA graph.

use std::sync::{Arc, Mutex, PoisonError};

use crate::compat::Code;
use crate::device::{ArgValue, Device, DeviceError, EncodedTensorMap, Geometry, KernelImage, Stream, TensorMapArg};
use crate::dispatch::{self, PlanIndex, Policy, SelectError};
use crate::dtype::Dtype;
use crate::expr::{EvalError, Expr, TooManyVars, VarId, Vars};
use crate::manifest::{Kernel, Launch, ParamKind};
use crate::pack::{Pack, PackError};
use crate::plan::{Plan, PlanLaunch, Role};
use crate::tensor_map::{self, TensorMapError};

/// A pack on a device.
pub struct Engine<D: Device> {
    pack: Pack,
    device: D,
    code: Code,
    /// By position in the manifest; loaded when first prepared.
    kernels: Mutex<Vec<Option<Arc<D::Kernel>>>>,
}

/// A problem: its sizes, and the numbers its kernels take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Problem<'a> {
    /// Sizes by variable; `sms` is set by the engine.
    pub vars: Vars,
    /// Scalars by name. One that no kernel of the plan takes is an error, since it would be ignored.
    pub scalars: &'a [(&'a str, f32)],
}

/// A plan prepared for a shape. Owns its workspaces, so one must not run on two streams at once: prepare another.
pub struct Launchable<D: Device> {
    plan: PlanIndex,
    tensors: Vec<TensorInfo>,
    steps: Vec<Step<D::Kernel>>,
    /// Arguments that hold the address of a caller's tensor.
    patches: Vec<Patch>,
    /// Addresses the arguments hold now, by caller's tensor; 0 before the first launch.
    bound: Vec<u64>,
    workspaces: Vec<D::Buffer>,
    workspace_bytes: u64,
}

/// A tensor that the caller gives to a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the plan.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Input or output.
    pub role: Role,
    /// Extents in elements, outermost first.
    pub shape: Vec<u64>,
    /// Size in memory.
    pub bytes: u64,
    /// What its address must be a multiple of.
    pub alignment: u64,
}

struct Step<K> {
    kernel: Arc<K>,
    geometry: Geometry,
    args: Vec<ArgValue>,
}

struct Patch {
    tensor: usize,
    step: usize,
    arg: usize,
}

/// Why a plan cannot be prepared or launched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each field is
pub enum EngineError {
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
    #[error("tensor `{tensor}` has address {address:#x}, which must not be null and be a multiple of {alignment}")]
    Address { tensor: String, address: u64, alignment: u64 },
}

impl<D: Device> Engine<D> {
    /// Joins a pack and a device; refused when neither the pack's machine code nor its PTX runs there.
    pub fn new(pack: Pack, device: D) -> Result<Self, PackError> {
        let code = pack.check_device(device.capability(), device.driver(), device.wants())?;
        let kernels = pack.manifest().kernels.iter().map(|_| None).collect();
        Ok(Engine { pack, device, code, kernels: Mutex::new(kernels) })
    }

    /// What kernels are loaded as: the pack's machine code, or PTX where that does not run here.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Loads every kernel of the pack now, where otherwise each is loaded when a plan first needs it; how many there are.
    pub fn load_all(&self) -> Result<usize, EngineError> {
        let count = self.pack.manifest().kernels.len();
        for at in 0..count {
            self.load(at)?;
        }
        Ok(count)
    }

    /// The pack.
    pub fn pack(&self) -> &Pack {
        &self.pack
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The plan for a problem on this device. Allocates nothing on success.
    pub fn select(&self, op: &str, class: &str, vars: &Vars, policy: Policy<'_>) -> Result<PlanIndex, EngineError> {
        Ok(self.pack.dispatcher().select(op, class, &self.with_sms(vars)?, policy)?)
    }

    /// Whether a plan is correct for a problem on this device; the error names the condition that does not hold.
    pub fn check(&self, plan: PlanIndex, vars: &Vars) -> Result<(), EngineError> {
        self.plan(plan)?;
        Ok(self.pack.dispatcher().check(plan, &self.with_sms(vars)?)?)
    }

    /// Names of the scalars that a plan's kernels take, in order of first use.
    pub fn scalars(&self, plan: PlanIndex) -> Result<Vec<&str>, EngineError> {
        let mut names = Vec::new();
        for (_, kernel) in self.launches(self.plan(plan)?) {
            for param in &self.pack.manifest().kernels[kernel].params {
                if let ParamKind::F32 { scalar } = &param.kind
                    && !names.contains(&scalar.as_str())
                {
                    names.push(scalar);
                }
            }
        }
        Ok(names)
    }

    /// Readies a plan for a problem: kernels loaded, arguments made, workspaces allocated.
    pub fn prepare(&self, index: PlanIndex, problem: &Problem<'_>) -> Result<Launchable<D>, EngineError> {
        let plan = self.plan(index)?;
        let vars = self.with_sms(&problem.vars)?;
        self.pack.dispatcher().check(index, &vars)?;
        let scalars = self.scalars(index)?;
        if let Some((scalar, _)) = problem.scalars.iter().find(|(name, _)| !scalars.contains(name)) {
            return Err(EngineError::UnusedScalar { plan: plan.id.clone(), scalar: (*scalar).to_owned() });
        }

        let mut ready = Launchable {
            plan: index,
            tensors: Vec::new(),
            steps: Vec::new(),
            patches: Vec::new(),
            bound: Vec::new(),
            workspaces: Vec::new(),
            workspace_bytes: 0,
        };
        let mut homes = Vec::new();
        for at in 0..plan.tensors.len() {
            let info = tensor_info(plan, at, &vars)?;
            homes.push(match info.role {
                Role::Input | Role::Output => {
                    ready.tensors.push(info);
                    ready.bound.push(0);
                    Home::Caller(ready.tensors.len() - 1)
                }
                Role::Workspace => {
                    // A problem may need none of it; the address must still be one.
                    let buffer = self.device.alloc(info.bytes.max(1))?;
                    self.device.name(&buffer, &info.name);
                    let address = self.device.address(&buffer);
                    ready.workspaces.push(buffer);
                    ready.workspace_bytes += info.bytes;
                    Home::Workspace(address)
                }
            });
        }
        for (launch, kernel) in self.launches(plan) {
            self.add_step(&mut ready, plan, launch, kernel, &homes, &vars, problem.scalars)?;
        }
        Ok(ready)
    }

    /// Launches a prepared plan on the caller's tensors, given in the order of [`Launchable::tensors`].
    ///
    /// Returns when everything is queued on `stream`. Allocates nothing on success.
    pub fn launch(&self, ready: &mut Launchable<D>, addresses: &[u64], stream: Stream) -> Result<(), EngineError> {
        ready.bind(&self.device, &self.pack, addresses)?;
        for step in &ready.steps {
            self.device.launch(&step.kernel, &step.geometry, &step.args, stream)?;
        }
        Ok(())
    }

    fn plan(&self, index: PlanIndex) -> Result<&Plan, EngineError> {
        let plans = &self.pack.manifest().plans;
        plans.get(index.0 as usize).ok_or(EngineError::NoSuchPlan { index: index.0, count: plans.len() })
    }

    fn with_sms(&self, vars: &Vars) -> Result<Vars, TooManyVars> {
        let mut vars = *vars;
        vars.set(VarId::SMS, i64::from(self.device.sm_count()))?;
        Ok(vars)
    }

    /// A plan's launches and the positions of their kernels; the manifest's checks found every kernel.
    fn launches<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = (&'a PlanLaunch, usize)> {
        plan.launches.iter().filter_map(|launch| Some((launch, self.pack.manifest().kernel(&launch.kernel)?)))
    }

    fn add_step(
        &self,
        ready: &mut Launchable<D>,
        plan: &Plan,
        launch: &PlanLaunch,
        at: usize,
        homes: &[Home],
        vars: &Vars,
        scalars: &[(&str, f32)],
    ) -> Result<(), EngineError> {
        let kernel = &self.pack.manifest().kernels[at];
        let scope = dispatch::scope(vars, &dispatch::sets(launch))?;
        let Some(geometry) = geometry(&kernel.id, &kernel.launch, &scope)? else { return Ok(()) };
        let mut args = Vec::with_capacity(kernel.params.len());
        for param in &kernel.params {
            let mut value = argument(plan, kernel, &param.name, &param.kind, &scope, scalars)?;
            // The manifest's checks found every bind; a parameter without a tensor has no home.
            let home = param.kind.tensor().and_then(|(name, _)| plan.tensor(launch.binds.get(name)?)).map(|t| homes[t]);
            match home {
                Some(Home::Caller(tensor)) => {
                    ready.patches.push(Patch { tensor, step: ready.steps.len(), arg: args.len() });
                    let alignment = &mut ready.tensors[tensor].alignment;
                    *alignment = value.alignment().max(*alignment);
                }
                Some(Home::Workspace(address)) => value.rebase(&self.device, address)?,
                None => {}
            }
            args.push(value);
        }
        ready.steps.push(Step { kernel: self.load(at)?, geometry, args });
        Ok(())
    }

    fn load(&self, at: usize) -> Result<Arc<D::Kernel>, EngineError> {
        let mut kernels = self.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = &kernels[at] {
            return Ok(Arc::clone(kernel));
        }
        let kernel = &self.pack.manifest().kernels[at];
        let (kind, bytes) = self.pack.image(kernel, self.code.kind())?;
        let loaded = Arc::new(self.device.load_kernel(&KernelImage { kernel, kind, bytes: &bytes })?);
        kernels[at] = Some(Arc::clone(&loaded));
        Ok(loaded)
    }
}

impl<D: Device> Launchable<D> {
    /// The plan it came from.
    pub fn plan(&self) -> PlanIndex {
        self.plan
    }

    /// What [`Engine::launch`] must be given, in order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Device memory it holds.
    pub fn workspace_bytes(&self) -> u64 {
        self.workspace_bytes
    }

    /// Sizes of its launches, in order. A launch whose grid is empty for the problem is left out.
    pub fn geometries(&self) -> impl Iterator<Item = &Geometry> {
        self.steps.iter().map(|step| &step.geometry)
    }

    fn bind(&mut self, device: &D, pack: &Pack, addresses: &[u64]) -> Result<(), EngineError> {
        if addresses.len() != self.tensors.len() {
            return Err(EngineError::TensorCount {
                plan: pack.manifest().plans[self.plan.0 as usize].id.clone(),
                expected: self.tensors.len(),
                found: addresses.len(),
            });
        }
        for (info, &address) in self.tensors.iter().zip(addresses) {
            if address % info.alignment != 0 || (address == 0 && info.bytes != 0) {
                return Err(EngineError::Address { tensor: info.name.clone(), address, alignment: info.alignment });
            }
        }
        for patch in &self.patches {
            let address = addresses[patch.tensor];
            if address != self.bound[patch.tensor] {
                self.steps[patch.step].args[patch.arg].rebase(device, address)?;
            }
        }
        // Only now: after a failed rebase the next launch writes every address again.
        self.bound.copy_from_slice(addresses);
        Ok(())
    }
}

/// Where a plan tensor lives.
#[derive(Clone, Copy)]
enum Home {
    /// With the caller: position in [`Launchable::tensors`].
    Caller(usize),
    /// In device memory of the launchable.
    Workspace(u64),
}

impl ArgValue {
    /// What the address in it must be a multiple of.
    fn alignment(&self) -> u64 {
        match self {
            ArgValue::TensorMap(map) => tensor_map::address_unit(map.desc.interleave),
            _ => 1,
        }
    }

    fn rebase<D: Device>(&mut self, device: &D, address: u64) -> Result<(), DeviceError> {
        match self {
            ArgValue::Ptr(pointer) => *pointer = address,
            ArgValue::TensorMap(map) => device.rebase_tensor_map(map, address)?,
            ArgValue::I32(_) | ArgValue::I64(_) | ArgValue::F32(_) => {}
        }
        Ok(())
    }
}

fn tensor_info(plan: &Plan, at: usize, vars: &Vars) -> Result<TensorInfo, EngineError> {
    let tensor = &plan.tensors[at];
    let mut shape = Vec::with_capacity(tensor.shape.len());
    let mut bytes = tensor.dtype.bytes();
    for (dim, expr) in tensor.shape.iter().enumerate() {
        let extent = expr.eval(vars)?;
        let refused = || EngineError::Extent { plan: plan.id.clone(), tensor: tensor.name.clone(), dim, extent };
        shape.push(u64::try_from(extent).map_err(|_| refused())?);
        // Sizes stay in i64's range, as the kernels' own index arithmetic does.
        bytes = bytes.checked_mul(extent as u64).filter(|&all| i64::try_from(all).is_ok()).ok_or_else(refused)?;
    }
    Ok(TensorInfo { name: tensor.name.clone(), dtype: tensor.dtype, role: tensor.role, shape, bytes, alignment: 1 })
}

/// None when the grid is empty: there is nothing to do for this problem.
fn geometry(kernel: &str, launch: &Launch, scope: &Vars) -> Result<Option<Geometry>, EngineError> {
    let eval = |expr: &Expr| expr.eval(scope);
    let grid = [eval(&launch.grid[0])?, eval(&launch.grid[1])?, eval(&launch.grid[2])?];
    let most = [i64::from(i32::MAX), 65535, 65535];
    if grid.iter().zip(most).any(|(&size, most)| !(0..=most).contains(&size)) {
        return Err(EngineError::GridRange { kernel: kernel.to_owned(), grid });
    }
    if grid.contains(&0) {
        return Ok(None);
    }
    if grid.iter().zip(launch.cluster).any(|(&size, cluster)| size % i64::from(cluster) != 0) {
        return Err(EngineError::GridCluster { kernel: kernel.to_owned(), grid, cluster: launch.cluster });
    }
    Ok(Some(Geometry {
        grid: grid.map(|size| size as u32),
        block: launch.block,
        cluster: launch.cluster,
        shared_bytes: launch.shared_bytes,
    }))
}

/// A parameter's value, addresses left 0.
fn argument(
    plan: &Plan,
    kernel: &Kernel,
    param: &str,
    kind: &ParamKind,
    scope: &Vars,
    scalars: &[(&str, f32)],
) -> Result<ArgValue, EngineError> {
    let (kernel, param) = (|| kernel.id.clone(), || param.to_owned());
    Ok(match kind {
        ParamKind::Ptr { .. } => ArgValue::Ptr(0),
        ParamKind::I64 { value } => ArgValue::I64(value.eval(scope)?),
        ParamKind::I32 { value } => {
            let value = value.eval(scope)?;
            let refused = |_| EngineError::ParamRange { kernel: kernel(), param: param(), value };
            ArgValue::I32(i32::try_from(value).map_err(refused)?)
        }
        ParamKind::F32 { scalar } => {
            let given = scalars.iter().find(|(name, _)| name == scalar);
            let missing = || EngineError::MissingScalar { plan: plan.id.clone(), scalar: scalar.clone() };
            ArgValue::F32(given.ok_or_else(missing)?.1)
        }
        ParamKind::TensorMap(spec) => {
            let refused = |error| EngineError::TensorMap { kernel: kernel(), param: param(), error };
            let desc = tensor_map::resolve(spec, scope).map_err(refused)?;
            ArgValue::TensorMap(Box::new(TensorMapArg { desc, encoded: EncodedTensorMap::default() }))
        }
    })
}
