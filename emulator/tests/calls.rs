//! Device functions as clang prints them, with and without optimisation, against the same functions in Rust.

use tilewright_emulator::{Arg, Device, DeviceConfig, Fill, FindingKind, Launch, Module, Report};

const TEXTS: [(&str, &str); 2] = [("-O0", include_str!("ptx/llvm/calls_o0.ptx")), ("-O2", include_str!("ptx/llvm/calls_o2.ptx"))];

fn fib(n: i32) -> i32 {
    if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
}

fn square(x: i32) -> i32 {
    match x {
        21.. => -1,
        1 => 7,
        _ => x * x,
    }
}

fn launch(text: &str, entry: &str, seed: u64, args: &[Arg], out: Option<u64>) -> (Vec<u8>, Report) {
    let module = Module::parse(text).expect("known PTX");
    let mut device = Device::new(DeviceConfig { seed, ..DeviceConfig::default() });
    let mut all = Vec::new();
    let id = out.map(|bytes| device.alloc(bytes, Fill::Undefined).expect("memory"));
    all.extend(id.map(|id| Arg::U64(device.address(id))));
    all.extend_from_slice(args);
    let launch = Launch { entry: entry.into(), block: [48, 1, 1], grid: [2, 1, 1], args: all, ..Launch::default() };
    let report = device.launch(&module, &launch).expect("a launch");
    (id.map_or_else(Vec::new, |id| device.read(id).to_vec()), report)
}

#[test]
fn functions_compute_what_they_do_in_rust() {
    for (level, text) in TEXTS {
        for seed in [0, 1, 2] {
            let (bytes, report) = launch(text, "k", seed, &[Arg::U32(1)], Some(4 * 8 * 48));
            // Both blocks write the same.
            let errors: Vec<_> = report.findings.iter().filter(|finding| finding.kind != FindingKind::RaceEqual).collect();
            assert!(errors.is_empty(), "{level}, seed {seed}: {errors:?}");
            let words: Vec<i32> = bytes.chunks_exact(4).map(|c| i32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
            for (t, got) in words.chunks(8).enumerate() {
                let i = t as i32;
                let want = [
                    // The recursion keeps a value in an array of its own frame.
                    fib(i % 12),
                    i + (i + 1) + i / 2,
                    10 * (i % 3 + 1) + i,
                    if (i ^ 1) & 1 == 0 { 2 * i } else { square(i) },
                    5 * i + 10,
                    if i & 1 == 1 { square(i) } else { 0 },
                    i32::from(i % 2 == 0),
                    // The first lane of the warp.
                    2 * (i / 32 * 32),
                ];
                assert_eq!(got, want, "{level}, seed {seed}, thread {t}");
            }
        }
    }
}

#[test]
fn printf_prints_by_block_and_lane() {
    for (level, text) in TEXTS {
        let (_, report) = launch(text, "p", 0, &[Arg::U32(3)], None);
        assert!(report.findings.is_empty(), "{level}: {:?}", report.findings);
        let line = |t: i32| format!("t={t} x={:5.2} s=str l={} %\n", f64::from(t) * 1.5, -t);
        assert_eq!(report.printed, [0, 1, 2, 0, 1, 2].map(line), "{level}");
        assert_eq!(report.printed_left_out, 0);
    }
}
