//! Register names to slots of the register files.

use crate::parse::ast::{Function, RegClass};
use crate::program::{D, P, R, Reg};

/// The slot of each declared register, and the first free slot of each file.
pub struct Slots {
    pub regs: Vec<Reg>,
    pub rows32: u32,
    pub rows64: u32,
    pub preds: u32,
}

impl Slots {
    /// No registers yet; the first slots are the sinks, the true predicate and the carry flag.
    pub fn new() -> Self {
        Slots { regs: Vec::new(), rows32: 1, rows64: 1, preds: 3 }
    }

    /// Slots of a function's registers, numbered in declaration order behind those of the functions before.
    /// `None` when there are more than a 16-bit number can tell apart.
    pub fn declare(&mut self, function: &Function) -> Option<()> {
        let slots = self;
        slots.regs.clear();
        for (_, class) in &function.regs {
            let take = |next: &mut u32, count: u32| -> Option<u16> {
                let slot = u16::try_from(*next).ok()?;
                *next += count;
                Some(slot)
            };
            slots.regs.push(match class {
                RegClass::Pred => Reg::P(P(take(&mut slots.preds, 1)?)),
                RegClass::Word(_) => Reg::R(R(take(&mut slots.rows32, 1)?)),
                RegClass::Double => Reg::D(D(take(&mut slots.rows64, 1)?)),
                RegClass::Quad => {
                    let low = take(&mut slots.rows64, 2)?;
                    Reg::Q(D(low), D(low.checked_add(1)?))
                }
            });
        }
        Some(())
    }
}
