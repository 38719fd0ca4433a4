//! Running a random program on the emulator: for the tests and for the example that writes answers for GPUs.

use tilewright_emulator::tensor::swizzle::Swizzle;
use tilewright_emulator::tensor::tma::{Interleave, OobFill, TensorDType};
use tilewright_emulator::{Arg, BufferId, Device, DeviceConfig, Fill, Launch, Module, Report, TensorMap};
use tilewright_random_ptx::{Buffer, Map, Program};

fn map(device: &Device, buffers: [BufferId; 2], map: &Map) -> Result<Vec<u8>, String> {
    let buffer = buffers[usize::from(map.buffer == Buffer::Out)];
    let map = TensorMap {
        dtype: match map.dtype {
            "u8" => TensorDType::U8,
            "u16" => TensorDType::U16,
            "u32" => TensorDType::U32,
            "u64" => TensorDType::U64,
            "bf16" => TensorDType::Bf16,
            "f32" => TensorDType::F32,
            other => return Err(format!("no tensor maps of {other}")),
        },
        base: device.address(buffer) + u64::from(map.offset),
        dims: map.dims.clone(),
        strides: map.strides.clone(),
        box_dims: map.box_dims.clone(),
        element_strides: map.element_strides.clone(),
        swizzle: match map.swizzle {
            0 => Swizzle::None,
            32 => Swizzle::B32,
            64 => Swizzle::B64,
            _ => Swizzle::B128,
        },
        interleave: Interleave::None,
        oob_fill: OobFill::Zero,
    };
    Ok(device.encode_tensor_map(&map).map_err(|error| error.to_string())?.to_vec())
}

/// What a run says, and the bytes of its output.
///
/// # Errors
/// Why it cannot be launched.
pub fn run(program: &Program, module: &Module, config: DeviceConfig) -> Result<(Report, Vec<u8>), String> {
    let mut device = Device::new(config);
    let input = device.alloc(program.input.len() as u64, Fill::Bytes(&program.input)).map_err(|e| e.to_string())?;
    let poison = vec![0xCC; program.output_bytes as usize];
    let output = device.alloc(program.output_bytes.into(), Fill::Bytes(&poison)).map_err(|e| e.to_string())?;
    let mut args = vec![Arg::U64(device.address(input)), Arg::U64(device.address(output))];
    for spec in &program.maps {
        args.push(Arg::Bytes(map(&device, [input, output], spec)?));
    }
    let (grid, block) = ([program.blocks, 1, 1], [program.threads, 1, 1]);
    let launch = Launch { entry: "k".into(), grid, block, args, ..Launch::default() };
    let report = device.launch(module, &launch).map_err(|error| error.to_string())?;
    Ok((report, device.read(output).to_vec()))
}
