//! What is broken: every operator makes one edit in the text of a kernel.

use crate::text::{Instr, address_plus, integer, split};

/// A kernel's text with one edit.
#[derive(Clone, Debug)]
pub struct Edit {
    /// Line of the edit, from 1.
    pub line: usize,
    pub operator: String,
    /// What the line was.
    pub was: String,
    /// Which of the instructions that read the same it was, from 1.
    pub nth: usize,
    pub text: String,
}

/// Every edit that the operators make, none twice. `stages` are constants that a stage index is compared with.
pub fn edits(text: &str, stages: &[i64]) -> Vec<Edit> {
    let lines: Vec<&str> = text.lines().collect();
    let parsed: Vec<Option<Instr>> = lines.iter().map(|line| Instr::parse(line)).collect();
    // With a swizzle only operands that are not K-major have a leading offset (PTX ISA 9.7.15.5.1).
    let transposed = |i: &Instr| i.is("wgmma.mma_async") && i.operands[i.operands.len() - 2..].iter().any(|flag| flag == "1");
    let transposes = parsed.iter().flatten().any(transposed);
    let grows = parsed.iter().flatten().any(|instr| instr.is("setmaxnreg.inc"));
    let mut out: Vec<Edit> = Vec::new();
    for (at, instr) in parsed.iter().enumerate() {
        let Some(instr) = instr else { continue };
        let was = instr.print();
        let nth = parsed[..=at].iter().flatten().filter(|other| other.print() == was).count();
        let mut put = |operator: &str, changes: &[(usize, String)]| {
            let mut changed: Vec<&str> = lines.clone();
            for (line, with) in changes {
                changed[*line] = with;
            }
            let text = changed.join("\n");
            if out.iter().all(|edit| edit.text != text) {
                out.push(Edit { line: at + 1, operator: operator.into(), was: was.clone(), nth, text });
            }
        };
        let mut one = |operator: &str, with: String| put(operator, &[(at, with)]);
        order(instr, &mut one);
        waits(instr, &mut one);
        barriers(instr, &mut one);
        mbarriers(instr, &mut one);
        copies(instr, &mut one);
        constants(instr, stages, transposes, &mut one);
        if instr.is("setmaxnreg") && grows {
            one("setmaxnreg+8", instr.shifted(0, "add", "b32", 8));
            if instr.has("dec") {
                one("delete-setmaxnreg", String::new());
            }
        }
        if instr.is("barrier.cluster.arrive") {
            let wait = (at..lines.len()).find(|&later| parsed[later].as_ref().is_some_and(|i| i.is("barrier.cluster.wait")));
            if let Some(wait) = wait {
                put("delete-cluster-barrier", &[(at, String::new()), (wait, String::new())]);
            }
        }
        if polls(&lines, &parsed, at) {
            put("skip-wait", &[(at, String::new())]);
        }
    }
    out
}

/// A branch back over a strong load or an atomic of global memory: a loop that waits for another block.
fn polls(lines: &[&str], parsed: &[Option<Instr>], at: usize) -> bool {
    let Some(branch) = parsed[at].as_ref().filter(|i| i.is("bra") && !i.guard.is_empty()) else { return false };
    let label = format!("{}:", branch.operands[0]);
    let Some(start) = (at.saturating_sub(6)..at).find(|&line| lines[line].trim() == label) else { return false };
    let strong = |i: &Instr| {
        let orders = ["acquire", "relaxed", "volatile"];
        (i.root() == "ld" && orders.iter().any(|order| i.has(order))) || i.is("atom")
    };
    parsed[start..at].iter().flatten().any(strong)
}

/// Fences, memory orders, scopes, atomics.
fn order(instr: &Instr, one: &mut impl FnMut(&str, String)) {
    if matches!(instr.root(), "fence" | "membar") || instr.is("wgmma.fence") {
        one(if instr.is("fence.proxy") { "delete-proxy-fence" } else { "delete-fence" }, String::new());
    }
    let memory = matches!(instr.root(), "ld" | "st" | "atom" | "red" | "mbarrier");
    if memory {
        for strong in ["acquire", "release", "acq_rel"] {
            if instr.has(strong) {
                one("weaken-order", instr.with_modifier(strong, "relaxed").print());
            }
        }
    }
    if memory || (instr.root() == "fence" && !instr.is("fence.proxy") && !instr.is("fence.mbarrier_init")) {
        for wide in ["gpu", "sys", "cluster"] {
            if instr.has(wide) {
                one("narrow-scope", instr.with_modifier(wide, "cta").print());
            }
        }
    }
    if instr.root() == "membar" && !instr.has("cta") {
        one("narrow-scope", "membar.cta;".into());
    }
    if matches!(instr.root(), "atom" | "red") {
        plain(instr, one);
    }
}

/// An atomic as a load and a store.
fn plain(instr: &Instr, one: &mut impl FnMut(&str, String)) {
    let Instr { guard, operands, .. } = instr;
    let Some(ty) = ["u32", "s32", "b32", "f32", "u64", "b64"].into_iter().find(|ty| instr.has(ty)) else { return };
    let space = ["global", "shared", "shared::cta", "shared::cluster"].into_iter().find(|space| instr.has(space));
    let space = space.map_or_else(String::new, |space| format!(".{space}"));
    let bits = if ty.ends_with("64") { "b64" } else { "b32" };
    let skip = usize::from(instr.root() == "atom");
    let (Some(address), Some(value)) = (operands.get(skip), operands.get(skip + 1)) else { return };
    let result =
        if skip == 1 && operands[0] != "_" { format!("{guard}mov.{bits} {}, %old;", operands[0]) } else { String::new() };
    let change = if instr.has("add") {
        format!("add.{ty} %new, %old, {value};")
    } else if instr.has("exch") {
        format!("mov.{bits} %new, {value};")
    } else {
        return;
    };
    one(
        "atomic-to-plain",
        format!(
            "{{ .reg .{bits} %old, %new; {guard}ld{space}.{bits} %old, {address}; {guard}{change} \
             {guard}st{space}.{bits} {address}, %new; {result} }}"
        ),
    );
}

/// Waits for asynchronous work.
fn waits(instr: &Instr, one: &mut impl FnMut(&str, String)) {
    if instr.is("mbarrier.try_wait") || instr.is("mbarrier.test_wait") {
        one("skip-wait", format!("{}setp.eq.u32 {}, 0, 0;", instr.guard, instr.operands[0]));
        if instr.has("parity") {
            one("flip-parity", instr.shifted(2, "xor", "b32", 1));
        }
        if let Some(address) = address_plus(&instr.operands[1], 8) {
            one("other-mbarrier", instr.with_operand(1, &address).print());
        }
    }
    let group = ["wgmma.wait_group", "cp.async.wait_group", "cp.async.bulk.wait_group"].iter().any(|wait| instr.is(wait));
    if group || instr.is("cp.async.wait_all") || instr.is("griddepcontrol.wait") {
        one("delete-wait", String::new());
    }
    if group {
        one("weaken-wait", instr.shifted(0, "add", "b32", 1));
    }
    if instr.is("cp.async.bulk.wait_group") && !instr.has("read") {
        one("wait-for-reads-only", instr.with_modifier("wait_group", "wait_group.read").print());
    }
    if instr.opcode.contains("commit_group") {
        one("delete-commit", String::new());
    }
}

/// Barriers of a block, a warp or a cluster.
fn barriers(instr: &Instr, one: &mut impl FnMut(&str, String)) {
    if instr.is("barrier.cluster.arrive") && !instr.has("relaxed") {
        let weaker = instr.with_modifier("release", "relaxed");
        let weaker = if weaker.has("relaxed") { weaker } else { weaker.with_modifier("arrive", "arrive.relaxed") };
        one("weaken-order", weaker.print());
    }
    if !matches!(instr.root(), "bar" | "barrier") || instr.is("barrier.cluster") {
        return;
    }
    if instr.has("arrive") {
        one("delete-arrive", String::new());
    } else if instr.has("sync") {
        one("delete-barrier", String::new());
    }
    if instr.operands.len() == 2 && !instr.has("warp") && !instr.has("red") {
        one("barrier-id+1", instr.shifted(0, "add", "b32", 1));
        one("barrier-count+32", instr.shifted(1, "add", "b32", 32));
        one("barrier-count-32", instr.shifted(1, "add", "b32", -32));
    }
}

/// Counts, arrivals and expected bytes.
fn mbarriers(instr: &Instr, one: &mut impl FnMut(&str, String)) {
    if instr.is("mbarrier.init") {
        one("init-count+1", instr.shifted(1, "add", "b32", 1));
        one("init-count-1", instr.shifted(1, "add", "b32", -1));
    }
    let arrives = ["mbarrier.arrive", "mbarrier.arrive_drop", "mbarrier.expect_tx", "cp.async.mbarrier.arrive"];
    if arrives.iter().any(|arrive| instr.is(arrive)) {
        one("delete-arrive", String::new());
        let at = instr.operands.iter().position(|operand| operand.starts_with('['));
        if let Some((at, address)) = at.and_then(|at| Some((at, address_plus(&instr.operands[at], 8)?))) {
            one("other-mbarrier", instr.with_operand(at, &address).print());
        }
    }
    if instr.has("expect_tx") {
        let bytes = instr.operands.len() - 1;
        one("expect-bytes+16", instr.shifted(bytes, "add", "b32", 16));
        one("expect-bytes-16", instr.shifted(bytes, "add", "b32", -16));
        one("expect-bytes/2", instr.shifted(bytes, "shr", "b32", 1));
    }
}

/// Bulk and tensor copies.
fn copies(instr: &Instr, one: &mut impl FnMut(&str, String)) {
    let copy = instr.is("cp.async.bulk") || instr.is("cp.reduce.async.bulk");
    if !copy || instr.operands.len() < 2 || instr.has("prefetch") {
        return;
    }
    if instr.opcode.contains("mbarrier::complete_tx::bytes") {
        let at = instr.operands.iter().rposition(|operand| operand.starts_with('['));
        if let Some((at, address)) = at.and_then(|at| Some((at, address_plus(&instr.operands[at], 8)?))) {
            one("other-mbarrier", instr.with_operand(at, &address).print());
        }
    }
    if instr.has("multicast::cluster") {
        let mask = instr.operands.iter().rposition(|operand| operand.starts_with('[')).unwrap_or_default() + 1;
        one("multicast-mask^1", instr.shifted(mask, "xor", "b16", 1));
        one("multicast-mask^2", instr.shifted(mask, "xor", "b16", 2));
    }
    if !instr.has("tensor") {
        one("copy-bytes+16", instr.shifted(2, "add", "b32", 16));
        one("copy-bytes-16", instr.shifted(2, "add", "b32", -16));
        return;
    }
    let Some(at) = instr.operands.iter().position(|operand| operand.contains('{')) else { return };
    let Some((map, coordinates)) = instr.operands[at].split_once('{') else { return };
    let coordinates = split(coordinates.trim_end_matches([']', '}', ' ']));
    for axis in 0..coordinates.len() {
        let step = if axis == 0 { 8 } else { 1 };
        let mut moved = coordinates.clone();
        moved[axis] = "%mutant".into();
        let moved = instr.with_operand(at, &format!("{map}{{{}}}]", moved.join(", "))).print();
        let from = &coordinates[axis];
        let from = format!("mov.b32 %mutant, {from};");
        one(&format!("coordinate-{axis}"), format!("{{ .reg .b32 %mutant; {from} add.s32 %mutant, %mutant, {step}; {moved} }}"));
    }
}

/// Stage counts and matrix descriptors.
fn constants(instr: &Instr, stages: &[i64], transposes: bool, one: &mut impl FnMut(&str, String)) {
    let Some(last) = instr.operands.len().checked_sub(1) else { return };
    let Some(value) = integer(&instr.operands[last]) else { return };
    if instr.root() == "setp" && stages.contains(&value) {
        one("stages+1", instr.shifted(last, "add", "b32", 1));
        one("stages-1", instr.shifted(last, "add", "b32", -1));
    }
    // PTX ISA 9.7.15.5.1: start address in bits 0 to 13, leading offset from 16, stride offset from 32, swizzle from 62.
    if matches!(instr.root(), "or" | "mov") && instr.has("b64") && (value as u64) >> 32 & 0x3fff != 0 {
        for (name, bit) in [("start", 0), ("lbo", 16), ("sbo", 32), ("swizzle-1", 62), ("swizzle-2", 63)] {
            if name == "lbo" && value as u64 >> 62 != 0 && !transposes {
                continue;
            }
            let changed = (value as u64) ^ (1 << bit);
            one(&format!("descriptor-{name}"), instr.with_operand(last, &changed.to_string()).print());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operators(line: &str) -> Vec<String> {
        edits(line, &[4]).into_iter().map(|edit| edit.operator).collect()
    }

    #[test]
    fn each_kind_of_line_is_broken_in_its_ways() {
        assert_eq!(operators("fence.proxy.async.shared::cta;"), ["delete-proxy-fence"]);
        assert_eq!(operators("fence.acq_rel.gpu;"), ["delete-fence", "narrow-scope"]);
        assert_eq!(operators("wgmma.wait_group.sync.aligned 0;"), ["delete-wait", "weaken-wait"]);
        assert_eq!(operators("st.release.gpu.global.b32 [%rd1], 1;"), ["weaken-order", "narrow-scope"]);
        assert_eq!(operators("barrier.cluster.arrive;\nbarrier.cluster.wait;"), ["weaken-order", "delete-cluster-barrier"]);
        assert_eq!(
            operators("mbarrier.try_wait.parity.shared.b64 %p, [%r1], %r2;"),
            ["skip-wait", "flip-parity", "other-mbarrier"]
        );
        assert_eq!(operators("setp.eq.b32 %p, %r1, 4;"), ["stages+1", "stages-1"]);
        assert_eq!(operators("or.b64 %rd1, %rd2, 4611686293305360384;").len(), 4);
        assert_eq!(operators("$again:\nld.acquire.gpu.b32 %r1, [%rd1];\n@%p bra $again;").len(), 3);
        assert!(operators("add.s32 %r1, %r2, 4;").is_empty());
    }
}
