//! Every kind of attention kernel goes through the whole middle: verified Tile IR, proven protocol, verified Lane IR; and the
//! text forms of both read back to what was printed.

use tilewright_ir::passes::lower;
use tilewright_ir::tile::{Kernel, KernelBuilder};
use tilewright_ir::{Arch, DType, lane, tile};
use tilewright_templates::attention::*;

fn forward(arch: Arch, p: &AttentionProblem) -> Kernel {
    p.check().unwrap();
    let mut k = KernelBuilder::new(&p.slug(), arch);
    if arch == Arch::Sm90a {
        let bm = 128;
        let c = WgmmaAttentionConfig {
            bm,
            bn: 64,
            warpgroups: 2,
            stages: 2,
            overlap: true,
            ping_pong: true,
            persistent: true,
            exp_fma: 4,
        };
        wgmma_forward(&mut k, p, &c, &Mods::default()).unwrap();
    } else {
        let c = MmaAttentionConfig { bm: 64, bn: 64, stages: 2, warps: 4 };
        mma_forward(&mut k, p, &c, &Mods::default()).unwrap();
    }
    k.finish()
}

fn check(k: Kernel) {
    let name = k.name.clone();
    let lowered = lower(k).unwrap_or_else(|e| panic!("{name}: {e}"));
    let text = lowered.tile.to_string();
    let again = tile::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(again.to_string(), text);
    tile::verify(&again).unwrap();
    let text = lowered.lane.to_string();
    let again = lane::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(again.to_string(), text);
    lane::verify(&again).unwrap();
    tilewright_templates::manifest::params(&lowered).unwrap();
    tilewright_templates::manifest::launch(&lowered).unwrap();
    tilewright_templates::manifest::requires(&lowered).unwrap();
}

#[test]
fn forwards() {
    let plain = AttentionProblem::plain(DType::BF16, 64);
    let all = AttentionProblem { causal: true, window: true, chunk: true, softcap: true, alibi: true, sink: true, ..plain };
    let sparse = |mask, heads| AttentionProblem { sparse: Some(Sparse { mask, heads }), causal: true, ..plain };
    for arch in [Arch::Sm80, Arch::Sm90a] {
        for p in [
            plain,
            all,
            AttentionProblem { bias: Some(DType::F32), ..all },
            AttentionProblem { varlen: true, ..all },
            AttentionProblem { output: DType::F32, sink: false, ..all },
            sparse(true, false),
            sparse(false, true),
            sparse(true, true),
        ] {
            check(forward(arch, &p));
        }
    }
}

#[test]
fn decodes() {
    let plain = DecodeProblem::plain(DType::F16, 128);
    let all = DecodeProblem { causal: true, window: true, chunk: true, softcap: true, alibi: true, sink: true, ..plain };
    for p in [
        plain,
        all,
        DecodeProblem { output: DType::F32, sink: false, ..all },
        DecodeProblem { select: Select::KvHeads, ..all },
        DecodeProblem { select: Select::Heads, ..plain },
    ] {
        p.check().unwrap();
        if p.select == Select::None {
            let c = WgmmaDecodeConfig { bn: 64, stages: 2, box_rows: 16, ctas: 1 };
            let mut k = KernelBuilder::new(&p.slug(), Arch::Sm90a);
            wgmma_decode(&mut k, &p, &c, &Mods::default()).unwrap();
            check(k.finish());
        }
        for warps in [1, 4] {
            let c = MmaAttentionConfig { bm: 16 * warps, bn: 64, stages: 2, warps };
            let mut k = KernelBuilder::new(&p.slug(), Arch::Sm80);
            mma_decode(&mut k, &p, &c, &Mods::default()).unwrap();
            check(k.finish());
        }
    }
}
