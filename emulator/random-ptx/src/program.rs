//! A program, and the writer that puts one together.

use crate::choices::Choices;
use crate::data;
use std::fmt::Write;

/// What a program may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Ampere.
    Sm80,
    /// Hopper with its own instructions.
    Sm90a,
}

impl Target {
    /// As `.target` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Target::Sm80 => "sm_80",
            Target::Sm90a => "sm_90a",
        }
    }
}

/// Which buffer a tensor map describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// The input.
    In,
    /// The output.
    Out,
}

/// A tensor map, in the terms of `cuTensorMapEncodeTiled`; no interleave, zero fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// The buffer, and where the tensor starts in it, in bytes (a multiple of 16).
    pub buffer: Buffer,
    /// See `buffer`.
    pub offset: u32,
    /// Element type as PTX spells it: `u8`, `u16`, `u32`, `s32`, `u64`, `f16`, `bf16`, `f32`.
    pub dtype: &'static str,
    /// Elements along each dimension, innermost first.
    pub dims: Vec<u64>,
    /// Bytes between elements of dimensions 1.. .
    pub strides: Vec<u64>,
    /// Extent of the box.
    pub box_dims: Vec<u32>,
    /// Step along each dimension.
    pub element_strides: Vec<u32>,
    /// Span in bytes: 0 (none), 32, 64 or 128.
    pub swizzle: u32,
}

/// A kernel `k` with parameters `in`, `out` and one 128-byte tensor map for each of `maps`, and everything to launch it.
#[derive(Clone, Debug)]
pub struct Program {
    /// The PTX text.
    pub text: String,
    /// Its `.target`.
    pub target: Target,
    /// Threads of a block, one dimension.
    pub threads: u32,
    /// Blocks, one dimension.
    pub blocks: u32,
    /// The input buffer, on a 256-byte boundary.
    pub input: Vec<u8>,
    /// Size of the output buffer, on a 256-byte boundary. It starts as 0xCC in every byte.
    pub output_bytes: u32,
    /// Tensor maps, in the order of the parameters.
    pub maps: Vec<Map>,
    /// What the program holds besides arithmetic, each once: `tma`, `wgmma`, `mma`, `shuffle`, ...
    pub features: Vec<&'static str>,
}

impl Program {
    /// The program of these decisions.
    pub fn random(choices: Choices, target: Target) -> Program {
        Writer::new(choices, target).finish()
    }
}

/// Registers of the pool, by width.
pub(crate) const HALVES: u32 = 8;
pub(crate) const WORDS: u32 = 16;
pub(crate) const DOUBLES: u32 = 8;
pub(crate) const PREDS: u32 = 4;

/// Bytes a thread reads first and writes last.
const THREAD_BYTES: u32 = 160;
/// Bytes of input after those of the threads, for copies.
pub(crate) const SOURCE_BYTES: u32 = 8192;
/// Bytes of output after those of the threads, for each block.
const SINK_BYTES: u32 = 8192;
/// Bytes of shared scratch memory.
pub(crate) const SCRATCH_BYTES: u32 = 32768;

/// Writes the text. Registers: `%h`, `%r`, `%d`, `%p` are the pool; `%s`, `%t`, `%u`, `%q` are temporaries of 16, 32, 64
/// bits and predicates that hold nothing from one step to the next; `%x`, `%a` and `%c` are fixed (see `prologue`).
pub(crate) struct Writer {
    pub c: Choices,
    pub target: Target,
    pub threads: u32,
    pub blocks: u32,
    pub maps: Vec<Map>,
    pub sink_used: u32,
    body: String,
    labels: u32,
    features: Vec<&'static str>,
}

impl Writer {
    fn new(mut c: Choices, target: Target) -> Self {
        let threads = *c.pick(&[32, 32, 64, 128]);
        let blocks = *c.pick(&[1, 1, 2]);
        let body = String::new();
        Writer { c, target, threads, blocks, maps: Vec::new(), sink_used: 0, body, labels: 0, features: Vec::new() }
    }

    /// One line of code, without the semicolon.
    pub fn line(&mut self, text: impl AsRef<str>) {
        self.body.push_str("    ");
        self.body.push_str(text.as_ref());
        self.body.push_str(";\n");
    }

    /// Lines separated by semicolons.
    pub fn lines(&mut self, text: impl AsRef<str>) {
        for line in text.as_ref().split(';').map(str::trim).filter(|line| !line.is_empty()) {
            self.line(line);
        }
    }

    pub fn fresh_label(&mut self) -> String {
        self.labels += 1;
        format!("$L{}", self.labels)
    }

    pub fn place_label(&mut self, label: &str) {
        self.body.push_str(label);
        self.body.push_str(":\n");
    }

    pub fn feature(&mut self, name: &'static str) {
        if !self.features.contains(&name) {
            self.features.push(name);
        }
    }

    pub fn word(&mut self) -> String {
        format!("%r{}", self.c.below(WORDS))
    }

    pub fn pred(&mut self) -> String {
        format!("%p{}", self.c.below(PREDS))
    }

    /// Different registers of the pool: `prefix` with numbers below `limit`.
    pub fn distinct(&mut self, prefix: &str, limit: u32, count: u32) -> Vec<String> {
        let start = self.c.below(limit);
        (0..count).map(|i| format!("%{prefix}{}", (start + i) % limit)).collect()
    }

    /// Bytes of the block's part of the output, at an offset from `%a3`; the same for every block.
    pub fn sink(&mut self, bytes: u32) -> Option<u32> {
        let at = self.sink_used;
        (at + bytes <= SINK_BYTES).then(|| {
            self.sink_used = (at + bytes).next_multiple_of(128);
            at
        })
    }

    /// Where the sources of copies start in the input.
    pub fn source_at(&self) -> u32 {
        (self.blocks * self.threads * THREAD_BYTES).next_multiple_of(256)
    }

    /// Where the sinks start in the output.
    pub fn sink_at(&self) -> u32 {
        self.source_at()
    }

    /// Code only thread 0 runs.
    pub fn thread_zero(&mut self, code: impl FnOnce(&mut Self)) {
        let skip = self.fresh_label();
        self.lines(format!("setp.ne.u32 %q7, %x0, 0; @%q7 bra {skip}"));
        code(self);
        self.place_label(&skip);
    }

    pub fn block_barrier(&mut self) {
        self.line("bar.sync 0");
    }

    /// `steps` steps. `together`: all threads of the block are here, in the same iteration.
    fn block(&mut self, steps: u32, depth: u32, together: bool) {
        for _ in 0..steps {
            let kind = self.c.below(100);
            match kind {
                0..=5 if depth < 3 => self.branch(depth),
                6..=9 if depth < 3 => self.repeat(depth, together),
                10..=15 => self.local_memory(),
                16..=50 if together => self.collective(),
                _ => self.arithmetic(),
            }
        }
    }

    fn collective(&mut self) {
        let hopper = self.target >= Target::Sm90a;
        match self.c.below(if hopper { 100 } else { 66 }) {
            0..=29 => self.warp_step(),
            30..=39 => self.exchange(),
            40..=47 => self.atomics(),
            48..=53 => self.load_matrix(),
            54..=60 => self.mma(),
            61..=65 => self.cp_async(),
            66..=71 => self.bulk(),
            72..=84 => self.tensor_copy(),
            85..=90 => self.store_matrix(),
            // A warpgroup is four warps.
            _ if self.threads == 128 => self.wgmma(),
            _ => self.mma(),
        }
    }

    /// An if, or an if with an else, on a predicate that lanes may disagree on.
    fn branch(&mut self, depth: u32) {
        self.feature("branch");
        let (other, end) = (self.fresh_label(), self.fresh_label());
        let (not, pred) = (if self.c.chance(50) { "!" } else { "" }, self.pred());
        let with_else = self.c.chance(50);
        self.line(format!("@{not}{pred} bra {other}"));
        let steps = self.c.within(1, 5);
        self.block(steps, depth + 1, false);
        if with_else {
            self.line(format!("bra {end}"));
            self.place_label(&other);
            let steps = self.c.within(1, 5);
            self.block(steps, depth + 1, false);
            self.place_label(&end);
        } else {
            self.place_label(&other);
        }
    }

    /// A loop of 1 to 4 rounds: as many for everyone when all threads are to stay together, else as a register says.
    fn repeat(&mut self, depth: u32, together: bool) {
        self.feature("loop");
        let again = self.fresh_label();
        let counter = format!("%c{depth}");
        let uniform = self.c.chance(50);
        if uniform {
            let rounds = self.c.within(1, 3);
            self.line(format!("mov.b32 {counter}, {rounds}"));
        } else {
            let source = self.word();
            self.lines(format!("and.b32 {counter}, {source}, 3; add.u32 {counter}, {counter}, 1"));
        }
        self.place_label(&again);
        let steps = self.c.within(1, 6);
        self.block(steps, depth + 1, together && uniform);
        self.lines(format!("sub.u32 {counter}, {counter}, 1; setp.ne.u32 %q6, {counter}, 0; @%q6 bra {again}"));
    }

    /// `%x0` thread, `%x1` lane, `%x2` scratch memory, `%x3` warp, `%x4` block, `%x5` the mbarrier. `%a0` the thread's input,
    /// `%a1` its output, `%a2` sources, `%a3` the block's sinks.
    fn prologue(&mut self) {
        let (threads, source, sink) = (self.threads, self.source_at(), self.sink_at());
        self.lines("mov.u32 %x0, %tid.x; mov.u32 %x1, %laneid; shr.u32 %x3, %x0, 5; mov.u32 %x4, %ctaid.x");
        self.lines("mov.b32 %x2, scratch; mov.b32 %x5, bars");
        self.lines("ld.param.b64 %a0, [in]; cvta.to.global.u64 %a0, %a0; ld.param.b64 %a1, [out]; cvta.to.global.u64 %a1, %a1");
        self.lines(format!("add.u64 %a2, %a0, {source}; add.u64 %a3, %a1, {sink}"));
        self.lines(format!("mul.wide.u32 %u0, %x4, {SINK_BYTES}; add.u64 %a3, %a3, %u0"));
        self.lines(format!("mad.lo.u32 %t0, %x4, {threads}, %x0; mul.wide.u32 %u0, %t0, {THREAD_BYTES}"));
        self.lines("add.u64 %a0, %a0, %u0; add.u64 %a1, %a1, %u0");
        for quad in 0..WORDS / 4 {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| 4 * quad + i);
            self.line(format!("ld.global.v4.b32 {{%r{a}, %r{b}, %r{c}, %r{d}}}, [%a0+{}]", 16 * quad));
        }
        for pair in 0..DOUBLES / 2 {
            self.line(format!("ld.global.v2.b64 {{%d{}, %d{}}}, [%a0+{}]", 2 * pair, 2 * pair + 1, 64 + 16 * pair));
        }
        for quad in 0..HALVES / 4 {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| 4 * quad + i);
            self.line(format!("ld.global.v4.b16 {{%h{a}, %h{b}, %h{c}, %h{d}}}, [%a0+{}]", 128 + 8 * quad));
        }
        for pred in 0..PREDS {
            self.lines(format!("ld.global.b32 %t0, [%a0+{}]; setp.ne.b32 %p{pred}, %t0, 0", 144 + 4 * pred));
        }
        // The frame must not hold undefined bytes that a load could find.
        for at in 0..4 {
            self.line(format!("st.local.v4.b32 [frame+{}], {{%r{at}, %r{}, %r{}, %r{}}}", 16 * at, at + 1, at + 2, at + 3));
        }
    }

    fn epilogue(&mut self) {
        for quad in 0..WORDS / 4 {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| 4 * quad + i);
            self.line(format!("st.global.v4.b32 [%a1+{}], {{%r{a}, %r{b}, %r{c}, %r{d}}}", 16 * quad));
        }
        for pair in 0..DOUBLES / 2 {
            self.line(format!("st.global.v2.b64 [%a1+{}], {{%d{}, %d{}}}", 64 + 16 * pair, 2 * pair, 2 * pair + 1));
        }
        for quad in 0..HALVES / 4 {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| 4 * quad + i);
            self.line(format!("st.global.v4.b16 [%a1+{}], {{%h{a}, %h{b}, %h{c}, %h{d}}}", 128 + 8 * quad));
        }
        for pred in 0..PREDS {
            self.lines(format!("selp.b32 %t{pred}, 1, 0, %p{pred}; st.global.b32 [%a1+{}], %t{pred}", 144 + 4 * pred));
        }
        self.line("ret");
    }

    fn finish(mut self) -> Program {
        let steps = self.c.within(10, 45);
        self.prologue();
        self.block(steps, 0, true);
        self.epilogue();
        let mut text = format!(".version 8.6\n.target {}\n.address_size 64\n", self.target.name());
        text.push_str(".visible .entry k(\n    .param .u64 in,\n    .param .u64 out");
        for map in 0..self.maps.len() {
            let _ = write!(text, ",\n    .param .align 64 .b8 m{map}[128]");
        }
        let _ = writeln!(text, "\n)\n.reqntid {}, 1, 1\n{{", self.threads);
        let _ = writeln!(text, "    .reg .b16 %h<{HALVES}>, %s<8>;\n    .reg .b32 %r<{WORDS}>, %t<64>, %x<8>, %c<4>;");
        let _ = writeln!(text, "    .reg .b64 %d<{DOUBLES}>, %u<16>, %a<4>;\n    .reg .pred %p<{PREDS}>, %q<8>;");
        let _ = writeln!(text, "    .local .align 16 .b8 frame[64];\n    .shared .align 1024 .b8 scratch[{SCRATCH_BYTES}];");
        text.push_str("    .shared .align 8 .b8 bars[8];\n");
        text.push_str(&self.body);
        text.push_str("}\n");
        let threads = self.blocks * self.threads;
        let bytes = self.source_at() + SOURCE_BYTES;
        let input = data::input(&mut self.c, threads, THREAD_BYTES, bytes);
        Program {
            text,
            target: self.target,
            threads: self.threads,
            blocks: self.blocks,
            input,
            output_bytes: self.sink_at() + self.blocks * SINK_BYTES,
            maps: self.maps,
            features: self.features,
        }
    }
}
