//! `gen run gemm_pack`, and multiplication by what it gives: a weight packed once is the weight it was packed from.

use crate::common::weight::{Entry, Kind, Numbers};
use crate::common::*;
use half::f16;
use safetensors::tensor::{Dtype, SafeTensors};
use std::path::Path;

fn run(op: &str, folder: &Path, input: &str, output: &str, set: &[String]) -> serde_json::Value {
    let file = |name: &str| folder.join(name).to_str().unwrap().to_string();
    let (i, o, r) = (file(input), file(output), file("report"));
    let mut args = vec!["run", op, "--target", "sm90", "--input", &i, "--output", &o, "--report", &r];
    set.iter().for_each(|s| args.extend(["--set", s]));
    let out = gen_in(&root(), &args);
    assert!(out.status.success(), "{op} {set:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&std::fs::read(r).unwrap()).unwrap()
}

/// Packs, multiplies by the packed weight both ways and directly from the source: one result, bit for bit.
fn check(w: &Numbers, tensors: Vec<Entry>, m: usize, set: &[&str], act: &str) {
    let dir = tempfile::tempdir().unwrap();
    let keys = |more: &[String]| set.iter().map(|s| s.to_string()).chain(more.iter().cloned()).collect::<Vec<_>>();
    let bytes = |v: &[f64]| v.iter().flat_map(|x| f16::from_f64(*x).to_le_bytes()).collect::<Vec<u8>>();
    save(&dir.path().join("source"), &tensors);
    let report = run("gemm_pack", dir.path(), "source", "packed", &keys(&[format!("act={act}"), "dtype=f16".into()]));
    let verdict = &report["verified_against"];
    assert_eq!(verdict["reference"], "packed on the host", "{report}");
    let file = std::fs::read(dir.path().join("packed")).unwrap();
    let packed = SafeTensors::deserialize(&file).unwrap();
    assert_eq!(packed.names().contains(&"perm"), !w.g_idx.is_sorted());
    let a: Entry = ("a", Dtype::F16, vec![m, w.k], bytes(&random(m * w.k, 4)));
    let mut all: Vec<Entry> = tensors;
    all.push(a.clone());
    save(&dir.path().join("direct"), &all);
    let mut all = vec![a];
    for name in ["packed", "perm"] {
        if let Ok(t) = packed.tensor(name) {
            all.push((name, t.dtype(), t.shape().to_vec(), t.data().to_vec()));
        }
    }
    save(&dir.path().join("once"), &all);
    let told = &verdict["keys"];
    let mut said: Vec<String> = ["bits", "group", "zero", "n"].iter().map(|k| format!("{k}={}", told[k])).collect();
    said.extend(["weight=packed".to_string(), format!("act={act}")]);
    for path in ["packed", "dequantised"] {
        let path = format!("path={path}");
        run("gemm", dir.path(), "direct", "d1", &keys(&[format!("act={act}"), path.clone()]));
        said.push(path);
        let report = run("gemm", dir.path(), "once", "d2", &said);
        assert_eq!(report["verified_against"]["reference"], "f64");
        said.pop();
        assert_eq!(load(&dir.path().join("d1"), "d"), load(&dir.path().join("d2"), "d"), "{set:?}");
    }
}

#[test]
fn a_weight_packed_once_is_the_weight() {
    let w = Numbers::new(4, [72, 256, 128], Kind::Random, true, 1);
    check(&w, w.awq(), 5, &["weight=awq"], "none");
    let w = Numbers::new(4, [48, 192, 64], Kind::Extreme, true, 2).dealt();
    check(&w, w.gptq(1), 3, &["weight=gptq"], "none");
    let w = Numbers::new(8, [40, 96, 32], Kind::Random, true, 3).dealt();
    check(&w, w.gptq(2), 9, &["weight=gptq", "gptq_version=2"], "none");
    let w = Numbers::new(8, [2 * 24, 136, 136], Kind::Constant, false, 4);
    check(&w, w.raw(false, false), 2, &["weight=int8"], "swiglu");
}
