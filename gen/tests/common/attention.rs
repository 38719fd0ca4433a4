//! Attention written down from its definition, for tests that look at what `gen run` gave.

use super::*;
use half::f16;

/// One query of one head over the keys it sees.
pub struct Row {
    pub o: Vec<f64>,
    pub lse: f64,
    /// Weighted mean of |v|: what rounding the weights is relative to.
    pub size: Vec<f64>,
}

/// Scores, softmax, values: `keys` gives k, v and what is added to the score; a sink adds to the denominator.
pub fn row(q: &[f64], keys: &[(&[f64], &[f64], f64)], dv: usize, scale: f64, softcap: f64, sink: Option<f64>) -> Row {
    let scores: Vec<f64> = keys
        .iter()
        .map(|(k, _, add)| {
            let s = scale * q.iter().zip(*k).map(|(a, b)| a * b).sum::<f64>();
            (if softcap > 0.0 { softcap * (s / softcap).tanh() } else { s }) + add
        })
        .collect();
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if keys.is_empty() {
        return Row { o: vec![0.0; dv], lse: f64::NEG_INFINITY, size: vec![0.0; dv] };
    }
    let p: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
    let sum: f64 = p.iter().sum();
    let all = sum + sink.map_or(0.0, |s| (s - max).exp());
    let over = |f: &dyn Fn(f64) -> f64| -> Vec<f64> {
        (0..dv).map(|c| p.iter().zip(keys).map(|(p, k)| p * f(k.1[c])).sum::<f64>() / all).collect()
    };
    Row { o: over(&|x| x), lse: max + sum.ln(), size: over(&f64::abs) }
}

/// Compares a row: weights and output are rounded to a dtype with `unit` relative error each.
pub fn close(name: &str, at: &str, found: &[f64], lse: f64, want: &Row, unit: f64) {
    for (c, x) in found.iter().enumerate() {
        let bound = unit * (want.size[c] + 2.0 * want.o[c].abs()) + 1e-4 * want.size[c];
        assert!((x - want.o[c]).abs() <= bound, "{name}: o{at}[{c}] is {x}, expected {} within {bound:e}", want.o[c]);
    }
    let same = lse == want.lse || (lse - want.lse).abs() <= 1e-4 * (1.0 + want.lse.abs());
    assert!(same, "{name}: lse{at} is {lse}, expected {}", want.lse);
}

/// An element type of q, k, v.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kind {
    pub dtype: Dtype,
    pub unit: f64,
}

pub const BF16: Kind = Kind { dtype: Dtype::BF16, unit: 1.0 / 256.0 };
pub const F16: Kind = Kind { dtype: Dtype::F16, unit: 1.0 / 2048.0 };

impl Kind {
    /// Numbers in -size..size that the dtype holds, and their bytes.
    pub fn random(self, n: usize, size: f64, seed: u64) -> (Vec<f64>, Vec<u8>) {
        let wide = random(n, seed).into_iter().map(|x| x * size);
        if self.dtype == Dtype::BF16 {
            let v: Vec<f64> = wide.map(|x| bf16::from_f64(x).to_f64()).collect();
            let bytes = bf16_bytes(&v);
            (v, bytes)
        } else {
            let v: Vec<f64> = wide.map(|x| f16::from_f64(x).to_f64()).collect();
            let bytes = v.iter().flat_map(|x| f16::from_f64(*x).to_le_bytes()).collect();
            (v, bytes)
        }
    }
}

pub fn f32_bytes(v: &[f64]) -> Vec<u8> {
    v.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect()
}

pub fn i32_bytes(v: &[i32]) -> Vec<u8> {
    v.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// A tensor of a file: name, dtype, shape, bytes.
pub type Named = (&'static str, Dtype, Vec<usize>, Vec<u8>);

/// Runs an op in the emulator; gives the folder with `out`, and the report.
pub fn run(op: &str, target: &str, tensors: &[Named], set: &[String]) -> (tempfile::TempDir, serde_json::Value) {
    let dir = tempfile::tempdir().unwrap();
    let path = |n: &str| dir.path().join(n).to_str().unwrap().to_string();
    save(&dir.path().join("in"), tensors);
    let (input, output, report) = (path("in"), path("out"), path("report"));
    let mut args = vec!["run", op, "--target", target, "--input", &input, "--output", &output, "--report", &report];
    set.iter().for_each(|s| args.extend(["--set", s]));
    let o = gen_in(&root(), &args);
    let told = String::from_utf8_lossy(&o.stderr).into_owned();
    assert!(o.status.success(), "{op} {target} {set:?}: {told}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    // Lints speak of speed; whatever is wrong is an error.
    let lint = |f: &serde_json::Value| f["severity"] == "lint" && f["kind"] == "uncoalesced";
    assert!(report["findings"].as_array().is_some_and(|f| f.iter().all(lint)), "{op} {target} {set:?}: {told}");
    assert!(report["kernel"].as_array().is_some_and(|k| !k.is_empty()) && report["plan"].is_string());
    assert!(report["verified_against"]["reference"] == "f64", "{op} {target} {set:?}: {}", report["verified_against"]);
    (dir, report)
}

/// The output of a run.
pub fn output(dir: &tempfile::TempDir, name: &str) -> (Vec<usize>, Vec<f64>) {
    load(&dir.path().join("out"), name)
}
