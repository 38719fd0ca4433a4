//! A kernel's blocks: order, block parameters as phis, terminators, loop metadata.

use super::debug::{self, Debug};
use super::kernel::EmitError;
use super::types;
use inkwell::attributes::{Attribute, AttributeLoc};
use inkwell::basic_block::BasicBlock;
use inkwell::builder::{Builder, BuilderError};
use inkwell::context::Context;
use inkwell::module::Module;
use inkwell::types::BasicTypeEnum;
use inkwell::values::{BasicValueEnum, CallSiteValue, FunctionValue, InstructionValue, IntValue, PhiValue};
use tilewright_ir::lane::table::{Effect, Row, Spelling, Unit};
use tilewright_ir::lane::{Block, Func, Inst, Term, Ty, Value, asm};

/// What went wrong at one instruction; the block loop adds the place.
pub(super) struct Fault(pub String);

impl From<BuilderError> for Fault {
    fn from(e: BuilderError) -> Self {
        Fault(format!("LLVM's builder refuses it: {e}"))
    }
}

/// The body under construction.
pub(super) struct Body<'c, 'f> {
    pub cx: &'c Context,
    pub module: &'f Module<'c>,
    pub func: &'f Func,
    pub function: FunctionValue<'c>,
    pub builder: Builder<'c>,
    values: Vec<Option<BasicValueEnum<'c>>>,
    blocks: Vec<Option<BasicBlock<'c>>>,
    phis: Vec<Vec<PhiValue<'c>>>,
    /// Place in reverse post-order; an edge that does not go forward in it closes a loop.
    rank: Vec<usize>,
    loops: Vec<Option<debug::LoopId>>,
    debug: Option<Debug>,
}

impl<'c, 'f> Body<'c, 'f> {
    pub fn new(cx: &'c Context, module: &'f Module<'c>, func: &'f Func, function: FunctionValue<'c>) -> Self {
        let n = func.blocks.len();
        Body {
            cx,
            module,
            func,
            function,
            builder: cx.create_builder(),
            values: vec![None; func.types.len()],
            blocks: vec![None; n],
            phis: vec![Vec::new(); n],
            rank: vec![usize::MAX; n],
            loops: vec![None; n],
            debug: Debug::new(cx, module, func, function),
        }
    }

    /// Emits every reachable block, definitions before uses.
    pub fn emit(mut self) -> Result<(), EmitError> {
        let order = reverse_post_order(self.func);
        let entry = &self.func.blocks[0];
        let looped = order.iter().any(|b| self.func.blocks[*b].term.targets().iter().any(|(to, _)| to.0 == 0));
        if looped || !entry.params.is_empty() {
            return Err(EmitError::nowhere(
                "the entry block cannot be a branch target: start with a block that only jumps to it",
            ));
        }
        for (i, b) in order.iter().enumerate() {
            self.rank[*b] = i;
            self.open(*b).map_err(|f| EmitError::nowhere(f.0))?;
        }
        for &b in &order {
            let data = &self.func.blocks[b];
            self.builder.position_at_end(self.llvm_block(b));
            for inst in &data.insts {
                self.locate(inst);
                self.inst(inst).map_err(|Fault(what)| EmitError {
                    at: self.func.sources.display(inst.loc),
                    what: format!("{}: {what}", inst.op.row().name),
                })?;
            }
            self.terminate(b, &data.term).map_err(|f| EmitError::nowhere(format!("block{b}: {}", f.0)))?;
        }
        Ok(())
    }

    fn open(&mut self, b: usize) -> Result<(), Fault> {
        let block = self.cx.append_basic_block(self.function, "");
        self.blocks[b] = Some(block);
        self.builder.position_at_end(block);
        for &param in &self.func.blocks[b].params {
            let phi = self.builder.build_phi(types::basic(self.cx, self.func.ty(param)), "")?;
            self.values[param.0 as usize] = Some(phi.as_basic_value());
            self.phis[b].push(phi);
        }
        if self.func.blocks[b].no_unroll {
            self.loops[b] = Some(debug::LoopId::no_unroll(self.cx));
        }
        Ok(())
    }

    fn locate(&self, inst: &Inst) {
        if let Some(debug) = &self.debug {
            debug.locate(&self.builder, inst.loc);
        }
    }

    fn inst(&mut self, inst: &Inst) -> Result<(), Fault> {
        match inst.op.row().llvm {
            Spelling::Native(native) => self.native(inst, native),
            Spelling::Call(name, args, returns) => self.intrinsic(inst, name, args, returns),
            Spelling::Asm(text, constraints) => {
                let text = super::call::fill(text, &inst.attrs);
                self.inline_asm(inst, text, constraints.to_string())
            }
            Spelling::AsmFn(kind) => {
                let (text, constraints) = asm::text(self.func, inst, kind);
                self.inline_asm(inst, text, constraints)
            }
        }
    }

    fn terminate(&mut self, b: usize, term: &Term) -> Result<(), Fault> {
        let inst = match term {
            Term::Ret => self.builder.build_return(None)?,
            Term::Br(to, args) => {
                let args = self.values(args)?;
                self.jump(b, *to, &args)?
            }
            // One phi entry for each predecessor, so two edges to one block become a choice of arguments.
            Term::CondBr { cond, then, other } if then.0 == other.0 => {
                let cond = self.int(*cond)?;
                let mut chosen = Vec::new();
                for (t, o) in self.values(&then.1)?.into_iter().zip(self.values(&other.1)?) {
                    chosen.push(self.builder.build_select(cond, t, o, "")?);
                }
                self.jump(b, then.0, &chosen)?
            }
            Term::CondBr { cond, then, other } => {
                let cond = self.int(*cond)?;
                for (to, args) in [then, other] {
                    let args = self.values(args)?;
                    self.pass(b, *to, &args);
                }
                let (then, other) = (self.llvm_block(then.0.0 as usize), self.llvm_block(other.0.0 as usize));
                self.builder.build_conditional_branch(cond, then, other)?
            }
        };
        self.mark_loops(b, term, inst);
        Ok(())
    }

    fn jump(&mut self, from: usize, to: Block, args: &[BasicValueEnum<'c>]) -> Result<InstructionValue<'c>, Fault> {
        self.pass(from, to, args);
        Ok(self.builder.build_unconditional_branch(self.llvm_block(to.0 as usize))?)
    }

    fn pass(&self, from: usize, to: Block, args: &[BasicValueEnum<'c>]) {
        for (phi, arg) in self.phis[to.0 as usize].iter().zip(args) {
            phi.add_incoming(&[(arg, self.llvm_block(from))]);
        }
    }

    fn mark_loops(&self, from: usize, term: &Term, inst: InstructionValue<'c>) {
        for (to, _) in term.targets() {
            let to = to.0 as usize;
            if let Some(id) = &self.loops[to]
                && self.rank[to] <= self.rank[from]
            {
                id.attach(self.cx, inst);
            }
        }
    }

    fn llvm_block(&self, b: usize) -> BasicBlock<'c> {
        self.blocks[b].expect("every reachable block was opened, and only reachable ones are visited")
    }

    /// The LLVM value of a Lane IR value.
    pub fn value(&self, v: Value) -> Result<BasicValueEnum<'c>, Fault> {
        self.values[v.0 as usize].ok_or_else(|| Fault(format!("%{} is not defined on every path here", v.0)))
    }

    /// As [`Body::value`], for an integer.
    pub fn int(&self, v: Value) -> Result<IntValue<'c>, Fault> {
        match self.value(v)? {
            BasicValueEnum::IntValue(int) => Ok(int),
            other => Err(Fault(format!("%{} is {}, expected an integer", v.0, other.get_type()))),
        }
    }

    pub fn values(&self, list: &[Value]) -> Result<Vec<BasicValueEnum<'c>>, Fault> {
        list.iter().map(|v| self.value(*v)).collect()
    }

    /// Records the only result.
    pub fn define(&mut self, inst: &Inst, value: BasicValueEnum<'c>) {
        self.values[inst.outs[0].0 as usize] = Some(value);
    }

    /// Records one result of several.
    pub fn define_at(&mut self, inst: &Inst, index: usize, value: BasicValueEnum<'c>) {
        self.values[inst.outs[index].0 as usize] = Some(value);
    }

    pub fn out_types(&self, inst: &Inst) -> Vec<Ty> {
        inst.outs.iter().map(|v| self.func.ty(*v)).collect()
    }

    pub fn basic(&self, ty: Ty) -> BasicTypeEnum<'c> {
        types::basic(self.cx, ty)
    }

    /// Marks a call that all threads of a warp must make together.
    pub fn mark_convergent(&self, row: &Row, call: CallSiteValue<'c>) {
        if is_convergent(row) {
            let kind = Attribute::get_named_enum_kind_id("convergent");
            call.add_attribute(AttributeLoc::Function, self.cx.create_enum_attribute(kind, 0));
        }
    }
}

/// LLVM itself marks barriers, but neither `ldmatrix` nor `mma`, and would sink those into a divergent branch.
fn is_convergent(row: &Row) -> bool {
    let collective = matches!(row.effect, Effect::Sync | Effect::Async) || row.unit == Unit::Tensor;
    collective || matches!(row.llvm, Spelling::Call(name, ..) if name.contains(".sync"))
}

/// Reachable blocks, each after its dominators.
fn reverse_post_order(func: &Func) -> Vec<usize> {
    let successors = |b: usize| func.blocks[b].term.targets().iter().map(|(to, _)| to.0 as usize).collect::<Vec<_>>();
    let mut seen = vec![false; func.blocks.len()];
    let mut post = Vec::with_capacity(func.blocks.len());
    let mut stack = vec![(0, successors(0), 0)];
    seen[0] = true;
    while let Some((b, list, next)) = stack.last_mut() {
        match list.get(*next) {
            Some(&to) => {
                *next += 1;
                if !std::mem::replace(&mut seen[to], true) {
                    stack.push((to, successors(to), 0));
                }
            }
            None => {
                post.push(*b);
                stack.pop();
            }
        }
    }
    post.reverse();
    post
}
