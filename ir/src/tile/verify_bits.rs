//! What the verifier demands of operations on bits: views of shared tiles, ordinary loads and stores of them, bulk
//! copies, registers under another type.

use super::kernel::{Kernel, Op};
use super::table::OpKind;
use super::types::{RegTile, SmemTile, Ty};
use crate::dtype::DType;
use crate::layout::{Dim, Swizzle};

/// The broken rule, in words; other operations pass.
pub(super) fn check(k: &Kernel, op: &Op, ins: &[Ty], outs: &[Ty]) -> Result<(), String> {
    use OpKind::*;
    match (op.kind, ins, outs) {
        (SmemView, [Ty::Smem(whole)], [Ty::Smem(part)]) => {
            let offset = op.attrs.get_int("offset");
            if [whole, part].iter().any(|t| t.swizzle != Swizzle::None) {
                return Err("a view is of unswizzled bytes".into());
            }
            if offset < 0 || offset % 16 != 0 || offset as u32 + part.bytes() > whole.bytes() {
                return Err(format!("{} bytes at {offset} of {}: inside, from a multiple of 16", part.bytes(), whole.bytes()));
            }
            Ok(())
        }
        (SmemPanels, [Ty::Smem(whole)], [Ty::Smem(stack)]) => {
            if *stack != whole.stacked() {
                return Err(format!("gives {}, not {}", Ty::Smem(whole.stacked()), Ty::Smem(stack.clone())));
            }
            if whole.shape[0] % 8 != 0 || whole.panel_bytes != whole.shape[0] * whole.pitch_bytes() {
                return Err("panels of a multiple of eight rows that follow each other".into());
            }
            Ok(())
        }
        (LoadShared, [Ty::Smem(s)], [Ty::Reg(t)]) | (StoreShared, [Ty::Smem(s), Ty::Reg(t)], _) => same_tile(s, t),
        (BulkLoad, [Ty::Smem(tile), ..], _) => {
            let tensor = k.tensor(op.attrs.get_sym("tensor")).ok_or("needs a tensor")?;
            let coordinates = ins.len() - 2;
            if tile.swizzle != Swizzle::None || !tile.bytes().is_multiple_of(16) || tile.dtype != tensor.dtype {
                return Err(format!(
                    "takes an unswizzled tile of {}, whole multiples of 16 bytes; found {} of {} bytes",
                    tensor.dtype,
                    Ty::Smem(tile.clone()),
                    tile.bytes()
                ));
            }
            if coordinates > tensor.dims.len() {
                return Err(format!("{coordinates} coordinates for {} extents of {}", tensor.dims.len(), tensor.name));
            }
            Ok(())
        }
        (LoadRun, _, [Ty::Reg(t)]) => {
            let tensor = k.tensor(op.attrs.get_sym("tensor")).ok_or("needs a tensor")?;
            let offset = op.attrs.get_int("offset");
            if t.dtype != tensor.dtype || t.dtype.bytes() < 2 {
                return Err(format!("a tile of {} from a tensor of {}: one dtype of 16 or 32 bits", t.dtype, tensor.dtype));
            }
            if ins.len() > tensor.dims.len() {
                return Err(format!("{} coordinates for {} extents of {}", ins.len(), tensor.dims.len(), tensor.name));
            }
            if offset < 0 || offset * i64::from(t.dtype.bytes()) % 16 != 0 {
                return Err(format!("offset {offset}: a multiple of 16 bytes"));
            }
            Ok(())
        }
        (Reinterpret, _, [Ty::Reg(to)]) => {
            let parts: Vec<&RegTile> = ins.iter().filter_map(|t| if let Ty::Reg(t) = t { Some(t) } else { None }).collect();
            let threads = |t: &RegTile| [Dim::Lane, Dim::Warp].map(|d| t.layout.in_size(d));
            let each = registers(parts[0]);
            if parts.iter().chain([&to]).any(|t| t.dtype == DType::I1) {
                return Err("predicates are no bits of a register".into());
            }
            if parts.iter().any(|p| registers(p) != each || threads(p) != threads(to))
                || registers(to) != each * parts.len() as u32
            {
                return Err(format!(
                    "{} tiles of {each} registers do not make {} of {:?} {}",
                    parts.len(),
                    registers(to),
                    to.shape,
                    to.dtype
                ));
            }
            Ok(())
        }
        (Transpose, [Ty::Reg(a)], [Ty::Reg(d)]) => {
            let want = RegTile { dtype: a.dtype, shape: [a.shape[1], a.shape[0]], layout: a.layout.transposed() };
            if *d == want { Ok(()) } else { Err(format!("gives {}, not {}", Ty::Reg(want), Ty::Reg(d.clone()))) }
        }
        (Bitwise, [Ty::Reg(a), Ty::Reg(b), Ty::Reg(c)], [Ty::Reg(d)]) => {
            if [b, c, d].iter().any(|t| *t != a) || a.dtype != DType::I32 {
                return Err("takes and gives i32 tiles of one layout".into());
            }
            Ok(())
        }
        (PermuteBytes, [Ty::Reg(a), Ty::Reg(b)], [Ty::Reg(d)]) => {
            let selector = op.attrs.get_int("selector");
            if a != b || a != d || a.dtype != DType::I32 {
                return Err("takes and gives i32 tiles of one layout".into());
            }
            if !(0..=0x7777).contains(&selector) || (0..4).any(|i| selector >> (4 * i) & 8 != 0) {
                return Err(format!("selector {selector:#x}: four nibbles of 0 to 7"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// 32-bit registers of a thread.
fn registers(t: &RegTile) -> u32 {
    let elements = t.layout.in_size(Dim::Reg);
    match (t.dtype, t.dtype.bytes()) {
        (DType::I1, _) => elements,
        (_, bytes) => elements.div_ceil(4 / bytes.min(4)),
    }
}

fn same_tile(s: &SmemTile, t: &RegTile) -> Result<(), String> {
    if s.shape == t.shape && s.dtype == t.dtype && t.dtype.bytes() >= 2 {
        return Ok(());
    }
    Err(format!("a {:?} {} tile in registers does not fit {:?} {}", t.shape, t.dtype, s.shape, s.dtype))
}
