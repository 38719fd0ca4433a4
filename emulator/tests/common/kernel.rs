//! Small kernels around a few instructions.

use tilewright_emulator::{Arg, Device, DeviceConfig, Fill, Launch, Module, Report};

/// A module with one entry `k` that has parameters `names`, each `.u64`.
pub fn module(target: &str, params: &[&str], body: &str) -> String {
    let list: Vec<String> = params.iter().map(|name| format!(".param .u64 {name}")).collect();
    format!(
        ".version 8.6\n.target {target}\n.address_size 64\n.visible .entry k({}) {{\n\
         .reg .pred %p<16>;\n.reg .b16 %h<16>;\n.reg .b32 %r<64>;\n.reg .b64 %d<32>;\n{body}\n}}\n",
        list.join(", ")
    )
}

/// Runs entry `k` over one block with buffers as arguments; returns their contents and the report.
pub fn run(text: &str, threads: u32, buffers: &[Vec<u8>]) -> (Vec<Vec<u8>>, Report) {
    let module = Module::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut device = Device::new(DeviceConfig::default());
    let ids: Vec<_> = buffers.iter().map(|bytes| device.alloc(bytes.len() as u64, Fill::Bytes(bytes)).expect("memory")).collect();
    let args = ids.iter().map(|id| Arg::U64(device.address(*id))).collect();
    let launch = Launch { entry: "k".into(), block: [threads, 1, 1], args, ..Launch::default() };
    let report = device.launch(&module, &launch).expect("a launch");
    (ids.iter().map(|id| device.read(*id).to_vec()).collect(), report)
}

pub fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}

pub fn doubles(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks_exact(8).map(|c| u64::from_le_bytes([c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]])).collect()
}

pub fn bytes32(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub fn bytes64(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
