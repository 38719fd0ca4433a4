//! Tensors from and to safetensors files.

use crate::error::{Fail, Res, bad_input, usage};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::path::Path;
use tilewright_runtime::fp8::Fp8;

/// A dense row-major tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Element type.
    pub dtype: Dtype,
    /// Extents.
    pub shape: Vec<usize>,
    /// Little-endian elements.
    pub data: Vec<u8>,
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

impl Tensor {
    /// `BF16 [128, 64]`.
    pub fn describe(&self) -> String {
        format!("{:?} {:?}", self.dtype, self.shape)
    }
}

/// Reads a file; a file with overlapping offsets or trailing bytes is refused.
pub fn read(path: &Path) -> Res<Tensors> {
    let at = |e: &dyn std::fmt::Display| Fail::Usage(format!("{}: {e}", path.display()));
    let bytes = std::fs::read(path).map_err(|e| at(&format!("{e}; --input takes a safetensors file")))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| at(&format!("not a sound safetensors file: {e}")))?;
    let tensor = |(name, v): (String, TensorView<'_>)| {
        (name, Tensor { dtype: v.dtype(), shape: v.shape().to_vec(), data: v.data().to_vec() })
    };
    Ok(file.tensors().into_iter().map(tensor).collect())
}

/// Writes a file, by rename.
pub fn write(path: &Path, tensors: &Tensors) -> Res<()> {
    let views: Result<Vec<_>, _> =
        tensors.iter().map(|(n, t)| TensorView::new(t.dtype, t.shape.clone(), &t.data).map(|v| (n.clone(), v))).collect();
    let bytes = safetensors::serialize(views.map_err(bad_input)?, None).map_err(bad_input)?;
    crate::files::write_whole(path, &bytes)
}

/// The elements as numbers.
pub fn to_f64(dtype: Dtype, data: &[u8]) -> Res<Vec<f64>> {
    Ok(match dtype {
        Dtype::F32 => data.chunks_exact(4).map(|c| f64::from(f32::from_le_bytes([c[0], c[1], c[2], c[3]]))).collect(),
        Dtype::BF16 => data.chunks_exact(2).map(|c| bf16::from_le_bytes([c[0], c[1]]).to_f64()).collect(),
        Dtype::F16 => data.chunks_exact(2).map(|c| f16::from_le_bytes([c[0], c[1]]).to_f64()).collect(),
        Dtype::F8_E4M3 => data.iter().map(|b| f64::from(Fp8::E4M3.decode(*b))).collect(),
        Dtype::F8_E5M2 => data.iter().map(|b| f64::from(Fp8::E5M2.decode(*b))).collect(),
        Dtype::I8 => data.iter().map(|b| f64::from(*b as i8)).collect(),
        Dtype::I32 => data.chunks_exact(4).map(|c| f64::from(i32::from_le_bytes([c[0], c[1], c[2], c[3]]))).collect(),
        other => {
            return usage(format!(
                "{other:?} tensors are not numbers here: expected F32, F16, BF16, F8_E4M3, F8_E5M2, I8 or I32"
            ));
        }
    })
}

/// Numbers as elements of a dtype, to nearest even.
pub fn from_f64(dtype: tilewright_ir::DType, values: impl Iterator<Item = f64>) -> Vec<u8> {
    use tilewright_ir::DType;
    match dtype {
        DType::BF16 => values.flat_map(|x| bf16::from_f64(x).to_le_bytes()).collect(),
        DType::E4M3 => values.map(|x| Fp8::E4M3.encode(x)).collect(),
        DType::E5M2 => values.map(|x| Fp8::E5M2.encode(x)).collect(),
        DType::I8 => values.map(|x| x.round_ties_even().clamp(-128.0, 127.0) as i8 as u8).collect(),
        DType::I32 => values.flat_map(|x| (x as i32).to_le_bytes()).collect(),
        DType::F16 => values.flat_map(|x| f16::from_f64(x).to_le_bytes()).collect(),
        _ => values.flat_map(|x| (x as f32).to_le_bytes()).collect(),
    }
}
