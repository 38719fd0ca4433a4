//! One product in the ring, cut up in every way that the tensor instructions know.

use super::exact::load_panel;
use crate::ring::{self, Payload};
use crate::tensor::Arithmetic;
use crate::tensor::element::{ElementType, Reading};
use crate::tensor::fragment::*;
use crate::tensor::mma::{MmaKind, mma};
use crate::tensor::panel::Panel;
use crate::tensor::wgmma::{Accumulators, Scale, WgmmaKind, wgmma};
use proptest::prelude::*;

const M: usize = 64;
const N: usize = 8;
const K: usize = 64;

/// Codes of `a [M, K]`, `b [N, K]` and payloads of `c [M, N]`.
#[derive(Clone, Debug)]
struct Product {
    a: Vec<u32>,
    b: Vec<u32>,
    c: Vec<u32>,
}

fn product(bits: u32) -> impl Strategy<Value = Product> {
    let codes = |count| prop::collection::vec(any::<u32>().prop_map(move |x| x >> (32 - bits)), count);
    (codes(M * K), codes(N * K), prop::collection::vec(any::<u32>(), M * N)).prop_map(|(a, b, c)| Product { a, b, c })
}

impl Product {
    fn naive<P: Payload>(&self, code: fn(u32) -> P) -> Vec<u32> {
        let pairs = |row: usize, column: usize| (0..K).map(move |k| (code(self.a[row * K + k]), code(self.b[column * K + k])));
        (0..M * N).map(|at| ring::dot(self.c[at], pairs(at / N, at % N))).collect()
    }

    fn slice(codes: &[u32], rows: usize, from: usize, k: usize) -> Vec<u32> {
        (0..rows * k).map(|at| codes[at / k * K + from + at % k]).collect()
    }

    /// Steps of k at these places, one `wgmma` each; with `negated`, as the negative of a negated accumulator.
    fn by_wgmma(&self, types: &str, starts: &[usize], negated: bool) -> Vec<u32> {
        let k = K / starts.len();
        let text = format!("mma_async.sync.aligned.m64n8k{k}.f32.{types}");
        let kind = WgmmaKind::parse(&text.split('.').collect::<Vec<_>>()).unwrap();
        let mut files: [Vec<[u32; 32]>; 4] = std::array::from_fn(|_| vec![[0; 32]; 4]);
        let at = |warp: usize, lane: usize, reg: usize| {
            let [row, column] = wgmma_d_element(warp as u32, lane as u32, reg as u32);
            row as usize * N + column as usize
        };
        let sign = |x: u32| if negated { ring::neg(x) } else { x };
        for (warp, file) in files.iter_mut().enumerate() {
            for (reg, word) in file.iter_mut().enumerate() {
                *word = std::array::from_fn(|lane| sign(self.c[at(warp, lane, reg)]));
            }
        }
        for start in starts {
            let load = |codes: &[u32], rows, ty| {
                load_panel(Panel::reading_as(Reading::Payloads), &Self::slice(codes, rows, *start, k), rows, k, ty)
            };
            let (a, b) = (load(&self.a, M, kind.a), load(&self.b, N, kind.b));
            let [w0, w1, w2, w3] = &mut files;
            let d = Accumulators { files: [w0, w1, w2, w3], slots: &[0, 1, 2, 3] };
            let scale = Scale { d: true, negate_a: negated, negate_b: false };
            wgmma(&kind, Arithmetic::Ring, &a, &b, scale, d).unwrap();
        }
        let mut out = vec![0; M * N];
        for (warp, file) in files.iter().enumerate() {
            for (reg, word) in file.iter().enumerate() {
                for (lane, x) in word.iter().enumerate() {
                    out[at(warp, lane, reg)] = sign(*x);
                }
            }
        }
        out
    }

    /// Four slabs of 16 rows, k in steps of the shape from the last to the first, and split: odd steps are summed apart
    /// and added at the end.
    fn by_split_mma(&self, shape: &str, types: &str, k: usize) -> Vec<u32> {
        let text = format!("sync.aligned.{shape}.row.col.f32.{types}.f32");
        let kind = MmaKind::parse(&text.split('.').collect::<Vec<_>>()).unwrap();
        let bits = kind.a.bits();
        let e = elements_per_register(bits);
        let mut out = vec![0; M * N];
        for slab in 0..M / 16 {
            let place = |lane: usize, reg: usize| {
                let [row, column] = c_element(lane as u32, reg as u32);
                (16 * slab + row as usize) * N + column as usize
            };
            let first: Vec<[u32; 32]> = (0..4).map(|reg| std::array::from_fn(|lane| self.c[place(lane, reg)])).collect();
            let mut parts = [first, vec![[0; 32]; 4]];
            for step in (0..K / k).rev() {
                let code = |codes: &[u32], row: usize, at: u32| codes[row * K + step * k + at as usize];
                let pack = |held: &dyn Fn(u32, u32) -> u32| {
                    std::array::from_fn(|lane| (0..e).fold(0, |word, j| word | held(lane as u32, j) << (bits % 32 * j)))
                };
                let a: Vec<[u32; 32]> = (0..kind.a_regs() as u32)
                    .map(|reg| {
                        pack(&|lane, j| {
                            let [row, at] = a_element(bits, lane, reg, j);
                            code(&self.a, 16 * slab + row as usize, at)
                        })
                    })
                    .collect();
                let b: Vec<[u32; 32]> = (0..kind.b_regs() as u32)
                    .map(|reg| {
                        pack(&|lane, j| {
                            let [column, at] = b_element(bits, lane, reg, j);
                            code(&self.b, column as usize, at)
                        })
                    })
                    .collect();
                let part = &mut parts[step % 2];
                let c = part.clone();
                mma(&kind, Arithmetic::Ring, &a, &b, &c, part).unwrap();
            }
            for reg in 0..4 {
                for lane in 0..32 {
                    out[place(lane, reg)] = ring::add(parts[0][reg][lane], parts[1][reg][lane]);
                }
            }
        }
        out
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn halves_in_any_tiling(product in product(16), order in Just([0usize, 16, 32, 48]).prop_shuffle()) {
        let want = product.naive(|x| x as u16);
        prop_assert_eq!(&product.by_wgmma("bf16.bf16", &order, false), &want);
        prop_assert_eq!(&product.by_wgmma("f16.f16", &order, true), &want);
        prop_assert_eq!(&product.by_split_mma("m16n8k8", "f16.f16", 8), &want);
        prop_assert_eq!(&product.by_split_mma("m16n8k16", "bf16.bf16", 16), &want);
    }

    #[test]
    fn bytes_in_any_tiling(product in product(8), order in Just([0usize, 32]).prop_shuffle()) {
        let want = product.naive(|x| x as u8);
        prop_assert_eq!(&product.by_wgmma("e4m3.e5m2", &order, false), &want);
        prop_assert_eq!(&product.by_split_mma("m16n8k16", "e5m2.e4m3", 16), &want);
        prop_assert_eq!(&product.by_split_mma("m16n8k32", "e4m3.e4m3", 32), &want);
    }

    #[test]
    fn words_in_any_tiling(product in product(32), order in Just([0usize, 8, 16, 24, 32, 40, 48, 56]).prop_shuffle()) {
        let want = product.naive(|x| x);
        prop_assert_eq!(&product.by_wgmma("tf32.tf32", &order, false), &want);
        prop_assert_eq!(&product.by_split_mma("m16n8k4", "tf32.tf32", 4), &want);
        prop_assert_eq!(&product.by_split_mma("m16n8k8", "tf32.tf32", 8), &want);
    }

    /// f64 payloads, and f16 accumulators: the low halves of what f32 ones hold.
    #[test]
    fn other_accumulators(words in prop::collection::vec(any::<u32>(), 14)) {
        let register = |i: usize| -> [u32; 32] { std::array::from_fn(|lane| words[i].rotate_left(lane as u32)) };
        let parse = |text: &str| MmaKind::parse(&text.split('.').collect::<Vec<_>>()).unwrap();
        let wide = parse("sync.aligned.m8n8k4.row.col.f64.f64.f64.f64");
        let (a, b) = ([register(0), register(1)], [register(2), register(3)]);
        let c = [register(4), register(5), register(6), register(7)];
        let mut d = [[0; 32]; 4];
        mma(&wide, Arithmetic::Ring, &a, &b, &c, &mut d).unwrap();
        let read = |words: &[[u32; 32]], reg: usize, lane: usize| {
            u64::from(words[2 * reg][lane]) | u64::from(words[2 * reg + 1][lane]) << 32
        };
        for lane in 0..32 {
            for reg in 0..2 {
                let [row, column] = c_element(lane as u32, reg as u32).map(|x| x as usize);
                let pairs = (0..4).map(|k| (read(&a, 0, 4 * row + k), read(&b, 0, 4 * column + k)));
                prop_assert_eq!(read(&d, reg, lane), ring::dot(read(&c, reg, lane), pairs));
            }
        }
        let (a, b) = ([register(8), register(9)], [register(10)]);
        let (mut long, mut short) = ([[0; 32]; 4], [[0; 32]; 2]);
        mma(&parse("sync.aligned.m16n8k8.row.col.f32.f16.f16.f32"), Arithmetic::Ring, &a, &b, &[[0; 32]; 4], &mut long).unwrap();
        let c = [register(11), register(12)];
        mma(&parse("sync.aligned.m16n8k8.row.col.f16.f16.f16.f16"), Arithmetic::Ring, &a, &b, &c, &mut short).unwrap();
        for lane in 0..32 {
            for reg in 0..2 {
                for j in 0..2 {
                    let want = (long[2 * reg + j][lane] as u16).wrapping_add((c[reg][lane] >> (16 * j)) as u16);
                    prop_assert_eq!((short[reg][lane] >> (16 * j)) as u16, want);
                }
            }
        }
    }
}

/// Values where payloads belong are refused rather than multiplied.
#[test]
fn panels_of_values_do_not_pass_for_payloads() {
    let kind = WgmmaKind::parse(&"mma_async.sync.aligned.m64n8k16.f32.f16.f16".split('.').collect::<Vec<_>>()).unwrap();
    let [a, b] = [M, N].map(|rows| load_panel(Panel::new(), &vec![1; rows * 16], rows, 16, ElementType::F16));
    let mut files: [Vec<[u32; 32]>; 4] = std::array::from_fn(|_| vec![[0; 32]; 4]);
    let [w0, w1, w2, w3] = &mut files;
    let d = Accumulators { files: [w0, w1, w2, w3], slots: &[0, 1, 2, 3] };
    let scale = Scale { d: false, negate_a: false, negate_b: false };
    let error = wgmma(&kind, Arithmetic::Ring, &a, &b, scale, d).unwrap_err();
    assert_eq!(error.to_string(), "operand a was not read as Payloads");
}
