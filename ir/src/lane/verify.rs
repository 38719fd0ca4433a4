//! Checks Lane IR before it goes to LLVM. What is checked:
//!
//! 1. operand and result counts and types fit the table row, required attributes are there;
//! 2. every value is defined once, and its definition dominates each use;
//! 3. branch arguments fit the target's parameters;
//! 4. the target has every instruction used;
//! 5. a parameter index names a parameter of the right kind.

use super::func::{Block, Func, Inst, ParamKind, Term, Value};
use super::table::{Class, Op};
use super::types::{Space, Ty};

/// A function that breaks a rule; names the instruction and the template line it came from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}")]
pub struct LaneError {
    /// The template's `file:line`, or the block.
    pub at: String,
    /// The rule, with the names involved.
    pub what: String,
}

/// Checks a function; the first broken rule is the error.
pub fn verify(func: &Func) -> Result<(), LaneError> {
    if func.blocks.is_empty() {
        return Err(LaneError { at: func.name.clone(), what: "the function has no blocks".into() });
    }
    let dom = Dominators::of(func);
    let mut def: Vec<Option<(u32, u32)>> = vec![None; func.types.len()];
    for (b, data) in func.blocks.iter().enumerate() {
        let defs = data.params.iter().map(|v| (0, *v));
        let outs = data.insts.iter().enumerate().flat_map(|(i, inst)| inst.outs.iter().map(move |v| (i as u32 + 1, *v)));
        for (at, v) in defs.chain(outs) {
            if def[v.0 as usize].replace((b as u32, at)).is_some() {
                return Err(LaneError { at: format!("block{b}"), what: format!("%{} is defined twice", v.0) });
            }
        }
    }
    let reaches = |v: Value, b: usize, at: u32| match def[v.0 as usize] {
        Some((db, dat)) if db as usize == b => dat < at,
        Some((db, _)) => dom.dominates(db as usize, b),
        None => false,
    };
    for (b, data) in func.blocks.iter().enumerate() {
        if !dom.reachable[b] {
            continue;
        }
        for (i, inst) in data.insts.iter().enumerate() {
            check_inst(func, inst)?;
            if let Some(v) = inst.args.iter().find(|v| !reaches(**v, b, i as u32 + 1)) {
                return Err(error(
                    func,
                    inst,
                    format!("{} uses %{}, which is not defined on every path here", inst.op.row().name, v.0),
                ));
            }
        }
        let end = data.insts.len() as u32 + 1;
        check_term(func, b, &data.term, |v| reaches(v, b, end))?;
    }
    Ok(())
}

fn error(func: &Func, inst: &Inst, what: String) -> LaneError {
    LaneError { at: func.sources.display(inst.loc), what }
}

fn check_term(func: &Func, b: usize, term: &Term, reaches: impl Fn(Value) -> bool) -> Result<(), LaneError> {
    let fail = |what| Err(LaneError { at: format!("block{b}"), what });
    if let Term::CondBr { cond, .. } = term
        && (func.ty(*cond) != Ty::I1 || !reaches(*cond))
    {
        return fail(format!("condbr on %{}, which is not a predicate defined here", cond.0));
    }
    for (Block(to), args) in term.targets() {
        let params = &func.blocks[to as usize].params;
        let fits = params.len() == args.len() && params.iter().zip(args).all(|(p, a)| func.ty(*p) == func.ty(*a));
        if !fits {
            return fail(format!("the arguments for block{to} do not fit its parameters"));
        }
        if let Some(v) = args.iter().find(|v| !reaches(**v)) {
            return fail(format!("passes %{}, which is not defined on every path here", v.0));
        }
    }
    Ok(())
}

fn check_inst(func: &Func, inst: &Inst) -> Result<(), LaneError> {
    let row = inst.op.row();
    let fail = |what: String| Err(error(func, inst, format!("{}: {what}", row.name)));
    let args: Vec<Ty> = inst.args.iter().map(|v| func.ty(*v)).collect();
    let outs: Vec<Ty> = inst.outs.iter().map(|v| func.ty(*v)).collect();
    if let Err(what) = fit(row.ins, &args, &args) {
        return fail(format!("operand {what}"));
    }
    if let Err(what) = fit(row.outs, &outs, &args) {
        return fail(format!("result {what}"));
    }
    if let Some(key) = row.attrs.iter().find(|k| inst.attrs.get(k).is_none()) {
        return fail(format!("attribute `{key}` is missing"));
    }
    if row.sm > func.arch.sm() {
        return fail(format!("needs compute capability {}, the target {} has {}", row.sm, func.arch, func.arch.sm()));
    }
    match inst.op {
        Op::Param => {
            let index = inst.attrs.get_int("index") as usize;
            let want = func.params.get(index).map(|p| match p.kind {
                ParamKind::Global { .. } => Ty::Ptr(Space::Global),
                ParamKind::Scalar(t) => t,
                ParamKind::TensorMap => Ty::Ptr(Space::Generic),
            });
            if want != Some(outs[0]) {
                return fail(format!("there is no parameter {index} of type {}", outs[0]));
            }
        }
        Op::AddX2 | Op::SubX2 | Op::MulX2 if inst.attrs.get_sym("dtype") == "bf16" && func.arch.sm() < 90 => {
            return fail(format!("pairs of bf16 need compute capability 90, {} has fma.x2 alone", func.arch));
        }
        Op::WgmmaSs | Op::WgmmaRs => {
            let n = inst.attrs.get_int("n");
            let operands = if inst.op == Op::WgmmaSs { 3 } else { 6 };
            let count = (args.len() - operands) as i64;
            let dtype = inst.attrs.get_sym("dtype");
            let bytes = matches!(dtype, "i8" | "e4m3" | "e5m2" | "e4m3_e5m2" | "e5m2_e4m3");
            if !bytes && !matches!(dtype, "bf16" | "f16") {
                return fail(format!("dtype `{dtype}`: bf16, f16, i8, e4m3, e5m2, e4m3_e5m2 or e5m2_e4m3"));
            }
            let acc = if dtype == "i8" { Ty::I32 } else { Ty::F32 };
            if args[operands..].iter().any(|t| *t != acc) {
                return fail(format!("accumulators of {dtype} are {acc}"));
            }
            let transposed = ["trans_a", "trans_b"].iter().any(|key| inst.attrs.get_int(key) != 0);
            if bytes && (transposed || inst.op == Op::WgmmaRs) {
                return fail(format!("operands of {dtype} lie in shared memory, K-major"));
            }
            if dtype == "i8" && n > 32 && n % 16 != 0 {
                return fail(format!("n = {n}: of i8 8, 16, 24, 32, then steps of 16"));
            }
            if n % 8 != 0 || !(8..=256).contains(&n) || count != n / 2 || outs.len() as i64 != count {
                return fail(format!("n = {n} takes {} accumulators, not {count}; n must be 8..256 in steps of 8", n / 2));
            }
        }
        Op::BarSync | Op::BarArrive
            if !(32..=1024).contains(&inst.attrs.get_int("threads")) || inst.attrs.get_int("threads") % 32 != 0 =>
        {
            return fail(format!("{} threads: whole warps, at most 1024", inst.attrs.get_int("threads")));
        }
        Op::WgmmaWait if args.len() != outs.len() => return fail("hands through as many values as it takes".into()),
        _ => {}
    }
    Ok(())
}

/// Checks types against classes; `ops` are the operand types that `Same` refers to.
fn fit(classes: &[Class], types: &[Ty], ops: &[Ty]) -> Result<(), String> {
    let mut at = 0;
    for (i, class) in classes.iter().enumerate() {
        let ok = |t: Ty| match class {
            Class::Is(want) | Class::Many(want) => t == *want,
            Class::Accumulators => matches!(t, Ty::F32 | Ty::I32) && t == types[at],
            Class::Int => t.is_int(),
            Class::Float => t.is_float(),
            Class::Any => true,
            Class::Mem => matches!(t, Ty::Ptr(Space::Global | Space::Shared)),
            Class::Same(n) => ops.get(*n as usize) == Some(&t),
            Class::Vector => t != Ty::I1 && Some(&t) == types.get(at.min(types.len().saturating_sub(1))),
        };
        match class {
            Class::Many(_) | Class::Accumulators => {
                if let Some(j) = types[at..].iter().position(|t| !ok(*t)) {
                    return Err(format!("{} has type {}, which does not fit {class:?}", at + j, types[at + j]));
                }
                at = types.len();
            }
            Class::Vector => {
                let count = types.len().saturating_sub(at);
                if !matches!(count, 1 | 2 | 4) || !types[at..].iter().all(|t| ok(*t)) {
                    return Err(format!("list must be 1, 2 or 4 values of one type, found {:?}", &types[at.min(types.len())..]));
                }
                at = types.len();
            }
            _ => {
                let Some(t) = types.get(at) else { return Err(format!("{i} is missing, expected {class:?}")) };
                if !ok(*t) {
                    return Err(format!("{i} has type {t}, expected {class:?}"));
                }
                at += 1;
            }
        }
    }
    if at != types.len() {
        return Err(format!("count is {}, expected {at}", types.len()));
    }
    Ok(())
}

/// Dominators by the iterative algorithm of Cooper, Harvey and Kennedy ("A Simple, Fast Dominance Algorithm").
struct Dominators {
    idom: Vec<usize>,
    order: Vec<usize>,
    reachable: Vec<bool>,
}

impl Dominators {
    fn of(func: &Func) -> Self {
        let n = func.blocks.len();
        let succ: Vec<Vec<usize>> =
            func.blocks.iter().map(|b| b.term.targets().iter().map(|(t, _)| t.0 as usize).collect()).collect();
        let mut post = Vec::with_capacity(n);
        let mut seen = vec![false; n];
        let mut stack = vec![(0usize, 0usize)];
        seen[0] = true;
        while let Some((b, i)) = stack.pop() {
            if let Some(&s) = succ[b].get(i) {
                stack.push((b, i + 1));
                if !std::mem::replace(&mut seen[s], true) {
                    stack.push((s, 0));
                }
            } else {
                post.push(b);
            }
        }
        let mut order = vec![usize::MAX; n];
        for (i, b) in post.iter().enumerate() {
            order[*b] = i;
        }
        let mut preds = vec![Vec::new(); n];
        for (b, list) in succ.iter().enumerate().filter(|(b, _)| seen[*b]) {
            list.iter().for_each(|s| preds[*s].push(b));
        }
        let mut idom = vec![usize::MAX; n];
        idom[0] = 0;
        loop {
            let mut changed = false;
            for &b in post.iter().rev().skip(1) {
                let mut new = usize::MAX;
                for &p in preds[b].iter().filter(|p| idom[**p] != usize::MAX) {
                    new = if new == usize::MAX { p } else { meet(&idom, &order, new, p) };
                }
                changed |= idom[b] != new;
                idom[b] = new;
            }
            if !changed {
                break;
            }
        }
        Dominators { idom, order, reachable: seen }
    }

    /// True if `a` dominates `b`, strictly or not.
    fn dominates(&self, a: usize, b: usize) -> bool {
        if !self.reachable[a] || !self.reachable[b] {
            return false;
        }
        let mut at = b;
        while self.order[at] < self.order[a] {
            at = self.idom[at];
        }
        at == a
    }
}

fn meet(idom: &[usize], order: &[usize], mut a: usize, mut b: usize) -> usize {
    while a != b {
        while order[a] < order[b] {
            a = idom[a];
        }
        while order[b] < order[a] {
            b = idom[b];
        }
    }
    a
}
