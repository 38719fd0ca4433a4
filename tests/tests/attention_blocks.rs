//! Block lists against every pair of query and key.

use tilewright_ir::Arch;
use tilewright_ir::tile::KernelBuilder;
use tilewright_templates::attention::{BlockListProblem, UNLIMITED, Visibility, block_lists};
use tilewright_tests::Runner;

#[derive(Clone)]
struct Size {
    /// Lengths of queries and keys of each sequence: all the same without varlen.
    lengths: Vec<[usize; 2]>,
    hq: usize,
    tile: [usize; 2],
    block: [usize; 2],
    /// Sequences and heads of the mask.
    mask: [usize; 2],
    window: [i64; 2],
    chunk: usize,
    sink: usize,
    recent: usize,
}

fn hash(x: usize) -> usize {
    let mut x = (x as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^= x >> 29;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (x >> 33) as usize
}

fn visible(
    p: &BlockListProblem,
    z: &Size,
    b: usize,
    (i, j): (usize, usize),
    kind: i32,
    mask: &dyn Fn(usize, usize) -> bool,
) -> bool {
    let [sq, sk] = z.lengths[b];
    let at = i as i64 + sk as i64 - sq as i64;
    let key = j as i64;
    let v = p.visibility;
    let chunk = z.chunk as i64;
    let interval = (!v.causal || key <= at)
        && (!v.window || (at - z.window[0] <= key && key <= at + z.window[1]))
        && (!v.chunk || at.div_euclid(chunk) == key / chunk);
    interval
        && match kind {
            -1 => key < z.sink as i64 || at - key < z.recent as i64,
            0 => true,
            _ => mask(i / z.block[0], j / z.block[1]),
        }
}

fn check(p: &BlockListProblem, arch: Arch, sizes: &[Size]) {
    p.check().unwrap();
    let mut k = KernelBuilder::new(&format!("blocks_{}", p.slug()), arch);
    block_lists(&mut k, p).unwrap();
    let built = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker")).build(&k.finish()).unwrap();
    for z in sizes {
        // Without head types a mask has one head for all or one for each.
        let heads = if p.heads || z.mask[1] == 1 { z.mask[1] } else { z.hq };
        let z = &Size { mask: [z.mask[0], heads], ..z.clone() };
        let batch = z.lengths.len();
        let longest = |side: usize| z.lengths.iter().map(|l| l[side]).max().unwrap();
        let (sq, sk) = (longest(0), longest(1));
        assert!(p.varlen || z.lengths.iter().all(|l| *l == [sq, sk]));
        let (mq, mk) = (sq.div_ceil(z.block[0]), sk.div_ceil(z.block[1]));
        // Some rows of the mask are all set, so that some blocks need no mask.
        let mask: Vec<u8> = (0..z.mask[0] * z.mask[1] * mq * mk)
            .map(|at| if hash(at / mk).is_multiple_of(3) || hash(at).is_multiple_of(2) { (hash(at) % 255 + 1) as u8 } else { 0 })
            .collect();
        let kinds: Vec<i32> = (0..z.hq)
            .map(|h| match h % 3 {
                0 => -1,
                1 => 0,
                _ if p.mask => 1 + (h / 3 % z.mask[1]) as i32,
                _ => -1,
            })
            .collect();
        let (n_q, n_k) = (sq.div_ceil(z.tile[0]), sk.div_ceil(z.tile[1]));
        let rows = batch * z.hq * n_q;
        let sum = |side: usize| -> Vec<u8> {
            let mut total = 0;
            let ends = z.lengths.iter().map(|l| {
                total += l[side] as i32;
                total
            });
            [0].into_iter().chain(ends).flat_map(i32::to_le_bytes).collect()
        };
        let kind_bytes: Vec<u8> = kinds.iter().flat_map(|k| k.to_le_bytes()).collect();
        let (cu_q, cu_k) = (sum(0), sum(1));
        let inputs = [("block_mask", mask.as_slice()), ("head_type", &kind_bytes), ("cu_q", &cu_q), ("cu_k", &cu_k)];
        let ints = [
            ("batch", batch as i64),
            ("hq", z.hq as i64),
            ("sq", sq as i64),
            ("sk", sk as i64),
            ("tile_m", z.tile[0] as i64),
            ("tile_n", z.tile[1] as i64),
            ("mask_b", z.mask[0] as i64),
            ("mask_h", z.mask[1] as i64),
            ("mask_q", mq as i64),
            ("mask_k", mk as i64),
            ("block_m", z.block[0] as i64),
            ("block_n", z.block[1] as i64),
            ("sink_tokens", z.sink as i64),
            ("recent_tokens", z.recent as i64),
            ("window_left", z.window[0]),
            ("window_right", z.window[1]),
            ("chunk", z.chunk as i64),
        ];
        for seed in 0..3 {
            let outputs = [("blocks", 4 * rows * n_k), ("block_count", 8 * rows)];
            let ran = built.run(&ints, &[], &inputs, &outputs, seed).unwrap();
            assert!(ran.errors.is_empty() && ran.lints.is_empty(), "{}: {:?} {:?}", p.slug(), ran.errors, ran.lints);
            assert_eq!(ran.unwritten[1], 0);
            let numbers =
                |bytes: &[u8]| -> Vec<i32> { bytes.chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect() };
            let (blocks, counts) = (numbers(&ran.outputs[0]), numbers(&ran.outputs[1]));
            for row in 0..rows {
                let (b, h, qt) = (row / n_q / z.hq, row / n_q % z.hq, row % n_q);
                let kind = if p.heads { kinds[h] } else { 1 };
                let head = if p.heads { (kind - 1).max(0) as usize } else { h % z.mask[1] };
                let bit = |m: usize, n: usize| mask[(((b % z.mask[0]) * z.mask[1] + head) * mq + m) * mk + n] != 0;
                let [sq, sk] = z.lengths[b];
                let (mut full, mut partial) = (Vec::new(), Vec::new());
                for kt in 0..n_k {
                    let queries = qt * z.tile[0]..((qt + 1) * z.tile[0]).min(sq);
                    let keys = kt * z.tile[1]..((kt + 1) * z.tile[1]).min(sk);
                    let seen = queries
                        .clone()
                        .flat_map(|i| keys.clone().map(move |j| (i, j)))
                        .filter(|at| visible(p, z, b, *at, kind, &bit))
                        .count();
                    if seen > 0 && seen == queries.len() * z.tile[1] {
                        full.push(kt as i32);
                    } else if seen > 0 {
                        partial.push(kt as i32);
                    }
                }
                let what = format!("{} sequence {b} head {h} (type {kind}) tile {qt}", p.slug());
                assert_eq!(counts[2 * row..][..2], [(full.len() + partial.len()) as i32, partial.len() as i32], "{what}");
                let want: Vec<i32> = full.into_iter().chain(partial).collect();
                assert_eq!(blocks[row * n_k..][..want.len()], want, "{what}");
            }
        }
    }
}

fn same(batch: usize, sq: usize, sk: usize) -> Size {
    Size {
        lengths: vec![[sq, sk]; batch],
        hq: 3,
        tile: [16, 24],
        block: [16, 16],
        mask: [1, 3],
        window: [40, 7],
        chunk: 32,
        sink: 5,
        recent: 20,
    }
}

fn ragged() -> Vec<Size> {
    vec![
        same(1, 64, 96),
        Size { mask: [2, 1], block: [7, 10], ..same(2, 50, 50) },
        Size { hq: 7, block: [64, 32], tile: [32, 16], sink: 0, ..same(1, 90, 131) },
        // Fewer keys than queries: rows without a key.
        Size { tile: [8, 8], block: [5, 3], window: [UNLIMITED, 0], chunk: 9, ..same(1, 40, 19) },
        Size { tile: [64, 112], block: [128, 128], window: [10, UNLIMITED], recent: 1, ..same(2, 130, 300) },
    ]
}

#[test]
fn masks_alone_and_with_intervals() {
    let none = Visibility::default();
    let p = BlockListProblem { visibility: none, mask: true, heads: false, varlen: false };
    check(&p, Arch::Sm80, &ragged());
    check(&BlockListProblem { visibility: Visibility { causal: true, ..none }, ..p }, Arch::Sm90a, &ragged());
    check(&BlockListProblem { visibility: Visibility { window: true, ..none }, ..p }, Arch::Sm80, &ragged());
}

#[test]
fn head_types() {
    let causal = Visibility { causal: true, ..Visibility::default() };
    let p = BlockListProblem { visibility: causal, mask: false, heads: true, varlen: false };
    check(&p, Arch::Sm80, &ragged());
    check(&BlockListProblem { mask: true, ..p }, Arch::Sm90a, &ragged());
    let all = Visibility { causal: true, window: true, chunk: true };
    check(&BlockListProblem { visibility: all, mask: true, ..p }, Arch::Sm80, &ragged());
    let two_sided = Visibility { window: true, ..Visibility::default() };
    check(&BlockListProblem { visibility: two_sided, ..p }, Arch::Sm80, &ragged());
}

#[test]
fn sequences_of_different_lengths() {
    let v = Visibility { causal: true, chunk: true, ..Visibility::default() };
    let p = BlockListProblem { visibility: v, mask: true, heads: true, varlen: true };
    let lengths = vec![[40, 70], [0, 30], [17, 17], [64, 1], [5, 0], [33, 96]];
    let sizes = [
        Size { lengths: lengths.clone(), mask: [6, 2], block: [9, 14], ..same(1, 1, 1) },
        Size { lengths, tile: [32, 32], hq: 4, ..same(1, 1, 1) },
    ];
    check(&p, Arch::Sm90a, &sizes);
    check(&BlockListProblem { visibility: Visibility::default(), mask: false, ..p }, Arch::Sm80, &sizes);
}
