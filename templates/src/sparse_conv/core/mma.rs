//! The core with a ring of shared-memory tiles filled by cp.async, ldmatrix and mma.sync.
//!
//! The loop runs over taps and, within each, over channels, as one sequence of stages: copies stay `stages - 1` ahead whether
//! that is in the same tap or a later one. Row numbers of a tap are read while the tap before it is copied.

use super::class::CoreClass;
use super::config::MmaConfig;
use super::exit::Leave;
use super::source::{Feed, Work};
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{Cell, CmpPred, KernelBuilder, RoleBuilder, Scalar, Staging, Unit};

/// Records the kernel.
pub(super) fn mma(k: &mut KernelBuilder, class: &CoreClass, c: &MmaConfig) -> Result<(), LayoutError> {
    let feed = Feed::declare(k, class, [c.bm, c.bn]);
    let leave = Leave::declare(k, class);
    let ring_a = k.buffer("ring_a", class.dtype, [c.bm, c.bk], c.stages);
    let ring_b = k.buffer("ring_b", class.dtype, [c.bk, c.bn], c.stages);
    let x = Core { class, c, feed, leave, ring_a, ring_b };
    let mut result = Ok(());
    k.role("main", c.warps_m * c.warps_n, None, Unit::Role, |r| result = x.main(r));
    result
}

struct Core<'a> {
    class: &'a CoreClass,
    c: &'a MmaConfig,
    feed: Feed,
    leave: Leave,
    ring_a: Staging,
    ring_b: Staging,
}

/// What the next copies bring.
struct Ahead {
    /// Copies started.
    started: Cell,
    /// Copies in all.
    total: Scalar,
    /// Channel of the next copy.
    channel: Cell,
    /// Slot of its tap.
    slot: Cell,
    /// Its tap, and the one after it.
    tap: [Cell; 2],
    /// Rows of these.
    rows: [Cell; 2],
}

impl Core<'_> {
    fn main(&self, r: &mut RoleBuilder) -> Result<(), LayoutError> {
        let place = self.feed.place(r);
        let mut result = Ok(());
        r.if_then(place.exists, |r| {
            let w = self.feed.open(r, &place);
            result = self.main_loop(r, &w).map(|acc| {
                let sums = r.get_tile(acc);
                self.leave.write(r, &self.feed, &w, sums, 0, w.col);
            });
        });
        result
    }

    /// `stages - 1` copies are under way while one stage is multiplied.
    fn main_loop(&self, r: &mut RoleBuilder, w: &Work) -> Result<Cell, LayoutError> {
        let c = self.c;
        let acc = r.mma_acc_for(self.class.dtype, [c.bm, c.bn], [c.warps_m, c.warps_n])?;
        let ahead = self.start(r, w);
        for s in 0..c.stages - 1 {
            let stage = r.int(i64::from(s));
            self.load(r, w, &ahead, stage);
        }
        let (read, write) = (r.scalar_cell(0), r.scalar_cell(c.stages - 1));
        let mut result = Ok(());
        r.for_range(0, ahead.total, 1, |r, _| {
            r.copy_wait(i64::from(c.stages) - 2);
            r.sync();
            let stage = r.get(write);
            self.load(r, w, &ahead, stage);
            let stage = r.get(read);
            result = self.multiply(r, stage, acc);
            for cell in [read, write] {
                let s = r.get(cell);
                let next = r.add(s, 1);
                let wrap = r.cmp(CmpPred::Eq, next, c.stages);
                let next = r.select(wrap, 0, next);
                r.set(cell, next);
            }
        });
        r.copy_wait(0);
        result.map(|()| acc)
    }

    fn start(&self, r: &mut RoleBuilder, w: &Work) -> Ahead {
        let cin = r.param("cin");
        let steps = r.ceil_div(cin, self.c.bk);
        let total = r.mul(w.taps, steps);
        let tile = r.staging(&self.ring_a, 0);
        let ty = r.copy_rows_index(tile, self.feed.vec());
        let none = r.int(-1);
        let none = r.splat(none, ty);
        let ahead = Ahead {
            started: r.scalar_cell(0),
            total,
            channel: r.scalar_cell(0),
            slot: r.scalar_cell(0),
            tap: [0, 1].map(|_| r.scalar_cell(0)),
            rows: [0, 1].map(|_| r.tile_cell(none)),
        };
        let some = r.cmp(CmpPred::Gt, w.taps, 0);
        r.if_then(some, |r| {
            let zero = r.int(0);
            self.look_up(r, w, &ahead, zero, 0);
        });
        if !self.feed.one_tap() {
            let more = r.cmp(CmpPred::Gt, w.taps, 1);
            r.if_then(more, |r| {
                let one = r.int(1);
                self.look_up(r, w, &ahead, one, 1);
            });
        }
        ahead
    }

    /// Reads tap and rows of a slot.
    fn look_up(&self, r: &mut RoleBuilder, w: &Work, ahead: &Ahead, slot: Scalar, to: usize) {
        let tile = r.staging(&self.ring_a, 0);
        let ty = r.copy_rows_index(tile, self.feed.vec());
        let tap = self.feed.tap(r, w, slot);
        let rows = self.feed.rows(r, w, slot, 0, ty);
        r.set(ahead.tap[to], tap);
        r.set_tile(ahead.rows[to], rows);
    }

    /// Starts the next copies, if there are more, and closes their group.
    fn load(&self, r: &mut RoleBuilder, w: &Work, ahead: &Ahead, stage: Scalar) {
        let started = r.get(ahead.started);
        let more = r.cmp(CmpPred::Lt, started, ahead.total);
        r.if_then(more, |r| {
            let (tap, rows, channel) = (r.get(ahead.tap[0]), r.get_tile(ahead.rows[0]), r.get(ahead.channel));
            let tile = r.staging(&self.ring_a, stage);
            self.feed.copy_rows(r, tile, rows, channel);
            let tile = r.staging(&self.ring_b, stage);
            self.feed.copy_weight(r, tile, tap, channel, w.col, self.c.bk);
            let started = r.add(started, 1);
            r.set(ahead.started, started);
            let next = r.add(channel, self.c.bk);
            r.set(ahead.channel, next);
            if self.feed.one_tap() {
                return;
            }
            let cin = r.param("cin");
            let ends = r.cmp(CmpPred::Ge, next, cin);
            r.if_then(ends, |r| {
                r.set(ahead.channel, 0);
                let (tap, rows) = (r.get(ahead.tap[1]), r.get_tile(ahead.rows[1]));
                r.set(ahead.tap[0], tap);
                r.set_tile(ahead.rows[0], rows);
                let slot = r.get(ahead.slot);
                let slot = r.add(slot, 1);
                r.set(ahead.slot, slot);
                let after = r.add(slot, 1);
                let some = r.cmp(CmpPred::Lt, after, w.taps);
                r.if_then(some, |r| self.look_up(r, w, ahead, after, 1));
            });
        });
        r.copy_commit();
    }

    fn multiply(&self, r: &mut RoleBuilder, stage: Scalar, acc: Cell) -> Result<(), LayoutError> {
        let grid = [self.c.warps_m, self.c.warps_n];
        let (a_tile, b_tile) = (r.staging(&self.ring_a, stage), r.staging(&self.ring_b, stage));
        for k in 0..self.c.bk * self.class.dtype.bytes() / 32 {
            let (mut a, mut b) = (r.load_a(a_tile, k, grid)?, r.load_b(b_tile, k, grid, true)?);
            if self.class.dtype == DType::F32 {
                (a, b) = (r.unary("tf32", a), r.unary("tf32", b));
            }
            r.mma_sync(acc, a, b);
        }
        Ok(())
    }
}
