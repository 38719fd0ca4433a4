//! Debug locations and loop metadata, straight on LLVM's C interface where inkwell has no wrapper.

use inkwell::builder::Builder;
use inkwell::context::{AsContextRef, Context};
use inkwell::llvm_sys::core::{
    LLVMGetMDKindIDInContext, LLVMMDNodeInContext2, LLVMMDStringInContext2, LLVMMetadataAsValue, LLVMSetCurrentDebugLocation2,
    LLVMSetMetadata,
};
use inkwell::llvm_sys::debuginfo::*;
use inkwell::llvm_sys::prelude::{LLVMBool, LLVMDIBuilderRef, LLVMMetadataRef};
use inkwell::module::{FlagBehavior, Module};
use inkwell::values::{AsValueRef, FunctionValue, InstructionValue};
use std::ffi::{c_char, c_uint};
use tilewright_ir::Loc;
use tilewright_ir::lane::Func;

/// `DICompileUnit::DebugDirectivesOnly`: `.file` and `.loc` without DWARF sections, and no `.target debug`, which
/// would make ptxas stop optimising. The C enum that llvm-sys mirrors ends before it.
const DEBUG_DIRECTIVES_ONLY: c_uint = 3;

#[allow(clashing_extern_declarations, reason = "the emission kind is a number here, see DEBUG_DIRECTIVES_ONLY")]
unsafe extern "C" {
    fn LLVMDIBuilderCreateCompileUnit(
        builder: LLVMDIBuilderRef,
        lang: LLVMDWARFSourceLanguage,
        file: LLVMMetadataRef,
        producer: *const c_char,
        producer_len: usize,
        is_optimized: LLVMBool,
        flags: *const c_char,
        flags_len: usize,
        runtime_ver: c_uint,
        split_name: *const c_char,
        split_name_len: usize,
        kind: c_uint,
        dwo_id: c_uint,
        split_debug_inlining: LLVMBool,
        debug_info_for_profiling: LLVMBool,
        sys_root: *const c_char,
        sys_root_len: usize,
        sdk: *const c_char,
        sdk_len: usize,
    ) -> LLVMMetadataRef;
}

/// The debug scopes of one kernel: its subprogram, and a lexical scope for each further template file.
pub(super) struct Debug {
    builder: LLVMDIBuilderRef,
    context: inkwell::llvm_sys::prelude::LLVMContextRef,
    scopes: Vec<LLVMMetadataRef>,
}

impl Debug {
    /// None when the function has no source files.
    pub fn new<'c>(cx: &'c Context, module: &Module<'c>, func: &Func, function: FunctionValue<'c>) -> Option<Self> {
        if func.sources.files.is_empty() {
            return None;
        }
        // `Debug Info Version` 3 is `DEBUG_METADATA_VERSION`; LLVM strips debug info from modules without it.
        let version = cx.i32_type().const_int(u64::from(inkwell::debug_info::debug_metadata_version()), false);
        module.add_basic_value_flag("Debug Info Version", FlagBehavior::Warning, version);
        let first_line = func.blocks.iter().flat_map(|b| &b.insts).find(|i| i.loc.file == 0 && i.loc.line > 0);
        let first_line = first_line.map_or(1, |i| i.loc.line);
        // SAFETY: module, function and context are alive; strings are passed with their lengths and copied by LLVM;
        // metadata nodes belong to the context, which outlives this value.
        unsafe {
            let builder = LLVMCreateDIBuilder(module.as_mut_ptr());
            let files: Vec<_> = func.sources.files.iter().map(|name| file(builder, name)).collect();
            let producer = "tilewright";
            let none = c"".as_ptr();
            let unit = LLVMDIBuilderCreateCompileUnit(
                builder,
                LLVMDWARFSourceLanguage::LLVMDWARFSourceLanguageC,
                files[0],
                producer.as_ptr().cast(),
                producer.len(),
                1,
                none,
                0,
                0,
                none,
                0,
                DEBUG_DIRECTIVES_ONLY,
                0,
                0,
                0,
                none,
                0,
                none,
                0,
            );
            let ty = LLVMDIBuilderCreateSubroutineType(builder, files[0], std::ptr::null_mut(), 0, 0);
            let name = func.name.as_str();
            let subprogram = LLVMDIBuilderCreateFunction(
                builder,
                unit,
                name.as_ptr().cast(),
                name.len(),
                name.as_ptr().cast(),
                name.len(),
                files[0],
                first_line,
                ty,
                0,
                1,
                first_line,
                0,
                1,
            );
            LLVMSetSubprogram(function.as_value_ref(), subprogram);
            let further = files[1..].iter().map(|f| LLVMDIBuilderCreateLexicalBlockFile(builder, subprogram, *f, 0));
            let scopes = std::iter::once(subprogram).chain(further).collect();
            Some(Debug { builder, context: cx.as_ctx_ref(), scopes })
        }
    }

    /// The instructions that follow come from `loc`; line 0 of the kernel where that is unknown.
    pub fn locate(&self, builder: &Builder<'_>, loc: Loc) {
        let known = self.scopes.get(loc.file as usize).filter(|_| loc.line > 0);
        let (scope, line) = known.map_or((self.scopes[0], 0), |s| (*s, loc.line));
        // SAFETY: the scope was made in this context, and the builder belongs to it too.
        unsafe {
            let at = LLVMDIBuilderCreateDebugLocation(self.context, line, 0, scope, std::ptr::null_mut());
            LLVMSetCurrentDebugLocation2(builder.as_mut_ptr(), at);
        }
    }
}

impl Drop for Debug {
    /// Resolves what is still temporary.
    fn drop(&mut self) {
        // SAFETY: made in `new`, disposed only here, and before its module: whoever builds a body borrows the module.
        unsafe {
            LLVMDIBuilderFinalize(self.builder);
            LLVMDisposeDIBuilder(self.builder);
        }
    }
}

/// A file with an empty directory: the path is used as the source map has it, whatever the checkout.
///
/// # Safety
/// `builder` is alive.
unsafe fn file(builder: LLVMDIBuilderRef, name: &str) -> LLVMMetadataRef {
    // SAFETY: the caller keeps the builder alive; LLVM copies the strings.
    unsafe { LLVMDIBuilderCreateFile(builder, name.as_ptr().cast(), name.len(), c"".as_ptr(), 0) }
}

/// The `llvm.loop` node of one loop.
#[derive(Clone)]
pub(super) struct LoopId(LLVMMetadataRef);

impl LoopId {
    /// A loop that LLVM and, through `.pragma "nounroll"`, ptxas must leave rolled.
    pub fn no_unroll(cx: &Context) -> Self {
        let word = "llvm.loop.unroll.disable";
        let cx = cx.as_ctx_ref();
        // SAFETY: all nodes live in this context. A loop id names itself in its first operand (LLVM LangRef,
        // "llvm.loop"), so a placeholder stands in until the node exists; replacing it also frees it.
        unsafe {
            let mut word = LLVMMDStringInContext2(cx, word.as_ptr().cast(), word.len());
            let property = LLVMMDNodeInContext2(cx, &mut word, 1);
            let placeholder = LLVMTemporaryMDNode(cx, std::ptr::null_mut(), 0);
            let id = LLVMMDNodeInContext2(cx, [placeholder, property].as_mut_ptr(), 2);
            LLVMMetadataReplaceAllUsesWith(placeholder, id);
            LoopId(id)
        }
    }

    /// Puts the id on a branch that closes the loop.
    pub fn attach(&self, cx: &Context, branch: InstructionValue<'_>) {
        let cx = cx.as_ctx_ref();
        let kind = "llvm.loop";
        // SAFETY: the branch and the node live in this context.
        unsafe {
            let kind = LLVMGetMDKindIDInContext(cx, kind.as_ptr().cast(), kind.len() as c_uint);
            LLVMSetMetadata(branch.as_value_ref(), kind, LLVMMetadataAsValue(cx, self.0));
        }
    }
}
