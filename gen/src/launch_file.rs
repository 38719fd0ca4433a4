//! `launch.json` of `gen emulate`.

use serde::Deserialize;
use std::collections::BTreeMap;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchFile {
    /// Kernel.
    pub entry: String,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Blocks of a cluster.
    #[serde(default = "one")]
    pub cluster: [u32; 3],
    /// Dynamic shared memory.
    #[serde(default)]
    pub shared_bytes: u32,
    /// Arguments, in the order of the kernel's parameters.
    #[serde(default)]
    pub args: Vec<ArgSpec>,
    /// Tensors that are not in the input file.
    #[serde(default)]
    pub alloc: BTreeMap<String, Alloc>,
    /// Tensors to write.
    #[serde(default)]
    pub outputs: Vec<String>,
    /// Blocks that are resident together.
    #[serde(default)]
    pub resident: Option<u32>,
}

fn one() -> [u32; 3] {
    [1, 1, 1]
}

/// An argument: exactly one kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArgSpec {
    /// A tensor's address.
    pub tensor: Option<String>,
    /// Bytes into it.
    #[serde(default)]
    pub offset: u64,
    /// 32-bit integer.
    pub i32: Option<i64>,
    /// 64-bit integer.
    pub u64: Option<u64>,
    /// Single.
    pub f32: Option<f64>,
    /// A null pointer.
    pub null: Option<bool>,
    /// Little-endian bytes in hex.
    pub bytes: Option<String>,
    /// Addresses inside `bytes`, by offset.
    #[serde(default)]
    pub pointers: BTreeMap<String, String>,
    /// A tensor map.
    pub tensor_map: Option<MapSpec>,
}

/// A tiled tensor map.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapSpec {
    /// The tensor.
    pub tensor: String,
    /// Bytes into it.
    #[serde(default)]
    pub offset: u64,
    /// Element type where it is not the tensor's.
    pub dtype: Option<String>,
    /// Extents, innermost first.
    pub dims: Vec<u64>,
    /// Bytes, of extents 1 and up.
    #[serde(default)]
    pub strides: Vec<u64>,
    /// Box, innermost first.
    pub r#box: Vec<u32>,
    /// Steps; ones where not given.
    pub element_strides: Option<Vec<u32>>,
    /// `none`, `32B`, `64B`, `128B`.
    #[serde(default = "none")]
    pub swizzle: String,
    /// `none`.
    #[serde(default = "none")]
    pub interleave: String,
    /// `zero` or `nan`.
    #[serde(default = "zero")]
    pub oob: String,
}

fn none() -> String {
    "none".into()
}

fn zero() -> String {
    "zero".into()
}

/// A tensor that starts undefined.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alloc {
    /// safetensors dtype.
    pub dtype: String,
    /// Extents.
    pub shape: Vec<usize>,
    /// Starts cleared.
    #[serde(default)]
    pub zero: bool,
}
