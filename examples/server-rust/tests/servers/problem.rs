//! Requests with their answers in f64, and how far off a server may be.

use half::bf16;
use tilewright_ir::DType;
use tilewright_templates::attention::{AttentionOperands, AttentionProblem, Numerics, attention_reference};
use tilewright_templates::gemm::{GemmProblem, Operands, reference};

/// A request, and what the answer must be.
pub struct Problem {
    pub path: String,
    pub body: Vec<u8>,
    value: Vec<f64>,
    bound: Vec<f64>,
}

impl Problem {
    /// a times b, of sizes `[m, n, k]`.
    pub fn gemm([m, n, k]: [usize; 3]) -> Self {
        let mut numbers = Numbers(1 + (m * n * k) as u64);
        let (a, b) = (numbers.take(m * k), numbers.take(n * k));
        let body = [bytes(&a), bytes(&b)].concat();
        let operands = Operands { shape: [1, m, n, k], a, b, alpha: 1.0, ..Operands::default() };
        let expected = reference(&GemmProblem::plain(DType::BF16), &operands);
        let bound = (0..m * n).map(|i| expected.bound(i)).collect();
        Problem { path: format!("/gemm?m={m}&n={n}&k={k}"), body, value: expected.value, bound }
    }

    /// Attention of sizes `[batch, sq, sk, hq, hkv]`.
    pub fn attention([batch, sq, sk, hq, hkv]: [usize; 5], d: usize, causal: bool) -> Self {
        let mut numbers = Numbers((sq * sk * d) as u64);
        let [q, k, v] = [sq * hq, sk * hkv, sk * hkv].map(|rows| numbers.take(batch * rows * d));
        let body = [&q, &k, &v].map(|x| bytes(x)).concat();
        let scale = 1.0 / (d as f64).sqrt();
        let operands = AttentionOperands { batch, sq, sk, hq, hkv, q, k, v, scale, ..AttentionOperands::default() };
        let problem = AttentionProblem { causal, ..AttentionProblem::plain(DType::BF16, d as u32) };
        let expected = attention_reference(&problem, &operands, Numerics::APPROX).o;
        let bound = (0..expected.value.len()).map(|i| expected.bound(i)).collect();
        let path = format!("/attention?batch={batch}&sq={sq}&sk={sk}&hq={hq}&hkv={hkv}&d={d}");
        let path = path + if causal { "&causal=1" } else { "" };
        Problem { path, body, value: expected.value, bound }
    }

    /// Holds an answer to the reference.
    pub fn check(&self, answer: &[u8]) {
        let found: Vec<f64> = answer.chunks_exact(2).map(|x| bf16::from_le_bytes([x[0], x[1]]).to_f64()).collect();
        assert_eq!((found.len(), answer.len() % 2), (self.value.len(), 0), "{}: length of the result", self.path);
        for (i, ((found, value), bound)) in found.iter().zip(&self.value).zip(&self.bound).enumerate() {
            let off = (found - value).abs();
            assert!(off <= *bound, "{}: element {i} is {found}, not {value}: off by {off:.3e} of {bound:.3e}", self.path);
        }
    }
}

/// Numbers from -2 to 2 that bf16 holds, the same in every run (the multiplier is Knuth's, MMIX).
struct Numbers(u64);

impl Numbers {
    fn take(&mut self, count: usize) -> Vec<f64> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            bf16::from_f64((self.0 >> 40) as f64 / (1 << 22) as f64 - 2.0).to_f64()
        };
        (0..count).map(|_| next()).collect()
    }
}

fn bytes(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|x| bf16::from_f64(*x).to_le_bytes()).collect()
}
