//! Inline assembly for what LLVM 22 has no intrinsic for, in LLVM's notation (`$0` = first result or operand).

use super::func::{Func, Inst};
use super::table::AsmFn;
use super::types::{Space, Ty};

/// The text and the constraint list of an [`AsmFn`] instruction. Operands are numbered results first.
pub fn text(func: &Func, inst: &Inst, kind: AsmFn) -> (String, String) {
    match kind {
        AsmFn::WgmmaSs => wgmma_ss(func, inst),
        AsmFn::WgmmaRs => wgmma_rs(inst),
        AsmFn::WgmmaWait => wgmma_wait(func, inst),
        AsmFn::LoadIf => load_if(func, inst, true),
        AsmFn::LoadIfCoherent => load_if(func, inst, false),
        AsmFn::LoadOnce => load_once(func, inst),
        AsmFn::StoreIf => store_if(func, inst),
        AsmFn::Atom => atom(func, inst),
        AsmFn::RedAdd => red_add(inst),
    }
}

/// `$from, $from+1, ...`: `count` of them.
fn regs(from: usize, count: usize) -> String {
    (from..from + count).map(|i| format!("${i}")).collect::<Vec<_>>().join(", ")
}

/// Operands: descriptor A, descriptor B, scale-d predicate, accumulators (tied to the results).
fn wgmma_ss(func: &Func, inst: &Inst) -> (String, String) {
    let count = inst.outs.len();
    let (n, dtype) = (inst.attrs.get_int("n"), inst.attrs.get_sym("dtype"));
    let (ta, tb) = (inst.attrs.get_int("trans_a"), inst.attrs.get_int("trans_b"));
    let (a, b, d) = (count, count + 1, count + 2);
    let shape = |k: u32, types: &str| {
        format!("wgmma.mma_async.sync.aligned.m64n{n}k{k}.{types} {{{}}}, ${a}, ${b}, ${d}", regs(0, count))
    };
    // Bytes are K-major only, and integers have no signs to flip (PTX ISA 9.7.16.5.2): fewer operands.
    let text = match dtype {
        "i8" => shape(32, "s32.s8.s8") + ";",
        "e4m3" | "e5m2" => shape(32, &format!("f32.{dtype}.{dtype}")) + ", 1, 1;",
        "e4m3_e5m2" | "e5m2_e4m3" => shape(32, &format!("f32.{}", dtype.replace('_', "."))) + ", 1, 1;",
        _ => shape(16, &format!("f32.{dtype}.{dtype}")) + &format!(", 1, 1, {ta}, {tb};"),
    };
    let mut cons = accumulators(func, inst);
    cons.extend(["l", "l", "b"].map(String::from));
    cons.extend((0..count).map(|i| i.to_string()));
    (text, cons.join(","))
}

/// Operands: four registers of A, descriptor B, scale-d predicate, accumulators (tied to the results).
fn wgmma_rs(inst: &Inst) -> (String, String) {
    let count = inst.outs.len();
    let (n, dtype, tb) = (inst.attrs.get_int("n"), inst.attrs.get_sym("dtype"), inst.attrs.get_int("trans_b"));
    let (b, d) = (count + 4, count + 5);
    let text = format!(
        "wgmma.mma_async.sync.aligned.m64n{n}k16.f32.{dtype}.{dtype} {{{}}}, {{{}}}, ${b}, ${d}, 1, 1, {tb};",
        regs(0, count),
        regs(count, 4)
    );
    let mut cons = vec!["=f".to_string(); count];
    cons.extend(["r", "r", "r", "r", "l", "b"].map(String::from));
    cons.extend((0..count).map(|i| i.to_string()));
    (text, cons.join(","))
}

/// Handing the accumulators through the wait keeps LLVM from reading them before it.
fn wgmma_wait(func: &Func, inst: &Inst) -> (String, String) {
    let count = inst.outs.len();
    let mut cons = accumulators(func, inst);
    cons.extend((0..count).map(|i| i.to_string()));
    cons.push("~{memory}".to_string());
    (format!("wgmma.wait_group.sync.aligned {};", inst.attrs.get_int("n")), cons.join(","))
}

/// Constraints of accumulators as results.
fn accumulators(func: &Func, inst: &Inst) -> Vec<String> {
    inst.outs.iter().map(|v| format!("={}", width(func.ty(*v)).1)).collect()
}

/// `.b32` and its constraint letter for a register type.
fn width(ty: Ty) -> (&'static str, &'static str) {
    match ty {
        Ty::F32 => ("b32", "f"),
        Ty::I64 | Ty::Ptr(Space::Generic | Space::Global) => ("b64", "l"),
        Ty::I16 | Ty::F16 | Ty::BF16 => ("b16", "h"),
        _ => ("b32", "r"),
    }
}

fn vector(count: usize) -> String {
    if count == 1 { String::new() } else { format!(".v{count}") }
}

fn braced(list: String, count: usize) -> String {
    if count == 1 { list } else { format!("{{{list}}}") }
}

fn load_if(func: &Func, inst: &Inst, constant: bool) -> (String, String) {
    let count = inst.outs.len();
    let (bits, letter) = width(func.ty(inst.outs[0]));
    let clear: String = (0..count).map(|i| format!("mov.{bits} ${i}, 0; ")).collect();
    let dst = braced(regs(0, count), count);
    let (p, addr) = (count, count + 1);
    // The early clobber keeps a result from sharing the address's register: it is cleared before the load.
    let mut cons = vec![format!("=&{letter}"); count];
    cons.extend(["b", "l"].map(String::from));
    // Only what no thread of the kernel writes may take the non-coherent path (PTX ISA 9.7.9.8).
    let path = if constant { ".nc" } else { "" };
    if !constant {
        cons.push("~{memory}".to_string());
    }
    (format!("{clear}@${p} ld.global{path}{}.{bits} {dst}, [${addr}];", vector(count)), cons.join(","))
}

fn load_once(func: &Func, inst: &Inst) -> (String, String) {
    let count = inst.outs.len();
    let (bits, letter) = width(func.ty(inst.outs[0]));
    let mut cons = vec![format!("={letter}"); count];
    cons.push("l".to_string());
    let dst = braced(regs(0, count), count);
    (format!("ld.global.nc.L1::no_allocate{}.{bits} {dst}, [${count}];", vector(count)), cons.join(","))
}

fn store_if(func: &Func, inst: &Inst) -> (String, String) {
    let count = inst.args.len() - 2;
    let (bits, letter) = width(func.ty(inst.args[2]));
    let src = braced(regs(2, count), count);
    let mut cons = vec!["b".to_string(), "l".to_string()];
    cons.extend(vec![letter.to_string(); count]);
    cons.push("~{memory}".to_string());
    (format!("@$0 st.global{}.{bits} [$1], {src};", vector(count)), cons.join(","))
}

/// Relaxed at the scope of the GPU: kernels order what follows by their end.
fn atom(func: &Func, inst: &Inst) -> (String, String) {
    let f = inst.attrs.get_sym("f");
    let (ty, letter) = match (func.ty(inst.args[2]), f) {
        (Ty::F32, _) => ("f32", "f"),
        (_, "min" | "max") => ("s32", "r"),
        (_, "or") => ("b32", "r"),
        _ => ("u32", "r"),
    };
    let text = format!("mov.b32 $0, 0; @$1 atom.relaxed.gpu.global.{f}.{ty} $0, [$2], $3;");
    (text, format!("=&{letter},b,l,{letter},~{{memory}}"))
}

fn red_add(inst: &Inst) -> (String, String) {
    let count = inst.args.len() - 2;
    let op = if count == 1 { "add.f32".to_string() } else { format!("v{count}.f32.add") };
    let mut cons = vec!["b".to_string(), "l".to_string()];
    cons.extend(vec!["f".to_string(); count]);
    cons.push("~{memory}".to_string());
    (format!("@$0 red.relaxed.gpu.global.{op} [$1], {};", braced(regs(2, count), count)), cons.join(","))
}
