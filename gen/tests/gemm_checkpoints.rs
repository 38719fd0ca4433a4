//! AWQ and GPTQ checkpoints that public packages made: the weights that come out are theirs, bit for bit. Multiplied by the
//! identity, so that both ways of multiplying show them.

use crate::common::*;
use half::f16;
use safetensors::tensor::{Dtype, SafeTensors};

/// Weights `[n, k]` of a layer, through `gen run gemm` on an identity of F16.
fn check(file: &str, layer: &str, set: &[&str], path: &str) {
    let what = format!("{file} {layer} {path}");
    let bytes = std::fs::read(root().join("tests/fixtures/quantised").join(file)).unwrap();
    let fixture = SafeTensors::deserialize(&bytes).unwrap();
    let weight = fixture.tensor(&format!("{layer}.weight")).unwrap();
    let [n, k] = weight.shape()[..] else { panic!("{what}") };
    let want: Vec<f64> = weight.data().chunks(2).map(|c| f16::from_le_bytes([c[0], c[1]]).to_f64()).collect();
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in"), dir.path().join("out"));
    // The whole checkpoint with the identity beside it: the prefix picks the layer.
    let names = fixture.names();
    let mut tensors: Vec<_> = names
        .iter()
        .map(|name| {
            let t = fixture.tensor(name).unwrap();
            (*name, t.dtype(), t.shape().to_vec(), t.data().to_vec())
        })
        .collect();
    let one = |i: usize| f16::from_f32(if i / k == i % k { 1.0 } else { 0.0 }).to_le_bytes();
    tensors.push(("a", Dtype::F16, vec![k, k], (0..k * k).flat_map(one).collect()));
    save(&input, &tensors);
    let (i, o, prefix) = (input.to_str().unwrap(), output.to_str().unwrap(), format!("prefix={layer}."));
    let path = format!("path={path}");
    let mut args = vec!["run", "gemm", "--target", "sm90", "--input", i, "--output", o, "--set", &prefix, "--set", &path];
    set.iter().for_each(|s| args.extend(["--set", s]));
    let out = gen_in(&root(), &args);
    assert!(out.status.success(), "{what}: {}", String::from_utf8_lossy(&out.stderr));
    let (shape, d) = load(&output, "d");
    assert_eq!(shape, [k, n], "{what}");
    for i in 0..n * k {
        assert!(d[i % k * n + i / k] == want[i], "{what}: weight {i} is {}, not {}", d[i % k * n + i / k], want[i]);
    }
}

#[test]
fn awq_layers_are_autoawq_s() {
    for layer in ["g128", "g32", "gk"] {
        check("awq.safetensors", layer, &["weight=awq"], "dequantised");
        check("awq.safetensors", layer, &["weight=awq"], "packed");
    }
}

#[test]
fn gptq_layers_of_version_1_are_auto_gptq_s() {
    for layer in ["g128", "order", "byte", "byte_order"] {
        check("gptq_v1.safetensors", layer, &["weight=gptq"], "dequantised");
        check("gptq_v1.safetensors", layer, &["weight=gptq", "gptq_version=1"], "packed");
    }
}

#[test]
fn gptq_layers_of_version_2_are_gptqmodel_s() {
    for layer in ["g64", "order", "byte"] {
        check("gptq_v2.safetensors", layer, &["weight=gptq", "gptq_version=2"], "dequantised");
        check("gptq_v2.safetensors", layer, &["weight=gptq", "gptq_version=2"], "packed");
    }
}
