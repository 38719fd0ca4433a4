//! Register tiles from and to global memory, and cooperative copies into shared memory. Nothing outside a tensor is
//! touched: every access carries its own predicate.

use super::address::SmemAddr;
use super::control::{packing, reg_ty};
use super::{Expander, Low, ParamDesc, Touch};
use crate::attr::Attrs;
use crate::dtype::DType;
use crate::lane::{self, Op as L, Ty};
use crate::layout::Dim;
use crate::passes::PassError;
use crate::tile::{Dim as Extent, Op, OpKind, RegTile, SmemTile, Tensor, Value};
use rustc_hash::FxHashMap;

/// A tensor as an operation sees it: base address, extents of the last two dimensions.
pub(super) struct View {
    pub ptr: lane::Value,
    pub rows: Option<lane::Value>,
    cols: Option<lane::Value>,
    pub dtype: DType,
    pub bytes: u32,
    /// The kernel writes it somewhere: loads must not take the non-coherent path.
    pub written: bool,
}

impl View {
    /// The last extent, for operations that walk rows.
    pub fn cols(&self) -> lane::Value {
        self.cols.expect("a view of rows was asked for")
    }

    /// The load under a predicate that this tensor takes.
    pub fn load_if(&self) -> L {
        if self.written { L::LoadIfCoherent } else { L::LoadIf }
    }
}

impl Expander<'_> {
    pub(super) fn global_op(&mut self, op: &Op) -> Result<(), PassError> {
        match op.kind {
            OpKind::CopyAsync => self.copy_async(op),
            OpKind::CopyCommit => {
                self.b.effect(L::CpCommit, &[], Attrs::none());
                Ok(())
            }
            OpKind::CopyWait => {
                self.b.effect(L::CpWait, &[], op.attrs.clone());
                Ok(())
            }
            OpKind::LdTile => self.ld_tile(op),
            _ => self.st_tile(op),
        }
    }

    fn view(&mut self, op: &Op) -> View {
        let (tensor, view) = self.row_view(op);
        let rows = tensor.dims.iter().rev().nth(1).map(|d| self.extent(d));
        View { rows, ..view }
    }

    /// As a matrix whose rows nobody counts.
    pub(super) fn row_view(&mut self, op: &Op) -> (Tensor, View) {
        let (tensor, view) = self.element_view(op);
        let cols = self.extent(tensor.dims.last().expect("a tensor has an extent"));
        (tensor, View { cols: Some(cols), ..view })
    }

    /// As elements in a row; what extents count is not asked, since leading ones may be no parameters of their own.
    pub(super) fn element_view(&mut self, op: &Op) -> (Tensor, View) {
        let name = op.attrs.get_sym("tensor").to_string();
        let tensor = self.k.tensor(&name).expect("the verifier checked tensor names").clone();
        let touch = self.touch(&name);
        let written = touch != Touch::Read;
        let i = self.param(ParamDesc::Ptr(name, touch));
        let ptr = self.param_value(i);
        let view = View { ptr, rows: None, cols: None, dtype: tensor.dtype, bytes: tensor.dtype.bytes(), written };
        (tensor, view)
    }

    pub(super) fn extent(&mut self, d: &Extent) -> lane::Value {
        match &d.param {
            None => self.b.i32(i64::from(d.factor)),
            Some(p) => {
                let i = self.param(ParamDesc::Scalar(p.clone(), DType::I32));
                let v = self.param_value(i);
                self.b.imm(L::IMul, v, i64::from(d.factor))
            }
        }
    }

    /// The index of row `row` of the matrix that the leading coordinate picks, and the columns, as 64-bit numbers.
    fn row_start(&mut self, v: &View, lead: Option<lane::Value>, row: Option<lane::Value>) -> lane::Value {
        let wide = |x: &mut Self, v| x.b.cast(L::SExt, v, Ty::I64);
        let (Some(row), Some(rows)) = (row, v.rows) else { return self.b.i64(0) };
        let mut index = wide(self, row);
        if let Some(lead) = lead {
            let (lead, rows) = (wide(self, lead), wide(self, rows));
            let before = self.b.op(L::IMul, &[lead, rows]);
            index = self.b.op(L::IAdd, &[before, index]);
        }
        let cols = wide(self, v.cols());
        self.b.op(L::IMul, &[index, cols])
    }

    pub(super) fn element_ptr(&mut self, v: &View, row_start: lane::Value, col: lane::Value) -> lane::Value {
        let col = self.b.cast(L::SExt, col, Ty::I64);
        let index = self.b.op(L::IAdd, &[row_start, col]);
        let bytes = self.b.imm(L::IMul, index, i64::from(v.bytes));
        self.b.op(L::PtrAdd, &[v.ptr, bytes])
    }

    /// Walks a register tile in vectors and calls `f` for each. `axes` are the tile axes the tensor has; along a missing one all elements share an access.
    fn each_vector(
        &mut self,
        op: &Op,
        t: &RegTile,
        coords: &[Value],
        axes: &[i64],
        f: &mut dyn FnMut(&mut Self, &View, Access),
    ) -> Result<(), PassError> {
        let view = self.view(op);
        let coords: Vec<lane::Value> = coords.iter().map(|c| self.scalar(*c)).collect();
        let by_row = axes.contains(&0);
        let col0 = *coords.last().expect("a tile access has coordinates");
        let (row0, lead) = match (by_row, coords.len()) {
            (true, 3) => (Some(coords[1]), Some(coords[0])),
            (true, 2) | (false, 2) => (Some(coords[0]), None),
            (false, 1) | (true, 1) => (None, None),
            (_, n) => {
                return self.unsupported(format!("an access by {n} coordinates: 1 or 2 for a row vector, 2 or 3 for a tile"));
            }
        };
        let vec = self.vector(op, t);
        let [trow, tcol] = self.thread_coords(&t.layout)?;
        let col_t = self.b.op(L::IAdd, &[col0, tcol]);
        // A row vector is one row of the tensor, whatever rows the tile has.
        let row_t = row0.map(|r| if by_row { self.b.op(L::IAdd, &[r, trow]) } else { r });
        let mut rows: FxHashMap<u32, (lane::Value, Option<lane::Value>)> = FxHashMap::default();
        let mut cols: FxHashMap<u32, lane::Value> = FxHashMap::default();
        let mut seen: FxHashMap<(u32, u32), usize> = FxHashMap::default();
        let n = t.layout.in_size(Dim::Reg) as usize;
        for r in (0..n).step_by(vec) {
            let [rc, cc] = self.reg_coords(&t.layout, r);
            let rc = if by_row { rc } else { 0 };
            let (base, row_ok) = match rows.get(&rc) {
                Some(v) => *v,
                None => {
                    let row = row_t.map(|v| self.b.imm(L::IAdd, v, i64::from(rc)));
                    let start = self.row_start(&view, lead, row);
                    let base = self.element_ptr(&view, start, col_t);
                    let ok = row.zip(view.rows).map(|(row, rows)| self.b.icmp("slt", row, rows));
                    rows.insert(rc, (base, ok));
                    (base, ok)
                }
            };
            let col_ok = match cols.get(&cc) {
                Some(v) => *v,
                None => {
                    let col = self.b.imm(L::IAdd, col_t, i64::from(cc));
                    let ok = self.b.icmp("slt", col, view.cols());
                    cols.insert(cc, ok);
                    ok
                }
            };
            let ok = match row_ok {
                Some(row_ok) => self.b.op(L::And, &[row_ok, col_ok]),
                None => col_ok,
            };
            let ptr = self.b.ptr_offset(base, i64::from(cc * view.bytes));
            let same = seen.get(&(rc, cc)).copied();
            seen.entry((rc, cc)).or_insert(r);
            f(self, &view, Access { reg: r, vec, same, ptr, ok });
        }
        Ok(())
    }

    /// Elements of a register tile that one access takes.
    pub(super) fn vector(&self, op: &Op, t: &RegTile) -> usize {
        let run = t.layout.contiguous_run(Dim::Reg, Dim::Col) as usize;
        (op.attrs.get_int("vec") as usize).clamp(1, run.min(16 / t.dtype.bytes() as usize)).min(4 * packing(t.dtype))
    }

    fn ld_tile(&mut self, op: &Op) -> Result<(), PassError> {
        let t = self.reg_tile(op.outs[0]);
        let mut loaded = Loaded::new(&t);
        let axes = op.attrs.get_ints("axes").to_vec();
        self.each_vector(op, &t, &op.args, &axes, &mut |x, view, a| loaded.load(x, view, &a))?;
        let regs = loaded.registers(self);
        self.env.insert(op.outs[0], Low::Regs(regs));
        Ok(())
    }

    fn st_tile(&mut self, op: &Op) -> Result<(), PassError> {
        let t = self.reg_tile(op.args[0]);
        let regs = self.regs(op.args[0]);
        self.each_vector(op, &t, &op.args[1..], &[0, 1], &mut |x, _, a| x.store_vector(&t, &regs, a))
    }

    /// Stores one vector of a register tile.
    pub(super) fn store_vector(&mut self, t: &RegTile, regs: &[lane::Value], a: Access) {
        let pack = packing(t.dtype);
        let mut args = vec![a.ok, a.ptr];
        if a.vec < pack {
            let bits = i64::from(8 * t.dtype.bytes());
            let part = self.b.imm(L::LShr, regs[a.reg / pack], bits * (a.reg % pack) as i64);
            if a.vec as u32 * t.dtype.bytes() == 1 {
                args.push(part);
                self.b.effect(L::StoreByteIf, &args, Attrs::none());
                return;
            }
            args.push(self.b.cast(L::Trunc, part, Ty::I16));
        } else {
            args.extend(&regs[a.reg / pack..(a.reg + a.vec) / pack]);
        }
        self.b.effect(L::StoreIf, &args, Attrs::none());
    }

    /// All threads of the unit copy `vec` elements at a time, rows across threads.
    fn copy_async(&mut self, op: &Op) -> Result<(), PassError> {
        let (at, tile) = self.smem(op.args[0]);
        let view = self.view(op);
        let coords: Vec<lane::Value> = op.args[1..].iter().map(|c| self.scalar(*c)).collect();
        let [lead @ .., row, col] = coords.as_slice() else {
            return self.unsupported("a copied tile needs a row and a column coordinate".to_string());
        };
        let vec = op.attrs.get_int("vec") as u32;
        let bytes = vec * view.bytes;
        if !matches!(bytes, 1 | 2 | 4 | 8 | 16) {
            return self.unsupported(format!("copies of {bytes} bytes: 1, 2, 4, 8 or 16"));
        }
        let per_row = tile.shape[1] / vec;
        let total = tile.shape[0] * per_row;
        let threads = self.unit_threads();
        let count = total.div_ceil(threads);
        let copy = Copy { at, tile, view, lead: lead.first().copied(), row: *row, col: *col, vec, per_row, threads };
        let even = total.is_multiple_of(threads) && threads.is_multiple_of(per_row);
        if count > MAX_UNROLLED_COPIES && even && count.is_multiple_of(COPIES_AT_ONCE) {
            // Unrolled in full, narrow copies would hold an address each in a register.
            let header = self.b.block(&[Ty::I32]);
            self.b.set_no_unroll(header);
            let zero = self.b.i32(0);
            self.b.br(header, &[zero]);
            self.b.switch_to(header);
            let i = self.b.params(header)[0];
            for j in 0..COPIES_AT_ONCE {
                let index = self.b.imm(L::IAdd, i, i64::from(j));
                self.one_copy(&copy, index, false);
            }
            let next = self.b.imm(L::IAdd, i, i64::from(COPIES_AT_ONCE));
            let end = self.b.i32(i64::from(count));
            let more = self.b.icmp("slt", next, end);
            let done = self.b.block(&[]);
            self.b.cond_br(more, (header, &[next]), (done, &[]));
            self.b.switch_to(done);
        } else {
            for i in 0..count {
                let index = self.b.i32(i64::from(i));
                self.one_copy(&copy, index, (i + 1) * threads > total);
            }
        }
        Ok(())
    }

    /// Copy number `index` of this thread; a `partial` one may lie past the tile.
    fn one_copy(&mut self, c: &Copy, index: lane::Value, partial: bool) {
        let tid = self.at.unit_tid;
        // Where a row's vectors divide the threads only the row depends on the index.
        let (r, q) = if c.threads.is_multiple_of(c.per_row) {
            let r = self.b.imm(L::UDiv, tid, i64::from(c.per_row));
            let further = self.b.imm(L::IMul, index, i64::from(c.threads / c.per_row));
            (self.b.op(L::IAdd, &[r, further]), self.b.imm(L::URem, tid, i64::from(c.per_row)))
        } else {
            let further = self.b.imm(L::IMul, index, i64::from(c.threads));
            let q = self.b.op(L::IAdd, &[tid, further]);
            (self.b.imm(L::UDiv, q, i64::from(c.per_row)), self.b.imm(L::URem, q, i64::from(c.per_row)))
        };
        let done = partial.then(|| {
            let (then, done) = (self.b.block(&[]), self.b.block(&[]));
            let end = self.b.i32(i64::from(c.tile.shape[0]));
            let inside = self.b.icmp("slt", r, end);
            self.b.cond_br(inside, (then, &[]), (done, &[]));
            self.b.switch_to(then);
            done
        });
        let in_row = self.b.imm(L::IMul, q, i64::from(c.vec));
        let (row, col) = (self.b.op(L::IAdd, &[c.row, r]), self.b.op(L::IAdd, &[c.col, in_row]));
        let rows = c.view.rows.expect("a matrix has rows");
        let row_ok = self.b.icmp("slt", row, rows);
        let col_ok = self.b.icmp("slt", col, c.view.cols());
        let ok = self.b.op(L::And, &[row_ok, col_ok]);
        let start = self.row_start(&c.view, c.lead, Some(row));
        let src = self.element_ptr(&c.view, start, col);
        let col_bytes = self.b.imm(L::IMul, in_row, i64::from(c.view.bytes));
        let offset = self.smem_offset(&c.tile, r, col_bytes);
        let dst = self.smem_ptr(c.at, Some(offset));
        self.copy_vector(&c.view, dst, src, ok, c.vec);
        if let Some(done) = done {
            self.b.br(done, &[]);
            self.b.switch_to(done);
        }
    }
    /// Copies one vector into shared memory, zeros where `ok` is false.
    pub(super) fn copy_vector(&mut self, view: &View, dst: lane::Value, src: lane::Value, ok: lane::Value, vec: u32) {
        let bytes = vec * view.bytes;
        if bytes == 1 {
            let v = self.b.op(L::LoadByteIf, &[ok, src]);
            self.b.effect(L::StoreByteShared, &[dst, v], Attrs::none());
            return;
        }
        if bytes == 2 {
            let v = self.b.inst(view.load_if(), &[ok, src], &[Ty::I16], Attrs::none())[0];
            self.b.effect(L::Store, &[dst, v], Attrs::none().int("align", 2));
            return;
        }
        // A copy of no bytes still names an address: keep it inside the tensor.
        let src = self.b.op(L::Select, &[ok, src, view.ptr]);
        self.copy_vector_from(view, dst, src, ok, vec);
    }

    /// As [`Self::copy_vector`] by cp.async, from an address inside the tensor in any case.
    pub(super) fn copy_vector_from(&mut self, view: &View, dst: lane::Value, src: lane::Value, ok: lane::Value, vec: u32) {
        let bytes = vec * view.bytes;
        let (all, none) = (self.b.i32(i64::from(bytes)), self.b.i32(0));
        let size = self.b.op(L::Select, &[ok, all, none]);
        let kind = [L::CpAsync4, L::CpAsync8, L::CpAsync16][bytes.trailing_zeros() as usize - 2];
        self.b.effect(kind, &[dst, src, size], Attrs::none());
    }
}

/// A register tile on its way from memory.
pub(super) struct Loaded {
    dtype: DType,
    /// One entry an element; packed elements name the register they share.
    elements: Vec<Option<lane::Value>>,
    /// Parts of a register at their first element: 16 bits, or one zero-extended byte.
    parts: Vec<Option<lane::Value>>,
}

impl Loaded {
    pub fn new(t: &RegTile) -> Self {
        let n = t.layout.in_size(Dim::Reg) as usize;
        Loaded { dtype: t.dtype, elements: vec![None; n], parts: vec![None; n] }
    }

    /// Loads one vector.
    pub fn load(&mut self, x: &mut Expander, view: &View, a: &Access) {
        let pack = packing(self.dtype);
        if let Some(s) = a.same {
            for i in 0..a.vec {
                self.elements[a.reg + i] = self.elements[s + i];
                self.parts[a.reg + i] = self.parts[s + i];
            }
        } else if a.vec < pack {
            let part = if a.vec as u32 * self.dtype.bytes() == 1 {
                x.b.op(L::LoadByteIf, &[a.ok, a.ptr])
            } else {
                x.b.inst(view.load_if(), &[a.ok, a.ptr], &[Ty::I16], Attrs::none())[0]
            };
            self.parts[a.reg] = Some(part);
        } else {
            let types = vec![reg_ty(self.dtype); a.vec / pack];
            let outs = x.b.inst(view.load_if(), &[a.ok, a.ptr], &types, Attrs::none());
            for i in 0..a.vec {
                self.elements[a.reg + i] = Some(outs[i / pack]);
            }
        }
    }

    /// The registers, once every vector is loaded.
    pub fn registers(self, x: &mut Expander) -> Vec<lane::Value> {
        let step = packing(self.dtype);
        let mut regs = Vec::with_capacity(self.elements.len().div_ceil(step));
        for r in (0..self.elements.len()).step_by(step) {
            if let Some(v) = self.elements[r] {
                regs.push(v);
                continue;
            }
            let mut word = None;
            for i in (r..(r + step).min(self.parts.len())).filter(|i| self.parts[*i].is_some()) {
                let part = self.parts[i].expect("only elements with a part are walked");
                let part = if x.b.func.ty(part) == Ty::I16 { x.b.cast(L::ZExt, part, Ty::I32) } else { part };
                let part = x.b.imm(L::Shl, part, i64::from(8 * self.dtype.bytes()) * (i - r) as i64);
                word = Some(word.map_or(part, |w| x.b.op(L::Or, &[w, part])));
            }
            regs.push(word.expect("every element was loaded"));
        }
        regs
    }
}

/// One access of a register tile.
pub(super) struct Access {
    /// The first element's register.
    pub reg: usize,
    /// Elements.
    pub vec: usize,
    /// An earlier register with the same address.
    pub same: Option<usize>,
    pub ptr: lane::Value,
    /// Inside the tensor.
    pub ok: lane::Value,
}

/// More copies of one thread than this become a loop.
const MAX_UNROLLED_COPIES: u32 = 8;
/// Copies in flight together in that loop.
const COPIES_AT_ONCE: u32 = 4;

/// A cooperative copy of one tile.
struct Copy {
    at: SmemAddr,
    tile: SmemTile,
    view: View,
    lead: Option<lane::Value>,
    row: lane::Value,
    col: lane::Value,
    /// Elements at once.
    vec: u32,
    /// Vectors of a row.
    per_row: u32,
    threads: u32,
}
