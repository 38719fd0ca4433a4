//! Intrinsic calls and inline assembly, as the rows describe them.

use super::body::{Body, Fault};
use super::types;
use inkwell::intrinsics::Intrinsic;
use inkwell::types::{BasicMetadataTypeEnum, BasicType, BasicTypeEnum};
use inkwell::values::{BasicMetadataValueEnum, BasicValueEnum, CallSiteValue, ValueKind};
use tilewright_ir::lane::table::{Arg, Effect, Returns};
use tilewright_ir::lane::{Inst, Value};
use tilewright_ir::{Attr, Attrs};

impl<'c> Body<'c, '_> {
    /// `Spelling::Call`.
    pub(super) fn intrinsic(&mut self, inst: &Inst, name: &str, args: &[Arg], returns: Returns) -> Result<(), Fault> {
        let name = fill(name, &inst.attrs);
        if Intrinsic::find(&name).is_none() {
            return Err(Fault(format!("this LLVM has no intrinsic `{name}`")));
        }
        let args = args.iter().map(|a| self.argument(inst, *a)).collect::<Result<Vec<_>, _>>()?;
        let ret = self.returned(inst, returns);
        let function = match self.module.get_function(&name) {
            Some(function) => function,
            None => self.module.add_function(&name, types::function(self.cx, ret, &type_list(&args)), None),
        };
        let call = self.builder.build_call(function, &value_list(&args), "")?;
        self.mark_convergent(inst.op.row(), call);
        match returns {
            Returns::Void | Returns::Ignored(_) => Ok(()),
            Returns::Results => self.unpack(inst, call),
            Returns::BF16x2 | Returns::F16x2 => {
                let bits = self.builder.build_bit_cast(returned_value(call)?, self.cx.i32_type(), "")?;
                self.define(inst, bits);
                Ok(())
            }
            Returns::LastOf(members) => {
                let whole = returned_value(call)?;
                let BasicValueEnum::StructValue(whole) = whole else {
                    return Err(Fault(format!("`{name}` does not return a struct")));
                };
                let last = self.builder.build_extract_value(whole, members.len() as u32 - 1, "")?;
                self.define(inst, last);
                Ok(())
            }
        }
    }

    /// `Spelling::Asm` and `Spelling::AsmFn`: results first, then the operands in order.
    pub(super) fn inline_asm(&mut self, inst: &Inst, text: String, constraints: String) -> Result<(), Fault> {
        let row = inst.op.row();
        let args = self.values(&inst.args)?;
        let ret = types::results(self.cx, &self.out_types(inst));
        let ty = types::function(self.cx, ret, &type_list(&args));
        let asm = self.cx.create_inline_asm(ty, text, constraints, row.effect != Effect::Pure, false, None, false);
        let call = self.builder.build_indirect_call(ty, asm, &value_list(&args), "")?;
        self.mark_convergent(row, call);
        self.unpack(inst, call)
    }

    fn argument(&self, inst: &Inst, arg: Arg) -> Result<BasicValueEnum<'c>, Fault> {
        let operand = |n: u8| -> Result<Value, Fault> {
            inst.args.get(n as usize).copied().ok_or_else(|| Fault(format!("there is no operand {n}")))
        };
        Ok(match arg {
            Arg::Op(n) => self.value(operand(n)?)?,
            Arg::OpF16x2(n) => {
                let pair = self.cx.f16_type().vec_type(2);
                self.builder.build_bit_cast(self.value(operand(n)?)?, pair, "")?
            }
            Arg::OpI16(n) => self.builder.build_int_truncate(self.int(operand(n)?)?, self.cx.i16_type(), "")?.into(),
            Arg::Attr(key, bits) => self.immediate(inst.attrs.get_int(key), bits)?,
            Arg::Lit(value, bits) => self.immediate(value, bits)?,
        })
    }

    fn immediate(&self, value: i64, bits: u8) -> Result<BasicValueEnum<'c>, Fault> {
        let ty = match bits {
            1 => self.cx.bool_type(),
            16 => self.cx.i16_type(),
            32 => self.cx.i32_type(),
            64 => self.cx.i64_type(),
            _ => return Err(Fault(format!("no immediate has {bits} bits"))),
        };
        Ok(ty.const_int(value as u64, true).into())
    }

    fn returned(&self, inst: &Inst, returns: Returns) -> Option<BasicTypeEnum<'c>> {
        match returns {
            Returns::Void => None,
            Returns::Results => types::results(self.cx, &self.out_types(inst)),
            Returns::Ignored(32) => Some(self.cx.i32_type().into()),
            Returns::Ignored(_) => Some(self.cx.i64_type().into()),
            Returns::BF16x2 => Some(self.cx.bf16_type().vec_type(2).as_basic_type_enum()),
            Returns::F16x2 => Some(self.cx.f16_type().vec_type(2).as_basic_type_enum()),
            Returns::LastOf(members) => {
                let fields: Vec<_> = members.iter().map(|t| self.basic(*t)).collect();
                Some(self.cx.struct_type(&fields, false).into())
            }
        }
    }

    /// Takes a call's value apart into the instruction's results.
    fn unpack(&mut self, inst: &Inst, call: CallSiteValue<'c>) -> Result<(), Fault> {
        match inst.outs.len() {
            0 => Ok(()),
            1 => {
                self.define(inst, returned_value(call)?);
                Ok(())
            }
            count => {
                let BasicValueEnum::StructValue(whole) = returned_value(call)? else {
                    return Err(Fault("several results must come as a struct".to_string()));
                };
                for i in 0..count {
                    let part = self.builder.build_extract_value(whole, i as u32, "")?;
                    self.define_at(inst, i, part);
                }
                Ok(())
            }
        }
    }
}

/// Replaces `{key}` by the attribute `key`. Braces around anything else are assembly and stay.
pub(super) fn fill(template: &str, attrs: &Attrs) -> String {
    attrs.0.iter().fold(template.to_string(), |text, (key, value)| match value {
        Attr::Int(n) => text.replace(&format!("{{{key}}}"), &n.to_string()),
        Attr::Sym(s) => text.replace(&format!("{{{key}}}"), s),
        Attr::Ints(_) => text,
    })
}

fn returned_value(call: CallSiteValue<'_>) -> Result<BasicValueEnum<'_>, Fault> {
    match call.try_as_basic_value() {
        ValueKind::Basic(value) => Ok(value),
        ValueKind::Instruction(_) => Err(Fault("a call without a value has results".to_string())),
    }
}

fn type_list<'c>(args: &[BasicValueEnum<'c>]) -> Vec<BasicMetadataTypeEnum<'c>> {
    args.iter().map(|a| a.get_type().into()).collect()
}

fn value_list<'c>(args: &[BasicValueEnum<'c>]) -> Vec<BasicMetadataValueEnum<'c>> {
    args.iter().map(|a| (*a).into()).collect()
}
