//! Arithmetic on the pool of registers: every instruction with one right answer, from a table of templates.

use crate::program::{DOUBLES, HALVES, PREDS, WORDS, Writer};

/// In a template `R D H P` are destinations of 32, 64, 16 bits and predicates, `r d h p` sources, `#` a number below 32
/// and `@` any 32-bit number; other letters stand for themselves. Several instructions are separated by semicolons;
/// `%t0`, `%u0`, `%s0`, `%q0` are free in between.
const TEMPLATES: &[&str] = &[
    // Integers.
    "add.s32 R, r, r",
    "sub.u32 R, r, @",
    "mul.lo.s32 R, r, r",
    "mul.hi.u32 R, r, r",
    "mul.hi.s32 R, r, r",
    "mad.lo.u32 R, r, r, r",
    "mad.hi.s32 R, r, r, r",
    "mad.hi.sat.s32 R, r, r, r",
    "add.sat.s32 R, r, r",
    "sub.sat.s32 R, r, r",
    "mul24.lo.u32 R, r, r",
    "mad24.lo.s32 R, r, r, r",
    "sad.u32 R, r, r, r",
    "abs.s32 R, r",
    "neg.s32 R, r",
    "min.s32 R, r, r",
    "max.u32 R, r, r",
    "or.b32 %t0, r, 1; div.u32 R, r, %t0",
    "or.b32 %t0, r, 1; rem.u32 R, r, %t0",
    "and.b32 %t0, r, 255; or.b32 %t0, %t0, 1; div.s32 R, r, %t0",
    "and.b32 %t0, r, 255; or.b32 %t0, %t0, 1; rem.s32 R, r, %t0",
    "mul.wide.u32 D, r, r",
    "mul.wide.s32 D, r, r",
    "mad.wide.u32 D, r, r, d",
    "mad.wide.s32 D, r, @, d",
    "add.u64 D, d, d",
    "sub.s64 D, d, d",
    "mul.lo.u64 D, d, d",
    "mul.hi.u64 D, d, d",
    "mul.hi.s64 D, d, d",
    "min.s64 D, d, d",
    "max.u64 D, d, d",
    "abs.s64 D, d",
    "or.b64 %u0, d, 1; div.u64 D, d, %u0",
    "or.b64 %u0, d, 1; rem.u64 D, d, %u0",
    "add.cc.u32 R, r, r; addc.u32 R, r, r",
    "sub.cc.u32 R, r, r; subc.u32 R, r, r",
    "mad.lo.cc.u32 R, r, r, r; madc.hi.u32 R, r, r, r",
    "add.u16 H, h, h",
    "mul.lo.s16 H, h, h",
    "min.s16 H, h, h",
    "dp4a.u32.u32 R, r, r, r",
    "dp4a.s32.s32 R, r, r, r",
    "dp2a.lo.s32.u32 R, r, r, r",
    "dp2a.hi.u32.u32 R, r, r, r",
    // Bits.
    "and.b32 R, r, r",
    "or.b32 R, r, @",
    "xor.b64 D, d, d",
    "not.b32 R, r",
    "cnot.b32 R, r",
    "shl.b32 R, r, r",
    "shr.u32 R, r, #",
    "shr.s32 R, r, r",
    "shl.b64 D, d, r",
    "shr.s64 D, d, #",
    "shf.l.wrap.b32 R, r, r, r",
    "shf.r.clamp.b32 R, r, r, r",
    "lop3.b32 R, r, r, r, 0x96",
    "lop3.b32 R, r, r, r, 0xe8",
    "lop3.b32 R, r, r, @, 0x3a",
    "prmt.b32 R, r, r, r",
    "prmt.b32 R, r, r, 0x5410",
    "prmt.b32.f4e R, r, r, r",
    "prmt.b32.b4e R, r, r, r",
    "prmt.b32.rc8 R, r, r, r",
    "prmt.b32.ecl R, r, r, r",
    "prmt.b32.ecr R, r, r, r",
    "prmt.b32.rc16 R, r, r, r",
    "bfe.u32 R, r, r, r",
    "bfe.s32 R, r, #, #",
    "bfe.u64 D, d, #, #",
    "bfi.b32 R, r, r, #, #",
    "bfi.b64 D, d, d, #, #",
    "popc.b32 R, r",
    "popc.b64 R, d",
    "clz.b32 R, r",
    "clz.b64 R, d",
    "brev.b32 R, r",
    "brev.b64 D, d",
    "bfind.u32 R, r",
    "bfind.s32 R, r",
    "bfind.shiftamt.u32 R, r",
    "fns.b32 R, r, #, 1",
    "bmsk.clamp.b32 R, r, r",
    "bmsk.wrap.b32 R, r, #",
    "szext.wrap.u32 R, r, r",
    "szext.clamp.s32 R, r, r",
    // Single and double floats, every rounding. PTX leaves the bits of some NaNs open (of negations, and of all f64), so
    // what could make those is left out or gets numbers.
    "add.rn.f32 R, r, r",
    "add.rz.f32 R, r, r",
    "sub.rm.f32 R, r, r",
    "mul.rp.f32 R, r, r",
    "mul.rn.f32 R, r, r",
    "fma.rn.f32 R, r, r, r",
    "fma.rz.f32 R, r, r, r",
    "fma.rm.f32 R, r, r, r",
    "fma.rp.f32 R, r, r, r",
    "fma.rn.ftz.f32 R, r, r, r",
    "add.rn.ftz.f32 R, r, r",
    "add.sat.f32 R, r, r",
    "mul.rn.sat.f32 R, r, r",
    "div.rn.f32 R, r, r",
    "div.rz.f32 R, r, r",
    "rcp.rn.f32 R, r",
    "rcp.rp.f32 R, r",
    "sqrt.rn.f32 R, r",
    "sqrt.rm.f32 R, r",
    "min.f32 R, r, r",
    "max.f32 R, r, r",
    "min.NaN.f32 R, r, r",
    "and.b64 %u0, d, 0xbfffffffffffffff; and.b64 %u1, d, 0xbfffffffffffffff; add.rn.f64 D, %u0, %u1",
    "and.b64 %u0, d, 0xbfffffffffffffff; and.b64 %u1, d, 0xbfffffffffffffff; mul.rz.f64 D, %u0, %u1",
    "and.b64 %u0, d, 0xbfffffffffffffff; and.b64 %u1, d, 0xbfffffffffffffff; fma.rn.f64 D, %u0, %u1, %u1",
    "and.b64 %u0, d, 0xbfffffffffffffff; and.b64 %u1, d, 0xbfffffffffffffff; fma.rm.f64 D, %u1, %u0, %u1",
    "and.b64 %u0, d, 0x3fffffffffffffff; or.b64 %u0, %u0, 1; and.b64 %u1, d, 0xbfffffffffffffff; div.rn.f64 D, %u1, %u0",
    "and.b64 %u0, d, 0x3fffffffffffffff; or.b64 %u0, %u0, 1; sqrt.rp.f64 D, %u0",
    "and.b64 %u0, d, 0x3fffffffffffffff; or.b64 %u0, %u0, 1; rcp.rn.f64 D, %u0",
    "and.b64 %u0, d, 0xbfffffffffffffff; and.b64 %u1, d, 0xbfffffffffffffff; min.f64 D, %u0, %u1",
    // Halves.
    "add.rn.f16 H, h, h",
    "mul.rn.f16 H, h, h",
    "fma.rn.f16 H, h, h, h",
    "sub.rn.f16x2 R, r, r",
    "mul.rn.f16x2 R, r, r",
    "fma.rn.f16x2 R, r, r, r",
    "fma.rn.relu.f16x2 R, r, r, r",
    "fma.rn.bf16 H, h, h, h",
    "fma.rn.bf16x2 R, r, r, r",
    "fma.rn.relu.bf16x2 R, r, r, r",
    "min.f16x2 R, r, r",
    "max.NaN.bf16x2 R, r, r",
    "add.rn.sat.f16 H, h, h",
    // Conversions.
    "cvt.rn.f32.s32 R, r",
    "cvt.rz.f32.u32 R, r",
    "cvt.rp.f32.s64 R, d",
    "cvt.rn.f64.s32 D, r",
    "cvt.rm.f64.u64 D, d",
    "cvt.rni.s32.f32 R, r",
    "cvt.rzi.u32.f32 R, r",
    "cvt.rmi.s32.f32 R, r",
    "cvt.rpi.s64.f32 D, r",
    "cvt.rzi.u64.f64 D, d",
    "cvt.rni.s32.f64 R, d",
    "cvt.rn.f32.f64 R, d",
    "cvt.rz.f32.f64 R, d",
    "cvt.rn.f16.f32 H, r",
    "cvt.rz.f16.f32 H, r",
    "cvt.rn.bf16.f32 H, r",
    "cvt.f32.f16 R, h",
    "cvt.f32.bf16 R, h",
    "cvt.rn.f16x2.f32 R, r, r",
    "cvt.rz.bf16x2.f32 R, r, r",
    "cvt.rn.relu.f16x2.f32 R, r, r",
    "cvt.rna.tf32.f32 %t0, r; and.b32 R, %t0, 0xffffe000",
    "cvt.sat.f32.f32 R, r",
    "cvt.s32.s8 R, r",
    "cvt.u32.u16 R, h",
    "cvt.s64.s32 D, r",
    "cvt.u64.u32 D, r",
    "cvt.u32.u64 R, d",
    "cvt.sat.s8.s32 R, r",
    "cvt.sat.u16.s32 H, r",
    "cvt.rn.f16.s32 H, r",
    "cvt.rni.s32.f16 R, h",
    "cvt.pack.sat.u8.s32.b32 R, r, r, r",
    "cvt.pack.sat.s16.s32 R, r, r",
    // Comparisons and choices.
    "setp.lt.s32 P, r, r",
    "setp.hs.u32 P, r, r",
    "setp.eq.b64 P, d, d",
    "setp.geu.f32 P, r, r",
    "setp.nan.f32 P, r, r",
    "setp.ltu.f64 P, d, d",
    "setp.gt.f16 P, h, h",
    "setp.ne.and.s32 P, r, r, p",
    "setp.le.xor.u32 P, r, r, !p",
    "setp.lo.or.u64 P, d, d, p",
    "set.gt.u32.f32 R, r, r",
    "set.le.f32.s32 R, r, r",
    "selp.b32 R, r, r, p",
    "selp.b64 D, d, d, p",
    "selp.f32 R, r, r, p",
    "slct.s32.s32 R, r, r, r",
    "slct.f32.f32 R, r, r, r",
    "and.pred P, p, p",
    "xor.pred P, p, p",
    "not.pred P, p",
    "testp.subnormal.f32 P, r",
    "testp.finite.f32 P, r",
    "testp.notanumber.f64 P, d",
    // Moves.
    "mov.b32 R, r",
    "mov.b64 D, {r, r}",
    "mov.b64 {R, %t0}, d",
    "mov.b32 R, {h, h}",
    "mov.b32 {H, %s0}, r",
    "mov.b64 D, {h, h, h, h}",
];

/// What Hopper and Ada have beside that.
const LATER: &[&str] = &[
    "max.xorsign.abs.f32 R, r, r",
    "cvt.rn.satfinite.e4m3x2.f32 H, r, r",
    "cvt.rn.satfinite.e5m2x2.f32 H, r, r",
    "cvt.rn.satfinite.relu.e4m3x2.f16x2 H, r",
    "cvt.rn.f16x2.e4m3x2 R, h",
    "cvt.rn.f16x2.e5m2x2 R, h",
    "add.rn.bf16 H, h, h",
    "sub.rn.bf16x2 R, r, r",
    "mul.rn.bf16x2 R, r, r",
];

impl Writer {
    /// A few instructions of the tables, some of them under a predicate.
    pub fn arithmetic(&mut self) {
        let hopper = self.target != crate::Target::Sm80;
        let template = if hopper && self.c.chance(5) { *self.c.pick(LATER) } else { *self.c.pick(TEMPLATES) };
        let guard = if self.c.chance(12) && !template.contains(';') {
            format!("@{}{} ", if self.c.chance(50) { "!" } else { "" }, self.pred())
        } else {
            String::new()
        };
        let text = self.fill(template);
        self.lines(format!("{guard}{text}"));
    }

    fn fill(&mut self, template: &str) -> String {
        let mut out = String::new();
        for instruction in template.split_inclusive(';') {
            // The opcode has letters of its own.
            let (opcode, operands) = instruction.trim_start().split_once(' ').unwrap_or((instruction, ""));
            out.push_str(opcode);
            out.push(' ');
            let mut before = ' ';
            for letter in operands.chars() {
                let free = !before.is_ascii_alphanumeric() && before != '%';
                let register = |name: &str, count: u32, writer: &mut Self| format!("%{name}{}", writer.c.below(count));
                match letter {
                    'R' | 'r' if free => out.push_str(&register("r", WORDS, self)),
                    'D' | 'd' if free => out.push_str(&register("d", DOUBLES, self)),
                    'H' | 'h' if free => out.push_str(&register("h", HALVES, self)),
                    'P' | 'p' if free => out.push_str(&register("p", PREDS, self)),
                    '#' => out.push_str(&self.c.below(32).to_string()),
                    '@' => out.push_str(&format!("{:#x}", self.c.bits() as u32)),
                    other => out.push(other),
                }
                before = letter;
            }
        }
        out
    }

    /// Through the thread's own memory, at a place it computes.
    pub fn local_memory(&mut self) {
        self.feature("local");
        let (value, index, into) = (self.word(), self.word(), self.word());
        let at = 4 * self.c.below(16);
        self.lines(format!("st.local.b32 [frame+{at}], {value}; and.b32 %t0, {index}, 60; mov.b32 %t1, frame"));
        self.lines(format!("add.u32 %t1, %t1, %t0; ld.local.b32 {into}, [%t1]"));
    }
}
