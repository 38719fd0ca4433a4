//! Tile IR and Lane IR of a few kernels, as text. A change here is a change of what is generated: look at it, then accept
//! it with `BLESS=1 cargo test -p tilewright-tests goldens`.

use std::path::Path;
use tilewright_ir::passes::lower;
use tilewright_ir::{Arch, DType};
use tilewright_templates::gemm::*;

fn compare(name: &str, text: &str) {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/goldens")).join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        return;
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((i, (a, b))) =
        want.lines().chain(["(end)"]).zip(text.lines().chain(["(end)"])).enumerate().find(|(_, (a, b))| a != b)
    {
        panic!("{name} differs at line {}:\n  before {a}\n  now    {b}\naccept with BLESS=1", i + 1);
    }
}

/// Source lines move with every edit of a template: they are not what these tests are about.
fn without_lines(text: &str) -> String {
    let cut = |line: &str| {
        line.rsplit_once(" @").filter(|(_, at)| at.starts_with(|c: char| c.is_ascii_digit())).map(|(l, rest)| {
            let tail = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':');
            format!("{l}{tail}")
        })
    };
    text.lines().map(|l| cut(l).unwrap_or_else(|| l.to_string()) + "\n").collect()
}

#[test]
fn tile_ir_of_the_hopper_kernel() {
    let c = WgmmaConfig { cluster: Cluster::TwoM, ..WgmmaConfig::new([128, 256, 64], 4, 2) };
    let p = GemmProblem { act: Act::Silu, bias: true, ..GemmProblem::plain(DType::BF16) };
    let k = build(Arch::Sm90a, &p, &GemmConfig::Wgmma(c)).unwrap();
    compare("gemm_wgmma.tile", &without_lines(&lower(k.kernel).unwrap().tile.to_string()));
}

#[test]
fn tile_ir_of_the_ampere_kernel() {
    let c = MmaConfig {
        bm: 64,
        bn: 64,
        bk: 32,
        stages: 3,
        warps_m: 2,
        warps_n: 2,
        raster: 8,
        load_align: 8,
        n_align: 2,
        split: false,
    };
    let k = build(Arch::Sm80, &GemmProblem::plain(DType::F16), &GemmConfig::Mma(c)).unwrap();
    compare("gemm_mma.tile", &without_lines(&lower(k.kernel).unwrap().tile.to_string()));
}

#[test]
fn lane_ir_of_the_reduction() {
    let k =
        reduce_kernel(Arch::Sm80, &GemmProblem::plain(DType::BF16), &ReduceConfig { rows: 8, cols: 256, n_align: 4 }).unwrap();
    compare("gemm_reduce.lane", &without_lines(&lower(k.kernel).unwrap().lane.to_string()));
}
