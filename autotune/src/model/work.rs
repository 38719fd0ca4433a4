//! What a launch is to a machine.

use crate::estimate::Counts;
use tilewright_runtime::manifest::MainLoop;

/// One step of a CTA along its reduction: a block of k, or a block of keys.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Block {
    /// Cycles of the tensor cores at their full rate.
    pub tensor: f64,
    /// Bytes that multiplies and warps read from shared memory, or write to it.
    pub shared: f64,
    /// Bytes that are copied into it.
    pub copied: f64,
    /// Bytes that come from L2, those shared with a neighbour divided.
    pub l2: f64,
    /// What warps issue.
    pub pipes: Pipes,
    /// Instructions of the copy engine.
    pub tma: f64,
    /// Cycles of work that no other work of the same CTA hides, beside what the pipes say.
    pub serial: f64,
}

/// Instructions of warps, by pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pipes {
    /// All of them.
    pub issued: f64,
    /// Integers and bits, and conversions, which have half of the lanes too (CUDA guide, arithmetic throughput).
    pub int: f64,
    /// Floats, 32-bit and pairs of 16.
    pub float: f64,
    /// Exponentials.
    pub special: f64,
}

/// The tiles of a launch.
#[derive(Clone, Debug, PartialEq)]
pub enum Tiles {
    /// `count` of `blocks` each.
    Equal {
        /// How many.
        count: f64,
        /// Blocks of one.
        blocks: f64,
    },
    /// Runs of equal tiles in the order they start: blocks of one, how many. Each goes to whoever is free first.
    Listed(Vec<(f64, u64)>),
    /// The same, dealt out in turns.
    Dealt(Vec<(f64, u64)>),
}

/// A launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// A block of a tile.
    pub block: Block,
    /// The tiles.
    pub tiles: Tiles,
    /// Blocks whose loads are under way at most.
    pub stages: f64,
    /// CTAs of an SM, or tiles it has at once.
    pub resident: f64,
    /// A CTA does tile after tile, and its loads go on meanwhile.
    pub persistent: bool,
    /// Cycles of a tile before and after its blocks.
    pub edges: f64,
    /// Cycles before the first tile, besides its loads.
    pub start: f64,
    /// Bytes from and to device memory.
    pub memory: f64,
    /// Launches, this and those beside it.
    pub launches: f64,
    /// Seconds of those beside it.
    pub beside: f64,
}

impl Tiles {
    /// How many there are.
    pub fn count(&self) -> f64 {
        match self {
            Tiles::Equal { count, .. } => *count,
            Tiles::Listed(runs) | Tiles::Dealt(runs) => runs.iter().map(|r| r.1 as f64).sum(),
        }
    }

    /// Blocks of all.
    pub fn blocks(&self) -> f64 {
        match self {
            Tiles::Equal { count, blocks } => count * blocks,
            Tiles::Listed(runs) | Tiles::Dealt(runs) => runs.iter().map(|r| r.0 * r.1 as f64).sum(),
        }
    }
}

impl Pipes {
    /// What the machine code says a block takes: its main loop holds `of` multiplies a warp where the template promises
    /// `multiplies` a block, `warps` warps run it.
    pub fn counted(main_loop: &MainLoop, multiplies: f64, warps: f64) -> Self {
        let scale = multiplies / f64::from(main_loop.multiplies.max(1)) * warps;
        let of = |n: u32| f64::from(n) * scale;
        Pipes {
            issued: of(main_loop.instructions),
            int: of(main_loop.int + main_loop.convert),
            float: of(main_loop.float + main_loop.half),
            special: of(main_loop.special),
        }
    }
}

impl Block {
    /// The block with what is known of it in place of what its template promises: `multiplies` of a warp and block, `warps`
    /// that multiply.
    pub fn known(mut self, counts: Option<&Counts>, multiplies: f64, warps: f64) -> Self {
        let Some(counts) = counts else { return self };
        if let Some(main_loop) = counts.main_loop.as_ref().filter(|l| l.multiplies > 0) {
            // Copies of the producer are not in the loop that multiplies; where there is none, they are in the count.
            self.pipes = Pipes::counted(main_loop, multiplies, warps);
        }
        if let Some(wavefronts) = counts.shared_wavefronts {
            // A wavefront is a cycle of all banks.
            self.shared = wavefronts * 128.0;
        }
        if let Some(bytes) = counts.global_bytes {
            self.l2 *= bytes / self.copied.max(1.0);
            self.copied = bytes;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceProfile;
    use crate::estimate::{Estimate, Term};
    use crate::model::{Sizes, attention, gemm};
    use serde_json::Value;
    use tilewright_ir::Arch;
    use tilewright_runtime::manifest::Resources;
    use tilewright_templates::attention::{AttentionConfig, AttentionProblem};
    use tilewright_templates::gemm::GemmConfig;
    use tilewright_templates::gemm::weight::WeightClass;

    type Model = Box<dyn Fn(Option<&Counts>) -> Estimate>;

    /// The model of each shipped plan whose main kernel has counts, with them.
    fn shipped(arch: Arch) -> Vec<(String, Counts, Model)> {
        let path = format!("{}/../kernels-generated/{}/manifest.json", env!("CARGO_MANIFEST_DIR"), arch.caps().name);
        let manifest: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let list = |v: &Value| v.as_array().unwrap().clone();
        let d = DeviceProfile::typical(arch);
        let kernels = list(&manifest["kernels"]);
        let mut all: Vec<(String, Counts, Model)> = Vec::new();
        for plan in list(&manifest["plans"]) {
            let class = plan["class"].as_str().unwrap();
            for launch in list(&plan["launches"]) {
                let Some(k) = kernels.iter().find(|k| k["id"] == launch["kernel"]) else { continue };
                let r: Resources = serde_json::from_value(k["resources"].clone()).unwrap();
                let Some(main_loop) = r.main_loop else { continue };
                let axes = k["config"].as_object().unwrap().iter().map(|(a, v)| format!("{a}={}", v.as_str().unwrap()));
                let config = axes.collect::<Vec<_>>().join(",");
                let shared_bytes = r.static_shared_bytes + k["launch"]["shared_bytes"].as_u64().unwrap() as u32;
                let counts = Counts { registers: r.registers, shared_bytes, main_loop: Some(main_loop), ..Counts::default() };
                let name = k["id"].as_str().unwrap().to_string();
                if let (Ok(c), Ok(p)) = (config.parse::<GemmConfig>(), WeightClass::from_class(class))
                    && c.check(&p.problem).is_ok()
                {
                    let s = Sizes { m: 4096.0, n: 4096.0, k: 4096.0 };
                    all.push((name, counts, Box::new(move |n| gemm::estimate(d, &p.problem, &c, 1, s, n))));
                } else if let (Ok(c), Ok(p)) = (config.parse::<AttentionConfig>(), AttentionProblem::from_class(class)) {
                    let s = attention::Sizes::square(2.0, 4096.0, 16.0);
                    all.push((name, counts, Box::new(move |n| attention::estimate(d, &p, &c, &s, n))));
                }
            }
        }
        all
    }

    fn term(e: &Estimate, term: Term) -> f64 {
        e.terms.iter().find(|t| t.0 == term).unwrap().1 / e.seconds
    }

    #[test]
    fn counts_of_shipped_kernels_take_the_place_of_what_templates_promise() {
        for (arch, least) in [(Arch::Sm90a, 60), (Arch::Sm80, 20)] {
            let all = shipped(arch);
            assert!(all.len() > least, "{arch}: {}", all.len());
            let mut far = Vec::new();
            for (name, counts, model) in &all {
                let (promised, counted) = (model(None), model(Some(counts)));
                let main_loop = counts.main_loop.unwrap();
                // Twice the instructions take twice the slots.
                let mut twice = main_loop;
                for n in [&mut twice.instructions, &mut twice.int, &mut twice.float, &mut twice.half, &mut twice.special] {
                    *n *= 2;
                }
                twice.convert *= 2;
                let twice = model(Some(&Counts { main_loop: Some(twice), ..counts.clone() }));
                assert!(twice.seconds >= counted.seconds, "{name}");
                let pipe = |e: &Estimate| term(e, Term::Pipe) / term(e, Term::Tensor);
                let more = pipe(&twice) / pipe(&counted);
                // Narrow copies are not in the loop that is counted.
                let all_counted = !name.contains("_l1_");
                assert!(more > 1.0 && if all_counted { (more - 2.0).abs() < 1e-6 } else { more < 2.0 + 1e-6 }, "{name}: {more}");
                let off = pipe(&counted) / pipe(&promised);
                assert!(off != 1.0 && (0.1..10.0).contains(&off), "{name}: counted {off} of what was promised");
                if !(0.5..2.0).contains(&off) {
                    far.push(name);
                }
            }
            // Templates know about what they cost.
            assert!(far.len() * 3 < all.len(), "{arch}: {} of {}: {far:?}", far.len(), all.len());
        }
    }

    #[test]
    fn what_the_emulator_counts_is_taken_over() {
        let block = Block { shared: 1000.0, copied: 400.0, l2: 200.0, ..Block::default() };
        let counts = Counts { shared_wavefronts: Some(10.0), global_bytes: Some(800.0), ..Counts::default() };
        let known = block.known(Some(&counts), 4.0, 4.0);
        // Half of what is copied comes over a neighbour, as before.
        assert_eq!((known.shared, known.copied, known.l2), (1280.0, 800.0, 400.0));
        assert_eq!(block.known(None, 4.0, 4.0), block);
    }
}
