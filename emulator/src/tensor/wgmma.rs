//! `wgmma.mma_async`: its kinds and its arithmetic (PTX ISA 9.7.15.5).

use std::cell::RefCell;

use super::element::{AccumulatorType, ElementType, Reading};
use super::exact::DotUnit;
use super::panel::Panel;
use super::simd::vectorised;
use super::tile::{ARow, Accumulate, BRow, Sums, TileRegisters, accumulate_tiles};
use super::{Arithmetic, WarpReg};

/// A dense `wgmma.mma_async`, shape m64nNkK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WgmmaKind {
    /// Columns of B and D: 8 to 256.
    pub n: u32,
    /// `.dtype`
    pub d: AccumulatorType,
    /// `.atype`
    pub a: ElementType,
    /// `.btype`
    pub b: ElementType,
    /// `.satfinite`, s32 only.
    pub satfinite: bool,
}

/// `scale-d`, `imm-scale-a` and `imm-scale-b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scale {
    /// Whether D takes part (predicate `scale-d`); otherwise it is only written.
    pub d: bool,
    /// `imm-scale-a` is -1.
    pub negate_a: bool,
    /// `imm-scale-b` is -1.
    pub negate_b: bool,
}

/// D in the register files of the four warps: register r of warp w is `files[w][slots[r]]`.
#[derive(Debug)]
pub struct Accumulators<'a> {
    /// One file for each warp of the warpgroup, in rank order.
    pub files: [&'a mut [WarpReg]; 4],
    /// Where the registers of the D operand are, in operand order: [`WgmmaKind::d_regs`] different ones.
    pub slots: &'a [u32],
}

/// Why a `wgmma` cannot be decoded or run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WgmmaError {
    /// Not a form of PTX ISA 9.7.15.5.2, or one that is not emulated (sparse, b1).
    #[error("wgmma.{modifiers}: {reason}")]
    Unsupported {
        /// All modifiers, dotted.
        modifiers: String,
        /// What is wrong with them.
        reason: String,
    },
    /// The operand list does not fit the kind.
    #[error("{kind:?} takes {want} {operand} registers, got {got}")]
    RegisterCount {
        /// The kind.
        kind: WgmmaKind,
        /// Operand name.
        operand: &'static str,
        /// Registers the kind has.
        want: usize,
        /// Registers given.
        got: usize,
    },
    /// A register slot lies outside the file of a warp.
    #[error("accumulator slot {slot} is outside the {registers} registers of warp {warp}")]
    Slot {
        /// The slot.
        slot: u32,
        /// Warp of the warpgroup.
        warp: usize,
        /// Size of its file.
        registers: usize,
    },
    /// A panel holds values where payloads of the ring are needed, or the other way round.
    #[error("operand {operand} was not read as {want:?}")]
    Reading {
        /// `'a'` or `'b'`.
        operand: char,
        /// What the arithmetic works on.
        want: Reading,
    },
    /// A panel was loaded for another kind.
    #[error("operand {operand} of {kind:?} needs a panel of {want_mn} x {want_k} {want}, got {mn} x {k} {}", .got.map_or("nothing".into(), |ty| ty.to_string()))]
    PanelShape {
        /// The kind.
        kind: WgmmaKind,
        /// `'a'` or `'b'`.
        operand: char,
        /// Element type.
        want: ElementType,
        /// Element type of the panel.
        got: Option<ElementType>,
        /// M or N.
        want_mn: usize,
        /// K.
        want_k: usize,
        /// M or N of the panel.
        mn: usize,
        /// K of the panel.
        k: usize,
    },
}

impl WgmmaKind {
    /// The kind of `wgmma.` followed by these modifiers, e.g.
    /// `mma_async.sync.aligned.m64n128k16.f32.bf16.bf16`, split at the dots.
    pub fn parse(modifiers: &[&str]) -> Result<WgmmaKind, WgmmaError> {
        let unsupported = |reason: String| WgmmaError::Unsupported { modifiers: modifiers.join("."), reason };
        let rest = match modifiers {
            ["mma_async", "sync", "aligned", rest @ ..] => rest,
            ["mma_async", "sp", ..] => return Err(unsupported("sparse A is not emulated".into())),
            _ => return Err(unsupported("expected mma_async.sync.aligned".into())),
        };
        // The examples of PTX ISA 9.7.15.5.2 have .satfinite at the end, its syntax before .s32.
        let (satfinite, names) = match *rest {
            [shape, "satfinite", d, a, b] | [shape, d, a, b, "satfinite"] => (true, [shape, d, a, b]),
            [shape, d, a, b] => (false, [shape, d, a, b]),
            _ => return Err(unsupported("expected shape, dtype, atype, btype".into())),
        };
        let [shape, d, a, b] = names;
        let (n, k) = parse_shape(shape).ok_or_else(|| unsupported(format!("`{shape}` is not of the form m64nNkK")))?;
        let element = |name: &str| {
            ElementType::parse(name)
                .filter(|ty| matches!(ty.bits(), 8..=32))
                .ok_or_else(|| unsupported(format!("`{name}` is not an element type of wgmma that is emulated")))
        };
        let (a, b) = (element(a)?, element(b)?);
        let d = AccumulatorType::parse(d).ok_or_else(|| unsupported(format!("`{d}` is not an accumulator type")))?;
        let fp8 = |ty| matches!(ty, ElementType::E4m3 | ElementType::E5m2);
        if !(a == b || fp8(a) && fp8(b) || a.is_integer() && b.is_integer()) {
            return Err(unsupported(format!("{a} does not multiply with {b}")));
        }
        let accumulates = match d {
            AccumulatorType::F32 => !a.is_integer(),
            AccumulatorType::F16 => a == ElementType::F16 || fp8(a),
            AccumulatorType::S32 => a.is_integer(),
            AccumulatorType::F64 => false,
        };
        if !accumulates {
            return Err(unsupported(format!("{a} does not accumulate in {d}")));
        }
        if satfinite && !a.is_integer() {
            return Err(unsupported(".satfinite is for integers".into()));
        }
        if k != 256 / a.bits() {
            return Err(unsupported(format!("{a} has k = {}, not {k}", 256 / a.bits())));
        }
        // Integers have a coarser list beyond 32 (PTX ISA 9.7.15.2).
        let step = if a.is_integer() && n > 32 { 16 } else { 8 };
        if n == 0 || n > 256 || !n.is_multiple_of(step) {
            return Err(unsupported(format!("n = {n} is not a multiple of {step} from 8 to 256")));
        }
        Ok(WgmmaKind { n, d, a, b, satfinite })
    }

    /// Depth in elements: 32 bytes of them.
    pub const fn k(&self) -> u32 {
        256 / self.a.bits()
    }

    /// Registers of D in each thread: N / 2, or N / 4 for f16.
    pub const fn d_regs(&self) -> usize {
        match self.d {
            AccumulatorType::F16 => self.n as usize / 4,
            _ => self.n as usize / 2,
        }
    }

    /// Registers of A in each thread, where A is in registers.
    pub const fn a_regs(&self) -> usize {
        4
    }

    /// Whether operands in shared memory may be MN-major, and the instruction so has `imm-trans` operands.
    pub const fn has_trans(&self) -> bool {
        self.a.bits() == 16
    }

    /// Whether the instruction has `imm-scale` operands.
    pub const fn has_scale(&self) -> bool {
        !self.a.is_integer()
    }
}

/// `D = A * B (+ D)` for the 64 rows of a warpgroup.
///
/// With [`Arithmetic::Fast`] element (row, column) of D becomes `fma(a[row, k], b[k, column], D)` for k ascending, in
/// f32, starting from D or +0. NaN results are canonical. [`exact`](super::exact) and [`ring`](crate::ring) say what the
/// other two compute; for the ring, float panels hold payloads.
pub fn wgmma(
    kind: &WgmmaKind,
    arithmetic: Arithmetic,
    a: &Panel,
    b: &Panel,
    scale: Scale,
    mut d: Accumulators<'_>,
) -> Result<(), WgmmaError> {
    let sums = match arithmetic {
        Arithmetic::Fast => Sums::Fused,
        // Whatever the device is called, only Hopper's tensor cores have the instruction.
        Arithmetic::Exact(_) => DotUnit::of_wgmma(kind).map_or(Sums::Fused, Sums::Exact),
        Arithmetic::Ring => Sums::Ring,
    };
    kind.check(a, b, sums.reading(), &d)?;
    let negate = scale.negate_a != scale.negate_b && kind.has_scale();
    let k = kind.k() as usize;
    let how = Accumulate { ty: kind.d, keep: scale.d, satfinite: kind.satfinite, sums };
    thread_local! {
        static PACKED: RefCell<(Vec<ARow>, Vec<BRow>)> = const { RefCell::new((Vec::new(), Vec::new())) };
    }
    PACKED.with_borrow_mut(|(rows_of_a, rows_of_b)| {
        rows_of_a.resize(8 * k, [0.0; 32]);
        rows_of_b.resize(kind.n as usize / 8 * k, [0.0; 8]);
        multiply(how, [a, b], negate, rows_of_a, rows_of_b, &mut Slots { d: &mut d, each: how.registers() });
    });
    Ok(())
}

vectorised! {
    fn multiply(
        how: Accumulate,
        operands: [&Panel; 2],
        negate: bool,
        rows_of_a: &mut [ARow],
        rows_of_b: &mut [BRow],
        registers: &mut Slots<'_, '_>,
    ) {
        let [a, b] = operands;
        let k = a.k();
        let plain = matches!(how.sums, Sums::Ring);
        let sign = if negate { -1.0 } else { 1.0 };
        for step in 0..k {
            for (slab, rows) in a.step(step).chunks_exact(8).enumerate() {
                let packed = &mut rows_of_a[slab * k + step];
                for lane in 0..32 {
                    packed[lane] = if plain { rows[lane / 4] } else { rows[lane / 4] * sign };
                }
            }
            for (block, columns) in b.step(step).chunks_exact(8).enumerate() {
                let packed = &mut rows_of_b[block * k + step];
                for i in 0..8 {
                    packed[i] = columns[2 * (i % 4) + i / 4];
                }
            }
        }
        if negate && matches!(how.sums, Sums::Ring) {
            for step in 0..k {
                for (slab, rows) in a.step(step).chunks_exact(8).enumerate() {
                    for lane in 0..32 {
                        let payload = rows[lane / 4].to_bits();
                        rows_of_a[slab * k + step][lane] = f32::from_bits(payload.wrapping_neg());
                    }
                }
            }
        }
        accumulate_tiles(how, k, rows_of_a, rows_of_b, registers);
    }
}

/// Tile (i, j): rows 8i.., columns 8j... Warp i / 2, and of its register quadruple j the half i % 2.
struct Slots<'s, 'a> {
    d: &'s mut Accumulators<'a>,
    each: usize,
}

impl TileRegisters for Slots<'_, '_> {
    #[inline(always)]
    fn register(&mut self, i: usize, j: usize, s: usize) -> &mut WarpReg {
        let slot = self.d.slots[(2 * j + i % 2) * self.each + s];
        &mut self.d.files[i / 2][slot as usize]
    }
}

impl WgmmaKind {
    fn check(&self, a: &Panel, b: &Panel, reading: Reading, d: &Accumulators<'_>) -> Result<(), WgmmaError> {
        for (operand, panel, ty, want_mn) in [('a', a, self.a, 64), ('b', b, self.b, self.n as usize)] {
            let (mn, k, want_k) = (panel.mn(), panel.k(), self.k() as usize);
            if (mn, k, panel.ty()) != (want_mn, want_k, Some(ty)) {
                let got = panel.ty();
                return Err(WgmmaError::PanelShape { kind: *self, operand, want: ty, got, want_mn, want_k, mn, k });
            }
        }
        if let Some((operand, _)) = [('a', a), ('b', b)].into_iter().find(|(_, panel)| panel.reading() != reading) {
            return Err(WgmmaError::Reading { operand, want: reading });
        }
        let (want, got) = (self.d_regs(), d.slots.len());
        if want != got {
            return Err(WgmmaError::RegisterCount { kind: *self, operand: "d", want, got });
        }
        for (warp, file) in d.files.iter().enumerate() {
            if let Some(slot) = d.slots.iter().find(|slot| **slot as usize >= file.len()) {
                return Err(WgmmaError::Slot { slot: *slot, warp, registers: file.len() });
            }
        }
        Ok(())
    }
}

fn parse_shape(shape: &str) -> Option<(u32, u32)> {
    let (n, k) = shape.strip_prefix("m64n")?.split_once('k')?;
    Some((n.parse().ok()?, k.parse().ok()?))
}
