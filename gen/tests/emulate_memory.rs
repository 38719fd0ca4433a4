//! `gen emulate`: tensors, variables and outputs.

use crate::common::emulation::*;
use crate::common::save;
use safetensors::tensor::Dtype;

/// y[i] = x[i] + 1 for the threads of one block, 4 bytes each.
fn add_one() -> String {
    module(
        ".visible .entry k(.param .u64 x, .param .u64 y) {
.reg .b32 %r<3>;
.reg .b64 %rd<6>;
ld.param.u64 %rd1, [x];
ld.param.u64 %rd2, [y];
mov.u32 %r1, %tid.x;
mul.wide.u32 %rd3, %r1, 4;
add.s64 %rd4, %rd1, %rd3;
add.s64 %rd5, %rd2, %rd3;
ld.global.b32 %r2, [%rd4];
add.u32 %r2, %r2, 1;
st.global.b32 [%rd5], %r2;
ret;
}
",
    )
}

const TO_Y: &str = r#"{"entry":"k","grid":[1,1,1],"block":[32,1,1],"args":[{"tensor":"x"},{"tensor":"y"}],
    "alloc":{"y":{"dtype":"I32","shape":[8,5]}},"outputs":["y"]}"#;

#[test]
fn unwritten_bytes_come_out_as_cc_and_are_counted() {
    let r = emulate(&add_one(), TO_Y, &[x()], &[]);
    let (dtype, shape, bytes) = r.output("y");
    assert_eq!((dtype, shape), (Dtype::I32, vec![8, 5]));
    assert_eq!(bytes[..128], i32s(1..33));
    assert_eq!(bytes[128..], [0xCC; 32]);
    assert_eq!(r.report()["unwritten"]["y"], 32);
    // Cleared ones are written, and alloc may name scratch that is no output.
    let zero = TO_Y.replace("[8,5]}", r#"[8,5],"zero":true},"scratch":{"dtype":"F64","shape":[]}"#);
    let r = emulate(&add_one(), &zero, &[x()], &[]);
    assert_eq!(r.bytes("y")[128..], [0; 32]);
    assert_eq!(r.report()["unwritten"], serde_json::json!({"y": 0}));
}

#[test]
fn a_tensor_of_the_input_may_be_an_output() {
    let launch = r#"{"entry":"k","grid":[1,1,1],"block":[32,1,1],"args":[{"tensor":"x"},{"tensor":"x"}],"outputs":["x"]}"#;
    // The schedules start from the same input each.
    let r = emulate(&add_one(), launch, &[x()], &["--schedules", "3"]);
    assert_eq!(r.bytes("x"), i32s((1..33).chain(32..64)));
    assert_eq!((r.report()["unwritten"]["x"].as_u64(), r.report()["schedules"].as_u64()), (Some(0), Some(3)));
}

#[test]
fn every_dtype_goes_in_and_out() {
    let dtypes = [
        Dtype::BOOL,
        Dtype::F4,
        Dtype::F6_E2M3,
        Dtype::F6_E3M2,
        Dtype::U8,
        Dtype::I8,
        Dtype::F8_E5M2,
        Dtype::F8_E4M3,
        Dtype::F8_E8M0,
        Dtype::F8_E4M3FNUZ,
        Dtype::F8_E5M2FNUZ,
        Dtype::I16,
        Dtype::U16,
        Dtype::F16,
        Dtype::BF16,
        Dtype::I32,
        Dtype::U32,
        Dtype::F32,
        Dtype::C64,
        Dtype::F64,
        Dtype::I64,
        Dtype::U64,
    ];
    for dtype in dtypes {
        let name = serde_json::to_value(dtype).unwrap();
        // 384 bytes are whole numbers of any of them.
        let n = 384 * 8 / dtype.bitsize();
        let x = ("x", dtype, vec![n], i32s(0..96));
        let launch = TO_Y.replace("\"I32\"", &name.to_string()).replace("[8,5]", &format!("[2,{}]", n / 2));
        let launch = launch.replace(r#"["y"]"#, r#"["x","y"]"#);
        let r = emulate(&add_one(), &launch, std::slice::from_ref(&x), &[]);
        let (back, shape, bytes) = r.output("y");
        assert_eq!((back, shape), (dtype, vec![2, n / 2]));
        assert_eq!(bytes[..128], i32s(1..33), "{name}");
        assert_eq!(r.output("x"), (dtype, vec![n], x.3), "{name}");
    }
}

/// y[i] = table[i] + counter; then thread 0 counts up.
fn variables() -> String {
    module(
        ".const .align 4 .b32 table[32] = {5};
.global .align 4 .b32 counter = 7;
.visible .entry k(.param .u64 y) {
.reg .pred %p<2>;
.reg .b32 %r<5>;
.reg .b64 %rd<6>;
ld.param.u64 %rd1, [y];
mov.u32 %r1, %tid.x;
mul.wide.u32 %rd2, %r1, 4;
mov.u64 %rd3, table;
add.s64 %rd4, %rd3, %rd2;
ld.const.b32 %r2, [%rd4];
ld.global.b32 %r3, [counter];
add.u32 %r4, %r2, %r3;
add.s64 %rd5, %rd1, %rd2;
st.global.b32 [%rd5], %r4;
bar.sync 0;
setp.ne.u32 %p1, %r1, 0;
@%p1 ret;
add.u32 %r3, %r3, 1;
st.global.b32 [counter], %r3;
ret;
}
",
    )
}

fn with_symbols(symbols: &str, outputs: &str) -> String {
    format!(
        r#"{{"entry":"k","grid":[1,1,1],"block":[32,1,1],"args":[{{"tensor":"y"}}],"symbols":{symbols},
            "alloc":{{"y":{{"dtype":"I32","shape":[32]}}}},"outputs":{outputs}}}"#
    )
}

#[test]
fn variables_are_set_and_written_back() {
    let x = || ("x", Dtype::I32, vec![4, 8], i32s(0..32));
    // As the module initialises them.
    let r = emulate(&variables(), &with_symbols("{}", r#"["y","symbol:counter"]"#), &[x()], &["--schedules", "2"]);
    assert_eq!(r.bytes("y"), i32s([12].into_iter().chain([7; 31])));
    assert_eq!(r.output("symbol:counter"), (Dtype::U8, vec![4], i32s([8])), "a variable is bytes");
    // From a tensor, whose dtype and shape the variable then has, and from bytes.
    let symbols = r#"{"table":{"tensor":"x"},"counter":{"bytes":"64000000"}}"#;
    let r = emulate(&variables(), &with_symbols(symbols, r#"["y","symbol:table","symbol:counter"]"#), &[x()], &[]);
    assert_eq!(r.bytes("y"), i32s(100..132));
    assert_eq!(r.output("symbol:table"), (Dtype::I32, vec![4, 8], i32s(0..32)));
    assert_eq!(r.bytes("symbol:counter"), i32s([101]));
}

#[test]
fn wrong_variables_are_refused() {
    let x = ("x", Dtype::I32, vec![31], i32s(0..31));
    let rows = [
        (
            r#"{"tables":{"tensor":"x"}}"#,
            "[]",
            "symbol `tables`: the module has no .global or .const variable `tables`; it has table, counter",
        ),
        (r#"{"table":{"tensor":"x"}}"#, "[]", "symbol `table` is 128 bytes, its value is 124 bytes"),
        (r#"{"table":{"tensor":"z"}}"#, "[]", "symbol `table`: there is no tensor `z`"),
        (r#"{"table":{"tensor":"y"}}"#, "[]", "symbol `table`: tensor `y` is undefined: expected one of the input file"),
        (r#"{"counter":{"bytes":"0102"}}"#, "[]", "symbol `counter` is 4 bytes, its value is 2 bytes"),
        (r#"{"counter":{"bytes":"010203"}}"#, "[]", "symbol `counter` is 4 bytes, its value is 3 bytes"),
        (r#"{"counter":{"bytes":"0g"}}"#, "[]", "symbol `counter`: bytes `0g` are not pairs of hex digits"),
        (r#"{"counter":{}}"#, "[]", "symbol `counter`: expected exactly one of tensor, bytes"),
        (r#"{"counter":{"bytes":"00000000","tensor":"x"}}"#, "[]", "expected exactly one of tensor, bytes"),
        (r#"{"counter":{"value":1}}"#, "[]", "unknown field `value`"),
        ("{}", r#"["symbol:count"]"#, "symbol `count`: the module has no .global or .const variable `count`"),
        ("{}", r#"["symbol:counter","symbol:counter"]"#, "output `symbol:counter` stands twice"),
    ];
    for (symbols, outputs, words) in rows {
        emulate(&variables(), &with_symbols(symbols, outputs), std::slice::from_ref(&x), &[]).refused(words);
    }
}

#[test]
fn wrong_tensors_are_refused() {
    let alloc = |text: &str| TO_Y.replace(r#""y":{"dtype":"I32","shape":[8,5]}"#, text);
    let rows = [
        (alloc(r#""y":{"dtype":"I31","shape":[8]}"#), "alloc `y`: unknown dtype `I31`: expected a safetensors dtype"),
        (alloc(r#""y":{"dtype":"i32","shape":[8]}"#), "alloc `y`: unknown dtype `i32`"),
        (alloc(r#""y":{"dtype":"F4","shape":[3]}"#), "alloc `y`: F4 [3] is 12 bits, not whole bytes"),
        (alloc(r#""y":{"dtype":"I32","shape":[-1]}"#), "invalid value: integer `-1`"),
        (alloc(r#""y":{"shape":[8]}"#), "missing field `dtype`"),
        (alloc(r#""y":{"dtype":"I32"}"#), "missing field `shape`"),
        (alloc(r#""y":{"dtype":"I32","shape":[8],"fill":0}"#), "unknown field `fill`"),
        (
            alloc(r#""y":{"dtype":"I32","shape":[4294967296,4294967296,8]}"#),
            "alloc `y`: I32 [4294967296, 4294967296, 8] is too large",
        ),
        (
            alloc(r#""w":{"dtype":"U8","shape":[5368709120]},"y":{"dtype":"U8","shape":[5368709120]}"#),
            "alloc `y`: its 5368709120 bytes make 10737418240 bytes in all, expected at most 8589934592",
        ),
        (alloc(r#""x":{"dtype":"I32","shape":[64]}"#), "tensor `x` is in the input file and in alloc: expected one of them"),
        (TO_Y.replace(r#"["y"]"#, r#"["y","z"]"#), "output `z` is neither in the input file nor in alloc"),
        (TO_Y.replace(r#"["y"]"#, r#"["y","y"]"#), "output `y` stands twice"),
        (TO_Y.replace(r#"["y"]"#, r#""y""#), "invalid type: string"),
        (TO_Y.replace("outputs", "output"), "unknown field `output`"),
        (TO_Y.replace("\"alloc\"", "\"alloc\":{},\"alloc\""), "duplicate field `alloc`"),
        ("{".into(), "launch.json: EOF while parsing"),
        ("[]".into(), "launch.json: "),
    ];
    for (launch, words) in rows {
        emulate(&add_one(), &launch, &[x()], &[]).refused(words);
    }
}

/// A folder with the kernel, its launch.json and an input of these bytes.
fn folder(input: Option<&[u8]>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("k.ptx"), add_one()).unwrap();
    std::fs::write(dir.path().join("launch.json"), TO_Y).unwrap();
    if let Some(bytes) = input {
        std::fs::write(dir.path().join("in"), bytes).unwrap();
    }
    dir
}

#[test]
fn unsound_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    save(&dir.path().join("in"), &[x()]);
    let sound = std::fs::read(dir.path().join("in")).unwrap();
    let args = ["--input", "in", "--output", "out"];
    assert_eq!(run_in(folder(Some(&sound)), &args).code, 0);
    let trailing = [&sound[..], &[0]].concat();
    let header = |text: &str, data: usize| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &vec![0; data]].concat();
    let x = r#""x":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}"#;
    let rows: [(Vec<u8>, &str); 7] = [
        (trailing, "in: not a sound safetensors file"),
        (sound[..sound.len() - 1].to_vec(), "in: not a sound safetensors file"),
        (vec![1, 2, 3], "in: not a sound safetensors file"),
        (
            header(&format!(r#"{{{x},"w":{{"dtype":"I32","shape":[2],"data_offsets":[4,12]}}}}"#), 12),
            "not a sound safetensors file",
        ),
        (
            header(&format!(r#"{{{x},"w":{{"dtype":"I32","shape":[2],"data_offsets":[12,20]}}}}"#), 20),
            "not a sound safetensors file",
        ),
        (header(r#"{"x":{"dtype":"I32","shape":[3],"data_offsets":[0,8]}}"#, 8), "not a sound safetensors file"),
        (header(r#"{"x":{"dtype":"Q4","shape":[8],"data_offsets":[0,8]}}"#, 8), "not a sound safetensors file"),
    ];
    for (bytes, words) in rows {
        run_in(folder(Some(&bytes)), &args).refused(words);
    }
    run_in(folder(None), &args).refused("in: No such file or directory");
    run_in(folder(None), &["--output", "out"]).refused("there is no tensor `x`");
    let dir = folder(Some(&sound));
    std::fs::remove_file(dir.path().join("launch.json")).unwrap();
    run_in(dir, &args).refused("launch.json: No such file or directory");
    let dir = folder(Some(&sound));
    std::fs::remove_file(dir.path().join("k.ptx")).unwrap();
    run_in(dir, &args).refused("k.ptx: No such file or directory");
    let dir = folder(Some(&sound));
    std::fs::write(dir.path().join("k.ptx"), [0xff, 0xfe, 0]).unwrap();
    run_in(dir, &args).refused("k.ptx: stream did not contain valid UTF-8");
    // A place that cannot be written is known before anything runs.
    let away = |flags: &[&str]| run_in(folder(Some(&sound)), &[&["--input", "in"], flags].concat());
    away(&["--output", "no/such/out"]).refused("no/such/out: there is no folder no/such");
    away(&["--output", "out", "--report", "no/report"]).refused("no/report: there is no folder no");
    away(&["--output", "."]).refused(".: it is a folder");
}

#[test]
fn outputs_of_an_earlier_run_stay_when_a_run_fails() {
    let dir = folder(None);
    save(&dir.path().join("in"), &[("x", Dtype::I32, vec![8], i32s(0..8))]);
    std::fs::write(dir.path().join("out"), "old").unwrap();
    let r = run_in(dir, &["--input", "in", "--output", "out"]);
    assert!(r.code == 1 && r.line.contains("oob"), "{}", r.text);
    assert_eq!(std::fs::read(r.path("out")).unwrap(), b"old");
}
