//! Lane IR types as LLVM types.

use inkwell::AddressSpace;
use inkwell::context::Context;
use inkwell::types::{BasicMetadataTypeEnum, BasicType, BasicTypeEnum, FunctionType, VectorType};
use tilewright_ir::lane::{Space, Ty};

/// The address-space numbers of LLVM's NVPTX back end ("NVPTX User Guide", Address Spaces).
pub fn address_space(space: Space) -> AddressSpace {
    AddressSpace::from(match space {
        Space::Generic => 0u16,
        Space::Global => 1,
        Space::Shared => 3,
        Space::Cluster => 7,
    })
}

/// One value's type.
pub fn basic(cx: &Context, ty: Ty) -> BasicTypeEnum<'_> {
    match ty {
        Ty::I1 => cx.bool_type().into(),
        Ty::I16 => cx.i16_type().into(),
        Ty::I32 => cx.i32_type().into(),
        Ty::I64 => cx.i64_type().into(),
        Ty::F16 => cx.f16_type().into(),
        Ty::BF16 => cx.bf16_type().into(),
        Ty::F32 => cx.f32_type().into(),
        Ty::Ptr(space) => cx.ptr_type(address_space(space)).into(),
    }
}

/// What an instruction with these results returns: nothing, a value, or a struct of values.
pub fn results<'c>(cx: &'c Context, outs: &[Ty]) -> Option<BasicTypeEnum<'c>> {
    match outs {
        [] => None,
        [one] => Some(basic(cx, *one)),
        many => {
            let fields: Vec<_> = many.iter().map(|t| basic(cx, *t)).collect();
            Some(cx.struct_type(&fields, false).into())
        }
    }
}

/// A function's type.
pub fn function<'c>(cx: &'c Context, ret: Option<BasicTypeEnum<'c>>, args: &[BasicMetadataTypeEnum<'c>]) -> FunctionType<'c> {
    match ret {
        Some(ty) => ty.fn_type(args, false),
        None => cx.void_type().fn_type(args, false),
    }
}

/// `count` neighbours in memory.
pub fn vector(ty: BasicTypeEnum<'_>, count: u32) -> Option<VectorType<'_>> {
    match ty {
        BasicTypeEnum::IntType(t) => Some(t.vec_type(count)),
        BasicTypeEnum::FloatType(t) => Some(t.vec_type(count)),
        BasicTypeEnum::PointerType(t) => Some(t.vec_type(count)),
        _ => None,
    }
}
