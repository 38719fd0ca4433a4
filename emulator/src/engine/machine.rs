//! What stays the same during a launch.

use crate::memory::global::GlobalView;
use crate::program::Kernel;
use crate::tensor::Arithmetic;

/// How asynchronous operations and warps are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Asynchronous operations happen when they are issued.
    Early,
    /// They happen only when no warp can go on without them.
    Late,
    /// They happen after a random delay.
    Random,
}

/// The schedule that a seed stands for.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pub delivery: Delivery,
    /// Warps take turns in order; otherwise by the seed.
    pub round_robin: bool,
    pub seed: u64,
}

impl Schedule {
    /// Seed 0 is round-robin with early delivery, 1 the same with late delivery; above, the order of warps varies,
    /// odd seeds deliver late and even ones at random.
    pub fn new(seed: u64) -> Self {
        let delivery = match seed {
            0 => Delivery::Early,
            _ if seed % 2 == 1 => Delivery::Late,
            _ => Delivery::Random,
        };
        Schedule { delivery, round_robin: seed < 2, seed }
    }
}

/// Numbers that a seed decides (xorshift).
#[derive(Clone, Copy, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }
}

#[derive(Debug)]
pub struct Machine<'a> {
    pub kernel: &'a Kernel,
    pub sources: &'a [String],
    pub global: &'a GlobalView<'a>,
    /// Addresses of the module's variables.
    pub variables: &'a [u64],
    pub params: &'a [u8],
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub cluster: [u32; 3],
    pub explicit_cluster: bool,
    pub dynamic_shared: u32,
    /// Bytes of a block's shared window that exist, the reserved start included.
    pub shared_window: u32,
    pub checks: bool,
    pub arithmetic: Arithmetic,
    pub schedule: Schedule,
    /// Clusters take turns because they may wait for each other.
    pub together: bool,
    pub sm_count: u32,
    pub max_steps: u64,
    /// Registers of each thread at launch, if `setmaxnreg` may be used.
    pub launch_registers: Option<u32>,
}

impl Machine<'_> {
    pub fn threads(&self) -> u32 {
        self.block.iter().product()
    }

    pub fn warps(&self) -> u32 {
        self.threads().div_ceil(32)
    }

    pub fn cluster_size(&self) -> u32 {
        self.cluster.iter().product()
    }

    pub fn clusters(&self) -> [u32; 3] {
        std::array::from_fn(|axis| self.grid[axis] / self.cluster[axis])
    }

    /// `%ctaid` of a block by its cluster and its rank there.
    pub fn block_of(&self, cluster: u32, rank: u32) -> [u32; 3] {
        let (place, coords) = (unflatten(cluster, self.clusters()), unflatten(rank, self.cluster));
        std::array::from_fn(|axis| place[axis] * self.cluster[axis] + coords[axis])
    }

    /// `file:line` of an instruction's source.
    pub fn source(&self, pc: u32) -> Option<String> {
        let source = self.kernel.sources.get(pc as usize).copied().flatten();
        source.and_then(|index| self.sources.get(index as usize).cloned())
    }

    /// `%tid` of a thread by its number in the block.
    pub fn tid(&self, thread: u32) -> [u32; 3] {
        unflatten(thread, self.block)
    }
}

/// A linear index as coordinates, x fastest.
pub fn unflatten(index: u32, extent: [u32; 3]) -> [u32; 3] {
    let [x, y, _] = extent;
    [index % x, index / x % y, index / x / y]
}
