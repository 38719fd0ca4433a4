//! A launch as data: buffers, parameters and what the output should be.

use super::numbers::{bf16_values, floats};
use tilewright_emulator::{Arg, BufferId, Device, DeviceConfig, Fill, Launch, Module, Report, TensorMap};

/// What a buffer holds at the start.
#[derive(Clone, Debug)]
pub enum Content {
    Bytes(Vec<u8>),
    /// So many bytes without a value.
    Undefined(u64),
}

#[derive(Clone, Debug)]
pub enum Param {
    /// The address of a buffer.
    Buffer(usize),
    U32(u32),
    F32(f32),
    /// A map over a buffer; its base address is filled in.
    Map(usize, TensorMap),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Element {
    F32,
    Bf16,
}

/// The output, as numbers.
#[derive(Clone, Debug)]
pub struct Want {
    pub buffer: usize,
    pub element: Element,
    pub values: Vec<f32>,
    /// The output is this many times as long: its parts are added up.
    pub parts: usize,
    /// What a value may be off, relative to it.
    pub tolerance: f32,
}

#[derive(Clone, Debug)]
pub struct Spec {
    pub name: String,
    pub text: String,
    pub launch: Launch,
    pub buffers: Vec<Content>,
    pub params: Vec<Param>,
    pub want: Want,
}

impl Spec {
    /// Runs it; the second part says where the output is wrong, if it is.
    ///
    /// # Errors
    /// Why the launch was refused.
    pub fn run(&self, module: &Module, config: DeviceConfig) -> Result<(Report, Option<String>), String> {
        let mut device = Device::new(config);
        let mut ids: Vec<BufferId> = Vec::new();
        for content in &self.buffers {
            let id = match content {
                Content::Bytes(bytes) => device.alloc(bytes.len() as u64, Fill::Bytes(bytes)),
                Content::Undefined(bytes) => device.alloc(*bytes, Fill::Undefined),
            };
            ids.push(id.map_err(|error| error.to_string())?);
        }
        let mut args = Vec::new();
        for param in &self.params {
            args.push(match param {
                Param::Buffer(at) => Arg::U64(device.address(ids[*at])),
                Param::U32(value) => Arg::U32(*value),
                Param::F32(value) => Arg::F32(*value),
                Param::Map(at, map) => {
                    let map = TensorMap { base: device.address(ids[*at]), ..map.clone() };
                    Arg::Bytes(device.encode_tensor_map(&map).map_err(|error| error.to_string())?.to_vec())
                }
            });
        }
        let launch = Launch { args, ..self.launch.clone() };
        let report = device.launch(module, &launch).map_err(|error| error.to_string())?;
        let out = ids[self.want.buffer];
        let unwritten = device.unwritten(out);
        let wrong =
            if unwritten > 0 { Some(format!("{unwritten} bytes are not written")) } else { self.want.compare(device.read(out)) };
        Ok((report, wrong))
    }
}

impl Want {
    fn compare(&self, bytes: &[u8]) -> Option<String> {
        let got = match self.element {
            Element::F32 => floats(bytes),
            Element::Bf16 => bf16_values(bytes),
        };
        let len = self.values.len();
        for (at, &want) in self.values.iter().enumerate() {
            let sum: f32 = (0..self.parts).map(|part| got[part * len + at]).sum();
            let right = sum == want || (sum - want).abs() <= self.tolerance * want.abs();
            if !right {
                return Some(format!("element {at} is {sum}, expected {want}"));
            }
        }
        None
    }
}
