//! What a problem asks for: operations and bytes that no kernel can do without.

use crate::device::DeviceProfile;
use crate::model::attention;
use crate::model::weight::bytes_a_weight;
use crate::task::Task;
use serde::Serialize;
use tilewright_ir::DType;
use tilewright_templates::attention::{AttentionProblem, DecodeProblem};
use tilewright_templates::gemm::weight::WeightClass;
use tilewright_templates::gemm::{GemmProblem, Weight};

/// Operations and bytes of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Work {
    /// Multiplications and additions on tensor cores.
    pub flop: f64,
    /// Bytes that come from or go to device memory once.
    pub bytes: f64,
    /// They are multiplied as bytes, at twice the rate.
    pub as_bytes: bool,
}

impl Work {
    /// Of a task; none of an op without one, or where sizes are missing.
    pub fn of(task: &Task) -> Option<Work> {
        let size = |name: &str| task.size(name).map(|v| v as f64);
        match task.op.as_str() {
            "gemm" => {
                let p = WeightClass::from_class(&task.class).ok()?.problem;
                let batch = size("batch").unwrap_or(1.0);
                Some(gemm(&p, [size("m")?, size("n")?, size("k")?], 1.0).times(batch))
            }
            "gemm_grouped" => {
                let class = task.class.strip_suffix(",gather=1").unwrap_or(&task.class);
                let p = WeightClass::from_class(class).ok()?.problem;
                let (rows, e) = (size("tokens")?, size("e")?);
                // Weights of experts that no row goes to are not read.
                Some(gemm(&p, [rows, size("n")?, size("k")?], e.min(rows)))
            }
            "attention" => {
                let p = AttentionProblem::from_class(task.class.strip_suffix(",prefix=1").unwrap_or(&task.class)).ok()?;
                let s = attention::Sizes::of(task)?;
                let pairs: f64 = s.visited(&p, 1.0, 1.0).iter().sum::<f64>() * s.batch * s.hq;
                let (d, dv) = (f64::from(p.d), f64::from(p.dv));
                let moved = s.batch * (s.hq * s.sq + s.hkv * s.sk) * (d + dv);
                Some(Work { flop: 2.0 * pairs * (d + dv), bytes: moved * f64::from(p.dtype.bytes()), as_bytes: false })
            }
            "attention_decode" => {
                let p = DecodeProblem::from_class(&task.class).ok()?;
                let tokens = size("max_pages")? * size("page")?;
                let (d, dv) = (f64::from(p.d), f64::from(p.dv));
                let (batch, hq, hkv) = (size("batch")?, size("hq")?, size("hkv")?);
                let sq = size("sq").unwrap_or(1.0);
                let moved = batch * (hkv * tokens + hq * sq) * (d + dv);
                let flop = 2.0 * batch * hq * sq * tokens * (d + dv);
                Some(Work { flop, bytes: moved * f64::from(p.dtype.bytes()), as_bytes: false })
            }
            _ => None,
        }
    }

    /// What a time is of the tensor cores' and of device memory's rate, 1 for all of it.
    pub fn roofs(&self, d: &DeviceProfile, seconds: f64) -> [f64; 2] {
        let rate = if self.as_bytes { d.tensor8_flops } else { d.tensor_flops };
        let tensor = self.flop / (f64::from(d.sms) * rate * d.clock_hz);
        [tensor / seconds, self.bytes / d.memory_bytes / seconds]
    }

    fn times(self, n: f64) -> Work {
        Work { flop: n * self.flop, bytes: n * self.bytes, ..self }
    }
}

/// Rows by n by k, with so many matrices of weights.
fn gemm(p: &GemmProblem, [m, n, k]: [f64; 3], weights: f64) -> Work {
    let wide = n * f64::from(p.gates());
    let bytes = |d: DType| f64::from(d.bytes());
    let a_weight = match p.weight {
        Weight::Same => bytes(p.b_dtype()),
        Weight::Packed(packed) => bytes_a_weight(packed),
    };
    let out = if p.residual { 2.0 } else { 1.0 };
    Work {
        flop: 2.0 * m * wide * k,
        bytes: m * k * bytes(p.input) + weights * wide * k * a_weight + out * m * n * bytes(p.output),
        as_bytes: p.bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_ir::Arch;

    fn work(op: &str, class: &str, sizes: &[(&str, i64)]) -> Work {
        Work::of(&crate::workload::task(op, class, sizes.iter().map(|(n, v)| (n.to_string(), *v)).collect()).unwrap()).unwrap()
    }

    #[test]
    fn operations_and_bytes_are_counted_once() {
        let gemm = "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0";
        let w = work("gemm", gemm, &[("m", 8), ("n", 16), ("k", 32)]);
        assert_eq!((w.flop, w.bytes), (2.0 * 4096.0, 2.0 * (8.0 * 32.0 + 16.0 * 32.0 + 8.0 * 16.0)));
        let w = work("gemm", &gemm.replace("act=none", "act=swiglu"), &[("m", 8), ("n", 16), ("k", 32), ("batch", 2)]);
        assert_eq!((w.flop, w.bytes), (8.0 * 4096.0, 4.0 * (8.0 * 32.0 + 2.0 * 16.0 * 32.0 + 8.0 * 16.0)));
        // Two rows meet two of eight experts.
        let w = work("gemm_grouped", &format!("{gemm},groups=offsets"), &[("tokens", 2), ("e", 8), ("n", 16), ("k", 32)]);
        assert_eq!(w.bytes, 2.0 * (2.0 * 32.0 + 2.0 * 16.0 * 32.0 + 2.0 * 16.0));
        let causal =
            "dtype=bf16,out=bf16,d=64,dv=64,causal=1,window=0,chunk=0,softcap=0,alibi=0,sink=0,bias=none,varlen=0,sparse=none";
        let w = work("attention", causal, &[("batch", 1), ("sq", 4), ("hq", 2), ("hkv", 1)]);
        assert_eq!((w.flop, w.bytes), (2.0 * 2.0 * 10.0 * 128.0, 2.0 * 128.0 * (2.0 * 4.0 + 4.0)));
    }

    #[test]
    fn a_roof_is_the_share_of_the_rate() {
        let d = DeviceProfile::typical(Arch::Sm90a);
        let w = Work { flop: 1e12, bytes: 1e9, as_bytes: false };
        let [tensor, memory] = w.roofs(d, 1e9 / d.memory_bytes);
        assert!((memory - 1.0).abs() < 1e-12 && tensor > 1.0);
        let [bytes, _] = Work { as_bytes: true, ..w }.roofs(d, 1e9 / d.memory_bytes);
        assert!((tensor / bytes - 2.0).abs() < 1e-9);
    }
}
