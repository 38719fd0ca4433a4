//! What the verifier demands of operations on memory by index: coordinates for the tensor's extents, dtypes that go
//! through registers, row numbers in the layout of the tile they serve.

use super::kernel::{Kernel, Op, Role};
use super::table::OpKind;
use super::types::{RegTile, SmemTile, Ty};
use crate::dtype::DType;
use crate::layout::{Dim, Layout, blocked};

impl DType {
    /// What one element of a tensor is in registers: 16-bit and 8-bit floats F32, bytes I32, the others themselves.
    pub fn element(self) -> DType {
        match self {
            DType::F16 | DType::BF16 | DType::E4M3 | DType::E5M2 => DType::F32,
            DType::U8 | DType::I8 => DType::I32,
            other => other,
        }
    }
}

/// The broken rule, in words; other operations pass.
pub(super) fn check(k: &Kernel, role: &Role, op: &Op, ins: &[Ty], outs: &[Ty]) -> Result<(), String> {
    use OpKind::*;
    if !matches!(op.kind, LoadScalar | LoadElems | StoreElems | LoadRows | StoreRows | CopyRows | Atomic | AtomicCas | AddRows) {
        return Ok(());
    }
    let tensor = k.tensor(op.attrs.get_sym("tensor")).ok_or("needs a tensor")?;
    let registers: Vec<&RegTile> = ins.iter().filter_map(|t| if let Ty::Reg(t) = t { Some(t) } else { None }).collect();
    let coordinates = ins.iter().filter(|t| **t == Ty::I32).count();
    let vec = op.attrs.get_int("vec");
    match (op.kind, ins, outs) {
        (LoadScalar, _, [out]) => {
            one_of(tensor.dtype, &[DType::I32, DType::F32, DType::U8])?;
            if coordinates != tensor.dims.len() {
                return Err(format!("{coordinates} coordinates for {} extents of {}", tensor.dims.len(), tensor.name));
            }
            value(tensor.dtype, out)
        }
        (LoadElems | StoreElems, _, _) => {
            one_of(tensor.dtype, &[DType::I32, DType::F32, DType::F16, DType::BF16, DType::U8])?;
            if coordinates >= tensor.dims.len() {
                let (name, n) = (&tensor.name, tensor.dims.len());
                return Err(format!("{coordinates} coordinates leave none of the {n} extents of {name} to the index"));
            }
            let fixed = if op.kind == LoadElems { 1 } else { 2 };
            let (index, mask) = (registers[0], registers.get(fixed));
            let data = if let [Ty::Reg(out)] = outs { out } else { registers[1] };
            value(tensor.dtype, &Ty::Scalar(data.dtype))?;
            if index.dtype != DType::I32 || mask.is_some_and(|m| m.dtype != DType::I1) {
                return Err("takes an index of i32 and a mask of i1".into());
            }
            [data].into_iter().chain(mask.copied()).try_for_each(|t| same_place(index, t))
        }
        (Atomic | AtomicCas, _, [Ty::Reg(out)]) => {
            let values = if op.kind == Atomic { 1 } else { 2 };
            let f = op.attrs.get_sym("f");
            let floats = op.kind == Atomic && f == "add";
            one_of(tensor.dtype, if floats { &[DType::I32, DType::F32] } else { &[DType::I32] })?;
            if op.kind == Atomic && !matches!(f, "add" | "min" | "max" | "or") {
                return Err(format!("there is no atomic `{f}`: add, min, max, or"));
            }
            if coordinates >= tensor.dims.len() {
                let (name, n) = (&tensor.name, tensor.dims.len());
                return Err(format!("{coordinates} coordinates leave none of the {n} extents of {name} to the index"));
            }
            let (index, mask) = (registers[0], registers.get(values + 1));
            if index.dtype != DType::I32 || mask.is_some_and(|m| m.dtype != DType::I1) || registers.len() > values + 2 {
                return Err("takes an index of i32 and a mask of i1".into());
            }
            if registers[1..=values].iter().any(|t| t.dtype != tensor.dtype) || out.dtype != tensor.dtype {
                return Err(format!("values of another dtype than the tensor's {}", tensor.dtype));
            }
            registers[1..].iter().copied().chain([out]).try_for_each(|t| same_place(index, t))
        }
        (AddRows, [Ty::Reg(tile), Ty::Reg(rows), _], _) => {
            if tile.dtype != DType::F32 || tensor.dtype != DType::F32 {
                return Err(format!("adds f32 to f32, not {} to {}", tile.dtype, tensor.dtype));
            }
            row_numbers(rows, tile.shape[0], &tile.layout)
        }
        (LoadRows, [Ty::Reg(rows), _], [Ty::Reg(tile)]) | (StoreRows, [Ty::Reg(tile), Ty::Reg(rows), _], _) => {
            let bytes = [DType::I8, DType::E4M3, DType::E5M2];
            one_of(tensor.dtype, &[&[DType::I32, DType::F32, DType::F16, DType::BF16], &bytes[..]].concat())?;
            if tile.dtype != tensor.dtype {
                return Err(format!("a tile of {} and a tensor of {}: cast first", tile.dtype, tensor.dtype));
            }
            row_numbers(rows, tile.shape[0], &tile.layout)
        }
        (_, [Ty::Smem(to), Ty::Reg(rows), _], _) => copy(role, tensor.dtype, to, rows, vec),
        _ => Err("operands do not fit".into()),
    }
}

fn copy(role: &Role, dtype: DType, to: &SmemTile, rows: &RegTile, vec: i64) -> Result<(), String> {
    if to.dtype != dtype {
        return Err(format!("a tile of {} cannot hold rows of {dtype}", to.dtype));
    }
    let vec = u32::try_from(vec).ok().filter(|v| v.is_power_of_two()).ok_or(format!("vec = {vec} is no power of two"))?;
    if !matches!(vec * dtype.bytes(), 2 | 4 | 8 | 16) {
        return Err(format!("copies of {} bytes: 2, 4, 8 or 16", vec * dtype.bytes()));
    }
    let layout = blocked(role.unit_threads(), to.shape, vec).map_err(|e| e.to_string())?;
    row_numbers(rows, to.shape[0], &layout)
}

fn row_numbers(rows: &RegTile, count: u32, tile: &Layout) -> Result<(), String> {
    let layout = tile.collapsed(Dim::Col).map_err(|e| e.to_string())?;
    let want = RegTile { dtype: DType::I32, shape: [count, 1], layout };
    if *rows == want {
        return Ok(());
    }
    Err(format!("row numbers are {}, this tile needs {}", Ty::Reg(rows.clone()), Ty::Reg(want)))
}

fn one_of(d: DType, list: &[DType]) -> Result<(), String> {
    if list.contains(&d) {
        return Ok(());
    }
    Err(format!("no elements of {d}: {}", list.iter().map(|d| d.name()).collect::<Vec<_>>().join(", ")))
}

fn value(d: DType, found: &Ty) -> Result<(), String> {
    let want = Ty::Scalar(d.element());
    if *found == want { Ok(()) } else { Err(format!("elements of {d} are {want} in registers, not {found}")) }
}

fn same_place(a: &RegTile, b: &RegTile) -> Result<(), String> {
    if a.shape == b.shape && a.layout == b.layout {
        return Ok(());
    }
    Err(format!("tiles differ: {:?} {} and {:?} {}", a.shape, a.layout, b.shape, b.layout))
}
