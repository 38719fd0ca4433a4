//! Answers of GPUs, as `benches/gpu/differential.py` wrote them, against the emulator's: bit for bit, but for approximate
//! functions, which must stay within the bounds of the PTX ISA of each other. How many there are is printed; see
//! `vectors/README.md`.

use serde_json::Value;
use tilewright_emulator::tensor::swizzle::Swizzle;
use tilewright_emulator::tensor::tma::{Interleave, OobFill, TensorDType};
use tilewright_emulator::{Arg, Device, DeviceConfig, Fill, Launch, Module, Numerics, Severity, TensorMap};

fn bytes(value: &Value) -> Result<Vec<u8>, String> {
    let hex = value.as_str().ok_or("no hex digits")?;
    let pair = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or("bad hex digits");
    (0..hex.len()).step_by(2).map(|at| pair(at).map_err(str::to_string)).collect()
}

fn numbers<T: TryFrom<u64>>(value: &Value) -> Result<Vec<T>, String> {
    let list = value.as_array().ok_or("no list")?.iter();
    list.map(|item| item.as_u64().and_then(|n| T::try_from(n).ok()).ok_or_else(|| format!("{item}"))).collect()
}

fn tensor_map(device: &Device, base: u64, spec: &Value) -> Result<Vec<u8>, String> {
    let map = TensorMap {
        dtype: match spec["dtype"].as_str() {
            Some("u8") => TensorDType::U8,
            Some("u16") => TensorDType::U16,
            Some("f16") => TensorDType::F16,
            Some("bf16") => TensorDType::Bf16,
            Some("f32") => TensorDType::F32,
            Some("f64") => TensorDType::F64,
            other => return Err(format!("tensor map of {other:?}")),
        },
        base: base + spec["offset"].as_u64().unwrap_or(0),
        dims: numbers(&spec["dims"])?,
        strides: numbers(&spec["strides"])?,
        box_dims: numbers(&spec["box"])?,
        element_strides: numbers(&spec["element_strides"])?,
        swizzle: match spec["swizzle"].as_u64() {
            Some(32) => Swizzle::B32,
            Some(64) => Swizzle::B64,
            Some(128) => Swizzle::B128,
            _ => Swizzle::None,
        },
        interleave: Interleave::None,
        oob_fill: if spec["nan"] == true { OobFill::Nan } else { OobFill::Zero },
    };
    Ok(device.encode_tensor_map(&map).map_err(|error| error.to_string())?.to_vec())
}

fn emulate(vector: &Value) -> Result<Vec<u8>, String> {
    let module = Module::parse(vector["ptx"].as_str().ok_or("no ptx")?).map_err(|error| error.to_string())?;
    let mut device = Device::new(DeviceConfig { numerics: Numerics::Exact, ..DeviceConfig::default() });
    let (source, size) = (bytes(&vector["in"])?, bytes(&vector["out"])?.len());
    let input = device.alloc(source.len() as u64, Fill::Bytes(&source)).map_err(|error| error.to_string())?;
    let output = device.alloc(size as u64, Fill::Bytes(&vec![0xCC; size])).map_err(|error| error.to_string())?;
    let mut args = vec![Arg::U64(device.address(input)), Arg::U64(device.address(output))];
    for spec in vector["maps"].as_array().into_iter().flatten() {
        args.push(Arg::Bytes(tensor_map(&device, device.address(input), spec)?));
    }
    let extent = |key: &str| vector[key].as_u64().and_then(|n| u32::try_from(n).ok()).ok_or(format!("no {key}"));
    let (grid, block) = ([extent("blocks")?, 1, 1], [extent("threads")?, 1, 1]);
    let launch = Launch { entry: "k".into(), grid, block, args, ..Launch::default() };
    let report = device.launch(&module, &launch).map_err(|error| error.to_string())?;
    match report.findings.iter().find(|finding| finding.severity == Severity::Error) {
        Some(finding) => Err(format!("line {}: {}", finding.line, finding.message)),
        None => Ok(device.read(output).to_vec()),
    }
}

/// Two approximations of the same value, each within the bound that the PTX ISA gives for the function.
fn close(name: &str, a: f32, b: f32) -> bool {
    let (a, b) = (f64::from(a), f64::from(b));
    let largest = a.abs().max(b.abs());
    let bound = match name.split('.').next() {
        Some("sin" | "cos") => 2.0 * 2f64.powf(-20.5),
        Some("tanh") => 2.0 * 2f64.powi(-11) * largest,
        // Near 1 the bound of lg2 is absolute.
        Some("lg2") => 2.0 * 2f64.powi(-22) * largest.max(1.0),
        _ => 2.0 * 2f64.powi(-22) * largest,
    };
    a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= bound
}

fn compare(vector: &Value) -> Result<(), String> {
    let (want, got) = (bytes(&vector["out"])?, emulate(vector)?);
    let name = vector["name"].as_str().unwrap_or_default();
    let approximate = name.contains(".approx");
    let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    for (at, (want, got)) in want.chunks_exact(4).zip(got.chunks_exact(4)).enumerate() {
        let (want, got) = (word(want), word(got));
        let same = want == got || approximate && close(name, f32::from_bits(want), f32::from_bits(got));
        if !same {
            return Err(format!("word {at} is {got:#010x}, {want:#010x} on {}", vector["gpu"]));
        }
    }
    Ok(())
}

#[test]
fn the_emulator_answers_as_gpus_did() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");
    let mut count = 0;
    let mut failures = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder").flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|ext| ext != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("text");
        let vectors: Vec<Value> = serde_json::from_str(&text).expect("a list of vectors");
        for vector in vectors {
            count += 1;
            if let Err(why) = compare(&vector) {
                failures.push(format!("{}: {}: {why}", path.display(), vector["name"]));
            }
        }
    }
    println!("{count} vectors of GPUs");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A vector that needs no GPU keeps the replay itself honest.
#[test]
fn a_vector_is_replayed() {
    let ptx = ".version 8.6\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out) {\n
        .reg .b32 %r<4>; .reg .b64 %rd<4>; ld.param.u64 %rd0, [in]; ld.param.u64 %rd1, [out];\n
        mov.u32 %r0, %tid.x; mul.wide.u32 %rd2, %r0, 4; add.u64 %rd0, %rd0, %rd2; add.u64 %rd1, %rd1, %rd2;\n
        ld.global.b32 %r1, [%rd0]; add.u32 %r1, %r1, 1; st.global.b32 [%rd1], %r1; ret; }";
    let vector = |out: &str| {
        serde_json::json!({"name": "add", "gpu": "none", "ptx": ptx, "threads": 2, "blocks": 1, "maps": [],
                           "in": "01000000ff000000", "out": out})
    };
    assert_eq!(compare(&vector("0200000000010000")), Ok(()));
    assert!(compare(&vector("0200000001010000")).is_err_and(|why| why.contains("word 1")));
}
