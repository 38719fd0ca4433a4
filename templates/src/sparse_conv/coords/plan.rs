//! Sets of voxels and maps as launches of a plan.

use super::super::geometry::{Geometry, Mode};
use super::super::lists::{ListError, scan};
use super::super::pieces::{CoordSet, MapSet, PlanBuilder, Sets};
use super::insert::STATUS;
use super::relation::Side;
use super::{build, build_own, candidates, count_bits, fill, first_features, insert, mark, number, outputs, quantise, unique};
use crate::plan::TemplateKernel;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::KernelBuilder;
use tilewright_ir::{Arch, DType};
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::expr::ParseError;
use tilewright_runtime::plan::Role;

/// Why a piece cannot be added.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CoordsError {
    /// A tile has no layout: a mistake in a template.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// An expression does not parse.
    #[error("plan expression: {0}")]
    Expr(#[from] ParseError),
    /// Prefix sums cannot be made.
    #[error(transparent)]
    List(#[from] ListError),
    /// Outputs of these layers are inputs or given.
    #[error("{0} layers make no voxels of their own: their outputs are the inputs or given")]
    Outputs(Mode),
    /// Features of this dtype.
    #[error("features of points are f32, f16 or bf16, not {0}")]
    Features(DType),
}

/// Points and where their voxels go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointSet {
    /// F32 `[rows, width]`: x, y, z and more.
    pub points: String,
    /// I32 `[rows]`, where points are of several batches.
    pub batch: Option<String>,
    /// I32 `[1]`: how many rows exist.
    pub count: String,
    /// Capacity in rows.
    pub rows: String,
    /// Columns.
    pub width: String,
}

/// What of points their voxels carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointFeatures {
    /// `[rows, channels]`, with the rows of the voxels.
    pub features: String,
    /// Of which dtype: F32, F16 or BF16.
    pub dtype: DType,
    /// How many columns of the points.
    pub channels: String,
    /// The first of them.
    pub skip: String,
}

impl CoordSet {
    /// A set whose other tensors are named after its coordinates: `<coords>_count`, `<coords>_table`. `rows` is its capacity, an
    /// expression; the table has eight slots for each: the longest walk of a warp's
    /// lanes is then three slots on average, and nearly five with four.
    pub fn named(coords: &str, rows: &str) -> Self {
        CoordSet {
            coords: coords.into(),
            count: format!("{coords}_count"),
            table: format!("{coords}_table"),
            rows: rows.into(),
            slots: format!("max(8*({rows}),16)"),
        }
    }
}

/// Adds tensor `status` I32 `[4]`, where the plan has none, as an output, and the launch that sets it: i32::MAX, all is well. It comes
/// before all other pieces.
///
/// Element 0 is the least row of `coords` that equals an earlier one, 1 the same of `coords_target`, 2 the least row one of whose voxels
/// does not fit 32 bits, 3 the least `-found`, where more voxels were found than there was room for, or `-i32::MAX` where a table had no
/// slot for one: there is room for less than an eighth of them, or hundreds have one hash.
pub fn status(pb: &mut PlanBuilder) -> Result<(), CoordsError> {
    if !pb.has("status") {
        pb.tensor("status", Dtype::I32, &[&STATUS.to_string()], Role::Output)?;
    }
    fill_ints(pb, "status", &STATUS.to_string(), &i32::MAX.to_string(), &[])
}

/// Adds a launch that sets every element of the I32 tensor `x [len]`; `len` and `value` are expressions.
pub fn fill_ints(pb: &mut PlanBuilder, x: &str, len: &str, value: &str, sets: &[(String, String)]) -> Result<(), CoordsError> {
    launch(pb, "fill_i32", |k| fill(k, DType::I32), &[("x", x)], &with(sets, &[("len", len), ("value", value)]))
}

/// Adds a launch that clears the F32 tensor `x [len]`; `len` is an expression.
pub fn zero_floats(pb: &mut PlanBuilder, x: &str, len: &str, sets: &[(String, String)]) -> Result<(), CoordsError> {
    launch(pb, "fill_f32", |k| fill(k, DType::F32), &[("x", x)], &with(sets, &[("len", len)]))
}

/// Adds launches that make the hash table of a set whose coordinates are given. Its tensors but `coords` and `count` are added where
/// the plan does not have them. Element `status_at` of `status` tells of rows given twice.
pub fn insert_set(pb: &mut PlanBuilder, set: &CoordSet, status_at: u32, sets: &[(String, String)]) -> Result<(), CoordsError> {
    table(pb, set, sets)?;
    let binds = [("coords", set.coords.as_str()), ("count", &set.count), ("table", &set.table)];
    let at = status_at.to_string();
    launch(pb, "coords_insert", insert, &binds, &with(sets, &[("rows", &set.rows), ("slots", &set.slots), ("status_at", &at)]))
}

/// Adds launches that make the outputs of a strided or generative layer: coordinates, count and hash table of `out`, whose tensors
/// are added where the plan does not have them. `out.rows` is the room there is. `sets` gives the geometry where it is no variable of
/// the plan.
pub fn downsample(
    pb: &mut PlanBuilder,
    mode: Mode,
    input: &CoordSet,
    out: &CoordSet,
    sets: &[(String, String)],
) -> Result<(), CoordsError> {
    let side = match mode {
        Mode::Strided => Side::Coarse,
        Mode::Generative => Side::Fine,
        Mode::Submanifold | Mode::Transposed | Mode::Inverse => return Err(CoordsError::Outputs(mode)),
    };
    distinct(pb, side, input, out, sets)?;
    Ok(())
}

/// Adds the launch that makes a kernel map; `map` is added where the plan does not have it. Of `input` coordinates and table are read,
/// of `out` coordinates and count. Where both are the same set, mirror images of entries are not looked up.
pub fn build_map(
    pb: &mut PlanBuilder,
    mode: Mode,
    input: &CoordSet,
    out: &CoordSet,
    map: &str,
    sets: &[(String, String)],
) -> Result<MapSet, CoordsError> {
    let side = if mode.is_up() { Side::Coarse } else { Side::Fine };
    let taps = value_of(sets, "taps");
    workspace(pb, map, &[&out.rows, &taps])?;
    let made = MapSet { map: map.into(), count: out.count.clone(), rows: out.rows.clone(), taps };
    if side == Side::Fine && input == out {
        fill_ints(pb, map, &format!("({})*({})", made.rows, made.taps), "0-1", sets)?;
        let binds = [("coords", input.coords.as_str()), ("count", &input.count), ("table", &input.table), ("map", map)];
        let sizes = [("rows", input.rows.as_str()), ("slots", &input.slots)];
        launch(pb, "coords_map_own", build_own, &binds, &with(sets, &sizes))?;
        return Ok(made);
    }
    let binds = [
        ("coords", input.coords.as_str()),
        ("table", &input.table),
        ("coords_out", &out.coords),
        ("count_out", &out.count),
        ("map", map),
    ];
    let sizes = [("rows", input.rows.as_str()), ("slots", &input.slots), ("rows_out", &out.rows)];
    launch(pb, &format!("coords_map_{}", side.name()), |k| build(k, side), &binds, &with(sets, &sizes))?;
    Ok(made)
}

/// Adds launches that find the distinct voxels of points, in the order of their first points, with the hash table of the voxels, and
/// what the first point of each carries. Tensors of `out` and `carried` are added where the plan does not have them.
///
/// The plan's F32 scalars `voxel_x`, `voxel_y` and `voxel_z` are the size of a voxel.
pub fn voxelise(
    pb: &mut PlanBuilder,
    from: &PointSet,
    out: &CoordSet,
    carried: Option<&PointFeatures>,
    sets: &[(String, String)],
) -> Result<(), CoordsError> {
    let voxels =
        CoordSet { coords: format!("{}_voxels", out.coords), count: from.count.clone(), ..CoordSet::named("", &from.rows) };
    workspace(pb, &voxels.coords, &[&from.rows, "4"])?;
    let mut binds = vec![("points", from.points.as_str()), ("count", &from.count), ("voxels", &voxels.coords)];
    binds.extend(from.batch.as_deref().map(|b| ("batch", b)));
    let batched = from.batch.is_some();
    let id = if batched { "points_voxels_batched" } else { "points_voxels" };
    let points = [("rows", from.rows.as_str()), ("width", &from.width)];
    launch(pb, id, |k| quantise(k, batched), &binds, &with(sets, &points))?;
    // The voxels of a kernel of one tap are the distinct ones.
    let one = Geometry::cube(1, 1, 1).scalars();
    let one: Sets = one.into_iter().map(|(n, v)| (n, v.to_string())).collect();
    let one: Vec<(&str, &str)> = one.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let origin = distinct(pb, Side::Coarse, &voxels, out, &with(sets, &one))?;
    let Some(carried) = carried else { return Ok(()) };
    let dtype = match carried.dtype {
        DType::F32 | DType::F16 | DType::BF16 => crate::manifest::dtype(carried.dtype),
        other => return Err(CoordsError::Features(other)),
    };
    if !pb.has(&carried.features) {
        pb.workspace(&carried.features, dtype, &[&out.rows, &carried.channels])?;
    }
    let binds = [("points", from.points.as_str()), ("origin", &origin), ("count", &out.count), ("features", &carried.features)];
    let sizes = [("rows_out", out.rows.as_str()), ("channels", &carried.channels), ("skip", &carried.skip)];
    let sets = with(&with(sets, &points), &sizes);
    launch(pb, &format!("points_features_{}", carried.dtype), |k| first_features(k, carried.dtype), &binds, &sets)
}

/// The distinct voxels that a relation leads to; gives the tensor of their candidates.
fn distinct(
    pb: &mut PlanBuilder,
    side: Side,
    input: &CoordSet,
    out: &CoordSet,
    sets: &[(String, String)],
) -> Result<String, CoordsError> {
    let name = &out.coords;
    let [bits, counts, pos, total] = ["bits", "counts", "pos", "total"].map(|part| format!("{name}_{part}"));
    let words = format!("max(ceil_div(({})*({}),{}),1)", input.rows, value_of(sets, "taps"), unique::WORD);
    workspace(pb, &out.coords, &[&out.rows, "4"])?;
    workspace(pb, &out.count, &["1"])?;
    for name in [&bits, &counts, &pos] {
        workspace(pb, name, &[&words])?;
    }
    workspace(pb, &total, &["1"])?;
    table(pb, out, sets)?;
    fill_ints(pb, &bits, &words, "0", sets)?;
    let sizes = [("rows", input.rows.as_str()), ("rows_out", &out.rows), ("slots", &out.slots), ("words", &words)];
    let sets = with(sets, &sizes);
    let binds = [("coords", input.coords.as_str()), ("count", &input.count), ("table", &out.table)];
    launch(pb, &format!("coords_candidates_{}", side.name()), |k| candidates(k, side), &binds, &sets)?;
    launch(pb, "coords_mark", mark, &[("table", &out.table), ("bits", &bits)], &sets)?;
    launch(pb, "coords_count_bits", count_bits, &[("bits", &bits), ("counts", &counts)], &sets)?;
    scan(pb, &counts, &words, &pos, &total)?;
    let origin = format!("{name}_origin");
    workspace(pb, &origin, &[&out.rows])?;
    let binds = [
        ("table", out.table.as_str()),
        ("bits", &bits),
        ("pos", &pos),
        ("total", &total),
        ("origin", &origin),
        ("count_out", &out.count),
    ];
    launch(pb, "coords_number", number, &binds, &sets)?;
    let binds = [("coords", input.coords.as_str()), ("origin", &origin), ("coords_out", &out.coords), ("count_out", &out.count)];
    launch(pb, &format!("coords_outputs_{}", side.name()), |k| outputs(k, side), &binds, &sets)?;
    Ok(origin)
}

/// An empty hash table.
fn table(pb: &mut PlanBuilder, set: &CoordSet, sets: &[(String, String)]) -> Result<(), CoordsError> {
    workspace(pb, &set.table, &[&set.slots])?;
    fill_ints(pb, &set.table, &set.slots, "0-1", sets)
}

/// An I32 tensor, where there is none.
fn workspace(pb: &mut PlanBuilder, name: &str, shape: &[&str]) -> Result<(), CoordsError> {
    if !pb.has(name) {
        pb.workspace(name, Dtype::I32, shape)?;
    }
    Ok(())
}

/// `sets` and others, which count where both name a variable.
fn with(sets: &[(String, String)], more: &[(&str, &str)]) -> Sets {
    let mut all: Sets = sets.iter().filter(|s| more.iter().all(|m| m.0 != s.0)).cloned().collect();
    all.extend(more.iter().map(|(n, v)| (n.to_string(), v.to_string())));
    all
}

/// What a variable is in a launch, as an expression over the plan's.
fn value_of(sets: &[(String, String)], name: &str) -> String {
    sets.iter().rev().find(|s| s.0 == name).map_or_else(|| name.to_string(), |s| s.1.clone())
}

fn launch(
    pb: &mut PlanBuilder,
    id: &str,
    record: impl FnOnce(&mut KernelBuilder) -> Result<(), LayoutError>,
    binds: &[(&str, &str)],
    sets: &[(String, String)],
) -> Result<(), CoordsError> {
    let make = |arch: Arch| -> Result<TemplateKernel, CoordsError> {
        let mut k = KernelBuilder::new(id, arch);
        record(&mut k)?;
        Ok(TemplateKernel::plain(id.to_string(), "sparse_conv", [("kind", id.to_string())], "none", k))
    };
    pb.launch(id, make, binds, sets)
}
