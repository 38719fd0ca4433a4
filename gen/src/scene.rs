//! `gen scene`: a scan as the input of a sparse convolution.

use crate::cli::SceneArgs;
use safetensors::tensor::Dtype;
use tilewright_ir::DType;
use tilewright_ops::error::{Fail, Res, bad_input, usage};
use tilewright_ops::files;
use tilewright_ops::tensors::{self, Tensor, Tensors};
use tilewright_scenes::{Point, Sensor, read_ply, scan, voxelise};

/// Runs the command.
pub fn scene(args: &SceneArgs) -> Res<()> {
    files::check_folder(&args.output)?;
    let size = match args.voxel[..] {
        [v] => [v; 3],
        [x, y, z] => [x, y, z],
        _ => return usage(format!("--voxel has {} numbers: expected one, or x,y,z", args.voxel.len())),
    };
    if args.channels == 0 {
        return usage("--channels 0: features have a channel at least");
    }
    let (points, name) = points(args)?;
    let whole = voxelise(&points, size, 0).map_err(bad_input)?;
    let voxels = args.crop.map_or_else(|| whole.clone(), |n| whole.crop(n));
    let n = voxels.coords.len();
    let (dtype, stored) = match args.dtype.as_str() {
        "bf16" => (DType::BF16, Dtype::BF16),
        "f32" => (DType::F32, Dtype::F32),
        _ => (DType::F16, Dtype::F16),
    };
    let features = voxels.features(&points, size, args.channels).into_iter().map(f64::from);
    let features = Tensor { dtype: stored, shape: vec![n, args.channels], data: tensors::from_f64(dtype, features) };
    let coords = voxels.coords.iter().flatten().flat_map(|c| c.to_le_bytes()).collect();
    let coords = Tensor { dtype: Dtype::I32, shape: vec![n, 4], data: coords };
    tensors::write(&args.output, &Tensors::from([("coords".into(), coords), ("features".into(), features)]))?;
    eprintln!("{name}: {} points, {} voxels, {n} of them written", points.len(), whole.coords.len());
    Ok(())
}

/// Points, and what they are of.
fn points(args: &SceneArgs) -> Res<(Vec<Point>, String)> {
    if let Some(sensor) = &args.sensor {
        let sensor: Sensor = sensor.parse().map_err(|e| Fail::Usage(format!("--sensor: {e}")))?;
        return Ok((scan(sensor, args.seed), format!("{sensor} in street {}", args.seed)));
    }
    let path = args.scan.as_ref().ok_or_else(|| Fail::Usage("neither --scan nor --sensor".into()))?;
    let at = |e: &dyn std::fmt::Display| Fail::Usage(format!("{}: {e}", path.display()));
    let bytes = std::fs::read(path).map_err(|e| at(&format!("{e}; `cargo xtask scans` gets .tools/scans/source.ply")))?;
    Ok((read_ply(&bytes).map_err(|e| at(&e))?, path.display().to_string()))
}
