//! Reading packs, and refusing the ones that are not what was generated.

use std::fs;

use tilewright_runtime::arch::ComputeCapability;
use tilewright_runtime::compat::{Code, JitReason};
use tilewright_runtime::device::ImageKind;
use tilewright_runtime::manifest::Manifest;
use tilewright_runtime::pack::{Pack, PackError};
use tilewright_runtime::plan::{Dependency, Plan};

use crate::fixture::{manifest, write};

/// The error of opening the fixture after `change` to its manifest's text.
fn refusal(change: impl FnOnce(String) -> String) -> String {
    let folder = write(&manifest());
    let path = folder.path().join("manifest.json");
    let text = change(fs::read_to_string(&path).unwrap());
    fs::write(&path, text).unwrap();
    let error = Pack::open(folder.path()).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    error.strip_prefix(&format!("{}: ", path.display())).expect("the error names the file").to_owned()
}

fn refusal_of(change: impl FnOnce(&mut Manifest)) -> String {
    refusal(|_| {
        let mut changed = manifest();
        change(&mut changed);
        changed.to_json().unwrap()
    })
}

#[test]
fn a_manifest_survives_writing_and_reading() {
    let manifest = manifest();
    let text = manifest.to_json().unwrap();
    let again = Manifest::parse(&text, "manifest.json").unwrap();
    assert_eq!(again, manifest);
    assert_eq!(again.to_json().unwrap(), text);
}

#[test]
fn a_whole_pack_verifies() {
    let folder = write(&manifest());
    let pack = Pack::open(folder.path()).unwrap();
    pack.verify_all().unwrap();
    let expected = blake3::hash(&fs::read(folder.path().join("manifest.json")).unwrap());
    assert_eq!(pack.manifest_blake3(), expected.to_string());
}

#[test]
fn machine_code_is_preferred_and_ptx_stands_in() {
    let folder = write(&manifest());
    let pack = Pack::open(folder.path()).unwrap();
    let image = |kernel: usize, kind| {
        let (kind, bytes) = pack.image(&pack.manifest().kernels[kernel], kind).unwrap();
        (kind, String::from_utf8(bytes.into_owned()).unwrap())
    };
    assert_eq!(image(0, ImageKind::Cubin), (ImageKind::Cubin, "gemm_128x256.cubin".to_owned()));
    assert_eq!(image(0, ImageKind::Ptx), (ImageKind::Ptx, "gemm_128x256.ptx".to_owned()));
    assert_eq!(image(1, ImageKind::Cubin), (ImageKind::Ptx, "gemm_split.ptx".to_owned()));
}

#[test]
fn an_embedded_pack_is_a_pack() {
    let mut manifest = manifest();
    manifest.kernels.clear();
    manifest.plans.clear();
    manifest.dispatch.clear();
    let text: &'static str = manifest.to_json().unwrap().leak();
    let files: &'static [(&str, &[u8])] = vec![("manifest.json", text.as_bytes())].leak();
    assert_eq!(Pack::embedded(files).unwrap().manifest(), &manifest);
    let error = Pack::embedded(&[]).unwrap_err();
    assert_eq!(error.to_string(), "embedded manifest.json: no such file; copy the pack again");
}

#[test]
fn a_missing_file_is_named() {
    let folder = write(&manifest());
    let pack = Pack::open(folder.path()).unwrap();
    let gone = folder.path().join("gemm_split.ptx");
    fs::remove_file(&gone).unwrap();
    assert_eq!(pack.verify_all().unwrap_err(), PackError::Missing { path: gone.display().to_string() });
    let nowhere = folder.path().join("nowhere");
    let error = Pack::open(&nowhere).unwrap_err();
    assert_eq!(error, PackError::Missing { path: nowhere.join("manifest.json").display().to_string() });
}

#[test]
fn every_flipped_byte_and_changed_length_is_noticed() {
    let folder = write(&manifest());
    let pack = Pack::open(folder.path()).unwrap();
    let path = folder.path().join("gemm_128x256.cubin");
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        assert!(matches!(pack.verify_all(), Err(PackError::Altered { what: "blake3", .. })), "byte {at}");
    }
    for bad in [&good[..good.len() - 1], &[good.as_slice(), b"x"].concat()] {
        fs::write(&path, bad).unwrap();
        assert!(matches!(pack.verify_all(), Err(PackError::Altered { what: "length", .. })));
    }
    fs::write(&path, &good).unwrap();
    pack.verify_all().unwrap();
}

#[test]
fn every_truncation_is_refused() {
    let text = manifest().to_json().unwrap();
    let body = text.trim_end();
    // Every length would take a while and say nothing more than every 97th.
    for end in (1..body.len()).step_by(97) {
        let error = Manifest::parse(&body[..end], "manifest.json").unwrap_err().to_string();
        assert!(error.contains("truncated"), "{end}: {error}");
    }
    assert!(refusal(|_| String::new()).contains("truncated"));
}

#[test]
fn unknown_missing_and_mistyped_fields_are_named() {
    let unknown = refusal(|text| text.replacen("\"shared_bytes\"", "\"shared_kib\"", 1));
    assert!(unknown.contains("unknown field `shared_kib`, expected one of `block`"), "{unknown}");
    assert!(unknown.contains("line "), "{unknown}");
    let missing = refusal(|text| text.replacen("\"entry\":\"gemm_128x256\",", "", 1));
    assert!(missing.contains("missing field `entry`"), "{missing}");
    let mistyped = refusal(|text| text.replacen("\"schema\":2", "\"schema\":\"2\"", 1));
    assert!(mistyped.contains("invalid type"), "{mistyped}");
    let kind = refusal(|text| text.replacen("\"i32\"", "\"i33\"", 1));
    assert!(kind.contains("unknown variant `i33`"), "{kind}");
    let expr = refusal(|text| text.replacen("k % 8 == 0", "k % 8 = 0", 1));
    assert!(expr.contains("expression `k % 8 = 0`: expected an operator or the end at character 7"), "{expr}");
    assert!(refusal(|_| "[]".to_owned()).contains("invalid"));
}

#[test]
fn a_foreign_schema_is_refused_before_its_fields() {
    let error = refusal(|_| r#"{"schema": 1, "modules": []}"#.to_owned());
    assert_eq!(error, "schema 1, but this runtime reads schema 2: use the runtime the pack came with");
}

#[test]
fn a_device_gets_machine_code_or_ptx_or_a_reason() {
    let folder = write(&manifest());
    let pack = Pack::open(folder.path()).unwrap();
    let check = |major, minor, wants| pack.check_device(ComputeCapability { major, minor }, None, wants);
    assert_eq!(check(9, 0, ImageKind::Cubin), Ok(Code::Cubin));
    assert_eq!(check(9, 0, ImageKind::Ptx), Ok(Code::Ptx));
    let expected = "the pack is for sm_90a, whose machine code and PTX run on compute capability 9.0 alone, and the device has \
                    10.0: use the pack for its target";
    assert_eq!(check(10, 0, ImageKind::Cubin).unwrap_err().to_string(), expected);
    assert_eq!(check(10, 0, ImageKind::Ptx).unwrap_err().to_string(), expected);
    assert!(refusal_of(|m| m.arch = "hopper".to_owned()).starts_with("arch: `hopper` is no architecture"));

    let mut plain = manifest();
    plain.arch = "sm_86".to_owned();
    let folder = write(&plain);
    let pack = Pack::open(folder.path()).unwrap();
    let check = |major, minor| pack.check_device(ComputeCapability { major, minor }, None, ImageKind::Cubin);
    assert_eq!(check(8, 9), Ok(Code::Cubin));
    assert_eq!(check(12, 0), Ok(Code::Jit(JitReason::Arch)));
    let expected = "the pack is for sm_86, and the device has compute capability 8.0: use the pack for its target";
    assert_eq!(check(8, 0).unwrap_err().to_string(), expected);
}

#[test]
fn versions_are_refused_by_name() {
    let versioned = |ptx: &str, ptxas: &str, driver: &str| {
        let mut manifest = manifest();
        (manifest.toolchain.ptx_version, manifest.toolchain.ptxas) = (ptx.to_owned(), ptxas.to_owned());
        let folder = write(&manifest);
        let pack = Pack::open(folder.path()).unwrap();
        let hopper = ComputeCapability { major: 9, minor: 0 };
        pack.check_device(hopper, driver.parse().ok(), ImageKind::Cubin).map_err(|error| error.to_string())
    };
    assert_eq!(versioned("8.1", "13.0.88", "13.0"), Ok(Code::Cubin));
    assert_eq!(versioned("8.1", "13.0.88", "12.1"), Ok(Code::Jit(JitReason::Driver)));
    assert_eq!(versioned("8.1", "12.9.1", "12.1"), Ok(Code::Cubin), "a minor version of the assembler is no matter");
    let error = versioned("8.8", "13.0.88", "12.4").unwrap_err();
    assert_eq!(
        error,
        "the driver supports CUDA 12.4, and the pack's PTX 8.8 needs a driver for CUDA 12.9 or later (its machine code is of a \
         later CUDA, too): update the driver"
    );
    let error = versioned("12.0", "13.0.88", "12.4").unwrap_err();
    assert_eq!(error, "toolchain.ptx_version: PTX 12.0 is newer than this runtime knows: use the runtime the pack came with");
    let error = refusal_of(|m| m.toolchain.ptx_version = "eight".to_owned());
    assert_eq!(error, "toolchain.ptx_version: `eight` is no version: expected <major>.<minor>");
    let error = refusal(|_| r#"{"schema": 9, "toolchain": {"tilewright": "3.1.0"}}"#.to_owned());
    let here = env!("CARGO_PKG_VERSION");
    assert!(error.starts_with(&format!("schema 9 of tilewright 3.1.0, but this runtime ({here}) reads schema ")), "{error}");
}

#[test]
fn a_manifest_that_was_changed_is_refused_though_it_reads_well() {
    let changed = refusal(|text| text.replacen("\"shared_bytes\":1", "\"shared_bytes\":2", 1));
    assert_eq!(changed, "blake3: not that of the lines before it; copy the pack again, or have `gen` write it");
    let unsealed = refusal(|text| format!("{}\n}}\n", text.rsplit_once(",\n").unwrap().0));
    assert!(unsealed.starts_with("blake3: the last line with it is missing"), "{unsealed}");
}

#[test]
fn a_refusal_is_one_short_line_whatever_a_file_says() {
    let long = refusal_of(|m| m.kernels[0].id = "x\n".repeat(5000));
    assert!(long.len() < 1500, "{} bytes", long.len());
    let error = refusal(|text| text.replacen("\"entry\"", "\"en\\ntry\"", 1));
    assert!(error.contains("unknown field `en\\ntry`"), "{error}");
}

#[test]
fn impossible_values_are_refused() {
    type Change = fn(&mut Manifest);
    let cases: &[(Change, &str)] = &[
        (|m| m.kernels[1].id = "gemm_any".into(), "kernels[gemm_any].id: used twice"),
        (|m| m.plans[1].id = "gemm_any".into(), "plans[gemm_any].id: used twice"),
        (|m| m.kernels[0].entry = String::new(), "kernels[gemm_128x256].entry: \"\" is no symbol"),
        (|m| m.kernels[0].ptx.path = "../x.ptx".into(), "kernels[gemm_128x256].ptx: path \"../x.ptx\" must be relative"),
        (|m| m.kernels[0].ptx.path = "/etc/passwd".into(), "kernels[gemm_128x256].ptx: path \"/etc/passwd\""),
        (|m| m.kernels[0].ptx.path = "kernels.pack".into(), "kernels[gemm_128x256].ptx: path \"kernels.pack\" is used twice"),
        (|m| m.kernels[1].ptx = m.kernels[0].ptx.clone(), "kernels[gemm_split].ptx: path \"gemm_128x256.ptx\" is used twice"),
        (|m| m.kernels[0].ptx.bytes = 1 << 63, "kernels[gemm_128x256].ptx: 9223372036854775808 bytes, at most"),
        (|m| m.kernels[0].ptx.blake3 = "00".into(), "kernels[gemm_128x256].ptx: blake3 \"00\""),
        (|m| m.kernels[0].launch.block = [0, 1, 1], "kernels[gemm_128x256].launch.block: [0, 1, 1]"),
        (|m| m.kernels[0].launch.block = [1 << 31, 1 << 31, 4], "kernels[gemm_128x256].launch.block"),
        (|m| m.kernels[0].launch.cluster = [32, 1, 1], "kernels[gemm_128x256].launch.cluster: [32, 1, 1]"),
        (
            |m| m.dispatch[0].cells[0][0].0 = 3,
            "dispatch[gemm a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0].cells: plan 3 of 3",
        ),
        (|m| m.dispatch[0].class = "a=f16".into(), "dispatch[gemm a=f16].cells: plan `gemm_128x256` is for"),
        (|m| m.dispatch.push(m.dispatch[0].clone()), "dispatch[gemm a=bf16"),
    ];
    for (change, expected) in cases {
        let error = refusal_of(change);
        assert!(error.starts_with(expected), "{error}\nexpected {expected}");
    }
    let rank = refusal(|text| text.replacen("\"k\",\"m\"", "\"k\"", 1));
    assert!(rank.contains("params[a_map].tensor_map: 1 dims need 0 strides"), "{rank}");
}

#[test]
fn plans_that_do_not_hold_together_are_refused() {
    type Change = fn(&mut Plan);
    let cases: &[(Change, &str)] = &[
        (|p| p.launches.clear(), "plan `gemm_split4` launches nothing"),
        (|p| p.launches.swap(0, 1), "launch 0 reads `part` before any launch wrote it"),
        (|p| p.launches[1].kernel = "sum".into(), "launch 1: no kernel `sum` in the manifest"),
        (|p| p.launches.truncate(1), "no launch writes `d`"),
        (|p| drop(p.launches[0].binds.remove("part")), "launch 0: kernel `gemm_split` needs tensor `part` bound"),
        (|p| drop(p.launches[0].binds.insert("q".into(), "a".into())), "binds `q`, which kernel `gemm_split` does not"),
        (|p| drop(p.launches[0].binds.insert("a".into(), "q".into())), "bound to tensor `q`, which the plan does not"),
        (|p| drop(p.launches[0].binds.insert("part".into(), "a".into())), "launch 0 writes input `a`"),
        (|p| p.tensors[1].name = "a".into(), "has two tensors named `a`"),
        (|p| drop(p.launches[0].binds.insert("b".into(), "a".into())), "no launch reads `b`"),
    ];
    for (change, expected) in cases {
        let error = refusal_of(|m| change(&mut m.plans[1]));
        assert!(error.contains(expected), "{error}\nexpected {expected}");
    }
}

#[test]
fn launches_wait_for_what_they_read() {
    let manifest = manifest();
    let find = |id: &str| manifest.kernels.iter().find(|kernel| kernel.id == id);
    assert_eq!(manifest.plans[0].dependencies(find).unwrap(), []);
    assert_eq!(manifest.plans[1].dependencies(find).unwrap(), [Dependency { before: 0, after: 1 }]);
}
