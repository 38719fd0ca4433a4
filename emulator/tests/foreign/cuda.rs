//! Launches and references of the CUDA C++ kernels.

use super::bench::{Bench, Bound, MapLayout, Ty};
use super::triton::{product, transposed};
use super::{BOTH, Row, SM90};
use tilewright_emulator::tensor::tma::TensorDType;

pub const KERNELS: &[Row] = &[
    ("reduce:reduce_shuffle", BOTH, &[[5000, 3, 0]], reduce_shuffle),
    ("reduce:reduce_tree", BOTH, &[[1000, 0, 0]], reduce_tree),
    ("reduce:reduce_groups", BOTH, &[[1000, 0, 0]], reduce_groups),
    ("reduce:reduce_last_block", BOTH, &[[3000, 7, 0]], reduce_last_block),
    ("reduce:block_scan", BOTH, &[[700, 0, 0]], block_scan),
    ("reduce:warp_scan_shared", BOTH, &[[96, 0, 0]], warp_scan_shared),
    ("reduce:scan_lookback", BOTH, &[[5000, 0, 0]], scan_lookback),
    ("blocks:histogram_shared", BOTH, &[[3001, 2, 0]], histogram_shared),
    ("blocks:transpose_padded", BOTH, &[[70, 45, 0]], transpose_padded),
    ("blocks:bitonic_sort", BOTH, &[[1024, 0, 0]], bitonic_sort),
    ("blocks:stencil", BOTH, &[[300, 3, 0], [300, 3, 1]], stencil),
    ("blocks:spin_lock", BOTH, &[[12, 0, 0]], spin_lock),
    ("blocks:message_passing", BOTH, &[[4, 0, 0]], message_passing),
    ("blocks:work_queue", BOTH, &[[30, 4, 0]], work_queue),
    ("lanes:compact", BOTH, &[[500, 0, 0]], compact),
    ("lanes:match_histogram", BOTH, &[[333, 5, 0]], match_histogram),
    ("lanes:nbody", BOTH, &[[100, 0, 0]], nbody),
    ("lanes:half2_axpy", BOTH, &[[600, 0, 0]], half2_axpy),
    ("lanes:monte_carlo", BOTH, &[[2, 20, 0]], monte_carlo),
    ("lanes:median", BOTH, &[[150, 0, 0]], median),
    ("lanes:library", BOTH, &[[200, 0, 0]], library),
    ("gemm:sgemm", BOTH, &[[70, 65, 37]], sgemm),
    ("gemm:gemm_mma", BOTH, &[[100, 70, 104], [64, 64, 32]], gemm_mma),
    ("wmma:gemm_wmma", BOTH, &[[48, 32, 64]], gemm_wmma),
    ("attention_f32:attention", BOTH, &[[45, 0, 0]], attention),
    ("pipeline:pipelined", BOTH, &[[5, 0, 0]], pipelined),
    ("pipeline:producer_consumer", BOTH, &[[6, 0, 0]], producer_consumer),
    ("pipeline:group_copy", BOTH, &[[100, 3, 0]], group_copy),
    ("calls:call_noinline", BOTH, &[[100, 0, 0]], call_noinline),
    ("calls:recursion", BOTH, &[[32, 0, 0]], recursion),
    ("calls:call_indirect", BOTH, &[[100, 0, 0]], call_indirect),
    ("calls:call_virtual", BOTH, &[[100, 0, 0]], call_virtual),
    ("print:print", BOTH, &[[64, 0, 0]], print),
    ("cluster:histogram_cluster", SM90, &[[1000, 50, 8]], histogram_cluster),
    ("cluster:cluster_max", SM90, &[[6, 0, 0]], cluster_max),
    ("hopper:tma_scale", SM90, &[[70, 100, 0]], tma_scale),
    ("hopper:wgmma_gemm", SM90, &[[150, 72, 328], [128, 64, 64]], wgmma_gemm),
];

/// One rounding of f32.
const STEP: f64 = 1.0 / (1 << 23) as f64;

/// One-dimensional blocks.
fn threads(bench: &mut Bench, threads: u32, blocks: usize) {
    bench.launch.block = [threads, 1, 1];
    bench.launch.grid = [blocks as u32, 1, 1];
}

fn scanned(x: &[f64]) -> Vec<f64> {
    let mut sum = 0.0;
    x.iter()
        .map(|v| {
            sum += v;
            sum
        })
        .collect()
}

fn magnitude(x: &[f64]) -> f64 {
    x.iter().map(|v| v.abs()).sum()
}

fn reduce_shuffle(bench: &mut Bench, [n, blocks, _]: [usize; 3]) {
    let x = bench.values(Ty::F32, n);
    let share = |block: usize| -> Vec<f64> { (0..n).filter(|at| at / 256 % blocks == block).map(|at| x[at]).collect() };
    let want: Vec<f64> = (0..blocks).map(|block| share(block).iter().sum()).collect();
    let slack = (0..blocks).map(|block| magnitude(&share(block)) * 32.0 * STEP).collect();
    bench.input(Ty::F32, &x);
    bench.output(Ty::F32, want, Bound::Within(slack));
    bench.int(n);
    threads(bench, 256, blocks);
}

fn reduce_tree(bench: &mut Bench, [n, _, _]: [usize; 3]) {
    let x = bench.values(Ty::I32, n);
    bench.input(Ty::I32, &x);
    bench.in_out(Ty::I32, &[0.0], vec![x.iter().sum()], Bound::Exact);
    bench.int(n);
    bench.launch.dynamic_shared_bytes = 4 * 128;
    threads(bench, 128, n.div_ceil(256));
}

fn reduce_groups(bench: &mut Bench, [n, _, _]: [usize; 3]) {
    let x = bench.values(Ty::I32, n);
    bench.input(Ty::I32, &x);
    bench.in_out(Ty::I32, &[0.0], vec![x.iter().sum()], Bound::Exact);
    bench.in_out(Ty::I32, &[-1.0], vec![x.iter().copied().fold(-1.0, f64::max)], Bound::Exact);
    bench.int(n);
    threads(bench, 128, n.div_ceil(128));
}

fn reduce_last_block(bench: &mut Bench, [n, blocks, _]: [usize; 3]) {
    let x = bench.values(Ty::F32, n);
    let share = |block: usize| -> Vec<f64> { (0..n).filter(|at| at / 128 % blocks == block).map(|at| x[at]).collect() };
    let partial: Vec<f64> = (0..blocks).map(|block| share(block).iter().sum()).collect();
    let slack = |x: &[f64]| magnitude(x) * 32.0 * STEP;
    bench.input(Ty::F32, &x);
    bench.output(Ty::F32, partial, Bound::Within((0..blocks).map(|block| slack(&share(block))).collect()));
    bench.output(Ty::F32, vec![x.iter().sum()], Bound::Within(vec![slack(&x)]));
    bench.int(n);
    threads(bench, 128, blocks);
}

fn block_scan(bench: &mut Bench, [n, _, _]: [usize; 3]) {
    let x = bench.values(Ty::I32, n);
    bench.input(Ty::I32, &x);
    bench.output(Ty::I32, x.chunks(256).flat_map(scanned).collect(), Bound::Exact);
    bench.int(n);
    threads(bench, 256, n.div_ceil(256));
}

fn warp_scan_shared(bench: &mut Bench, [n, _, _]: [usize; 3]) {
    let x = bench.values(Ty::I32, n);
    bench.input(Ty::I32, &x);
    bench.output(Ty::I32, x.chunks(32).flat_map(scanned).collect(), Bound::Exact);
    threads(bench, 32, n / 32);
}

fn scan_lookback(bench: &mut Bench, [n, _, _]: [usize; 3]) {
    let x = bench.values(Ty::I32, n);
    let tiles = n.div_ceil(128);
    bench.input(Ty::I32, &x);
    bench.output(Ty::I32, scanned(&x), Bound::Exact);
    bench.input(Ty::I64, &vec![0.0; tiles]);
    bench.in_out(Ty::U32, &[0.0], vec![tiles as f64], Bound::Exact);
    bench.int(n);
    threads(bench, 128, tiles);
}

fn counted(x: &[f64], bins: usize) -> Vec<f64> {
    let mut counts = vec![0.0; bins];
    x.iter().for_each(|v| counts[*v as usize] += 1.0);
    counts
}

fn histogram_shared(bench: &mut Bench, [n, blocks, _]: [usize; 3]) {
    let x: Vec<f64> = bench.ints(0, 128, n);
    bench.input(Ty::I8, &x);
    bench.in_out(Ty::U32, &[0.0; 256], counted(&x, 256), Bound::Exact);
    bench.int(n);
    threads(bench, 256, blocks);
}

fn transpose_padded(bench: &mut Bench, [rows, cols, _]: [usize; 3]) {
    let x = bench.values(Ty::F32, rows * cols);
    bench.input(Ty::F32, &x);
    bench.output(Ty::F32, transposed(&x, rows, cols), Bound::Exact);
    bench.sizes(&[rows, cols]);
    bench.launch.block = [32, 8, 1];
    bench.launch.grid = [cols.div_ceil(32) as u32, rows.div_ceil(32) as u32, 1];
}

/// Keys differ, so that the payload has one right order.
fn bitonic_sort(bench: &mut Bench, [n, _, _]: [usize; 3]) {
    let keys: Vec<f64> = (0..n).map(|at| (at as u32).wrapping_mul(2_654_435_761).into()).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.chunks_mut(512).for_each(|part| part.sort_by(|a, b| keys[*a].total_cmp(&keys[*b])));
    let values: Vec<f64> = (0..n).map(|at| at as f64).collect();
    bench.in_out(Ty::U32, &keys, order.iter().map(|at| keys[*at]).collect(), Bound::Exact);
    bench.in_out(Ty::U32, &values, order.iter().map(|at| *at as f64).collect(), Bound::Exact);
    threads(bench, 256, n / 512);
}

fn stencil(bench: &mut Bench, [width, rows, which]: [usize; 3]) {
    const TAPS: [[f64; 5]; 2] = [[0.0625, 0.25, 0.375, 0.25, 0.0625], [-0.25, -0.5, 0.0, 0.5, 0.25]];
    let x = bench.values(Ty::F32, width * rows);
    let pixel = |row: usize, col: usize| x[row * width + col.clamp(2, width + 1) - 2];
    let want =
        (0..width * rows).map(|at| (0..5).map(|tap| TAPS[which][tap] * pixel(at / width, at % width + tap)).sum()).collect();
    bench.input(Ty::F32, &x);
    bench.output(Ty::F32, want, Bound::Within(vec![5.0 * STEP; width * rows]));
    bench.sizes(&[width, which]);
    bench.launch.block = [128, 1, 1];
    bench.launch.grid = [width.div_ceil(128) as u32, rows as u32, 1];
}

/// The order of the blocks is the schedule's; that all took a ticket is not.
fn spin_lock(bench: &mut Bench, [blocks, _, _]: [usize; 3]) {
    bench.in_out(Ty::I32, &[0.0], vec![0.0], Bound::Exact);
    bench.in_out(Ty::I32, &[0.0], vec![blocks as f64], Bound::Exact);
    bench.output(Ty::I32, (0..blocks).map(|block| block as f64).collect(), Bound::AnyOrder);
    threads(bench, 64, blocks);
}

fn message_passing(bench: &mut Bench, [blocks, _, _]: [usize; 3]) {
    let data: Vec<f64> = (0..32).map(|lane| f64::from(3 * lane + 1)).collect();
    bench.output(Ty::I32, data.clone(), Bound::Exact);
    bench.in_out(Ty::I32, &[0.0], vec![1.0], Bound::Exact);
    bench.output(Ty::I32, data.repeat(blocks - 1), Bound::Exact);
    threads(bench, 32, blocks);
}

fn work_queue(bench: &mut Bench, [n, blocks, _]: [usize; 3]) {
    let items = bench.ints(1, 200, n);
    let divisors = |v: &f64| (1..=*v as u32).filter(|d| (*v as u32).is_multiple_of(*d)).count() as f64;
    bench.in_out(Ty::U32, &[0.0], vec![(n + blocks) as f64], Bound::Exact);
    bench.input(Ty::I32, &items);
    bench.output(Ty::I32, items.iter().map(divisors).collect(), Bound::Exact);
    bench.int(n);
    threads(bench, 64, blocks);
}

fn compact(bench: &mut Bench, [n, _, _]: [usize; 3]) {
    let x = bench.ints(-50, 50, n);
    let kept: Vec<f64> = x.iter().copied().filter(|v| *v > 0.0).collect();
    let count = kept.len() as f64;
    bench.input(Ty::I32, &x);
    bench.output(Ty::I32, kept, Bound::AnyOrder);
    bench.in_out(Ty::I32, &[0.0], vec![count], Bound::Exact);
    bench.int(n);
    threads(bench, 128, n.div_ceil(128));
}

/// Every third warp has one key only.
fn match_histogram(bench: &mut Bench, [n, keys, _]: [usize; 3]) {
    let mut x = bench.ints(0, keys as i64, n);
    x.chunks_mut(32).step_by(3).for_each(|warp| warp.fill(warp[0]));
    let uniform = |warp: &[f64]| if warp.iter().all(|key| *key == warp[0]) { 3.0 } else { 0.0 };
    bench.input(Ty::I32, &x);
    bench.in_out(Ty::I32, &vec![0.0; keys], counted(&x, keys), Bound::Exact);
    bench.output(Ty::I32, x.chunks(32).map(uniform).collect(), Bound::Exact);
    bench.int(n);
    threads(bench, 128, n.div_ceil(128));
}

fn nbody(bench: &mut Bench, [n, _, _]: [usize; 3]) {
    let bodies = bench.values(Ty::F64, 4 * n);
    let soft = 0.01;
    let (mut want, mut slack) = (Vec::new(), Vec::new());
    for me in bodies.chunks(4) {
        for axis in 0..3 {
            let pull = |other: &[f64]| {
                let square: f64 = (0..3).map(|d| (other[d] - me[d]).powi(2)).sum::<f64>() + soft;
                other[3] * (other[axis] - me[axis]) / (square * square.sqrt())
            };
            want.push(bodies.chunks(4).map(pull).sum());
            slack.push(bodies.chunks(4).map(|other| pull(other).abs()).sum::<f64>() * (n + 32) as f64 * 0.5f64.powi(52));
        }
    }
    bench.input(Ty::F64, &bodies);
    bench.output(Ty::F64, want, Bound::Within(slack));
    bench.int(n);
    bench.double(soft);
    threads(bench, 64, n.div_ceil(64));
}

fn half2_axpy(bench: &mut Bench, [n, _, _]: [usize; 3]) {
    let (x, y) = (bench.values(Ty::F16, n), bench.values(Ty::F16, n));
    let a = 0.75;
    let want: Vec<f64> = x.iter().zip(&y).map(|(x, y)| (a * x + y).max(0.0)).collect();
    bench.input(Ty::F16, &x);
    bench.in_out(Ty::F16, &y, Ty::F16.rounded(&want), Bound::Exact);
    bench.float(a as f32);
    bench.int(n / 2);
    threads(bench, 128, (n / 2).div_ceil(128));
}

fn monte_carlo(bench: &mut Bench, [blocks, points, _]: [usize; 3]) {
    let seed = 99u32;
    let (mut third, mut inside) = (Vec::new(), 0u32);
    for thread in 0..128 * blocks as u32 {
        let mut state = [seed ^ thread.wrapping_mul(2_654_435_761), 362_436_069, 521_288_629, 88_675_123];
        let mut next = || {
            let s = state[0] ^ state[0] << 11;
            let w = state[3] ^ state[3] >> 19 ^ s ^ s >> 8;
            state = [state[1], state[2], state[3], w];
            w
        };
        for point in 0..points {
            let (a, b) = (next(), next());
            if point == 1 {
                third.push(f64::from(a));
            }
            let [x, y] = [a, b].map(|w| (w >> 8) as f32 / 16_777_216.0);
            // The compiler contracts the second product and the sum.
            inside += u32::from(x.mul_add(x, y * y) < 1.0);
        }
    }
    bench.output(Ty::U32, third, Bound::Exact);
    bench.in_out(Ty::U32, &[0.0], vec![f64::from(inside)], Bound::Exact);
    bench.sizes(&[seed as usize, points]);
    threads(bench, 128, blocks);
}

fn median(bench: &mut Bench, [n, _, _]: [usize; 3]) {
    let x = bench.values(Ty::F32, n);
    let rank = bench.ints(0, 9, n);
    let pick = |at: usize| {
        let mut window: Vec<f64> = (0..9).map(|k| x[(at + k).clamp(4, n + 3) - 4]).collect();
        window.sort_by(f64::total_cmp);
        window[rank[at] as usize]
    };
    bench.input(Ty::F32, &x);
    bench.output(Ty::F32, (0..n).map(pick).collect(), Bound::Exact);
    bench.input(Ty::I32, &rank);
    bench.int(n);
    threads(bench, 64, n.div_ceil(64));
}

/// The error function by its series, for |x| < 1.
fn erf(x: f64) -> f64 {
    let mut term = x;
    let mut sum = x;
    for n in 1..40 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn library(bench: &mut Bench, [n, _, _]: [usize; 3]) {
    let x = bench.values(Ty::F32, n);
    let want: Vec<f64> = x
        .iter()
        .map(|v| {
            let power = (v.abs() + 0.5).powf(f64::from(1.7f32));
            power + (20.0 * v).sin() + v.abs().ln_1p() + erf(*v) + v.exp() + v % f64::from(0.3f32) + v.cbrt()
        })
        .collect();
    bench.input(Ty::F32, &x);
    // Seven terms below 4, each good to a few units in its last place; 20 v is rounded before the sine.
    bench.output(Ty::F32, want, Bound::Within(vec![7.0 * 4.0 * 4.0 * STEP; n]));
    bench.int(n);
    threads(bench, 64, n.div_ceil(64));
}

fn sgemm(bench: &mut Bench, [m, n, k]: [usize; 3]) {
    let (a, b) = (bench.values(Ty::F32, m * k), bench.values(Ty::F32, k * n));
    let (want, bound) = product(&a, &b, [m, n, k]);
    bench.input(Ty::F32, &a);
    bench.input(Ty::F32, &b);
    bench.output(Ty::F32, want, Bound::Within(bound));
    bench.sizes(&[m, n, k]);
    bench.launch.block = [256, 1, 1];
    bench.launch.grid = [n.div_ceil(64) as u32, m.div_ceil(64) as u32, 1];
}

fn gemm_mma(bench: &mut Bench, [m, n, k]: [usize; 3]) {
    let (a, b) = (bench.values(Ty::F16, m * k), bench.values(Ty::F16, n * k));
    let (want, bound) = product(&a, &transposed(&b, n, k), [m, n, k]);
    bench.input(Ty::F16, &a);
    bench.input(Ty::F16, &b);
    bench.output(Ty::F32, want, Bound::Within(bound));
    bench.sizes(&[m, n, k]);
    bench.launch.block = [128, 1, 1];
    bench.launch.grid = [n.div_ceil(64) as u32, m.div_ceil(64) as u32, 1];
}

fn gemm_wmma(bench: &mut Bench, [m, n, k]: [usize; 3]) {
    let (a, b) = (bench.values(Ty::F16, m * k), bench.values(Ty::F16, k * n));
    let (want, bound) = product(&a, &b, [m, n, k]);
    bench.input(Ty::F16, &a);
    bench.input(Ty::F16, &b);
    bench.output(Ty::F32, want, Bound::Within(bound));
    bench.sizes(&[m, n, k]);
    bench.launch.block = [128, 1, 1];
    bench.launch.grid = [n.div_ceil(32) as u32, m.div_ceil(32) as u32, 1];
}

fn attention(bench: &mut Bench, [s, _, _]: [usize; 3]) {
    const D: usize = 64;
    let [q, k, v] = [(); 3].map(|()| bench.values(Ty::F32, s * D));
    let scale = 0.125;
    let (mut out, mut slack) = (Vec::new(), Vec::new());
    for query in q.chunks(D) {
        let weight = |key: &[f64]| (query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>() * scale).exp();
        let weights: Vec<f64> = k.chunks(D).map(weight).collect();
        let total: f64 = weights.iter().sum();
        for x in 0..D {
            let mean = |size: fn(f64) -> f64| -> f64 {
                weights.iter().enumerate().map(|(key, w)| w * size(v[key * D + x])).sum::<f64>() / total
            };
            out.push(mean(|v| v));
            slack.push(mean(f64::abs) * (4 * D + 2 * s) as f64 * STEP);
        }
    }
    for values in [&q, &k, &v] {
        bench.input(Ty::F32, values);
    }
    bench.output(Ty::F32, out, Bound::Within(slack));
    bench.int(s);
    bench.float(scale as f32);
    threads(bench, 128, s.div_ceil(4));
}

fn pipelined(bench: &mut Bench, [tiles, _, _]: [usize; 3]) {
    let x = bench.values(Ty::I32, tiles * 512);
    let mut want = Vec::new();
    for (tile, part) in x.chunks(512).enumerate() {
        for t in 0..128 {
            let before: f64 = (0..tile).map(|tile| x[tile * 512 + 4 * t]).sum();
            let next = (t + 1) % 128 * 4;
            want.extend([
                part[4 * t] + before,
                part[4 * t + 1] + part[next],
                part[4 * t + 2] + part[next + 1],
                part[4 * t + 3] + part[next + 2],
            ]);
        }
    }
    bench.input(Ty::I32, &x);
    bench.output(Ty::I32, want, Bound::Exact);
    bench.int(tiles);
    threads(bench, 128, 1);
}

fn producer_consumer(bench: &mut Bench, [tiles, _, _]: [usize; 3]) {
    let x = bench.values(Ty::F32, tiles * 64);
    bench.input(Ty::F32, &x);
    bench.output(Ty::F32, x.chunks(64).flat_map(|tile| tile.iter().rev().map(|v| 2.0 * v)).collect(), Bound::Exact);
    bench.int(tiles);
    threads(bench, 128, 1);
}

fn group_copy(bench: &mut Bench, [n, blocks, _]: [usize; 3]) {
    let x = bench.values(Ty::F32, n * blocks);
    bench.input(Ty::F32, &x);
    bench.output(Ty::F32, x.chunks(n).flat_map(|part| part.iter().rev().copied()).collect(), Bound::Exact);
    bench.int(n);
    bench.launch.dynamic_shared_bytes = 4 * n as u32;
    threads(bench, 64, blocks);
}

fn call_noinline(bench: &mut Bench, [n, _, _]: [usize; 3]) {
    let (x, c) = (bench.values(Ty::F32, n), bench.values(Ty::F32, 5));
    let value = |at: usize| (0..4 + (at & 1)).rev().fold(0.0, |sum, i| sum * x[at] + c[i]);
    bench.input(Ty::F32, &x);
    bench.input(Ty::F32, &c);
    bench.output(Ty::F32, (0..n).map(value).collect(), Bound::Within(vec![16.0 * STEP; n]));
    bench.int(n);
    threads(bench, 64, n.div_ceil(64));
}

fn recursion(bench: &mut Bench, _: [usize; 3]) {
    const FIBONACCI: [f64; 11] = [0.0, 1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 55.0];
    bench.output(Ty::U32, (0..32).map(|t| FIBONACCI[t % 11]).collect(), Bound::Exact);
    threads(bench, 32, 1);
}

fn call_indirect(bench: &mut Bench, [n, _, _]: [usize; 3]) {
    let op = bench.ints(0, 3, n);
    let (a, b) = (bench.values(Ty::I32, n), bench.values(Ty::I32, n));
    let apply = |at: usize| match op[at] as u32 {
        0 => a[at] + b[at],
        1 => a[at] - b[at],
        _ => a[at] * b[at],
    };
    let want = (0..n).map(apply).collect();
    for values in [&op, &a, &b] {
        bench.input(Ty::I32, values);
    }
    bench.output(Ty::I32, want, Bound::Exact);
    bench.int(n);
    threads(bench, 64, n.div_ceil(64));
}

fn call_virtual(bench: &mut Bench, [n, _, _]: [usize; 3]) {
    let x = bench.values(Ty::F32, n);
    let area = |at: usize| if at.is_multiple_of(3) { x[at] * x[at] } else { x[at] * 3.0 };
    bench.input(Ty::F32, &x);
    bench.output(Ty::F32, (0..n).map(area).collect(), Bound::Relative(0.0));
    bench.int(n);
    threads(bench, 64, n.div_ceil(64));
}

fn print(bench: &mut Bench, [n, _, _]: [usize; 3]) {
    let x = bench.values(Ty::I32, n);
    bench.input(Ty::I32, &x);
    bench.output(Ty::I32, x.iter().map(|v| v + 1.0).collect(), Bound::Exact);
    bench.int(n);
    threads(bench, 32, n / 32);
}

fn histogram_cluster(bench: &mut Bench, [n, bins, blocks]: [usize; 3]) {
    let x = bench.ints(0, 4 * bins as i64, n);
    bench.input(Ty::I32, &x);
    bench.in_out(Ty::I32, &vec![0.0; 4 * bins], counted(&x, 4 * bins), Bound::Exact);
    bench.sizes(&[bins, n]);
    bench.launch.dynamic_shared_bytes = 4 * bins as u32;
    bench.launch.cluster = [4, 1, 1];
    threads(bench, 128, blocks);
}

fn cluster_max(bench: &mut Bench, [blocks, _, _]: [usize; 3]) {
    let x = bench.values(Ty::F32, 64 * blocks);
    let sums: Vec<f64> = x.chunks(64).map(|part| part.iter().sum()).collect();
    let want = (0..blocks).map(|block| sums[block / 2 * 2].max(sums[block / 2 * 2 + 1])).collect();
    bench.input(Ty::F32, &x);
    bench.output(Ty::F32, want, Bound::Within(vec![64.0 * 64.0 * STEP; blocks]));
    bench.launch.cluster = [2, 1, 1];
    threads(bench, 64, blocks);
}

fn tma_scale(bench: &mut Bench, [rows, cols, _]: [usize; 3]) {
    let x = bench.values(Ty::F32, rows * cols);
    let want = (0..rows * cols).map(|at| 2.0 * x[at] + (at / cols) as f64).collect();
    let input = bench.buffer(Ty::F32, &x);
    let output = bench.output_buffer(Ty::F32, want, Bound::Relative(0.0));
    let layout = MapLayout { swizzle: 0, box_rows_cols: [32, 64] };
    for buffer in [input, output] {
        bench.tensor_map(buffer, TensorDType::F32, [rows, cols], &layout);
    }
    bench.launch.block = [128, 1, 1];
    bench.launch.grid = [cols.div_ceil(64) as u32, rows.div_ceil(32) as u32, 1];
}

fn wgmma_gemm(bench: &mut Bench, [m, n, k]: [usize; 3]) {
    let (a, b) = (bench.values(Ty::Bf16, m * k), bench.values(Ty::Bf16, n * k));
    let (want, bound) = product(&a, &transposed(&b, n, k), [m, n, k]);
    let maps = [(bench.buffer(Ty::Bf16, &a), m, 128), (bench.buffer(Ty::Bf16, &b), n, 64)];
    for (buffer, rows, box_rows) in maps {
        let layout = MapLayout { swizzle: 3, box_rows_cols: [box_rows, 64] };
        bench.tensor_map(buffer, TensorDType::Bf16, [rows, k], &layout);
    }
    bench.output(Ty::F32, want, Bound::Within(bound));
    bench.sizes(&[m, n, k]);
    bench.launch.block = [384, 1, 1];
    bench.launch.grid = [n.div_ceil(64) as u32, m.div_ceil(128) as u32, 1];
    bench.launch.dynamic_shared_bytes = 3 * (128 + 64) * 128 + 48;
}
