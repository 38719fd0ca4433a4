//! The module around a kernel: signature, launch attributes, shared memory.

use super::body::Body;
use super::types;
use inkwell::attributes::{Attribute, AttributeLoc};
use inkwell::context::Context;
use inkwell::module::{Linkage, Module};
use inkwell::targets::TargetMachine;
use inkwell::types::{AnyType, BasicMetadataTypeEnum};
use inkwell::values::{FunctionValue, UnnamedAddress};
use tilewright_ir::lane::{Func, Op, Param, ParamKind, Space};

/// Calling convention of a kernel (`CallingConv::PTX_Kernel` in LLVM's `CallingConv.h`).
const PTX_KERNEL: u32 = 71;

/// The symbol of dynamic shared memory.
pub(super) const SMEM: &str = "smem";

/// Lane IR that has no LLVM spelling, with the place it came from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}")]
pub struct EmitError {
    /// The template's `file:line`, or `?`.
    pub at: String,
    /// What is wrong and what to do about it.
    pub what: String,
}

impl EmitError {
    pub(crate) fn nowhere(what: impl Into<String>) -> Self {
        EmitError { at: "?".to_string(), what: what.into() }
    }
}

/// Builds the LLVM module of a verified function for the machine's target.
///
/// # Errors
/// When a row and LLVM disagree, or when the kernel's name cannot be a PTX symbol.
pub fn emit<'c>(cx: &'c Context, func: &Func, machine: &TargetMachine) -> Result<Module<'c>, EmitError> {
    check_name(&func.name)?;
    let module = cx.create_module(&func.name);
    module.set_triple(&machine.get_triple());
    module.set_data_layout(&machine.get_target_data().get_data_layout());
    if func.blocks.iter().flat_map(|b| &b.insts).any(|i| i.op == Op::SmemBase) {
        declare_smem(cx, &module);
    }
    let function = declare_kernel(cx, &module, func);
    Body::new(cx, &module, func, function).emit()?;
    module.verify().map_err(|e| EmitError::nowhere(format!("LLVM refuses the module: {}", e.to_string().trim_end())))?;
    Ok(module)
}

/// PTX identifiers: PTX ISA 4.5. A leading `$` or `%` is left to the tools.
fn check_name(name: &str) -> Result<(), EmitError> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let legal = name.starts_with(|c: char| word(c) && !c.is_ascii_digit()) && name.chars().all(word);
    if legal && name != SMEM {
        return Ok(());
    }
    Err(EmitError::nowhere(format!(
        "`{name}` cannot name a kernel: use letters, digits and `_`, no digit first, and not `{SMEM}`"
    )))
}

fn declare_smem<'c>(cx: &'c Context, module: &Module<'c>) {
    let space = types::address_space(Space::Shared);
    let smem = module.add_global(cx.i8_type().array_type(0), Some(space), SMEM);
    smem.set_linkage(Linkage::External);
    // The alignment that the 128-byte swizzle of TMA and wgmma asks for (PTX ISA 5.5.7).
    smem.set_alignment(1024);
    smem.set_unnamed_address(UnnamedAddress::None);
}

fn declare_kernel<'c>(cx: &'c Context, module: &Module<'c>, func: &Func) -> FunctionValue<'c> {
    let params: Vec<BasicMetadataTypeEnum> = func
        .params
        .iter()
        .map(|p| match p.kind {
            ParamKind::Global { .. } => cx.ptr_type(types::address_space(Space::Global)).into(),
            ParamKind::Scalar(ty) => types::basic(cx, ty).into(),
            ParamKind::TensorMap => cx.ptr_type(types::address_space(Space::Generic)).into(),
        })
        .collect();
    let function = module.add_function(&func.name, types::function(cx, None, &params), None);
    function.set_call_conventions(PTX_KERNEL);
    for (key, value) in launch_attributes(func) {
        function.add_attribute(AttributeLoc::Function, cx.create_string_attribute(key, &value));
    }
    for (i, param) in func.params.iter().enumerate() {
        for attribute in param_attributes(cx, param) {
            function.add_attribute(AttributeLoc::Param(i as u32), attribute);
        }
    }
    function
}

/// `.reqntid` with `.minnctapersm` is also what makes ptxas honour `setmaxnreg` (it reports C7508 otherwise).
fn launch_attributes(func: &Func) -> Vec<(&'static str, String)> {
    let launch = &func.launch;
    let mut list =
        vec![("nvvm.reqntid", format!("{},1,1", launch.threads)), ("nvvm.minctasm", launch.min_ctas.max(1).to_string())];
    let [x, y, z] = launch.cluster;
    if x * y * z > 1 {
        list.push(("nvvm.cluster_dim", format!("{x},{y},{z}")));
    }
    list
}

/// `noalias` goes with `readonly` only: nothing in the kernel writes what such a parameter points to, whereas two
/// parameters it writes through may be the same tensor.
fn param_attributes(cx: &Context, param: &Param) -> Vec<Attribute> {
    let named = |name: &str, value: u64| cx.create_enum_attribute(Attribute::get_named_enum_kind_id(name), value);
    match param.kind {
        ParamKind::Global { align, readonly } => {
            let mut list = vec![named("align", u64::from(align.max(1)))];
            if readonly {
                list.extend([named("noalias", 0), named("readonly", 0)]);
            }
            list
        }
        ParamKind::TensorMap => {
            let map = cx.i8_type().array_type(128).as_any_type_enum();
            vec![
                cx.create_type_attribute(Attribute::get_named_enum_kind_id("byval"), map),
                named("align", 64),
                cx.create_string_attribute("nvvm.grid_constant", ""),
            ]
        }
        ParamKind::Scalar(_) => Vec::new(),
    }
}
