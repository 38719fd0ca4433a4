//! Operations that are plain LLVM instructions.

use super::body::{Body, Fault};
use super::kernel::SMEM;
use super::types;
use inkwell::llvm_sys::core::LLVMConstBitCast;
use inkwell::types::{AsTypeRef, BasicTypeEnum};
use inkwell::values::{
    AsValueRef, BasicValue, BasicValueEnum, FastMathFlags, FloatValue, InstructionOpcode, InstructionValue, PointerValue,
    VectorValue,
};
use inkwell::{FloatPredicate, IntPredicate};
use tilewright_ir::lane::table::{Arg, Native, Returns};
use tilewright_ir::lane::{Inst, Space, Ty, Value};

impl<'c> Body<'c, '_> {
    /// `Spelling::Native`.
    pub(super) fn native(&mut self, inst: &Inst, native: Native) -> Result<(), Fault> {
        let a = &inst.args;
        let value: BasicValueEnum<'c> = match native {
            Native::Const => self.constant(self.out_type(inst), inst.attrs.get_int("value"))?,
            Native::Poison => poison(self.out_type(inst)),
            Native::Param => self.parameter(inst)?,
            Native::SmemBase => self.smem()?.into(),
            Native::Binary(name) => {
                let sum = self.builder.build_binop(opcode(name)?, self.value(a[0])?, self.value(a[1])?, "")?;
                self.contract(sum)?
            }
            Native::FNeg => self.builder.build_float_neg(self.float(a[0])?, "")?.into(),
            Native::ICmp => {
                let pred = int_predicate(inst.attrs.get_sym("pred"))?;
                self.builder.build_int_compare(pred, self.int(a[0])?, self.int(a[1])?, "")?.into()
            }
            Native::FCmp => {
                let pred = float_predicate(inst.attrs.get_sym("pred"))?;
                self.builder.build_float_compare(pred, self.float(a[0])?, self.float(a[1])?, "")?.into()
            }
            Native::Select => self.builder.build_select(self.int(a[0])?, self.value(a[1])?, self.value(a[2])?, "")?,
            Native::Cast(name) => self.cast(inst, name)?,
            Native::Fma => return self.overloaded(inst, "fma", &[Arg::Op(0), Arg::Op(1), Arg::Op(2)]),
            Native::MinMax(name) => return self.overloaded(inst, name, &[Arg::Op(0), Arg::Op(1)]),
            Native::PtrAdd => self.pointer_add(a[0], a[1])?.into(),
            Native::ToCluster => self.to_cluster(a[0])?.into(),
            Native::Load => return self.load(inst),
            Native::Store => return self.store(inst),
        };
        self.define(inst, value);
        Ok(())
    }

    fn out_type(&self, inst: &Inst) -> BasicTypeEnum<'c> {
        self.basic(self.func.ty(inst.outs[0]))
    }

    fn constant(&self, ty: BasicTypeEnum<'c>, bits: i64) -> Result<BasicValueEnum<'c>, Fault> {
        Ok(match ty {
            BasicTypeEnum::IntType(t) => t.const_int(bits as u64, true).into(),
            BasicTypeEnum::FloatType(t) => {
                let int = if t.get_bit_width() == 32 { self.cx.i32_type() } else { self.cx.i16_type() };
                let bits = int.const_int(bits as u64, false);
                // SAFETY: an integer constant of the float's own width; LLVM folds the cast to a float constant. Going
                // through `f64` instead would change the payload of a NaN.
                unsafe { FloatValue::new(LLVMConstBitCast(bits.as_value_ref(), t.as_type_ref())).into() }
            }
            BasicTypeEnum::PointerType(t) => self.cx.i64_type().const_int(bits as u64, true).const_to_pointer(t).into(),
            other => return Err(Fault(format!("there are no literals of type {other}"))),
        })
    }

    fn parameter(&self, inst: &Inst) -> Result<BasicValueEnum<'c>, Fault> {
        let index = inst.attrs.get_int("index");
        let found = u32::try_from(index).ok().and_then(|i| self.function.get_nth_param(i));
        found.ok_or_else(|| Fault(format!("there is no parameter {index}")))
    }

    fn smem(&self) -> Result<PointerValue<'c>, Fault> {
        let global = self.module.get_global(SMEM).ok_or_else(|| Fault("shared memory was not declared".to_string()))?;
        Ok(global.as_pointer_value())
    }

    /// Fusing a product and a sum into fma is the only liberty LLVM and ptxas have with floats. Without it each product
    /// becomes `mul.rn`, which ptxas never fuses; anything looser would let results depend on the optimiser.
    fn contract(&self, value: BasicValueEnum<'c>) -> Result<BasicValueEnum<'c>, Fault> {
        if let (BasicValueEnum::FloatValue(_), Some(inst)) = (value, value.as_instruction_value()) {
            inst.set_fast_math_flags(FastMathFlags::AllowContract).map_err(|e| Fault(e.to_string()))?;
        }
        Ok(value)
    }

    fn cast(&self, inst: &Inst, name: &str) -> Result<BasicValueEnum<'c>, Fault> {
        let (from, to) = (self.func.ty(inst.args[0]), self.func.ty(inst.outs[0]));
        // LLVM's own builder would only notice when the module is verified, or not at all.
        let fits = match name {
            "zext" | "sext" | "fpext" => from.bytes() < to.bytes(),
            "trunc" | "fptrunc" => from.bytes() > to.bytes() || (from != Ty::I1 && to == Ty::I1),
            "bitcast" => from == to || (from.bytes() == to.bytes() && from.bytes() > 1 && !is_pointer(from) && !is_pointer(to)),
            _ => true,
        };
        if !fits {
            return Err(Fault(format!("cannot go from {from} to {to}")));
        }
        Ok(self.builder.build_cast(opcode(name)?, self.value(inst.args[0])?, self.basic(to), "")?)
    }

    /// `llvm.NAME.TYPE`, the type being the result's.
    fn overloaded(&mut self, inst: &Inst, name: &str, args: &[Arg]) -> Result<(), Fault> {
        self.intrinsic(inst, &format!("llvm.{name}.{}", self.func.ty(inst.outs[0])), args, Returns::Results)
    }

    fn pointer_add(&self, ptr: Value, bytes: Value) -> Result<PointerValue<'c>, Fault> {
        let (ptr, bytes) = (self.pointer(ptr)?, self.int(bytes)?);
        // SAFETY: an `i8` GEP with one index is well formed; `inbounds` is the IR's promise that a pointer stays
        // within the tensor or the shared memory it was derived from.
        Ok(unsafe { self.builder.build_in_bounds_gep(self.cx.i8_type(), ptr, &[bytes], "")? })
    }

    /// The shared window of a CTA lies inside that of its cluster, so the number stays the same (PTX ISA 5.1.6.1). An
    /// `addrspacecast` would go through the generic window, with a special register read in every iteration.
    fn to_cluster(&self, ptr: Value) -> Result<PointerValue<'c>, Fault> {
        let number = self.builder.build_ptr_to_int(self.pointer(ptr)?, self.cx.i32_type(), "")?;
        let cluster = self.cx.ptr_type(types::address_space(Space::Cluster));
        Ok(self.builder.build_int_to_ptr(number, cluster, "")?)
    }

    fn load(&mut self, inst: &Inst) -> Result<(), Fault> {
        let ty = self.out_type(inst);
        let ptr = self.pointer(inst.args[0])?;
        let count = inst.outs.len();
        let whole = if count == 1 { ty } else { vector(ty, count)? };
        let loaded = self.builder.build_load(whole, ptr, "")?;
        let load = loaded.as_instruction_value().ok_or_else(|| Fault("the load was folded away".to_string()))?;
        self.align(load, inst)?;
        if inst.attrs.get_int("readonly") != 0 && self.func.ty(inst.args[0]) == Ty::Ptr(Space::Global) {
            let empty = self.cx.metadata_node(&[]);
            load.set_metadata(empty, self.cx.get_kind_id("invariant.load")).map_err(|e| Fault(e.to_string()))?;
        }
        if count == 1 {
            self.define(inst, loaded);
            return Ok(());
        }
        for i in 0..count {
            let index = self.cx.i32_type().const_int(i as u64, false);
            let part = self.builder.build_extract_element(loaded.into_vector_value(), index, "")?;
            self.define_at(inst, i, part);
        }
        Ok(())
    }

    fn store(&mut self, inst: &Inst) -> Result<(), Fault> {
        let ptr = self.pointer(inst.args[0])?;
        let parts = self.values(&inst.args[1..])?;
        let whole = if parts.len() == 1 { parts[0] } else { self.join(&parts)?.into() };
        let store = self.builder.build_store(ptr, whole)?;
        self.align(store, inst)
    }

    fn join(&self, parts: &[BasicValueEnum<'c>]) -> Result<VectorValue<'c>, Fault> {
        let mut whole = poison(vector(parts[0].get_type(), parts.len())?).into_vector_value();
        for (i, part) in parts.iter().enumerate() {
            let index = self.cx.i32_type().const_int(i as u64, false);
            whole = self.builder.build_insert_element(whole, *part, index, "")?;
        }
        Ok(whole)
    }

    fn align(&self, access: InstructionValue<'c>, inst: &Inst) -> Result<(), Fault> {
        let align = inst.attrs.get_int("align");
        let legal = u32::try_from(align).ok().filter(|a| a.is_power_of_two());
        let align = legal.ok_or_else(|| Fault(format!("align = {align} is not a power of two")))?;
        access.set_alignment(align).map_err(|e| Fault(e.to_string()))
    }

    fn pointer(&self, v: Value) -> Result<PointerValue<'c>, Fault> {
        match self.value(v)? {
            BasicValueEnum::PointerValue(ptr) => Ok(ptr),
            other => Err(Fault(format!("%{} is {}, expected a pointer", v.0, other.get_type()))),
        }
    }

    fn float(&self, v: Value) -> Result<FloatValue<'c>, Fault> {
        match self.value(v)? {
            BasicValueEnum::FloatValue(float) => Ok(float),
            other => Err(Fault(format!("%{} is {}, expected a float", v.0, other.get_type()))),
        }
    }
}

fn is_pointer(ty: Ty) -> bool {
    matches!(ty, Ty::Ptr(_))
}

fn vector(ty: BasicTypeEnum<'_>, count: usize) -> Result<BasicTypeEnum<'_>, Fault> {
    types::vector(ty, count as u32).map(Into::into).ok_or_else(|| Fault(format!("there are no vectors of {ty}")))
}

fn poison(ty: BasicTypeEnum<'_>) -> BasicValueEnum<'_> {
    match ty {
        BasicTypeEnum::ArrayType(t) => t.get_poison().into(),
        BasicTypeEnum::FloatType(t) => t.get_poison().into(),
        BasicTypeEnum::IntType(t) => t.get_poison().into(),
        BasicTypeEnum::PointerType(t) => t.get_poison().into(),
        BasicTypeEnum::StructType(t) => t.get_poison().into(),
        BasicTypeEnum::VectorType(t) => t.get_poison().into(),
        BasicTypeEnum::ScalableVectorType(t) => t.get_poison().into(),
    }
}

/// LLVM's opcode of this name.
fn opcode(name: &str) -> Result<InstructionOpcode, Fault> {
    use InstructionOpcode::*;
    Ok(match name {
        "add" => Add,
        "sub" => Sub,
        "mul" => Mul,
        "udiv" => UDiv,
        "urem" => URem,
        "sdiv" => SDiv,
        "srem" => SRem,
        "shl" => Shl,
        "lshr" => LShr,
        "ashr" => AShr,
        "and" => And,
        "or" => Or,
        "xor" => Xor,
        "fadd" => FAdd,
        "fsub" => FSub,
        "fmul" => FMul,
        "fdiv" => FDiv,
        "zext" => ZExt,
        "sext" => SExt,
        "trunc" => Trunc,
        "bitcast" => BitCast,
        "sitofp" => SIToFP,
        "uitofp" => UIToFP,
        "fptosi" => FPToSI,
        "fptoui" => FPToUI,
        "fpext" => FPExt,
        "fptrunc" => FPTrunc,
        "ptrtoint" => PtrToInt,
        "inttoptr" => IntToPtr,
        _ => return Err(Fault(format!("the table names `{name}`, which is no LLVM instruction known here"))),
    })
}

fn int_predicate(name: &str) -> Result<IntPredicate, Fault> {
    use IntPredicate::*;
    Ok(match name {
        "eq" => EQ,
        "ne" => NE,
        "slt" => SLT,
        "sle" => SLE,
        "sgt" => SGT,
        "sge" => SGE,
        "ult" => ULT,
        "ule" => ULE,
        "ugt" => UGT,
        "uge" => UGE,
        _ => return Err(Fault(format!("pred = {name}: expected eq, ne, slt, sle, sgt, sge, ult, ule, ugt or uge"))),
    })
}

fn float_predicate(name: &str) -> Result<FloatPredicate, Fault> {
    use FloatPredicate::*;
    Ok(match name {
        "eq" => OEQ,
        "ne" => ONE,
        "lt" => OLT,
        "le" => OLE,
        "gt" => OGT,
        "ge" => OGE,
        _ => return Err(Fault(format!("pred = {name}: expected eq, ne, lt, le, gt or ge"))),
    })
}
