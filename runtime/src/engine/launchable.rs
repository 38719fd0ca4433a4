//! A plan prepared for a shape.

use std::sync::Arc;

use super::error::EngineError;
use super::place::Placer;
use super::recipe::{ArgRecipe, Home, LaunchRecipe, Recipe, kernel_of};
use crate::device::{ArgValue, Device, DeviceError, EncodedTensorMap, Geometry, Stream, TensorMapArg, Workspaces};
use crate::dispatch::PlanIndex;
use crate::dtype::Dtype;
use crate::expr::{Expr, Scope, Values};
use crate::manifest::{Kernel, Launch, Manifest, ParamKind};
use crate::plan::{Plan, Role};

/// A plan prepared for a shape. Owns its workspaces, so one must not run on two streams at once: prepare another, and see
/// [`Launchable::keep_to`]. Two threads cannot launch the same one, as launching takes it by `&mut`.
pub struct Launchable<D: Device> {
    pub(super) plan: PlanIndex,
    /// The engine that prepared it.
    pub(super) engine: u64,
    pub(super) recipe: Arc<Recipe>,
    /// Whether its last preparation came to its end.
    pub(super) ready: bool,
    pub(super) stream: Option<Stream>,
    values: Values,
    scalars: Vec<f32>,
    tensors: Vec<TensorInfo>,
    pub(super) steps: Vec<Step<D::Kernel>>,
    /// Addresses that the arguments hold now, by caller's tensor; none where they must be written.
    bound: Vec<Option<u64>>,
    rooms: Rooms<D::Buffer>,
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

pub(super) struct Step<K> {
    pub(super) kernel: Arc<K>,
    /// None where the grid is empty: there is nothing to do for this problem.
    pub(super) geometry: Option<Geometry>,
    pub(super) args: Vec<ArgValue>,
}

/// Whether preparing may allocate device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// Where there is too little.
    Grow,
    /// What there is must do.
    Keep,
}

/// Memory of the workspaces.
struct Rooms<B> {
    sizes: Vec<u64>,
    offsets: Vec<u64>,
    addresses: Vec<u64>,
    placer: Placer,
    /// One for all, or one each.
    buffers: Vec<(B, u64)>,
    bytes: u64,
}

impl<D: Device> Launchable<D> {
    /// The plan it came from.
    pub fn plan(&self) -> PlanIndex {
        self.plan
    }

    /// What [`super::Engine::launch`] must be given, in order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Device memory it holds.
    pub fn workspace_bytes(&self) -> u64 {
        self.rooms.bytes
    }

    /// Sizes of its launches, in order. A launch whose grid is empty for the problem is left out.
    pub fn geometries(&self) -> impl Iterator<Item = &Geometry> {
        self.steps.iter().filter_map(|step| step.geometry.as_ref())
    }

    /// From now on it is launched on `stream` only; on another one it is refused. Which keeps its workspaces from being used
    /// twice at once, as what is queued on one stream runs in order.
    pub fn keep_to(&mut self, stream: Stream) {
        self.stream = Some(stream);
    }

    /// Without sizes and steps yet.
    pub(super) fn new(plan: PlanIndex, engine: u64, recipe: Arc<Recipe>, spec: &Plan) -> Self {
        let info = |tensor: &super::recipe::Tensor| TensorInfo {
            name: tensor.name.clone(),
            dtype: spec.tensors[tensor.at].dtype,
            role: spec.tensors[tensor.at].role,
            shape: vec![0; tensor.extents.len()],
            bytes: 0,
            alignment: tensor.alignment,
        };
        let count = recipe.workspaces.len();
        Launchable {
            plan,
            engine,
            ready: false,
            stream: None,
            values: recipe.program.room(),
            scalars: vec![0.0; recipe.scalars.len()],
            tensors: recipe.tensors.iter().map(info).collect(),
            steps: Vec::with_capacity(recipe.launches.len()),
            bound: vec![None; recipe.tensors.len()],
            rooms: Rooms {
                sizes: vec![0; count],
                offsets: vec![0; count],
                addresses: vec![0; count],
                placer: Placer::default(),
                buffers: Vec::new(),
                bytes: 0,
            },
            recipe,
        }
    }

    pub(super) fn add_step(&mut self, launch: &LaunchRecipe, kernel: Arc<D::Kernel>) {
        self.steps.push(Step { kernel, geometry: None, args: launch.args.iter().map(blank).collect() });
    }

    /// Computes the values of a problem and the sizes of its tensors. `check` says which condition does not hold.
    pub(super) fn measure(
        &mut self,
        plan: &Plan,
        scope: Scope<'_>,
        scalars: &[(&str, f32)],
        check: impl FnOnce() -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        self.ready = false;
        let recipe = &*self.recipe;
        recipe.program.run(scope, &mut self.values);
        if !recipe.requires.iter().all(|&id| self.values.get(id).is_some_and(|value| value != 0)) {
            check()?;
        }
        set_scalars(&mut self.scalars, recipe, plan, scalars)?;
        for (info, tensor) in self.tensors.iter_mut().zip(&recipe.tensors) {
            info.bytes = extents(plan, tensor, &self.values, scope, |dim, extent| info.shape[dim] = extent)?;
        }
        for (size, tensor) in self.rooms.sizes.iter_mut().zip(&recipe.workspaces) {
            *size = extents(plan, tensor, &self.values, scope, |_, _| {})?;
        }
        Ok(())
    }

    /// Finds places for the workspaces and makes the arguments, after [`Launchable::measure`] for the same problem.
    pub(super) fn arrange(
        &mut self,
        device: &D,
        manifest: &Manifest,
        scope: Scope<'_>,
        memory: Memory,
    ) -> Result<(), EngineError> {
        let recipe = Arc::clone(&self.recipe);
        let plan = &manifest.plans[self.plan.0 as usize];
        self.rooms.place(device, plan, &recipe, memory)?;
        for (at, launch) in recipe.launches.iter().enumerate() {
            self.set_step(device, manifest, plan, launch, at, scope)?;
        }
        self.ready = true;
        Ok(())
    }

    /// Writes the caller's addresses into the arguments.
    pub(super) fn bind(&mut self, device: &D, manifest: &Manifest, addresses: &[u64]) -> Result<(), EngineError> {
        if addresses.len() != self.tensors.len() {
            return Err(EngineError::TensorCount {
                plan: manifest.plans[self.plan.0 as usize].id.clone(),
                expected: self.tensors.len(),
                found: addresses.len(),
            });
        }
        for (info, &address) in self.tensors.iter().zip(addresses) {
            if address % info.alignment != 0 || (address == 0 && info.bytes != 0) {
                return Err(EngineError::Address { tensor: info.name.clone(), address, alignment: info.alignment });
            }
        }
        if self.bound.iter().zip(addresses).all(|(bound, address)| *bound == Some(*address)) {
            return Ok(());
        }
        let moved = self.rebase(device, addresses);
        // After a failure some arguments hold the new addresses, so the next launch writes them all.
        for (bound, &address) in self.bound.iter_mut().zip(addresses) {
            *bound = moved.is_ok().then_some(address);
        }
        Ok(moved?)
    }

    /// Moves the arguments that do not hold these addresses yet.
    fn rebase(&mut self, device: &D, addresses: &[u64]) -> Result<(), DeviceError> {
        for (step, launch) in self.steps.iter_mut().zip(&self.recipe.launches) {
            if step.geometry.is_none() {
                continue;
            }
            for (arg, recipe) in step.args.iter_mut().zip(&launch.args) {
                if let ArgRecipe::Ptr(Home::Caller(tensor)) | ArgRecipe::Map { home: Home::Caller(tensor), .. } = *recipe
                    && self.bound[tensor] != Some(addresses[tensor])
                {
                    arg.rebase(device, addresses[tensor])?;
                }
            }
        }
        Ok(())
    }

    fn set_step(
        &mut self,
        device: &D,
        manifest: &Manifest,
        plan: &Plan,
        launch: &LaunchRecipe,
        at: usize,
        scope: Scope<'_>,
    ) -> Result<(), EngineError> {
        let (kernel, values) = (kernel_of(manifest, launch), &self.values);
        let value = |id, expr: &Expr| Recipe::value(values, id, expr, plan, at, scope);
        let [x, y, z] = [0, 1, 2].map(|axis: usize| value(launch.grid[axis], &kernel.launch.grid[axis]));
        let step = &mut self.steps[at];
        let idle = step.geometry.is_none();
        // Empty until all is done: what fails halfway is made whole by the next problem.
        step.geometry = None;
        let Some(geometry) = geometry(&kernel.id, &kernel.launch, [x?, y?, z?])? else { return Ok(()) };
        for ((arg, recipe), param) in step.args.iter_mut().zip(&launch.args).zip(&kernel.params) {
            let mut stale = idle;
            match (&mut *arg, recipe, &param.kind) {
                (ArgValue::I64(number), ArgRecipe::I64(id), ParamKind::I64 { value: expr }) => *number = value(*id, expr)?,
                (ArgValue::I32(number), ArgRecipe::I32(id), ParamKind::I32 { value: expr }) => {
                    let wide = value(*id, expr)?;
                    *number = i32::try_from(wide).map_err(|_| out_of_range(kernel, &param.name, wide))?;
                }
                (ArgValue::F32(number), ArgRecipe::F32(scalar), _) => *number = self.scalars[*scalar],
                (ArgValue::TensorMap(map), ArgRecipe::Map { desc, dims, strides, .. }, ParamKind::TensorMap(spec)) => {
                    let mut new = *desc;
                    let refused = |error| EngineError::TensorMap { kernel: kernel.id.clone(), param: param.name.clone(), error };
                    for (dim, (id, expr)) in dims.iter().zip(&spec.dims).enumerate() {
                        new.set_extent(dim, value(*id, expr)?).map_err(refused)?;
                    }
                    for (dim, (id, expr)) in (1..).zip(strides.iter().zip(&spec.strides)) {
                        new.set_stride(dim, value(*id, expr)?).map_err(refused)?;
                    }
                    new.check_box().map_err(refused)?;
                    new.address = map.desc.address;
                    if new != map.desc {
                        **map = TensorMapArg { desc: new, encoded: EncodedTensorMap::default() };
                        stale = true;
                    }
                }
                _ => {}
            }
            match recipe {
                ArgRecipe::Ptr(home) | ArgRecipe::Map { home, .. } => match *home {
                    Home::Caller(tensor) if stale => self.bound[tensor] = None,
                    Home::Caller(_) => {}
                    Home::Workspace(room) => {
                        let address = self.rooms.addresses[room];
                        if stale || arg.address() != Some(address) {
                            arg.rebase(device, address)?;
                        }
                    }
                },
                ArgRecipe::I32(_) | ArgRecipe::I64(_) | ArgRecipe::F32(_) => {}
            }
        }
        step.geometry = Some(geometry);
        Ok(())
    }
}

impl<B> Rooms<B> {
    /// Finds an address for each workspace.
    fn place<D: Device<Buffer = B>>(
        &mut self,
        device: &D,
        plan: &Plan,
        recipe: &Recipe,
        memory: Memory,
    ) -> Result<(), EngineError> {
        if self.sizes.is_empty() {
            return Ok(());
        }
        let name = |at: usize| &*recipe.workspaces[at].name;
        match device.workspaces() {
            Workspaces::Packed => {
                let range = || EngineError::WorkspaceRange { plan: plan.id.clone() };
                let needed = self.placer.place(&self.sizes, &recipe.lives, &mut self.offsets).ok_or_else(range)?;
                let word = if self.sizes.len() == 1 { name(0) } else { "workspaces" };
                self.hold(device, plan, 0, needed, memory, word)?;
                let base = device.address(&self.buffers[0].0);
                for (address, offset) in self.addresses.iter_mut().zip(&self.offsets) {
                    *address = base + offset;
                }
            }
            Workspaces::Apart => {
                for at in 0..self.sizes.len() {
                    // A problem may need none of it; the address must still be one.
                    self.hold(device, plan, at, self.sizes[at].max(1), memory, name(at))?;
                    self.addresses[at] = device.address(&self.buffers[at].0);
                }
            }
        }
        self.bytes = self.buffers.iter().map(|buffer| buffer.1).sum();
        Ok(())
    }

    /// Sees that buffer `at` has so many bytes.
    fn hold<D: Device<Buffer = B>>(
        &mut self,
        device: &D,
        plan: &Plan,
        at: usize,
        needed: u64,
        memory: Memory,
        name: &str,
    ) -> Result<(), EngineError> {
        let found = self.buffers.get(at).map_or(0, |buffer| buffer.1);
        if needed <= found {
            return Ok(());
        }
        if memory == Memory::Keep {
            return Err(EngineError::Workspace { plan: plan.id.clone(), needed, found });
        }
        let buffer = device.alloc(needed)?;
        device.name(&buffer, name);
        match self.buffers.get_mut(at) {
            Some(old) => *old = (buffer, needed),
            None => self.buffers.push((buffer, needed)),
        }
        Ok(())
    }
}

impl ArgValue {
    fn rebase<D: Device>(&mut self, device: &D, address: u64) -> Result<(), DeviceError> {
        match self {
            ArgValue::Ptr(pointer) => *pointer = address,
            ArgValue::TensorMap(map) => device.rebase_tensor_map(map, address)?,
            ArgValue::I32(_) | ArgValue::I64(_) | ArgValue::F32(_) => {}
        }
        Ok(())
    }

    fn address(&self) -> Option<u64> {
        match self {
            ArgValue::Ptr(address) => Some(*address),
            ArgValue::TensorMap(map) => Some(map.desc.address),
            ArgValue::I32(_) | ArgValue::I64(_) | ArgValue::F32(_) => None,
        }
    }
}

fn blank(arg: &ArgRecipe) -> ArgValue {
    match arg {
        ArgRecipe::Ptr(_) => ArgValue::Ptr(0),
        ArgRecipe::I32(_) => ArgValue::I32(0),
        ArgRecipe::I64(_) => ArgValue::I64(0),
        ArgRecipe::F32(_) => ArgValue::F32(0.0),
        ArgRecipe::Map { desc, .. } => {
            ArgValue::TensorMap(Box::new(TensorMapArg { desc: *desc, encoded: EncodedTensorMap::default() }))
        }
    }
}

/// The numbers the kernels take, from those the caller names.
fn set_scalars(values: &mut [f32], recipe: &Recipe, plan: &Plan, given: &[(&str, f32)]) -> Result<(), EngineError> {
    if let Some((scalar, _)) = given.iter().find(|(name, _)| !recipe.scalars.iter().any(|known| known == name)) {
        return Err(EngineError::UnusedScalar { plan: plan.id.clone(), scalar: (*scalar).to_owned() });
    }
    for (value, name) in values.iter_mut().zip(&recipe.scalars) {
        let found = given.iter().find(|(given, _)| given == name);
        let missing = || EngineError::MissingScalar { plan: plan.id.clone(), scalar: name.clone() };
        *value = found.ok_or_else(missing)?.1;
    }
    Ok(())
}

/// Bytes of a tensor, each extent given to `set`.
fn extents(
    plan: &Plan,
    tensor: &super::recipe::Tensor,
    values: &Values,
    scope: Scope<'_>,
    mut set: impl FnMut(usize, u64),
) -> Result<u64, EngineError> {
    let spec = &plan.tensors[tensor.at];
    let mut bytes = spec.dtype.bytes();
    for (dim, &id) in tensor.extents.iter().enumerate() {
        let extent = match values.get(id) {
            Some(extent) => extent,
            None => spec.shape[dim].eval_in(scope)?,
        };
        let refused = || EngineError::Extent { plan: plan.id.clone(), tensor: spec.name.clone(), dim, extent };
        let size = u64::try_from(extent).map_err(|_| refused())?;
        // Sizes stay in i64's range, as the kernels' own index arithmetic does.
        bytes = bytes.checked_mul(size).filter(|&all| i64::try_from(all).is_ok()).ok_or_else(refused)?;
        set(dim, size);
    }
    Ok(bytes)
}

/// None when the grid is empty.
fn geometry(kernel: &str, launch: &Launch, grid: [i64; 3]) -> Result<Option<Geometry>, EngineError> {
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

#[cold]
fn out_of_range(kernel: &Kernel, param: &str, value: i64) -> EngineError {
    EngineError::ParamRange { kernel: kernel.id.clone(), param: param.to_owned(), value }
}
