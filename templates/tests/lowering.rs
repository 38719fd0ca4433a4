//! Every kind of GEMM kernel goes through the whole middle: verified Tile IR, proven protocol, verified Lane IR; and the
//! text forms of both read back to what was printed.

use tilewright_ir::passes::lower;
use tilewright_ir::tile::{KernelBuilder, RoleBuilder, TileRef};
use tilewright_ir::{Arch, DType, lane, tile};
use tilewright_templates::gemm::*;

fn wgmma_config(bm: u32, bn: u32, stages: u32, math_wgs: u32, schedule: Schedule, cluster: Cluster) -> WgmmaConfig {
    WgmmaConfig { schedule, cluster, ..WgmmaConfig::new([bm, bn, 64], stages, math_wgs) }
}

fn cases() -> Vec<(Arch, GemmProblem, GemmConfig)> {
    use Cluster::*;
    use Schedule::*;
    let plain = GemmProblem::plain(DType::BF16);
    let full = GemmProblem { act: Act::Gelu, bias: true, residual: true, ..plain };
    let swiglu = GemmProblem { act: Act::Swiglu, bias: true, ..plain };
    let kn = GemmProblem { b: BLayout::Kn, ..plain };
    let f32_out = GemmProblem { output: DType::F32, ..plain };
    let mut list = Vec::new();
    let mut hopper = |p, c| list.push((Arch::Sm90a, p, GemmConfig::Wgmma(c)));
    hopper(plain, wgmma_config(128, 256, 4, 2, Cooperative, TwoM));
    hopper(plain, wgmma_config(128, 256, 3, 2, Cooperative, TwoN));
    hopper(plain, wgmma_config(64, 256, 4, 2, PingPong, One));
    hopper(plain, wgmma_config(64, 24, 8, 1, Cooperative, One));
    hopper(plain, wgmma_config(192, 96, 4, 3, Cooperative, One));
    hopper(plain, wgmma_config(256, 112, 4, 2, Cooperative, TwoM));
    hopper(full, wgmma_config(128, 192, 4, 2, Cooperative, One));
    hopper(swiglu, wgmma_config(128, 256, 4, 2, Cooperative, TwoM));
    hopper(kn, wgmma_config(128, 96, 4, 2, PingPong, TwoN));
    hopper(f32_out, WgmmaConfig { n_align: 1, ..wgmma_config(128, 128, 4, 2, Cooperative, One) });
    hopper(f32_out, WgmmaConfig { split: true, ..wgmma_config(64, 128, 6, 1, Cooperative, One) });
    let base = MmaConfig {
        bm: 128,
        bn: 128,
        bk: 32,
        stages: 4,
        warps_m: 2,
        warps_n: 4,
        raster: 8,
        load_align: 8,
        n_align: 2,
        split: false,
    };
    for (p, c) in [
        (plain, base),
        (full, MmaConfig { bm: 64, warps_n: 2, ..base }),
        (swiglu, MmaConfig { bk: 64, stages: 3, ..base }),
        (kn, MmaConfig { bn: 192, stages: 2, ..base }),
        (kn, MmaConfig { load_align: 1, n_align: 1, ..base }),
        (f32_out, MmaConfig { split: true, load_align: 4, ..base }),
        (plain, MmaConfig { bm: 16, bn: 24, warps_m: 1, warps_n: 3, load_align: 2, n_align: 1, ..base }),
    ] {
        list.push((Arch::Sm80, p, GemmConfig::Mma(c)));
    }
    list
}

#[test]
fn every_kind_of_kernel_lowers_and_its_texts_read_back() {
    for (arch, p, c) in cases() {
        let k = build(arch, &p, &c).unwrap_or_else(|e| panic!("{c}: {e}"));
        let lowered = lower(k.kernel).unwrap_or_else(|e| panic!("{} {c}: {e}", p.class()));
        let text = lowered.tile.to_string();
        let again = tile::parse(&text).unwrap_or_else(|e| panic!("{c}: {e}\n{text}"));
        assert_eq!(again.to_string(), text);
        tile::verify(&again).unwrap();
        let text = lowered.lane.to_string();
        let again =
            lane::parse(&text).unwrap_or_else(|e| panic!("{c}: {e}\n{}", text.lines().take(20).collect::<Vec<_>>().join("\n")));
        assert_eq!(again.to_string(), text);
        lane::verify(&again).unwrap();
        assert_eq!(lowered.lane.params.len(), lowered.params.len());
        tilewright_templates::manifest::params(&lowered).unwrap();
    }
}

#[test]
fn a_split_plan_has_two_launches_that_share_a_workspace() {
    let p = GemmProblem { act: Act::Swiglu, ..GemmProblem::plain(DType::BF16) };
    let c = GemmConfig::Wgmma(wgmma_config(64, 128, 6, 1, Schedule::Cooperative, Cluster::One));
    let plan = plan(Arch::Sm90a, &p, &c, 4).unwrap();
    assert_eq!(plan.kernels.len(), 2);
    assert_eq!(plan.plan.launches[0].sets["n"].text(), "2*n");
    for k in plan.kernels {
        lower(k.kernel).unwrap_or_else(|e| panic!("{}: {e}", k.id));
    }
}

/// Configs that the rules allow go through the middle, or are told that shared memory or registers do not suffice.
#[test]
fn configs_of_8_bit_operands_lower() {
    let scaled =
        |input, scale, act| GemmProblem { a_scale: scale, b_scale: scale, act, output: DType::BF16, ..GemmProblem::plain(input) };
    let classes = [
        scaled(DType::E4M3, Scale::Row, Act::None),
        scaled(DType::E5M2, Scale::Block, Act::Swiglu),
        scaled(DType::I8, Scale::Row, Act::Gelu),
        GemmProblem { quant: true, output: DType::E4M3, ..scaled(DType::E4M3, Scale::Block, Act::None) },
    ];
    for p in classes {
        let all = space(Arch::Sm90a, &p);
        let mut lowered = 0;
        for c in all.iter().step_by(all.len() / 12) {
            let kernel = build(Arch::Sm90a, &p, c).unwrap_or_else(|e| panic!("{} {c}: {e}", p.class())).kernel;
            match lower(kernel) {
                Ok(_) => lowered += 1,
                Err(e) => {
                    let text = e.to_string();
                    assert!(text.contains("shared memory") || text.contains("registers"), "{} {c}: {text}", p.class());
                }
            }
        }
        assert!(lowered >= 6, "{}: {lowered} of a dozen configs", p.class());
    }
}

/// The example of docs/how-to/add-a-template.md.
#[test]
fn a_users_own_epilogue_needs_no_change_below_the_template() {
    let p = GemmProblem::plain(DType::BF16);
    let c = wgmma_config(128, 128, 4, 2, Schedule::Cooperative, Cluster::One);
    let mut k = KernelBuilder::new("gemm_relu6", Arch::Sm90a);
    let e = Epilogue::standard(&mut k, &p, c.n_align);
    let relu6 = |r: &mut RoleBuilder, acc: &[TileRef], at: EpilogueAt| {
        let x = e.emit(r, acc, at);
        let (zero, six) = (r.splat_f32(0.0, x), r.splat_f32(6.0, x));
        let x = r.binary("max", x, zero);
        r.binary("min", x, six)
    };
    wgmma(&mut k, &p, &c, &relu6).unwrap();
    let text = lower(k.finish()).unwrap().lane.to_string();
    assert!(text.contains("fmin") && text.contains("fmax"));
}

#[test]
fn the_deepest_rings_fit_beside_the_buffers_of_the_output() {
    let row = |input, output| GemmProblem { output, a_scale: Scale::Row, b_scale: Scale::Row, ..GemmProblem::plain(input) };
    let (mut tried, classes) = (0, [row(DType::E5M2, DType::BF16), GemmProblem::plain(DType::F16), row(DType::I8, DType::F32)]);
    for p in classes {
        for [bm, bn, wgs] in [[128, 256, 2], [128, 192, 2], [192, 192, 3], [256, 128, 2], [64, 256, 1], [64, 32, 1]] {
            for promote in [false, true] {
                let tile = WgmmaConfig { promote, ..WgmmaConfig::new([bm, bn, 128 / p.input.bytes()], 2, wgs) };
                let c = GemmConfig::Wgmma(tile.deepest(&p));
                if c.check(&p).is_ok() {
                    lower(build(Arch::Sm90a, &p, &c).unwrap().kernel).unwrap_or_else(|e| panic!("{c}: {e}"));
                    tried += 1;
                }
            }
        }
    }
    let packed = Packed { bits: 4, group: 32, zero: true };
    let p = GemmProblem { weight: Weight::Packed(packed), ..GemmProblem::plain(DType::BF16) };
    for (bm, bn) in [8, 16, 32, 64, 128, 256].into_iter().flat_map(|bm| [64, 128, 192].map(|bn| (bm, bn))) {
        let tile = weight::WeightWgmmaConfig { bm, bn, stages: 2, raster: 8, n_align: 8, stream: true };
        let c = GemmConfig::WeightWgmma(tile.deepest(&p, packed));
        if c.check(&p).is_ok() {
            lower(build(Arch::Sm90a, &p, &c).unwrap().kernel).unwrap_or_else(|e| panic!("{c}: {e}"));
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried}");
}
