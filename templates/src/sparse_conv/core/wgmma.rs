//! The core on Hopper: a warpgroup gathers rows with cp.async and brings weights by TMA, one or two others multiply with wgmma.
//!
//! TMA cannot gather rows on this architecture, so the features of a stage are copied row by row into the swizzled tile that
//! wgmma reads. What threads wrote, wgmma sees only behind a proxy fence: the gatherer waits for its copies, fences and hands the
//! stage over, a few stages after it started them, so that several stages are always on their way.

use super::class::CoreClass;
use super::config::WgmmaConfig;
use super::exit::Leave;
use super::source::{Feed, Work};
use tilewright_ir::DType;
use tilewright_ir::layout::LayoutError;
use tilewright_ir::tile::{Cell, CmpPred, KernelBuilder, Pipe, RegTile, RoleBuilder, Scalar, Staging, Unit};

/// Rows of a warpgroup.
const ROWS: u32 = 64;
/// Columns that leave at once: an epilogue holds a few numbers for each besides its sum.
const CHUNK: u32 = 32;

/// Records the kernel.
pub(super) fn wgmma(k: &mut KernelBuilder, class: &CoreClass, c: &WgmmaConfig) -> Result<(), LayoutError> {
    let feed = Feed::declare(k, class, [c.bm, c.bn]);
    let leave = Leave::declare(k, class);
    let ring = k.pipe("ab", c.stages, &[(class.dtype, [c.bm, c.bk], 1), (class.dtype, [c.bk, c.bn], 1)]);
    k.min_ctas(c.ctas_of_sm(class.dtype));
    let [gather_regs, math_regs] = c.registers(class.dtype).map_or([None; 2], |regs| regs.map(Some));
    let chunk = CHUNK.min(c.bn);
    let staging = leave.is_wide().then(|| k.buffer("out", class.dtype, [ROWS, chunk], c.bm / ROWS));
    let x = Core { class, c, feed, leave, ring, staging };
    k.role("gather", 4, gather_regs, Unit::Warpgroup, |r| x.gather(r));
    let mut result = Ok(());
    k.role("math", 4 * c.bm / ROWS, math_regs, Unit::Warpgroup, |r| result = x.math(r));
    result
}

struct Core<'a> {
    class: &'a CoreClass,
    c: &'a WgmmaConfig,
    feed: Feed,
    leave: Leave,
    ring: Pipe,
    /// A tile of each multiplying warpgroup for what leaves.
    staging: Option<Staging>,
}

/// A tap and the rows that meet it, read before they are needed.
#[derive(Clone, Copy)]
struct Next {
    tap: Cell,
    rows: Cell,
}

impl Core<'_> {
    /// Copies under way besides those just started. One stage is left to the multiplication.
    fn lag(&self) -> u32 {
        (self.c.stages - 2).max(1)
    }

    fn gather(&self, r: &mut RoleBuilder) {
        let place = self.feed.place(r);
        r.if_then(place.exists, |r| {
            let w = self.feed.open(r, &place);
            let cin = r.param("cin");
            let steps = r.ceil_div(cin, self.c.bk);
            let ty = self.rows_type(r);
            // Lists lie in memory: two taps ahead, their latency passes under copies.
            let next = [0, 1].map(|slot| self.look_up_first(r, &w, slot, &ty));
            let older: Vec<Cell> = (0..self.lag()).map(|_| r.scalar_cell(0)).collect();
            let started = r.scalar_cell(0);
            r.for_range(0, w.taps, 1, |r, slot| {
                let (tap, rows) = (r.get(next[0].tap), r.get_tile(next[0].rows));
                let (after, after_rows) = (r.get(next[1].tap), r.get_tile(next[1].rows));
                r.set(next[0].tap, after);
                r.set_tile(next[0].rows, after_rows);
                if !self.feed.one_tap() {
                    let ahead = r.add(slot, 2);
                    let more = r.cmp(CmpPred::Lt, ahead, w.taps);
                    r.if_then(more, |r| self.look_up(r, &w, ahead, next[1], &ty));
                }
                r.for_range(0, steps, 1, |r, step| {
                    let at = r.mul(step, self.c.bk);
                    let s = r.acquire(&self.ring);
                    r.tma_load(&self.feed.weight, &[tap, at, w.col], &self.ring, s, 1);
                    let tile = r.slot(&self.ring, s, 0);
                    self.feed.copy_rows(r, tile, rows, at);
                    r.copy_commit();
                    r.copy_wait(i64::from(self.lag()));
                    let n = r.get(started);
                    let full = r.cmp(CmpPred::Ge, n, self.lag());
                    let oldest = r.get(older[0]);
                    r.if_then(full, |r| r.commit(&self.ring, oldest));
                    for pair in older.windows(2) {
                        let stage = r.get(pair[1]);
                        r.set(pair[0], stage);
                    }
                    r.set(older[older.len() - 1], s);
                    let n = r.add(n, 1);
                    r.set(started, n);
                });
            });
            r.copy_wait(0);
            let n = r.get(started);
            for (i, cell) in older.iter().enumerate() {
                // With fewer stages than cells the first cells hold none.
                let held = r.cmp(CmpPred::Ge, n, self.lag() - i as u32);
                let stage = r.get(*cell);
                r.if_then(held, |r| r.commit(&self.ring, stage));
            }
        });
    }

    fn rows_type(&self, r: &mut RoleBuilder) -> RegTile {
        let zero = r.int(0);
        let tile = r.slot(&self.ring, zero, 0);
        r.copy_rows_index(tile, self.feed.vec())
    }

    fn look_up_first(&self, r: &mut RoleBuilder, w: &Work, slot: u32, ty: &RegTile) -> Next {
        let none = r.int(-1);
        let none = r.splat(none, ty.clone());
        let next = Next { tap: r.scalar_cell(0), rows: r.tile_cell(none) };
        if slot == 0 || !self.feed.one_tap() {
            let some = r.cmp(CmpPred::Gt, w.taps, slot);
            r.if_then(some, |r| {
                let slot = r.int(i64::from(slot));
                self.look_up(r, w, slot, next, ty);
            });
        }
        next
    }

    fn look_up(&self, r: &mut RoleBuilder, w: &Work, slot: Scalar, next: Next, ty: &RegTile) {
        let tap = self.feed.tap(r, w, slot);
        let rows = self.feed.rows(r, w, slot, 0, ty.clone());
        r.set(next.tap, tap);
        r.set_tile(next.rows, rows);
    }

    /// Multiplies stage by stage; one stays in flight while the next is waited for.
    fn math(&self, r: &mut RoleBuilder) -> Result<(), LayoutError> {
        let place = self.feed.place(r);
        let mut result = Ok(());
        r.if_then(place.exists, |r| result = self.multiply(r, &place));
        result
    }

    fn multiply(&self, r: &mut RoleBuilder, place: &super::source::Place) -> Result<(), LayoutError> {
        let w = self.feed.open(r, place);
        let cin = r.param("cin");
        let steps = r.ceil_div(cin, self.c.bk);
        let total = r.mul(w.taps, steps);
        let acc = r.wgmma_acc_for(self.class.dtype, [ROWS, self.c.bn])?;
        // A tile without taps is zeros, which no multiplication writes.
        let zero = r.float(0.0);
        let blank = r.get_tile(acc);
        let blank = r.tile_type(blank);
        let zeros = r.splat(zero, blank);
        r.set_tile(acc, zeros);
        let wg = r.wg_index();
        let from = r.mul(wg, ROWS);
        let keep = r.bool(false);
        r.for_range(0, total, 1, |r, i| {
            let s = r.wait(&self.ring);
            let (a, b) = (r.slot(&self.ring, s, 0), r.slot(&self.ring, s, 1));
            let a = r.rows(a, from, ROWS);
            r.mma_async(acc, a, b, keep, true);
            r.mma_wait(acc, 1);
            let later = r.cmp(CmpPred::Gt, i, 0);
            r.release_if(&self.ring, later);
        });
        r.mma_wait(acc, 0);
        let some = r.cmp(CmpPred::Gt, total, 0);
        r.release_if(&self.ring, some);
        let sums = r.get_tile(acc);
        for at in (0..self.c.bn).step_by(CHUNK as usize) {
            let cols = CHUNK.min(self.c.bn - at);
            let part = r.slice(sums, [0, at], [ROWS, cols])?;
            let col = r.add(w.col, at);
            match &self.staging {
                Some(staging) if cols == CHUNK.min(self.c.bn) => {
                    let tile = r.staging(staging, wg);
                    self.leave.write_wide(r, &self.feed, &w, part, [from, col], tile)?;
                }
                _ => self.leave.write(r, &self.feed, &w, part, from, col),
            }
        }
        Ok(())
    }
}

impl WgmmaConfig {
    /// Registers of a gathering and of a multiplying thread, where sums need more than an equal share.
    fn registers(&self, dtype: DType) -> Option<[u32; 2]> {
        match (self.bn > 128, self.bm, self.ctas_of_sm(dtype)) {
            (true, 128, _) => Some([88, 208]),
            (_, 128, 2) => Some([64, 88]),
            _ => None,
        }
    }

    /// CTAs that share an SM: the gathering of one runs under the epilogue of the other.
    fn ctas_of_sm(&self, dtype: DType) -> u32 {
        if self.bn <= 64 && self.smem_bytes(dtype) <= 100 * 1024 { 2 } else { 1 }
    }
}
