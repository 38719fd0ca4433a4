//! A warp-specialised bf16 GEMM: one producer warp, two math warpgroups of m64n256k16, a ring of four stages.

use tilewright_ir::lane::{Block, Func, LaneBuilder, LaunchBounds, Op, Param, ParamKind, Space, Ty, Value};
use tilewright_ir::{Arch, Attrs, Loc, SourceMap};

const STAGES: i64 = 4;
const A_BYTES: i64 = 128 * 64 * 2;
const STAGE_BYTES: i64 = A_BYTES + 256 * 64 * 2;
const TILES_AT: i64 = 1024;
const ACCS: usize = 128;
/// Descriptor bits that do not depend on the address: 128-byte swizzle, stride 1024 bytes (PTX ISA 9.7.16.5.1).
const DESCRIPTOR: i64 = 0x4000_0040_0001_0000;
const MATH_THREADS: i64 = 256;

/// The template file that the kernel's locations name.
pub const SOURCE: &str = "templates/src/ring.rs";
/// The line of the first MMA.
pub const MMA_LINE: u32 = 77;

/// The kernel: parameters `a`, `b` (tensor maps), `d`, `k_tiles`.
pub fn kernel(name: &str) -> Func {
    let param = |name: &str, kind| Param { name: name.to_string(), kind };
    let func = Func {
        name: name.to_string(),
        arch: Arch::Sm90a,
        launch: LaunchBounds { threads: 384, cluster: [1; 3], min_ctas: 1, smem_bytes: (TILES_AT + STAGES * STAGE_BYTES) as u32 },
        params: vec![
            param("a", ParamKind::TensorMap),
            param("b", ParamKind::TensorMap),
            param("d", ParamKind::Global { align: 16, readonly: false }),
            param("k_tiles", ParamKind::Scalar(Ty::I32)),
        ],
        types: Vec::new(),
        blocks: Vec::new(),
        sources: SourceMap { files: vec![SOURCE.to_string()] },
    };
    let mut ring = Ring::start(LaneBuilder::new(func));
    ring.build();
    ring.b.func
}

struct Ring {
    b: LaneBuilder,
    smem: Value,
    tid: Value,
    warpgroup: Value,
    k_tiles: Value,
}

/// Where a role is in the ring.
#[derive(Clone, Copy)]
struct Cursor {
    i: Value,
    stage: Value,
    phase: Value,
}

impl Ring {
    fn start(mut b: LaneBuilder) -> Self {
        b.set_loc(Loc { file: 0, line: 10 });
        let smem = b.op(Op::SmemBase, &[]);
        let tid = b.op(Op::TidX, &[]);
        let k_tiles = b.inst(Op::Param, &[], &[Ty::I32], Attrs::none().int("index", 3))[0];
        let group = b.imm(Op::LShr, tid, 7);
        let zero = b.i32(0);
        let warpgroup = b.op(Op::ShflIdx, &[group, zero]);
        Ring { b, smem, tid, warpgroup, k_tiles }
    }

    fn build(&mut self) {
        let (init, ready, produce, consume, done) = (self.block(), self.block(), self.block(), self.block(), self.block());
        let zero = self.b.i32(0);
        let first = self.b.icmp("eq", self.tid, zero);
        self.b.cond_br(first, (init, &[]), (ready, &[]));

        self.at(init, 20);
        for s in 0..STAGES {
            for (at, count) in [(s * 8, 1), (32 + s * 8, MATH_THREADS)] {
                let bar = self.b.ptr_offset(self.smem, at);
                let count = self.b.i32(count);
                self.b.effect(Op::MbarInit, &[bar, count], Attrs::none());
            }
        }
        self.b.effect(Op::MbarFence, &[], Attrs::none());
        self.b.br(ready, &[]);

        self.at(ready, 30);
        self.b.effect(Op::BarAll, &[], Attrs::none());
        let two = self.b.i32(2);
        let producer = self.b.icmp("eq", self.warpgroup, two);
        self.b.cond_br(producer, (produce, &[]), (consume, &[]));

        self.at(produce, 40);
        self.producer(done);
        self.at(consume, 60);
        self.consumer(done);
        self.b.switch_to(done);
    }

    fn producer(&mut self, done: Block) {
        let (elected, head, spin, body) = (self.block(), self.cursor_block(0), self.block(), self.block());
        self.b.effect(Op::RegsDec, &[], Attrs::none().int("n", 40));
        let first = self.b.i32(256);
        let one_thread = self.b.icmp("eq", self.tid, first);
        self.b.cond_br(one_thread, (elected, &[]), (done, &[]));

        self.at(elected, 41);
        let (zero, one) = (self.b.i32(0), self.b.i32(1));
        self.b.br(head, &[zero, zero, one]);
        self.at(head, 42);
        self.b.set_no_unroll(head);
        let cursor = self.cursor(head);
        self.b.br(spin, &[]);
        self.wait(spin, 32, cursor, body);

        self.at(body, 44);
        let full = self.barrier(0, cursor.stage);
        let bytes = self.b.i32(STAGE_BYTES);
        self.b.effect(Op::MbarExpect, &[full, bytes], Attrs::none());
        let tile = self.tile(cursor.stage);
        let k = self.b.imm(Op::Shl, cursor.i, 6);
        for (map, at) in [(0, 0), (1, A_BYTES)] {
            let map = self.b.inst(Op::Param, &[], &[Ty::Ptr(Space::Generic)], Attrs::none().int("index", map))[0];
            let to = self.b.ptr_offset(tile, at);
            let to = self.b.op(Op::ToCluster, &[to]);
            let row = self.b.i32(0);
            self.b.effect(Op::TmaLoad2, &[to, full, map, k, row], Attrs::none());
        }
        self.turn(cursor, &[], head, done);
    }

    fn consumer(&mut self, done: Block) {
        let (head, spin, body) = (self.cursor_block(ACCS), self.block(), self.block());
        let (release, next, store) = (self.block(), self.block(), self.block());
        self.b.effect(Op::RegsInc, &[], Attrs::none().int("n", 232));
        let zero = self.b.i32(0);
        let mut start = vec![zero, zero, zero];
        for _ in 0..ACCS {
            start.push(self.b.inst(Op::Poison, &[], &[Ty::F32], Attrs::none())[0]);
        }
        self.b.br(head, &start);
        self.at(head, 70);
        self.b.set_no_unroll(head);
        let cursor = self.cursor(head);
        let mut accs = self.b.params(head)[3..].to_vec();
        self.b.br(spin, &[]);
        self.wait(spin, 0, cursor, body);

        self.at(body, MMA_LINE);
        let zero = self.b.i32(0);
        let not_first = self.b.icmp("ne", cursor.i, zero);
        let tile = self.tile(cursor.stage);
        let rows = self.b.imm(Op::Shl, self.warpgroup, 13);
        let a = self.b.op(Op::PtrAdd, &[tile, rows]);
        let b = self.b.ptr_offset(tile, A_BYTES);
        let (a, b) = (self.descriptor(a), self.descriptor(b));
        self.b.effect(Op::WgmmaFence, &[], Attrs::none());
        for step in 0..4 {
            let (a, b) = (self.b.imm(Op::IAdd, a, 2 * step), self.b.imm(Op::IAdd, b, 2 * step));
            let keep = if step == 0 { not_first } else { self.b.constant(Ty::I1, 1) };
            let mut args = vec![a, b, keep];
            args.extend(&accs);
            let attrs = Attrs::none().int("n", 256).sym("dtype", "bf16").int("trans_a", 0).int("trans_b", 0);
            accs = self.b.inst(Op::WgmmaSs, &args, &[Ty::F32; ACCS], attrs).to_vec();
        }
        self.b.effect(Op::WgmmaCommit, &[], Attrs::none());
        self.b.effect(Op::WgmmaWait, &[], Attrs::none().int("n", 1));
        self.b.cond_br(not_first, (release, &[]), (next, &[]));

        self.at(release, 80);
        let previous = self.b.imm(Op::IAdd, cursor.stage, STAGES - 1);
        let previous = self.b.imm(Op::And, previous, STAGES - 1);
        let empty = self.barrier(32, previous);
        self.b.effect(Op::MbarArrive, &[empty], Attrs::none());
        self.b.br(next, &[]);
        self.at(next, 81);
        self.turn(cursor, &accs, head, store);

        self.at(store, 90);
        let out = self.b.inst(Op::WgmmaWait, &accs, &[Ty::F32; ACCS], Attrs::none().int("n", 0)).to_vec();
        let d = self.b.inst(Op::Param, &[], &[Ty::Ptr(Space::Global)], Attrs::none().int("index", 2))[0];
        let row = self.b.imm(Op::Shl, self.tid, 4);
        let row = self.b.op(Op::PtrAdd, &[d, row]);
        for (i, four) in out.chunks(4).enumerate() {
            let to = self.b.ptr_offset(row, i as i64 * 256 * 16);
            let mut args = vec![to];
            args.extend(four);
            self.b.effect(Op::Store, &args, Attrs::none().int("align", 16));
        }
        self.b.br(done, &[]);
    }

    /// Spins until the barrier of the cursor's stage has passed its phase.
    fn wait(&mut self, spin: Block, barriers_at: i64, cursor: Cursor, then: Block) {
        self.b.switch_to(spin);
        let bar = self.barrier(barriers_at, cursor.stage);
        let passed = self.b.op(Op::MbarTryWait, &[bar, cursor.phase]);
        self.b.cond_br(passed, (then, &[]), (spin, &[]));
    }

    /// Next stage, or out after the last tile.
    fn turn(&mut self, c: Cursor, carried: &[Value], head: Block, out: Block) {
        let i = self.b.imm(Op::IAdd, c.i, 1);
        let stage = self.b.imm(Op::IAdd, c.stage, 1);
        let end = self.b.i32(STAGES);
        let wraps = self.b.icmp("eq", stage, end);
        let zero = self.b.i32(0);
        let stage = self.b.op(Op::Select, &[wraps, zero, stage]);
        let flipped = self.b.imm(Op::Xor, c.phase, 1);
        let phase = self.b.op(Op::Select, &[wraps, flipped, c.phase]);
        let more = self.b.icmp("slt", i, self.k_tiles);
        let mut args = vec![i, stage, phase];
        args.extend(carried);
        self.b.cond_br(more, (head, &args), (out, &[]));
    }

    fn barrier(&mut self, base: i64, stage: Value) -> Value {
        let at = self.b.imm(Op::Shl, stage, 3);
        let at = self.b.imm(Op::IAdd, at, base);
        self.b.op(Op::PtrAdd, &[self.smem, at])
    }

    fn tile(&mut self, stage: Value) -> Value {
        let at = self.b.imm(Op::IMul, stage, STAGE_BYTES);
        let at = self.b.imm(Op::IAdd, at, TILES_AT);
        self.b.op(Op::PtrAdd, &[self.smem, at])
    }

    fn descriptor(&mut self, tile: Value) -> Value {
        let at = self.b.op(Op::PtrToInt, &[tile]);
        let at = self.b.imm(Op::LShr, at, 4);
        let at = self.b.cast(Op::ZExt, at, Ty::I64);
        let bits = self.b.i64(DESCRIPTOR);
        self.b.op(Op::Or, &[at, bits])
    }

    fn block(&mut self) -> Block {
        self.b.block(&[])
    }

    fn cursor_block(&mut self, accs: usize) -> Block {
        let mut types = vec![Ty::I32; 3];
        types.extend(vec![Ty::F32; accs]);
        self.b.block(&types)
    }

    fn cursor(&self, head: Block) -> Cursor {
        let params = self.b.params(head);
        Cursor { i: params[0], stage: params[1], phase: params[2] }
    }

    fn at(&mut self, block: Block, line: u32) {
        self.b.switch_to(block);
        self.b.set_loc(Loc { file: 0, line });
    }
}
