//! `wmma`: matrices in memory, their fragments, and the product (PTX ISA 9.7.14.4).
//!
//! The ISA leaves open which lane holds what. Here a matrix is a string of bytes, its [image](Image): multiplicands line
//! after line as they lie in memory, accumulators row after row. Each lane's fragment is the next few words of it, and
//! where the lanes have more room than the matrix has words (f16 multiplicands) the image repeats.

use super::element::{AccumulatorType, ElementType, f16_to_f32, f32_to_f16_bits};
use super::fragment::{a_element, a_element_m8, b_element, c_element, c_element_f16, elements_per_register};
use super::mma::{MmaError, MmaKind, mma};
use super::{Arithmetic, WarpReg};

/// The bytes of the largest matrix, 256 elements of 32 bits.
pub const IMAGE_BYTES: usize = 1024;
/// A matrix in the order of its fragments.
pub type Image = [u8; IMAGE_BYTES];

/// Whether lines of memory are rows or columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `.row`
    Row,
    /// `.col`
    Column,
}

impl Layout {
    /// The layout with this PTX name, without the dot.
    pub fn parse(name: &str) -> Option<Layout> {
        match name {
            "row" => Some(Layout::Row),
            "col" => Some(Layout::Column),
            _ => None,
        }
    }
}

/// Element type of a `wmma` matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Multiplicand {
    /// A type that `mma` has too.
    Element(ElementType),
    /// `.b1`
    Bit,
}

impl Multiplicand {
    /// The type with this PTX name, without the dot.
    pub fn parse(name: &str) -> Option<Multiplicand> {
        if name == "b1" { Some(Multiplicand::Bit) } else { ElementType::parse(name).map(Multiplicand::Element) }
    }

    /// Width in bits.
    pub const fn bits(self) -> u32 {
        match self {
            Multiplicand::Element(ty) => ty.bits(),
            Multiplicand::Bit => 1,
        }
    }

    /// The shapes that this type is multiplied in.
    fn shapes(self) -> &'static [&'static str] {
        match self {
            Multiplicand::Bit => &["m8n8k128"],
            Multiplicand::Element(ElementType::S4 | ElementType::U4) => &["m8n8k32"],
            Multiplicand::Element(ElementType::Tf32) => &["m16n16k8"],
            Multiplicand::Element(ElementType::F64) => &["m8n8k4"],
            Multiplicand::Element(ElementType::E4m3 | ElementType::E5m2) => &[],
            Multiplicand::Element(_) => &["m16n16k16", "m8n32k16", "m32n8k16"],
        }
    }

    /// Whether products accumulate in `d`.
    fn accumulates_in(self, d: AccumulatorType) -> bool {
        match self {
            Multiplicand::Bit => d == AccumulatorType::S32,
            Multiplicand::Element(ElementType::F16) => matches!(d, AccumulatorType::F16 | AccumulatorType::F32),
            Multiplicand::Element(ElementType::F64) => d == AccumulatorType::F64,
            Multiplicand::Element(ty) if ty.is_integer() => d == AccumulatorType::S32,
            Multiplicand::Element(_) => d == AccumulatorType::F32,
        }
    }
}

fn dimensions(shape: &str) -> Option<[u32; 3]> {
    let (m, rest) = shape.strip_prefix('m')?.split_once('n')?;
    let (n, k) = rest.split_once('k')?;
    Some([m.parse().ok()?, n.parse().ok()?, k.parse().ok()?])
}

/// One matrix of a `wmma` as it lies in memory and in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WmmaMatrix {
    /// Rows of the matrix.
    pub rows: u32,
    /// Columns of the matrix.
    pub columns: u32,
    /// Of an element.
    pub bits: u32,
    /// How memory holds it.
    pub layout: Layout,
    /// C and D, whose fragments do not depend on the layout.
    pub accumulator: bool,
    /// 32-bit words of the fragment in each lane.
    pub words: usize,
}

impl WmmaMatrix {
    /// The matrix of `wmma.load` and `wmma.store`: `part` is `a`, `b`, `c` or `d`. None if there is no such form.
    pub fn parse(part: &str, layout: Layout, shape: &str, ty: &str) -> Option<WmmaMatrix> {
        let [m, n, k] = dimensions(shape)?;
        if matches!(part, "c" | "d") {
            let ty = AccumulatorType::parse(ty)?;
            const TYPES: [Multiplicand; 6] = [
                Multiplicand::Bit,
                Multiplicand::Element(ElementType::S4),
                Multiplicand::Element(ElementType::S8),
                Multiplicand::Element(ElementType::F16),
                Multiplicand::Element(ElementType::Tf32),
                Multiplicand::Element(ElementType::F64),
            ];
            let exists = |of: &Multiplicand| of.shapes().contains(&shape) && of.accumulates_in(ty);
            return TYPES.iter().any(exists).then(|| Self::accumulator(m, n, ty, layout));
        }
        let ty = Multiplicand::parse(ty)?;
        let fixed = if part == "a" { Layout::Row } else { Layout::Column };
        if !ty.shapes().contains(&shape) || ty.bits() < 8 && layout != fixed {
            return None;
        }
        Some(Self::multiplicand(part == "a", [m, n, k], ty, layout))
    }

    fn multiplicand(is_a: bool, [m, n, k]: [u32; 3], ty: Multiplicand, layout: Layout) -> WmmaMatrix {
        let [rows, columns] = if is_a { [m, k] } else { [k, n] };
        let bits = ty.bits();
        let once = (rows * columns * bits / 1024) as usize;
        // Fragments of f16 have eight registers in all shapes.
        let words = if ty == Multiplicand::Element(ElementType::F16) { 8 } else { once };
        WmmaMatrix { rows, columns, bits, layout, accumulator: false, words }
    }

    fn accumulator(m: u32, n: u32, ty: AccumulatorType, layout: Layout) -> WmmaMatrix {
        let bits = ty.bits();
        WmmaMatrix { rows: m, columns: n, bits, layout, accumulator: true, words: (m * n * bits / 1024) as usize }
    }

    /// Lines of memory and the elements of each.
    pub const fn lines(&self) -> [u32; 2] {
        match self.layout {
            Layout::Row => [self.rows, self.columns],
            Layout::Column => [self.columns, self.rows],
        }
    }

    /// Bytes of the whole matrix.
    pub const fn bytes(&self) -> usize {
        (self.rows * self.columns * self.bits / 8) as usize
    }

    /// Where the image holds an element, in elements.
    const fn index(&self, row: u32, column: u32) -> usize {
        (match self.layout {
            Layout::Column if !self.accumulator => column * self.rows + row,
            _ => row * self.columns + column,
        }) as usize
    }

    /// An image between the order of memory and that of fragments: they differ for column-major accumulators.
    /// `to_memory` says which way.
    pub fn reorder(&self, image: &Image, to_memory: bool) -> Image {
        if !(self.accumulator && self.layout == Layout::Column) {
            return *image;
        }
        let mut out = *image;
        let bytes = (self.bits / 8) as usize;
        for row in 0..self.rows as usize {
            for column in 0..self.columns as usize {
                let of_rows = (row * self.columns as usize + column) * bytes;
                let of_columns = (column * self.rows as usize + row) * bytes;
                let (from, to) = if to_memory { (of_rows, of_columns) } else { (of_columns, of_rows) };
                out[to..to + bytes].copy_from_slice(&image[from..from + bytes]);
            }
        }
        out
    }

    /// The fragments of an image.
    ///
    /// # Panics
    /// If `out` does not have [`words`](Self::words) registers.
    pub fn to_lanes(&self, image: &Image, out: &mut [WarpReg]) {
        assert_eq!(out.len(), self.words, "wmma: words of a fragment");
        for (word, register) in out.iter_mut().enumerate() {
            for (lane, value) in register.iter_mut().enumerate() {
                let at = (lane * self.words + word) * 4 % self.bytes();
                *value = u32::from_le_bytes([image[at], image[at + 1], image[at + 2], image[at + 3]]);
            }
        }
    }

    /// The image that fragments are of; of elements that several lanes hold, the last lane's.
    pub fn of_lanes(&self, fragment: &[WarpReg]) -> Image {
        let mut image = [0; IMAGE_BYTES];
        for (word, register) in fragment.iter().enumerate().take(self.words) {
            for (lane, value) in register.iter().enumerate() {
                let at = (lane * self.words + word) * 4 % self.bytes();
                image[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
        image
    }

    /// The code of an element.
    fn code(&self, image: &Image, row: u32, column: u32) -> u64 {
        let bit = self.index(row, column) * self.bits as usize;
        if self.bits < 8 {
            return u64::from(image[bit / 8] >> (bit % 8)) & ((1 << self.bits) - 1);
        }
        let bytes = &image[bit / 8..bit / 8 + self.bits as usize / 8];
        bytes.iter().rev().fold(0, |code, byte| code << 8 | u64::from(*byte))
    }

    /// Sets the code of an element of whole bytes.
    fn set(&self, image: &mut Image, row: u32, column: u32, code: u64) {
        let bytes = (self.bits / 8) as usize;
        let at = self.index(row, column) * bytes;
        image[at..at + bytes].copy_from_slice(&code.to_le_bytes()[..bytes]);
    }
}

/// What a single bit of A does to one of B.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BitOp {
    /// `.xor`
    Xor,
    /// `.and`
    And,
}

/// A `wmma.mma` of one warp, D = A * B + C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WmmaKind {
    /// M, N, K.
    pub shape: [u32; 3],
    /// `.atype` and `.btype`, which are the same.
    pub ty: Multiplicand,
    /// `.b1` only.
    pub op: Option<BitOp>,
    /// `.alayout`
    pub a_layout: Layout,
    /// `.blayout`
    pub b_layout: Layout,
    /// `.ctype`
    pub c: AccumulatorType,
    /// `.dtype`
    pub d: AccumulatorType,
    /// `.satfinite`
    pub satfinite: bool,
}

impl WmmaKind {
    /// The kind of `wmma.` followed by these modifiers, e.g. `mma.sync.aligned.row.col.m16n16k16.f32.f32`, split at the
    /// dots.
    ///
    /// # Errors
    /// If it is not a form of PTX ISA 9.7.14.4.5, or f64 in another rounding than to nearest.
    pub fn parse(modifiers: &[&str]) -> Result<WmmaKind, MmaError> {
        let unsupported = |reason: &str| {
            let all = modifiers.strip_prefix(&["mma"]).unwrap_or(modifiers);
            MmaError::Unsupported { modifiers: all.join("."), reason: reason.into() }
        };
        let (op, rest) = match modifiers {
            ["mma", "xor", "popc", rest @ ..] => (Some(BitOp::Xor), rest),
            ["mma", "and", "popc", rest @ ..] => (Some(BitOp::And), rest),
            ["mma", rest @ ..] => (None, rest),
            _ => return Err(unsupported("expected mma")),
        };
        let ["sync", "aligned", a_layout, b_layout, shape, types @ ..] = rest else {
            return Err(unsupported("expected sync.aligned, two layouts and a shape"));
        };
        let layouts = Layout::parse(a_layout).zip(Layout::parse(b_layout));
        let (Some((a_layout, b_layout)), Some(dimensions)) = (layouts, dimensions(shape)) else {
            return Err(unsupported("expected sync.aligned, two layouts and a shape"));
        };
        let (satfinite, types) = types.strip_suffix(&["satfinite"]).map_or((false, types), |types| (true, types));
        let types = match types {
            ["rn", types @ ..] if *shape == "m8n8k4" => types,
            ["rz" | "rm" | "rp", ..] => return Err(unsupported("f64 is emulated in .rn only")),
            types => types,
        };
        let [d, a, b, c] = match *types {
            [d, c] => [d, "f16", "f16", c],
            [d, a, b, c] if a != "f16" => [d, a, b, c],
            _ => return Err(unsupported("expected dtype, atype, btype, ctype")),
        };
        let (Some(ty), Some(d), Some(c)) = (Multiplicand::parse(a), AccumulatorType::parse(d), AccumulatorType::parse(c)) else {
            return Err(unsupported("these are not types of wmma"));
        };
        let fixed = a_layout == Layout::Row && b_layout == Layout::Column;
        if a != b || !ty.shapes().contains(shape) || !ty.accumulates_in(d) || !ty.accumulates_in(c) {
            return Err(unsupported("wmma has no such combination of types and shape"));
        }
        if ty.bits() < 8 && !fixed || op.is_some() != (ty == Multiplicand::Bit) {
            return Err(unsupported("b1 and 4-bit types multiply row.col, and b1 alone has .xor.popc and .and.popc"));
        }
        if satfinite && !matches!(ty, Multiplicand::Element(ty) if ty.is_integer()) {
            return Err(unsupported(".satfinite is for integers"));
        }
        Ok(WmmaKind { shape: dimensions, ty, op, a_layout, b_layout, c, d, satfinite })
    }

    /// Operand A.
    pub fn a(&self) -> WmmaMatrix {
        WmmaMatrix::multiplicand(true, self.shape, self.ty, self.a_layout)
    }

    /// Operand B.
    pub fn b(&self) -> WmmaMatrix {
        WmmaMatrix::multiplicand(false, self.shape, self.ty, self.b_layout)
    }

    /// Operand C.
    pub fn c(&self) -> WmmaMatrix {
        WmmaMatrix::accumulator(self.shape[0], self.shape[1], self.c, Layout::Row)
    }

    /// The result.
    pub fn d(&self) -> WmmaMatrix {
        WmmaMatrix::accumulator(self.shape[0], self.shape[1], self.d, Layout::Row)
    }
}

/// The fragments of D. The product is that of the `mma` instructions which cover the shape, transposed where M is 8 but
/// N is not.
///
/// # Errors
/// If the operands do not have the words that the kind takes.
pub fn wmma(kind: &WmmaKind, arithmetic: Arithmetic, [a, b, c]: [&[WarpReg]; 3], out: &mut [WarpReg]) -> Result<(), MmaError> {
    let [of_a, of_b, of_c, of_d] = [kind.a(), kind.b(), kind.c(), kind.d()];
    let [a, b, c] = [of_a.of_lanes(a), of_b.of_lanes(b), of_c.of_lanes(c)];
    let [m, n, k] = kind.shape;
    // With one accumulator of f32 in f32, and the result rounded to f16 if that is asked for.
    let sums = if kind.c == kind.d { kind.d } else { AccumulatorType::F32 };
    let ring = arithmetic == Arithmetic::Ring;
    let mut image = [0; IMAGE_BYTES];
    let start = |row, column| widen(of_c.code(&c, row, column), kind.c, sums, ring);
    let mut finish = |row, column, code: u64| of_d.set(&mut image, row, column, narrow(code, sums, kind.d, ring));
    match kind.ty {
        Multiplicand::Bit => {
            for row in 0..m {
                for column in 0..n {
                    let pair = |k| (of_a.code(&a, row, k), of_b.code(&b, k, column));
                    let bit = |(a, b): (u64, u64)| if kind.op == Some(BitOp::And) { a & b } else { a ^ b };
                    let sum: u64 = (0..k).map(|k| bit(pair(k))).sum();
                    finish(row, column, u64::from((start(row, column) as u32).wrapping_add(sum as u32)));
                }
            }
        }
        Multiplicand::Element(ty) => {
            let transposed = m == 8 && n > 8;
            let [tall, wide] = if transposed { [n, m] } else { [m, n] };
            let rows = tall.min(16);
            let tile = MmaKind { m: rows, k, a: ty, b: ty, d: sums, satfinite: kind.satfinite };
            for top in (0..tall).step_by(16) {
                for left in (0..wide).step_by(8) {
                    let at = |row, column| if transposed { (left + column, top + row) } else { (top + row, left + column) };
                    let left_code = |row, k| {
                        if transposed { of_b.code(&b, k, top + row) } else { of_a.code(&a, top + row, k) }
                    };
                    let right_code = |column, k| {
                        if transposed { of_a.code(&a, left + column, k) } else { of_b.code(&b, k, left + column) }
                    };
                    let start = |row, column| {
                        let (row, column) = at(row, column);
                        start(row, column)
                    };
                    multiply_tile(&tile, arithmetic, &left_code, &right_code, &start, &mut |row, column, code| {
                        let (row, column) = at(row, column);
                        finish(row, column, code);
                    })?;
                }
            }
        }
    }
    of_d.to_lanes(&image, out);
    Ok(())
}

/// One `mma` on matrices given by element.
fn multiply_tile(
    kind: &MmaKind,
    arithmetic: Arithmetic,
    a: &dyn Fn(u32, u32) -> u64,
    b: &dyn Fn(u32, u32) -> u64,
    c: &dyn Fn(u32, u32) -> u64,
    d: &mut dyn FnMut(u32, u32, u64),
) -> Result<(), MmaError> {
    let bits = kind.a.bits();
    let position = if kind.m == 8 { a_element_m8 } else { a_element };
    let mut words_of_a = [[0; 32]; 16];
    let mut words_of_b = [[0; 32]; 8];
    let mut words_of_c = [[0; 32]; 8];
    let mut out = [[0; 32]; 8];
    let (a_end, b_end, c_end) = (kind.a_regs(), kind.b_regs(), kind.c_regs());
    fill(&mut words_of_a[..a_end], bits, &|lane, reg, j| {
        let [row, k] = position(bits, lane, reg, j);
        a(row, k)
    });
    fill(&mut words_of_b[..b_end], bits, &|lane, reg, j| {
        let [column, k] = b_element(bits, lane, reg, j);
        b(column, k)
    });
    let halves = kind.d == AccumulatorType::F16;
    let place = |lane, reg, j| if halves { c_element_f16(lane, reg, j) } else { c_element(lane, reg) };
    fill(&mut words_of_c[..c_end], kind.d.bits(), &|lane, reg, j| {
        let [row, column] = place(lane, reg, j);
        c(row, column)
    });
    mma(kind, arithmetic, &words_of_a[..a_end], &words_of_b[..b_end], &words_of_c[..c_end], &mut out[..c_end])?;
    let wide = kind.d == AccumulatorType::F64;
    for (reg, words) in out[..c_end].chunks_exact(if wide { 2 } else { 1 }).enumerate() {
        for (lane, word) in words[0].iter().enumerate() {
            for j in 0..elements_per_register(kind.d.bits()) {
                let [row, column] = place(lane as u32, reg as u32, j);
                let code = if wide {
                    u64::from(*word) | u64::from(words[1][lane]) << 32
                } else if halves {
                    u64::from(word >> (16 * j) & 0xffff)
                } else {
                    u64::from(*word)
                };
                d(row, column, code);
            }
        }
    }
    Ok(())
}

/// Registers from the codes of their elements; 64-bit ones take two words.
fn fill(words: &mut [WarpReg], bits: u32, code: &dyn Fn(u32, u32, u32) -> u64) {
    if bits == 64 {
        for (reg, pair) in words.chunks_exact_mut(2).enumerate() {
            let [low, high] = pair else { continue };
            for (lane, (low, high)) in low.iter_mut().zip(high).enumerate() {
                let value = code(lane as u32, reg as u32, 0);
                *low = value as u32;
                *high = (value >> 32) as u32;
            }
        }
        return;
    }
    for (reg, word) in words.iter_mut().enumerate() {
        for (lane, word) in word.iter_mut().enumerate() {
            let each = (0..elements_per_register(bits)).map(|j| (code(lane as u32, reg as u32, j) as u32) << (bits * j));
            *word = each.fold(0, |all, part| all | part);
        }
    }
}

/// An element of C as the accumulator that the sum starts from.
fn widen(code: u64, from: AccumulatorType, to: AccumulatorType, ring: bool) -> u64 {
    match (from, to) {
        (AccumulatorType::F16, AccumulatorType::F32) if ring => u64::from(i32::from(code as u16 as i16) as u32),
        (AccumulatorType::F16, AccumulatorType::F32) => u64::from(f16_to_f32(code as u32).to_bits()),
        _ => code,
    }
}

/// A sum as an element of D.
fn narrow(code: u64, from: AccumulatorType, to: AccumulatorType, ring: bool) -> u64 {
    match (from, to) {
        (AccumulatorType::F32, AccumulatorType::F16) if ring => code & 0xffff,
        (AccumulatorType::F32, AccumulatorType::F16) => u64::from(f32_to_f16_bits(f32::from_bits(code as u32))),
        _ => code,
    }
}
