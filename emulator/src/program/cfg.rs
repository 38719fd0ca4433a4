//! Where diverged paths meet again: immediate post-dominators of the control-flow graph.

use super::kernel::Reconvergence;
use super::op::{Inst, Op};

/// No reconvergence before the exit.
const NONE: u32 = u32::MAX;

/// Whether an instruction can come to itself again.
pub fn in_loop(code: &[Inst], pc: usize) -> bool {
    let Blocks { starts, successors } = blocks(code);
    let home = starts.partition_point(|&start| start as usize <= pc).saturating_sub(1);
    let mut seen = vec![false; starts.len()];
    let mut open: Vec<usize> = successors[home].clone();
    while let Some(block) = open.pop() {
        if !std::mem::replace(&mut seen[block], true) {
            open.extend(&successors[block]);
        }
    }
    seen.get(home) == Some(&true)
}

struct Blocks {
    /// First instruction of each block, in order.
    starts: Vec<u32>,
    successors: Vec<Vec<usize>>,
}

fn blocks(code: &[Inst]) -> Blocks {
    let mut is_leader = vec![false; code.len()];
    if let Some(first) = is_leader.first_mut() {
        *first = true;
    }
    let mut mark = |at: usize| {
        if at < code.len() {
            is_leader[at] = true;
        }
    };
    for (pc, inst) in code.iter().enumerate() {
        match &inst.op {
            Op::Bra(target) => {
                mark(*target as usize);
                mark(pc + 1);
            }
            Op::Brx { targets, .. } => {
                targets.iter().for_each(|target| mark(*target as usize));
                mark(pc + 1);
            }
            Op::Exit | Op::Trap | Op::Ret => mark(pc + 1),
            _ => {}
        }
    }
    let starts: Vec<u32> = (0..code.len()).filter(|&pc| is_leader[pc]).map(|pc| pc as u32).collect();
    let block_of = |pc: u32| starts.partition_point(|&start| start <= pc).saturating_sub(1);
    let successors = (0..starts.len())
        .map(|block| {
            let end = starts.get(block + 1).copied().unwrap_or(code.len() as u32);
            let Some(last) = code.get(end as usize - 1) else { return Vec::new() };
            let mut next = Vec::new();
            let falls_through = match &last.op {
                Op::Bra(target) => {
                    next.push(block_of(*target));
                    last.guard.is_some()
                }
                Op::Brx { targets, .. } => {
                    next.extend(targets.iter().map(|target| block_of(*target)));
                    last.guard.is_some()
                }
                Op::Exit | Op::Trap | Op::Ret => last.guard.is_some(),
                _ => true,
            };
            if falls_through && block + 1 < starts.len() {
                next.push(block + 1);
            }
            next
        })
        .collect();
    Blocks { starts, successors }
}

/// For each instruction that can split a warp, where its lanes meet again.
///
/// Post-dominators by the iterative scheme of Cooper, Harvey and Kennedy on the reversed graph. Blocks that only exit
/// are joined to a virtual exit; a loop without a way out post-dominates nothing.
pub fn reconvergence(code: &[Inst]) -> Reconvergence {
    let Blocks { starts, successors } = blocks(code);
    let count = starts.len();
    let exit = count;
    let mut predecessors = vec![Vec::new(); count + 1];
    for (block, next) in successors.iter().enumerate() {
        for &successor in next {
            predecessors[successor].push(block);
        }
        if next.is_empty() {
            predecessors[exit].push(block);
        }
    }
    // Post-order of the reversed graph from the virtual exit.
    let mut order = Vec::with_capacity(count + 1);
    let mut seen = vec![false; count + 1];
    let mut stack = vec![(exit, 0usize)];
    seen[exit] = true;
    while let Some((block, at)) = stack.pop() {
        if let Some(&next) = predecessors[block].get(at) {
            stack.push((block, at + 1));
            if !seen[next] {
                seen[next] = true;
                stack.push((next, 0));
            }
        } else {
            order.push(block);
        }
    }
    let mut rank = vec![usize::MAX; count + 1];
    for (index, &block) in order.iter().enumerate() {
        rank[block] = index;
    }
    let mut parent: Vec<Option<usize>> = vec![None; count + 1];
    parent[exit] = Some(exit);
    let mut changed = true;
    while changed {
        changed = false;
        for &block in order.iter().rev() {
            if block == exit {
                continue;
            }
            let next: &[usize] = if successors[block].is_empty() { &[exit] } else { &successors[block] };
            let mut found: Option<usize> = None;
            for &successor in next {
                if parent[successor].is_none() {
                    continue;
                }
                found = Some(match found {
                    None => successor,
                    Some(other) => meet(other, successor, &parent, &rank),
                });
            }
            if found.is_some() && parent[block] != found {
                parent[block] = found;
                changed = true;
            }
        }
    }
    let mut at = vec![NONE; code.len()];
    for (block, post) in parent.iter().enumerate().take(count) {
        let end = starts.get(block + 1).copied().unwrap_or(code.len() as u32);
        if let Some(post) = *post
            && post != exit
        {
            at[end as usize - 1] = starts[post];
        }
    }
    Reconvergence { at }
}

fn meet(mut a: usize, mut b: usize, parent: &[Option<usize>], rank: &[usize]) -> usize {
    while a != b {
        while rank[a] < rank[b] {
            match parent[a] {
                Some(up) if up != a => a = up,
                _ => return b,
            }
        }
        while rank[b] < rank[a] {
            match parent[b] {
                Some(up) if up != b => b = up,
                _ => return a,
            }
        }
    }
    a
}
