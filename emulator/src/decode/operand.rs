//! Operands to slots: registers are looked up, everything constant gets a row of its own.

use super::decoder::{Decoder, Result};
use super::layout::Place;
use super::special::SpecialKind;
use super::ty::Ty;
use crate::parse::ast::Operand;
use crate::program::memory_op::{Addr, Base};
use crate::program::{Const, D, P, R, Reg};
use crate::ring;

fn keep(value: u64, bits: u32) -> u64 {
    if bits >= 64 { value } else { value & ((1 << bits) - 1) }
}

impl Decoder<'_> {
    fn mismatch<T>(&self, operand: &Operand, expected: &str) -> Result<T> {
        self.error(format!("operand `{}` is not {expected}", self.name_of(operand)))
    }

    /// A source of at most 32 bits.
    pub fn src32(&mut self, operand: &Operand, ty: Ty) -> Result<R> {
        match operand {
            Operand::Reg(_) => match self.reg(operand) {
                Some(Reg::R(row)) => Ok(row),
                _ => self.mismatch(operand, "a register of at most 32 bits"),
            },
            Operand::Int(value) => Ok(self.const32(Const::Bits(keep(*value as u64, ty.bits().min(32))))),
            Operand::Double(value) if self.ring => match ty {
                Ty::F32 | Ty::B(32) | Ty::Tf32 => Ok(self.imm32(ring::of(*value))),
                Ty::F16 | Ty::Bf16 => Ok(self.imm32(u32::from(ring::of::<u16>(*value)))),
                _ => self.mismatch(operand, "an integer"),
            },
            Operand::Double(value) => match ty {
                Ty::F32 | Ty::B(32) | Ty::Tf32 => Ok(self.imm32((*value as f32).to_bits())),
                Ty::F16 => Ok(self.imm32(u32::from(half::f16::from_f64(*value).to_bits()))),
                Ty::Bf16 => Ok(self.imm32(u32::from(half::bf16::from_f64(*value).to_bits()))),
                _ => self.mismatch(operand, "an integer"),
            },
            Operand::Single(bits) => match ty.bits() {
                32 if self.ring => Ok(self.imm32(ring::of_f32(f32::from_bits(*bits)))),
                32 => Ok(self.imm32(*bits)),
                _ => self.mismatch(operand, "of this size"),
            },
            Operand::Special(name) => match self.special(name)? {
                SpecialKind::Fixed(special) => Ok(self.const32(Const::Special(special))),
                _ => self.error(format!("`{name}` may only be read by mov")),
            },
            Operand::Name { name, offset, .. } => {
                let place = self.place(name, *offset)?;
                Ok(self.const32(place))
            }
            _ => self.mismatch(operand, "a value"),
        }
    }

    /// A 64-bit source.
    pub fn src64(&mut self, operand: &Operand) -> Result<D> {
        match operand {
            Operand::Reg(_) => match self.reg(operand) {
                Some(Reg::D(row)) => Ok(row),
                _ => self.mismatch(operand, "a 64-bit register"),
            },
            Operand::Int(value) => Ok(self.const64(Const::Bits(*value as u64))),
            Operand::Double(value) if self.ring => Ok(self.const64(Const::Bits(ring::of_f64(*value)))),
            Operand::Single(bits) if self.ring => Ok(self.const64(Const::Bits(ring::of_f64(f32::from_bits(*bits).into())))),
            Operand::Double(value) => Ok(self.const64(Const::Bits(value.to_bits()))),
            Operand::Single(bits) => Ok(self.const64(Const::Bits(f64::from(f32::from_bits(*bits)).to_bits()))),
            Operand::Special(name) => match self.special(name)? {
                SpecialKind::Fixed(special) => Ok(self.const64(Const::Special(special))),
                _ => self.error(format!("`{name}` may only be read by mov")),
            },
            Operand::Name { name, offset, .. } => {
                let place = self.place(name, *offset)?;
                Ok(self.const64(place))
            }
            _ => self.mismatch(operand, "a 64-bit value"),
        }
    }

    pub fn dst32(&self, operand: &Operand) -> Result<R> {
        match (operand, self.reg(operand)) {
            (Operand::Sink, _) => Ok(R::SINK),
            (_, Some(Reg::R(row))) => Ok(row),
            _ => self.mismatch(operand, "a register of at most 32 bits"),
        }
    }

    pub fn dst64(&self, operand: &Operand) -> Result<D> {
        match (operand, self.reg(operand)) {
            (Operand::Sink, _) => Ok(D::SINK),
            (_, Some(Reg::D(row))) => Ok(row),
            _ => self.mismatch(operand, "a 64-bit register"),
        }
    }

    pub fn dst_pred(&self, operand: &Operand) -> Result<P> {
        match (operand, self.reg(operand)) {
            (Operand::Sink, _) => Ok(P::SINK),
            (_, Some(Reg::P(p))) => Ok(p),
            _ => self.mismatch(operand, "a predicate"),
        }
    }

    /// A predicate source and whether it is negated.
    pub fn src_pred(&self, operand: &Operand) -> Result<(P, bool)> {
        match operand {
            Operand::Reg(_) => match self.reg(operand) {
                Some(Reg::P(p)) => Ok((p, false)),
                _ => self.mismatch(operand, "a predicate"),
            },
            Operand::NotReg(id) => match self.slots.regs.get(id.0 as usize) {
                Some(Reg::P(p)) => Ok((*p, true)),
                _ => self.mismatch(operand, "a predicate"),
            },
            Operand::Int(value) => Ok((P::TRUE, *value == 0)),
            _ => self.mismatch(operand, "a predicate"),
        }
    }

    /// Both halves of `d|p`, or `d` alone with a sink.
    pub fn pair<'o>(&self, operand: &'o Operand) -> (&'o Operand, &'o Operand) {
        match operand {
            Operand::Pair(a, b) => (a, b),
            single => (single, &Operand::Sink),
        }
    }

    /// A register of any size, for loads, stores and vectors.
    pub fn any_reg(&mut self, operand: &Operand, bits: u32, is_source: bool) -> Result<Reg> {
        match operand {
            Operand::Sink if !is_source => Ok(if bits <= 32 {
                Reg::R(R::SINK)
            } else if bits == 64 {
                Reg::D(D::SINK)
            } else {
                Reg::Q(D::SINK, D::SINK)
            }),
            Operand::Reg(_) => match self.reg(operand) {
                Some(Reg::P(_)) | None => self.mismatch(operand, "a data register"),
                Some(reg) => Ok(reg),
            },
            _ if !is_source => self.mismatch(operand, "a register"),
            _ if bits <= 32 => {
                let ty = if matches!(operand, Operand::Double(_)) { Ty::F32 } else { Ty::B(bits) };
                Ok(Reg::R(self.src32(operand, ty)?))
            }
            _ if bits == 64 => Ok(Reg::D(self.src64(operand)?)),
            _ => self.mismatch(operand, "a register"),
        }
    }

    /// A register or a vector of registers.
    pub fn any_regs(&mut self, operand: &Operand, bits: u32, is_source: bool) -> Result<smallvec::SmallVec<[Reg; 4]>> {
        match operand {
            Operand::Vector(items) => items.iter().map(|item| self.any_reg(item, bits, is_source)).collect(),
            single => Ok(smallvec::smallvec![self.any_reg(single, bits, is_source)?]),
        }
    }

    /// `[base + offset]`, with nothing after a comma.
    pub fn addr(&mut self, operand: &Operand) -> Result<Addr> {
        match operand {
            Operand::Address { extra, .. } if extra.is_empty() => self.addr_base(operand),
            _ => self.mismatch(operand, "an address"),
        }
    }

    /// The address part of `[base + offset, ...]`.
    pub fn addr_base(&mut self, operand: &Operand) -> Result<Addr> {
        let Operand::Address { base, offset, .. } = operand else {
            return self.mismatch(operand, "an address");
        };
        let Some(base) = base else {
            return Ok(Addr { base: Base::Zero, offset: *offset });
        };
        match &**base {
            Operand::Name { name, offset: inner, .. } => {
                let offset = inner.wrapping_add(*offset);
                Ok(match self.layout.find(name) {
                    Some(Place::Param { offset: at, .. }) => Addr { base: Base::Zero, offset: i64::from(at) + offset },
                    Some(Place::Local(at) | Place::Call { offset: at, .. }) => match self.frame_address(at) {
                        Const::Bits(at) => Addr { base: Base::Zero, offset: at as i64 + offset },
                        frame => Addr { base: Base::D(self.const64(frame)), offset },
                    },
                    Some(Place::Shared(at)) => Addr { base: Base::Shared, offset: i64::from(at) + offset },
                    Some(Place::Global(index)) => {
                        Addr { base: Base::D(self.const64(Const::Global { index, offset })), offset: 0 }
                    }
                    None => return self.error(format!("`{name}` is not a variable or parameter")),
                })
            }
            reg => match self.reg(reg) {
                Some(Reg::R(row)) => Ok(Addr { base: Base::R(row), offset: *offset }),
                Some(Reg::D(row)) => Ok(Addr { base: Base::D(row), offset: *offset }),
                _ => self.mismatch(reg, "an address register"),
            },
        }
    }
}
