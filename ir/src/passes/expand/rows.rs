//! Memory by index: single elements, gathered and scattered rows, and cp.async of gathered rows. Addresses are 64-bit
//! sums; a thread computes those of the rows it holds and no others.

use super::global::{Access, Loaded, View};
use super::{Expander, Low};
use crate::attr::Attrs;
use crate::dtype::DType;
use crate::lane::{self, Op as L, Ty};
use crate::layout::{Dim, Layout, blocked};
use crate::passes::PassError;
use crate::tile::{Op, OpKind, RegTile, Value};
use rustc_hash::{FxHashMap, FxHashSet};

impl Expander<'_> {
    pub(super) fn rows_op(&mut self, op: &Op) -> Result<(), PassError> {
        match op.kind {
            OpKind::LoadScalar => {
                self.load_scalar(op);
                Ok(())
            }
            OpKind::LoadElems => self.load_elems(op),
            OpKind::StoreElems => self.store_elems(op),
            OpKind::LoadRows => self.load_rows(op),
            OpKind::StoreRows => self.store_rows(op),
            _ => self.copy_rows(op),
        }
    }

    /// Every thread loads it; lane 0's is broadcast, so that what follows from it counts as uniform.
    fn load_scalar(&mut self, op: &Op) {
        let (view, at) = self.element_base(op, &op.args);
        let v = self.load_element(&view, at, None);
        // An elected thread is alone in its warp.
        let v = match (self.role.unit, self.b.func.ty(v)) {
            (crate::tile::Unit::Thread, _) => v,
            (_, Ty::F32) => {
                let bits = self.b.cast(L::Bitcast, v, Ty::I32);
                let bits = self.uniform(bits);
                self.b.cast(L::Bitcast, bits, Ty::F32)
            }
            _ => self.uniform(v),
        };
        self.env.insert(op.outs[0], Low::Scalar(v));
    }

    fn load_elems(&mut self, op: &Op) -> Result<(), PassError> {
        let (tiles, at) = self.tiles_and_coordinates(op);
        let (view, base) = self.element_base(op, at);
        let index = self.regs(tiles[0]);
        let mask = tiles.get(1).map(|m| self.regs(*m));
        let mut regs = Vec::with_capacity(index.len());
        for (i, index) in index.into_iter().enumerate() {
            let ptr = self.indexed(&view, base, index);
            regs.push(self.load_element(&view, ptr, mask.as_ref().map(|m| m[i])));
        }
        self.env.insert(op.outs[0], Low::Regs(regs));
        Ok(())
    }

    fn store_elems(&mut self, op: &Op) -> Result<(), PassError> {
        let (tiles, at) = self.tiles_and_coordinates(op);
        let (view, base) = self.element_base(op, at);
        let t = self.reg_tile(tiles[0]);
        let (index, value) = (self.regs(tiles[0]), self.regs(tiles[1]));
        let mask = tiles.get(2).map(|m| self.regs(*m));
        let mine = self.sole_holder(&t.layout);
        let mut seen = FxHashSet::default();
        for i in 0..index.len() {
            if !seen.insert(self.reg_coords(&t.layout, i)) {
                continue;
            }
            let ok = match (mask.as_ref().map(|m| m[i]), mine) {
                (Some(a), Some(b)) => Some(self.b.op(L::And, &[a, b])),
                (a, b) => a.or(b),
            };
            let ptr = self.indexed(&view, base, index[i]);
            self.store_element(&view, ptr, value[i], ok);
        }
        Ok(())
    }

    fn load_rows(&mut self, op: &Op) -> Result<(), PassError> {
        let t = self.reg_tile(op.outs[0]);
        let mut loaded = Loaded::new(&t);
        let (rows, col) = (op.args[0], self.scalar(op.args[1]));
        self.each_row_vector(op, &t, rows, col, &mut |x, view, a| loaded.load(x, view, &a))?;
        let regs = loaded.registers(self);
        self.env.insert(op.outs[0], Low::Regs(regs));
        Ok(())
    }

    fn store_rows(&mut self, op: &Op) -> Result<(), PassError> {
        let t = self.reg_tile(op.args[0]);
        let regs = self.regs(op.args[0]);
        let (rows, col) = (op.args[1], self.scalar(op.args[2]));
        let mine = self.sole_holder(&t.layout);
        self.each_row_vector(op, &t, rows, col, &mut |x, _, a| {
            if a.same.is_none() {
                let ok = mine.map_or(a.ok, |mine| x.b.op(L::And, &[a.ok, mine]));
                x.store_vector(&t, &regs, Access { ok, ..a });
            }
        })
    }

    /// Walks a register tile in vectors: rows by number, columns from `col` on.
    pub(super) fn each_row_vector(
        &mut self,
        op: &Op,
        t: &RegTile,
        rows: Value,
        col: lane::Value,
        f: &mut dyn FnMut(&mut Self, &View, Access),
    ) -> Result<(), PassError> {
        let (_, view) = self.row_view(op);
        let vec = self.vector(op, t);
        let at = RowsAt::new(self, &view, &t.layout, rows, col)?;
        let mut walk = RowWalk { at, bases: FxHashMap::default(), columns: FxHashMap::default() };
        let mut seen: FxHashMap<[u32; 2], usize> = FxHashMap::default();
        for reg in (0..t.layout.in_size(Dim::Reg) as usize).step_by(vec) {
            let at = self.reg_coords(&t.layout, reg);
            let (ptr, ok) = walk.element(self, &view, at);
            let same = seen.get(&at).copied();
            seen.entry(at).or_insert(reg);
            f(self, &view, Access { reg, vec, same, ptr, ok });
        }
        Ok(())
    }

    /// Each thread of the unit copies the vectors that a blocked tile gives it.
    fn copy_rows(&mut self, op: &Op) -> Result<(), PassError> {
        let (to, tile) = self.smem(op.args[0]);
        let (rows, col) = (op.args[1], self.scalar(op.args[2]));
        let (_, view) = self.row_view(op);
        let vec = op.attrs.get_int("vec") as u32;
        let layout = match blocked(self.unit_threads(), tile.shape, vec) {
            Ok(layout) => layout,
            Err(e) => return self.unsupported(format!("{} threads cannot share this copy: {e}", self.unit_threads())),
        };
        let at = RowsAt::new(self, &view, &layout, rows, col)?;
        let [row, in_row] = at.thread;
        let moves = op.attrs.get_int("moves") != 0;
        let mut near = Near::new(self, &view);
        let mut walk = RowWalk { at, bases: FxHashMap::default(), columns: FxHashMap::default() };
        // Swizzles repeat every eight rows: what lies a multiple of eight further down is a constant away.
        let mut offsets: FxHashMap<[u32; 2], lane::Value> = FxHashMap::default();
        for reg in (0..layout.in_size(Dim::Reg) as usize).step_by(vec as usize) {
            let [r, c] = self.reg_coords(&layout, reg);
            let offset = match offsets.get(&[r % 8, c]) {
                Some(offset) => *offset,
                None => {
                    let row = self.b.imm(L::IAdd, row, i64::from(r % 8));
                    let col = self.b.imm(L::IAdd, in_row, i64::from(c));
                    let bytes = self.b.imm(L::IMul, col, i64::from(view.bytes));
                    let offset = self.smem_offset(&tile, row, bytes);
                    offsets.insert([r % 8, c], offset);
                    offset
                }
            };
            let further = super::address::SmemAddr { bytes: to.bytes + r / 8 * 8 * tile.pitch_bytes(), ..to };
            let dst = self.smem_ptr(further, Some(offset));
            if moves && vec * view.bytes > 2 {
                let (src, ok) = near.element(self, &view, &walk.at, [r, c]);
                self.copy_vector_from(&view, dst, src, ok, vec);
                continue;
            }
            let (src, ok) = walk.element(self, &view, [r, c]);
            self.copy_vector(&view, dst, src, ok, vec);
        }
        Ok(())
    }

    /// The register tiles an operation starts with, and the coordinates after them.
    pub(super) fn tiles_and_coordinates<'o>(&self, op: &'o Op) -> (&'o [Value], &'o [Value]) {
        let tiles = op.args.iter().take_while(|a| matches!(self.k.ty(**a), crate::tile::Ty::Reg(_))).count();
        op.args.split_at(tiles)
    }

    /// The address of the first element that leading coordinates pick.
    pub(super) fn element_base(&mut self, op: &Op, at: &[Value]) -> (View, lane::Value) {
        let (tensor, view) = self.element_view(op);
        let mut index = None;
        for (i, extent) in tensor.dims.iter().enumerate() {
            let coordinate = at.get(i).map(|v| self.scalar(*v)).map(|v| self.b.cast(L::SExt, v, Ty::I64));
            index = match (index, coordinate) {
                (None, c) => c,
                (Some(before), c) => {
                    let extent = self.extent(extent);
                    let extent = self.b.cast(L::SExt, extent, Ty::I64);
                    let start = self.b.op(L::IMul, &[before, extent]);
                    Some(c.map_or(start, |c| self.b.op(L::IAdd, &[start, c])))
                }
            };
        }
        let Some(index) = index else {
            let ptr = view.ptr;
            return (view, ptr);
        };
        let bytes = self.b.imm(L::IMul, index, i64::from(view.bytes));
        let ptr = self.b.op(L::PtrAdd, &[view.ptr, bytes]);
        (view, ptr)
    }

    pub(super) fn indexed(&mut self, view: &View, base: lane::Value, index: lane::Value) -> lane::Value {
        let index = self.b.cast(L::SExt, index, Ty::I64);
        let bytes = self.b.imm(L::IMul, index, i64::from(view.bytes));
        self.b.op(L::PtrAdd, &[base, bytes])
    }

    /// One element as the 32-bit number it is in registers; where `ok` is false it is 0 and nothing is read.
    fn load_element(&mut self, view: &View, ptr: lane::Value, ok: Option<lane::Value>) -> lane::Value {
        let raw = match view.dtype {
            DType::F32 => Ty::F32,
            DType::F16 | DType::BF16 => Ty::I16,
            _ => Ty::I32,
        };
        let v = match (ok, view.dtype == DType::U8) {
            (None, true) => self.b.op(L::LoadByte, &[ptr]),
            (None, false) => {
                let attrs = Attrs::none().int("align", i64::from(view.bytes)).int("readonly", i64::from(!view.written));
                self.b.inst(L::Load, &[ptr], &[raw], attrs)[0]
            }
            (Some(ok), true) => self.b.op(L::LoadByteIf, &[ok, ptr]),
            (Some(ok), false) => self.b.inst(view.load_if(), &[ok, ptr], &[raw], Attrs::none())[0],
        };
        match view.dtype {
            DType::BF16 => {
                // A bfloat16 is the upper half of a binary32.
                let wide = self.b.cast(L::ZExt, v, Ty::I32);
                let wide = self.b.imm(L::Shl, wide, 16);
                self.b.cast(L::Bitcast, wide, Ty::F32)
            }
            DType::F16 => {
                let half = self.b.cast(L::Bitcast, v, Ty::F16);
                self.b.cast(L::FPExt, half, Ty::F32)
            }
            _ => v,
        }
    }

    fn store_element(&mut self, view: &View, ptr: lane::Value, v: lane::Value, ok: Option<lane::Value>) {
        let v = match view.dtype {
            DType::BF16 | DType::F16 => {
                let pack = if view.dtype == DType::BF16 { L::PackBF16 } else { L::PackF16 };
                let pair = self.b.op(pack, &[v, v]);
                self.b.cast(L::Trunc, pair, Ty::I16)
            }
            _ => v,
        };
        let ok = ok.unwrap_or_else(|| self.b.constant(Ty::I1, 1));
        let kind = if view.dtype == DType::U8 { L::StoreByteIf } else { L::StoreIf };
        self.b.effect(kind, &[ok, ptr, v], Attrs::none());
    }

    /// True in the first of the threads that hold the same elements; `None` where no two do.
    pub(super) fn sole_holder(&mut self, l: &Layout) -> Option<lane::Value> {
        let mut all = None;
        for (dim, index) in [(Dim::Lane, self.at.lane), (Dim::Warp, self.at.unit_warp)] {
            let bits: i64 = l.bases(dim).iter().enumerate().filter(|(_, b)| b.is_zero()).map(|(i, _)| 1i64 << i).sum();
            let mut parts = Vec::new();
            if bits != 0 {
                parts.push(self.b.imm(L::And, index, bits));
            }
            let mut before = 1i64 << l.bases(dim).len();
            for o in l.outers(dim) {
                if o.stride.is_zero() {
                    let at = self.b.imm(L::UDiv, index, before);
                    parts.push(self.b.imm(L::URem, at, i64::from(o.extent)));
                }
                before *= i64::from(o.extent);
            }
            for part in parts {
                let zero = self.b.i32(0);
                let first = self.b.icmp("eq", part, zero);
                all = Some(all.map_or(first, |all| self.b.op(L::And, &[all, first])));
            }
        }
        all
    }
}

/// What of a gathered tile is known once: this thread's place in it, and the numbers of its rows.
struct RowsAt {
    /// This thread's (row, col) in the tile, without its registers' part.
    thread: [lane::Value; 2],
    /// The first column of the thread in the tensor.
    col: lane::Value,
    /// Row numbers by the row that a register adds.
    rows: FxHashMap<u32, lane::Value>,
}

impl RowsAt {
    fn new(x: &mut Expander, _: &View, l: &Layout, rows: Value, col: lane::Value) -> Result<Self, PassError> {
        let thread = x.thread_coords(l)?;
        let col = x.b.op(L::IAdd, &[col, thread[1]]);
        let layout = x.reg_tile(rows).layout;
        let rows = x.regs(rows).into_iter().enumerate().map(|(r, v)| (x.reg_coords(&layout, r)[0], v)).collect();
        Ok(RowsAt { thread, col, rows })
    }
}

/// Addresses that are inside the tensor even where nothing is copied: of row 0, or of the first column, instead. A row outside
/// the columns becomes a negative one, so that one comparison tells whether there is something to copy.
struct Near {
    /// Bytes of a row.
    row_bytes: lane::Value,
    /// Start of a column, and -1 where it is outside.
    columns: FxHashMap<u32, (lane::Value, lane::Value)>,
}

impl Near {
    fn new(x: &mut Expander, view: &View) -> Self {
        Near { row_bytes: x.b.imm(L::IMul, view.cols(), i64::from(view.bytes)), columns: FxHashMap::default() }
    }

    /// As [`RowWalk::element`].
    fn element(&mut self, x: &mut Expander, view: &View, at: &RowsAt, [r, c]: [u32; 2]) -> (lane::Value, lane::Value) {
        let zero = x.b.i32(0);
        let (start, outside) = match self.columns.get(&c) {
            Some(known) => *known,
            None => {
                let col = x.b.imm(L::IAdd, at.col, i64::from(c));
                let ok = x.b.icmp("ult", col, view.cols());
                let col = x.b.op(L::Select, &[ok, col, zero]);
                let none = x.b.i64(0);
                let start = x.element_ptr(view, none, col);
                let all = x.b.i32(-1);
                let outside = x.b.op(L::Select, &[ok, zero, all]);
                self.columns.insert(c, (start, outside));
                (start, outside)
            }
        };
        let row = *at.rows.get(&r).expect("the verifier checked that row numbers have the tile's rows");
        let row = x.b.op(L::Or, &[row, outside]);
        let ok = x.b.icmp("sge", row, zero);
        let row = x.b.op(L::SMax, &[row, zero]);
        let offset = x.b.op(L::MulWide, &[row, self.row_bytes]);
        (x.b.op(L::PtrAdd, &[start, offset]), ok)
    }
}

/// Addresses and predicates, each computed once.
struct RowWalk {
    at: RowsAt,
    bases: FxHashMap<u32, (lane::Value, lane::Value)>,
    columns: FxHashMap<u32, lane::Value>,
}

impl RowWalk {
    /// The address of the element at `[row, col]` from this thread's first, and whether it is to be touched.
    fn element(&mut self, x: &mut Expander, view: &View, [r, c]: [u32; 2]) -> (lane::Value, lane::Value) {
        let (base, row_ok) = match self.bases.get(&r) {
            Some(known) => *known,
            None => {
                let row = *self.at.rows.get(&r).expect("the verifier checked that row numbers have the tile's rows");
                let wide = x.b.cast(L::SExt, row, Ty::I64);
                let cols = x.b.cast(L::SExt, view.cols(), Ty::I64);
                let start = x.b.op(L::IMul, &[wide, cols]);
                let base = x.element_ptr(view, start, self.at.col);
                let zero = x.b.i32(0);
                let ok = x.b.icmp("sge", row, zero);
                self.bases.insert(r, (base, ok));
                (base, ok)
            }
        };
        let col_ok = match self.columns.get(&c) {
            Some(ok) => *ok,
            None => {
                let col = x.b.imm(L::IAdd, self.at.col, i64::from(c));
                // Unsigned: a negative column is outside as well.
                let ok = x.b.icmp("ult", col, view.cols());
                self.columns.insert(c, ok);
                ok
            }
        };
        let ok = x.b.op(L::And, &[row_ok, col_ok]);
        (x.b.ptr_offset(base, i64::from(c * view.bytes)), ok)
    }
}
