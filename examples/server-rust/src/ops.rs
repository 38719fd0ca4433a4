//! Requests as problems: what a query says, how many bytes go in and come out.

use serde::Deserialize;

use crate::pool::Shape;

/// The largest size of a request.
const MOST_SIZE: u64 = 1 << 15;
/// The most bytes of a body or a result.
pub const MOST_BYTES: usize = 64 << 20;

/// The query of `/gemm`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Gemm {
    m: u64,
    n: u64,
    k: u64,
}

/// The query of `/attention`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Attention {
    batch: u64,
    sq: u64,
    sk: u64,
    hq: u64,
    hkv: u64,
    d: u64,
    #[serde(default)]
    causal: u8,
}

/// A request that cannot be served: its status and why.
pub type Refusal = (u16, String);

/// A request that is ready to run if its body has `bytes_in` bytes.
#[derive(Debug)]
pub struct Ask {
    /// What to run.
    pub shape: Shape,
    /// Bytes of all inputs.
    pub bytes_in: u64,
    /// Bytes of the result.
    pub bytes_out: u64,
}

/// What a query asks for.
pub trait Asks {
    /// The problem; sizes are looked at before anything is multiplied or allocated.
    fn ask(self) -> Result<Ask, Refusal>;
}

impl Asks for Gemm {
    fn ask(self) -> Result<Ask, Refusal> {
        let Gemm { m, n, k } = self;
        let sizes = sizes(&[("m", m), ("n", n), ("k", k)])?;
        let class = "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0".to_owned();
        let shape =
            Shape { op: "gemm", class, sizes: [sizes, vec![("batch", 1), ("split_k", 0)]].concat(), number: ("alpha", 1.0) };
        Ask { shape, bytes_in: 2 * (m * k + n * k), bytes_out: 2 * m * n }.checked()
    }
}

impl Asks for Attention {
    fn ask(self) -> Result<Ask, Refusal> {
        let Attention { batch, sq, sk, hq, hkv, d, causal } = self;
        let mut sizes = sizes(&[("batch", batch), ("sq", sq), ("sk", sk), ("hq", hq), ("hkv", hkv), ("d", d)])?;
        if causal > 1 {
            return Err((400, "causal must be 0 or 1".to_owned()));
        }
        // What dispatch looks at: queries, keys, heads of all sequences. The head size is part of the class.
        sizes.retain(|size| size.0 != "d");
        sizes.extend([("m", sq as i64), ("n", sk as i64), ("k", (batch * hq) as i64)]);
        let rest = "window=0,chunk=0,softcap=0,alibi=0,sink=0,bias=none,varlen=0,sparse=none";
        let class = format!("dtype=bf16,out=bf16,d={d},dv={d},causal={causal},{rest}");
        let shape = Shape { op: "attention", class, sizes, number: ("scale", 1.0 / (d as f32).sqrt()) };
        let bytes_in = 2 * batch * d * (sq * hq + 2 * sk * hkv);
        Ask { shape, bytes_in, bytes_out: 2 * batch * sq * hq * d }.checked()
    }
}

impl Ask {
    fn checked(self) -> Result<Ask, Refusal> {
        let Ask { bytes_in, bytes_out, .. } = self;
        if bytes_in.max(bytes_out) > MOST_BYTES as u64 {
            let why = format!("inputs of {bytes_in} and a result of {bytes_out} bytes: at most {MOST_BYTES} are served");
            return Err((413, why));
        }
        Ok(self)
    }
}

/// Sizes as numbers of the runtime. Within the limit, no product of four of them overflows.
fn sizes(given: &[(&'static str, u64)]) -> Result<Vec<(&'static str, i64)>, Refusal> {
    let fit = |&(name, size): &(&'static str, u64)| match size {
        1..=MOST_SIZE => Ok((name, size as i64)),
        _ => Err((400, format!("{name} = {size}: sizes are whole numbers from 1 to {MOST_SIZE}"))),
    };
    given.iter().map(fit).collect()
}
