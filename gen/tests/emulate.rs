//! `gen emulate` on PTX that is not ours, `gen list` and `gen show`.

use crate::common::*;
use safetensors::tensor::Dtype;

const SAXPY: &str = "\
.version 8.0
.target sm_80
.address_size 64
.visible .entry saxpy(.param .u64 x, .param .u64 y, .param .f32 a, .param .u32 n)
{
  .reg .pred %p<2>;
  .reg .b32 %r<6>;
  .reg .f32 %f<5>;
  .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [x];
  ld.param.u64 %rd2, [y];
  ld.param.f32 %f1, [a];
  ld.param.u32 %r1, [n];
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %ntid.x;
  mov.u32 %r4, %tid.x;
  mad.lo.s32 %r5, %r2, %r3, %r4;
  setp.ge.u32 %p1, %r5, %r1;
  @%p1 bra done;
  cvta.to.global.u64 %rd3, %rd1;
  cvta.to.global.u64 %rd4, %rd2;
  mul.wide.u32 %rd5, %r5, 4;
  add.s64 %rd6, %rd3, %rd5;
  add.s64 %rd7, %rd4, %rd5;
  ld.global.f32 %f2, [%rd6];
  fma.rn.f32 %f4, %f2, %f1, 0f3F800000;
  st.global.f32 [%rd7], %f4;
done:
  ret;
}
";

const LAUNCH: &str = r#"{"entry":"saxpy","grid":[2,1,1],"block":[32,1,1],
 "args":[{"tensor":"x"},{"tensor":"y"},{"f32":2.0},{"i32":50}],
 "alloc":{"y":{"dtype":"F32","shape":[64]}},"outputs":["y"]}"#;

struct Run {
    dir: tempfile::TempDir,
    code: i32,
    line: String,
}

fn emulate(ptx: &str, launch: &str, elements: usize) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    std::fs::write(at("k.ptx"), ptx).unwrap();
    std::fs::write(at("launch.json"), launch).unwrap();
    let x: Vec<u8> = (0..elements).flat_map(|i| (i as f32).to_le_bytes()).collect();
    save(at("in").as_ref(), &[("x", Dtype::F32, vec![elements], x)]);
    let o = gen_in(
        &root(),
        &[
            "emulate",
            &at("k.ptx"),
            "--launch",
            &at("launch.json"),
            "--input",
            &at("in"),
            "--output",
            &at("out"),
            "--report",
            &at("report"),
            "--schedules",
            "2",
        ],
    );
    let (code, line) = outcome(&o);
    Run { dir, code, line }
}

#[test]
fn foreign_ptx_runs_and_unwritten_bytes_are_counted() {
    let r = emulate(SAXPY, LAUNCH, 50);
    assert_eq!(r.code, 0, "{}", r.line);
    let (shape, y) = load(&r.dir.path().join("out"), "y");
    assert_eq!(shape, [64]);
    assert!((0..50).all(|i| y[i] == 2.0 * i as f64 + 1.0), "{y:?}");
    assert!(y[50..].iter().all(|v| (*v as f32).to_bits() == 0xCCCC_CCCC));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(r.dir.path().join("report")).unwrap()).unwrap();
    assert_eq!(report["unwritten"]["y"], 14 * 4);
    assert!(report["counters"]["warp_instructions"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn a_fault_is_found_reported_and_nothing_is_written() {
    let r = emulate(SAXPY, LAUNCH, 40);
    assert_eq!(r.code, 1, "{}", r.line);
    assert!(r.line.contains("oob") && r.line.contains("line 25"), "{}", r.line);
    assert!(!r.dir.path().join("out").exists());
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(r.dir.path().join("report")).unwrap()).unwrap();
    assert_eq!(report["findings"][0]["kind"], "oob");
    assert_eq!(report["findings"][0]["line"], 25);
}

#[test]
fn a_finding_names_the_source_line_where_the_text_has_one() {
    // Compilers print `.file` after the code that refers to it.
    let ptx = SAXPY.replace("  ld.global.f32", "  .loc 1 42 0\n  ld.global.f32") + ".file 1 \"src/saxpy.rs\"\n";
    let r = emulate(&ptx, LAUNCH, 40);
    assert!(r.code == 1 && r.line.contains("src/saxpy.rs:42"), "{}", r.line);
}

#[test]
fn what_is_wrong_with_the_files_is_said_in_a_line() {
    let cases: [(String, String, &str); 6] = [
        (SAXPY.replace("fma.rn.f32 %f4", "fmaa.rn.f32 %f4"), LAUNCH.into(), "line 26: unknown instruction `fmaa.rn.f32`"),
        (SAXPY.replace("ret;\n}", "ret;"), LAUNCH.into(), "line "),
        (SAXPY.into(), LAUNCH.replace("\"saxpy\"", "\"axpy\""), "axpy"),
        (SAXPY.into(), LAUNCH.replace("{\"i32\":50}", "{\"u64\":50}"), "launch.json"),
        (SAXPY.into(), LAUNCH.replace("{\"tensor\":\"y\"}", "{\"tensor\":\"z\"}"), "there is no tensor `z`"),
        (SAXPY.into(), LAUNCH.replace("\"grid\"", "\"gird\""), "gird"),
    ];
    for (ptx, launch, words) in cases {
        let r = emulate(&ptx, &launch, 50);
        assert!(r.code == 2 && r.line.contains(words), "`{words}` is not in: {} {}", r.code, r.line);
        assert!(!r.dir.path().join("out").exists());
    }
}

#[test]
fn list_and_show_say_what_there_is() {
    let o = gen_in(&root(), &["list", "--json"]);
    let v: serde_json::Value = serde_json::from_slice(&o.stdout).unwrap();
    assert_eq!(v["ops"][0]["op"], "gemm");
    let plans = |t: &str| v["ops"][0]["targets"][t]["plans"].as_array().unwrap().len();
    assert!(plans("sm90") >= 12 && plans("sm80") >= 6);
    let o = gen_in(&root(), &["show", "gemm_bf16_bf16_nk_wgmma_128x256*", "--target", "sm90", "--level", "tile,lane,llvm,ptx"]);
    let text = String::from_utf8_lossy(&o.stdout).into_owned();
    assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
    for words in ["pipe ab: stages 4", "wgmma.ss", "define ptx_kernel void", ".visible .entry", "templates/src/gemm/wgmma/mod.rs"]
    {
        assert!(text.contains(words), "`{words}` is not shown");
    }
    let report = gen_in(&root(), &["show", "gemm_bf16_bf16_nk_wgmma_128x256*", "--target", "sm90", "--level", "report"]);
    match report.status.success() {
        true => {
            let text = String::from_utf8_lossy(&report.stdout).into_owned();
            for words in ["multiplies", "HGMMA.64x256x16.F32.BF16", "shared_loads", "a multiply"] {
                assert!(text.contains(words), "`{words}` is not shown: {text}");
            }
        }
        false => {
            let why = String::from_utf8_lossy(&report.stderr).into_owned();
            assert!(why.contains("ptxas") || why.contains("nvdisasm"), "{why}");
            eprintln!("skipped: {why}");
        }
    }
    let (code, line) = outcome(&gen_in(&root(), &["show", "x", "--target", "sm90", "--level", "bytecode"]));
    assert!(code == 2 && line.contains("bytecode"), "{line}");
}
