//! `gen emulate`: what is found, and how it is told.

use crate::common::emulation::*;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

/// A kernel of one pointer, `%rd1`, with `%r1` the thread.
fn kernel(shared: &str, body: &str) -> String {
    module(&format!(
        ".visible .entry k(.param .u64 y) {{\n.reg .pred %p<4>;\n.reg .b32 %r<12>;\n.reg .f32 %f<12>;\n.reg .b64 %rd<8>;\n{shared}\n\
         ld.param.u64 %rd1, [y];\nmov.u32 %r1, %tid.x;\n{body}\nret;\n}}\n"
    ))
}

/// The line of the PTX text with these words.
fn line(ptx: &str, words: &str) -> u64 {
    ptx.lines().position(|l| l.contains(words)).map(|n| n as u64 + 1).unwrap()
}

fn launch(threads: u32) -> String {
    format!(
        r#"{{"entry":"k","grid":[1,1,1],"block":[{threads},1,1],"args":[{{"tensor":"y"}}],
            "alloc":{{"y":{{"dtype":"I32","shape":[64]}}}},"outputs":["y"]}}"#
    )
}

#[test]
fn each_kind_of_error_is_reported_with_its_line() {
    let box4 = ".shared .align 16 .b8 box[1024];";
    let bar = ".shared .align 8 .b8 bar[8];";
    let init = "mbarrier.init.shared.b64 [bar], 1;\n";
    // Threads, shared memory, body, words of the line to blame, kind.
    let rows: [(u32, &str, String, &str, &str); 17] = [
        (1, "", "st.global.b32 [%rd1+256], %r1;".into(), "+256", "oob"),
        (1, box4, "st.shared.b32 [box+262144], %r1;".into(), "box+262144", "oob"),
        (1, "", "st.global.b32 [%rd1+2], %r1;".into(), "+2", "misaligned"),
        (1, "", "ld.global.b32 %r2, [%rd1];".into(), "ld.global", "uninit"),
        (1, box4, "ld.shared.b32 %r2, [box];\nst.global.b32 [%rd1], %r2;".into(), "ld.shared.b32", "uninit"),
        (1, "", "setp.eq.u32 %p1, %r3, 0;\n@%p1 bra there;\nthere:".into(), "bra there", "uninit"),
        (
            64,
            box4,
            "and.b32 %r2, %r1, 31;\nshl.b32 %r2, %r2, 2;\nmov.u32 %r3, box;\nadd.u32 %r2, %r2, %r3;\nst.shared.b32 [%r2], %r1;"
                .into(),
            "st.shared.b32",
            "race",
        ),
        (1, bar, format!("{init}{init}"), "mbarrier.init", "mbarrier"),
        (1, bar, format!("{init}mbarrier.arrive.expect_tx.shared.b64 %rd2, [bar], 2097152;"), "expect_tx", "tx"),
        (32, "", "setp.ge.u32 %p1, %r1, 16;\n@%p1 bra out;\nbar.sync 0, 48;\nout:".into(), "bar.sync", "barrier"),
        (96, "", "setp.ge.u32 %p1, %r1, 32;\n@%p1 bra out;\nbar.sync 1, 96;\nout:".into(), "bar.sync 1", "deadlock"),
        (
            1,
            bar,
            format!("{init}wait:\nmbarrier.try_wait.parity.shared.b64 %p1, [bar], 0;\n@!%p1 bra wait;"),
            "mbarrier.try_wait",
            "deadlock",
        ),
        (1, "", "loop:\nbra loop;".into(), "bra loop", "deadlock"),
        (32, "", "shfl.sync.idx.b32 %r2, %r1, 0, 31, 1;".into(), "shfl.sync", "mask"),
        (32, "", "setp.ge.u32 %p1, %r1, 16;\n@%p1 wgmma.fence.sync.aligned;".into(), "wgmma.fence", "divergence"),
        (32, "", "setmaxnreg.inc.sync.aligned.u32 240;".into(), "setmaxnreg", "register"),
        (1, "", "trap;".into(), "trap;", "exit"),
    ];
    for (threads, shared, body, blame, kind) in rows {
        let ptx = kernel(shared, &body);
        let r = emulate(&ptx, &launch(threads), &[x()], &["--schedules", "2"]);
        let found = r.findings();
        let wanted = |(k, severity, _): &&(String, String, u64)| k == kind && severity == "error";
        let finding = found.iter().find(wanted).unwrap_or_else(|| panic!("{kind} not found: {}\n{ptx}", r.text));
        assert_eq!(r.code, 1, "{kind}: {}", r.text);
        let text = ptx.lines().nth(finding.2 as usize - 1).unwrap();
        assert!(text.contains(blame), "{kind} blames `{text}`: {}", r.text);
        assert!(!r.path("out").exists(), "{kind}");
        assert!(r.text.contains(&format!("error[{kind}]: ")) && r.line.starts_with("gen: k at schedule "), "{}", r.text);
    }
}

#[test]
fn a_report_has_all_fields_also_when_the_kernel_is_wrong() {
    let ptx = kernel("", ".loc 1 7 3\nst.global.b32 [%rd1+256], %r1;") + ".file 1 \"some/kernel.cu\"\n";
    for (ptx, code) in [(ptx.clone(), 1), (ptx.replace("+256", "+252"), 0)] {
        let r = emulate(&ptx, &launch(1), &[x()], &["--schedules", "2"]);
        assert_eq!(r.code, code, "{}", r.text);
        let report = r.report();
        let mut keys: Vec<_> = report.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        let all = [
            "counters",
            "findings",
            "kernel",
            "launches",
            "plan",
            "printed",
            "schedules",
            "seed",
            "unwritten",
            "verified_against",
        ];
        assert_eq!(keys, all);
        assert_eq!(report["findings"].as_array().unwrap().len(), code as usize);
        assert_eq!(report["kernel"], "k");
        assert_eq!(report["schedules"].as_u64(), Some(2 - code as u64));
        assert!(report["counters"]["warp_instructions"].as_u64().unwrap() >= 3);
        assert_eq!(report["plan"], Value::Null);
    }
    let r = emulate(&ptx, &launch(1), &[x()], &[]);
    let f = &r.report()["findings"][0];
    let mut keys: Vec<_> = f.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    let all = ["address", "count", "help", "kind", "line", "message", "other", "seed", "severity", "source", "thread"];
    assert_eq!(keys, all);
    assert_eq!((f["kind"].as_str(), f["severity"].as_str()), (Some("oob"), Some("error")));
    assert_eq!((f["line"].as_u64(), f["source"].as_str()), (Some(line(&ptx, "+256")), Some("some/kernel.cu:7")));
    assert_eq!(f["thread"], json!({"block": [0, 0, 0], "warp": 0, "lanes": 1, "tid": [0, 0, 0]}));
    assert_eq!((f["count"].as_u64(), f["seed"].as_u64()), (Some(1), Some(0)));
    assert_eq!(f["address"].as_u64().unwrap() % 256, 0);
    assert_eq!(f["message"], "4 bytes at offset 256 of `y`, which has 256 bytes");
    assert!(r.text.contains("   = at: `y` + 0x100, which has 256 bytes"), "{}", r.text);
}

/// Warp 1 writes what warp 0 reads; the barrier between is `between`.
fn two_warps(between: &str) -> String {
    kernel(
        ".shared .align 4 .b8 box[128];",
        &format!(
            "mov.u32 %r2, box;\nand.b32 %r3, %r1, 31;\nshl.b32 %r4, %r3, 2;\nadd.u32 %r5, %r2, %r4;\n\
             setp.lt.u32 %p1, %r1, 32;\n@%p1 bra reader;\nst.shared.b32 [%r5], %r3;\n{between}\nbra done;\n\
             reader:\n{between}\nld.shared.b32 %r6, [%r5];\nmul.wide.u32 %rd2, %r1, 4;\nadd.s64 %rd3, %rd1, %rd2;\n\
             st.global.b32 [%rd3], %r6;\ndone:"
        ),
    )
}

#[test]
fn a_race_names_both_sides() {
    let r = emulate(&two_warps("bar.sync 0;"), &launch(64), &[x()], &["--schedules", "4"]);
    assert_eq!((r.code, r.findings().len()), (0, 0), "{}", r.text);
    assert_eq!(r.bytes("y")[..128], i32s(0..32));
    let ptx = two_warps("");
    let r = emulate(&ptx, &launch(64), &[x()], &["--schedules", "4"]);
    assert_eq!(r.code, 1, "{}", r.text);
    let report = r.report();
    let race = report["findings"].as_array().unwrap().iter().find(|f| f["kind"] == "race").unwrap();
    let (read, write) = (line(&ptx, "ld.shared"), line(&ptx, "st.shared"));
    let mut sides = [race["line"].as_u64().unwrap(), race["other"]["line"].as_u64().unwrap()];
    sides.sort();
    assert_eq!(sides, [write.min(read), write.max(read)], "{race}");
    let mut warps = [race["thread"]["warp"].as_u64().unwrap(), race["other"]["thread"]["warp"].as_u64().unwrap()];
    warps.sort();
    assert_eq!(warps, [0, 1], "{race}");
    assert!(race["help"].as_str().is_some_and(|h| h.contains("bar.sync")) && race["address"].is_u64(), "{race}");
    assert!(r.text.contains("ld.shared.b32 %r6, [%r5];") && r.text.contains("st.shared.b32 [%r5], %r3;"), "{}", r.text);
    // Between blocks, in global memory, by the tensor's name.
    let ptx = kernel("", "mov.u32 %r2, %ctaid.x;\nst.global.b32 [%rd1], %r2;");
    let r = emulate(&ptx, &launch(1).replace("\"grid\":[1,", "\"grid\":[2,"), &[x()], &[]);
    assert!(r.code == 1 && r.line.contains("race") && r.line.contains("of `y`"), "{}", r.text);
}

#[test]
fn equal_writes_and_costly_accesses_are_lints() {
    let ptx = kernel("", "mov.u32 %r2, 5;\nst.global.b32 [%rd1], %r2;");
    let r = emulate(&ptx, &launch(64), &[x()], &["--schedules", "2"]);
    assert_eq!(r.code, 0, "{}", r.text);
    assert!(r.findings().contains(&("race-equal".into(), "lint".into(), line(&ptx, "st.global"))), "{:?}", r.findings());
    assert_eq!(r.bytes("y")[..4], i32s([5]));
    // Each thread at the start of a row of 128 bytes: 32 passes for 128 bytes.
    let body = "mov.u32 %r2, box;\nshl.b32 %r3, %r1, 7;\nadd.u32 %r4, %r2, %r3;\n".to_string()
        + "st.shared.b32 [%r4], %r1;\nmov.u32 %r5, 0;\nloop:\nld.shared.b32 %r6, [%r4];\nadd.u32 %r5, %r5, 1;\nsetp.lt.u32 %p1, %r5, 20;\n@%p1 bra loop;";
    let ptx = kernel(".shared .align 128 .b8 box[4096];", &body);
    let r = emulate(&ptx, &launch(32), &[x()], &["--schedules", "3"]);
    assert_eq!(r.code, 0, "{}", r.text);
    assert_eq!(r.findings(), [("bank-conflict".to_string(), "lint".to_string(), line(&ptx, "ld.shared"))]);
    assert_eq!(r.text.matches("lint[bank-conflict]").count(), 1, "told once, not for each schedule: {}", r.text);
    assert!(r.text.contains("0 errors, 1 lint in 3 schedules"), "{}", r.text);
}

#[test]
fn without_checks_only_what_stops_a_kernel_is_found() {
    let none = ["--checks", "none", "--schedules", "2"];
    let r = emulate(&two_warps(""), &launch(64), &[x()], &none);
    assert!(r.code == 0 && r.findings().is_empty(), "{}", r.text);
    let ptx = kernel("", "ld.global.b32 %r2, [%rd1];\nst.global.b32 [%rd1+256], %r2;");
    let r = emulate(&ptx, &launch(1), &[x()], &none);
    assert_eq!(r.findings(), [("oob".to_string(), "error".to_string(), line(&ptx, "+256"))]);
    assert_eq!(r.code, 1);
}

#[test]
fn schedules_that_disagree_are_an_error_unless_atomics_explain_it() {
    let place = |increment: &str| {
        // Each warp's first thread takes a number and writes its warp there.
        kernel(
            "",
            &format!(
                "and.b32 %r2, %r1, 31;\nsetp.ne.u32 %p1, %r2, 0;\n@%p1 bra out;\nshr.u32 %r3, %r1, 5;\n{increment}\n\
                 mul.wide.u32 %rd2, %r4, 4;\nadd.s64 %rd3, %rd1, %rd2;\nst.global.b32 [%rd3+4], %r3;\nout:"
            ),
        )
    };
    let zero = launch(512).replace("[64]}", r#"[64],"zero":true}"#);
    let ptx = place("atom.global.add.u32 %r4, [%rd1], 1;");
    let r = emulate(&ptx, &zero, &[x()], &["--schedules", "6"]);
    assert_eq!(r.code, 0, "{}", r.text);
    assert_eq!(r.findings(), [("nondeterminism".to_string(), "lint".to_string(), line(&ptx, "atom.global"))]);
    assert!(r.text.contains("gives other values for `y` than the first"), "{}", r.text);
    // The replay compares schedules again.
    let replay = r.text.lines().find(|l| l.contains("= replay: ")).unwrap();
    assert!(replay.contains("--schedules "), "{replay}");
    // Without atomics nothing explains it. Here the clock does, which warps in another order read at other times.
    let body = "mov.u32 %r2, %clock;\nmul.wide.u32 %rd2, %r1, 4;\nadd.s64 %rd3, %rd1, %rd2;\nst.global.b32 [%rd3], %r2;";
    let r = emulate(&kernel("", body), &launch(512).replace("[64]", "[512]"), &[x()], &["--schedules", "6"]);
    assert_eq!(r.code, 1, "{}", r.text);
    assert_eq!(r.findings(), [("nondeterminism".to_string(), "error".to_string(), 0)]);
    assert!(!r.path("out").exists() && r.line.contains("gives other values for `y`"), "{}", r.text);
}

#[test]
fn unknown_text_is_bad_input_and_unknown_cases_are_findings() {
    let rows = [
        ("frob.b32 %r2, %r1;", "unknown instruction `frob.b32`"),
        ("mov.u32 %q9, %r1;", "`%q9`"),
        ("tex.2d.v4.f32.f32 {%f1, %f2, %f3, %f4}, [%rd1, {%f5, %f6}];", "unknown instruction `tex.2d.v4.f32.f32`"),
        ("bra nowhere;", "nowhere"),
        ("mov.u32 %r2 %r1;", "k.ptx: line 12"),
    ];
    for (body, words) in rows {
        let r = emulate(&kernel("", body), &launch(1), &[x()], &[]);
        r.refused(words);
        r.refused("k.ptx: line 12");
    }
    emulate("", &launch(1), &[x()], &[]).refused("k.ptx: ");
    emulate("hello", &launch(1), &[x()], &[]).refused("k.ptx: line 1");
}

#[test]
fn what_kernels_print_is_shown_and_reported() {
    let ptx = module(
        ".global .align 1 .b8 text[10] = {120, 32, 61, 32, 37, 100, 10, 0};
.extern .func (.param .b32 status) vprintf (.param .b64 format, .param .b64 args);
.visible .entry k(.param .u64 y) {
.local .align 8 .b8 depot[8];
.reg .b32 %r<3>;
.reg .b64 %rd<5>;
mov.u64 %rd1, depot;
cvta.local.u64 %rd2, %rd1;
mov.u32 %r1, 42;
st.local.b32 [depot], %r1;
mov.u64 %rd3, text;
cvta.global.u64 %rd4, %rd3;
{
.param .b64 a;
.param .b64 b;
.param .b32 c;
st.param.b64 [a], %rd4;
st.param.b64 [b], %rd2;
call.uni (c), vprintf, (a, b);
ld.param.b32 %r2, [c];
}
ret;
}
",
    );
    let r = emulate(&ptx, &launch(1), &[("x", Dtype::I32, vec![1], i32s([1]))], &["--schedules", "2"]);
    assert_eq!(r.code, 0, "{}", r.text);
    assert_eq!(r.report()["printed"], json!(["x = 42\n"]));
    assert_eq!(r.text.matches("printf: x = 42").count(), 1, "{}", r.text);
}
