//! Register fragments: which thread holds which element, `{reg lane warp} -> {row col}`.
//!
//! Notation of the formulas: lane `l`, `g = l / 4`, `t = l % 4`, warp `w`, element `r` of a thread in register order. `reg`
//! counts elements: of 16-bit operands two share a 32-bit register, the even one in the low half.

use super::builder::Builder;
use super::{Dim, Dim::*, Layout, LayoutError};

/// Accumulator of `wgmma.mma_async.m64nN` in 32-bit registers (PTX ISA 9.7.15.5.1.1.1, accumulator D).
///
/// ```text
/// row = (m / warpgroups) * (w / 4) + 64 * mi + 16 * (w % 4) + g + 8 * ((r >> 1) & 1)
/// col = 8 * (r >> 2) + 2 * t + (r & 1)          for r < n / 2, the registers of one m64 slab
/// ```
/// Register order: all n columns of the first 64 rows (`mi` = 0), then of the next 64. Warpgroups stack on rows, each with
/// its own slab of `m / warpgroups` rows.
///
/// # Errors
/// `m` not a multiple of `64 * warpgroups`, `n` not a multiple of 8. `n` above 256, the most of one instruction, is a tile of
/// several.
///
/// # Example
/// ```
/// use tilewright_ir::layout::{Dim, wgmma_acc};
/// let acc = wgmma_acc(256, 176, 2)?; // two warpgroups of 128 x 176
/// assert_eq!(acc.in_size(Dim::Reg), 2 * 88);
/// assert_eq!(acc.apply(&[88 + 5, 6, 4])[..], [128 + 64 + 1, 8 + 4 + 1]);
/// # Ok::<(), tilewright_ir::layout::LayoutError>(())
/// ```
pub fn wgmma_acc(m: u32, n: u32, warpgroups: u32) -> Result<Layout, LayoutError> {
    let slab_rows = split("m", m, warpgroups, 64)?;
    multiple("n", n, 8)?;
    let acc = onto_tile().bits(Reg, [(Col, 1), (Row, 8)]).outer(Reg, n / 8, [(Col, 8)]).outer(Reg, slab_rows / 64, [(Row, 64)]);
    quads_on_rows(acc).bits(Warp, [(Row, 16), (Row, 32)]).outer(Warp, warpgroups, [(Row, slab_rows)]).build()
}

/// A operand of `wgmma.mma_async.m64nNk16` in registers, 16-bit elements (PTX ISA 9.7.15.5.1.1.1, multiplicand A).
///
/// ```text
/// row = (m / warpgroups) * (w / 4) + 64 * mi + 16 * (w % 4) + g + 8 * ((r >> 1) & 1)
/// col = 16 * (r >> 3) + 8 * ((r >> 2) & 1) + 2 * t + (r & 1)      for r < k / 2
/// ```
/// The columns are k. Register order as in [`wgmma_acc`]: an accumulator converted to 16 bits is an A operand as it stands.
///
/// # Errors
/// `m` not a multiple of `64 * warpgroups`, `k` not a multiple of 16.
pub fn wgmma_a(m: u32, k: u32, warpgroups: u32) -> Result<Layout, LayoutError> {
    let slab_rows = split("m", m, warpgroups, 64)?;
    multiple("k", k, 16)?;
    let a = onto_tile().bits(Reg, [(Col, 1), (Row, 8), (Col, 8)]).outer(Reg, k / 16, [(Col, 16)]).outer(
        Reg,
        slab_rows / 64,
        [(Row, 64)],
    );
    quads_on_rows(a).bits(Warp, [(Row, 16), (Row, 32)]).outer(Warp, warpgroups, [(Row, slab_rows)]).build()
}

/// Accumulator of `mma.sync.m16n8` in 32-bit registers, a CTA tile over a grid of warps (PTX ISA 9.7.14.5.8, fragment C/D).
///
/// ```text
/// row = (rows / warps_m) * (w % warps_m) + 16 * mi + g + 8 * ((r >> 1) & 1)
/// col = (cols / warps_n) * (w / warps_m) + 8 * ni + 2 * t + (r & 1)
/// ```
/// Warp `wm + warps_m * wn`. Register order: m16 tile `mi` outer, n8 tile `ni` inner, 4 registers each.
///
/// # Errors
/// `rows` not a multiple of `16 * warps_m`, `cols` not a multiple of `8 * warps_n`.
pub fn mma_acc(rows: u32, cols: u32, warps_m: u32, warps_n: u32) -> Result<Layout, LayoutError> {
    let (warp_rows, warp_cols) = (split("rows", rows, warps_m, 16)?, split("cols", cols, warps_n, 8)?);
    let acc =
        onto_tile().bits(Reg, [(Col, 1), (Row, 8)]).outer(Reg, warp_cols / 8, [(Col, 8)]).outer(Reg, warp_rows / 16, [(Row, 16)]);
    quads_on_rows(acc).outer(Warp, warps_m, [(Row, warp_rows)]).outer(Warp, warps_n, [(Col, warp_cols)]).build()
}

/// A operand of `mma.sync.m16n8k16`, 16-bit elements, for the grid of [`mma_acc`] (PTX ISA 9.7.14.5.8, fragment A).
///
/// ```text
/// row = (rows / warps_m) * (w % warps_m) + 16 * mi + g + 8 * ((r >> 1) & 1)
/// col = 16 * ki + 8 * ((r >> 2) & 1) + 2 * t + (r & 1)
/// ```
/// The columns are k. Register order: m16 tile `mi` outer, k16 tile `ki` inner, 8 elements each. Warps that differ in
/// `wn = w / warps_m` hold the same elements.
///
/// # Errors
/// `rows` not a multiple of `16 * warps_m`, `k` not a multiple of 16, `warps_n` zero.
pub fn mma_a(rows: u32, k: u32, warps_m: u32, warps_n: u32) -> Result<Layout, LayoutError> {
    let warp_rows = split("rows", rows, warps_m, 16)?;
    multiple("k", k, 16)?;
    let a = onto_tile().bits(Reg, [(Col, 1), (Row, 8), (Col, 8)]).outer(Reg, k / 16, [(Col, 16)]).outer(
        Reg,
        warp_rows / 16,
        [(Row, 16)],
    );
    quads_on_rows(a).outer(Warp, warps_m, [(Row, warp_rows)]).outer(Warp, warps_n, []).build()
}

/// B operand of `mma.sync.m16n8k16`, 16-bit elements, for the grid of [`mma_acc`] (PTX ISA 9.7.14.5.8, fragment B).
///
/// ```text
/// row = 16 * ki + 8 * ((r >> 1) & 1) + 2 * t + (r & 1)
/// col = (cols / warps_n) * (w / warps_m) + 8 * ni + g
/// ```
/// The tile is B itself, `[k, n]`: rows are k and columns n; [`Layout::transposed`] gives the `[n, k]` view. Register order:
/// n8 tile `ni` outer, k16 tile `ki` inner, 4 elements each. Warps that differ in `wm = w % warps_m` hold the same elements.
///
/// # Errors
/// `cols` not a multiple of `8 * warps_n`, `k` not a multiple of 16, `warps_m` zero.
pub fn mma_b(cols: u32, k: u32, warps_m: u32, warps_n: u32) -> Result<Layout, LayoutError> {
    let warp_cols = split("cols", cols, warps_n, 8)?;
    multiple("k", k, 16)?;
    onto_tile()
        .bits(Reg, [(Row, 1), (Row, 8)])
        .outer(Reg, k / 16, [(Row, 16)])
        .outer(Reg, warp_cols / 8, [(Col, 8)])
        .bits(Lane, [(Row, 2), (Row, 4), (Col, 1), (Col, 2), (Col, 4)])
        .outer(Warp, warps_m, [])
        .outer(Warp, warps_n, [(Col, warp_cols)])
        .build()
}

/// A operand of `mma.sync.m16n8k32`, 8-bit elements, for the grid of [`mma_acc`] (PTX ISA 9.7.14.5.10, fragment A).
///
/// ```text
/// row = (rows / warps_m) * (w % warps_m) + 16 * mi + g + 8 * ((r >> 2) & 1)
/// col = 32 * ki + 16 * ((r >> 3) & 1) + 4 * t + (r & 3)
/// ```
/// Register order as in [`mma_a`]: four elements a register.
///
/// # Errors
/// `rows` not a multiple of `16 * warps_m`, `k` not a multiple of 32, `warps_n` zero.
pub fn mma_a_bytes(rows: u32, k: u32, warps_m: u32, warps_n: u32) -> Result<Layout, LayoutError> {
    let warp_rows = split("rows", rows, warps_m, 16)?;
    multiple("k", k, 32)?;
    onto_tile()
        .bits(Reg, [(Col, 1), (Col, 2), (Row, 8), (Col, 16)])
        .outer(Reg, k / 32, [(Col, 32)])
        .outer(Reg, warp_rows / 16, [(Row, 16)])
        .bits(Lane, [(Col, 4), (Col, 8), (Row, 1), (Row, 2), (Row, 4)])
        .outer(Warp, warps_m, [(Row, warp_rows)])
        .outer(Warp, warps_n, [])
        .build()
}

/// B operand of `mma.sync.m16n8k32`, 8-bit elements, for the grid of [`mma_acc`] (PTX ISA 9.7.14.5.10, fragment B).
///
/// ```text
/// row = 32 * ki + 16 * ((r >> 2) & 1) + 4 * t + (r & 3)
/// col = (cols / warps_n) * (w / warps_m) + 8 * ni + g
/// ```
/// The tile is B itself, `[k, n]`. Register order as in [`mma_b`]: four elements a register.
///
/// # Errors
/// `cols` not a multiple of `8 * warps_n`, `k` not a multiple of 32, `warps_m` zero.
pub fn mma_b_bytes(cols: u32, k: u32, warps_m: u32, warps_n: u32) -> Result<Layout, LayoutError> {
    let warp_cols = split("cols", cols, warps_n, 8)?;
    multiple("k", k, 32)?;
    onto_tile()
        .bits(Reg, [(Row, 1), (Row, 2), (Row, 16)])
        .outer(Reg, k / 32, [(Row, 32)])
        .outer(Reg, warp_cols / 8, [(Col, 8)])
        .bits(Lane, [(Row, 4), (Row, 8), (Col, 1), (Col, 2), (Col, 4)])
        .outer(Warp, warps_m, [])
        .outer(Warp, warps_n, [(Col, warp_cols)])
        .build()
}

/// Accumulator of `mma.sync.m16n8` beside B operands of [`mma_b_words`]: columns are where those have them.
///
/// Where a warp has a multiple of 32 columns, `row` as [`mma_acc`] and
/// ```text
/// col = (cols / warps_n) * (w / warps_m) + 32 * (ni / 4) + 4 * (ni % 4) + 16 * (t / 2) + 2 * (t % 2) + (r & 1)
/// ```
/// else [`mma_acc`].
///
/// # Errors
/// As [`mma_acc`].
pub fn mma_acc_words(rows: u32, cols: u32, warps_m: u32, warps_n: u32) -> Result<Layout, LayoutError> {
    let (warp_rows, warp_cols) = (split("rows", rows, warps_m, 16)?, split("cols", cols, warps_n, 8)?);
    if !spreads(warp_cols) {
        return mma_acc(rows, cols, warps_m, warps_n);
    }
    onto_tile()
        .bits(Reg, [(Col, 1), (Row, 8)])
        .outer(Reg, 4, [(Col, 4)])
        .outer(Reg, warp_cols / 32, [(Col, 32)])
        .outer(Reg, warp_rows / 16, [(Row, 16)])
        .bits(Lane, [(Col, 2), (Col, 16), (Row, 1), (Row, 2), (Row, 4)])
        .outer(Warp, warps_m, [(Row, warp_rows)])
        .outer(Warp, warps_n, [(Col, warp_cols)])
        .build()
}

/// A operand of `mma.sync.m16n8k8`, 32-bit elements, for the grid of [`mma_acc`] (PTX ISA 9.7.14.5.7, fragment A).
///
/// ```text
/// row = (rows / warps_m) * (w % warps_m) + 16 * mi + g + 8 * (r & 1)
/// col = 8 * ki + 4 * ((r >> 1) & 1) + t
/// ```
/// Register order as in [`mma_a`], 4 elements each.
///
/// # Errors
/// `rows` not a multiple of `16 * warps_m`, `k` not a multiple of 8, `warps_n` zero.
pub fn mma_a_words(rows: u32, k: u32, warps_m: u32, warps_n: u32) -> Result<Layout, LayoutError> {
    let warp_rows = split("rows", rows, warps_m, 16)?;
    multiple("k", k, 8)?;
    onto_tile()
        .bits(Reg, [(Row, 8), (Col, 4)])
        .outer(Reg, k / 8, [(Col, 8)])
        .outer(Reg, warp_rows / 16, [(Row, 16)])
        .bits(Lane, [(Col, 1), (Col, 2), (Row, 1), (Row, 2), (Row, 4)])
        .outer(Warp, warps_m, [(Row, warp_rows)])
        .outer(Warp, warps_n, [])
        .build()
}

/// B operand of `mma.sync.m16n8k8`, 32-bit elements, for the grid of [`mma_acc_words`] (PTX ISA 9.7.14.5.7, fragment B).
///
/// ```text
/// row = 8 * ki + 4 * (r & 1) + t
/// col = (cols / warps_n) * (w / warps_m) + 8 * ni + g
/// ```
/// The tile is B itself, `[k, n]`. Register order as in [`mma_b`], 2 elements each. Which column of B is which of a fragment is
/// free as long as the accumulator agrees: where a warp has a multiple of 32 columns,
/// `col = .. + 32 * (ni / 4) + 4 * (ni % 4) + 16 * (g / 4) + g % 4`, so that the four rows a warp reads at once from rows of 128
/// swizzled bytes lie in different banks. In the plain order two of them would meet.
///
/// # Errors
/// `cols` not a multiple of `8 * warps_n`, `k` not a multiple of 8, `warps_m` zero.
pub fn mma_b_words(cols: u32, k: u32, warps_m: u32, warps_n: u32) -> Result<Layout, LayoutError> {
    let warp_cols = split("cols", cols, warps_n, 8)?;
    multiple("k", k, 8)?;
    let b = onto_tile().bits(Reg, [(Row, 4)]).outer(Reg, k / 8, [(Row, 8)]);
    let b = if spreads(warp_cols) {
        b.outer(Reg, 4, [(Col, 4)]).outer(Reg, warp_cols / 32, [(Col, 32)])
    } else {
        b.outer(Reg, warp_cols / 8, [(Col, 8)])
    };
    let far = if spreads(warp_cols) { 16 } else { 4 };
    b.bits(Lane, [(Row, 1), (Row, 2), (Col, 1), (Col, 2), (Col, far)])
        .outer(Warp, warps_m, [])
        .outer(Warp, warps_n, [(Col, warp_cols)])
        .build()
}

/// A row-major tile `[rows, cols]` spread over all threads of a CTA, `vec` neighbouring columns per thread, for element-wise
/// kernels.
///
/// Lanes run along a row first, then down; warps likewise on what is left; then registers. With `c = cols / vec` groups in a
/// row, `gcd(c, 32)` lanes share one row, so a 96-column row of 8-element groups is read as 4 lanes on each of 8 rows.
/// Register order: `vec` columns, then further columns, then further rows.
///
/// # Errors
/// `threads` not a multiple of 32, `vec` not a power of two, `cols` not a multiple of `vec`, and tiles whose groups do not
/// divide evenly among the threads.
///
/// # Example
/// ```
/// use tilewright_ir::layout::{Dim, blocked};
/// let tile = blocked(128, [32, 96], 8)?;
/// assert_eq!(tile.contiguous_run(Dim::Reg, Dim::Col), 8);
/// assert_eq!(tile.in_size(Dim::Reg), 32 * 96 / 128);
/// # Ok::<(), tilewright_ir::layout::LayoutError>(())
/// ```
pub fn blocked(threads: u32, shape: [u32; 2], vec: u32) -> Result<Layout, LayoutError> {
    let [rows, cols] = shape;
    multiple("threads", threads, 32)?;
    if !vec.is_power_of_two() {
        return Err(LayoutError::Shape { what: "vec", value: vec, rule: "is not a power of two".to_owned() });
    }
    multiple("cols", cols, vec)?;
    let row_groups = cols / vec;
    let groups = u64::from(rows) * u64::from(row_groups);
    if groups == 0 || !groups.is_multiple_of(threads.into()) {
        let rule = format!(
            "does not divide the {groups} groups of {vec} elements in [{rows}, {cols}]: use fewer threads or pad the tile"
        );
        return Err(LayoutError::Shape { what: "threads", value: threads, rule });
    }
    // Greatest divisors first: what a row cannot take then always divides the rows, since the threads divide the groups.
    let lane_cols = gcd(row_groups, 32);
    let warps = threads / 32;
    let warp_cols = gcd(row_groups / lane_cols, warps);
    let (lane_rows, warp_rows) = (32 / lane_cols, warps / warp_cols);
    let (cta_cols, cta_rows) = (vec * lane_cols * warp_cols, lane_rows * warp_rows);
    onto_tile()
        .bits(Reg, powers(Col, 1, vec))
        .outer(Reg, cols / cta_cols, [(Col, cta_cols)])
        .outer(Reg, rows / cta_rows, [(Row, cta_rows)])
        .bits(Lane, powers(Col, vec, lane_cols))
        .bits(Lane, powers(Row, 1, lane_rows))
        .outer(Warp, warp_cols, [(Col, vec * lane_cols)])
        .outer(Warp, warp_rows, [(Row, lane_rows)])
        .build()
}

/// Values that go with rows of an A operand of 64 rows, one for each of `groups` runs of columns, as elements `[64, groups]`:
/// each thread holds those of its own two rows, [`wgmma_a`]'s.
///
/// ```text
/// row = 16 * w + g + 8 * (r & 1)        col = r >> 1
/// ```
/// A `[64, groups]` tile broadcasts to the A operand: columns repeat in runs.
///
/// # Errors
/// `groups` zero.
pub fn row_groups(groups: u32) -> Result<Layout, LayoutError> {
    multiple("groups", groups, 1)?;
    onto_tile()
        .bits(Reg, [(Row, 8)])
        .outer(Reg, groups, [(Col, 1)])
        .bit(Lane, [])
        .bit(Lane, [])
        .bits(Lane, [(Row, 1), (Row, 2), (Row, 4)])
        .bits(Warp, [(Row, 16), (Row, 32)])
        .build()
}

/// The 32-bit words in which [`row_groups`]' 16-bit values lie in memory: tile `[groups, 32]`, word `8 * w + g` of a run holds
/// rows `16 * w + g` and, in its high half, `16 * w + g + 8`.
///
/// # Errors
/// `groups` zero.
pub fn row_group_words(groups: u32) -> Result<Layout, LayoutError> {
    multiple("groups", groups, 1)?;
    onto_tile()
        .outer(Reg, groups, [(Row, 1)])
        .bit(Lane, [])
        .bit(Lane, [])
        .bits(Lane, [(Col, 1), (Col, 2), (Col, 4)])
        .bits(Warp, [(Col, 8), (Col, 16)])
        .build()
}

/// Whether fragments of 32-bit elements take their columns from all over rows of 128 bytes.
fn spreads(warp_cols: u32) -> bool {
    warp_cols.is_multiple_of(32)
}

fn onto_tile() -> Builder {
    Layout::onto([Row, Col]).input(Reg).input(Lane).input(Warp)
}

// Four lanes on the pairs of eight columns, eight quads on eight rows: the 8x8 matrix of every mma fragment but B.
fn quads_on_rows(fragment: Builder) -> Builder {
    fragment.bits(Lane, [(Col, 2), (Col, 4), (Row, 1), (Row, 2), (Row, 4)])
}

fn powers(dim: Dim, first: u32, count: u32) -> impl Iterator<Item = (Dim, u32)> {
    (0..count.ilog2()).map(move |bit| (dim, first << bit))
}

fn multiple(what: &'static str, value: u32, of: u32) -> Result<(), LayoutError> {
    if value > 0 && value.is_multiple_of(of) {
        return Ok(());
    }
    Err(LayoutError::Shape { what, value, rule: format!("is not a positive multiple of {of}: pad the tile") })
}

/// The share of each of `parts`, a multiple of `atom`.
fn split(what: &'static str, value: u32, parts: u32, atom: u32) -> Result<u32, LayoutError> {
    if parts == 0 {
        return Err(LayoutError::Shape {
            what: "warps",
            value: parts,
            rule: format!("cannot hold {what} = {value}: use at least 1"),
        });
    }
    multiple(what, value, atom.saturating_mul(parts))?;
    Ok(value / parts)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
