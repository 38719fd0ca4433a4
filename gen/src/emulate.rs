//! `gen emulate`: any PTX file in the emulator.

use crate::cli::EmulateArgs;
use crate::emulator_device::{describe, is_error};
use crate::error::{Fail, Res, bad_input, failed, failure, usage};
use crate::files;
use crate::launch_file::{ArgSpec, LaunchFile, MapSpec};
use crate::tensors::{self, Tensor, Tensors};
use safetensors::Dtype;
use std::collections::BTreeMap;
use tilewright_emulator::tensor::swizzle::Swizzle;
use tilewright_emulator::tensor::tma::{Interleave, OobFill, TensorDType, TensorMap};
use tilewright_emulator::{Arg, BufferId, Checks, Device, DeviceConfig, Fill, Launch, LaunchError, Module, Report};

/// Bytes that nothing wrote come out as this.
const UNWRITTEN: u8 = 0xCC;

/// Runs the command.
pub fn emulate(args: &EmulateArgs) -> Res<()> {
    if args.numerics != "fast" {
        return usage(format!("--numerics {}: only fast is built yet", args.numerics));
    }
    let at = |path: &std::path::Path, e: &dyn std::fmt::Display| Fail::Usage(format!("{}: {e}", path.display()));
    let text = std::fs::read_to_string(&args.ptx).map_err(|e| at(&args.ptx, &e))?;
    let module = Module::parse(&text).map_err(|e| at(&args.ptx, &e))?;
    let file = std::fs::read_to_string(&args.launch).map_err(|e| at(&args.launch, &e))?;
    let file: LaunchFile = serde_json::from_str(&file).map_err(|e| at(&args.launch, &e))?;
    let inputs = args.input.as_deref().map(tensors::read).transpose()?.unwrap_or_default();
    let mut last = None;
    for seed in 0..args.schedules.max(1) {
        let (report, outputs, unwritten) = once(args, &module, &file, &inputs, seed)?;
        let bad = report.findings.iter().find(|f| is_error(f)).map(describe);
        last = Some((report, outputs, unwritten, seed, bad));
        if last.as_ref().is_some_and(|l| l.4.is_some()) {
            break;
        }
    }
    let Some((report, outputs, unwritten, seed, bad)) = last else { return failed("no schedule was run") };
    if let Some(path) = &args.report {
        let value =
            serde_json::json!({"findings": report.findings, "counters": report.counters, "unwritten": unwritten, "seed": seed});
        files::write_whole(path, format!("{value:#}\n").as_bytes())?;
    }
    if let Some(bad) = bad {
        return failed(format!("{} at schedule {seed}: {bad}", file.entry));
    }
    for f in &report.findings {
        eprintln!("lint: {}", describe(f));
    }
    tensors::write(&args.output, &outputs)
}

/// Tensors of one run.
struct Memory {
    device: Device,
    tensors: BTreeMap<String, (BufferId, Dtype, Vec<usize>)>,
}

fn once(
    args: &EmulateArgs,
    module: &Module,
    file: &LaunchFile,
    inputs: &Tensors,
    seed: u64,
) -> Res<(Report, Tensors, BTreeMap<String, u64>)> {
    let checks = if args.checks == "all" { Checks::All } else { Checks::None };
    let mut m = Memory {
        device: Device::new(DeviceConfig { checks, seed, resident: file.resident, ..DeviceConfig::default() }),
        tensors: BTreeMap::new(),
    };
    for (name, t) in inputs {
        let id = m.device.alloc(t.data.len() as u64, Fill::Bytes(&t.data)).map_err(failure)?;
        m.tensors.insert(name.clone(), (id, t.dtype, t.shape.clone()));
    }
    for (name, a) in &file.alloc {
        let dtype = dtype(&a.dtype)?;
        let bytes = a.shape.iter().product::<usize>() * size(dtype);
        let fill = if a.zero { Fill::Zero } else { Fill::Undefined };
        let id = m.device.alloc(bytes as u64, fill).map_err(failure)?;
        if m.tensors.insert(name.clone(), (id, dtype, a.shape.clone())).is_some() {
            return usage(format!("tensor `{name}` is in the input file and in alloc"));
        }
    }
    if let Some(name) = file.outputs.iter().find(|n| !m.tensors.contains_key(*n)) {
        return usage(format!("output `{name}` is neither in the input file nor in alloc"));
    }
    let list = file.args.iter().enumerate().map(|(i, a)| argument(&m, i, a)).collect::<Res<Vec<Arg>>>()?;
    let launch = Launch {
        entry: file.entry.clone(),
        grid: file.grid,
        block: file.block,
        cluster: file.cluster,
        dynamic_shared_bytes: file.shared_bytes,
        args: list,
    };
    let report =
        m.device.launch(module, &launch).map_err(|e: LaunchError| bad_input(format!("{}: {e}", args.launch.display())))?;
    let mut outputs = Tensors::new();
    let mut unwritten = BTreeMap::new();
    for name in &file.outputs {
        let (id, dtype, shape) = &m.tensors[name];
        let mut data = m.device.read(*id).to_vec();
        data.iter_mut().zip(m.device.written(*id)).filter(|(_, w)| !*w).for_each(|(b, _)| *b = UNWRITTEN);
        unwritten.insert(name.clone(), m.device.unwritten(*id));
        outputs.insert(name.clone(), Tensor { dtype: *dtype, shape: shape.clone(), data });
    }
    Ok((report, outputs, unwritten))
}

fn argument(m: &Memory, i: usize, a: &ArgSpec) -> Res<Arg> {
    let address = |name: &str, offset: u64| -> Res<u64> {
        let t = m.tensors.get(name).ok_or_else(|| Fail::Usage(format!("argument {i}: there is no tensor `{name}`")))?;
        Ok(m.device.address(t.0) + offset)
    };
    let kinds = [
        a.tensor.is_some(),
        a.i32.is_some(),
        a.u64.is_some(),
        a.f32.is_some(),
        a.null.is_some(),
        a.bytes.is_some(),
        a.tensor_map.is_some(),
    ];
    if kinds.iter().filter(|k| **k).count() != 1 {
        return usage(format!("argument {i}: expected exactly one of tensor, i32, u64, f32, null, bytes, tensor_map"));
    }
    if let Some(name) = &a.tensor {
        return Ok(Arg::U64(address(name, a.offset)?));
    }
    if let Some(v) = a.i32 {
        let fits = i32::try_from(v).map(|v| v as u32).or_else(|_| u32::try_from(v));
        return fits.map(Arg::U32).map_err(|_| Fail::Usage(format!("argument {i}: {v} does not fit 32 bits")));
    }
    if let Some(v) = a.u64 {
        return Ok(Arg::U64(v));
    }
    if let Some(v) = a.f32 {
        return Ok(Arg::F32(v as f32));
    }
    if let Some(map) = &a.tensor_map {
        return tensor_map(m, i, map, address(&map.tensor, map.offset)?);
    }
    let Some(hex) = &a.bytes else { return Ok(Arg::U64(0)) };
    let mut bytes = unhex(hex).ok_or_else(|| Fail::Usage(format!("argument {i}: bytes are not hex digits in pairs")))?;
    for (offset, name) in &a.pointers {
        let at: usize =
            offset.parse().map_err(|_| Fail::Usage(format!("argument {i}: pointer offset `{offset}` is not a number")))?;
        let value = address(name, 0)?.to_le_bytes();
        let place = bytes
            .get_mut(at..at + 8)
            .ok_or_else(|| Fail::Usage(format!("argument {i}: a pointer at {at} does not fit the bytes")))?;
        place.copy_from_slice(&value);
    }
    Ok(Arg::Bytes(bytes))
}

fn tensor_map(m: &Memory, i: usize, s: &MapSpec, base: u64) -> Res<Arg> {
    let of_tensor = m.tensors[&s.tensor].1;
    let named = s.dtype.as_deref().map(dtype).transpose()?.unwrap_or(of_tensor);
    let dtype = match named {
        Dtype::BF16 => TensorDType::Bf16,
        Dtype::F16 => TensorDType::F16,
        Dtype::F32 => TensorDType::F32,
        Dtype::I32 => TensorDType::S32,
        Dtype::U8 | Dtype::I8 | Dtype::F8_E4M3 | Dtype::F8_E5M2 => TensorDType::U8,
        Dtype::U16 | Dtype::I16 => TensorDType::U16,
        other => return usage(format!("argument {i}: tensor maps of {other:?} are not built yet")),
    };
    let choice = |what: &str, value: &str, names: &[&str]| {
        names
            .iter()
            .position(|n| *n == value)
            .ok_or_else(|| Fail::Usage(format!("argument {i}: {what} `{value}`: expected one of {}", names.join(", "))))
    };
    let map = TensorMap {
        dtype,
        base,
        dims: s.dims.clone(),
        strides: s.strides.clone(),
        box_dims: s.r#box.clone(),
        element_strides: s.element_strides.clone().unwrap_or_else(|| vec![1; s.dims.len()]),
        swizzle: [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128]
            [choice("swizzle", &s.swizzle, &["none", "32B", "64B", "128B"])?],
        interleave: [Interleave::None][choice("interleave", &s.interleave, &["none"])?],
        oob_fill: [OobFill::Zero, OobFill::Nan][choice("oob", &s.oob, &["zero", "nan"])?],
    };
    let bytes = m.device.encode_tensor_map(&map).map_err(|e| Fail::Usage(format!("argument {i}: {e}")))?;
    Ok(Arg::Bytes(bytes.to_vec()))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text
        .as_bytes()
        .chunks(2)
        .map(|c| std::str::from_utf8(c).ok().filter(|s| s.len() == 2).and_then(|s| u8::from_str_radix(s, 16).ok()));
    pairs.collect()
}

fn dtype(name: &str) -> Res<Dtype> {
    serde_json::from_value(serde_json::Value::String(name.to_string()))
        .map_err(|_| Fail::Usage(format!("unknown dtype `{name}`: expected a safetensors dtype such as F32, BF16, I8")))
}

fn size(d: Dtype) -> usize {
    d.bitsize() / 8
}
