//! Whole kernels in the ring, where a naive loop must give their very bits whatever they tile, split or reorder.

mod common;

use common::gemm::{self, SM80, SM90, SM90_CLUSTER, SOFTMAX};
use tilewright_emulator::{Arg, BufferId, Device, DeviceConfig, Fill, Launch, Module, Numerics, ring};

struct Bits(u64);

impl Bits {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32 ^ (self.0 >> 50) as u32
    }

    fn halves(&mut self, count: usize) -> Vec<u16> {
        (0..count).map(|_| self.next() as u16).collect()
    }
}

fn device(seed: u64) -> Device {
    Device::new(DeviceConfig { seed, numerics: Numerics::Ring, max_steps: 1_000_000, ..DeviceConfig::default() })
}

fn load(device: &mut Device, data: &[u16]) -> BufferId {
    let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    device.alloc(bytes.len() as u64, Fill::Bytes(&bytes)).expect("memory")
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}

/// `a [m, k]`, `b [n, k]`
fn reference(a: &[u16], b: &[u16], [m, n, k]: [usize; 3]) -> Vec<u32> {
    let pairs = |i: usize, j: usize| (0..k).map(move |x| (a[i * k + x], b[j * k + x]));
    (0..m * n).map(|at| ring::dot(0, pairs(at / n, at % n))).collect()
}

fn check(device: &Device, out: BufferId, cols: usize, want: &[u32], [m, n, _]: [usize; 3]) {
    let got = words(device.read(out));
    for row in 0..m {
        assert_eq!(got[row * cols..row * cols + n], want[row * n..(row + 1) * n], "row {row}");
    }
}

fn run_tma(text: &str, seed: u64, shape: [usize; 3], cluster: u32) {
    let [m, n, k] = shape;
    let (rows, cols) = (m.next_multiple_of(128), n.next_multiple_of(128 * cluster as usize));
    let mut bits = Bits(seed + 1);
    let (a, b) = (bits.halves(m * k), bits.halves(n * k));
    let mut device = device(seed);
    let buffers = [load(&mut device, &a), load(&mut device, &b)];
    let out = device.alloc((4 * rows * cols) as u64, Fill::Undefined).expect("memory");
    let map = |which: usize, rows: usize, box_rows: u32| {
        let map = gemm::map(device.address(buffers[which]), rows, k, box_rows);
        Arg::Bytes(device.encode_tensor_map(&map).expect("a map").to_vec())
    };
    let args = vec![
        map(0, m, if cluster == 1 { 128 } else { 64 }),
        map(1, n, 128),
        Arg::U64(device.address(out)),
        Arg::U32(cols as u32),
        Arg::U32(k.div_ceil(64) as u32),
    ];
    let launch = gemm::tma_launch([rows, cols], cluster, args);
    let report = device.launch(&Module::parse(text).expect("PTX"), &launch).expect("a launch");
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    check(&device, out, cols, &reference(&a, &b, shape), shape);
}

#[test]
fn wgmma_gemm_equals_the_naive_loop() {
    for seed in 0..3 {
        run_tma(SM90, seed, [130, 200, 328], 1);
        run_tma(SM90_CLUSTER, seed, [250, 500, 456], 2);
    }
}

#[test]
fn mma_gemm_equals_the_naive_loop() {
    for (seed, shape) in [[64, 64, 256], [100, 70, 104], [17, 33, 8]].into_iter().enumerate() {
        let [m, n, k] = shape;
        let mut bits = Bits(seed as u64 + 99);
        let (a, b) = (bits.halves(m * k), bits.halves(n * k));
        let mut device = device(seed as u64);
        let buffers = [load(&mut device, &a), load(&mut device, &b)];
        let out = device.alloc((4 * m * n) as u64, Fill::Undefined).expect("memory");
        let [pa, pb, pd] = [buffers[0], buffers[1], out].map(|id| Arg::U64(device.address(id)));
        let launch = Launch {
            entry: "gemm".into(),
            grid: [n.div_ceil(64) as u32, m.div_ceil(64) as u32, 1],
            block: [128, 1, 1],
            dynamic_shared_bytes: 3 * 8192,
            args: vec![pa, pb, pd, Arg::U32(m as u32), Arg::U32(n as u32), Arg::U32(k as u32)],
            ..Launch::default()
        };
        let report = device.launch(&Module::parse(SM80).expect("PTX"), &launch).expect("a launch");
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
        check(&device, out, n, &reference(&a, &b, shape), shape);
    }
}

#[test]
fn softmax_and_gelu_equal_their_formulas() {
    use ring::{add, div, ex2, max, mul, of_f32, sub, tanh};
    let (rows, n, scale) = (3usize, 516usize, 0.7f32);
    let mut bits = Bits(8);
    let x: Vec<u32> = (0..rows * n).map(|_| bits.next()).collect();
    let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
    for seed in 0..3 {
        let mut device = device(seed);
        let input = device.alloc(bytes.len() as u64, Fill::Bytes(&bytes)).expect("memory");
        let y = device.alloc(2 * x.len() as u64, Fill::Undefined).expect("memory");
        let g = device.alloc(4 * x.len() as u64, Fill::Undefined).expect("memory");
        let pointers = [input, y, g].map(|id| Arg::U64(device.address(id)));
        let launch = Launch {
            entry: "softmax".into(),
            grid: [rows as u32, 1, 1],
            block: [128, 1, 1],
            args: pointers.into_iter().chain([Arg::U32(n as u32), Arg::F32(scale)]).collect(),
            ..Launch::default()
        };
        let report = device.launch(&Module::parse(SOFTMAX).expect("PTX"), &launch).expect("a launch");
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
        let gelu = words(device.read(g));
        for row in 0..rows {
            let line = &x[row * n..(row + 1) * n];
            let top = line.iter().copied().reduce(max).expect("a row");
            let power = |v: u32| ex2(mul(sub(v, top), of_f32(scale)));
            let sum = line.iter().map(|v| power(*v)).reduce(add).expect("a row");
            for (col, &v) in line.iter().enumerate() {
                let at = row * n + col;
                let want = ring::convert::<u32, u16>(div(power(v), sum));
                let got = &device.read(y)[2 * at..2 * at + 2];
                assert_eq!(u16::from_le_bytes([got[0], got[1]]), want, "softmax of {row}, {col}");
                let cube = mul(mul(mul(of_f32(0.044715), v), v), v);
                let inner = mul(of_f32(0.797_884_6), add(v, cube));
                let numerator = mul(mul(of_f32(0.5), v), add(1, tanh(inner)));
                assert_eq!(gelu[at], div(numerator, of_f32(1.0 + (col % 7) as f32)), "gelu of {row}, {col}");
            }
        }
    }
}
