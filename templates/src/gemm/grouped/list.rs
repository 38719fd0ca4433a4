//! Which tile of rows belongs to which expert: a list made on the device, read by the GEMM.

use crate::gemm::epilogue::EpilogueAt;
use crate::gemm::problem::Groups;
use tilewright_ir::DType;
use tilewright_ir::layout::{LayoutError, blocked};
use tilewright_ir::tile::{CmpPred, Dim, KernelBuilder, ProbeAxis, RegTile, RoleBuilder, Scalar, TensorRef, TileRef, Unit};

/// Entries of a CTA, one for each thread.
const ENTRIES: u32 = 128;
/// Experts whose numbers are under way at once.
const AT_ONCE: u32 = 8;
/// Numbers of an entry: expert, first row, rows.
const FIELDS: u32 = 3;

/// Records the kernel: from `offsets` I32 `[e + 1]` or `counts` I32 `[e]` to `tiles` I32 `[most, 3]`, for each tile of at most
/// `bm` rows (expert, first row, rows), experts ascending and rows in them, and `tile_count` I32 `[1]`, how many there are.
/// Entries behind that are not written. The first row is one of `tokens` sorted rows, or of the expert's `max_m`.
///
/// Scalars: `e`, and `tokens` or `max_m`. Offsets are taken as 0 to `tokens`, one below its predecessor as no rows; counts as 0
/// to `max_m`: numbers that are neither do no harm, but the caller refuses them where it can see them.
///
/// # Errors
/// Where threads and a tile have no common layout: never, for the constants here.
pub fn group_tiles(k: &mut KernelBuilder, groups: Groups, bm: u32) -> Result<(), LayoutError> {
    let [_, rows] = groups.rows();
    ["e".into()].into_iter().chain(rows.param).for_each(|n: String| drop(k.shape(&n)));
    let (name, len) = if groups == Groups::Offsets { ("offsets", "e+1") } else { ("counts", "e") };
    let lengths = k.tensor(name, DType::I32, [Dim::param(len)]);
    let most = groups.most_tiles(bm);
    let list = TileList::declare(k, groups, bm);
    k.grid([format!("ceil_div({most},{ENTRIES})"), "1".into(), "1".into()]);
    let ty = RegTile { dtype: DType::I32, shape: [ENTRIES, 1], layout: blocked(ENTRIES, [ENTRIES, 1], 1)? };
    let x = Ctx { groups, bm, lengths, list, ty };
    k.role("main", ENTRIES / 32, None, Unit::Role, |r| x.main(r));
    Ok(())
}

struct Ctx {
    groups: Groups,
    bm: u32,
    lengths: TensorRef,
    list: TileList,
    ty: RegTile,
}

impl Ctx {
    /// The owner of an entry is the last expert whose tiles begin at or before it: experts without rows begin where the next one
    /// does.
    fn main(&self, r: &mut RoleBuilder) {
        let cta = r.cta_id(0);
        let first = r.mul(cta, ENTRIES);
        let number = r.iota(0, self.ty.clone());
        let first = r.splat(first, self.ty.clone());
        let number = r.binary("add", number, first);
        let e = r.param("e");
        let zero = r.int(0);
        let none = r.splat(zero, self.ty.clone());
        let before = r.scalar_cell(0);
        let (expert, begin, from, len) = (r.tile_cell(none), r.tile_cell(none), r.tile_cell(none), r.tile_cell(none));
        r.for_range(0, e, AT_ONCE, |r, i| {
            for (j, [start, rows]) in self.spans(r, i, e).into_iter().enumerate() {
                let at = r.get(before);
                let tiles = r.ceil_div(rows, self.bm);
                let next = r.add(at, tiles);
                r.set(before, next);
                let index = r.add(i, j as u32);
                let at = r.splat(at, self.ty.clone());
                let mine = r.compare(CmpPred::Le, at, number);
                let index = r.splat(index, self.ty.clone());
                let (start, rows) = (r.splat(start, self.ty.clone()), r.splat(rows, self.ty.clone()));
                for (cell, value) in [(expert, index), (begin, at), (from, start), (len, rows)] {
                    let old = r.get_tile(cell);
                    let new = r.choose(mine, value, old);
                    r.set_tile(cell, new);
                }
            }
        });
        let total = r.get(before);
        let mine = [expert, begin, from, len].map(|c| r.get_tile(c));
        self.write(r, number, total, mine);
    }

    /// First row and rows of the experts from `i` on; none past the last.
    fn spans(&self, r: &mut RoleBuilder, i: Scalar, e: Scalar) -> Vec<[Scalar; 2]> {
        let [_, rows] = self.groups.rows();
        let most = r.param(rows.param.as_deref().unwrap_or("tokens"));
        let clamp = |r: &mut RoleBuilder, v: Scalar| {
            let v = r.max(v, 0);
            r.min(v, most)
        };
        if self.groups == Groups::Offsets {
            let ends: Vec<Scalar> = (0..=AT_ONCE)
                .map(|j| {
                    let at = r.add(i, j);
                    let at = r.min(at, e);
                    r.load_scalar(&self.lengths, &[at])
                })
                .collect();
            let ends: Vec<Scalar> = ends.into_iter().map(|v| clamp(r, v)).collect();
            return ends
                .windows(2)
                .map(|pair| {
                    let rows = r.sub(pair[1], pair[0]);
                    [pair[0], r.max(rows, 0)]
                })
                .collect();
        }
        let counts: Vec<(Scalar, Scalar)> = (0..AT_ONCE)
            .map(|j| {
                let at = r.add(i, j);
                let some = r.cmp(CmpPred::Lt, at, e);
                let last = r.sub(e, 1);
                let at = r.min(at, last);
                (r.load_scalar(&self.lengths, &[at]), some)
            })
            .collect();
        let zero = r.int(0);
        counts
            .into_iter()
            .map(|(v, some)| {
                let v = clamp(r, v);
                [zero, r.select(some, v, 0)]
            })
            .collect()
    }

    /// Writes each thread's entry, and how many there are.
    fn write(&self, r: &mut RoleBuilder, number: TileRef, total: Scalar, [expert, begin, from, len]: [TileRef; 4]) {
        let all = |r: &mut RoleBuilder, v: Scalar| r.splat(v, self.ty.clone());
        // Offsets that do not ascend may claim rows twice: the list has no more entries than sound ones need.
        let most = self.most(r);
        let total = r.min(total, most);
        let end = all(r, total);
        let there = r.compare(CmpPred::Lt, number, end);
        let bm = r.int(i64::from(self.bm));
        let bm = all(r, bm);
        let tile = r.binary("sub", number, begin);
        let done = r.binary("mul", tile, bm);
        let row = r.binary("add", from, done);
        let left = r.binary("sub", len, done);
        let rows = r.binary("min", left, bm);
        let fields = r.int(i64::from(FIELDS));
        let fields = all(r, fields);
        let at = r.binary("mul", number, fields);
        for (i, value) in [expert, row, rows].into_iter().enumerate() {
            let i = r.int(i as i64);
            let i = all(r, i);
            let at = r.binary("add", at, i);
            r.store_elems(&self.list.tiles, &[], at, value, Some(there));
        }
        let one = r.int(1);
        let one = all(r, one);
        let first = r.compare(CmpPred::Lt, number, one);
        r.store_elems(&self.list.count, &[], number, end, Some(first));
    }

    /// [`Groups::most_tiles`] as a number.
    fn most(&self, r: &mut RoleBuilder) -> Scalar {
        let e = r.param("e");
        if self.groups == Groups::Offsets {
            let tokens = r.param("tokens");
            let whole = r.div(tokens, self.bm);
            let parts = r.min(e, tokens);
            return r.add(whole, parts);
        }
        let max_m = r.param("max_m");
        let each = r.ceil_div(max_m, self.bm);
        r.mul(e, each)
    }
}

/// The list as kernels see it.
#[derive(Clone, Debug)]
pub(in crate::gemm) struct TileList {
    tiles: TensorRef,
    count: TensorRef,
}

/// An entry of the list.
#[derive(Clone, Copy, Debug)]
pub(in crate::gemm) struct GroupTile {
    /// Matrix of b.
    pub expert: Scalar,
    /// First row, in the matrix of a and d that [`Self::matrix`] names.
    pub row: Scalar,
    /// Rows that are the expert's, at most those of a tile.
    pub rows: Scalar,
    /// Matrix of a and d.
    pub matrix: Scalar,
}

impl TileList {
    /// Declares `tiles` and `tile_count` of tiles of `bm` rows.
    pub fn declare(k: &mut KernelBuilder, groups: Groups, bm: u32) -> Self {
        let tiles = k.tensor("tiles", DType::I32, [Dim::param(&groups.most_tiles(bm)), Dim { param: None, factor: FIELDS }]);
        TileList { tiles, count: k.tensor("tile_count", DType::I32, [Dim { param: None, factor: 1 }]) }
    }

    /// As [`Self::declare`] for a kernel that walks the list: the protocol check tries a few lengths of it, tiles full.
    pub fn walked(k: &mut KernelBuilder, groups: Groups, bm: u32) -> Self {
        k.probe("tile_count", 1, ProbeAxis::Tiles);
        k.probe("tiles", bm, ProbeAxis::Tiles);
        Self::declare(k, groups, bm)
    }

    /// How many entries there are.
    pub fn count(&self, r: &mut RoleBuilder) -> Scalar {
        let zero = r.int(0);
        r.load_scalar(&self.count, &[zero])
    }

    /// Entry `index`, below the count.
    pub fn entry(&self, r: &mut RoleBuilder, groups: Groups, index: Scalar) -> GroupTile {
        let [expert, row, rows] = [0, 1, 2].map(|field| {
            let field = r.int(field);
            r.load_scalar(&self.tiles, &[index, field])
        });
        let matrix = if groups == Groups::Counts { expert } else { r.int(0) };
        GroupTile { expert, row, rows, matrix }
    }
}

/// Stores the first `left` rows of a tile, none where that is not positive: what follows in d belongs to the next group, or to
/// nobody.
pub(in crate::gemm) fn store_some_rows(
    r: &mut RoleBuilder,
    groups: Groups,
    d: &TensorRef,
    y: TileRef,
    at: EpilogueAt,
    left: Scalar,
    vec: u32,
) {
    let like = r.tile_type(y);
    let ty = r.row_vec(&like, DType::I32);
    let [_, rows] = groups.rows();
    let rows = r.param(rows.param.as_deref().unwrap_or("tokens"));
    let first = r.mul(at.batch, rows);
    let first = r.add(first, at.row);
    let none = r.int(-1);
    let [first, left, none] = [first, left, none].map(|v| r.splat(v, ty.clone()));
    let inside = r.iota(0, ty);
    let number = r.binary("add", inside, first);
    let there = r.compare(CmpPred::Lt, inside, left);
    let number = r.choose(there, number, none);
    r.store_rows(d, y, number, at.col, vec);
}
