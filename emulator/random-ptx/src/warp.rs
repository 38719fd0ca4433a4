//! Lanes of a warp together. All of them are there.

use crate::program::Writer;

impl Writer {
    pub fn warp_step(&mut self) {
        self.feature("warp");
        let (a, b, into) = (self.word(), self.word(), self.word());
        let (p, q) = (self.pred(), self.pred());
        match self.c.below(9) {
            0 | 1 => {
                let mode = *self.c.pick(&["up", "down", "bfly", "idx"]);
                // The clamp in bits 0 to 4, the segment in 8 to 12: of up it is the lowest lane.
                let segment = *self.c.pick(&[0u32, 16, 24, 28]);
                let clamp = if mode == "up" { 0 } else { 31 };
                let control = segment << 8 | clamp;
                self.line(format!("and.b32 %t0, {b}, 31"));
                self.line(format!("shfl.sync.{mode}.b32 {into}|{p}, {a}, %t0, {control:#x}, -1"));
            }
            2 => self.line(format!("vote.sync.ballot.b32 {into}, {p}, -1")),
            3 => {
                let mode = *self.c.pick(&["all", "any", "uni"]);
                self.line(format!("vote.sync.{mode}.pred {q}, {p}, -1"));
            }
            4 => self.lines(format!("and.b32 %t0, {a}, 3; match.any.sync.b32 {into}, %t0, -1")),
            5 => self.lines(format!("and.b32 %t0, {a}, 1; match.all.sync.b32 {into}|{p}, %t0, -1")),
            6 => {
                let op = *self.c.pick(&["add.u32", "add.s32", "min.u32", "max.s32", "and.b32", "or.b32", "xor.b32"]);
                self.line(format!("redux.sync.{op} {into}, {a}, -1"));
            }
            // The leader is the implementation's choice, so only that there is one may show.
            7 if self.target != crate::Target::Sm80 => {
                self.lines(format!("elect.sync %t0|%q5, -1; vote.sync.ballot.b32 %t1, %q5, -1; popc.b32 {into}, %t1"));
            }
            _ => self.lines(format!("bar.warp.sync -1; mov.u32 {into}, %lanemask_lt")),
        }
    }
}
