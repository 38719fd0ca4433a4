//! Exchange through shared memory between barriers, and atomics whose order does not show.

use crate::program::Writer;

impl Writer {
    /// Each thread writes a word, and reads that of another.
    pub fn exchange(&mut self) {
        self.feature("shared");
        let (value, into) = (self.word(), self.word());
        let other = self.c.below(self.threads);
        self.lines(format!("shl.b32 %t0, %x0, 2; add.u32 %t0, %t0, %x2; st.shared.b32 [%t0], {value}"));
        self.block_barrier();
        self.lines(format!("xor.b32 %t1, %x0, {other}; shl.b32 %t1, %t1, 2; add.u32 %t1, %t1, %x2"));
        self.line(format!("ld.shared.b32 {into}, [%t1]"));
        self.block_barrier();
    }

    /// Thirty-two counters that all threads change by one commutative operation.
    pub fn atomics(&mut self) {
        self.feature("atomics");
        let (start, value, at, into) = (self.word(), self.word(), self.word(), self.word());
        let op = *self.c.pick(&["add.u32", "min.u32", "max.s32", "and.b32", "or.b32", "xor.b32", "min.s32"]);
        self.lines("shl.b32 %t0, %x1, 2; add.u32 %t0, %t0, %x2; setp.eq.u32 %q0, %x3, 0");
        self.line(format!("@%q0 st.shared.b32 [%t0], {start}"));
        self.block_barrier();
        self.lines(format!("and.b32 %t1, {at}, 31; shl.b32 %t1, %t1, 2; add.u32 %t1, %t1, %x2"));
        self.line(format!("red.shared.{op} [%t1], {value}"));
        self.block_barrier();
        self.line(format!("ld.shared.b32 {into}, [%t0]"));
        self.block_barrier();
    }
}
