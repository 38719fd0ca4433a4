//! The config space: which points there are.

use super::config::{Cluster, GemmConfig, MmaConfig, Schedule, WgmmaConfig};
use super::problem::GemmProblem;
use super::weight;
use tilewright_ir::Arch;

/// Legal configs for a target, sorted by id; the compiler's own limits (shared memory, registers) come on top.
pub fn space(arch: Arch, p: &GemmProblem) -> Vec<GemmConfig> {
    let mut list = Vec::new();
    if arch.is_hopper() {
        wgmma_space(p, &mut list);
    }
    mma_space(arch, p, &mut list);
    weight::space::mma_space(&mut list);
    list.retain(|c| c.check(p).is_ok());
    list.sort_by_key(GemmConfig::to_string);
    list.dedup();
    list
}

fn wgmma_space(p: &GemmProblem, list: &mut Vec<GemmConfig>) {
    let bk = 128 / p.input.bytes();
    let rows: &[(bool, bool)] =
        if p.bytes() { &[(false, false), (true, false), (false, true), (true, true)] } else { &[(false, false)] };
    for (bm, math_wgs, schedule) in [
        (64, 1, Schedule::Cooperative),
        (128, 1, Schedule::Cooperative),
        (128, 2, Schedule::Cooperative),
        (192, 3, Schedule::Cooperative),
        (256, 2, Schedule::Cooperative),
        (64, 2, Schedule::PingPong),
        (128, 2, Schedule::PingPong),
    ] {
        for bn in (8..=256).step_by(8).filter(|n| *n <= 64 || n % 16 == 0) {
            for cluster in [Cluster::One, Cluster::TwoM, Cluster::TwoN] {
                let probe = WgmmaConfig { schedule, cluster, ..WgmmaConfig::new([bm, bn, bk], 2, math_wgs) }.deepest(p);
                for n_align in [1, 2, 8] {
                    for raster in [8, 16] {
                        for split in [false, true] {
                            list.extend(rows.iter().map(|&(promote, pad)| {
                                let at = WgmmaConfig { raster, n_align, split, promote, pad, ..probe };
                                GemmConfig::Wgmma(at)
                            }));
                        }
                    }
                }
            }
        }
    }
}

fn mma_space(arch: Arch, p: &GemmProblem, list: &mut Vec<GemmConfig>) {
    let smem = arch.caps().max_smem_bytes;
    for (bm, bn, warps_m, warps_n) in [
        (16, 64, 1, 4),
        (32, 64, 1, 4),
        (64, 64, 2, 2),
        (64, 128, 2, 2),
        (128, 64, 2, 2),
        (128, 128, 2, 4),
        (128, 256, 2, 4),
        (256, 128, 4, 2),
    ] {
        let bytes = p.input.bytes();
        for bk in [64 / bytes, 128 / bytes] {
            let stages = (smem / ((bm + bn) * bk * bytes)).min(4);
            for load_align in [1, 4 / bytes, 8 / bytes, 16 / bytes] {
                for n_align in [1, 2] {
                    for split in [false, true] {
                        list.push(GemmConfig::Mma(MmaConfig {
                            bm,
                            bn,
                            bk,
                            stages,
                            warps_m,
                            warps_n,
                            raster: 8,
                            load_align,
                            n_align,
                            split,
                        }));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_ir::DType;

    #[test]
    fn ids_read_back_and_refusals_say_why() {
        let p = GemmProblem::plain(DType::BF16);
        let all = [p, GemmProblem::plain(DType::E4M3)].iter().flat_map(|p| space(Arch::Sm90a, p)).collect::<Vec<_>>();
        assert!(all.iter().any(|c| c.to_string().contains("promote=1")));
        let packed = GemmProblem { weight: "int4g64z".parse().unwrap(), ..p };
        let packed = space(Arch::Sm80, &packed);
        assert!(packed.iter().all(|c| matches!(c, GemmConfig::WeightMma(_))));
        let all = [all, packed].concat();
        assert!(all.len() > 1000, "{}", all.len());
        for c in &all {
            assert_eq!(c.to_string().parse::<GemmConfig>().as_ref(), Ok(c));
        }
        let GemmConfig::Wgmma(c) = all.iter().find(|c| matches!(c, GemmConfig::Wgmma(_))).copied().unwrap() else { panic!() };
        let bad = GemmConfig::Wgmma(WgmmaConfig { bm: 96, math_wgs: 2, schedule: Schedule::Cooperative, ..c });
        assert!(bad.check(&p).unwrap_err().to_string().contains("48 rows a warpgroup"));
        assert!("kind=wgmma,bm=128".parse::<GemmConfig>().unwrap_err().to_string().contains("axis `bn` is missing"));
    }
}
