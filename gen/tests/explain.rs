//! `gen explain`: what is chosen for a problem, and for each group of a network from a scene or from its statistics.

use crate::common::attention::i32_bytes;
use crate::common::*;
use safetensors::tensor::Dtype;
use serde_json::Value;
use std::path::Path;

/// A curved sheet of voxels.
fn scene(path: &Path) -> usize {
    let at = |x: i32, y: i32| [0, x, y, ((x * x + y * y) / 24) % 11 - 3];
    let coords: Vec<i32> = (-12..12).flat_map(|x| (-12..12).flat_map(move |y| at(x, y))).collect();
    save(path, &[("coords", Dtype::I32, vec![coords.len() / 4, 4], i32_bytes(&coords))]);
    coords.len() / 4
}

fn explain(args: &[&str]) -> std::process::Output {
    let mut all = vec!["explain", "sparse_network"];
    all.extend(args);
    gen_in(&root(), &all)
}

fn text(o: &std::process::Output) -> String {
    assert_eq!(o.status.code(), Some(0), "{}", String::from_utf8_lossy(&o.stderr));
    String::from_utf8_lossy(&o.stdout).into_owned()
}

#[test]
fn a_scene_is_explained_and_its_statistics_and_record_say_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (input, work, record) = (at("scene"), at("work.json"), at("record.json"));
    let n = scene(Path::new(&input));
    let network = ["--set", "network=minkunet_w05", "--set", "dtype=bf16"];
    let json: Value = {
        let out =
            explain(&[&network[..], &["--input", &input, "--save-work", &work, "--save-record", &record, "--json"]].concat());
        serde_json::from_str(&text(&out)).unwrap()
    };
    let e = &json["explanation"];
    let groups = e["groups"].as_array().unwrap();
    // Five levels with 3x3x3 maps and as many with one tap, four maps between levels.
    assert_eq!(groups.len(), 14);
    let first = &groups[0];
    assert_eq!((first["n"].as_u64(), first["m"].as_u64(), first["taps"].as_u64()), (Some(n as u64), Some(n as u64), Some(27)));
    let sum = |key: &str| groups.iter().map(|g| g["times"][key].as_f64().unwrap()).sum::<f64>();
    let (all, maps) = (e["total"]["all_us"].as_f64().unwrap(), e["total"]["map_us"].as_f64().unwrap());
    assert!((sum("all_us") + e["copies_us"].as_f64().unwrap() - all).abs() < 1e-3 && (sum("map_us") - maps).abs() < 1e-3);
    assert_eq!((json["chosen_by"].as_str(), json["fitted"].as_bool()), (Some("model"), Some(false)));
    // The counts alone, and what was recorded, lead to the same.
    let again = text(&explain(&["--work", &work, "--json"]));
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap(), json);
    let recorded = text(&explain(&["--work", &work, "--record", &record]));
    let chosen = |t: &str| t.lines().filter(|l| l.trim().starts_with("chosen ")).map(str::to_string).collect::<Vec<_>>();
    let plain = text(&explain(&["--work", &work]));
    assert!(recorded.contains("the record says") && chosen(&plain).len() == 15);
    assert_eq!(chosen(&recorded)[1..], chosen(&plain)[1..]);
    for word in
        ["submanifold k3 on level 0", "rows a pair in tiles of", ", back:", "waits for", "passed over", "with the maps at hand"]
    {
        assert!(plain.contains(word), "`{word}` is not in:\n{plain}");
    }
    // Another device has other kernels and no use for the record.
    let ampere = text(&explain(&["--work", &work, "--device-profile", "A100"]));
    assert!(ampere.contains(" on A100") && !chosen(&ampere).iter().any(|c| c.contains("wgmma")));
    let (code, line) = outcome(&explain(&["--work", &work, "--device-profile", "a100", "--record", &record]));
    assert!(code == 2 && line.contains("record.json: the record is of another device: H200, not A100"), "{line}");
    let no_atomics = text(&explain(&["--work", &work, "--set", "deterministic=true", "--json"]));
    assert!(!no_atomics.contains("\"choice\":\"fetch_on_demand_fused") && no_atomics.contains("atomics sum in any order"));
}

#[test]
fn what_cannot_be_explained_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (input, other) = (at("scene"), at("other"));
    scene(Path::new(&input));
    save(Path::new(&other), &[("coords", Dtype::I32, vec![2, 4], i32_bytes(&[0, 1, 2, 3, 0, 1, 2, 3]))]);
    let refused = |args: &[&str], words: &str| {
        let out = explain(args);
        let (code, line) = outcome(&out);
        assert!(code == 2 && line.contains(words) && out.stdout.is_empty(), "{args:?}: {line}");
    };
    refused(&["--input", &input], "key `network` is missing: one of minkunet_w1");
    refused(&["--input", &input, "--set", "network=resnet"], "network = `resnet`: expected one of minkunet_w1");
    refused(&["--input", &input, "--set", "network=none.toml"], "none.toml: No such file");
    refused(&["--input", &input, "--set", "network=second", "--set", "dtype=f64"], "dtype = `f64`: expected f16, bf16 or f32");
    refused(&["--input", &input, "--set", "net=second"], "unknown key `net`");
    refused(&["--input", &input, "--set", "network=second", "--device-profile", "v100"], "v100: expected h200, a100");
    refused(&["--input", &other, "--set", "network=second"], "rows 0 and 1 are the same voxel");
    refused(&["--work", &input], "scene: ");
    refused(&["--work", &at("none")], "none: No such file");
    refused(&["--input", &input, "--set", "network=second", "--save-record", "/none/r.json"], "there is no folder /none");
    let (code, line) = outcome(&gen_in(&root(), &["explain", "quantize", "--input", &input]));
    assert!(code == 2 && line.contains("quantize: expected sparse_network, gemm"), "{line}");
}

fn gemm(args: &[&str]) -> std::process::Output {
    gen_in(&root(), &[&["explain", "gemm", "--set", "m=16", "n=4096", "k=4096"], args].concat())
}

#[test]
fn a_gemm_is_explained_by_its_sizes_alone() {
    let json: Value = serde_json::from_str(&text(&gemm(&["--json"]))).unwrap();
    assert_eq!((json["rung"].as_str(), json["device"].as_str()), (Some("library"), Some("H200")));
    let plan = json["plan"]["id"].as_str().unwrap();
    assert!(plan.starts_with("gemm_bf16_bf16_nk_") && json["measured_us"].is_null(), "{json}");
    let terms = json["terms"].as_array().unwrap();
    assert_eq!(terms[0]["term"], json["bound"]);
    assert!(terms.windows(2).all(|w| w[0]["us"].as_f64() >= w[1]["us"].as_f64()));
    // No kernel is faster than its bytes.
    let [tensor, memory] = [0, 1].map(|i| json["roofs"][i].as_f64().unwrap());
    assert!(tensor > 0.0 && tensor < memory && memory <= 1.0, "{json}");
    let large = text(&gen_in(&root(), &["explain", "gemm", "--json", "--set", "m=4096", "n=4096", "k=4096"]));
    let large: Value = serde_json::from_str(&large).unwrap();
    let has = |n: &Value, key: &str, word: &str| n[key].as_str().is_some_and(|text| text.contains(word));
    let told = |n: &Value| has(n, "change", " -> ") && has(n, "why", " ");
    assert!(large["neighbours"].as_array().is_some_and(|n| !n.is_empty() && n.iter().all(told)), "{large}");
    let words = text(&gemm(&[]));
    for word in ["  plan      gemm_", "  rung      library", "bound by", "roofs", "one step away", "other kernels", "points"] {
        assert!(words.contains(word), "`{word}` is not in:\n{words}");
    }
}

#[test]
fn a_class_that_the_library_lacks_is_the_models_and_the_rungs_above_say_so() {
    let words = text(&gemm(&["act=relu", "residual=true", "--device-profile", "a100"]));
    assert!(words.contains(" on A100") && words.contains("  rung      model\n"), "{words}");
    assert!(words.contains("not library: no plan of sm80") && words.contains("not record: no record of gemm"), "{words}");
    for (args, why) in [
        (&["acts=relu"][..], "unknown key `acts`: expected class, m, n, k"),
        (&["--device-profile", "v100"], "--device-profile v100: expected h200, a100"),
        (&["--target", "sm80", "--device-profile", "h200"], "--device-profile H200: it runs sm_90a"),
        (&["--work", "x.json"], "--work goes with sparse_network"),
        (&["act=tanh"], "class: act = `tanh`"),
    ] {
        let out = gemm(args);
        let (code, line) = outcome(&out);
        assert!(code == 2 && line.contains(why) && out.stdout.is_empty(), "{args:?}: {line}");
    }
}
