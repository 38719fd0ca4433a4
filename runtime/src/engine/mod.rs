//! Preparing a plan for a shape and launching it on a device.
//!
//! [`Engine::prepare`] does all that may allocate: it loads kernels, evaluates every expression, allocates workspaces.
//! [`Engine::reshape`] then prepares the same plan for another shape, and [`Engine::launch`] writes the caller's addresses into
//! the arguments and launches. Neither allocates, waits or touches another stream, so they are fit for a server's step; a
//! launch may be captured into a CUDA graph.
//!
//! An engine is shared by threads; each thread has launchables of its own. Several devices are several engines.
//!
//! | file | holds |
//! |---|---|
//! | `recipe` | what is done once a plan: names found, expressions compiled |
//! | `launchable` | what is done for every shape: sizes, arguments, places |
//! | `place` | workspaces that are never needed at the same time share memory |
//! | `once` | kernels and recipes made by the first thread that wants them |
//! | `error` | what can go wrong |

mod error;
mod launchable;
mod once;
mod place;
mod recipe;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::compat::Code;
use crate::device::{Device, KernelImage, Stream};
use crate::dispatch::{ClassId, PlanIndex, Policy, SelectError};
use crate::expr::{Scope, Vars};
use crate::pack::{Pack, PackError};
use crate::plan::Plan;
use launchable::Memory;
use once::Once;
use recipe::Recipe;

pub use error::EngineError;
pub use launchable::{Launchable, TensorInfo};

/// A pack on a device. Shared by threads where the device is.
pub struct Engine<D: Device> {
    /// Its own in the process.
    id: u64,
    pack: Pack,
    device: D,
    code: Code,
    /// By position in the manifest; loaded when first prepared.
    kernels: Vec<Once<Arc<D::Kernel>>>,
    /// By position in the manifest; made when first prepared.
    recipes: Vec<Once<Arc<Recipe>>>,
}

/// A problem: its sizes, and the numbers its kernels take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Problem<'a> {
    /// Sizes by variable; `sms` is set by the engine.
    pub vars: Vars,
    /// Scalars by name. One that no kernel of the plan takes is an error, since it would be ignored.
    pub scalars: &'a [(&'a str, f32)],
}

impl<D: Device> Engine<D> {
    /// Joins a pack and a device; refused when neither the pack's machine code nor its PTX runs there.
    pub fn new(pack: Pack, device: D) -> Result<Self, PackError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let code = pack.check_device(device.capability(), device.driver(), device.wants())?;
        let kernels = pack.manifest().kernels.iter().map(|_| Once::new()).collect();
        let recipes = pack.manifest().plans.iter().map(|_| Once::new()).collect();
        Ok(Engine { id: NEXT.fetch_add(1, Ordering::Relaxed), pack, device, code, kernels, recipes })
    }

    /// The pack.
    pub fn pack(&self) -> &Pack {
        &self.pack
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// What kernels are loaded as: the pack's machine code, or PTX where that does not run here.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Loads every kernel of the pack now, where otherwise each is loaded when a plan first needs it; how many there are.
    pub fn load_all(&self) -> Result<usize, EngineError> {
        let count = self.kernels.len();
        (0..count).try_for_each(|at| self.load(at).map(drop))?;
        Ok(count)
    }

    /// The plan for a problem on this device. Allocates nothing on success.
    pub fn select(&self, op: &str, class: &str, vars: &Vars, policy: Policy<'_>) -> Result<PlanIndex, EngineError> {
        let unknown = || SelectError::UnknownClass { op: op.to_owned(), class: class.to_owned() };
        self.select_in(self.pack.dispatcher().class(op, class).ok_or_else(unknown)?, vars, policy)
    }

    /// As [`Engine::select`], in a class that [`crate::dispatch::Dispatcher::class`] found before.
    pub fn select_in(&self, class: ClassId, vars: &Vars, policy: Policy<'_>) -> Result<PlanIndex, EngineError> {
        Ok(self.pack.dispatcher().choose(class, self.scope(vars), policy)?)
    }

    /// Whether a plan is correct for a problem on this device; the error names the condition that does not hold.
    pub fn check(&self, plan: PlanIndex, vars: &Vars) -> Result<(), EngineError> {
        self.plan(plan)?;
        Ok(self.pack.dispatcher().check_in(plan, self.scope(vars))?)
    }

    /// Names of the scalars that a plan's kernels take, in order of first use.
    pub fn scalars(&self, plan: PlanIndex) -> Result<Vec<&str>, EngineError> {
        Ok(self.recipe(plan)?.scalars.iter().map(String::as_str).collect())
    }

    /// Readies a plan for a problem: kernels loaded, arguments made, workspaces allocated.
    pub fn prepare(&self, index: PlanIndex, problem: &Problem<'_>) -> Result<Launchable<D>, EngineError> {
        let plan = self.plan(index)?;
        let recipe = self.recipe(index)?;
        let mut ready = Launchable::new(index, self.id, Arc::clone(recipe), plan);
        // Before anything is loaded: a problem that does not fit costs no kernel.
        self.measure(&mut ready, problem)?;
        for launch in &recipe.launches {
            ready.add_step(launch, self.load(launch.kernel)?);
        }
        self.arrange(&mut ready, problem, Memory::Grow)?;
        Ok(ready)
    }

    /// Readies a prepared plan for another problem. Allocates nothing on success, so its workspaces must be as large as any
    /// earlier problem's: prepare it for the largest one first, or see [`Engine::grow`].
    ///
    /// What was launched before is not affected: a launch has its own copy of the arguments.
    ///
    /// # Errors
    /// Those of [`Engine::prepare`] and [`EngineError::Workspace`]. After one it cannot be launched until it is reshaped again.
    pub fn reshape(&self, ready: &mut Launchable<D>, problem: &Problem<'_>) -> Result<(), EngineError> {
        self.fill(ready, problem, Memory::Keep)
    }

    /// As [`Engine::reshape`], with larger workspaces where the problem needs them. The old ones are freed, so nothing that was
    /// launched with them may be under way, nor may a graph that captured them be replayed.
    pub fn grow(&self, ready: &mut Launchable<D>, problem: &Problem<'_>) -> Result<(), EngineError> {
        self.fill(ready, problem, Memory::Grow)
    }

    /// Launches a prepared plan on the caller's tensors, given in the order of [`Launchable::tensors`].
    ///
    /// Returns when everything is queued on `stream`. Allocates nothing on success.
    pub fn launch(&self, ready: &mut Launchable<D>, addresses: &[u64], stream: Stream) -> Result<(), EngineError> {
        self.own(ready)?;
        let plan = || self.pack.manifest().plans[ready.plan.0 as usize].id.clone();
        if !ready.ready {
            return Err(EngineError::NotReady { plan: plan() });
        }
        if let Some(own) = ready.stream.filter(|own| *own != stream) {
            return Err(EngineError::OtherStream { plan: plan(), own: own.0, found: stream.0 });
        }
        ready.bind(&self.device, self.pack.manifest(), addresses)?;
        for step in &ready.steps {
            if let Some(geometry) = &step.geometry {
                self.device.launch(&step.kernel, geometry, &step.args, stream)?;
            }
        }
        Ok(())
    }

    fn fill(&self, ready: &mut Launchable<D>, problem: &Problem<'_>, memory: Memory) -> Result<(), EngineError> {
        self.own(ready)?;
        self.measure(ready, problem)?;
        self.arrange(ready, problem, memory)
    }

    fn measure(&self, ready: &mut Launchable<D>, problem: &Problem<'_>) -> Result<(), EngineError> {
        let (index, scope) = (ready.plan, self.scope(&problem.vars));
        let check = || Ok(self.pack.dispatcher().check_in(index, scope)?);
        ready.measure(&self.pack.manifest().plans[index.0 as usize], scope, problem.scalars, check)
    }

    fn arrange(&self, ready: &mut Launchable<D>, problem: &Problem<'_>, memory: Memory) -> Result<(), EngineError> {
        ready.arrange(&self.device, self.pack.manifest(), self.scope(&problem.vars), memory)
    }

    fn own(&self, ready: &Launchable<D>) -> Result<(), EngineError> {
        if ready.engine == self.id {
            return Ok(());
        }
        Err(EngineError::OtherEngine { plan: ready.plan })
    }

    fn plan(&self, index: PlanIndex) -> Result<&Plan, EngineError> {
        let plans = &self.pack.manifest().plans;
        plans.get(index.0 as usize).ok_or(EngineError::NoSuchPlan { index: index.0, count: plans.len() })
    }

    fn recipe(&self, index: PlanIndex) -> Result<&Arc<Recipe>, EngineError> {
        let plan = self.plan(index)?;
        self.recipes[index.0 as usize].get_or_try(|| Ok(Arc::new(Recipe::new(self.pack.manifest(), plan)?)))
    }

    fn scope<'a>(&self, vars: &'a Vars) -> Scope<'a> {
        Scope { vars, sms: Some(i64::from(self.device.sm_count())) }
    }

    fn load(&self, at: usize) -> Result<Arc<D::Kernel>, EngineError> {
        let kernel = &self.pack.manifest().kernels[at];
        let loaded = self.kernels[at].get_or_try(|| {
            let (kind, bytes) = self.pack.image(kernel, self.code.kind())?;
            Ok::<_, EngineError>(Arc::new(self.device.load_kernel(&KernelImage { kernel, kind, bytes: &bytes })?))
        });
        loaded.map(Arc::clone)
    }
}
