//! Matrix loads and stores, and products that are exact in any order of summation: integers, and floats that are 1 or -1.

use crate::program::{WORDS, Writer};

impl Writer {
    /// Each thread's row of 16 bytes into shared memory.
    fn rows(&mut self) {
        let [a, b, c, d] = [self.word(), self.word(), self.word(), self.word()];
        self.lines(format!("shl.b32 %t0, %x0, 4; add.u32 %t0, %t0, %x2; st.shared.v4.b32 [%t0], {{{a}, {b}, {c}, {d}}}"));
        self.block_barrier();
    }

    pub fn load_matrix(&mut self) {
        self.feature("ldmatrix");
        let count = *self.c.pick(&[1u32, 2, 4]);
        let trans = if self.c.chance(50) { ".trans" } else { "" };
        self.rows();
        let into = self.distinct("r", WORDS, count).join(", ");
        self.line(format!("ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{into}}}, [%t0]"));
        self.block_barrier();
    }

    pub fn store_matrix(&mut self) {
        self.feature("stmatrix");
        let trans = if self.c.chance(50) { ".trans" } else { "" };
        let from = self.distinct("r", WORDS, 4).join(", ");
        let into = self.distinct("r", WORDS, 4).join(", ");
        self.lines("shl.b32 %t0, %x0, 4; add.u32 %t0, %t0, %x2");
        self.line(format!("stmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 [%t0], {{{from}}}"));
        self.block_barrier();
        self.line(format!("ld.shared.v4.b32 {{{into}}}, [%t0]"));
        self.block_barrier();
    }

    /// `count` temporaries from `first` on that hold pairs of 1 and -1 of a 16-bit type.
    fn signs(&mut self, first: u32, count: u32, one: u32) {
        for i in first..first + count {
            let from = self.word();
            self.lines(format!("and.b32 %t{i}, {from}, 0x80008000; or.b32 %t{i}, %t{i}, {one:#x}"));
        }
    }

    /// Small whole numbers as f32.
    fn small(&mut self, first: u32, count: u32) {
        for i in first..first + count {
            let from = self.word();
            self.lines(format!("and.b32 %t{i}, {from}, 255; cvt.rn.f32.u32 %t{i}, %t{i}"));
        }
    }

    pub fn mma(&mut self) {
        self.feature("mma");
        let into = self.distinct("r", WORDS, 4).join(", ");
        let list = |first: u32, count: u32| (first..first + count).map(|i| format!("%t{i}")).collect::<Vec<_>>().join(", ");
        match self.c.below(5) {
            0 => {
                let (a, b, c) = (self.distinct("r", WORDS, 4), self.distinct("r", WORDS, 2), self.distinct("r", WORDS, 4));
                let kind = *self.c.pick(&["s8.s8", "u8.s8", "u8.u8"]);
                let (a, b, c) = (a.join(", "), b.join(", "), c.join(", "));
                self.line(format!("mma.sync.aligned.m16n8k32.row.col.s32.{kind}.s32 {{{into}}}, {{{a}}}, {{{b}}}, {{{c}}}"));
            }
            1 => {
                let (a, b, c) = (self.distinct("r", WORDS, 2), self.distinct("r", WORDS, 1), self.distinct("r", WORDS, 4));
                let (a, b, c) = (a.join(", "), b.join(", "), c.join(", "));
                let sat = if self.c.chance(50) { ".satfinite" } else { "" };
                self.line(format!("mma.sync.aligned.m16n8k32.row.col{sat}.s32.s4.s4.s32 {{{into}}}, {{{a}}}, {{{b}}}, {{{c}}}"));
            }
            kind => {
                let (name, one) = if kind == 2 { ("f16", 0x3c00_3c00) } else { ("bf16", 0x3f80_3f80) };
                self.signs(0, 6, one);
                self.small(6, 4);
                let (a, b, c) = (list(0, 4), list(4, 2), list(6, 4));
                self.line(format!(
                    "mma.sync.aligned.m16n8k16.row.col.f32.{name}.{name}.f32 {{{into}}}, {{{a}}}, {{{b}}}, {{{c}}}"
                ));
            }
        }
    }

    /// A 64 by 8 product with both operands in shared memory, unswizzled; needs a block of one warpgroup.
    pub fn wgmma(&mut self) {
        self.feature("wgmma");
        self.signs(0, 8, 0x3f80_3f80);
        self.small(8, 4);
        self.lines("shl.b32 %t12, %x0, 4; add.u32 %t12, %t12, %x2; st.shared.v4.b32 [%t12], {%t0, %t1, %t2, %t3}");
        self.line("st.shared.v4.b32 [%t12+2048], {%t4, %t5, %t6, %t7}");
        self.line("fence.proxy.async.shared::cta");
        self.block_barrier();
        // PTX ISA 9.7.15.5.1.2: start, then the leading and the stride byte offset, all in units of 16 bytes.
        let offsets: u64 = (128 >> 4) << 16 | (256 >> 4) << 32;
        self.lines("and.b32 %t13, %x2, 0x3ffff; shr.u32 %t13, %t13, 4; cvt.u64.u32 %u0, %t13");
        self.lines(format!("or.b64 %u0, %u0, {offsets:#x}; add.u64 %u1, %u0, 128"));
        let init = u32::from(self.c.chance(70));
        self.lines(format!("setp.ne.b32 %q0, {init}, 0; wgmma.fence.sync.aligned"));
        self.line("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%t8, %t9, %t10, %t11}, %u0, %u1, %q0, 1, 1, 0, 0");
        self.lines("wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0");
        for i in 8..12 {
            let into = self.word();
            self.line(format!("mov.b32 {into}, %t{i}"));
        }
        self.block_barrier();
    }
}
