//! The pack kernel: any source to the packed form. One CTA makes one block, thread by thread a word of codes and a half of the
//! scales and zero points; it runs once for a weight.

use super::block::{COLS, ROWS, code_words, scale_words, words};
use super::format::Format;
use super::source::{Source, imm, with};
use crate::gemm::problem::Packed;
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, blocked};
use tilewright_ir::tile::{CmpPred, Dim, KernelBuilder, RegTile, RoleBuilder, Scalar, TileRef, Unit};

/// What a pack kernel makes of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackProblem {
    /// Where the weight comes from.
    pub source: Source,
    /// Dtype of a, and so of the packed scales: BF16 or F16.
    pub dtype: DType,
    /// What it becomes; [`Source::packs_as`]. Without zero points here, those of the source are all half the range.
    pub packed: Packed,
    /// Rows of the weight for one output column: 2 for gate and up.
    pub gates: u32,
    /// Packed column `i` is column `perm[i]` of the source.
    pub perm: bool,
}

const WARPS: u32 = 4;
/// Words or halves that a CTA makes at once, one a thread.
const STEP: u32 = WARPS * 32;

/// Which block a CTA works on: weight, block of rows, block of columns, and what follows from them.
struct At {
    e: Scalar,
    block: [Scalar; 2],
    /// First row among those of its gate.
    row: Scalar,
    /// Rows of the weight before those of its gate.
    gate: Scalar,
    /// First column.
    col: Scalar,
}

/// Extents of `packed`, `[e, blocks_n, blocks_k, words]`, declared as shape variables.
pub(super) fn packed_dims(k: &mut KernelBuilder, p: Packed) -> [Dim; 4] {
    let [e, n, cols] = ["e", "blocks_n", "blocks_k"].map(|name| Dim::param(&k.shape(name)));
    [e, n, cols, Dim { param: None, factor: words(p) }]
}

/// Records the pack kernel: the source's tensors with a leading extent `e`, with `perm` also `perm` I32 `[k]` -> `packed` I32
/// `[e, blocks_n, blocks_k, words]`, also bound as `packed_halves`.
///
/// Scalars: `e`, `n`, `k`, `group`, `blocks_n`, `blocks_k`, and those of [`Source::sets`].
pub fn pack_kernel(k: &mut KernelBuilder, p: &PackProblem) -> Result<(), LayoutError> {
    for name in ["e", "n", "k", "group"] {
        k.shape(name);
    }
    let source = p.source.declare(k, p.dtype);
    let perm = p.perm.then(|| k.tensor("perm", DType::I32, [Dim::param("k")]));
    let dims = packed_dims(k, p.packed);
    let codes = k.tensor("packed", DType::I32, dims.clone());
    // The same memory as the 16-bit floats that scales and zero points are.
    let [e, n, cols, _] = dims;
    let half_words = Dim { param: None, factor: 2 * words(p.packed) };
    let halves = k.tensor("packed_halves", p.dtype, [e, n, cols, half_words]);
    k.grid([format!("ceil_div(k,{COLS})"), format!("{}*ceil_div(n,{ROWS})", p.gates), "e".into()]);
    let format = Format::of(p.packed.bits);
    let like = RegTile { dtype: DType::I32, shape: [1, STEP], layout: blocked(STEP, [1, STEP], 1)? };
    k.role("main", WARPS, None, Unit::Role, |r| {
        let at = At::new(r, p.gates);
        let end = r.param("k");
        r.for_range(0, code_words(p.packed), STEP, |r, first| {
            let word = r.iota(1, like.clone());
            let word = with(r, "add", word, first);
            // `Format::first` and `Format::word`, of a tile.
            let chunk = imm(r, "div", word, 512);
            let lane = imm(r, "div", word, 4);
            let (warp, lane) = (imm(r, "and", lane, 127), imm(r, "and", lane, 31));
            let warp = imm(r, "div", warp, 32);
            let warp = imm(r, "mul", warp, 16);
            let quad = imm(r, "div", lane, 4);
            let row = r.binary("add", warp, quad);
            let slot = imm(r, "and", word, 3);
            let step = imm(r, "div", slot, format.words_per_step as i64);
            let half = imm(r, "rem", slot, format.words_per_step as i64);
            let pair = imm(r, "and", lane, 3);
            let parts = [(chunk, format.chunk_k as i64), (step, 16), (half, 8), (pair, 2)].map(|(t, by)| imm(r, "mul", t, by));
            let col = parts.into_iter().reduce(|a, b| r.binary("add", a, b)).expect("there are four parts");
            let mut out: Option<TileRef> = None;
            for v in format.values() {
                let (row, col) = (imm(r, "add", row, v.row as i64), imm(r, "add", col, v.col as i64));
                let (row, row_inside) = at.rows(r, row);
                let col = with(r, "add", col, at.col);
                let col_inside = below(r, col, end);
                let inside = r.binary("and", row_inside, col_inside);
                let place = perm.as_ref().map_or(col, |perm| r.load_elems(perm, &[], col, Some(col_inside)));
                let code = source.code(r, at.e, row, place, inside);
                let middle = r.int(format.middle().into());
                let mut other = r.splat(middle, like.clone());
                if p.source.zero() {
                    // Only a group as long as k reaches past it, so it is the first.
                    let first = imm(r, "div", col, p.packed.group.into());
                    let first = imm(r, "mul", first, p.packed.group.into());
                    let begins = below(r, first, end);
                    let outside = r.unary("not", col_inside);
                    let partly = r.binary("and", begins, outside);
                    let partly = r.binary("and", partly, row_inside);
                    let none = r.int(0);
                    let none = r.splat(none, like.clone());
                    let zero = source.zero(r, at.e, row, none, partly);
                    other = r.choose(partly, zero, other);
                }
                let code = r.choose(inside, code, other);
                let code = imm(r, "shl", code, v.shift.into());
                out = Some(out.map_or(code, |out| r.binary("or", out, code)));
            }
            let out = out.expect("a word has values");
            r.store_elems(&codes, &[at.e, at.block[0], at.block[1]], word, out, None);
        });
        let count = 2 * scale_words(p.packed);
        r.for_range(0, count, STEP, |r, first| {
            let half = r.iota(1, like.clone());
            let half = with(r, "add", half, first);
            let mine = r.int(count.into());
            let mine = below(r, half, mine);
            let run = imm(r, "div", half, ROWS as i64);
            let in_run = imm(r, "and", half, ROWS as i64 - 1);
            // Two halves a word, eight words a warp: rows `16 w + g` and `16 w + g + 8`.
            let high = imm(r, "and", in_run, 1);
            let high = imm(r, "mul", high, 8);
            let word = imm(r, "div", in_run, 2);
            let quad = imm(r, "and", word, 7);
            let warp = imm(r, "div", word, 8);
            let warp = imm(r, "mul", warp, 16);
            let row = r.binary("add", warp, quad);
            let row = r.binary("add", row, high);
            let (row, row_inside) = at.rows(r, row);
            let col = imm(r, "mul", run, p.packed.group.into());
            let col = with(r, "add", col, at.col);
            let inside = below(r, col, end);
            let inside = r.binary("and", inside, row_inside);
            let inside = r.binary("and", inside, mine);
            let group = r.param("group");
            let group = with(r, "div", col, group);
            let scale = source.scale(r, at.e, row, group, inside);
            let place = imm(r, "add", half, i64::from(2 * code_words(p.packed)));
            let to = [at.e, at.block[0], at.block[1]];
            r.store_elems(&halves, &to, place, scale, Some(mine));
            if p.packed.zero {
                let zero = source.zero(r, at.e, row, group, inside);
                let middle = r.int(format.middle().into());
                let middle = r.splat(middle, like.clone());
                let zero = r.choose(inside, zero, middle);
                let zero = imm(r, "add", zero, format.bias(p.dtype).into());
                let zero = r.cast(zero, DType::F32);
                let place = imm(r, "add", place, count.into());
                r.store_elems(&halves, &to, place, zero, Some(mine));
            }
        });
    });
    Ok(())
}

impl At {
    fn new(r: &mut RoleBuilder, gates: u32) -> Self {
        let (x, y, e) = (r.cta_id(0), r.cta_id(1), r.cta_id(2));
        let (pair, gate) = (r.div(y, gates), r.rem(y, gates));
        let n = r.param("n");
        At { e, block: [y, x], row: r.mul(pair, ROWS as u32), gate: r.mul(gate, n), col: r.mul(x, COLS as u32) }
    }

    /// Rows of the weight for rows of the block, and which there are.
    fn rows(&self, r: &mut RoleBuilder, row: TileRef) -> (TileRef, TileRef) {
        let row = with(r, "add", row, self.row);
        let n = r.param("n");
        let inside = below(r, row, n);
        (with(r, "add", row, self.gate), inside)
    }
}

/// Which numbers are below another.
pub(super) fn below(r: &mut RoleBuilder, a: TileRef, end: Scalar) -> TileRef {
    let end = r.splat(end, r.tile_type(a));
    r.compare(CmpPred::Lt, a, end)
}
