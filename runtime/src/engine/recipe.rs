//! A plan made ready for any shape: what needs doing once a plan, however often it is prepared.
//!
//! Names are positions here, and every expression of the plan and its kernels is a value of one program.

use std::collections::HashMap;

use super::error::EngineError;
use super::place::Lifetime;
use crate::device::TensorMapDesc;
use crate::dispatch;
use crate::expr::{Expr, Program, ProgramBuilder, Scope, ValueId, Values, VarId};
use crate::manifest::{Kernel, Manifest, ParamKind};
use crate::plan::{Plan, Role};
use crate::tensor_map;

/// The most bytes one thread moves at once (cp.async and vectors of 4 words), on whose multiples a tensor must start.
const WIDEST_ACCESS_BYTES: u64 = 16;

/// A plan with everything found and compiled.
pub(super) struct Recipe {
    pub(super) program: Program,
    /// Conditions of the plan and of its kernels.
    pub(super) requires: Vec<ValueId>,
    /// The caller's tensors, in order.
    pub(super) tensors: Vec<Tensor>,
    pub(super) workspaces: Vec<Tensor>,
    /// By workspace.
    pub(super) lives: Vec<Lifetime>,
    /// Names of the scalars the kernels take, in order of first use.
    pub(super) scalars: Vec<String>,
    pub(super) launches: Vec<LaunchRecipe>,
}

/// A tensor of the plan.
pub(super) struct Tensor {
    /// Position in the plan.
    pub(super) at: usize,
    pub(super) name: String,
    pub(super) extents: Vec<ValueId>,
    /// What its address must be a multiple of.
    pub(super) alignment: u64,
}

/// A launch of the plan.
pub(super) struct LaunchRecipe {
    /// Position in the manifest.
    pub(super) kernel: usize,
    pub(super) grid: [ValueId; 3],
    pub(super) args: Vec<ArgRecipe>,
}

/// A parameter's value.
pub(super) enum ArgRecipe {
    Ptr(Home),
    I32(ValueId),
    I64(ValueId),
    /// Position of the scalar.
    F32(usize),
    Map {
        home: Home,
        desc: TensorMapDesc,
        dims: Vec<ValueId>,
        strides: Vec<ValueId>,
    },
}

/// Where a plan's tensor lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// With the caller: position in [`Recipe::tensors`].
    Caller(usize),
    /// In device memory of the launchable: position in [`Recipe::workspaces`].
    Workspace(usize),
}

impl Recipe {
    pub(super) fn new(manifest: &Manifest, plan: &Plan) -> Result<Self, EngineError> {
        let kernels: HashMap<&str, usize> = manifest.kernels.iter().enumerate().map(|(at, k)| (k.id.as_str(), at)).collect();
        let uses = plan.uses(|id| kernels.get(id).map(|&at| &manifest.kernels[at]))?;
        let mut builder = ProgramBuilder::default();
        let mut requires: Vec<ValueId> = plan.requires.iter().map(|expr| builder.add(expr, &[])).collect();

        let (mut tensors, mut workspaces, mut homes) = (Vec::new(), Vec::new(), Vec::new());
        for (at, tensor) in plan.tensors.iter().enumerate() {
            let extents = tensor.shape.iter().map(|expr| builder.add(expr, &[])).collect();
            let info = Tensor { at, name: tensor.name.clone(), extents, alignment: WIDEST_ACCESS_BYTES };
            let (list, home): (_, fn(usize) -> Home) = match tensor.role {
                Role::Input | Role::Output => (&mut tensors, Home::Caller),
                Role::Workspace => (&mut workspaces, Home::Workspace),
            };
            homes.push(home(list.len()));
            list.push(info);
        }

        let mut lives: Vec<Option<Lifetime>> = vec![None; workspaces.len()];
        let mut scalars: Vec<String> = Vec::new();
        let mut launches = Vec::with_capacity(plan.launches.len());
        for ((at, launch), touched) in plan.launches.iter().enumerate().zip(&uses) {
            for &(tensor, _) in touched {
                if let Home::Workspace(room) = homes[tensor] {
                    let first = lives[room].map_or(at as u32, |life| life.first);
                    lives[room] = Some(Lifetime { first, last: at as u32 });
                }
            }
            // `uses` found the kernel.
            let Some(&at) = kernels.get(launch.kernel.as_str()) else { continue };
            let kernel = &manifest.kernels[at];
            let sets: Vec<(VarId, ValueId)> =
                dispatch::sets(launch).iter().map(|(id, expr)| (*id, builder.add(expr, &[]))).collect();
            requires.extend(kernel.requires.iter().map(|expr| builder.add(expr, &sets)));
            let grid = [0, 1, 2].map(|axis: usize| builder.add(&kernel.launch.grid[axis], &sets));
            // `uses` has the kernel's tensors in the order of its parameters.
            let mut touched = touched.iter().map(|&(tensor, _)| homes[tensor]);
            let mut args = Vec::with_capacity(kernel.params.len());
            for param in &kernel.params {
                let home = param.kind.tensor().and_then(|_| touched.next()).unwrap_or(Home::Caller(0));
                let arg = argument(&param.kind, home, &mut builder, &sets, &mut scalars);
                if let (ArgRecipe::Map { desc, .. }, Home::Caller(tensor)) = (&arg, home) {
                    let alignment = &mut tensors[tensor].alignment;
                    *alignment = tensor_map::address_unit(desc.interleave).max(*alignment);
                }
                args.push(arg);
            }
            launches.push(LaunchRecipe { kernel: at, grid, args });
        }
        requires.sort_unstable();
        requires.dedup();
        // The manifest's checks refuse a workspace that no launch touches; it would be needed by none.
        let lives = lives.into_iter().map(|life| life.unwrap_or(Lifetime { first: 0, last: 0 })).collect();
        Ok(Recipe { program: builder.finish(), requires, tensors, workspaces, lives, scalars, launches })
    }

    /// The value of a launch's expression; its own error where it has none.
    pub(super) fn value(
        values: &Values,
        id: ValueId,
        expr: &Expr,
        plan: &Plan,
        launch: usize,
        scope: Scope<'_>,
    ) -> Result<i64, EngineError> {
        match values.get(id) {
            Some(value) => Ok(value),
            None => Self::explain(expr, plan, launch, scope),
        }
    }

    #[cold]
    fn explain(expr: &Expr, plan: &Plan, launch: usize, scope: Scope<'_>) -> Result<i64, EngineError> {
        Ok(expr.eval(&dispatch::scope(&scope.all()?, &dispatch::sets(&plan.launches[launch]))?)?)
    }
}

fn argument(
    kind: &ParamKind,
    home: Home,
    builder: &mut ProgramBuilder,
    sets: &[(VarId, ValueId)],
    scalars: &mut Vec<String>,
) -> ArgRecipe {
    match kind {
        ParamKind::Ptr { .. } => ArgRecipe::Ptr(home),
        ParamKind::I32 { value } => ArgRecipe::I32(builder.add(value, sets)),
        ParamKind::I64 { value } => ArgRecipe::I64(builder.add(value, sets)),
        ParamKind::F32 { scalar } => {
            let known = scalars.iter().position(|name| name == scalar);
            ArgRecipe::F32(known.unwrap_or_else(|| {
                scalars.push(scalar.clone());
                scalars.len() - 1
            }))
        }
        ParamKind::TensorMap(spec) => ArgRecipe::Map {
            home,
            desc: tensor_map::template(spec),
            dims: spec.dims.iter().map(|expr| builder.add(expr, sets)).collect(),
            strides: spec.strides.iter().map(|expr| builder.add(expr, sets)).collect(),
        },
    }
}

/// The kernel of a launch, which the recipe found.
pub(super) fn kernel_of<'m>(manifest: &'m Manifest, launch: &LaunchRecipe) -> &'m Kernel {
    &manifest.kernels[launch.kernel]
}
