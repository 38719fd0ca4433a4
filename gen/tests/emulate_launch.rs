//! `gen emulate`: shapes, several launches, schedules, modes.

use crate::common::emulation::*;
use safetensors::tensor::Dtype;

/// Block b adds 1 to x[b], `directives` as given.
fn count_blocks(directives: &str) -> String {
    module(&format!(
        ".visible .entry k(.param .u64 x) {directives} {{
.reg .pred %p<2>;
.reg .b32 %r<4>;
.reg .b64 %rd<4>;
.shared .align 4 .b8 fixed[1024];
ld.param.u64 %rd1, [x];
mov.u32 %r1, %ctaid.x;
mov.u32 %r2, %tid.x;
setp.ne.u32 %p1, %r2, 0;
@%p1 ret;
mul.wide.u32 %rd2, %r1, 4;
add.s64 %rd3, %rd1, %rd2;
ld.global.b32 %r3, [%rd3];
add.u32 %r3, %r3, 1;
st.global.b32 [%rd3], %r3;
ret;
}}
"
    ))
}

const ARGS: &str = r#""args":[{"tensor":"x"}]"#;

fn one(shape: &str) -> String {
    format!(r#"{{"entry":"k",{shape},{ARGS},"outputs":["x"]}}"#)
}

#[test]
fn grids_blocks_and_clusters_must_fit_the_kernel() {
    let block = |shape: &str| format!(r#""grid":[4,1,1],"block":{shape}"#);
    let cluster = |shape: &str| format!(r#""grid":[4,1,1],"block":[32,1,1],"cluster":{shape}"#);
    let shared = |bytes: u32| format!(r#""grid":[4,1,1],"block":[32,1,1],"shared_bytes":{bytes}"#);
    let rows = [
        ("", block("[32,1,1]"), Ok(())),
        (".reqntid 64", block("[64,1,1]"), Ok(())),
        (".reqntid 64", block("[32,1,1]"), Err("block [32, 1, 1] differs from .reqntid [64, 1, 1] of `k`")),
        (".maxntid 64", block("[32,1,1]"), Ok(())),
        (".maxntid 64", block("[65,1,1]"), Err("block [65, 1, 1] exceeds .maxntid [64, 1, 1] of `k`")),
        (".reqnctapercluster 2, 1, 1", cluster("[2,1,1]"), Ok(())),
        (".reqnctapercluster 2, 1, 1", cluster("[4,1,1]"), Err("cluster [4, 1, 1] differs from .reqnctapercluster [2, 1, 1]")),
        (".reqnctapercluster 2, 1, 1", block("[32,1,1]"), Err("cluster [1, 1, 1] differs from .reqnctapercluster")),
        ("", cluster("[3,1,1]"), Err("grid [4, 1, 1] is not a multiple of cluster [3, 1, 1]")),
        ("", cluster("[0,1,1]"), Err("must not contain 0")),
        ("", block("[1025,1,1]"), Err("more than 1024 threads")),
        ("", block("[32,1]"), Err("invalid length 2")),
        ("", block("[-1,1,1]"), Err("invalid value: integer `-1`")),
        ("", r#""grid":[0,1,1],"block":[32,1,1]"#.into(), Err("must not contain 0")),
        ("", r#""grid":[1,65536,1],"block":[32,1,1]"#.into(), Err("grid [1, 65536, 1] is too large")),
        ("", r#""grid":[4,1,1]"#.into(), Err("key `block` is missing")),
        ("", r#""block":[4,1,1]"#.into(), Err("key `grid` is missing")),
        ("", shared(200_000), Ok(())),
        ("", shared(232_448), Err("bytes of shared memory (1024 static) exceed the 232448 bytes a block has on sm_90a")),
        ("", r#""grid":[4,1,1],"block":[32,1,1],"shared":1"#.into(), Err("unknown field `shared`")),
    ];
    for (directives, shape, want) in rows {
        let r = emulate(&count_blocks(directives), &one(&shape), &[x()], &[]);
        match want {
            Ok(()) => assert_eq!(r.bytes("x")[..20], i32s([1, 2, 3, 4, 4]), "{directives} {shape}"),
            Err(words) => r.refused(words),
        }
    }
    let elsewhere = one(&block("[32,1,1]")).replace("\"k\"", "\"l\"");
    emulate(&count_blocks(""), &elsewhere, &[x()], &[]).refused("the module has no entry `l`; it has k");
    let nameless = one(&block("[32,1,1]")).replace("\"entry\":\"k\",", "");
    emulate(&count_blocks(""), &nameless, &[x()], &[])
        .refused("key `entry` is missing: expected entry, grid and block, or launches");
    let old = count_blocks("").replace("sm_90a", "sm_80");
    emulate(&old, &one(&shared(170_000)), &[x()], &[]).refused("a block has on sm_80");
}

#[test]
fn launches_run_in_stream_order() {
    let ptx = module(
        ".visible .entry twice(.param .u64 x) {
.reg .b32 %r<2>;
.reg .b64 %rd<2>;
ld.param.u64 %rd1, [x];
griddepcontrol.wait;
ld.global.b32 %r1, [%rd1];
shl.b32 %r1, %r1, 1;
st.global.b32 [%rd1], %r1;
ret;
}
.visible .entry plus(.param .u64 x, .param .u32 n) {
.reg .b32 %r<3>;
.reg .b64 %rd<2>;
ld.param.u64 %rd1, [x];
ld.param.u32 %r2, [n];
griddepcontrol.launch_dependents;
ld.global.b32 %r1, [%rd1];
add.u32 %r1, %r1, %r2;
st.global.b32 [%rd1], %r1;
ret;
}
",
    );
    let plus = |n: u32| format!(r#"{{"entry":"plus","grid":[1,1,1],"block":[1,1,1],"args":[{{"tensor":"x"}},{{"i32":{n}}}]}}"#);
    let twice = |more: &str| {
        format!(
            r#"{{"entry":"twice","grid":[1,1,1],"block":[1,1,1],"args":[{{"tensor":"x"}}],"cluster":[1,1,1],"shared_bytes":16{more}}}"#
        )
    };
    let file = |launches: &[String]| format!(r#"{{"launches":[{}],"outputs":["x"]}}"#, launches.join(","));
    let x = ("x", Dtype::I32, vec![1], i32s([5]));
    for more in ["", r#","programmatic":true"#, r#","programmatic":false"#] {
        let launch = file(&[plus(3), twice(more), plus(1)]);
        let r = emulate(&ptx, &launch, std::slice::from_ref(&x), &["--schedules", "4"]);
        assert_eq!(r.bytes("x"), i32s([17]));
        let entries: Vec<_> = r.report()["launches"].as_array().unwrap().iter().map(|l| l["entry"].clone()).collect();
        assert_eq!(entries, ["plus", "twice", "plus"]);
        let each = |l: &serde_json::Value| l["counters"]["memory"].as_u64().unwrap();
        let sum: u64 = r.report()["launches"].as_array().unwrap().iter().map(each).sum();
        assert_eq!(r.report()["counters"]["memory"].as_u64(), Some(sum));
    }
    let rows = [
        (file(&[]), "`launches` is empty"),
        (file(&[plus(1)]).replace("\"outputs\"", "\"entry\":\"plus\",\"outputs\""), "`entry` stands beside `launches`"),
        (file(&[plus(1)]).replace("\"outputs\"", "\"args\":[],\"outputs\""), "`args` stands beside `launches`"),
        (
            file(&[plus(1), twice("").replace("\"twice\"", "\"thrice\"")]),
            "launch 1: the module has no entry `thrice`; it has twice, plus",
        ),
        (
            file(&[plus(1), twice("").replace("[1,1,1],\"shared", "[2,1,1],\"shared")]),
            "launch 1: grid [1, 1, 1] is not a multiple",
        ),
        (file(&[twice(r#","stream":1"#)]), "unknown field `stream`"),
        (file(&[twice(r#","programmatic":1"#)]), "invalid type: integer `1`"),
    ];
    for (launch, words) in rows {
        emulate(&ptx, &launch, std::slice::from_ref(&x), &[]).refused(words);
    }
    // A failure in the second launch is reported as that one's.
    let launch = file(&[plus(3), twice("").replace("{\"tensor\":\"x\"}", "{\"null\":true}")]);
    let r = emulate(&ptx, &launch, std::slice::from_ref(&x), &[]);
    assert_eq!((r.code, r.report()["kernel"].as_str()), (1, Some("twice")), "{}", r.text);
}

/// Block 1 sets a flag that block 0 waits for.
fn flag() -> String {
    module(
        ".visible .entry k(.param .u64 x) {
.reg .pred %p<3>;
.reg .b32 %r<4>;
.reg .b64 %rd<2>;
ld.param.u64 %rd1, [x];
mov.u32 %r1, %ctaid.x;
setp.eq.u32 %p1, %r1, 0;
@%p1 bra wait;
mov.u32 %r2, 1;
st.release.gpu.global.b32 [%rd1], %r2;
ret;
wait:
ld.acquire.gpu.global.b32 %r3, [%rd1];
setp.ne.u32 %p2, %r3, 1;
@%p2 bra wait;
ret;
}
",
    )
}

#[test]
fn blocks_are_resident_together_unless_told_otherwise() {
    let x = ("x", Dtype::I32, vec![1], i32s([0]));
    let shape = r#""grid":[2,1,1],"block":[1,1,1]"#;
    let r = emulate(&flag(), &one(shape), std::slice::from_ref(&x), &["--schedules", "3"]);
    assert_eq!(r.bytes("x"), i32s([1]));
    let r = emulate(&flag(), &one(&format!(r#"{shape},"resident":2"#)), std::slice::from_ref(&x), &[]);
    assert_eq!(r.code, 0, "{}", r.text);
    // Block 0 never makes room for block 1.
    let r = emulate(&flag(), &one(&format!(r#"{shape},"resident":1"#)), std::slice::from_ref(&x), &[]);
    assert!(r.code == 1 && r.line.contains("deadlock"), "{}", r.text);
    assert!(!r.path("out").exists());
    emulate(&flag(), &one(&format!(r#"{shape},"resident":0"#)), std::slice::from_ref(&x), &[]).refused("`resident` is 0");
}

/// Wrong only when the copy is late: thread 0 reads what a bulk copy brings without waiting for it.
fn hasty() -> String {
    module(
        ".visible .entry k(.param .u64 x, .param .u64 y) {
.reg .b32 %r<5>;
.reg .b64 %rd<3>;
.shared .align 16 .b8 box[16];
ld.param.u64 %rd1, [x];
ld.param.u64 %rd2, [y];
mov.u32 %r1, box;
cp.async.cg.shared.global [%r1], [%rd1], 16;
cp.async.commit_group;
ld.shared.b32 %r2, [%r1];
st.global.b32 [%rd2], %r2;
cp.async.wait_all;
ret;
}
",
    )
}

const HASTY: &str = r#"{"entry":"k","grid":[1,1,1],"block":[1,1,1],"args":[{"tensor":"x"},{"tensor":"y"}],
    "alloc":{"y":{"dtype":"I32","shape":[1]}},"outputs":["y"]}"#;

#[test]
fn seeds_pick_schedules_and_findings_name_them() {
    // Without checks the early schedule gets away with it, and the late one reads what nobody wrote.
    let none = |seed: &str| emulate(&hasty(), HASTY, &[x()], &["--checks", "none", "--seed", seed]);
    assert_eq!(none("0").bytes("y"), i32s([0]));
    assert_ne!(none("1").bytes("y"), i32s([0]));
    let r = emulate(&hasty(), HASTY, &[x()], &["--seed", "1"]);
    assert_eq!(r.code, 1, "{}", r.text);
    assert_eq!((r.report()["seed"].as_u64(), r.report()["schedules"].as_u64()), (Some(1), Some(1)));
    assert_eq!(r.report()["findings"][0]["seed"], 1);
    assert!(r.text.contains("replay: gen emulate k.ptx --launch launch.json --input in --output out --seed 1"), "{}", r.text);
    for (flags, words) in [
        (&["--schedules", "0"][..], "--schedules"),
        (&["--schedules=-1"], "--schedules"),
        (&["--seed", "1", "--schedules", "2"], "--seed"),
        (&["--checks", "some"], "--checks"),
        (&["--numerics", "slow"], "--numerics"),
        (&["--fast"], "--fast"),
    ] {
        let r = emulate(&hasty(), HASTY, &[x()], flags);
        assert!(r.code == 2 && r.text.contains(words) && !r.path("out").exists(), "{flags:?}: {}", r.text);
    }
}

#[test]
fn a_replay_line_has_the_modes_of_the_run() {
    let oob = HASTY.replace("\"shape\":[1]", "\"shape\":[0]");
    let r = emulate(&hasty(), &oob, &[x()], &["--checks", "none", "--numerics", "exact"]);
    assert!(r.code == 1 && r.text.contains("--output out --numerics exact --checks none --seed 0"), "{}", r.text);
}

/// One mma of ones, 8 products a sum: d = c + 8.
fn sum() -> String {
    module(
        ".visible .entry k(.param .u64 d, .param .f32 c) {
.reg .b32 %r<12>;
.reg .f32 %f<5>;
.reg .b64 %rd<4>;
ld.param.u64 %rd1, [d];
ld.param.f32 %f1, [c];
mov.f32 %f2, %f1;
mov.f32 %f3, %f1;
mov.f32 %f4, %f1;
mov.b32 %r1, 0x3c003c00;
mov.b32 %r2, 0x3c003c00;
mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, {%r1, %r1}, {%r2}, {%f1, %f2, %f3, %f4};
mov.u32 %r3, %tid.x;
mul.wide.u32 %rd2, %r3, 4;
add.s64 %rd3, %rd1, %rd2;
st.global.f32 [%rd3], %f1;
ret;
}
",
    )
}

#[test]
fn numerics_are_fast_exact_or_the_ring() {
    let launch = |c: &str| {
        format!(
            r#"{{"entry":"k","grid":[1,1,1],"block":[32,1,1],"args":[{{"tensor":"d"}},{{"f32":{c}}}],
                "alloc":{{"d":{{"dtype":"F32","shape":[32]}}}},"outputs":["d"]}}"#
        )
    };
    let run = |c: &str, numerics: &str| {
        let bytes = emulate(&sum(), &launch(c), &[x()], &["--numerics", numerics]).bytes("d");
        u32::from_le_bytes(bytes[..4].try_into().unwrap())
    };
    // 8 products of 1 each on 2^25: rounding each lone one loses it, tensor cores add them up first.
    assert_eq!(f32::from_bits(run("33554432", "fast")), 33_554_432.0);
    assert_eq!(f32::from_bits(run("33554432", "exact")), 33_554_440.0);
    assert_eq!(f32::from_bits(run("0", "fast")), 8.0);
    // In the ring a number is the payload it stands for, and raw bytes are a payload already.
    let payload = tilewright_emulator::ring::of_f32(2.5);
    let store = module(
        ".visible .entry k(.param .u64 d, .param .f32 c) {\n.reg .f32 %f<3>;\n.reg .b64 %rd<2>;\nld.param.u64 %rd1, [d];\n\
         ld.param.f32 %f1, [c];\nst.global.f32 [%rd1], %f1;\nret;\n}\n",
    );
    for (arg, numerics, want) in [("2.5", "ring", payload), ("2.5", "fast", 2.5f32.to_bits()), ("2.5", "exact", 2.5f32.to_bits())]
    {
        let bytes = emulate(&store, &launch(arg), &[x()], &["--numerics", numerics]).bytes("d");
        assert_eq!(bytes[..4], want.to_le_bytes(), "{arg} {numerics}");
    }
    let raw = launch("0").replace(r#"{"f32":0}"#, r#"{"bytes":"01020304"}"#);
    assert_eq!(emulate(&store, &raw, &[x()], &["--numerics", "ring"]).bytes("d")[..4], [1, 2, 3, 4]);
    // What has no meaning there is refused before it runs.
    let magnitude = ".reg .b32 %r<2>;\nmov.b32 %r1, 0;\nredux.sync.min.abs.f32 %r1, %r1, -1;\nst.global";
    let reduced = store.replace("st.global", magnitude).replace("sm_90a", "sm_100a");
    assert_eq!(emulate(&reduced, &launch("1"), &[x()], &[]).code, 0);
    emulate(&reduced, &launch("1"), &[x()], &["--numerics", "ring"]).refused("in the ring, line 11: ");
}
