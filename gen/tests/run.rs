//! `gen run gemm` against f64, on ragged and random shapes, both targets, every epilogue.

use crate::common::*;
use half::bf16;
use safetensors::tensor::Dtype;

struct Case {
    target: &'static str,
    shape: [usize; 4],
    act: &'static str,
    bias: bool,
    residual: bool,
    kn: bool,
    f32_out: bool,
    extra: &'static [&'static str],
}

const PLAIN: Case = Case {
    target: "sm90",
    shape: [1, 1, 8, 8],
    act: "none",
    bias: false,
    residual: false,
    kn: false,
    f32_out: false,
    extra: &[],
};

fn act(name: &str, x: f64, up: f64) -> f64 {
    let silu = |x: f64| x / (1.0 + (-x).exp());
    match name {
        "relu" => x.max(0.0),
        "gelu" => 0.5 * x * (1.0 + (0.797_884_560_802_865_4 * (x + 0.044_715 * x * x * x)).tanh()),
        "silu" => silu(x),
        "swiglu" => silu(x) * up,
        _ => x,
    }
}

fn check(c: &Case) {
    let [batch, m, n, k] = c.shape;
    let wide = if c.act == "swiglu" { 2 * n } else { n };
    let (a, b) = (random(batch * m * k, 1), random(batch * wide * k, 2));
    let (bias, residual) = (random(wide, 3), random(batch * m * n, 4));
    let dir = tempfile::tempdir().unwrap();
    let (input, output, report) = (dir.path().join("in"), dir.path().join("out"), dir.path().join("report"));
    let lead = |mut s: Vec<usize>| {
        if batch > 1 {
            s.insert(0, batch);
        }
        s
    };
    let b_shape = if c.kn { vec![k, wide] } else { vec![wide, k] };
    let mut tensors =
        vec![("a", Dtype::BF16, lead(vec![m, k]), bf16_bytes(&a)), ("b", Dtype::BF16, lead(b_shape), bf16_bytes(&b))];
    if c.bias {
        tensors.push(("bias", Dtype::BF16, vec![wide], bf16_bytes(&bias)));
    }
    if c.residual {
        tensors.push(("residual", Dtype::BF16, lead(vec![m, n]), bf16_bytes(&residual)));
    }
    save(&input, &tensors);
    let path = |p: &std::path::Path| p.to_str().unwrap().to_string();
    let (i, o, r) = (path(&input), path(&output), path(&report));
    let act_key = format!("act={}", c.act);
    let mut args =
        vec!["run", "gemm", "--target", c.target, "--device", "emulator", "--input", &i, "--output", &o, "--report", &r];
    args.extend(["--set", &act_key, "--set", "alpha=0.5"]);
    if c.kn {
        args.extend(["--set", "b=kn"]);
    }
    if c.f32_out {
        args.extend(["--set", "out=f32"]);
    }
    for e in c.extra {
        args.extend(["--set", e]);
    }
    let out = gen_in(&root(), &args);
    let name = format!("{} {:?} {} kn={}", c.target, c.shape, c.act, c.kn);
    assert!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(0), "{name}: {report}");
    for key in ["kernel", "plan", "counters", "verified_against"] {
        assert!(!report[key].is_null(), "{name}: the report lacks {key}");
    }
    let (shape, found) = load(&output, "d");
    assert_eq!(shape, lead(vec![m, n]), "{name}");
    for z in 0..batch {
        for row in 0..m {
            for col in 0..n {
                let dot = |c_: usize| {
                    (0..k).fold((0.0, 0.0f32, 0.0), |(s, s32, mag), i| {
                        let w = if c.kn { b[(z * k + i) * wide + c_] } else { b[(z * wide + c_) * k + i] };
                        let p = a[(z * m + row) * k + i] * w;
                        (s + p, s32 + p as f32, mag + p.abs())
                    })
                };
                let part = |c_: usize| {
                    let (s, s32, mag) = dot(c_);
                    let add = if c.bias { bias[c_] } else { 0.0 };
                    (0.5 * s + add, 0.5 * f64::from(s32) + add, 0.5 * mag + add.abs())
                };
                let at = (z * m + row) * n + col;
                let ((x, x32, mx), (u, u32_, mu)) = (part(col), part(if wide > n { n + col } else { col }));
                let add = if c.residual { residual[at] } else { 0.0 };
                let want = act(c.act, x, u) + add;
                let low = act(c.act, x32, u32_) + add;
                let low = if c.f32_out { low } else { bf16::from_f64(low).to_f64() };
                let half_ulp = if c.f32_out { 2f64.powi(-24) } else { 2f64.powi(-8) };
                let scale = if c.act == "swiglu" { mx * (1.0 + mu) } else { mx };
                let bound = 2.0 * (low - want).abs() + want.abs() * half_ulp + (scale + add.abs()) * 2f64.powi(-20);
                assert!(
                    (found[at] - want).abs() <= bound,
                    "{name}: [{z}, {row}, {col}] is {}, expected {want} within {bound:e}",
                    found[at]
                );
            }
        }
    }
}

#[test]
fn the_smallest_and_ragged_shapes_on_both_targets() {
    for target in ["sm90", "sm80"] {
        for shape in [
            [1, 1, 8, 8],
            [1, 1, 1, 1],
            [1, 7, 3, 5],
            [1, 1, 520, 333],
            [1, 65, 129, 72],
            [1, 130, 264, 200],
            [3, 33, 40, 48],
            [2, 17, 31, 29],
        ] {
            check(&Case { target, shape, ..PLAIN });
        }
    }
}

#[test]
fn a_large_ragged_problem() {
    for target in ["sm90", "sm80"] {
        check(&Case { target, shape: [1, 777, 1000, 520], ..PLAIN });
    }
}

#[test]
fn every_epilogue() {
    for target in ["sm90", "sm80"] {
        for act in ["none", "relu", "gelu", "silu", "swiglu"] {
            check(&Case { target, act, bias: true, residual: true, shape: [1, 70, 136, 136], ..PLAIN });
            check(&Case { target, act, bias: true, shape: [2, 9, 37, 50], ..PLAIN });
        }
    }
}

#[test]
fn the_other_layout_of_b_and_f32_output() {
    for target in ["sm90", "sm80"] {
        for shape in [[1, 70, 136, 136], [1, 33, 45, 67], [2, 5, 16, 24]] {
            check(&Case { target, shape, kn: true, ..PLAIN });
            check(&Case { target, shape, f32_out: true, ..PLAIN });
        }
    }
}

#[test]
fn split_k_and_an_explicit_config() {
    for target in ["sm90", "sm80"] {
        check(&Case { target, shape: [1, 20, 72, 520], act: "silu", bias: true, extra: &["split_k=3"], ..PLAIN });
    }
    const CONFIG: &[&str] =
        &["config=bk=64,bm=64,bn=96,cluster=1x2,kind=wgmma,n_align=8,raster=4,schedule=pingpong,split=0,stages=5,wgs=2"];
    check(&Case { shape: [1, 300, 200, 520], extra: CONFIG, ..PLAIN });
}

#[test]
fn split_k_is_bit_identical_from_run_to_run() {
    let dir = tempfile::tempdir().unwrap();
    let (m, n, k) = (33, 40, 1000);
    let input = dir.path().join("in");
    save(
        &input,
        &[
            ("a", Dtype::BF16, vec![m, k], bf16_bytes(&random(m * k, 1))),
            ("b", Dtype::BF16, vec![n, k], bf16_bytes(&random(n * k, 2))),
        ],
    );
    let outputs: Vec<Vec<u8>> = (0..2)
        .map(|i| {
            let output = dir.path().join(format!("out{i}"));
            let args = [
                "run",
                "gemm",
                "--target",
                "sm90",
                "--set",
                "split_k=5",
                "--set",
                "out=f32",
                "--input",
                input.to_str().unwrap(),
                "--output",
                output.to_str().unwrap(),
            ];
            let o = gen_in(&root(), &args);
            assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
            std::fs::read(output).unwrap()
        })
        .collect();
    assert_eq!(outputs[0], outputs[1]);
}

/// Configs and shapes nobody chose: what the space allows must be right.
#[test]
fn random_configs_and_shapes() {
    let mut state = 7u64;
    let mut pick = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    for _ in 0..24 {
        let kn = pick(3) == 0;
        let act = ["none", "relu", "gelu", "silu", "swiglu"][pick(5) as usize];
        let gates = if act == "swiglu" { 2 } else { 1 };
        let cluster = ["1x1", "2x1", "1x2"][pick(3) as usize];
        let (target, config, n_align, k_align) = if pick(4) > 0 {
            let (bm, wgs, schedule) = [
                (64, 1, "coop"),
                (128, 2, "coop"),
                (192, 3, "coop"),
                (256, 2, "coop"),
                (64, 2, "pingpong"),
                (128, 2, "pingpong"),
            ][pick(6) as usize];
            let step = if kn { 16 * gates } else { 8 * gates };
            // Half a b tile must be whole 8-row patterns where two CTAs share it, and accumulators must fit.
            let bn = step * 2 * (1 + pick(if bm == 256 || bm == 128 { 3 } else { 4 }));
            let n_align = if kn { 8 } else { [1, 2, 8][pick(3) as usize] };
            let stages = 2 + pick(2);
            (
                "sm90",
                format!(
                    "config=bk=64,bm={bm},bn={bn},cluster={cluster},kind=wgmma,n_align={n_align},raster=8,schedule={schedule},split=0,stages={stages},wgs={wgs}"
                ),
                n_align,
                8,
            )
        } else {
            let (bm, bn, warps) = [(16, 64, "1x4"), (64, 64, "2x2"), (128, 128, "2x4"), (48, 96, "1x3")][pick(4) as usize];
            let load = 1 << pick(4);
            let n_align = if kn { load.min(2) } else { 1 + pick(2) };
            let config = format!(
                "config=bk=32,bm={bm},bn={bn},kind=mma,load_align={load},n_align={n_align},raster=8,split=0,stages=3,warps={warps}"
            );
            ("sm80", config, if kn { load } else { n_align }, load)
        };
        let up = |x: u64, to: u64| (x.div_ceil(to) * to) as usize;
        let shape = [1 + pick(2) as usize, 1 + pick(150) as usize, up(1 + pick(150), n_align), up(1 + pick(300), k_align)];
        let extra: &'static [&'static str] = Box::leak(Box::new([&*Box::leak(config.into_boxed_str())]));
        let f32_out = pick(4) == 0;
        check(&Case { target, shape, act, bias: pick(2) == 0, residual: !f32_out && pick(2) == 0, kn, f32_out, extra });
    }
}
