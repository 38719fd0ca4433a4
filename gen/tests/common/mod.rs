//! What the command-line tests share: tensors in files, the reference, running the binary.

pub mod attention;
pub mod emulation;
pub mod weight;

use assert_cmd::Command;
use half::bf16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::path::{Path, PathBuf};
use tilewright_runtime::fp8::Fp8;

/// The workspace, where library.toml is.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The binary, in a folder.
pub fn gen_in(folder: &Path, args: &[&str]) -> std::process::Output {
    Command::cargo_bin("gen").unwrap().current_dir(folder).args(args).output().unwrap()
}

/// Exit status and the last line of stderr.
pub fn outcome(o: &std::process::Output) -> (i32, String) {
    let text = String::from_utf8_lossy(&o.stderr).into_owned();
    (o.status.code().unwrap_or(-1), text.lines().last().unwrap_or_default().to_string())
}

/// Numbers in -1..1 that bf16 holds, the same in every run.
pub fn random(n: usize, seed: u64) -> Vec<f64> {
    let mut s = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..n)
        .map(|_| {
            s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bf16::from_f64((s >> 40) as f64 / f64::from(1 << 23) - 1.0).to_f64()
        })
        .collect()
}

pub fn bf16_bytes(v: &[f64]) -> Vec<u8> {
    v.iter().flat_map(|x| bf16::from_f64(*x).to_le_bytes()).collect()
}

/// Writes tensors: name, dtype, shape, bytes.
pub fn save(path: &Path, tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) {
    let views = tensors.iter().map(|(n, d, s, b)| (n.to_string(), TensorView::new(*d, s.clone(), b).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Reads one tensor as numbers.
pub fn load(path: &Path, name: &str) -> (Vec<usize>, Vec<f64>) {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let t = file.tensor(name).unwrap();
    let values = match t.dtype() {
        Dtype::BF16 => t.data().chunks(2).map(|c| bf16::from_le_bytes([c[0], c[1]]).to_f64()).collect(),
        Dtype::F16 => t.data().chunks(2).map(|c| half::f16::from_le_bytes([c[0], c[1]]).to_f64()).collect(),
        Dtype::I32 => t.data().chunks(4).map(|c| f64::from(i32::from_le_bytes([c[0], c[1], c[2], c[3]]))).collect(),
        Dtype::F32 => t.data().chunks(4).map(|c| f64::from(f32::from_le_bytes([c[0], c[1], c[2], c[3]]))).collect(),
        Dtype::F8_E4M3 => t.data().iter().map(|b| f64::from(Fp8::E4M3.decode(*b))).collect(),
        Dtype::I8 => t.data().iter().map(|b| f64::from(*b as i8)).collect(),
        other => panic!("{other:?}"),
    };
    (t.shape().to_vec(), values)
}
