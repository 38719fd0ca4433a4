//! The kernels of `tests/ptx/llvm`, ready to launch.

use super::numbers::{Numbers, bf16_bytes, f32_bytes, reference};
use super::spec::{Content, Element, Param, Spec, Want};
use tilewright_emulator::tensor::swizzle::Swizzle;
use tilewright_emulator::tensor::tma::{Interleave, OobFill, TensorDType};
use tilewright_emulator::{Arg, Launch, TensorMap};

pub const SM90: &str = include_str!("../ptx/llvm/gemm_sm90.ptx");
pub const SM90_CLUSTER: &str = include_str!("../ptx/llvm/gemm_sm90_cluster.ptx");
pub const SM80: &str = include_str!("../ptx/llvm/gemm_sm80.ptx");
pub const SOFTMAX: &str = include_str!("../ptx/llvm/softmax.ptx");

/// Of a matrix `[rows, k]` at `base`.
pub fn map(base: u64, rows: usize, k: usize, box_rows: u32) -> TensorMap {
    TensorMap {
        dtype: TensorDType::Bf16,
        base,
        dims: vec![k as u64, rows as u64],
        strides: vec![2 * k as u64],
        box_dims: vec![64, box_rows],
        element_strides: vec![1, 1],
        swizzle: Swizzle::B128,
        interleave: Interleave::None,
        oob_fill: OobFill::Zero,
    }
}

/// The launch of a TMA kernel that writes `rows` by `cols`.
pub fn tma_launch([rows, cols]: [usize; 2], cluster: u32, args: Vec<Arg>) -> Launch {
    Launch {
        entry: "gemm".into(),
        grid: [cols as u32 / 128, rows as u32 / 128, 1],
        block: [384, 1, 1],
        cluster: [cluster, 1, 1],
        dynamic_shared_bytes: 4 * 32_768 + 64,
        args,
    }
}

/// Rows and columns of zeros around a matrix `[m, n]`.
fn padded(values: &[f32], n: usize, rows: usize, cols: usize) -> Vec<f32> {
    let at = |row: usize, col: usize| if col < n { values.get(row * n + col).copied().unwrap_or(0.0) } else { 0.0 };
    (0..rows * cols).map(|index| at(index / cols, index % cols)).collect()
}

fn f32_want(values: Vec<f32>) -> Want {
    Want { buffer: 2, element: Element::F32, values, parts: 1, tolerance: 0.0 }
}

/// TMA, mbarriers and `wgmma`; the kernel writes whole tiles, `cluster` is 1 or 2.
pub fn sm90(text: &str, shape: [usize; 3], cluster: u32) -> Spec {
    let [m, n, k] = shape;
    let (rows, cols) = (m.next_multiple_of(128), n.next_multiple_of(128 * cluster as usize));
    let mut numbers = Numbers(7);
    let (a, b) = (numbers.take(m * k), numbers.take(n * k));
    Spec {
        name: if cluster == 1 { "gemm_sm90".into() } else { "gemm_sm90_cluster".into() },
        text: text.into(),
        launch: tma_launch([rows, cols], cluster, Vec::new()),
        params: vec![
            Param::Map(0, map(0, m, k, if cluster == 1 { 128 } else { 64 })),
            Param::Map(1, map(0, n, k, 128)),
            Param::Buffer(2),
            Param::U32(cols as u32),
            Param::U32(k.div_ceil(64) as u32),
        ],
        want: f32_want(padded(&reference(&a, &b, shape), n, rows, cols)),
        buffers: vec![
            Content::Bytes(bf16_bytes(&a)),
            Content::Bytes(bf16_bytes(&b)),
            Content::Undefined(4 * (rows * cols) as u64),
        ],
    }
}

/// `cp.async` and `mma`.
pub fn sm80(text: &str, shape: [usize; 3]) -> Spec {
    let [m, n, k] = shape;
    let mut numbers = Numbers(7);
    let (a, b) = (numbers.take(m * k), numbers.take(n * k));
    Spec {
        name: "gemm_sm80".into(),
        text: text.into(),
        launch: Launch {
            entry: "gemm".into(),
            grid: [n.div_ceil(64) as u32, m.div_ceil(64) as u32, 1],
            block: [128, 1, 1],
            dynamic_shared_bytes: 3 * 8192,
            ..Launch::default()
        },
        params: vec![
            Param::Buffer(0),
            Param::Buffer(1),
            Param::Buffer(2),
            Param::U32(m as u32),
            Param::U32(n as u32),
            Param::U32(k as u32),
        ],
        want: f32_want(reference(&a, &b, shape)),
        buffers: vec![Content::Bytes(bf16_bytes(&a)), Content::Bytes(bf16_bytes(&b)), Content::Undefined(4 * (m * n) as u64)],
    }
}

/// Softmax of rows, in powers of two. The kernel's second output is not looked at.
pub fn softmax(text: &str, rows: usize, n: usize) -> Spec {
    let scale = 0.7f32;
    let x = Numbers(3).take(rows * n);
    let mut values = Vec::new();
    for row in x.chunks(n) {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f64> = row.iter().map(|v| f64::from((v - max) * scale).exp2()).collect();
        let sum: f64 = powers.iter().sum();
        values.extend(powers.iter().map(|power| (power / sum) as f32));
    }
    Spec {
        name: "softmax".into(),
        text: text.into(),
        launch: Launch { entry: "softmax".into(), grid: [rows as u32, 1, 1], block: [128, 1, 1], ..Launch::default() },
        params: vec![Param::Buffer(0), Param::Buffer(1), Param::Buffer(2), Param::U32(n as u32), Param::F32(scale)],
        want: Want { buffer: 1, element: Element::Bf16, values, parts: 1, tolerance: 1.0 / 200.0 },
        buffers: vec![
            Content::Bytes(f32_bytes(&x)),
            Content::Undefined(2 * x.len() as u64),
            Content::Undefined(4 * x.len() as u64),
        ],
    }
}
