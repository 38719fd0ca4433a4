//! Launches and references of the Triton kernels.

use super::bench::{Bench, Bound, Ty};
use super::{BOTH, Row, SM90};
use tilewright_emulator::tensor::tma::TensorDType;

pub const KERNELS: &[Row] = &[
    ("matmul_bf16", BOTH, &[[100, 72, 200], [64, 64, 16]], matmul_bf16),
    ("matmul_fp16_relu", BOTH, &[[70, 67, 101]], matmul_fp16_relu),
    ("matmul_tf32", BOTH, &[[65, 70, 75]], matmul_tf32),
    ("matmul_int8", BOTH, &[[70, 80, 208]], matmul_int8),
    ("matmul_fp8", SM90, &[[70, 80, 208]], matmul_fp8),
    ("matmul_split_k", BOTH, &[[67, 33, 170]], matmul_split_k),
    ("matmul_grouped", BOTH, &[[0; 3]], matmul_grouped),
    ("matmul_int4", BOTH, &[[50, 80, 128]], matmul_int4),
    ("matmul_host_tma", SM90, &[[100, 72, 200]], matmul_host_tma),
    ("matmul_device_tma", SM90, &[[100, 80, 208]], matmul_device_tma),
    ("matmul_persistent", SM90, &[[150, 136, 200]], matmul_persistent),
    ("matmul_warp_specialized", SM90, &[[150, 80, 328]], matmul_warp_specialized),
    ("matmul_warp_specialized_39", SM90, &[[150, 80, 328]], matmul_warp_specialized),
    ("matmul_tf32_39", SM90, &[[65, 70, 75]], matmul_tf32),
    ("matmul_int8_39", SM90, &[[70, 80, 208]], matmul_int8),
    ("matmul_fp8_39", SM90, &[[70, 80, 208]], matmul_fp8),
    ("attention_39", SM90, &[[2, 100, 64]], attention_bf16),
    ("attention_causal_39", SM90, &[[2, 130, 64]], attention_causal),
    ("attention_d128_39", SM90, &[[1, 200, 128]], attention_bf16_128),
    ("attention", BOTH, &[[2, 100, 64]], attention_bf16),
    ("attention_causal", BOTH, &[[2, 130, 64]], attention_causal),
    ("attention_d128", SM90, &[[1, 200, 128]], attention_bf16_128),
    ("softmax", BOTH, &[[5, 781, 2]], softmax),
    ("layernorm", BOTH, &[[3, 600, 0]], layernorm),
    ("rmsnorm", BOTH, &[[3, 777, 0]], rmsnorm),
    ("cross_entropy", BOTH, &[[4, 700, 0]], cross_entropy),
    ("reduce_sum", BOTH, &[[5000, 0, 0]], reduce_sum),
    ("reduce_axes", BOTH, &[[27, 50, 0]], reduce_axes),
    ("histogram", BOTH, &[[1300, 0, 0]], histogram),
    ("cumsum", BOTH, &[[2, 401, 0]], cumsum),
    ("linear_recurrence", BOTH, &[[60, 20, 0]], linear_recurrence),
    ("sort_rows", BOTH, &[[2, 101, 0]], sort_rows),
    ("topk_rows", BOTH, &[[2, 101, 8]], topk_rows),
    ("atomics", BOTH, &[[700, 40, 0]], atomics),
    ("lock_accumulate", BOTH, &[[7, 200, 0]], lock_accumulate),
    ("lock_tutorial", &["sm_80"], &[[7, 200, 0]], lock_accumulate),
    ("transpose", BOTH, &[[100, 75, 0]], transpose),
    ("embedding", BOTH, &[[9, 300, 0]], embedding),
    ("gather_columns", BOTH, &[[16, 64, 0]], gather_columns),
    ("dropout", BOTH, &[[3000, 0, 0]], dropout),
    ("gelu_erf", BOTH, &[[1000, 0, 0]], gelu_erf),
    ("quantize_fp8", SM90, &[[3, 400, 0]], quantize_fp8),
    ("conv2d", BOTH, &[[2, 9, 40]], conv2d),
];

/// Rounding of one f32 operation, with room for tensor cores that truncate.
const STEP: f64 = 1.0 / (1 << 22) as f64;

/// `a [m, k]`, `b [k, n]`: the product, and the sum of the magnitudes, which bounds the error of any order of sums.
pub fn product(a: &[f64], b: &[f64], [m, n, k]: [usize; 3]) -> (Vec<f64>, Vec<f64>) {
    let (mut sums, mut sizes) = (vec![0.0; m * n], vec![0.0; m * n]);
    for i in 0..m {
        for x in 0..k {
            for j in 0..n {
                let term = a[i * k + x] * b[x * n + j];
                sums[i * n + j] += term;
                sizes[i * n + j] += term.abs();
            }
        }
    }
    let bound = sizes.iter().map(|size| size * (k + 8) as f64 * STEP).collect();
    (sums, bound)
}

pub fn transposed(a: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    (0..rows * cols).map(|at| a[at % rows * cols + at / rows]).collect()
}

/// The grid of one-dimensional launches.
pub fn grid(count: usize, block: usize) -> [u32; 3] {
    [count.div_ceil(block) as u32, 1, 1]
}

/// a row-major, b row-major or, with `b_columns`, column-major.
fn matmul(bench: &mut Bench, [m, n, k]: [usize; 3], ty: Ty, out: Ty, b_columns: bool, relu: bool) {
    let stored = if ty == Ty::F32 { Ty::Bf16 } else { ty };
    let (mut a, mut b) = (bench.values(stored, m * k), bench.values(stored, k * n));
    if ty == Ty::I8 {
        a.iter_mut().chain(&mut b).for_each(|v| *v -= 50.0);
    }
    let (mut want, bound) = product(&a, &b, [m, n, k]);
    if relu {
        want.iter_mut().filter(|v| **v < 0.0).for_each(|v| *v *= f64::from(0.01f32));
    }
    bench.input(ty, &a);
    bench.input(ty, &if b_columns { transposed(&b, k, n) } else { b });
    bench.output(out, want, if ty == Ty::I8 { Bound::Exact } else { Bound::Within(bound) });
    for size in [m, n, k, k, if b_columns { k } else { n }, n] {
        bench.int(size);
    }
    bench.launch.grid = [(m.div_ceil(64) * n.div_ceil(64)) as u32, 1, 1];
}

fn matmul_bf16(bench: &mut Bench, size: [usize; 3]) {
    matmul(bench, size, Ty::Bf16, Ty::Bf16, false, false);
}

fn matmul_fp16_relu(bench: &mut Bench, size: [usize; 3]) {
    matmul(bench, size, Ty::F16, Ty::F16, false, true);
}

/// Of numbers that tf32 holds.
fn matmul_tf32(bench: &mut Bench, size: [usize; 3]) {
    matmul(bench, size, Ty::F32, Ty::F32, false, false);
}

fn matmul_int8(bench: &mut Bench, size: [usize; 3]) {
    matmul(bench, size, Ty::I8, Ty::I32, true, false);
}

fn matmul_fp8(bench: &mut Bench, size: [usize; 3]) {
    matmul(bench, size, Ty::E4m3, Ty::Bf16, true, false);
}

fn matmul_split_k(bench: &mut Bench, [m, n, k]: [usize; 3]) {
    let (a, b) = (bench.values(Ty::Bf16, m * k), bench.values(Ty::Bf16, k * n));
    let (want, bound) = product(&a, &b, [m, n, k]);
    bench.input(Ty::Bf16, &a);
    bench.input(Ty::Bf16, &b);
    bench.in_out(Ty::F32, &vec![0.0; m * n], want, Bound::Within(bound));
    bench.sizes(&[m, n, k]);
    bench.launch.grid = [m.div_ceil(64) as u32, n.div_ceil(64) as u32, 3];
}

fn matmul_grouped(bench: &mut Bench, _: [usize; 3]) {
    let sizes = [[70, 65, 33], [10, 64, 40], [64, 20, 7]];
    let mut addresses = Vec::new();
    for [m, n, k] in sizes {
        let (a, b) = (bench.values(Ty::F16, m * k), bench.values(Ty::F16, k * n));
        let (want, bound) = product(&a, &b, [m, n, k]);
        let buffers = [bench.buffer(Ty::F16, &a), bench.buffer(Ty::F16, &b)];
        let c = bench.output_buffer(Ty::F16, want, Bound::Within(bound));
        addresses.extend([buffers[0], buffers[1], c].map(|id| bench.device.address(id) as f64));
    }
    bench.input(Ty::I64, &addresses);
    bench.input(Ty::I32, &sizes.as_flattened().iter().map(|size| *size as f64).collect::<Vec<_>>());
    bench.int(sizes.len());
    bench.launch.grid = [4, 1, 1];
}

fn matmul_int4(bench: &mut Bench, [m, n, k]: [usize; 3]) {
    const GROUP: usize = 64;
    let a = bench.values(Ty::F16, m * k);
    let q = bench.ints(0, 16, k * n);
    let scales = bench.values(Ty::F16, k / GROUP * n);
    let weights: Vec<f64> = (0..k * n).map(|at| (q[at] - 8.0) * scales[at / n / GROUP * n + at % n]).collect();
    let weights = Ty::F16.rounded(&weights);
    let packed: Vec<f64> = (0..k / 8 * n)
        .map(|at| (0..8).map(|bit| (q[(at / n * 8 + bit) * n + at % n] as u32) << (4 * bit)).sum::<u32>().into())
        .collect();
    let (want, bound) = product(&a, &weights, [m, n, k]);
    bench.input(Ty::F16, &a);
    bench.input(Ty::U32, &packed);
    bench.input(Ty::F16, &scales);
    bench.output(Ty::F32, want, Bound::Within(bound));
    bench.sizes(&[m, n, k]);
    bench.launch.grid = [m.div_ceil(64) as u32, n.div_ceil(64) as u32, 1];
}

/// Buffers of a, b and c, with what c must hold: b is [n, k].
fn bf16_matrices(bench: &mut Bench, [m, n, k]: [usize; 3]) -> [tilewright_emulator::BufferId; 3] {
    let (a, b) = (bench.values(Ty::Bf16, m * k), bench.values(Ty::Bf16, n * k));
    let (want, bound) = product(&a, &transposed(&b, n, k), [m, n, k]);
    let inputs = [bench.buffer(Ty::Bf16, &a), bench.buffer(Ty::Bf16, &b)];
    [inputs[0], inputs[1], bench.output_buffer(Ty::Bf16, want, Bound::Within(bound))]
}

fn host_tma(bench: &mut Bench, [m, n, k]: [usize; 3]) {
    let [a, b, c] = bf16_matrices(bench, [m, n, k]);
    bench.descriptor(0, a, TensorDType::Bf16, [m, k]);
    bench.descriptor(1, b, TensorDType::Bf16, [n, k]);
    bench.descriptor(2, c, TensorDType::Bf16, [m, n]);
    bench.sizes(&[m, n, k]);
}

fn matmul_host_tma(bench: &mut Bench, [m, n, k]: [usize; 3]) {
    host_tma(bench, [m, n, k]);
    bench.launch.grid = [m.div_ceil(64) as u32, n.div_ceil(64) as u32, 1];
}

fn matmul_persistent(bench: &mut Bench, size: [usize; 3]) {
    host_tma(bench, size);
    bench.launch.grid = [4, 1, 1];
}

fn matmul_device_tma(bench: &mut Bench, [m, n, k]: [usize; 3]) {
    for buffer in bf16_matrices(bench, [m, n, k]) {
        bench.pointer(buffer);
    }
    bench.sizes(&[m, n, k]);
    bench.launch.grid = [m.div_ceil(64) as u32, n.div_ceil(64) as u32, 1];
}

fn matmul_warp_specialized(bench: &mut Bench, [m, n, k]: [usize; 3]) {
    let [a, b, c] = bf16_matrices(bench, [m, n, k]);
    bench.descriptor(0, a, TensorDType::Bf16, [m, k]);
    bench.descriptor(1, b, TensorDType::Bf16, [n, k]);
    bench.pointer(c);
    bench.sizes(&[m, n, k]);
    bench.launch.grid = [m.div_ceil(64) as u32, n.div_ceil(64) as u32, 1];
}

fn attention(bench: &mut Bench, [heads, s, d]: [usize; 3], ty: Ty, causal: bool, block_m: usize) {
    let [q, k, v] = [(); 3].map(|()| bench.values(ty, heads * s * d));
    let scale = f64::from(1.3 / (d as f32).sqrt());
    let (mut out, mut slack, mut sums) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..heads * s {
        let (head, query) = (row / s, row % s);
        let keys = if causal { query + 1 } else { s };
        let at = |key: usize| (head * s + key) * d;
        let dot = |key: usize| (0..d).map(|x| q[row * d + x] * k[at(key) + x]).sum::<f64>() * scale;
        let scores: Vec<f64> = (0..keys).map(dot).collect();
        let weights: Vec<f64> = scores.iter().map(|score| score.exp()).collect();
        let total: f64 = weights.iter().sum();
        sums.push(total.log2());
        for x in 0..d {
            let weighted =
                |size: fn(f64) -> f64| -> f64 { (0..keys).map(|key| weights[key] * size(v[at(key) + x])).sum::<f64>() / total };
            out.push(weighted(|v| v));
            // The weights are rounded to the type of v; a score is off by what its sum of d terms is.
            let rounding = if ty == Ty::F16 { 1.0 / 2048.0 } else { 1.0 / 256.0 };
            slack.push(weighted(f64::abs) * (rounding + 4.0 * d as f64 * STEP));
        }
    }
    for values in [&q, &k, &v] {
        bench.input(ty, values);
    }
    bench.output(ty, out, Bound::Within(slack));
    let near = vec![4.0 * d as f64 * STEP; sums.len()];
    bench.output(Ty::F32, sums, Bound::Within(near));
    bench.float(scale as f32);
    bench.int(s);
    bench.launch.grid = [s.div_ceil(block_m) as u32, heads as u32, 1];
}

fn attention_bf16(bench: &mut Bench, size: [usize; 3]) {
    attention(bench, size, Ty::Bf16, false, 64);
}

fn attention_bf16_128(bench: &mut Bench, size: [usize; 3]) {
    attention(bench, size, Ty::Bf16, false, 128);
}

fn attention_causal(bench: &mut Bench, size: [usize; 3]) {
    attention(bench, size, Ty::F16, true, 64);
}

/// Relative error of sums of n terms of one sign, a few approximations of 2^-22 each.
fn sum_error(n: usize) -> f64 {
    (n as f64 + 32.0) * STEP
}

/// `step` blocks take the rows in turn.
fn softmax(bench: &mut Bench, [rows, n, step]: [usize; 3]) {
    let stride = n + 3;
    let x: Vec<f64> = bench.values(Ty::F32, rows * stride).iter().map(|v| 8.0 * v).collect();
    let mut want = Vec::new();
    for row in x.chunks(stride) {
        let total: f64 = row[..n].iter().map(|v| v.exp()).sum();
        want.extend(row[..n].iter().map(|v| v.exp() / total));
    }
    bench.output(Ty::F32, want, Bound::Relative(sum_error(n)));
    bench.input(Ty::F32, &x);
    bench.sizes(&[stride, n, rows, n]);
    bench.launch.grid = [step as u32, 1, 1];
}

fn layernorm(bench: &mut Bench, [rows, n, _]: [usize; 3]) {
    let (x, w, b) = (bench.values(Ty::F16, rows * n), bench.values(Ty::F16, n), bench.values(Ty::F16, n));
    let (mut y, mut slack, mut means, mut rstds) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in x.chunks(n) {
        let mean = row.iter().sum::<f64>() / n as f64;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
        let rstd = 1.0 / (variance + f64::from(1e-5f32)).sqrt();
        y.extend(row.iter().zip(w.iter().zip(&b)).map(|(v, (w, b))| (v - mean) * rstd * w + b));
        slack.extend(row.iter().zip(w.iter().zip(&b)).map(|(_, (w, b))| (4.0 * w.abs() + b.abs()) * sum_error(n)));
        means.push(mean);
        rstds.push(rstd);
    }
    bench.input(Ty::F16, &x);
    bench.output(Ty::F16, y, Bound::Within(slack));
    bench.input(Ty::F16, &w);
    bench.input(Ty::F16, &b);
    bench.output(Ty::F32, means, Bound::Within(vec![sum_error(n); rows]));
    bench.output(Ty::F32, rstds, Bound::Relative(sum_error(n)));
    bench.sizes(&[n, n]);
    bench.float(1e-5);
    bench.launch.grid = grid(rows, 1);
}

fn rmsnorm(bench: &mut Bench, [rows, n, _]: [usize; 3]) {
    let (x, w) = (bench.values(Ty::Bf16, rows * n), bench.values(Ty::Bf16, n));
    let mut y = Vec::new();
    for row in x.chunks(n) {
        let mean = row.iter().map(|v| v * v).sum::<f64>() / n as f64;
        y.extend(row.iter().zip(&w).map(|(v, w)| v / (mean + f64::from(1e-6f32)).sqrt() * w));
    }
    bench.input(Ty::Bf16, &x);
    bench.input(Ty::Bf16, &w);
    bench.output(Ty::Bf16, y, Bound::Relative(sum_error(n)));
    bench.int(n);
    bench.float(1e-6);
    bench.launch.grid = grid(rows, 1);
}

fn cross_entropy(bench: &mut Bench, [rows, n, _]: [usize; 3]) {
    let x: Vec<f64> = bench.values(Ty::Bf16, rows * n).iter().map(|v| 4.0 * v).collect();
    let labels: Vec<f64> = (0..rows).map(|row| if row == 1 { -100.0 } else { bench.random.int(0, n as i64) as f64 }).collect();
    let (mut loss, mut grad) = (Vec::new(), Vec::new());
    for (row, label) in x.chunks(n).zip(&labels) {
        let total: f64 = row.iter().map(|v| v.exp()).sum();
        let seen = *label >= 0.0;
        loss.push(if seen { total.ln() - row[*label as usize] } else { 0.0 });
        let one = |col: usize| if col as f64 == *label { 1.0 } else { 0.0 };
        grad.extend(row.iter().enumerate().map(|(col, v)| if seen { v.exp() / total - one(col) } else { 0.0 }));
    }
    bench.input(Ty::Bf16, &x);
    bench.input(Ty::I64, &labels);
    bench.output(Ty::F32, loss, Bound::Within(vec![16.0 * sum_error(n); rows]));
    let slack = grad.iter().map(|g: &f64| (g.abs() + STEP) * sum_error(n)).collect();
    bench.output(Ty::F32, grad, Bound::Within(slack));
    bench.int(n);
    bench.launch.grid = grid(rows, 1);
}

fn reduce_sum(bench: &mut Bench, [n, _, _]: [usize; 3]) {
    let x = bench.values(Ty::I32, n);
    bench.input(Ty::I32, &x);
    bench.in_out(Ty::I32, &[5.0], vec![5.0 + x.iter().sum::<f64>()], Bound::Exact);
    bench.int(n);
    bench.launch.grid = grid(n, 1024);
}

fn reduce_axes(bench: &mut Bench, [m, n, _]: [usize; 3]) {
    let x = bench.values(Ty::F32, m * n);
    let best = |row: &[f64]| (0..n).fold(0, |best, at| if row[at] > row[best] { at } else { best });
    let places: Vec<usize> = x.chunks(n).map(best).collect();
    let sums = (0..n).map(|col| (0..m).map(|row| x[row * n + col]).sum()).collect();
    bench.input(Ty::F32, &x);
    bench.output(Ty::F32, (0..m).map(|row| x[row * n + places[row]]).collect(), Bound::Exact);
    bench.output(Ty::I32, places.iter().map(|at| *at as f64).collect(), Bound::Exact);
    bench.output(Ty::F32, sums, Bound::Within(vec![(m * m) as f64 * STEP; n]));
    bench.sizes(&[m, n]);
}

fn histogram(bench: &mut Bench, [n, _, _]: [usize; 3]) {
    let x = bench.ints(0, 64, n);
    let mut want = vec![0.0; 64];
    x.iter().for_each(|v| want[*v as usize] += 1.0);
    bench.input(Ty::I32, &x);
    bench.in_out(Ty::I32, &[0.0; 64], want, Bound::Exact);
    bench.int(n);
    bench.launch.grid = grid(n, 512);
}

fn cumsum(bench: &mut Bench, [rows, n, _]: [usize; 3]) {
    let x = bench.values(Ty::I32, rows * n);
    let left = x.chunks(n).flat_map(|row| (0..n).map(|at| row[..=at].iter().sum())).collect();
    let right = x.chunks(n).flat_map(|row| (0..n).map(|at| row[at..].iter().sum())).collect();
    bench.input(Ty::I32, &x);
    bench.output(Ty::I32, left, Bound::Exact);
    bench.output(Ty::I32, right, Bound::Exact);
    bench.int(n);
    bench.launch.grid = grid(rows, 1);
}

fn linear_recurrence(bench: &mut Bench, [t, d, _]: [usize; 3]) {
    let (a, b) = (bench.values(Ty::F32, t * d), bench.values(Ty::F32, t * d));
    let (mut h, mut sizes) = (b.clone(), b.iter().map(|v| v.abs()).collect::<Vec<_>>());
    for at in d..t * d {
        h[at] += a[at] * h[at - d];
        sizes[at] += a[at].abs() * sizes[at - d];
    }
    bench.input(Ty::F32, &a);
    bench.input(Ty::F32, &b);
    bench.output(Ty::F32, h, Bound::Within(sizes.iter().map(|size| size * sum_error(t)).collect()));
    bench.sizes(&[t, d]);
    bench.launch.grid = grid(d, 16);
}

fn sort_rows(bench: &mut Bench, [rows, n, _]: [usize; 3]) {
    let x = bench.ints(-1000, 1000, rows * n);
    let mut want = x.clone();
    want.chunks_mut(n).for_each(|row| row.sort_by(f64::total_cmp));
    bench.input(Ty::I32, &x);
    bench.output(Ty::I32, want, Bound::Exact);
    bench.int(n);
    bench.launch.grid = grid(rows, 1);
}

fn topk_rows(bench: &mut Bench, [rows, n, k]: [usize; 3]) {
    let x = bench.values(Ty::F32, rows * n);
    let mut sorted = x.clone();
    sorted.chunks_mut(n).for_each(|row| row.sort_by(|a, b| b.total_cmp(a)));
    bench.input(Ty::F32, &x);
    bench.output(Ty::F32, sorted.chunks(n).flat_map(|row| row[..k].to_vec()).collect(), Bound::Exact);
    bench.int(n);
    bench.launch.grid = grid(rows, 1);
}

fn atomics(bench: &mut Bench, [n, slots, _]: [usize; 3]) {
    let x = bench.ints(0, 100_000, n);
    let index = bench.ints(0, slots as i64, n);
    let gather = |start: f64, step: fn(f64, f64) -> f64| {
        let mut out = vec![start; slots];
        x.iter().zip(&index).for_each(|(v, slot)| out[*slot as usize] = step(out[*slot as usize], *v));
        out
    };
    let as_int = |v: u32| f64::from(v as i32);
    let wants = [
        (Ty::F16, 0.0, gather(0.0, |sum, v| sum + v % 8.0)),
        (Ty::F32, -1.0, gather(-1.0, f64::max)),
        (Ty::I32, 2e9, gather(2e9, f64::min)),
        (Ty::I32, 0.0, gather(0.0, |or, v| f64::from((or as i32) | 1 << (v as u32 & 31)))),
        (Ty::I32, as_int(7), gather(7.0, |xor, v| f64::from(xor as i32 ^ v as i32))),
        (Ty::I64, 0.0, gather(0.0, |count, _| count + 1.0)),
    ];
    bench.input(Ty::I32, &x);
    bench.input(Ty::I32, &index);
    for (ty, start, want) in wants {
        bench.in_out(ty, &vec![start; slots], want, Bound::Exact);
    }
    bench.int(n);
    bench.launch.grid = grid(n, 256);
}

fn lock_accumulate(bench: &mut Bench, [rows, n, _]: [usize; 3]) {
    let x = bench.values(Ty::F32, rows * n);
    let want = (0..n).map(|col| (0..rows).map(|row| x[row * n + col]).sum()).collect();
    bench.input(Ty::F32, &x);
    bench.output(Ty::F32, want, Bound::Within(vec![(rows * rows) as f64 * STEP; n]));
    bench.in_out(Ty::I32, &[0.0], vec![1.0], Bound::Exact);
    bench.in_out(Ty::I32, &[0.0], vec![0.0], Bound::Exact);
    bench.int(n);
    bench.launch.grid = grid(rows, 1);
}

fn transpose(bench: &mut Bench, [m, n, _]: [usize; 3]) {
    let x = bench.values(Ty::F16, m * n);
    bench.input(Ty::F16, &x);
    bench.output(Ty::F16, transposed(&x, m, n), Bound::Exact);
    bench.sizes(&[m, n]);
    bench.launch.grid = [m.div_ceil(64) as u32, n.div_ceil(32) as u32, 1];
}

fn embedding(bench: &mut Bench, [rows, d, _]: [usize; 3]) {
    let table = bench.values(Ty::Bf16, 20 * d);
    let ids = bench.ints(0, 20, rows);
    let want = ids.iter().flat_map(|id| table[*id as usize * d..][..d].to_vec()).collect();
    bench.input(Ty::I64, &ids);
    bench.input(Ty::Bf16, &table);
    bench.output(Ty::Bf16, want, Bound::Exact);
    bench.int(d);
    bench.launch.grid = grid(rows, 1);
}

fn gather_columns(bench: &mut Bench, [m, n, _]: [usize; 3]) {
    let x = bench.values(Ty::F32, m * n);
    let index = bench.ints(0, n as i64, m * n);
    let want = (0..m * n).map(|at| x[at / n * n + index[at] as usize]).collect();
    bench.input(Ty::F32, &x);
    bench.input(Ty::I32, &index);
    bench.output(Ty::F32, want, Bound::Exact);
}

/// First word of Philox-4x32 with ten rounds.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> u32 {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xd251_1f53;
        let b = u64::from(counter[2]) * 0xcd9e_8d57;
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    counter[0]
}

fn dropout(bench: &mut Bench, [n, _, _]: [usize; 3]) {
    let x = bench.values(Ty::F32, n);
    let (p, seed) = (0.3f32, 1234);
    let keep = |at: usize| {
        let bits = philox([at as u32, 0, 0, 0], [seed as u32, 0]) as i32;
        let positive = if bits < 0 { -(bits + 1) } else { bits };
        positive as f32 * 4.656_612_6e-10 > p
    };
    let want = (0..n).map(|at| if keep(at) { x[at] / (1.0 - f64::from(p)) } else { 0.0 }).collect();
    bench.input(Ty::F32, &x);
    bench.output(Ty::F32, want, Bound::Relative(2.0 * STEP));
    bench.int(n);
    bench.float(p);
    bench.int(seed);
    bench.launch.grid = grid(n, 1024);
}

/// The error function by its series, good to 1e-12 for |x| < 4.
fn erf(x: f64) -> f64 {
    let mut term = x;
    let mut sum = x;
    for n in 1..120 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn gelu_erf(bench: &mut Bench, [n, _, _]: [usize; 3]) {
    let x: Vec<f64> = bench.values(Ty::Bf16, n).iter().map(|v| 4.0 * v).collect();
    let want = x.iter().map(|x| 0.5 * x * (1.0 + erf(x * 0.5f64.sqrt())) + x.tanh() * x.sin()).collect();
    bench.input(Ty::Bf16, &x);
    // The libraries promise 2 units in the last place of results below 4, and 1 + erf cancels.
    bench.output(Ty::F32, want, Bound::Within(vec![16.0 * STEP; n]));
    bench.int(n);
    bench.launch.grid = grid(n, 512);
}

fn quantize_fp8(bench: &mut Bench, [rows, n, _]: [usize; 3]) {
    let x = bench.values(Ty::Bf16, rows * n);
    let scales: Vec<f64> = x.chunks(n).map(|row| row.iter().fold(1e-10, |top, v| v.abs().max(top)) / 448.0).collect();
    let want = x.iter().enumerate().map(|(at, v)| v / scales[at / n]).collect();
    bench.input(Ty::Bf16, &x);
    bench.output(Ty::E4m3, want, Bound::Relative(2.0 * STEP));
    bench.output(Ty::F32, scales, Bound::Relative(2.0 * STEP));
    bench.int(n);
    bench.launch.grid = grid(rows, 1);
}

/// Images of `side` by `side + 1` pixels with 32 channels, filters of 3 by 3, stride 2, padding 1.
fn conv2d(bench: &mut Bench, [images, side, filters]: [usize; 3]) {
    const C: usize = 32;
    let (h, w) = (side, side + 1);
    let (oh, ow) = (h.div_ceil(2), w.div_ceil(2));
    let x = bench.values(Ty::F16, images * h * w * C);
    let k = bench.values(Ty::F16, 9 * C * filters);
    // Every output pixel as a row of 9 C inputs, zero outside of the image.
    let mut rows = vec![0.0; images * oh * ow * 9 * C];
    for (at, value) in rows.iter_mut().enumerate() {
        let (c, s, r) = (at % C, at / C % 3, at / (3 * C) % 3);
        let pixel = at / (9 * C);
        let (ox, oy, image) = (pixel % ow, pixel / ow % oh, pixel / (ow * oh));
        let (y, x_) = ((2 * oy + r).wrapping_sub(1), (2 * ox + s).wrapping_sub(1));
        if y < h && x_ < w {
            *value = x[((image * h + y) * w + x_) * C + c];
        }
    }
    let pixels = images * oh * ow;
    let (want, bound) = product(&rows, &k, [pixels, filters, 9 * C]);
    bench.input(Ty::F16, &x);
    bench.input(Ty::F16, &k);
    bench.output(Ty::F16, want, Bound::Within(bound));
    bench.sizes(&[images, h, w, filters, oh, ow]);
    bench.launch.grid = [pixels.div_ceil(64) as u32, filters.div_ceil(32) as u32, 1];
}
