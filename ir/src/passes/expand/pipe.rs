//! Pipes become pairs of barriers and a cursor; TMA; synchronisation of a unit.

use super::address::SmemAddr;
use super::control::Cursor;
use super::{Expander, Low, ParamDesc};
use crate::attr::Attrs;
use crate::lane::{self, Op as L, Ty};
use crate::passes::PassError;
use crate::passes::barriers::writers;
use crate::passes::smem::{offset, stride};
use crate::tile::{Op, OpKind, Unit, Value};

/// Hardware barriers before the template's own.
const UNIT_BARRIERS: u32 = 8;

impl Expander<'_> {
    pub(super) fn pipe_op(&mut self, op: &Op) -> Result<(), PassError> {
        use OpKind::*;
        match op.kind {
            PipeAcquire => {
                let p = self.pipe_index(op);
                let at = self.cursors[p];
                self.spin(p, "empty", at.stage, at.phase);
                let bytes = i64::from(self.k.barriers[p].tx_bytes);
                if bytes > 0 {
                    let full = self.barrier(p, "full", at.stage);
                    let bytes = self.b.i32(bytes);
                    self.by_one(|x| x.b.effect(L::MbarExpect, &[full, bytes], Attrs::none()));
                }
                self.advance_cursor(p);
                self.env.insert(op.outs[0], Low::Scalar(at.stage));
            }
            // The bytes themselves fill the stage: their announcement came with the acquire.
            PipeCommit if self.role.unit == Unit::Thread => {}
            PipeCommit => self.commit(op),
            PipeWait => {
                let p = self.pipe_index(op);
                let at = self.cursors[p];
                self.spin(p, "full", at.stage, at.phase);
                self.advance_cursor(p);
                self.env.insert(op.outs[0], Low::Scalar(at.stage));
            }
            PipePeek => {
                let p = self.pipe_index(op);
                let at = self.cursors[p];
                self.spin(p, "full", at.stage, at.phase);
                self.env.insert(op.outs[0], Low::Scalar(at.stage));
            }
            PipeRelease => self.release(op),
            PipeSkip => self.skip(op),
            PipeSlot => {
                let (stage, slot) = (self.scalar(op.args[0]), op.attrs.get_int("slot") as usize);
                let p = self.pipe_index(op);
                let pipe = &self.k.pipes[p];
                let bytes = offset(self.k, &format!("{}.{slot}", pipe.name));
                let step = i64::from(stride(&pipe.slots[slot].tile));
                let dynamic = self.b.imm(L::IMul, stage, step);
                self.env.insert(op.outs[0], Low::Smem(SmemAddr { bytes, dynamic: Some(dynamic) }));
            }
            BufferTile => {
                let copy = self.scalar(op.args[0]);
                let name = op.attrs.get_sym("buffer");
                let buffer = self.k.buffers.iter().find(|b| b.name == name).expect("the verifier checked names");
                let dynamic = self.b.imm(L::IMul, copy, i64::from(stride(&buffer.tile)));
                self.env.insert(op.outs[0], Low::Smem(SmemAddr { bytes: offset(self.k, name), dynamic: Some(dynamic) }));
            }
            SmemRows => {
                let (at, tile) = self.smem(op.args[0]);
                let row = self.scalar(op.args[1]);
                let by = self.b.imm(L::IMul, row, i64::from(tile.pitch_bytes()));
                let at = self.advance(at, by);
                self.env.insert(op.outs[0], Low::Smem(at));
            }
            ZeroRows => self.zero_rows(op),
            TmaLoad => self.by_one(|x| x.tma_load(op)),
            TmaStore => self.tma_store(op),
            TmaStoreWait => {
                let n = op.attrs.get_int("n");
                self.by_leader(|x| x.b.effect(L::BulkWaitRead, &[], Attrs::none().int("n", n)));
            }
            other => unreachable!("{} is no pipe operation", other.row().name),
        }
        Ok(())
    }

    pub(super) fn pipe_index(&self, op: &Op) -> usize {
        let name = op.attrs.get_sym("pipe");
        self.k.pipes.iter().position(|p| p.name == name).expect("the verifier checked pipe names")
    }

    pub(super) fn barrier(&mut self, pipe: usize, side: &str, stage: lane::Value) -> lane::Value {
        let at = offset(self.k, &format!("{}.{side}", self.k.pipes[pipe].name));
        let by = self.b.imm(L::Shl, stage, 3);
        let p = self.b.op(L::PtrAdd, &[self.smem_base, by]);
        self.b.ptr_offset(p, i64::from(at))
    }

    /// Waits until the phase of this parity has completed. `try_wait` may return early, so it is asked again.
    fn spin(&mut self, pipe: usize, side: &str, stage: lane::Value, phase: lane::Value) {
        let bar = self.barrier(pipe, side, stage);
        let (again, done) = (self.b.block(&[]), self.b.block(&[]));
        self.b.br(again, &[]);
        self.b.switch_to(again);
        let ok = self.b.op(L::MbarTryWait, &[bar, phase]);
        self.b.cond_br(ok, (done, &[]), (again, &[]));
        self.b.switch_to(done);
    }

    /// The next stage; the parity turns when the ring wraps.
    fn advance_cursor(&mut self, p: usize) {
        let c = self.cursors[p];
        let (stage, wrapped) = self.next_stage(p, c.stage);
        let turn = self.b.cast(L::ZExt, wrapped, Ty::I32);
        let phase = self.b.op(L::Xor, &[c.phase, turn]);
        self.cursors[p] = Cursor { stage, phase, ..c };
    }

    fn next_stage(&mut self, p: usize, stage: lane::Value) -> (lane::Value, lane::Value) {
        let next = self.b.imm(L::IAdd, stage, 1);
        let depth = self.b.i32(i64::from(self.k.pipes[p].stages));
        let wrapped = self.b.icmp("eq", next, depth);
        let zero = self.b.i32(0);
        (self.b.op(L::Select, &[wrapped, zero, next]), wrapped)
    }

    /// One lane of each warp arrives; where peers' producers write here too, one lane for each of them.
    fn release(&mut self, op: &Op) {
        let p = self.pipe_index(op);
        let stage = self.cursors[p].release;
        let ctas = writers(self.k, &self.k.pipes[p]);
        let lanes = self.b.i32(i64::from(ctas));
        let mut arrives = self.b.icmp("slt", self.at.lane, lanes);
        let cond = op.args.first().map(|c| self.scalar(*c));
        if let Some(c) = cond {
            arrives = self.b.op(L::And, &[arrives, c]);
        }
        let empty = self.barrier(p, "empty", stage);
        let (then, done) = (self.b.block(&[]), self.b.block(&[]));
        self.b.cond_br(arrives, (then, &[]), (done, &[]));
        self.b.switch_to(then);
        if ctas > 1 {
            let remote = self.b.op(L::Mapa, &[empty, self.at.lane]);
            self.b.effect(L::MbarArriveCluster, &[remote], Attrs::none());
        } else {
            self.b.effect(L::MbarArrive, &[empty], Attrs::none());
        }
        self.b.br(done, &[]);
        self.b.switch_to(done);
        let (next, _) = self.next_stage(p, stage);
        self.cursors[p].release = match cond {
            Some(c) => self.b.op(L::Select, &[c, next, stage]),
            None => next,
        };
    }

    /// Each lane shows what it copied to asynchronous readers, then one of the warp arrives for all.
    fn commit(&mut self, op: &Op) {
        let (p, stage) = (self.pipe_index(op), self.scalar(op.args[0]));
        self.b.effect(L::FenceAsync, &[], Attrs::none());
        self.b.effect(L::BarWarp, &[], Attrs::none());
        let full = self.barrier(p, "full", stage);
        let (then, done) = (self.b.block(&[]), self.b.block(&[]));
        let zero = self.b.i32(0);
        let first = self.b.icmp("eq", self.at.lane, zero);
        self.b.cond_br(first, (then, &[]), (done, &[]));
        self.b.switch_to(then);
        self.b.effect(L::MbarArrive, &[full], Attrs::none());
        self.b.br(done, &[]);
        self.b.switch_to(done);
    }

    fn skip(&mut self, op: &Op) {
        let p = self.pipe_index(op);
        let count = self.scalar(op.args[0]);
        let depth = i64::from(self.k.pipes[p].stages);
        let c = self.cursors[p];
        let to = self.b.op(L::IAdd, &[c.stage, count]);
        let turns = self.b.imm(L::UDiv, to, depth);
        let wrapped = self.b.imm(L::IMul, turns, depth);
        let odd = self.b.imm(L::And, turns, 1);
        let release = self.b.op(L::IAdd, &[c.release, count]);
        let depth = self.b.i32(depth);
        self.cursors[p] = Cursor {
            stage: self.b.op(L::ISub, &[to, wrapped]),
            phase: self.b.op(L::Xor, &[c.phase, odd]),
            release: self.b.op(L::URem, &[release, depth]),
        };
    }

    /// Rows of a panel are contiguous whatever the swizzle, so clearing some is clearing a run of bytes.
    fn zero_rows(&mut self, op: &Op) {
        let (at, tile) = self.smem(op.args[0]);
        let from = self.scalar(op.args[1]);
        let (pitch, threads) = (i64::from(tile.pitch_bytes()), i64::from(self.unit_threads()));
        let first = self.b.imm(L::IMul, from, pitch);
        let mine = self.b.imm(L::Shl, self.at.unit_tid, 4);
        let start = self.b.op(L::IAdd, &[first, mine]);
        let (header, body, done) = (self.b.block(&[Ty::I32]), self.b.block(&[]), self.b.block(&[]));
        self.b.set_no_unroll(header);
        self.b.br(header, &[start]);
        self.b.switch_to(header);
        let offset = self.b.params(header)[0];
        let end = self.b.i32(i64::from(tile.shape[0]) * pitch);
        let more = self.b.icmp("slt", offset, end);
        self.b.cond_br(more, (body, &[]), (done, &[]));
        self.b.switch_to(body);
        let zero = self.b.i32(0);
        for panel in 0..tile.panels() {
            let to = SmemAddr { bytes: at.bytes + panel * tile.panel_bytes, ..at };
            let ptr = self.smem_ptr(to, Some(offset));
            self.b.effect(L::Store, &[ptr, zero, zero, zero, zero], Attrs::none().int("align", 16));
        }
        let next = self.b.imm(L::IAdd, offset, 16 * threads);
        self.b.br(header, &[next]);
        self.b.switch_to(done);
    }

    fn map_param(&mut self, op: &Op) -> lane::Value {
        let map = self.map_of(op);
        let i = self.param(ParamDesc::TensorMap(map));
        self.param_value(i)
    }

    /// Coordinates innermost first, as the instruction wants them.
    fn coords(&self, list: &[Value]) -> Vec<lane::Value> {
        list.iter().rev().map(|v| self.scalar(*v)).collect()
    }

    /// One box a panel. Where CTAs share the tile each loads its part of the rows into all of them.
    fn tma_load(&mut self, op: &Op) {
        let (at, tile) = self.smem(op.args[0]);
        let stage = self.scalar(op.args[1]);
        let mut coords = self.coords(&op.args[2..]);
        let p = self.pipe_index(op);
        let full = self.barrier(p, "full", stage);
        let map = self.map_param(op);
        let parts = self.multicast(op);
        let mut at = at;
        if parts > 1 {
            let rank = self.b.op(L::ClusterRank, &[]);
            let rows = self.b.imm(L::IMul, rank, i64::from(tile.shape[0] / parts));
            let along = self.row_coord(op, coords.len());
            coords[along] = self.b.op(L::IAdd, &[coords[along], rows]);
            let by = self.b.imm(L::IMul, rows, i64::from(tile.pitch_bytes()));
            at = self.advance(at, by);
        }
        let inner = coords[0];
        for panel in 0..tile.panels() {
            let to = SmemAddr { bytes: at.bytes + panel * tile.panel_bytes, ..at };
            let dst = self.smem_ptr(to, None);
            let dst = self.b.op(L::ToCluster, &[dst]);
            coords[0] = self.b.imm(L::IAdd, inner, i64::from(panel * tile.panel_cols()));
            let mut args = vec![dst, full, map];
            args.extend(&coords);
            let kind = match (coords.len(), parts > 1) {
                (2, false) => L::TmaLoad2,
                (3, false) => L::TmaLoad3,
                (_, false) => L::TmaLoad4,
                (2, true) => L::TmaMulti2,
                (_, true) => L::TmaMulti3,
            };
            if parts > 1 {
                let mask = self.b.i32((1 << parts) - 1);
                args.push(mask);
            }
            self.b.effect(kind, &args, Attrs::none());
        }
    }

    fn tma_store(&mut self, op: &Op) {
        let (at, tile) = self.smem(op.args[0]);
        let coords = self.coords(&op.args[1..]);
        let map = self.map_param(op);
        self.by_leader(|x| {
            for panel in 0..tile.panels() {
                let from = SmemAddr { bytes: at.bytes + panel * tile.panel_bytes, ..at };
                let src = x.smem_ptr(from, None);
                let inner = x.b.imm(L::IAdd, coords[0], i64::from(panel * tile.panel_cols()));
                let mut args = vec![src, map, inner];
                args.extend(&coords[1..]);
                x.b.effect(if coords.len() == 2 { L::TmaStore2 } else { L::TmaStore3 }, &args, Attrs::none());
            }
            x.b.effect(L::BulkCommit, &[], Attrs::none());
        });
    }

    /// A role of one thread does it as it is; of more, the first.
    pub(super) fn by_one(&mut self, f: impl FnOnce(&mut Self)) {
        if self.role.unit == Unit::Thread { f(self) } else { self.by_leader(f) }
    }

    /// The unit's first thread does it: bulk groups belong to a thread, so it must always be the same one.
    fn by_leader(&mut self, f: impl FnOnce(&mut Self)) {
        let (then, done) = (self.b.block(&[]), self.b.block(&[]));
        let zero = self.b.i32(0);
        let first = self.b.icmp("eq", self.at.unit_tid, zero);
        self.b.cond_br(first, (then, &[]), (done, &[]));
        self.b.switch_to(then);
        f(self);
        self.b.br(done, &[]);
        self.b.switch_to(done);
    }

    pub(super) fn sync_op(&mut self, op: &Op) -> Result<(), PassError> {
        match op.kind {
            OpKind::FenceAsync => self.b.effect(L::FenceAsync, &[], Attrs::none()),
            OpKind::UnitSync => match self.role.unit {
                Unit::Thread => {}
                Unit::Role if self.k.roles.len() == 1 => self.b.effect(L::BarAll, &[], Attrs::none()),
                unit => {
                    let threads = self.unit_threads();
                    // Warpgroups of the CTA are numbered from 1: barrier 0 is everyone's. A role takes its first's.
                    let id = if unit == Unit::Role {
                        self.b.i32(i64::from(self.first_warp / 4 + 1))
                    } else {
                        let wg = self.b.imm(L::LShr, self.at.warp, 2);
                        self.b.imm(L::IAdd, wg, 1)
                    };
                    self.b.effect(L::BarSync, &[id], Attrs::none().int("threads", i64::from(threads)));
                }
            },
            _ => {
                let id = self.scalar(op.args[0]);
                let id = self.b.imm(L::IAdd, id, i64::from(UNIT_BARRIERS));
                let kind = if op.kind == OpKind::BarSync { L::BarSync } else { L::BarArrive };
                self.b.effect(kind, &[id], op.attrs.clone());
            }
        }
        Ok(())
    }
}
