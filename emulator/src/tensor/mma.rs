//! `mma.sync`: its kinds and its arithmetic (PTX ISA 9.7.14.5.14).

use super::element::{AccumulatorType, ElementType};
use super::exact::DotUnit;
use super::fragment::{a_element, a_element_m8, b_element, c_element, elements_per_register};
use super::simd::vectorised;
use super::tile::{ARow, Accumulate, BRow, Sums, TileRegisters, accumulate_tiles};
use super::{Arithmetic, WarpReg};

/// A dense `mma.sync` of one warp, D = A * B + C; N is always 8, A row-major and B column-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MmaKind {
    /// Rows: 8 or 16.
    pub m: u32,
    /// Depth.
    pub k: u32,
    /// `.atype`
    pub a: ElementType,
    /// `.btype`
    pub b: ElementType,
    /// `.ctype` and `.dtype`.
    pub d: AccumulatorType,
    /// `.satfinite`, integers only.
    pub satfinite: bool,
}

/// Why an `mma` cannot be decoded or run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MmaError {
    /// Not a form of PTX ISA 9.7.14.5.14, or one that is not emulated (m8n8k4 of f16, b1, sub-byte floats, block
    /// scaling).
    #[error("mma.{modifiers}: {reason}")]
    Unsupported {
        /// All modifiers, dotted.
        modifiers: String,
        /// What is wrong with them.
        reason: String,
    },
    /// The operand list does not fit the kind.
    #[error("{kind:?} takes {want} words of {operand}, got {got}")]
    RegisterCount {
        /// The kind.
        kind: MmaKind,
        /// `'a'`, `'b'`, `'c'` or `'d'`.
        operand: char,
        /// Words the kind has.
        want: usize,
        /// Words given.
        got: usize,
    },
}

impl MmaKind {
    /// The kind of `mma.` followed by these modifiers, e.g. `sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32`, split
    /// at the dots.
    pub fn parse(modifiers: &[&str]) -> Result<MmaKind, MmaError> {
        let unsupported = |reason: String| MmaError::Unsupported { modifiers: modifiers.join("."), reason };
        let ["sync", "aligned", shape, "row", "col", rest @ ..] = modifiers else {
            return Err(unsupported("expected sync.aligned, a shape and row.col".into()));
        };
        let (satfinite, names) = match *rest {
            ["satfinite", d, a, b, c] => (true, [d, a, b, c]),
            // f64 may name its only rounding.
            [d, a, b, c] | ["kind::f8f6f4", d, a, b, c] | [d, a, b, c, "rn"] => (false, [d, a, b, c]),
            _ => return Err(unsupported("expected dtype, atype, btype, ctype".into())),
        };
        let [d, a, b, c] = names;
        if c != d {
            return Err(unsupported(format!("dtype {d} and ctype {c} must be the same")));
        }
        let element = |name: &str| {
            ElementType::parse(name)
                .ok_or_else(|| unsupported(format!("`{name}` is not an element type of mma that is emulated")))
        };
        let (a, b) = (element(a)?, element(b)?);
        let d = AccumulatorType::parse(d).ok_or_else(|| unsupported(format!("`{d}` is not an accumulator type")))?;
        if rest.contains(&"rn") && a != ElementType::F64 {
            return Err(unsupported(".rn is for f64".into()));
        }
        let fp8 = |ty| matches!(ty, ElementType::E4m3 | ElementType::E5m2);
        if rest.contains(&"kind::f8f6f4") && !(fp8(a) && fp8(b) && *shape == "m16n8k32") {
            return Err(unsupported(".kind::f8f6f4 is emulated for e4m3 and e5m2 at m16n8k32".into()));
        }
        let same_width_integers = a.is_integer() && b.is_integer() && a.bits() == b.bits();
        if !(a == b || fp8(a) && fp8(b) || same_width_integers) {
            return Err(unsupported(format!("{a} does not multiply with {b}")));
        }
        let accumulates = match d {
            AccumulatorType::F32 => !a.is_integer() && a != ElementType::F64,
            AccumulatorType::F16 => a == ElementType::F16 || fp8(a),
            AccumulatorType::S32 => a.is_integer(),
            AccumulatorType::F64 => a == ElementType::F64,
        };
        if !accumulates {
            return Err(unsupported(format!("{a} does not accumulate in {d}")));
        }
        if satfinite && !a.is_integer() {
            return Err(unsupported(".satfinite is for integers".into()));
        }
        let shapes: &[(&str, u32, u32)] = match a {
            ElementType::F16 | ElementType::Bf16 => &[("m16n8k8", 16, 8), ("m16n8k16", 16, 16)],
            ElementType::Tf32 => &[("m16n8k4", 16, 4), ("m16n8k8", 16, 8)],
            ElementType::E4m3 | ElementType::E5m2 => &[("m16n8k16", 16, 16), ("m16n8k32", 16, 32)],
            ElementType::S8 | ElementType::U8 => &[("m8n8k16", 8, 16), ("m16n8k16", 16, 16), ("m16n8k32", 16, 32)],
            ElementType::S4 | ElementType::U4 => &[("m8n8k32", 8, 32), ("m16n8k32", 16, 32), ("m16n8k64", 16, 64)],
            ElementType::F64 => &[("m8n8k4", 8, 4), ("m16n8k4", 16, 4), ("m16n8k8", 16, 8), ("m16n8k16", 16, 16)],
        };
        let Some((_, m, k)) = shapes.iter().find(|row| row.0 == *shape) else {
            let names: Vec<_> = shapes.iter().map(|row| row.0).collect();
            return Err(unsupported(format!("{a} has the shapes {}, not {shape}", names.join(", "))));
        };
        Ok(MmaKind { m: *m, k: *k, a, b, d, satfinite })
    }

    /// Words of A in each lane; an f64 register is two.
    pub const fn a_regs(&self) -> usize {
        (self.m * self.k * self.a.bits() / 1024) as usize
    }

    /// Words of B in each lane.
    pub const fn b_regs(&self) -> usize {
        (8 * self.k * self.b.bits() / 1024) as usize
    }

    /// Words of C, and of D, in each lane.
    pub const fn c_regs(&self) -> usize {
        (8 * self.m * self.d.bits() / 1024) as usize
    }

    /// The same as [`MmaKind::c_regs`].
    pub const fn d_regs(&self) -> usize {
        self.c_regs()
    }
}

/// `D = A * B + C` for one converged warp, computed as [`Arithmetic`] says; `.satfinite` clamps once, at the end.
pub fn mma(
    kind: &MmaKind,
    arithmetic: Arithmetic,
    a: &[WarpReg],
    b: &[WarpReg],
    c: &[WarpReg],
    d: &mut [WarpReg],
) -> Result<(), MmaError> {
    let counts = [
        ('a', kind.a_regs(), a.len()),
        ('b', kind.b_regs(), b.len()),
        ('c', kind.c_regs(), c.len()),
        ('d', kind.d_regs(), d.len()),
    ];
    for (operand, want, got) in counts {
        if want != got {
            return Err(MmaError::RegisterCount { kind: *kind, operand, want, got });
        }
    }
    d.copy_from_slice(c);
    if kind.d == AccumulatorType::F64 {
        mma_f64(kind, arithmetic, a, b, d);
        return Ok(());
    }
    let sums = match arithmetic {
        Arithmetic::Fast => Sums::Fused,
        Arithmetic::Exact(chip) => DotUnit::of_mma(chip, kind).map_or(Sums::Fused, Sums::Exact),
        Arithmetic::Ring => Sums::Ring,
    };
    mma_narrow(kind, sums, a, b, d);
    Ok(())
}

vectorised! {
    fn mma_narrow(kind: &MmaKind, sums: Sums, a: &[WarpReg], b: &[WarpReg], d: &mut [WarpReg]) {
        match kind.k {
            4 => multiply::<4>(kind, sums, a, b, d),
            8 => multiply::<8>(kind, sums, a, b, d),
            16 => multiply::<16>(kind, sums, a, b, d),
            32 => multiply::<32>(kind, sums, a, b, d),
            64 => multiply::<64>(kind, sums, a, b, d),
            k => unreachable!("no kind has k = {k}"),
        }
    }
}

/// Packs the fragments as `tile` wants them, eight rows of A at a time, and multiplies.
///
/// With E elements in a register, element j in lane 4g + t of A's register r is row g of the slab `r % 2` (of the only
/// slab if m is 8) at `k = E t + j + 4 E (r / 2)`, which [`a_element`] says in general; B is the same with column g.
#[inline(always)]
fn multiply<const K: usize>(kind: &MmaKind, sums: Sums, a: &[WarpReg], b: &[WarpReg], d: &mut [WarpReg]) {
    let e = elements_per_register(kind.a.bits()) as usize;
    let reading = sums.reading();
    let mut rows_of_b: [BRow; K] = [[0.0; 8]; K];
    for (reg, register) in b.iter().enumerate() {
        for j in 0..e {
            let values = kind.b.register_values(reading, register, j as u32);
            for t in 0..4 {
                let row = &mut rows_of_b[e * t + j + 4 * e * reg];
                for column in 0..8 {
                    row[4 * (column % 2) + column / 2] = values[4 * column + t];
                }
            }
        }
    }
    let how = Accumulate { ty: kind.d, keep: true, satfinite: kind.satfinite, sums };
    let slabs = kind.m as usize / 8;
    for (slab, d) in d.chunks_exact_mut(how.registers()).enumerate() {
        let mut rows_of_a: [ARow; K] = [[0.0; 32]; K];
        for (reg, register) in a.iter().skip(slab).step_by(slabs).enumerate() {
            for j in 0..e {
                let values = kind.a.register_values(reading, register, j as u32);
                for t in 0..4 {
                    let row = &mut rows_of_a[e * t + j + 4 * e * reg];
                    for lane in 0..32 {
                        row[lane] = values[lane / 4 * 4 + t];
                    }
                }
            }
        }
        accumulate_tiles(how, K, &rows_of_a, &rows_of_b, &mut Registers { d });
    }
}
/// The only tile there is at a time.
struct Registers<'d> {
    d: &'d mut [WarpReg],
}

impl TileRegisters for Registers<'_> {
    #[inline(always)]
    fn register(&mut self, _: usize, _: usize, s: usize) -> &mut WarpReg {
        &mut self.d[s]
    }
}

vectorised! {
    fn mma_f64(kind: &MmaKind, arithmetic: Arithmetic, a: &[WarpReg], b: &[WarpReg], d: &mut [WarpReg]) {
        let position = |lane, reg| {
            if kind.m == 8 { a_element_m8(64, lane, reg, 0) } else { a_element(64, lane, reg, 0) }
        };
        let mut values_of_a = [[0.0; 16]; 16];
        let mut values_of_b = [[0.0; 16]; 8];
        let read = |words: &[WarpReg], lane: usize| {
            f64::from_bits(u64::from(words[0][lane]) | u64::from(words[1][lane]) << 32)
        };
        for lane in 0..32 {
            for (reg, words) in a.chunks_exact(2).enumerate() {
                let [row, step] = position(lane as u32, reg as u32);
                values_of_a[row as usize][step as usize] = read(words, lane);
            }
            for (reg, words) in b.chunks_exact(2).enumerate() {
                let [column, step] = b_element(64, lane as u32, reg as u32, 0);
                values_of_b[column as usize][step as usize] = read(words, lane);
            }
        }
        for lane in 0..32 {
            for (reg, words) in d.chunks_exact_mut(2).enumerate() {
                let [row, column] = c_element(lane as u32, reg as u32);
                let terms = values_of_a[row as usize].iter().zip(&values_of_b[column as usize]);
                let terms = terms.take(kind.k as usize);
                let old = read(words, lane);
                let sum = if arithmetic == Arithmetic::Ring {
                    let product = |a: &f64, b: &f64| a.to_bits().wrapping_mul(b.to_bits());
                    terms.fold(old.to_bits(), |sum, (a, b)| sum.wrapping_add(product(a, b)))
                } else {
                    crate::lane::float::canonical64(terms.fold(old, |sum, (a, b)| a.mul_add(*b, sum)))
                };
                words[0][lane] = sum as u32;
                words[1][lane] = (sum >> 32) as u32;
            }
        }
    }
}
