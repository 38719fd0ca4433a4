//! Arguments of `gen emulate`: each is checked against the kernel's parameter.

use crate::emulate_memory::{Memory, dtype, unhex};
use crate::launch_file::{ArgSpec, LaunchSpec, MapSpec};
use safetensors::Dtype;
use tilewright_emulator::tensor::swizzle::Swizzle;
use tilewright_emulator::tensor::tma::{Interleave, OobFill, TensorDType, TensorMap};
use tilewright_emulator::{Arg, Fill, Im2col, Launch, Module};
use tilewright_ops::error::{Fail, Res, bad_input, usage};

/// Bytes of a tensor map.
const MAP_BYTES: u32 = 128;

/// A launch with its arguments.
pub fn launch(m: &mut Memory, module: &Module, spec: &LaunchSpec) -> Res<Launch> {
    let Some(params) = module.params(&spec.entry) else {
        let known = module.entries().collect::<Vec<_>>().join(", ");
        return usage(format!("the module has no entry `{}`; it has {known}", spec.entry));
    };
    if params.len() != spec.args.len() {
        let names: Vec<&str> = params.iter().map(|(name, _)| *name).collect();
        return usage(format!(
            "`{}` takes {} parameters ({}), args has {}",
            spec.entry,
            params.len(),
            names.join(", "),
            spec.args.len()
        ));
    }
    let mut args = Vec::new();
    for (i, (a, (name, expected))) in spec.args.iter().zip(params).enumerate() {
        let at = |e: Fail| Fail::Usage(format!("argument {i} (parameter `{name}`): {e}"));
        let (kind, bytes) = argument(m, a, expected).map_err(at)?;
        if bytes.len() != expected as usize {
            let given = bytes.len();
            return usage(format!(
                "argument {i} (parameter `{name}`): {kind} is {given} bytes, the parameter is {expected} bytes"
            ));
        }
        // In the ring a number becomes its payload, bytes stay what they are.
        args.push(match a.f32 {
            Some(value) => Arg::F32(value as f32),
            None => Arg::Bytes(bytes),
        });
    }
    Ok(Launch {
        entry: spec.entry.clone(),
        grid: spec.grid,
        block: spec.block,
        cluster: spec.cluster,
        dynamic_shared_bytes: spec.shared_bytes,
        args,
    })
}

/// What kind of argument it is, and its bytes.
fn argument(m: &mut Memory, a: &ArgSpec, expected: u32) -> Res<(&'static str, Vec<u8>)> {
    let kinds = [
        ("tensor", a.tensor.is_some()),
        ("i32", a.i32.is_some()),
        ("u64", a.u64.is_some()),
        ("f32", a.f32.is_some()),
        ("null", a.null.is_some()),
        ("bytes", a.bytes.is_some()),
        ("tensor_map", a.tensor_map.is_some()),
    ];
    let mut given = kinds.iter().filter(|(_, there)| *there).map(|(name, _)| *name);
    let (Some(kind), None) = (given.next(), given.next()) else {
        return usage("expected exactly one of tensor, i32, u64, f32, null, bytes, tensor_map");
    };
    if a.offset.is_some() && kind != "tensor" {
        return usage(format!("`offset` goes with tensor, not with {kind}"));
    }
    if !a.pointers.is_empty() && kind != "bytes" {
        return usage(format!("`pointers` goes with bytes, not with {kind}"));
    }
    let bytes = match a {
        ArgSpec { tensor: Some(name), .. } => m.address(name, a.offset.unwrap_or(0))?.to_le_bytes().to_vec(),
        ArgSpec { i32: Some(v), .. } => {
            let fits = i32::try_from(*v).map(i32::cast_unsigned).or_else(|_| u32::try_from(*v));
            fits.map_err(|_| Fail::Usage(format!("i32 {v} does not fit 32 bits")))?.to_le_bytes().to_vec()
        }
        ArgSpec { u64: Some(v), .. } => v.to_le_bytes().to_vec(),
        ArgSpec { f32: Some(v), .. } => (*v as f32).to_le_bytes().to_vec(),
        ArgSpec { null: Some(true), .. } => vec![0; 8],
        ArgSpec { null: Some(false), .. } => return usage("null is false: expected true"),
        ArgSpec { tensor_map: Some(map), .. } => {
            let bytes = tensor_map(m, map)?;
            if expected == MAP_BYTES { bytes } else { behind_pointer(m, &bytes, expected)? }
        }
        ArgSpec { bytes: Some(hex), .. } => by_value(m, a, hex)?,
        _ => return usage("it has no value"),
    };
    Ok((kind, bytes))
}

/// Raw bytes, with addresses of tensors put in.
fn by_value(m: &Memory, a: &ArgSpec, hex: &str) -> Res<Vec<u8>> {
    let mut bytes = unhex(hex).ok_or_else(|| Fail::Usage(format!("bytes `{hex}` are not pairs of hex digits")))?;
    let size = bytes.len();
    for (offset, name) in &a.pointers {
        let at: usize = offset.parse().map_err(|_| Fail::Usage(format!("pointer offset `{offset}` is not a number")))?;
        let value = m.address(name, 0)?.to_le_bytes();
        let place = at.checked_add(8).and_then(|end| bytes.get_mut(at..end));
        let place = place.ok_or_else(|| Fail::Usage(format!("the 8 bytes of a pointer at {at} do not fit {size} bytes")))?;
        place.copy_from_slice(&value);
    }
    Ok(bytes)
}

/// A tensor map in global memory, for a kernel that takes a pointer to it.
fn behind_pointer(m: &mut Memory, bytes: &[u8], expected: u32) -> Res<Vec<u8>> {
    if expected != 8 {
        return usage(format!(
            "a tensor_map needs {MAP_BYTES} bytes by value or an 8-byte pointer, the parameter is {expected} bytes"
        ));
    }
    let id = m.device.alloc(u64::from(MAP_BYTES), Fill::Bytes(bytes)).map_err(bad_input)?;
    Ok(m.device.address(id).to_le_bytes().to_vec())
}

fn tensor_map(m: &Memory, s: &MapSpec) -> Res<Vec<u8>> {
    let base = m.address(&s.tensor, s.offset)?;
    let named = s.dtype.as_deref().map(dtype).transpose()?.unwrap_or(m.tensors[&s.tensor].dtype);
    let dtype = element(named)?;
    let choice = |what: &str, value: &str, names: &[&str]| {
        let found = names.iter().position(|n| *n == value);
        found.ok_or_else(|| Fail::Usage(format!("{what} `{value}`: expected one of {}", names.join(", "))))
    };
    let swizzle = Swizzle::ALL[choice("swizzle", &s.swizzle, &["none", "32B", "64B", "128B"])?];
    let interleave =
        [Interleave::None, Interleave::B16, Interleave::B32][choice("interleave", &s.interleave, &["none", "16B", "32B"])?];
    let oob_fill = [OobFill::Zero, OobFill::Nan][choice("oob", &s.oob, &["zero", "nan"])?];
    if s.im2col.is_none() && s.r#box.is_empty() {
        return usage("tensor_map needs `box`, or `im2col`");
    }
    let map = TensorMap {
        dtype,
        base,
        dims: s.dims.clone(),
        strides: s.strides.clone(),
        box_dims: s.r#box.clone(),
        element_strides: s.element_strides.clone().unwrap_or_else(|| vec![1; s.dims.len()]),
        swizzle,
        interleave,
        oob_fill,
    };
    let refused = |e: tilewright_emulator::DeviceError| Fail::Usage(format!("tensor_map of `{}`: {e}", s.tensor));
    let Some(window) = &s.im2col else { return Ok(m.device.encode_tensor_map(&map).map_err(refused)?.to_vec()) };
    if !s.r#box.is_empty() {
        return usage("`box` stands beside im2col, whose box is channels and pixels");
    }
    let window =
        Im2col { lower: window.lower.clone(), upper: window.upper.clone(), channels: window.channels, pixels: window.pixels };
    Ok(m.device.encode_im2col_map(&map, &window).map_err(refused)?.to_vec())
}

/// The element type of a tensor map.
fn element(d: Dtype) -> Res<TensorDType> {
    Ok(match d {
        Dtype::BF16 => TensorDType::Bf16,
        Dtype::F16 => TensorDType::F16,
        Dtype::F32 => TensorDType::F32,
        Dtype::F64 => TensorDType::F64,
        Dtype::I32 => TensorDType::S32,
        Dtype::U32 => TensorDType::U32,
        Dtype::I64 => TensorDType::S64,
        Dtype::U64 => TensorDType::U64,
        Dtype::U16 | Dtype::I16 => TensorDType::U16,
        other if other.bitsize() == 8 => TensorDType::U8,
        other => return usage(format!("tensor maps have no element type {other:?}: set dtype to one of 8, 16, 32 or 64 bits")),
    })
}
