//! The merge of partial attentions against f64.

use tilewright_ir::tile::KernelBuilder;
use tilewright_ir::{Arch, DType};
use tilewright_templates::attention::{MergeProblem, merge};
use tilewright_tests::Runner;
use tilewright_tests::numbers::{Random, decode, encode};

struct Size {
    parts: usize,
    batch: usize,
    sq: usize,
    hq: usize,
    dv: usize,
}

fn rounded(d: DType, x: f64) -> f64 {
    decode(d, &encode(d, &[x]))[0]
}

/// LSEs of a row: close to each other, far apart, some or all of them -inf.
fn lse_of(row: usize, random: &mut Random) -> f64 {
    let x = random.unit();
    let x = match row % 5 {
        0 | 1 => 3.0 * x,
        2 => 300.0 * x,
        3 if x < 0.0 => f64::NEG_INFINITY,
        3 => 40.0 * x,
        _ => f64::NEG_INFINITY,
    };
    f64::from(x as f32)
}

fn check(p: &MergeProblem, arch: Arch, sizes: &[Size]) {
    p.check().unwrap();
    let mut k = KernelBuilder::new(&format!("merge_{}", p.slug()), arch);
    merge(&mut k, p).unwrap();
    let built = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker")).build(&k.finish()).unwrap();
    for (z, seed) in sizes.iter().zip(0..) {
        let mut random = Random::new(77 + seed);
        let rows = z.batch * z.sq * z.hq;
        let lse: Vec<f64> = (0..z.parts * rows).map(|at| lse_of(at % rows, &mut random)).collect();
        // What weighs nothing may be anything.
        let o: Vec<f64> = (0..z.parts * rows * z.dv)
            .map(|at| if lse[at / z.dv] == f64::NEG_INFINITY { f64::NAN } else { rounded(p.input, 4.0 * random.unit()) })
            .collect();
        let sink: Vec<f64> =
            (0..z.hq).map(|h| if h == 1 { f64::NEG_INFINITY } else { rounded(DType::F32, 5.0 * random.unit()) }).collect();
        let head_major = |row: usize| {
            let (b, i, h) = (row / z.hq / z.sq, row / z.hq % z.sq, row % z.hq);
            (b * z.hq + h) * z.sq + i
        };
        let mut given = vec![0.0; lse.len()];
        for (at, v) in lse.iter().enumerate() {
            let (s, row) = (at / rows, at % rows);
            given[s * rows + if p.token_major { row } else { head_major(row) }] = *v;
        }
        let ints = [("parts", z.parts), ("batch", z.batch), ("sq", z.sq), ("hq", z.hq), ("dv", z.dv)].map(|(n, v)| (n, v as i64));
        let (o_bytes, lse_bytes, sink_bytes) = (encode(p.input, &o), encode(DType::F32, &given), encode(DType::F32, &sink));
        let outputs = [("o", rows * z.dv * p.output.bytes() as usize), ("lse", 4 * rows)];
        for seed in 0..3 {
            let inputs = [("partial_o", o_bytes.as_slice()), ("partial_lse", &lse_bytes), ("sink", &sink_bytes)];
            let ran = built.run(&ints, &[], &inputs, &outputs, seed).unwrap();
            assert!(ran.errors.is_empty() && ran.lints.is_empty(), "{}: {:?} {:?}", p.slug(), ran.errors, ran.lints);
            assert_eq!(ran.unwritten, [0, 0]);
            let (found, found_lse) = (decode(p.output, &ran.outputs[0]), decode(DType::F32, &ran.outputs[1]));
            for row in 0..rows {
                let parts = (0..z.parts).map(|s| s * rows + row);
                let most = parts.clone().map(|at| lse[at]).fold(f64::NEG_INFINITY, f64::max);
                let visible: Vec<usize> = parts.filter(|at| lse[*at] > f64::NEG_INFINITY).collect();
                let sum: f64 = visible.iter().map(|at| (lse[*at] - most).exp()).sum();
                let what = format!("{} row {row} of {rows}, {} parts", p.slug(), z.parts);
                let got = found_lse[head_major(row)];
                let values = &found[row * z.dv..][..z.dv];
                if visible.is_empty() {
                    assert_eq!(got, f64::NEG_INFINITY, "{what}");
                    assert!(values.iter().all(|v| *v == 0.0), "{what}: {values:?}");
                    continue;
                }
                assert!((got - most - sum.ln()).abs() <= 1e-6 * (1.0 + most.abs()), "{what}: lse {got}, not {}", most + sum.ln());
                let more = if p.sink { (sink[row % z.hq] - most).exp() } else { 0.0 };
                for (c, got) in values.iter().enumerate() {
                    let want: f64 =
                        visible.iter().map(|at| (lse[*at] - most).exp() * o[at * z.dv + c]).sum::<f64>() / (sum + more);
                    // exp2 of a difference up to 600 in f32, and the rounding of the output.
                    let unit = match p.output {
                        DType::BF16 => 1.0 / 256.0,
                        DType::F16 => 1.0 / 2048.0,
                        _ => 0.0,
                    };
                    let bound = 1e-5 * 4.0 + unit * want.abs();
                    assert!((got - want).abs() <= bound, "{what} column {c}: {got}, not {want}");
                }
            }
        }
    }
}

fn sizes() -> Vec<Size> {
    vec![
        Size { parts: 1, batch: 1, sq: 1, hq: 1, dv: 64 },
        Size { parts: 2, batch: 2, sq: 3, hq: 5, dv: 128 },
        Size { parts: 5, batch: 3, sq: 1, hq: 6, dv: 96 },
        Size { parts: 17, batch: 1, sq: 4, hq: 3, dv: 192 },
        Size { parts: 4, batch: 2, sq: 8, hq: 2, dv: 68 },
    ]
}

#[test]
fn f32_parts_of_kernels() {
    for output in [DType::BF16, DType::F16, DType::F32] {
        check(&MergeProblem::of_partials(output, 128, false), Arch::Sm80, &sizes());
    }
    check(&MergeProblem::of_partials(DType::BF16, 128, true), Arch::Sm90a, &sizes());
}

#[test]
fn parts_given_head_major() {
    for d in [DType::F32, DType::BF16, DType::F16] {
        let p = MergeProblem { input: d, output: d, token_major: false, sink: false, align: 4 };
        check(&p, Arch::Sm90a, &sizes());
    }
    let any = MergeProblem { input: DType::BF16, output: DType::BF16, token_major: false, sink: false, align: 1 };
    let odd = [Size { parts: 3, batch: 1, sq: 5, hq: 4, dv: 77 }, Size { parts: 2, batch: 2, sq: 2, hq: 1, dv: 1 }];
    check(&any, Arch::Sm80, &odd);
}

/// One part is the result, bit for bit.
#[test]
fn one_part_stays_as_it_is() {
    let p = MergeProblem { input: DType::F32, output: DType::F32, token_major: true, sink: false, align: 4 };
    let mut k = KernelBuilder::new("merge", Arch::Sm80);
    merge(&mut k, &p).unwrap();
    let built = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker")).build(&k.finish()).unwrap();
    let mut random = Random::new(5);
    let o = encode(DType::F32, &(0..7 * 64).map(|_| random.unit()).collect::<Vec<_>>());
    let lse = encode(DType::F32, &(0..7).map(|_| 9.0 * random.unit()).collect::<Vec<_>>());
    let ints = [("parts", 1), ("batch", 7), ("sq", 1), ("hq", 1), ("dv", 64)];
    let ran =
        built.run(&ints, &[], &[("partial_o", &o), ("partial_lse", &lse)], &[("o", o.len()), ("lse", lse.len())], 1).unwrap();
    assert!(ran.errors.is_empty(), "{:?}", ran.errors);
    assert_eq!(ran.outputs, [o, lse]);
}
