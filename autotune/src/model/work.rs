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
    /// Integers and bits.
    pub int: f64,
    /// Floats, 32-bit and pairs of 16.
    pub float: f64,
    /// Exponentials and conversions.
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
            int: of(main_loop.int),
            float: of(main_loop.float + main_loop.half),
            special: of(main_loop.special + main_loop.convert),
        }
    }
}

impl Block {
    /// The block with what is known of it in place of what its template promises: `multiplies` of a warp and block, `warps` that
    /// multiply.
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
