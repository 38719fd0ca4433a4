//! The verifiers refuse what breaks their rules, and say where.

use tilewright_ir::layout::wgmma_acc;
use tilewright_ir::passes::{PassError, check_wgmma, lower, prepare};
use tilewright_ir::tile::{Dim, KernelBuilder, RegTile, Unit};
use tilewright_ir::{Arch, DType, lane, tile};

const LOOP: &str = r#"
lane @acc target sm_90a threads 128 cluster 1 1 1 min_ctas 1 smem 4096
param out: global align 16
source 0 "templates/src/gemm/wgmma.rs"
block0():
  %0:i64 = const {value=0}
  %1:i1 = const {value=1}
  %2:i32 = const {value=0}
  %3:i32 = const {value=9}
  %4:f32 = poison
  %5:f32 = poison
  %6:f32 = poison
  %7:f32 = poison
  br block1(%2, %4, %5, %6, %7)
block1(%8:i32, %9:f32, %10:f32, %11:f32, %12:f32): nounroll
  wgmma.fence
  %13:f32, %14:f32, %15:f32, %16:f32 = wgmma.ss %0, %0, %1, %9, %10, %11, %12 {n=8, dtype=bf16, trans_a=0, trans_b=0} @0:40
  wgmma.commit
  wgmma.wait {n=1}
  %17:i32 = iadd %8, %3
  %18:i1 = icmp %17, %3 {pred=slt}
  condbr %18, block1(%17, %13, %14, %15, %16), block2()
block2():
  %19:f32, %20:f32, %21:f32, %22:f32 = wgmma.wait %13, %14, %15, %16 {n=0}
  %23:ptr.global = param {index=0}
  st %23, %19, %20, %21, %22 {align=16} @0:50
  ret
end
"#;

fn checked(text: &str) -> Result<(), String> {
    let f = lane::parse(text).map_err(|e| e.to_string())?;
    lane::verify(&f).map_err(|e| e.to_string())?;
    check_wgmma(&f).map_err(|e| e.to_string())
}

fn refused(from: &str, to: &str, because: &str) {
    let text = LOOP.replacen(from, to, 1);
    assert_ne!(text, LOOP, "`{from}` is not in the text");
    let e = checked(&text).expect_err(to);
    assert!(e.contains(because), "`{because}` is not in: {e}");
}

#[test]
fn an_accumulator_chain_is_sound() {
    checked(LOOP).unwrap();
}

#[test]
fn accumulators_in_flight_are_left_alone() {
    refused("  st %23, %19, %20", "  st %23, %13, %20", "templates/src/gemm/wgmma.rs:50: W1: st reads %13");
    refused("  wgmma.fence\n", "", "W2");
    refused("block1(%17, %13, %14, %15, %16)", "block1(%17, %14, %13, %15, %16)", "W3");
    refused("%13, %14, %15, %16 {n=0}", "%13, %14, %15, %16 {n=1}", "W4");
}

#[test]
fn lane_ir_is_verified() {
    refused("iadd %8, %3", "iadd %8, %0", "operand 1 has type i64");
    refused("st %23, %19, %20", "st %23, %24, %20", "%24 is used but never defined");
    refused("wgmma.wait %13, %14", "wgmma.wait %25, %14", "never defined");
    refused("iadd %8, %3", "iadd %8, %17", "not defined on every path");
    refused("{n=8, dtype=bf16", "{n=12, dtype=bf16", "n = 12");
    refused("{pred=slt}", "", "attribute `pred` is missing");
    refused("block1(%17, %13, %14, %15, %16), block2()", "block1(%17, %13), block2()", "do not fit its parameters");
    refused("param {index=0}", "param {index=1}", "no parameter 1");
    refused("target sm_90a", "target sm_80", "needs compute capability 90");
    refused("  wgmma.commit\n", "  wgmma.comit\n", "line 18: unknown instruction `wgmma.comit`");
    refused("condbr %18", "condbr %8", "not a predicate");
}

#[test]
fn pairs_of_bf16_are_added_from_hopper_on() {
    let text = |target: &str, dtype: &str| {
        format!(
            "lane @k target {target} threads 32 cluster 1 1 1 min_ctas 1 smem 0\nsource 0 \"k.rs\"\nblock0():\n  \
             %0:i32 = tid.x @0:1\n  %1:i32 = add.x2 %0, %0 {{dtype={dtype}}} @0:2\n  ret\nend\n"
        )
    };
    let verify = |target, dtype| lane::verify(&lane::parse(&text(target, dtype)).unwrap()).map_err(|e| e.to_string());
    verify("sm_90a", "bf16").unwrap();
    verify("sm_80", "f16").unwrap();
    let e = verify("sm_80", "bf16").unwrap_err();
    assert!(e.contains("need compute capability 90"), "{e}");
}

#[test]
fn a_layout_mismatch_prints_both_layouts() {
    let mut k = KernelBuilder::new("mismatch", Arch::Sm90a);
    k.role("main", 4, None, Unit::Warpgroup, |r| {
        let zero = r.float(0.0);
        let [a, b] = [64, 128].map(|n| RegTile { dtype: DType::F32, shape: [64, 64], layout: wgmma_acc(64, n, 1).unwrap() });
        let (a, b) = (r.splat(zero, a), r.splat(zero, b));
        r.binary("add", a, b);
    });
    let e = prepare(k.finish()).unwrap_err().to_string();
    assert!(e.contains("tests/rules.rs:") && e.contains("8*col8") && e.contains("16*col8"), "{e}");
}

#[test]
fn too_much_shared_memory_is_refused_with_the_plan() {
    let mut k = KernelBuilder::new("large", Arch::Sm80);
    k.buffer("ring", DType::BF16, [256, 64], 8);
    k.role("main", 4, None, Unit::Role, |_| {});
    let e = prepare(k.finish()).unwrap_err();
    assert!(matches!(e, PassError::SmemOverflow { need: 262144, .. }), "{e}");
    assert!(e.to_string().contains("ring 262144"));
}

#[test]
fn registers_that_cannot_fit_are_refused_before_llvm() {
    let mut k = KernelBuilder::new("fat", Arch::Sm90a);
    k.role("math", 12, Some(168), Unit::Warpgroup, |r| {
        r.wgmma_acc([128, 256]).unwrap();
    });
    let e = lower(k.finish()).unwrap_err().to_string();
    assert!(e.contains("role math holds 256 registers of tiles"), "{e}");
}

#[test]
fn names_that_do_not_exist_are_refused() {
    let mut k = KernelBuilder::new("names", Arch::Sm80);
    let x = k.tensor("x", DType::F32, [Dim::param("n")]);
    k.role("main", 4, None, Unit::Role, |r| {
        let at = r.int(0);
        r.load_blocked(&x, [1, 512], &[at], &[1], 4);
    });
    let text = k.finish().to_string().replace("tensor=x", "tensor=y");
    let e = tile::verify(&tile::parse(&text).unwrap()).unwrap_err().to_string();
    assert!(e.contains("there is no tensor `y`"), "{e}");
}
