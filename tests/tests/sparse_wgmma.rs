//! The Hopper core of sparse convolution against f64: rows gathered by one warpgroup, multiplied by others.

use tilewright_ir::{Arch, DType};
use tilewright_templates::gemm::Act;
use tilewright_templates::sparse_conv::core::{CoreClass, CoreConfig, EpilogueClass, Exit, Source, core_kernel};
use tilewright_tests::numbers::{decode, encode, random};
use tilewright_tests::{Built, Runner};

fn build(class: &CoreClass, config: &str) -> Built {
    let config: CoreConfig = config.parse().unwrap();
    let kernel = core_kernel(Arch::Sm90a, class, &config).unwrap_or_else(|e| panic!("{config}: {e}"));
    let runner = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"));
    runner.build(&kernel.kernel).unwrap_or_else(|e| panic!("{config}: {e}"))
}

fn bytes(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

const CLASS: CoreClass =
    CoreClass { dtype: DType::F16, source: Source::Tiles, exit: Exit::Store, epilogue: EpilogueClass::NONE, n_align: 8 };

/// Sizes of a run: rows of the map, capacity, rows of features, channels.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    count: usize,
    m: usize,
    n: usize,
    taps: usize,
    cin: usize,
    cout: usize,
}

/// A map whose tiles have none to all of the taps, and rows none to all of a tile's.
fn map(s: Sizes, bm: usize) -> Vec<i32> {
    let entry = |row: usize, tap: usize| {
        let tile = row / bm;
        let has = match tile % 3 {
            0 => (row * 7 + tap * 3).is_multiple_of(4),
            1 => tap % 5 == 1 && !row.is_multiple_of(3),
            _ => false,
        };
        if has { ((row * 31 + tap * 17) % s.n) as i32 } else { -1 }
    };
    (0..s.count).flat_map(|row| (0..s.taps).map(move |tap| entry(row, tap))).collect()
}

/// Runs over tiles in a scrambled order of rows and compares with f64.
fn check(built: &Built, class: &CoreClass, bm: usize, s: Sizes, splits: usize, seed: u64) {
    let map = map(s, bm);
    let (tiles, most) = (s.m.div_ceil(bm), s.taps.div_ceil(splits));
    let order: Vec<usize> = (0..s.count).map(|i| i / bm * bm + (bm.min(s.count - i / bm * bm) - 1 - i % bm)).collect();
    let items = splits * tiles;
    // What no list says is undefined: numbers that lead outside.
    let (mut tile_taps, mut tile_rows, mut tile_out) =
        (vec![i32::MAX / 2; items * (most + 1)], vec![i32::MAX / 2; items * most * bm], vec![-1; items * bm]);
    for (item, rows) in (0..items).map(|i| (i, i % tiles)) {
        let range = (item / tiles * most)..((item / tiles + 1) * most).min(s.taps);
        let rows: Vec<Option<usize>> = (0..bm).map(|r| order.get(rows * bm + r).copied()).collect();
        let mut c = 0;
        for tap in range {
            let found: Vec<i32> = rows.iter().map(|r| r.map_or(-1, |r| map[r * s.taps + tap])).collect();
            if found.iter().any(|j| *j >= 0) {
                tile_rows[(item * most + c) * bm..][..bm].copy_from_slice(&found);
                c += 1;
                tile_taps[item * (most + 1) + c] = tap as i32;
            }
        }
        tile_taps[item * (most + 1)] = c as i32;
        for (to, r) in tile_out[item * bm..].iter_mut().zip(rows) {
            *to = r.map_or(-1, |r| r as i32);
        }
    }
    let (x, w) = (random(s.n * s.cin, DType::F16, seed + 1), random(s.taps * s.cin * s.cout, DType::F16, seed + 2));
    let inputs: [(&str, &[u8]); 6] = [
        ("x", &encode(DType::F16, &x)),
        ("weight", &encode(DType::F16, &w)),
        ("tile_taps", &bytes(&tile_taps)),
        ("tile_rows", &bytes(&tile_rows)),
        ("tile_out", &bytes(&tile_out)),
        ("count", &bytes(&[s.count as i32])),
    ];
    let ints = [("m", s.m), ("n", s.n), ("taps", s.taps), ("splits", splits), ("cin", s.cin), ("cout", s.cout)];
    let ints: Vec<(&str, i64)> = ints.into_iter().map(|(n, v)| (n, v as i64)).collect();
    let (dtype, width) = if class.exit == Exit::Slab { (DType::F32, 4) } else { (DType::F16, 2) };
    let out = splits * s.m * s.cout * width;
    let ran = built.run(&ints, &[], &inputs, &[("y", out)], seed).unwrap();
    assert!(ran.errors.is_empty(), "{s:?} seed {seed}:\n{}", ran.errors.join("\n"));
    let y = decode(dtype, &ran.outputs[0]);
    for (g, row, col) in (0..splits).flat_map(|g| (0..s.count).flat_map(move |m| (0..s.cout).map(move |c| (g, m, c)))) {
        let found = y[(g * s.m + row) * s.cout + col];
        let (mut want, mut size) = (0f64, 0f64);
        for tap in g * most..((g + 1) * most).min(s.taps) {
            let j = map[row * s.taps + tap];
            for c in 0..if j >= 0 { s.cin } else { 0 } {
                let p = x[j as usize * s.cin + c] * w[(tap * s.cin + c) * s.cout + col];
                want += p;
                size += p.abs();
            }
        }
        // One rounding of the output, and sums in f32.
        let bound = if width == 4 { 0.0 } else { want.abs() * 2f64.powi(-11) + 2f64.powi(-25) } + size * 2f64.powi(-20);
        assert!((found - want).abs() <= bound, "{s:?} slab {g} row {row} col {col}: {found}, expected {want} within {bound}");
    }
    assert_eq!(ran.unwritten[0], (splits * (s.m - s.count) * s.cout * width) as u64, "{s:?}");
}

#[test]
fn tiles_with_every_number_of_stages_agree_with_f64() {
    let built = build(&CLASS, "wgmma_128x64x32_s4");
    // Stages in all: taps times steps of channels around the depth of the ring.
    for (i, (taps, cin)) in [(1, 32), (4, 32), (5, 24), (9, 64), (27, 40)].into_iter().enumerate() {
        let s = Sizes { count: 300 - 171 * (i % 2), m: 300, n: 50, taps, cin, cout: 72 };
        check(&built, &CLASS, 128, s, 1, i as u64);
    }
    for count in [0, 1, 128] {
        check(&built, &CLASS, 128, Sizes { count, m: 128, n: 9, taps: 2, cin: 8, cout: 8 }, 1, 0);
    }
}

#[test]
fn tiles_of_other_sizes_and_splits_agree_with_f64() {
    let s = Sizes { count: 150, m: 200, n: 64, taps: 7, cin: 72, cout: 104 };
    for config in ["wgmma_64x96x64_s3", "wgmma_64x16x16_s6"] {
        check(&build(&CLASS, config), &CLASS, 64, s, 1, 2);
    }
    let slabs = CoreClass { exit: Exit::Slab, ..CLASS };
    check(&build(&slabs, "wgmma_128x128x64_s4"), &slabs, 128, s, 3, 1);
    let wide = Sizes { cout: 256, cin: 136, ..s };
    check(&build(&CLASS, "wgmma_128x256x64_s4"), &CLASS, 128, wide, 1, 3);
}

#[test]
fn kernels_of_common_sizes_meet_the_contract() {
    let epilogue = EpilogueClass { bias: Some(DType::F16), bn: Some(DType::F32), act: Act::Relu, residual: true };
    let class = CoreClass { epilogue, ..CLASS };
    for config in ["wgmma_128x32x32_s6", "wgmma_128x64x64_s4", "wgmma_128x128x64_s6", "wgmma_64x64x64_s6"] {
        let config: CoreConfig = config.parse().unwrap();
        let kernel = core_kernel(Arch::Sm90a, &class, &config).unwrap_or_else(|e| panic!("{config}: {e}"));
        let runner = Runner::of_contract(env!("CARGO_BIN_EXE_tilewright-tests-worker"));
        let built = runner.build(&kernel.kernel).unwrap_or_else(|e| panic!("{config}: {e}"));
        assert!(built.compiled.ptx.contains("wgmma.mma_async"), "{config}");
    }
}
