//! Plans of `kernel_map` and `sparse_conv`, put together from pieces: status, hash tables, outputs, the map; then the lists that the
//! dataflow walks, the multiplication, what sums still need.
//!
//! Variables: `inputs` rows of input and `m` of output (room for as many), the geometry's, of convolutions channels `k` in and `n` out
//! and `pairs` (room for as many pairs of the map; outputs times taps is always enough). How many rows exist is on the device.

use super::class::{ConvProblemError, map_class, map_slug};
use super::coords::{CoordsError, build_map, downsample, insert_set, status};
use super::core::CoreError;
use super::geometry::Mode;
use super::lists::ListError;
use super::pieces::{CoordSet, MapSet, PlanBuilder};
use super::problem::ConvProblem;
use super::recipe::Recipe;
use super::{copy, multiply};
use crate::manifest::dtype;
use crate::plan::OpPlan;
use tilewright_ir::Arch;
use tilewright_ir::layout::LayoutError;
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::expr::ParseError;
use tilewright_runtime::plan::Role;

/// Why a plan cannot be made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConvError {
    /// The class does not exist.
    #[error(transparent)]
    Problem(#[from] ConvProblemError),
    /// Voxels or maps cannot be made.
    #[error(transparent)]
    Coords(#[from] CoordsError),
    /// Lists cannot be made.
    #[error(transparent)]
    Lists(#[from] ListError),
    /// The multiplication cannot be.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A tile has no layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// An expression of the plan does not parse: a mistake in the template.
    #[error("plan expression: {0}")]
    Expr(#[from] ParseError),
}

/// The element of `status` that tells of a set's rows given twice.
const INPUT: u32 = 0;
const TARGET: u32 = 1;

/// The plan of a kernel map: `coords` I32 `[inputs, 4]` with `count` I32 `[1]`, optional `coords_target` I32 `[m, 4]` with `count_target` I32
/// `[1]` -> `map` I32 `[m, taps]`, `coords_out` I32 `[m, 4]`, `status` I32 `[4]`, and `count_out` I32 `[1]` where outputs are found.
pub fn map_plan(arch: Arch, mode: Mode, target: bool) -> Result<OpPlan, ConvError> {
    let class = map_class(mode, target);
    // What a class text refuses is refused here too.
    super::class::from_map_class(&class)?;
    let mut pb = PlanBuilder::new(arch, "kernel_map", &format!("kernel_map_{}", map_slug(mode, target)), &class);
    pb.tensor("map", Dtype::I32, &["m", "taps"], Role::Output)?;
    map(&mut pb, mode, target)?;
    Ok(pb.finish()?)
}

/// The plan of a convolution: coordinates as of [`map_plan`], `features [inputs, k]`, `weight [taps, k, n]`, and what the class has of
/// `bias`, `bn_scale`, `bn_shift` `[n]` and `residual [m, n]` -> `features_out [m, n]`, `coords_out`, `status`, `count_out`.
pub fn conv_plan(arch: Arch, p: &ConvProblem, r: &Recipe) -> Result<OpPlan, ConvError> {
    p.check()?;
    r.config.check(arch, p.dtype)?;
    let mut pb = PlanBuilder::new(arch, "sparse_conv", &r.plan_id("sparse_conv", &p.slug()), &p.class());
    let d = dtype(p.dtype);
    pb.tensor("features", d, &["inputs", "k"], Role::Input)?;
    pb.tensor("weight", d, &["taps", "k", "n"], Role::Input)?;
    for (name, vector) in [("bias", p.bias), ("bn_scale", p.bn), ("bn_shift", p.bn)] {
        if let Some(vector) = vector {
            pb.tensor(name, dtype(vector), &["n"], Role::Input)?;
        }
    }
    if p.residual {
        pb.tensor("residual", d, &["m", "n"], Role::Input)?;
    }
    pb.tensor("features_out", d, &["m", "n"], Role::Output)?;
    pb.require(format!("taps <= {}", r.taps));
    let map = map(&mut pb, p.mode, p.target)?;
    multiply::multiply(&mut pb, p, r, &map)?;
    Ok(pb.finish()?)
}

/// Adds coordinates in and out, their tables, and the map.
fn map(pb: &mut PlanBuilder, mode: Mode, target: bool) -> Result<MapSet, ConvError> {
    pb.tensor("coords", Dtype::I32, &["inputs", "4"], Role::Input)?;
    pb.tensor("count", Dtype::I32, &["1"], Role::Input)?;
    if target {
        pb.tensor("coords_target", Dtype::I32, &["m", "4"], Role::Input)?;
        pb.tensor("count_target", Dtype::I32, &["1"], Role::Input)?;
    }
    pb.tensor("coords_out", Dtype::I32, &["m", "4"], Role::Output)?;
    status(pb)?;
    let input = CoordSet { count: "count".into(), ..CoordSet::named("coords", "inputs") };
    insert_set(pb, &input, INPUT, &[])?;
    let out = if target {
        let given = CoordSet { count: "count_target".into(), ..CoordSet::named("coords_target", "m") };
        // Nobody looks voxels up there; the table finds those given twice.
        insert_set(pb, &given, TARGET, &[])?;
        copied(pb, &given)?
    } else if mode == Mode::Submanifold {
        copied(pb, &input)?
    } else {
        let out = CoordSet { count: "count_out".into(), ..CoordSet::named("coords_out", "m") };
        pb.tensor(&out.count, Dtype::I32, &["1"], Role::Output)?;
        downsample(pb, mode, &input, &out, &[])?;
        out
    };
    Ok(build_map(pb, mode, &input, &out, "map", &[])?)
}

/// Adds the launch that makes `coords_out` of given voxels.
fn copied(pb: &mut PlanBuilder, set: &CoordSet) -> Result<CoordSet, ConvError> {
    let binds = [("coords", set.coords.as_str()), ("count", &set.count)];
    pb.launch::<ConvError>(copy::ID, |arch| Ok(copy::copy(arch)?), &binds, &[("rows".into(), set.rows.clone())])?;
    Ok(set.clone())
}
