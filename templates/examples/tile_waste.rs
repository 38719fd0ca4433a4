//! What sorting rows saves on a scan: rows that implicit GEMM multiplies over the pairs there are, of a submanifold 3x3x3 layer.
//!
//! `tile_waste FILE COLUMNS VOXEL[,VOXEL,VOXEL]..`: little-endian f32 records of so many columns, of which the first three are a
//! point; voxel sizes in the same unit, one or one an axis. A point's voxel is `floor(p / voxel)`.

use std::collections::HashSet;
use std::time::Instant;
use tilewright_templates::sparse_conv::lists::TileConfig;
use tilewright_templates::sparse_conv::{Coord, Geometry, KernelMap, MapStats, Mode, Points, RowOrder, TileStats};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, columns, voxels @ ..] = args.as_slice() else { return Err("usage: tile_waste FILE COLUMNS VOXEL..".into()) };
    let bytes = std::fs::read(file)?;
    let numbers: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    for text in voxels {
        let mut size = text.split(',').map(str::parse).collect::<Result<Vec<f32>, _>>()?;
        size.resize(3, size[0]);
        let mut seen = HashSet::new();
        let mut coords: Vec<Coord> = Vec::new();
        for p in numbers.chunks_exact(columns.parse()?) {
            let at = |axis: usize| (p[axis] / size[axis]).floor() as i32;
            let c = [0, at(0), at(1), at(2)];
            if seen.insert(c) {
                coords.push(c);
            }
        }
        let points = Points::new(coords)?;
        let map = KernelMap::build(Mode::Submanifold, &Geometry::submanifold([3; 3], [1; 3]), &points, None)?;
        let pairs = MapStats::new(&map).pairs();
        let per_row = pairs as f64 / map.rows() as f64;
        println!("{file} at {text}: n = {}, pairs = {pairs}, {per_row:.2} a row", map.rows());
        let begin = Instant::now();
        for bm in [128, 64] {
            let waste = |order, splits| -> Result<String, Box<dyn std::error::Error>> {
                let config = TileConfig { order, splits, bm, most_taps: 27 };
                Ok(format!("{:.2}", TileStats::new(&map, &config)?.executed() as f64 / pairs as f64))
            };
            println!("  tiles of {bm:3}, unsorted: {}", waste(None, 1)?);
            for order in [RowOrder::Plain, RowOrder::Rare, RowOrder::GrayRare] {
                let splits = (1..=4).map(|s| waste(Some(order), s)).collect::<Result<Vec<_>, _>>()?;
                println!("  tiles of {bm:3}, {:9} s = 1..4: {}", order.to_string(), splits.join(" "));
            }
        }
        println!("  26 counts in {:.2} s", begin.elapsed().as_secs_f64());
    }
    Ok(())
}
