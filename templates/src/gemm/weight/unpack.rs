//! The unpack kernel: the packed form to dense weights, decoded as the multiplying kernels decode, for the path that
//! dequantises once and multiplies densely.

use super::block::{CHUNK, COLS, ROWS, RUN, code_words, scale_words};
use super::decode::Span;
use super::format::Format;
use super::pack::packed_dims;
use crate::gemm::problem::Packed;
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, blocked, row_group_words};
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

/// A warpgroup: as many lanes as a chunk has vectors.
const WARPS: u32 = 4;

/// Records the unpack kernel: `packed` I32 `[e, blocks_n, blocks_k, words]` -> `b` `[e, gates*n, k]` in the problem's dtype. A CTA decodes
/// one block into A fragments and turns them in shared memory, so that both the loads and the stores are of 16 bytes.
///
/// Scalars: `e`, `n`, `k`, `blocks_n`, `blocks_k`.
pub fn unpack_kernel(k: &mut KernelBuilder, p: &UnpackProblem) -> Result<(), LayoutError> {
    for name in ["e", "n", "k"] {
        k.shape(name);
    }
    let dims = packed_dims(k, p.packed);
    let packed = k.tensor("packed", DType::I32, dims);
    let b = k.tensor("b", p.dtype, [Dim { param: Some("e".into()), factor: p.gates }, Dim::param("n"), Dim::param("k")]);
    k.grid([format!("ceil_div(k,{COLS})"), format!("{}*ceil_div(n,{ROWS})", p.gates), "e".into()]);
    if p.k_align > 1 {
        k.require(format!("k % {} == 0", p.k_align));
    }
    let chunk_k = Format::of(p.packed.bits).chunk_k as u32;
    let (chunks, groups) = (code_words(p.packed) / CHUNK as u32, COLS as u32 / p.packed.group);
    let span = Span::new(p.packed, p.dtype, chunk_k)?;
    let factors = RegTile { dtype: DType::I32, shape: [groups, RUN as u32], layout: row_group_words(groups)? };
    let shape = [ROWS as u32, chunk_k];
    let by_rows = RegTile { dtype: p.dtype, shape, layout: blocked(WARPS * 32, shape, p.k_align.max(2))? };
    let turn = k.buffer("turn", p.dtype, shape, chunks);
    k.role("main", WARPS, None, Unit::Warpgroup, |r| {
        let (x, y, e) = (r.cta_id(0), r.cta_id(1), r.cta_id(2));
        let at = [e, y, x];
        let first = code_words(p.packed);
        let codes: Vec<_> = (0..chunks).map(|c| r.load_run(&packed, &at, c * CHUNK as u32, span.words.clone())).collect();
        let scales = r.load_run(&packed, &at, first, factors.clone());
        let zeros = p.packed.zero.then(|| r.load_run(&packed, &at, first + scale_words(p.packed), factors));
        for (codes, c) in codes.into_iter().zip(0..) {
            // A group longer than a chunk serves several.
            let mut part = |tile| r.part(tile, [c * chunk_k / p.packed.group, 0], span.factor_words.clone());
            let (scales, zeros) = (part(scales), zeros.map(part));
            let w = span.decode(r, codes, scales, zeros);
            let to = r.staging(&turn, c);
            r.store_shared(to, w);
        }
        r.sync();
        let (pair, gate) = (r.div(y, p.gates), r.rem(y, p.gates));
        let lead = r.mul(e, p.gates);
        let lead = r.add(lead, gate);
        let (row, col) = (r.mul(pair, ROWS as u32), r.mul(x, COLS as u32));
        for c in 0..chunks {
            let from = r.staging(&turn, c);
            let w = r.load_shared(from, by_rows.clone());
            let col = r.add(col, c * chunk_k);
            r.store_tile(&b, w, &[lead, row, col], p.k_align);
        }
    });
    Ok(())
}
