//! Bad input: a one-line cause with the way out, exit status 1 or 2, nothing half-written.

use crate::common::*;
use safetensors::tensor::Dtype;
use std::path::Path;

fn tensor(name: &'static str, dtype: Dtype, shape: &[usize]) -> (&'static str, Dtype, Vec<usize>, Vec<u8>) {
    let bytes = shape.iter().product::<usize>() * if dtype == Dtype::F32 { 4 } else { 2 };
    (name, dtype, shape.to_vec(), vec![0; bytes])
}

/// Runs gemm in a folder on these tensors; nothing may be written.
fn refused(folder: &Path, tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)], set: &[&str], code: i32, words: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in"), dir.path().join("out"));
    if !tensors.is_empty() {
        save(&input, tensors);
    }
    let mut args =
        vec!["run", "gemm", "--target", "sm90", "--input", input.to_str().unwrap(), "--output", output.to_str().unwrap()];
    for s in set {
        args.extend(["--set", s]);
    }
    let out = gen_in(folder, &args);
    let (found, line) = outcome(&out);
    assert_eq!(found, code, "{line}");
    for w in words {
        assert!(line.contains(w), "`{w}` is not in: {line}");
    }
    assert!(
        !line.contains("panicked") && String::from_utf8_lossy(&out.stderr).lines().count() == 1,
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(!output.exists(), "an output was written");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), usize::from(!tensors.is_empty()), "something was left behind");
}

fn ok() -> Vec<(&'static str, Dtype, Vec<usize>, Vec<u8>)> {
    vec![tensor("a", Dtype::BF16, &[4, 16]), tensor("b", Dtype::BF16, &[8, 16])]
}

#[test]
fn tensors_that_do_not_fit() {
    let with = |t| [ok(), vec![t]].concat();
    let two = |a, b| vec![a, b];
    let r = root();
    refused(&r, &[], &[], 2, &["in: No such file", "--input takes a safetensors file"]);
    refused(
        &r,
        &two(tensor("a", Dtype::F32, &[4, 16]), tensor("b", Dtype::BF16, &[8, 16])),
        &[],
        2,
        &["tensor `a` is F32 [4, 16]", "expected BF16 or F16"],
    );
    refused(
        &r,
        &two(tensor("a", Dtype::BF16, &[4, 16]), tensor("b", Dtype::F16, &[8, 16])),
        &[],
        2,
        &["tensor `b` is F16", "BF16"],
    );
    refused(
        &r,
        &two(tensor("a", Dtype::BF16, &[16]), tensor("b", Dtype::BF16, &[8, 16])),
        &[],
        2,
        &["tensor `a` is BF16 [16]", "[m, k]"],
    );
    refused(&r, &two(tensor("a", Dtype::BF16, &[2, 4, 16]), tensor("b", Dtype::BF16, &[8, 16])), &[], 2, &["as many dimensions"]);
    refused(&r, &two(tensor("a", Dtype::BF16, &[4, 16]), tensor("b", Dtype::BF16, &[8, 24])), &[], 2, &["k = 16", "k = 24"]);
    refused(&r, &two(tensor("a", Dtype::BF16, &[4, 0]), tensor("b", Dtype::BF16, &[8, 0])), &[], 2, &["at least 1"]);
    refused(&r, &[tensor("a", Dtype::BF16, &[4, 16])], &[], 2, &["tensor `b` is missing"]);
    refused(&r, &with(tensor("c", Dtype::BF16, &[4])), &[], 2, &["unknown tensor `c`"]);
    refused(&r, &with(tensor("bias", Dtype::BF16, &[4])), &[], 2, &["tensor `bias` is BF16 [4]", "[8]"]);
    refused(&r, &with(tensor("residual", Dtype::BF16, &[8, 4])), &[], 2, &["tensor `residual`", "[4, 8]"]);
    refused(
        &r,
        &two(tensor("a", Dtype::BF16, &[4, 16]), tensor("b", Dtype::BF16, &[7, 16])),
        &["act=swiglu"],
        2,
        &["gate and up"],
    );
}

#[test]
fn keys_that_are_wrong() {
    let r = root();
    refused(&r, &ok(), &["colour=red"], 2, &["unknown key `colour`", "out, act, alpha"]);
    refused(&r, &ok(), &["act=softmax"], 2, &["act = `softmax`", "gelu"]);
    refused(&r, &ok(), &["out=i64"], 2, &["out = `i64`"]);
    refused(&r, &ok(), &["alpha=one"], 2, &["alpha = `one`"]);
    refused(&r, &ok(), &["split_k=0"], 2, &["split_k"]);
    refused(&r, &ok(), &["weight=int4"], 2, &["weight"]);
    refused(&r, &ok(), &["config=kind=wgmma"], 2, &["is missing"]);
    refused(
        &r,
        &ok(),
        &["config=bk=64,bm=96,bn=96,cluster=1x1,kind=wgmma,n_align=8,raster=8,schedule=coop,split=0,stages=4,wgs=2"],
        2,
        &["48 rows a warpgroup"],
    );
}

#[test]
fn targets_devices_and_ops_nobody_knows() {
    let args = |op, target, device| ["run", op, "--target", target, "--device", device, "--input", "x", "--output", "y"];
    for (args, words) in [
        (args("gemm", "sm95", "emulator"), "unknown target `sm95`"),
        (args("conv", "sm90", "emulator"), "op `conv`"),
        (args("gemm", "sm90", "tpu"), "--device tpu"),
    ] {
        let (code, line) = outcome(&gen_in(&root(), &args));
        assert!(code == 2 && line.contains(words), "{code} {line}");
    }
    let (code, line) = outcome(&gen_in(&root(), &["--target", "sm95"]));
    assert!(code == 2 && line.contains("unknown target `sm95`"), "{line}");
    let (code, line) = outcome(&gen_in(&root(), &["--target", "sm90", "--only", "nothing*"]));
    assert!(code == 2 && line.contains("no plan of sm90 matches"), "{line}");
}

#[test]
fn without_a_driver_the_gpu_is_refused() {
    // Where there is a driver this says nothing.
    if ["/usr/lib/x86_64-linux-gnu/libcuda.so.1", "/usr/lib64/libcuda.so.1"].iter().any(|p| Path::new(p).exists()) {
        eprintln!("skipped: this machine has an NVIDIA driver");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in");
    save(&input, &ok());
    let args =
        ["run", "gemm", "--target", "sm90", "--device", "cuda:0", "--input", input.to_str().unwrap(), "--output", "/nowhere"];
    let (code, line) = outcome(&gen_in(&root(), &args));
    assert!(code == 1 && line.contains("no NVIDIA driver") && line.contains("--device emulator"), "{line}");
}

/// A workspace with one small pack in it.
fn workspace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(root().join("library.toml"), dir.path().join("library.toml")).unwrap();
    let out = dir.path().join("kernels-generated/sm90");
    let o = gen_in(
        &root(),
        &["--target", "sm90", "--only", "gemm_bf16_bf16_nk_wgmma_64x64*", "--verify", "quick", "--out", out.to_str().unwrap()],
    );
    assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
    dir
}

#[test]
fn a_damaged_pack_is_refused() {
    let dir = workspace();
    let pack = dir.path().join("kernels-generated/sm90");
    let manifest = pack.join("manifest.json");
    let whole = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, &whole[..whole.len() / 2]).unwrap();
    refused(dir.path(), &ok(), &[], 2, &["manifest.json"]);
    std::fs::write(&manifest, &whole).unwrap();
    let archive = pack.join("kernels.pack");
    let packed = std::fs::read(&archive).unwrap();
    for bad in [&packed[..packed.len() / 2], &[&packed[..20], b"x", &packed[21..]].concat(), b"x"] {
        std::fs::write(&archive, bad).unwrap();
        refused(dir.path(), &ok(), &[], 2, &["kernels.pack: "]);
    }
    std::fs::write(&archive, &packed).unwrap();
    for suffix in ["ptx", "cubin"] {
        let files: Vec<_> = std::fs::read_dir(&pack)
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == suffix))
            .collect();
        let before: Vec<_> = files.iter().map(|f| std::fs::read(f).unwrap()).collect();
        for (f, b) in files.iter().zip(&before) {
            let mut bytes = b.clone();
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            std::fs::write(f, bytes).unwrap();
        }
        if files.is_empty() {
            eprintln!("skipped: no {suffix} in the pack (no ptxas)");
            continue;
        }
        refused(dir.path(), &ok(), &[], 2, &[suffix, "blake3", "copy the pack again"]);
        files.iter().zip(before).for_each(|(f, b)| std::fs::write(f, b).unwrap());
    }
}

#[test]
fn check_says_which_files_differ() {
    let dir = workspace();
    let pack = dir.path().join("kernels-generated/sm90");
    let args = [
        "--target",
        "sm90",
        "--only",
        "gemm_bf16_bf16_nk_wgmma_64x64*",
        "--verify",
        "quick",
        "--out",
        pack.to_str().unwrap(),
        "--check",
    ];
    let o = gen_in(&root(), &args);
    assert!(o.status.success(), "two runs differ: {}", String::from_utf8_lossy(&o.stderr));
    let file =
        std::fs::read_dir(&pack).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "ptx")).unwrap();
    std::fs::write(&file, "changed").unwrap();
    let (code, line) = outcome(&gen_in(&root(), &args));
    assert!(code == 1 && line.contains(file.file_name().unwrap().to_str().unwrap()), "{line}");
    assert_eq!(std::fs::read(&file).unwrap(), b"changed", "--check writes nothing");
    // As in a fresh clone: the archive has the kernels, loose ones are for people.
    let loose = std::fs::read_dir(&pack).unwrap().map(|e| e.unwrap().path());
    loose.filter(|p| p.extension().is_some_and(|e| e == "ptx" || e == "cubin")).for_each(|p| std::fs::remove_file(p).unwrap());
    let o = gen_in(&root(), &args);
    assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
    std::fs::write(pack.join("kernels.pack"), "changed").unwrap();
    let (code, line) = outcome(&gen_in(&root(), &args));
    assert!(code == 1 && line.contains("kernels.pack"), "{line}");
}
