//! Registers that `wgmma` works on asynchronously, and the instructions that touch them.

use super::op::{Inst, Op};
use super::reg::R;
use super::sync_op::WgmmaA;
use rustc_hash::FxHashMap;

/// Registers of the 32-bit file that an instruction names, and whether as its destination.
pub type Named = Vec<(R, bool)>;

/// A watched register in an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Number among the watched registers.
    pub reg: u16,
    pub writes: bool,
}

/// What is watched in a kernel; nothing, if it has no `wgmma`.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    numbers: FxHashMap<R, u16>,
    /// Touches of an instruction, at its `watch` minus one.
    touches: Vec<Box<[Touched]>>,
}

impl Watch {
    /// Looks for operands of `wgmma`, and marks the other instructions that name them.
    pub fn new(code: &mut [Inst], named: &[Named]) -> Watch {
        let mut watch = Watch::default();
        for inst in &*code {
            if let Op::Wgmma(op) = &inst.op {
                let a = match &op.a {
                    WgmmaA::Registers(regs) => regs.as_slice(),
                    WgmmaA::Descriptor(_) => &[],
                };
                for reg in op.d.iter().map(|slot| R(*slot as u16)).chain(a.iter().copied()) {
                    let next = watch.numbers.len() as u16;
                    watch.numbers.entry(reg).or_insert(next);
                }
            }
        }
        if watch.numbers.is_empty() {
            return watch;
        }
        for (inst, named) in code.iter_mut().zip(named) {
            if matches!(inst.op, Op::Wgmma(_)) {
                continue;
            }
            let stores = matches!(inst.op, Op::Store(_) | Op::StMatrix(_));
            let touched: Box<[Touched]> = named
                .iter()
                .filter_map(|(reg, first)| {
                    let reg = *watch.numbers.get(reg)?;
                    Some(Touched { reg, writes: *first && !stores })
                })
                .collect();
            if !touched.is_empty() {
                watch.touches.push(touched);
                inst.watch = watch.touches.len() as u32;
            }
        }
        watch
    }

    /// How many registers are watched.
    pub fn count(&self) -> usize {
        self.numbers.len()
    }

    /// The number of a watched register.
    pub fn number(&self, reg: R) -> Option<u16> {
        self.numbers.get(&reg).copied()
    }

    /// The register of a number.
    pub fn register(&self, number: u16) -> Option<R> {
        self.numbers.iter().find(|(_, n)| **n == number).map(|(reg, _)| *reg)
    }

    /// What an instruction touches.
    #[inline]
    pub fn touches(&self, inst: &Inst) -> &[Touched] {
        match inst.watch {
            0 => &[],
            at => &self.touches[at as usize - 1],
        }
    }
}
