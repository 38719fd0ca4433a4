//! The best config of a problem in the model's eyes.

use super::points::Published;
use crate::device::DeviceProfile;
use crate::estimate::Estimate;
use crate::model::{self, Sizes, attention, decode, gemm, grouped};
use std::collections::BTreeMap;
use std::fmt::Display;
use tilewright_ir::Arch;
use tilewright_templates::attention::{AttentionConfig, AttentionProblem, DecodeProblem, decode_space, space as attention_space};
use tilewright_templates::gemm::weight::WeightWgmmaConfig;
use tilewright_templates::gemm::{GemmConfig, GemmProblem, Groups, Weight, space as gemm_space};

/// A config and its modelled time.
#[derive(Clone, Debug, PartialEq)]
pub struct Best {
    /// Its id.
    pub config: String,
    /// What the model says.
    pub estimate: Estimate,
}

/// A point that is nobody's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BestError {
    /// An op without a model.
    #[error("op `{0}`: expected gemm, gemm_grouped, attention or attention_decode")]
    Op(String),
    /// A class, config or size that is none.
    #[error("{op} {class}: {why}")]
    Class {
        /// The op.
        op: String,
        /// The class.
        class: String,
        /// What is wrong.
        why: String,
    },
}

/// Configs of GEMM classes, made once.
pub(super) type Spaces = BTreeMap<(Arch, GemmProblem), Vec<GemmConfig>>;

/// Parts of k that are tried.
const SPLITS: [u32; 5] = [2, 4, 8, 16, 32];

/// The config of a class that the model takes for the fastest; of equal ones the first.
pub fn best(d: &DeviceProfile, op: &str, class: &str, at: &Published) -> Result<Best, BestError> {
    best_of(d, op, class, at, &mut Spaces::new())
}

pub(super) fn best_of(d: &DeviceProfile, op: &str, class: &str, at: &Published, spaces: &mut Spaces) -> Result<Best, BestError> {
    let bad = |why: String| BestError::Class { op: op.into(), class: class.into(), why };
    let found = match op {
        "gemm" => {
            let p = GemmProblem::from_class(class).map_err(|e| bad(e.to_string()))?;
            let s = Sizes { m: at.size("m"), n: at.size("n"), k: at.size("k") };
            gemm_best(d, &p, s, spaces)
        }
        "gemm_grouped" => {
            let p = GemmProblem::from_class(class).map_err(|e| bad(e.to_string()))?;
            let rows = grouped::Rows::Even { tokens: at.size("m") as u64, experts: at.size("experts") as u64 };
            let list = configs(spaces, d.arch, &p).iter().filter(|c| !c.split());
            least(list.map(|c| (c, grouped::estimate(d, &p, c, &rows, [at.size("n"), at.size("k")], None))))
        }
        "attention" => {
            let p = AttentionProblem::from_class(class).map_err(|e| bad(e.to_string()))?;
            let list = match &at.config {
                Some(one) => vec![one.parse::<AttentionConfig>().map_err(|e| bad(e.to_string()))?],
                None => attention_space(d.arch, &p),
            };
            let [batch, sq, sk, hq, hkv] = ["batch", "sq", "sk", "hq", "hkv"].map(|n| at.size(n));
            let s = attention::Sizes { batch, sq, sk, hq, hkv, ..attention::Sizes::square(1.0, 1.0, 1.0) };
            least(list.iter().map(|c| (c, attention::estimate(d, &p, c, &s, None))))
        }
        "attention_decode" => {
            let p = DecodeProblem::from_class(class).map_err(|e| bad(e.to_string()))?;
            let [batch, sq, sk, hq, hkv, page] = ["batch", "sq", "sk", "hq", "hkv", "page"].map(|n| at.size(n));
            let s = decode::Sizes { batch, sq, sk, hq, hkv, page };
            let list = decode_space(d.arch, &p);
            let ways = list.iter().flat_map(|c| [decode::Parts::One, decode::Parts::Chosen].map(|parts| (c, parts)));
            least(ways.map(|(c, parts)| (c, decode::estimate(d, &p, c, parts, &s, None))))
        }
        other => return Err(BestError::Op(other.into())),
    };
    found.ok_or_else(|| bad("no config is legal".into()))
}

fn least<'a, C: Display + 'a>(all: impl Iterator<Item = (&'a C, Estimate)>) -> Option<Best> {
    let first = all.min_by(|a, b| a.1.seconds.total_cmp(&b.1.seconds))?;
    first.1.seconds.is_finite().then(|| Best { config: first.0.to_string(), estimate: first.1 })
}

fn gemm_best(d: &DeviceProfile, p: &GemmProblem, s: Sizes, spaces: &mut Spaces) -> Option<Best> {
    let list = configs(spaces, d.arch, p);
    let mut best: Option<(usize, u32, f64)> = None;
    for (i, c) in list.iter().enumerate() {
        for splits in if c.split() { &SPLITS[..] } else { &[1] } {
            let candidate = model::Candidate { id: "", problem: p, config: c, splits: *splits };
            let seconds = model::seconds(d, s, &candidate);
            if best.is_none_or(|b| seconds < b.2) {
                best = Some((i, *splits, seconds));
            }
        }
    }
    let (i, splits, _) = best?;
    let estimate = gemm::estimate(d, p, &list[i], splits, s, None);
    let parts = if splits > 1 { format!(",splits={splits}") } else { String::new() };
    Some(Best { config: format!("{}{parts}", list[i]), estimate })
}

/// Configs of a class for sizes that fit every alignment.
fn configs<'s>(spaces: &'s mut Spaces, arch: Arch, p: &GemmProblem) -> &'s [GemmConfig] {
    spaces.entry((arch, *p)).or_insert_with(|| {
        let mut list = gemm_space(arch, p);
        list.retain(|c| match c {
            GemmConfig::Wgmma(c) => c.n_align == 8 && c.raster == 8 && !c.pad,
            GemmConfig::Mma(c) => c.n_align == 2 && c.load_align * p.input.bytes() == 16,
            GemmConfig::WeightMma(c) => c.load_align == 8,
            GemmConfig::WeightWgmma(_) => true,
        });
        if let (Weight::Packed(packed), true) = (p.weight, arch.is_hopper()) {
            let streams = if p.groups == Groups::Batch { &[false, true][..] } else { &[false] };
            let shapes = [8, 16, 32, 64, 128].into_iter().flat_map(|bm| [64, 128, 192].map(|bn| (bm, bn)));
            for ((bm, bn), stream) in shapes.flat_map(|s| streams.iter().map(move |x| (s, *x))) {
                let c = WeightWgmmaConfig { bm, bn, stages: 2, raster: 8, n_align: 8, stream }.deepest(p, packed);
                list.push(GemmConfig::WeightWgmma(c));
            }
            list.retain(|c| c.check(p).is_ok());
        }
        list
    })
}
