//! Which taps and which rows a CTA multiplies, read from lists that were made on the device. Grids have room for as many tiles
//! as there can be; CTAs without one leave.
//!
//! A row that has not a tap of its tile is multiplied as zeros: as any implicit GEMM, it takes a NaN from weights that are not
//! finite.
//!
//! Scalars: `cin`, `cout`, `m`; of tiles `taps` and `splits`, of pairs `pairs`, of one tap `tap`.

use super::class::{CoreClass, Exit, Source};
use tilewright_ir::DType;
use tilewright_ir::layout::blocked;
use tilewright_ir::tile::{
    CmpPred, Dim, KernelBuilder, Operand, ProbeAxis, RegTile, RoleBuilder, Scalar, SmemRef, TensorRef, TileRef,
};

/// Operands and lists of a kernel.
#[derive(Clone, Debug)]
pub(super) struct Feed {
    /// Features `[n, cin]`, or rows of pairs `[pairs, cin]`.
    pub x: TensorRef,
    /// `[taps, cin, cout]`; columns up to the next multiple of a 16-byte access.
    pub weight: TensorRef,
    lists: Lists,
    bm: u32,
    bn: u32,
    vec: u32,
}

#[derive(Clone, Debug)]
enum Lists {
    Tiles { taps: TensorRef, rows: TensorRef, out: TensorRef, count: TensorRef },
    Pairs { tiles: TensorRef, count: TensorRef, ends: Ends },
    Tap { start: TensorRef, ends: Ends },
}

/// Rows on both sides of pairs, where they are asked for.
#[derive(Clone, Debug)]
struct Ends {
    input: Option<TensorRef>,
    output: Option<TensorRef>,
}

/// Where a CTA stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Entry of the lists.
    pub item: Scalar,
    /// First column.
    pub col: Scalar,
    /// Whether there is such an entry.
    pub exists: Scalar,
    /// Range of taps.
    split: Scalar,
}

/// What a CTA has to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    /// Taps to multiply, which may be none.
    pub taps: Scalar,
    /// First column.
    pub col: Scalar,
    item: Scalar,
    split: Scalar,
    run: Option<Run>,
}

/// Pairs that follow one another.
#[derive(Clone, Copy, Debug)]
struct Run {
    tap: Scalar,
    first: Scalar,
    rows: Scalar,
}

impl Feed {
    /// Declares what the class's source reads, and the grid, for tiles of `bm` rows and `bn` columns.
    pub fn declare(k: &mut KernelBuilder, class: &CoreClass, [bm, bn]: [u32; 2]) -> Self {
        for name in ["m", "cin", "cout"] {
            k.shape(name);
        }
        let x_rows = if class.source == Source::Rows { "pairs" } else { "n" };
        let x = k.tensor("x", class.dtype, [Dim::param(x_rows), Dim::param("cin")]);
        let weight_cols = Dim::param(&class.weight_cols());
        let weight = k.tensor("weight", class.dtype, [Dim::param("taps"), Dim::param("cin"), weight_cols]);
        let one = || Dim { param: None, factor: 1 };
        let ends = |k: &mut KernelBuilder| {
            let adds = matches!(class.exit, Exit::AddAtomic | Exit::AddPlain);
            let input = (class.source != Source::Rows).then(|| k.tensor("pair_in", DType::I32, [Dim::param("pairs")]));
            let output = adds.then(|| k.tensor("pair_out", DType::I32, [Dim::param("pairs")]));
            Ends { input, output }
        };
        let (lists, rows) = match class.source {
            Source::Tiles => {
                for name in ["taps", "splits"] {
                    k.shape(name);
                }
                let items = format!("splits*ceil_div(m,{bm})");
                let bm = Dim { param: None, factor: bm };
                let taps = [Dim::param(&items), Dim::param("ceil_div(taps,splits)+1")];
                let rows = [Dim::param(&items), Dim::param("ceil_div(taps,splits)"), bm.clone()];
                k.probe("tile_taps", 1, ProbeAxis::Trips);
                // Enough outputs for the first tile.
                k.probe("count", 1, ProbeAxis::Tiles);
                let lists = Lists::Tiles {
                    taps: k.tensor("tile_taps", DType::I32, taps),
                    rows: k.tensor("tile_rows", DType::I32, rows),
                    out: k.tensor("tile_out", DType::I32, [Dim::param(&items), bm]),
                    count: k.tensor("count", DType::I32, [one()]),
                };
                (lists, items)
            }
            Source::Pairs | Source::Rows => {
                k.shape("most");
                k.probe("cin", 1, ProbeAxis::Trips);
                k.probe("tile_count", 1, ProbeAxis::Tiles);
                let tiles = k.tensor("tiles", DType::I32, [Dim::param("most"), Dim { param: None, factor: 3 }]);
                let count = k.tensor("tile_count", DType::I32, [one()]);
                (Lists::Pairs { tiles, count, ends: ends(k) }, "most".to_string())
            }
            Source::Tap => {
                k.shape("tap");
                k.probe("cin", 1, ProbeAxis::Trips);
                k.probe("tap_start", 1, ProbeAxis::Tiles);
                let start = k.tensor("tap_start", DType::I32, [Dim::param("taps+1")]);
                // An output meets a tap once at most.
                (Lists::Tap { start, ends: ends(k) }, format!("ceil_div(m,{bm})"))
            }
        };
        let vec = class.vec();
        k.require(format!("cin % {vec} == 0"));
        if class.n_align > 1 {
            k.require(format!("cout % {} == 0", class.n_align));
        }
        k.grid([format!("{rows}*ceil_div(cout,{bn})"), "1".into(), "1".into()]);
        Feed { x, weight, lists, bm, bn, vec }
    }

    /// The CTA's tile. Tiles that share rows follow each other, so that their rows are fetched once.
    pub fn place(&self, r: &mut RoleBuilder) -> Place {
        let (cta, cout) = (r.cta_id(0), r.param("cout"));
        let across = r.ceil_div(cout, self.bn);
        let (item, col) = (r.div(cta, across), r.rem(cta, across));
        let col = r.mul(col, self.bn);
        let zero = r.int(0);
        let (split, exists) = match &self.lists {
            Lists::Tiles { count, .. } => {
                let m = r.param("m");
                let down = r.ceil_div(m, self.bm);
                let (split, tile) = (r.div(item, down), r.rem(item, down));
                let first = r.mul(tile, self.bm);
                let count = r.load_scalar(count, &[zero]);
                (split, r.cmp(CmpPred::Lt, first, count))
            }
            Lists::Pairs { count, .. } => {
                let count = r.load_scalar(count, &[zero]);
                (zero, r.cmp(CmpPred::Lt, item, count))
            }
            Lists::Tap { start, .. } => {
                let tap = r.param("tap");
                let (_, rows) = self.of_tap(r, start, tap, item);
                (zero, r.cmp(CmpPred::Gt, rows, 0))
            }
        };
        Place { item, col, exists, split }
    }

    /// What there is to do at a place that exists.
    pub fn open(&self, r: &mut RoleBuilder, p: &Place) -> Work {
        let one = r.int(1);
        let (taps, run) = match &self.lists {
            Lists::Tiles { taps, .. } => {
                let zero = r.int(0);
                (r.load_scalar(taps, &[p.item, zero]), None)
            }
            Lists::Pairs { tiles, .. } => {
                let [tap, first, rows] = [0, 1, 2].map(|field| {
                    let field = r.int(field);
                    r.load_scalar(tiles, &[p.item, field])
                });
                (one, Some(Run { tap, first, rows }))
            }
            Lists::Tap { start, .. } => {
                let tap = r.param("tap");
                let (first, rows) = self.of_tap(r, start, tap, p.item);
                (one, Some(Run { tap, first, rows }))
            }
        };
        Work { taps, col: p.col, item: p.item, split: p.split, run }
    }

    /// Whether all of a CTA's work is of one tap.
    pub fn one_tap(&self) -> bool {
        !matches!(self.lists, Lists::Tiles { .. })
    }

    /// The tap of a slot below [`Work::taps`].
    pub fn tap(&self, r: &mut RoleBuilder, w: &Work, slot: Scalar) -> Scalar {
        match (&self.lists, w.run) {
            (Lists::Tiles { taps, .. }, _) => {
                let at = r.add(slot, 1);
                r.load_scalar(taps, &[w.item, at])
            }
            (_, run) => run.expect("work of pairs is a run of them").tap,
        }
    }

    /// Rows of `x` that the tile's rows from `from` on meet at a slot below [`Work::taps`], -1 for none: I32 `[rows, 1]`.
    pub fn rows(&self, r: &mut RoleBuilder, w: &Work, slot: Scalar, from: impl Into<Operand>, ty: RegTile) -> TileRef {
        let index = numbers(r, from, ty);
        match (&self.lists, w.run) {
            (Lists::Tiles { rows, .. }, _) => r.load_elems(rows, &[w.item, slot], index, None),
            (Lists::Pairs { ends, .. } | Lists::Tap { ends, .. }, run) => {
                let run = run.expect("work of pairs is a run of them");
                through(r, run, index, ends.input.as_ref())
            }
        }
    }

    /// Rows of the output that the tile's rows from `from` on add to, -1 for none; of slabs, those of the tile's slab.
    pub fn out_rows(&self, r: &mut RoleBuilder, w: &Work, from: impl Into<Operand>, ty: RegTile, exit: Exit) -> TileRef {
        let index = numbers(r, from, ty);
        match (&self.lists, w.run) {
            (Lists::Tiles { out, .. }, _) => {
                let rows = r.load_elems(out, &[w.item], index, None);
                if exit != Exit::Slab {
                    return rows;
                }
                let m = r.param("m");
                let slab = r.mul(w.split, m);
                let slab = r.splat(slab, r.tile_type(rows));
                let further = r.binary("add", rows, slab);
                let zero = r.splat_int(0, rows);
                let there = r.compare(CmpPred::Ge, rows, zero);
                r.choose(there, further, rows)
            }
            (Lists::Pairs { ends, .. } | Lists::Tap { ends, .. }, run) => {
                let run = run.expect("work of pairs is a run of them");
                through(r, run, index, ends.output.as_ref())
            }
        }
    }

    /// Starts the copy of `[bm, bk]` features from column `at`; past cin they are zeros.
    pub fn copy_rows(&self, r: &mut RoleBuilder, to: SmemRef, rows: TileRef, at: Scalar) {
        r.copy_rows(&self.x, to, rows, at, self.vec);
    }

    /// Starts the copy of `[bk, bn]` weights of a tap from row `at`; past cin and cout they are zeros.
    pub fn copy_weight(&self, r: &mut RoleBuilder, to: SmemRef, tap: Scalar, at: Scalar, col: Scalar, bk: u32) {
        if blocked(r.unit_threads(), [bk, self.bn], self.vec).is_err() {
            r.copy_async(&self.weight, to, &[tap, at, col], self.vec);
            return;
        }
        // As rows of all taps: their addresses cost less than those of a matrix among others.
        let ty = r.copy_rows_index(to, self.vec);
        let row = numbers(r, at, ty.clone());
        let cin = r.param("cin");
        let first = r.mul(tap, cin);
        let (first, end) = (r.splat(first, ty.clone()), r.splat(cin, ty));
        let there = r.compare(CmpPred::Lt, row, end);
        let number = r.binary("add", row, first);
        let none = r.splat_int(-1, number);
        let number = r.choose(there, number, none);
        r.copy_rows(&self.weight, to, number, col, self.vec);
    }

    /// Elements of a copy.
    pub fn vec(&self) -> u32 {
        self.vec
    }

    /// First pair and number of pairs of a tap's tile; no tile where that is not positive.
    fn of_tap(&self, r: &mut RoleBuilder, start: &TensorRef, tap: Scalar, item: Scalar) -> (Scalar, Scalar) {
        let next = r.add(tap, 1);
        let (from, to) = (r.load_scalar(start, &[tap]), r.load_scalar(start, &[next]));
        let skipped = r.mul(item, self.bm);
        let first = r.add(from, skipped);
        let left = r.sub(to, first);
        (first, r.min(left, self.bm))
    }
}

/// `from`, `from + 1`, ... down a tile.
fn numbers(r: &mut RoleBuilder, from: impl Into<Operand>, ty: RegTile) -> TileRef {
    let index = r.iota(0, ty.clone());
    let from = r.add(from, 0);
    let from = r.splat(from, ty);
    r.binary("add", index, from)
}

/// Pairs of a run by their number in it, or what a list says of them; -1 behind the run.
fn through(r: &mut RoleBuilder, run: Run, index: TileRef, list: Option<&TensorRef>) -> TileRef {
    let ty = r.tile_type(index);
    let (rows, first) = (r.splat(run.rows, ty.clone()), r.splat(run.first, ty));
    let there = r.compare(CmpPred::Lt, index, rows);
    let pair = r.binary("add", index, first);
    let number = match list {
        Some(list) => r.load_elems(list, &[], pair, Some(there)),
        None => pair,
    };
    let none = r.splat_int(-1, number);
    r.choose(there, number, none)
}
