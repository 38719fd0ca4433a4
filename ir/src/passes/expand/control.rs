//! Regions, loops and branches. What changes in a loop body (cells, pipe cursors) becomes the header's parameters.

use super::{Expander, Low};
use crate::attr::Attrs;
use crate::dtype::DType;
use crate::lane::{self, LaneBuilder, Op as L};
use crate::layout::Dim;
use crate::passes::PassError;
use crate::tile::{Op, OpKind, RegTile, Region, Ty, Value};

/// A role's position in a pipe's ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    /// Next stage to acquire or wait for.
    pub stage: lane::Value,
    /// Parity to wait for.
    pub phase: lane::Value,
    /// Next stage to release.
    pub release: lane::Value,
}

impl Cursor {
    /// A fresh barrier's preceding phase counts as complete: a producer starts with parity 1 and finds all stages empty.
    pub fn start(b: &mut LaneBuilder, producer: bool) -> Cursor {
        let zero = b.i32(0);
        Cursor { stage: zero, phase: b.i32(i64::from(producer)), release: zero }
    }
}

/// What a region changes that lives outside it.
#[derive(Clone, Debug, Default)]
struct State {
    cells: Vec<Value>,
    pipes: Vec<usize>,
}

impl Expander<'_> {
    pub(super) fn region(&mut self, r: &Region) -> Result<(), PassError> {
        r.ops.iter().try_for_each(|op| self.op(op))
    }

    fn op(&mut self, op: &Op) -> Result<(), PassError> {
        use OpKind::*;
        self.loc = op.loc;
        self.b.set_loc(op.loc);
        match op.kind {
            For => self.for_loop(op),
            If => self.if_then(op),
            WhileAny => self.while_any(op),
            CellNew => {
                let types = self.lane_types(self.k.ty(op.outs[0]));
                // Never looked at: a cell is set, or accumulated into from zero, before it is read.
                let values = types.iter().map(|t| self.b.inst(L::Poison, &[], &[*t], Attrs::none())[0]).collect();
                self.cells.insert(op.outs[0], values);
                Ok(())
            }
            CellSet => {
                let values = self.values(op.args[1]);
                self.cells.insert(op.args[0], values);
                Ok(())
            }
            CellGet => {
                let values = self.cells[&op.args[0]].clone();
                let low = match self.k.ty(op.outs[0]) {
                    Ty::Scalar(_) => Low::Scalar(values[0]),
                    _ => Low::Regs(values),
                };
                self.env.insert(op.outs[0], low);
                Ok(())
            }
            PipeAcquire | PipeCommit | PipeWait | PipePeek | PipeRelease | PipeSkip | PipeSlot | TmaLoad | TmaStore
            | TmaStoreWait | BufferTile | SmemRows | ZeroRows => self.pipe_op(op),
            UnitSync | BarSync | BarArrive | FenceAsync => self.sync_op(op),
            MmaAsync | MmaWait | MmaReady | MmaSync | LdMatrix | StMatrix => self.tensor_op(op),
            CopyAsync | CopyCommit | CopyWait | LdTile | StTile => self.global_op(op),
            SmemView | SmemPanels | LoadShared | StoreShared | BulkLoad => self.shared_op(op),
            LoadRun => self.load_run(op),
            LoadScalar | LoadElems | StoreElems | LoadRows | StoreRows | CopyRows => self.rows_op(op),
            Atomic | AtomicCas | AddRows => self.atomic_op(op),
            Any | ScalarOf => self.warp_scalar(op),
            Reinterpret | Transpose | Bitwise | PermuteBytes => self.bits_op(op),
            Splat | Unary | Exp2 | Binary | Cast | Slice | Iota | Broadcast | Fma | CmpTile | Choose | Reduce | ReduceThread
            | ReduceLanes | Scan => self.tile_op(op),
            _ => self.scalar_op(op),
        }
    }

    fn for_loop(&mut self, op: &Op) -> Result<(), PassError> {
        let [from, to, step] = [0, 1, 2].map(|i| self.scalar(op.args[i]));
        let body = &op.regions[0];
        let state = self.changed(body);
        let first = self.flatten(&state);
        let mut types = vec![lane::Ty::I32];
        types.extend(first.iter().map(|v| self.b.func.ty(*v)));
        let header = self.b.block(&types);
        if op.attrs.get_int("unroll") == 0 {
            self.b.set_no_unroll(header);
        }
        let mut args = vec![from];
        args.extend(&first);
        self.b.br(header, &args);
        self.b.switch_to(header);
        let params = self.b.params(header);
        let (inside, exit) = (self.b.block(&[]), self.b.block(&[]));
        let more = self.b.icmp("slt", params[0], to);
        self.b.cond_br(more, (inside, &[]), (exit, &[]));
        self.b.switch_to(inside);
        self.env.insert(body.args[0], Low::Scalar(params[0]));
        self.restore(&state, &params[1..]);
        self.region(body)?;
        self.b.set_loc(op.loc);
        let next = self.b.op(L::IAdd, &[params[0], step]);
        let mut args = vec![next];
        args.extend(self.flatten(&state));
        self.b.br(header, &args);
        self.b.switch_to(exit);
        self.restore(&state, &params[1..]);
        Ok(())
    }

    /// The warp goes on together: every lane runs the region until no lane's element holds.
    fn while_any(&mut self, op: &Op) -> Result<(), PassError> {
        let body = &op.regions[0];
        let mut state = self.changed(body);
        if !state.cells.contains(&op.args[0]) {
            state.cells.push(op.args[0]);
        }
        let first = self.flatten(&state);
        let types: Vec<lane::Ty> = first.iter().map(|v| self.b.func.ty(*v)).collect();
        let header = self.b.block(&types);
        self.b.set_no_unroll(header);
        self.b.br(header, &first);
        self.b.switch_to(header);
        let params = self.b.params(header);
        self.restore(&state, &params);
        let more = self.any_lane(&self.cells[&op.args[0]].clone());
        let (inside, exit) = (self.b.block(&[]), self.b.block(&[]));
        self.b.cond_br(more, (inside, &[]), (exit, &[]));
        self.b.switch_to(inside);
        self.region(body)?;
        self.b.set_loc(op.loc);
        let after = self.flatten(&state);
        self.b.br(header, &after);
        self.b.switch_to(exit);
        self.restore(&state, &params);
        Ok(())
    }

    fn if_then(&mut self, op: &Op) -> Result<(), PassError> {
        let cond = self.scalar(op.args[0]);
        let state = self.changed(&op.regions[0]);
        let before = self.flatten(&state);
        let types: Vec<lane::Ty> = before.iter().map(|v| self.b.func.ty(*v)).collect();
        let (then, merge) = (self.b.block(&[]), self.b.block(&types));
        self.b.cond_br(cond, (then, &[]), (merge, &before));
        self.b.switch_to(then);
        self.region(&op.regions[0])?;
        let after = self.flatten(&state);
        self.b.br(merge, &after);
        self.b.switch_to(merge);
        let params = self.b.params(merge);
        self.restore(&state, &params);
        Ok(())
    }

    fn changed(&self, r: &Region) -> State {
        let mut s = State::default();
        r.walk(&mut |op| match op.kind {
            OpKind::CellSet | OpKind::MmaAsync | OpKind::MmaWait | OpKind::MmaReady | OpKind::MmaSync
                if self.cells.contains_key(&op.args[0]) && !s.cells.contains(&op.args[0]) =>
            {
                s.cells.push(op.args[0]);
            }
            OpKind::PipeAcquire | OpKind::PipeWait | OpKind::PipeRelease | OpKind::PipeSkip => {
                let pipe = self.pipe_index(op);
                if !s.pipes.contains(&pipe) {
                    s.pipes.push(pipe);
                }
            }
            _ => {}
        });
        s
    }

    fn flatten(&self, s: &State) -> Vec<lane::Value> {
        let cells = s.cells.iter().flat_map(|c| self.cells[c].iter().copied());
        let cursors = s.pipes.iter().flat_map(|p| {
            let c = self.cursors[*p];
            [c.stage, c.phase, c.release]
        });
        cells.chain(cursors).collect()
    }

    fn restore(&mut self, s: &State, values: &[lane::Value]) {
        let mut at = values.iter().copied();
        for c in &s.cells {
            let n = self.cells[c].len();
            self.cells.insert(*c, at.by_ref().take(n).collect());
        }
        for p in &s.pipes {
            let mut next = || at.next().expect("a state is restored from as many values as it flattens to");
            self.cursors[*p] = Cursor { stage: next(), phase: next(), release: next() };
        }
    }

    /// Types of the registers that hold a value of this type.
    pub(super) fn lane_types(&self, ty: &Ty) -> Vec<lane::Ty> {
        match ty {
            Ty::Scalar(DType::F32) => vec![lane::Ty::F32],
            Ty::Scalar(DType::I1) => vec![lane::Ty::I1],
            Ty::Scalar(_) => vec![lane::Ty::I32],
            Ty::Cell(t) => self.lane_types(t),
            Ty::Reg(t) => vec![reg_ty(t.dtype); reg_count(t)],
            Ty::Smem(_) => Vec::new(),
        }
    }

    pub(super) fn scalar(&self, v: Value) -> lane::Value {
        match &self.env[&v] {
            Low::Scalar(v) => *v,
            other => unreachable!("the verifier checked that %{} is a scalar, not {other:?}", v.0),
        }
    }

    pub(super) fn regs(&self, v: Value) -> Vec<lane::Value> {
        match &self.env[&v] {
            Low::Regs(list) => list.clone(),
            other => unreachable!("the verifier checked that %{} is a register tile, not {other:?}", v.0),
        }
    }

    fn values(&self, v: Value) -> Vec<lane::Value> {
        match &self.env[&v] {
            Low::Scalar(v) => vec![*v],
            Low::Regs(list) => list.clone(),
            Low::Smem(_) => unreachable!("the verifier checked that a cell holds no shared tile"),
        }
    }

    pub(super) fn reg_tile(&self, v: Value) -> RegTile {
        match self.k.ty(v) {
            Ty::Reg(t) => t.clone(),
            Ty::Cell(t) => match &**t {
                Ty::Reg(t) => t.clone(),
                other => unreachable!("the verifier checked that the cell holds a tile, not {other}"),
            },
            other => unreachable!("the verifier checked that %{} is a register tile, not {other}", v.0),
        }
    }
}

/// Elements one 32-bit register holds.
pub(super) fn packing(dtype: DType) -> usize {
    match dtype.bytes() {
        1 if dtype != DType::I1 => 4,
        2 => 2,
        _ => 1,
    }
}

/// Registers a thread needs for a tile; the last may be filled in part.
pub(super) fn reg_count(t: &RegTile) -> usize {
    (t.layout.in_size(Dim::Reg) as usize).div_ceil(packing(t.dtype))
}

pub(super) fn reg_ty(dtype: DType) -> lane::Ty {
    match dtype {
        DType::F32 => lane::Ty::F32,
        DType::I1 => lane::Ty::I1,
        _ => lane::Ty::I32,
    }
}
