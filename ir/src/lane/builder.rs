//! Builds Lane IR: a current block, a current source line, and shorthand for common operations.

use super::func::{Block, BlockData, Func, Inst, Term, Value};
use super::table::{Class, Op};
use super::types::Ty;
use crate::attr::Attrs;
use crate::loc::Loc;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// Appends to a [`Func`].
pub struct LaneBuilder {
    /// What has been built.
    pub func: Func,
    block: Block,
    loc: Loc,
    consts: FxHashMap<(Block, Ty, i64), Value>,
}

impl LaneBuilder {
    /// Starts at a fresh entry block.
    pub fn new(mut func: Func) -> Self {
        func.blocks.push(BlockData { params: Vec::new(), insts: Vec::new(), term: Term::Ret, no_unroll: false });
        LaneBuilder { func, block: Block(0), loc: Loc::default(), consts: FxHashMap::default() }
    }

    /// The line the next instructions come from.
    pub fn set_loc(&mut self, loc: Loc) {
        self.loc = loc;
    }

    /// The block instructions go to.
    pub fn current(&self) -> Block {
        self.block
    }

    /// A new block with parameters of these types.
    pub fn block(&mut self, params: &[Ty]) -> Block {
        let params = params.iter().map(|t| self.func.new_value(*t)).collect();
        self.func.blocks.push(BlockData { params, insts: Vec::new(), term: Term::Ret, no_unroll: false });
        Block(self.func.blocks.len() as u32 - 1)
    }

    /// A block's parameters.
    pub fn params(&self, block: Block) -> Vec<Value> {
        self.func.blocks[block.0 as usize].params.clone()
    }

    /// Continue in `block`.
    pub fn switch_to(&mut self, block: Block) {
        self.block = block;
    }

    /// Forbid unrolling the loop whose header is `block`.
    pub fn set_no_unroll(&mut self, block: Block) {
        self.func.blocks[block.0 as usize].no_unroll = true;
    }

    /// Ends the current block.
    pub fn terminate(&mut self, term: Term) {
        self.func.blocks[self.block.0 as usize].term = term;
    }

    /// Jump.
    pub fn br(&mut self, to: Block, args: &[Value]) {
        self.terminate(Term::Br(to, args.to_vec()));
    }

    /// Branch.
    pub fn cond_br(&mut self, cond: Value, then: (Block, &[Value]), other: (Block, &[Value])) {
        self.terminate(Term::CondBr { cond, then: (then.0, then.1.to_vec()), other: (other.0, other.1.to_vec()) });
    }

    /// Any instruction; result types are given.
    pub fn inst(&mut self, op: Op, args: &[Value], outs: &[Ty], attrs: Attrs) -> SmallVec<[Value; 2]> {
        let outs: SmallVec<[Value; 2]> = outs.iter().map(|t| self.func.new_value(*t)).collect();
        let inst = Inst { op, args: SmallVec::from_slice(args), outs: outs.clone(), attrs, loc: self.loc };
        self.func.blocks[self.block.0 as usize].insts.push(inst);
        outs
    }

    /// An instruction with one result whose type the row determines (exact, or that of an operand).
    pub fn op(&mut self, op: Op, args: &[Value]) -> Value {
        let ty = match op.row().outs[0] {
            Class::Is(t) => t,
            Class::Same(i) => self.func.ty(args[i as usize]),
            other => unreachable!("{} gives {other:?}: use `inst`", op.row().name),
        };
        self.inst(op, args, &[ty], Attrs::none())[0]
    }

    /// An instruction without results.
    pub fn effect(&mut self, op: Op, args: &[Value], attrs: Attrs) {
        self.inst(op, args, &[], attrs);
    }

    /// An `i32` literal.
    pub fn i32(&mut self, value: i64) -> Value {
        self.constant(Ty::I32, value)
    }

    /// An `i64` literal.
    pub fn i64(&mut self, value: i64) -> Value {
        self.constant(Ty::I64, value)
    }

    /// An `f32` literal.
    pub fn f32(&mut self, value: f32) -> Value {
        self.constant(Ty::F32, i64::from(value.to_bits()))
    }

    /// A literal of any type, one for each block.
    pub fn constant(&mut self, ty: Ty, value: i64) -> Value {
        if let Some(v) = self.consts.get(&(self.block, ty, value)) {
            return *v;
        }
        let v = self.inst(Op::Const, &[], &[ty], Attrs::none().int("value", value))[0];
        self.consts.insert((self.block, ty, value), v);
        v
    }

    /// Operation with an `i32` literal on the right; sums, products and shifts by nothing cost nothing.
    pub fn imm(&mut self, op: Op, a: Value, b: i64) -> Value {
        match (op, b) {
            (Op::IAdd | Op::ISub | Op::Shl | Op::LShr | Op::Or | Op::Xor, 0) | (Op::IMul | Op::UDiv, 1) => a,
            (Op::IMul, 0) => self.constant(self.func.ty(a), 0),
            _ => {
                let b = self.constant(self.func.ty(a), b);
                self.op(op, &[a, b])
            }
        }
    }

    /// Integer comparison; `pred` as LLVM names it.
    pub fn icmp(&mut self, pred: &str, a: Value, b: Value) -> Value {
        self.inst(Op::ICmp, &[a, b], &[Ty::I1], Attrs::none().sym("pred", pred))[0]
    }

    /// A conversion to `ty`.
    pub fn cast(&mut self, op: Op, a: Value, ty: Ty) -> Value {
        self.inst(op, &[a], &[ty], Attrs::none())[0]
    }

    /// Pointer plus a constant number of bytes.
    pub fn ptr_offset(&mut self, ptr: Value, bytes: i64) -> Value {
        if bytes == 0 {
            return ptr;
        }
        let off = self.i32(bytes);
        self.op(Op::PtrAdd, &[ptr, off])
    }
}
