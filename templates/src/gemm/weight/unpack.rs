//! The unpack kernel: the packed form to dense weights, rounded as the multiplying kernels round, for the path that dequantises
//! once and multiplies densely.

use super::block::{COLS, ROWS, code_words, scale_words};
use super::format::Format;
use super::pack::declare_packed;
use super::source::{field, imm, with};
use crate::gemm::problem::Packed;
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, blocked};
use tilewright_ir::tile::{Dim, KernelBuilder, RegTile, Unit};

/// What an unpack kernel makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnpackProblem {
    /// How the weight is packed.
    pub packed: Packed,
    /// Dtype of the weights.
    pub dtype: DType,
    /// Rows of the weight for one output column: 2 for gate and up.
    pub gates: u32,
    /// k is a multiple of it: 8, 4, 2 or 1. That many weights are stored at once.
    pub k_align: u32,
}

const WARPS: u32 = 4;
/// Weights of one thread in a tile.
const EACH: u32 = 8;

/// Records the unpack kernel: `packed` I32 `[e, blocks_n, blocks_k, words]`, also bound as `packed_halves` -> `b` `[e, gates*n, k]` in the
/// problem's dtype.
///
/// Scalars: `e`, `n`, `k`, `blocks_n`, `blocks_k`.
pub fn unpack_kernel(k: &mut KernelBuilder, p: &UnpackProblem) -> Result<(), LayoutError> {
    for name in ["e", "n", "k"] {
        k.shape(name);
    }
    let [codes, halves] = declare_packed(k, p.packed, p.dtype);
    let b = k.tensor("b", p.dtype, [Dim { param: Some("e".into()), factor: p.gates }, Dim::param("n"), Dim::param("k")]);
    k.grid([format!("ceil_div(k,{COLS})"), format!("{}*ceil_div(n,{ROWS})", p.gates), "e".into()]);
    if p.k_align > 1 {
        k.require(format!("k % {} == 0", p.k_align));
    }
    let format = Format::of(p.packed.bits);
    // A tile is as wide as a group: its scales are one column, and a warp stores neighbours.
    let group = p.packed.group;
    let shape = [WARPS * 32 * EACH / group, group];
    // Neighbouring lanes have neighbouring vectors, as wide as can be stored at once.
    let like = RegTile { dtype: DType::I32, shape, layout: blocked(WARPS * 32, shape, p.k_align)? };
    let (runs, tiles) = (COLS as u32 / group, (ROWS * COLS) as u32 / (shape[0] * shape[1]));
    k.role("main", WARPS, None, Unit::Role, |r| {
        let (x, y, e) = (r.cta_id(0), r.cta_id(1), r.cta_id(2));
        let (pair, gate) = (r.div(y, p.gates), r.rem(y, p.gates));
        let at = [e, y, x];
        r.for_range(0, tiles, 1, |r, t| {
            let (run, slab) = (r.rem(t, runs), r.div(t, runs));
            let (row0, col0) = (r.mul(slab, shape[0]), r.mul(run, group));
            let row = r.iota(0, r.row_vec(&like, DType::I32));
            let row = with(r, "add", row, row0);
            let col = r.iota(1, r.col_vec(&like, DType::I32));
            let col = with(r, "add", col, col0);
            // `Format::place`, of a tile: word and slot are sums of a part by row and a part by column.
            let (warp, quad) = (imm(r, "div", row, 16), imm(r, "and", row, 7));
            let high = imm(r, "div", row, 8);
            let high = imm(r, "and", high, 1);
            let (warp_words, quad_words) = (imm(r, "mul", warp, 128), imm(r, "mul", quad, 16));
            let row_words = r.binary("add", warp_words, quad_words);
            let row_slot = imm(r, "mul", high, (p.packed.bits * format.slots[2]).into());
            let chunk = imm(r, "div", col, format.chunk_k as i64);
            let chunk = imm(r, "mul", chunk, 512);
            let step = imm(r, "rem", col, format.chunk_k as i64);
            let step = imm(r, "div", step, 16);
            let step = imm(r, "mul", step, format.words_per_step as i64);
            let lane = imm(r, "and", col, 7);
            let lane = imm(r, "div", lane, 2);
            let lane = imm(r, "mul", lane, 4);
            let half = imm(r, "div", col, 8);
            let half = imm(r, "and", half, 1);
            let odd = imm(r, "and", col, 1);
            let mut col_slot = imm(r, "mul", odd, (p.packed.bits * format.slots[1]).into());
            let mut col_words = r.binary("add", chunk, step);
            col_words = r.binary("add", col_words, lane);
            match format.slots.get(4) {
                Some(slot) => {
                    let more = imm(r, "mul", half, (p.packed.bits * slot).into());
                    col_slot = r.binary("add", col_slot, more);
                }
                None => col_words = r.binary("add", col_words, half),
            }
            let [row_words, col_words, row_slot, col_slot] =
                [row_words, col_words, row_slot, col_slot].map(|v| r.broadcast(v, like.clone()));
            let word = r.binary("add", row_words, col_words);
            let shift = r.binary("add", row_slot, col_slot);
            let word = r.load_elems(&codes, &at, word, None);
            let code = field(r, word, shift, p.packed.bits);
            let code = r.cast(code, DType::F32);
            // Halves of a run: rows `16 w + g` and `16 w + g + 8` share a word.
            let (warp, quad) = (imm(r, "mul", warp, 16), imm(r, "mul", quad, 2));
            let place = r.binary("add", warp, quad);
            let place = r.binary("add", place, high);
            let first = r.mul(run, ROWS as u32);
            let first = r.add(first, 2 * code_words(p.packed));
            let place = with(r, "add", place, first);
            let scale = r.load_elems(&halves, &at, place, None);
            let zero = if p.packed.zero {
                let place = imm(r, "add", place, i64::from(2 * scale_words(p.packed)));
                let zero = r.load_elems(&halves, &at, place, None);
                let bias = r.splat_f32(format.bias(p.dtype) as f32, zero);
                r.binary("sub", zero, bias)
            } else {
                r.splat_f32(format.middle() as f32, scale)
            };
            let f32s = RegTile { dtype: DType::F32, ..like.clone() };
            let (zero, scale) = (r.broadcast(zero, f32s.clone()), r.broadcast(scale, f32s));
            // Both are exact in F32: nine bits times eleven.
            let w = r.binary("sub", code, zero);
            let w = r.binary("mul", w, scale);
            let w = r.cast(w, p.dtype);
            let lead = r.mul(e, p.gates);
            let lead = r.add(lead, gate);
            let row = r.mul(pair, ROWS as u32);
            let row = r.add(row, row0);
            let col = r.mul(x, COLS as u32);
            let col = r.add(col, col0);
            r.store_tile(&b, w, &[lead, row, col], p.k_align);
        });
    });
    Ok(())
}
