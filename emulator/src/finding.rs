//! What a run found.

use rustc_hash::FxHashMap;
use serde::Serialize;

/// What kind of mistake a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FindingKind {
    /// Conflicting accesses that nothing orders.
    Race,
    /// Unordered plain writes of the same bytes.
    RaceEqual,
    /// Accesses of different proxies that are ordered, but without the proxy fence between.
    Proxy,
    /// Registers of an unfinished `wgmma` are touched.
    WgmmaInFlight,
    /// Registers of a `wgmma` were touched since the last `wgmma.fence`.
    WgmmaFence,
    /// A wait that may return early is not repeated.
    UnloopedWait,
    /// Shared-memory accesses that need many passes.
    BankConflict,
    /// Global accesses that use little of the sectors they touch.
    Uncoalesced,
    /// An access outside of every allocation, or of the block's shared memory.
    Oob,
    /// An address that is not a multiple of the access size.
    Misaligned,
    /// A read of memory nobody wrote, or an undefined register where its value matters.
    Uninit,
    /// Misuse of an mbarrier object.
    Mbarrier,
    /// Transaction bytes of an mbarrier that do not add up.
    Tx,
    /// Misuse of a named or cluster barrier.
    Barrier,
    /// No thread can make progress.
    Deadlock,
    /// An aligned instruction executed by part of a warp.
    Divergence,
    /// A member mask that leaves out the executing lane.
    Mask,
    /// A matrix descriptor or tensor map that cannot be used.
    Descriptor,
    /// `setmaxnreg` beyond what the kernel or the block has.
    Register,
    /// Something reaches a block that has exited, or a thread trapped.
    Exit,
    /// A case of a known instruction that is not emulated.
    Unsupported,
    /// Schedules without findings that end with different values.
    Nondeterminism,
}

/// Whether a finding means the kernel is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The kernel is wrong.
    Error,
    /// The kernel may be right, but this is unwise.
    Lint,
}

/// The threads a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Thread {
    /// `%ctaid`
    pub block: [u32; 3],
    /// Warp in its block.
    pub warp: u32,
    /// Lanes, as a bit mask.
    pub lanes: u32,
    /// `%tid` of the lowest of these lanes.
    pub tid: [u32; 3],
}

/// The other side of a finding that two instructions make together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OtherSide {
    /// What it did, such as "write by a tensor copy".
    pub what: String,
    /// Line of the PTX text.
    pub line: u32,
    /// `file:line` of the kernel's source, if the PTX has `.loc` directives.
    pub source: Option<String>,
    /// Who did it.
    pub thread: Option<Thread>,
}

/// One mistake, the first time it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind.
    pub kind: FindingKind,
    /// How bad.
    pub severity: Severity,
    /// Line of the PTX text.
    pub line: u32,
    /// `file:line` of the kernel's source, if the PTX has `.loc` directives.
    pub source: Option<String>,
    /// Who did it, unless it is about the whole launch.
    pub thread: Option<Thread>,
    /// The address it is about: generic for global memory, `.shared::cluster` for shared.
    pub address: Option<u64>,
    /// What happened, in words.
    pub message: String,
    /// The instruction that it happened together with, of a race for example.
    pub other: Option<OtherSide>,
    /// What would mend it, where that is known.
    pub help: Option<String>,
    /// Seed of the schedule that showed it, which replays it.
    pub seed: u64,
    /// How often it happened at this line.
    pub count: u64,
}

/// Findings of one cluster, one for each kind and line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    index: FxHashMap<(FindingKind, u32), usize>,
}

/// Different (kind, line) pairs that are kept.
const CAP: usize = 100;

impl Findings {
    /// Counts a finding; `make` is called the first time only.
    #[cold]
    pub fn add(&mut self, kind: FindingKind, line: u32, make: impl FnOnce() -> Finding) {
        if let Some(&at) = self.index.get(&(kind, line)) {
            self.list[at].count += 1;
        } else if self.list.len() < CAP {
            self.index.insert((kind, line), self.list.len());
            self.list.push(make());
        }
    }

    /// Adds one that is made already.
    pub fn add_whole(&mut self, finding: Finding) {
        self.merge(Findings { list: vec![finding], index: FxHashMap::default() });
    }

    pub fn merge(&mut self, other: Findings) {
        for finding in other.list {
            match self.index.get(&(finding.kind, finding.line)) {
                Some(&at) => self.list[at].count += finding.count,
                None if self.list.len() < CAP => {
                    self.index.insert((finding.kind, finding.line), self.list.len());
                    self.list.push(finding);
                }
                None => {}
            }
        }
    }

    /// How many there are, repeats included.
    pub fn total(&self) -> u64 {
        self.list.iter().map(|finding| finding.count).sum()
    }

    pub fn into_vec(self) -> Vec<Finding> {
        self.list
    }
}
