//! Control flow of a function: blocks, dominators, natural loops.
//!
//! Loops are found by dominance and not by backward branches: ptxas moves the slow path of a barrier wait behind the
//! function's end, and the branch home from there goes backward too.

use super::nvdisasm::{Function, Instr};
use std::collections::{BTreeMap, BTreeSet};

/// A natural loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loop {
    /// Index of the first instruction of its header.
    pub header: usize,
    /// Indices of the instructions for which this is the innermost loop, ascending.
    pub own: Vec<usize>,
    /// Loops around it, itself included.
    pub depth: u32,
}

/// Whether the last operand of the instruction is an address of code.
pub fn names_code(instr: &Instr) -> bool {
    matches!(instr.base(), "BRA" | "JMP" | "CALL" | "BSSY" | "RET" | "BRX" | "JMX") || instr.opcode == "WARPSYNC.COLLECTIVE"
}

/// The natural loops of a function, by header. Code that nothing reaches (padding) is in none.
pub fn loops(function: &Function) -> Vec<Loop> {
    let graph = Graph::of(&function.instrs);
    let idom = graph.dominators();
    let dominates = |a: usize, mut b: usize| loop {
        if a == b {
            return true;
        }
        match idom[b] {
            Some(up) if up != b => b = up,
            _ => return false,
        }
    };
    let mut bodies: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (from, targets) in graph.next.iter().enumerate() {
        for header in targets.iter().copied().filter(|h| idom[from].is_some() && dominates(*h, from)) {
            let body = bodies.entry(header).or_insert_with(|| BTreeSet::from([header]));
            let mut todo = vec![from];
            while let Some(block) = todo.pop() {
                if body.insert(block) {
                    todo.extend(graph.previous[block].iter().copied().filter(|p| idom[*p].is_some()));
                }
            }
        }
    }
    let innermost = |block: usize| {
        let around = bodies.iter().filter(|(_, body)| body.contains(&block));
        around.min_by_key(|(_, body)| body.len()).map(|(header, _)| *header)
    };
    let owners: Vec<Option<usize>> = (0..graph.blocks.len()).map(innermost).collect();
    let report = |header: usize| Loop {
        header: graph.blocks[header].0,
        own: (0..owners.len())
            .filter(|b| owners[*b] == Some(header))
            .flat_map(|b| graph.blocks[b].0..graph.blocks[b].1)
            .collect(),
        depth: bodies.values().filter(|body| body.contains(&header)).count() as u32,
    };
    bodies.keys().copied().map(report).collect()
}

struct Graph {
    /// First instruction of each block and the one after its last.
    blocks: Vec<(usize, usize)>,
    next: Vec<Vec<usize>>,
    previous: Vec<Vec<usize>>,
    /// Blocks that control enters from elsewhere.
    roots: Vec<usize>,
}

/// Where control goes after an instruction that ends a block.
struct Exit {
    targets: Vec<usize>,
    falls_through: bool,
}

impl Graph {
    fn of(instrs: &[Instr]) -> Self {
        let at: BTreeMap<u32, usize> = instrs.iter().enumerate().map(|(i, instr)| (instr.address, i)).collect();
        let target = |instr: &Instr| instr.target().and_then(|t| at.get(&t).copied());
        let mut leaders = BTreeSet::from([0]);
        let mut exits: BTreeMap<usize, Exit> = BTreeMap::new();
        let mut entered = vec![0];
        for (i, instr) in instrs.iter().enumerate() {
            if instr.base() == "CALL" {
                entered.extend(target(instr));
            }
            if let Some(exit) = exit(instrs, i, &target) {
                leaders.extend(exit.targets.iter().copied());
                leaders.insert(i + 1);
                exits.insert(i, exit);
            }
        }
        leaders.extend(entered.iter().copied());
        leaders.retain(|l| *l < instrs.len());
        let starts: Vec<usize> = leaders.iter().copied().collect();
        let ends = starts.iter().skip(1).copied().chain([instrs.len()]);
        let blocks: Vec<(usize, usize)> = starts.iter().copied().zip(ends).collect();
        let block_of = |instr: usize| starts.partition_point(|s| *s <= instr) - 1;
        let mut next: Vec<Vec<usize>> = vec![Vec::new(); blocks.len()];
        let mut previous = next.clone();
        for (b, (_, end)) in blocks.iter().enumerate() {
            let exit = exits.get(&(end - 1));
            let mut to: BTreeSet<usize> = exit.iter().flat_map(|e| &e.targets).map(|t| block_of(*t)).collect();
            if exit.is_none_or(|e| e.falls_through) && b + 1 < blocks.len() {
                to.insert(b + 1);
            }
            to.iter().for_each(|t| previous[*t].push(b));
            next[b] = to.into_iter().collect();
        }
        let mut roots: Vec<usize> = if blocks.is_empty() { Vec::new() } else { entered.into_iter().map(block_of).collect() };
        roots.sort_unstable();
        roots.dedup();
        // Where an indirect branch goes is not written in the code: anything else unreached may be its target.
        if instrs.iter().any(|i| matches!(i.base(), "BRX" | "JMX")) {
            let reached = |roots: &[usize]| postorder(&next, roots).into_iter().collect::<BTreeSet<_>>();
            while let Some(lost) = (0..blocks.len()).find(|b| !reached(&roots).contains(b)) {
                roots.push(lost);
            }
        }
        Graph { blocks, next, previous, roots }
    }

    /// Immediate dominators (Cooper, Harvey, Kennedy 2001), a root its own; None for what is not reached. Blocks that
    /// only several roots together dominate count as roots themselves.
    fn dominators(&self) -> Vec<Option<usize>> {
        let order = postorder(&self.next, &self.roots);
        let mut rank = vec![usize::MAX; self.blocks.len()];
        order.iter().enumerate().for_each(|(i, b)| rank[*b] = i);
        let mut idom: Vec<Option<usize>> = vec![None; self.blocks.len()];
        self.roots.iter().for_each(|r| idom[*r] = Some(*r));
        let mut changed = true;
        while changed {
            changed = false;
            for &block in order.iter().rev().filter(|b| !self.roots.contains(b)) {
                let mut known = self.previous[block].iter().copied().filter(|p| idom[*p].is_some());
                let Some(first) = known.next() else { continue };
                let meet = known.try_fold(first, |a, b| common(a, b, &idom, &rank)).unwrap_or(block);
                if idom[block] != Some(meet) {
                    idom[block] = Some(meet);
                    changed = true;
                }
            }
        }
        idom
    }
}

/// The nearest common dominator; None where the two hang from different roots.
fn common(mut a: usize, mut b: usize, idom: &[Option<usize>], rank: &[usize]) -> Option<usize> {
    while a != b {
        let lower = if rank[a] < rank[b] { &mut a } else { &mut b };
        let up = idom[*lower]?;
        if up == *lower {
            return None;
        }
        *lower = up;
    }
    Some(a)
}

fn postorder(next: &[Vec<usize>], roots: &[usize]) -> Vec<usize> {
    let mut seen = vec![false; next.len()];
    let mut order = Vec::new();
    for &root in roots {
        if std::mem::replace(&mut seen[root], true) {
            continue;
        }
        let mut stack = vec![(root, 0)];
        while let Some((block, child)) = stack.pop() {
            match next[block].get(child) {
                None => order.push(block),
                Some(&to) => {
                    stack.push((block, child + 1));
                    if !std::mem::replace(&mut seen[to], true) {
                        stack.push((to, 0));
                    }
                }
            }
        }
    }
    order
}

/// Where control goes, for an instruction that ends its block.
fn exit(instrs: &[Instr], i: usize, target: &dyn Fn(&Instr) -> Option<usize>) -> Option<Exit> {
    let instr = &instrs[i];
    let predicated = instr.predicate.as_deref().is_some_and(|p| p != "@PT");
    match instr.base() {
        // `BRA P1, 0x40` and `BRA.DIV UR4, 0x40` are conditional too.
        "BRA" | "JMP" => {
            Some(Exit { targets: target(instr).into_iter().collect(), falls_through: predicated || instr.operands.contains(',') })
        }
        "WARPSYNC" => {
            let to = target(instr).filter(|_| names_code(instr))?;
            Some(Exit { targets: vec![to], falls_through: true })
        }
        "EXIT" | "RET" | "BRX" | "JMX" | "KILL" => Some(Exit { targets: Vec::new(), falls_through: predicated }),
        // Threads that wait at `BSYNC B0` go on where `BSSY B0` said.
        "BSYNC" => {
            let barrier = instr.operands.split_whitespace().last();
            let opens = |b: &&Instr| b.base() == "BSSY" && b.operands.split([',', ' ']).any(|o| Some(o) == barrier);
            let home = instrs[..i].iter().rev().find(opens).and_then(target);
            Some(Exit { falls_through: predicated || home.is_none(), targets: home.into_iter().collect() })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toolchain::nvdisasm::parse_listing;

    fn function(text: &str) -> Function {
        Function { name: "k".into(), instrs: parse_listing(text) }
    }

    #[test]
    fn a_slow_path_behind_the_end_is_no_outer_loop() {
        let text = "/*0000*/ MOV R0, R1 ;\n/*0010*/ SYNCS.TRYWAIT P0, [UR4], R0 ;\n/*0020*/ @!P0 BRA 0x70 ;\n\
            /*0030*/ HGMMA.64x64x16.F32 R24, gdesc[UR4], R24 ;\n/*0040*/ ISETP P0, R0, R1 ;\n/*0050*/ @P0 BRA 0x10 ;\n\
            /*0060*/ EXIT ;\n/*0070*/ SYNCS.TRYWAIT P0, [UR4], R0 ;\n/*0080*/ @!P0 BRA 0x70 ;\n/*0090*/ BRA 0x30 ;\n\
            /*00a0*/ BRA 0xa0 ;\n/*00b0*/ NOP ;\n";
        let found = loops(&function(text));
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!((found[0].header, &found[0].own[..], found[0].depth), (1, &[1, 2, 3, 4, 5, 9][..], 1));
        assert_eq!((found[1].header, &found[1].own[..], found[1].depth), (7, &[7, 8][..], 2));
    }

    #[test]
    fn called_code_and_convergence() {
        let text = "/*0000*/ BSSY B0, 0x50 ;\n/*0010*/ @P0 BRA 0x40 ;\n/*0020*/ CALL.REL.NOINC 0x80 ;\n/*0030*/ BSYNC B0 ;\n\
            /*0040*/ BSYNC B0 ;\n/*0050*/ @P1 BRA 0x0 ;\n/*0060*/ EXIT ;\n/*0070*/ NOP ;\n/*0080*/ FADD R0, R0, R1 ;\n\
            /*0090*/ @P2 BRA 0x80 ;\n/*00a0*/ RET.REL.NODEC R2 0x0 ;\n";
        let found = loops(&function(text));
        assert_eq!(found.iter().map(|l| (l.header, l.own.len())).collect::<Vec<_>>(), [(0, 6), (8, 2)]);
    }
}
