//! `launch.json` of `gen emulate`.

use serde::Deserialize;
use std::collections::BTreeMap;

/// The file: one launch on its top level, or several under `launches`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchFile {
    /// Kernel.
    pub entry: Option<String>,
    /// Blocks.
    pub grid: Option<[u32; 3]>,
    /// Threads of a block.
    pub block: Option<[u32; 3]>,
    /// Blocks of a cluster.
    pub cluster: Option<[u32; 3]>,
    /// Dynamic shared memory.
    pub shared_bytes: Option<u32>,
    /// Arguments, in the order of the kernel's parameters.
    pub args: Option<Vec<ArgSpec>>,
    /// Launches in stream order, instead of the one above.
    pub launches: Option<Vec<LaunchSpec>>,
    /// Variables of the module to set.
    #[serde(default)]
    pub symbols: BTreeMap<String, SymbolSpec>,
    /// Tensors that are not in the input file.
    #[serde(default)]
    pub alloc: BTreeMap<String, Alloc>,
    /// Tensors, and `symbol:name`, to write.
    #[serde(default)]
    pub outputs: Vec<String>,
    /// Blocks that are resident together.
    pub resident: Option<u32>,
}

/// A launch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchSpec {
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
    /// May start early on a device. Here it runs after the one before, which a device may do as well.
    #[serde(default, rename = "programmatic")]
    pub _programmatic: bool,
}

impl LaunchFile {
    /// The launches in stream order.
    pub fn take_launches(&mut self) -> Result<Vec<LaunchSpec>, String> {
        if self.resident == Some(0) {
            return Err("`resident` is 0: expected at least 1 block".into());
        }
        let top = [
            ("entry", self.entry.is_some()),
            ("grid", self.grid.is_some()),
            ("block", self.block.is_some()),
            ("cluster", self.cluster.is_some()),
            ("shared_bytes", self.shared_bytes.is_some()),
            ("args", self.args.is_some()),
        ];
        if let Some(list) = self.launches.take() {
            if let Some((key, _)) = top.iter().find(|(_, there)| *there) {
                return Err(format!("`{key}` stands beside `launches`: expected it in each launch"));
            }
            return if list.is_empty() { Err("`launches` is empty: expected at least one launch".into()) } else { Ok(list) };
        }
        let missing = |key: &str| format!("key `{key}` is missing: expected entry, grid and block, or launches");
        Ok(vec![LaunchSpec {
            entry: self.entry.take().ok_or_else(|| missing("entry"))?,
            grid: self.grid.ok_or_else(|| missing("grid"))?,
            block: self.block.ok_or_else(|| missing("block"))?,
            cluster: self.cluster.unwrap_or_else(one),
            shared_bytes: self.shared_bytes.unwrap_or(0),
            args: self.args.take().unwrap_or_default(),
            _programmatic: false,
        }])
    }
}

/// The value of a variable: exactly one kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SymbolSpec {
    /// The contents of a tensor.
    pub tensor: Option<String>,
    /// Little-endian bytes in hex.
    pub bytes: Option<String>,
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
    pub offset: Option<u64>,
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

/// A tensor map, tiled unless `im2col` is there.
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
    /// Box, innermost first; tiled maps only.
    #[serde(default)]
    pub r#box: Vec<u32>,
    /// Steps; ones where not given.
    pub element_strides: Option<Vec<u32>>,
    /// `none`, `32B`, `64B`, `128B`.
    #[serde(default = "none")]
    pub swizzle: String,
    /// `none`, `16B`, `32B`.
    #[serde(default = "none")]
    pub interleave: String,
    /// `zero` or `nan`.
    #[serde(default = "zero")]
    pub oob: String,
    /// Makes it an im2col map.
    pub im2col: Option<Im2colSpec>,
}

/// The pixel box of an im2col map.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Im2colSpec {
    /// Lower corner, innermost (W) first: one a spatial dimension.
    pub lower: Vec<i32>,
    /// Upper corner.
    pub upper: Vec<i32>,
    /// Channels a pixel.
    pub channels: u32,
    /// Pixels a column.
    pub pixels: u32,
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
