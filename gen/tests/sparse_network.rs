//! `gen run sparse_network`: from a piece of a scan to features, as one plan.

use crate::common::{gen_in, load, outcome, save};
use half::f16;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use std::fs;
use std::path::Path;

/// Name, dtype, shape, bytes.
type Entry = (&'static str, Dtype, Vec<usize>, Vec<u8>);
type Given = Vec<Entry>;

/// Layers of the network `second`: name, taps, channels in and out.
const LAYERS: [(&str, usize, usize, usize); 12] = [
    ("conv0.0", 27, 4, 16),
    ("conv0.1", 27, 16, 16),
    ("conv1.0", 27, 16, 32),
    ("conv1.1", 27, 32, 32),
    ("conv1.2", 27, 32, 32),
    ("conv2.0", 27, 32, 64),
    ("conv2.1", 27, 64, 64),
    ("conv2.2", 27, 64, 64),
    ("conv3.0", 27, 64, 64),
    ("conv3.1", 27, 64, 64),
    ("conv3.2", 27, 64, 64),
    ("conv4", 3, 64, 128),
];

fn f16s(v: &[f64]) -> Vec<u8> {
    v.iter().flat_map(|x| f16::from_f64(*x).to_le_bytes()).collect()
}

fn f32s(v: &[f64]) -> Vec<u8> {
    v.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect()
}

/// A piece of a simulated scan, and weights.
fn input(folder: &Path, voxels: &str) -> Given {
    let args = ["scene", "--sensor", "hdl32", "--voxel", "0.1", "--crop", voxels, "--output", "scene.safetensors"];
    let o = gen_in(folder, &args);
    assert_eq!(outcome(&o).0, 0, "{}", outcome(&o).1);
    let bytes = fs::read(folder.join("scene.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut list: Given = Vec::new();
    for name in ["coords", "features"] {
        let t = file.tensor(name).unwrap();
        list.push((name, t.dtype(), t.shape().to_vec(), t.data().to_vec()));
    }
    for (i, (name, taps, cin, cout)) in LAYERS.into_iter().enumerate() {
        let part = |part: &str| -> &'static str { format!("{name}.{part}").leak() };
        let scale = 3.0 / ((taps * cin) as f64).sqrt();
        let weight: Vec<f64> = crate::common::random(taps * cin * cout, i as u64 + 1).iter().map(|w| w * scale).collect();
        list.push((part("weight"), Dtype::F16, vec![taps, cin, cout], f16s(&weight)));
        let scale: Vec<f64> = crate::common::random(cout, i as u64 + 50).iter().map(|s| 0.75 + 0.25 * s).collect();
        list.push((part("bn_scale"), Dtype::F32, vec![cout], f32s(&scale)));
        list.push((part("bn_shift"), Dtype::F32, vec![cout], f32s(&crate::common::random(cout, i as u64 + 90))));
    }
    list
}

const RUN: [&str; 7] = ["run", "sparse_network", "--target", "sm90", "--output", "out.safetensors", "--set"];

#[test]
fn a_piece_of_a_scan_goes_through_second() {
    let dir = tempfile::tempdir().unwrap();
    save(&dir.path().join("in.safetensors"), &input(dir.path(), "50"));
    let more = ["network=second", "--input", "in.safetensors", "--report", "r.json"];
    let o = gen_in(dir.path(), &[&RUN[..], &more].concat());
    assert_eq!(outcome(&o).0, 0, "{}", String::from_utf8_lossy(&o.stderr));
    let (rows, features) = load(&dir.path().join("out.safetensors"), "features_out");
    let (coords, _) = load(&dir.path().join("out.safetensors"), "coords_out");
    assert_eq!((rows[1], coords), (128, vec![rows[0], 4]));
    assert!(features.iter().any(|f| *f > 0.1), "features are alive");
    let report: serde_json::Value = serde_json::from_slice(&fs::read(dir.path().join("r.json")).unwrap()).unwrap();
    assert_eq!(report["verified_against"]["reference"], "f64", "{report}");
    assert_eq!(report["findings"], serde_json::json!([]));
    assert_eq!(report["levels"].as_array().map(Vec::len), Some(5));
    assert_eq!(report["levels"][0], 50);
}

#[test]
fn refusals_name_the_tensor_or_key() {
    let dir = tempfile::tempdir().unwrap();
    let whole = input(dir.path(), "20");
    let told = |given: &Given, keys: &[&str], part: &str| {
        save(&dir.path().join("in.safetensors"), given);
        let keys: Vec<&str> = keys.iter().flat_map(|k| ["--set", k]).collect();
        let o = gen_in(dir.path(), &[&RUN[..6], &["--input", "in.safetensors"], &keys].concat());
        let (code, line) = outcome(&o);
        assert!(code == 2 && line.contains(part), "{code} {line}");
    };
    let second = ["network=second"];
    told(&whole, &[], "key `network` is missing");
    told(&whole, &["network=resnet"], "expected one of minkunet_w1, minkunet_w05, centerpoint, second");
    told(&whole, &["network=second", "choice=implicit"], "expected DATAFLOW/CONFIG");
    let without: Given = whole.iter().filter(|t| t.0 != "conv1.1.bn_shift").cloned().collect();
    told(&without, &second, "tensor `conv1.1.bn_shift` is missing");
    let changed = |name: &str, change: &dyn Fn(&mut Entry)| {
        let mut list = whole.clone();
        change(list.iter_mut().find(|t| t.0 == name).unwrap());
        list
    };
    told(&changed("conv1.1.weight", &|t| t.2 = vec![27, 16, 64]), &second, "`conv1.1.weight` is F16 [27, 16, 64]: expected");
    told(&changed("conv4.weight", &|t| t.0 = "conv5.weight"), &second, "unknown tensor `conv5.weight`");
    let twice = changed("coords", &|t| t.3.copy_within(0..16, 32));
    told(&twice, &second, "rows 0 and 2 are the same voxel");
}
