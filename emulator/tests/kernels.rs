//! Whole kernels, as LLVM prints them, against plain Rust, under several schedules.

mod common;

use common::gemm::{self, SM80, SM90, SM90_CLUSTER, SOFTMAX};
use common::numbers::{Numbers, bf16_bytes, f32_bytes, floats, reference};
use tilewright_emulator::{Arg, BufferId, Device, DeviceConfig, Fill, FindingKind, Launch, Module, Report};

struct Gemm {
    device: Device,
    a: Vec<f32>,
    b: Vec<f32>,
    buffers: [BufferId; 2],
    out: BufferId,
    out_cols: usize,
}

impl Gemm {
    fn new(seed: u64, [m, n, k]: [usize; 3], out_rows: usize, out_cols: usize) -> Gemm {
        let mut numbers = Numbers(seed as u32 + 7);
        let (a, b) = (numbers.take(m * k), numbers.take(n * k));
        let mut device = Device::new(DeviceConfig { seed, max_steps: 300_000, ..DeviceConfig::default() });
        let mut load = |data: &[f32]| device.alloc(2 * data.len() as u64, Fill::Bytes(&bf16_bytes(data))).expect("memory");
        let buffers = [load(&a), load(&b)];
        let out = device.alloc((4 * out_rows * out_cols) as u64, Fill::Undefined).expect("memory");
        Gemm { device, a, b, buffers, out, out_cols }
    }

    fn map(&self, which: usize, rows: usize, k: usize, box_rows: u32) -> Arg {
        let map = gemm::map(self.device.address(self.buffers[which]), rows, k, box_rows);
        Arg::Bytes(self.device.encode_tensor_map(&map).expect("a map").to_vec())
    }

    fn check(&self, [m, n, k]: [usize; 3]) {
        let out = floats(self.device.read(self.out));
        let want = reference(&self.a, &self.b, [m, n, k]);
        for row in 0..m {
            for col in 0..n {
                assert_eq!(out[row * self.out_cols + col], want[row * n + col], "element {row}, {col}");
            }
        }
    }
}

/// The TMA kernels write whole tiles.
fn run_sm90(text: &str, seed: u64, shape: [usize; 3], cluster: u32) -> (Gemm, Report) {
    let [m, n, k] = shape;
    let (rows, cols) = (m.next_multiple_of(128), n.next_multiple_of(128 * cluster as usize));
    let mut gemm = Gemm::new(seed, shape, rows, cols);
    let module = Module::parse(text).expect("PTX");
    let args = vec![
        gemm.map(0, m, k, if cluster == 1 { 128 } else { 64 }),
        gemm.map(1, n, k, 128),
        Arg::U64(gemm.device.address(gemm.out)),
        Arg::U32(cols as u32),
        Arg::U32(k.div_ceil(64) as u32),
    ];
    let launch = gemm::tma_launch([rows, cols], cluster, args);
    let report = gemm.device.launch(&module, &launch).expect("a launch");
    (gemm, report)
}

fn clean(report: &Report) {
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
}

#[test]
fn warp_specialised_wgmma_gemm() {
    for seed in 0..6 {
        for shape in [[128, 128, 64], [130, 200, 328], [64, 8, 8]] {
            let (gemm, report) = run_sm90(SM90, seed, shape, 1);
            clean(&report);
            gemm.check(shape);
            assert_eq!(gemm.device.unwritten(gemm.out), 0);
        }
    }
}

#[test]
fn multicast_across_a_cluster() {
    for seed in 0..6 {
        for shape in [[128, 256, 64], [250, 500, 456]] {
            let (gemm, report) = run_sm90(SM90_CLUSTER, seed, shape, 2);
            clean(&report);
            gemm.check(shape);
        }
    }
}

#[test]
fn wgmma_counts_its_work() {
    let (_, report) = run_sm90(SM90, 0, [256, 128, 256], 1);
    assert_eq!(report.counters.tensor_flops, 2 * 256 * 128 * 256);
    assert_eq!(report.counters.tma_bytes_read, 2 * (256 * 256 + 2 * 128 * 256));
}

/// Without the wait the epilogue reads accumulators that late delivery has not written yet.
#[test]
fn a_missing_wgmma_wait_changes_values_when_delivery_is_late() {
    let text = SM90.replace("wgmma.wait_group.sync.aligned 0;", "");
    let (gemm, _) = run_sm90(&text, 1, [128, 128, 64], 1);
    let out = floats(gemm.device.read(gemm.out));
    assert_ne!(out[0], reference(&gemm.a, &gemm.b, [128, 128, 64])[0]);
}

#[test]
fn expecting_too_many_bytes_is_a_deadlock_that_says_so() {
    let text = SM90.replace("mov.b32 \t%r50, 32768;", "mov.b32 \t%r50, 32784;");
    assert_ne!(text, SM90);
    let (_, report) = run_sm90(&text, 0, [128, 128, 64], 1);
    let deadlock = report.findings.iter().find(|f| f.kind == FindingKind::Deadlock).expect("a deadlock");
    assert!(deadlock.message.contains("0 of 1 arrivals and 16 bytes missing"), "{}", deadlock.message);
}

#[test]
fn cp_async_mma_gemm() {
    for seed in 0..6 {
        for shape in [[64, 64, 32], [100, 70, 104], [17, 33, 8], [64, 64, 256]] {
            let [m, n, k] = shape;
            let mut gemm = Gemm::new(seed, shape, m, n);
            let module = Module::parse(SM80).expect("PTX");
            let [a, b] = gemm.buffers.map(|id| Arg::U64(gemm.device.address(id)));
            let launch = Launch {
                entry: "gemm".into(),
                grid: [n.div_ceil(64) as u32, m.div_ceil(64) as u32, 1],
                block: [128, 1, 1],
                dynamic_shared_bytes: 3 * 8192,
                args: vec![
                    a,
                    b,
                    Arg::U64(gemm.device.address(gemm.out)),
                    Arg::U32(m as u32),
                    Arg::U32(n as u32),
                    Arg::U32(k as u32),
                ],
                ..Launch::default()
            };
            let report = gemm.device.launch(&module, &launch).expect("a launch");
            clean(&report);
            gemm.check(shape);
            assert_eq!(gemm.device.unwritten(gemm.out), 0);
            assert_eq!(
                report.counters.shared_wavefronts, report.counters.shared_wavefronts_ideal,
                "the swizzle is conflict-free"
            );
        }
    }
}

#[test]
fn elementwise_and_reductions() {
    let module = Module::parse(SOFTMAX).expect("PTX");
    let (rows, n, scale) = (3usize, 516usize, 0.7f32);
    let x = Numbers(3).take(rows * n);
    for seed in 0..4 {
        let mut device = Device::new(DeviceConfig { seed, max_steps: 300_000, ..DeviceConfig::default() });
        let input = device.alloc(4 * x.len() as u64, Fill::Bytes(&f32_bytes(&x))).expect("memory");
        let y = device.alloc(2 * x.len() as u64, Fill::Undefined).expect("memory");
        let g = device.alloc(4 * x.len() as u64, Fill::Undefined).expect("memory");
        let launch = Launch {
            entry: "softmax".into(),
            grid: [rows as u32, 1, 1],
            block: [128, 1, 1],
            args: vec![
                Arg::U64(device.address(input)),
                Arg::U64(device.address(y)),
                Arg::U64(device.address(g)),
                Arg::U32(n as u32),
                Arg::F32(scale),
            ],
            ..Launch::default()
        };
        let report = device.launch(&module, &launch).expect("a launch");
        clean(&report);
        let gelu = floats(device.read(g));
        for row in 0..rows {
            let line = &x[row * n..(row + 1) * n];
            let max = line.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = line.iter().map(|v| (f64::from((v - max) * scale)).exp2()).sum();
            for (col, &value) in line.iter().enumerate() {
                let at = row * n + col;
                let want = (f64::from((value - max) * scale)).exp2() / sum;
                let bits = &device.read(y)[2 * at..2 * at + 2];
                let got = half::bf16::from_bits(u16::from_le_bytes([bits[0], bits[1]])).to_f64();
                assert!((got - want).abs() <= want / 200.0, "{got} for {want}");
                let v = f64::from(value);
                let inner = 0.7978845608 * (v + 0.044715 * v * v * v);
                let want = 0.5 * v * (1.0 + inner.tanh()) / (1.0 + (col % 7) as f64);
                assert!((f64::from(gelu[at]) - want).abs() < 1e-6, "{} for {want}", gelu[at]);
            }
        }
    }
}

/// Each instruction left out in turn: the run may fail in any way but a panic or a hang, and must say so if the result
/// is wrong.
fn without_each_line(text: &str, mut run: impl FnMut(&str) -> (bool, Report)) -> (usize, usize) {
    let lines: Vec<&str> = text.lines().collect();
    let (mut mutants, mut silent) = (0, 0);
    for (index, line) in lines.iter().enumerate() {
        let code = line.trim();
        if !code.ends_with(';') || code.starts_with('.') || code.starts_with("//") {
            continue;
        }
        let mutant: Vec<&str> = lines.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, line)| *line).collect();
        let mutant = mutant.join("\n");
        if Module::parse(&mutant).is_err() {
            continue;
        }
        mutants += 1;
        let (right, report) = run(&mutant);
        if !right && report.findings.is_empty() {
            silent += 1;
        }
    }
    (mutants, silent)
}

#[test]
fn mutants_of_the_wgmma_gemm_neither_panic_nor_hang() {
    let shape = [128, 128, 320];
    let (mutants, silent) = without_each_line(SM90, |text| {
        let (gemm, report) = run_sm90(text, 0, shape, 1);
        let out = floats(gemm.device.read(gemm.out));
        (out == reference(&gemm.a, &gemm.b, shape), report)
    });
    assert!(mutants > 200);
    // Wrong values alone are for the comparison with the reference to find.
    assert!(silent * 2 < mutants, "{silent} of {mutants} mutants are wrong without a finding");
}

#[test]
fn mutants_of_the_cluster_gemm_neither_panic_nor_hang() {
    let shape = [128, 256, 320];
    let (mutants, _) = without_each_line(SM90_CLUSTER, |text| {
        let (gemm, report) = run_sm90(text, 3, shape, 2);
        (gemm.device.unwritten(gemm.out) == 0, report)
    });
    assert!(mutants > 200);
}
