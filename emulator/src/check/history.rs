//! Who touched a place last: interned sets of accesses, so that a cell of shadow memory is two small numbers and the
//! thousands of cells of a tile, which are touched alike, share one set.

use super::clock::Agent;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// What an access was, for messages and for the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    Load,
    Store,
    Atomic,
    /// `ldmatrix`, `stmatrix`
    MatrixLoad,
    MatrixStore,
    /// `cp.async`, through the generic proxy.
    CpAsync,
    /// `cp.async.bulk` and `cp.async.bulk.tensor`
    Bulk,
    Tensor,
    Wgmma,
    /// `st.async`, `red.async`
    StAsync,
    /// `mbarrier.init`, `.inval`
    MBarrierInit,
    /// A tensor map, when a copy that uses it is issued.
    MapRead,
}

impl How {
    /// Whether it goes through the async proxy (PTX ISA 9.7.9.25.2).
    pub fn is_async(self) -> bool {
        matches!(self, How::Bulk | How::Tensor | How::Wgmma | How::MapRead)
    }

    /// Whether the accessing thread goes on before it is done.
    pub fn is_detached(self) -> bool {
        self.is_async() || matches!(self, How::CpAsync | How::StAsync)
    }
}

/// How far a strong operation is seen (PTX ISA 8.5); weak ones are not strong anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Strength {
    Weak,
    Cta,
    Cluster,
    Gpu,
}

/// One access, by an agent at a time of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    pub agent: Agent,
    pub time: u32,
    pub pc: u32,
    pub how: How,
    pub strength: Strength,
    /// Block in the launch, its cluster, and the warp in the block.
    pub cta: u32,
    pub cluster: u32,
    pub warp: u16,
}

impl Entry {
    /// Whether two strong operations see each other as such.
    pub fn morally_strong_with(&self, other: &Entry) -> bool {
        let reaches = |a: &Entry, b: &Entry| match a.strength {
            Strength::Weak => false,
            Strength::Cta => a.cta == b.cta,
            Strength::Cluster => a.cluster == b.cluster,
            Strength::Gpu => true,
        };
        reaches(self, other) && reaches(other, self)
    }

    /// Whether what is ordered after `self` is ordered after the `older` access of the same agent too.
    fn covers(&self, older: &Entry) -> bool {
        self.agent == older.agent && self.how.is_async() == older.how.is_async() && self.strength <= older.strength
    }
}

/// An interned set; 0 is the empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SetId(pub u32);

impl SetId {
    pub const EMPTY: SetId = SetId(0);
}

type Set = SmallVec<[Entry; 1]>;

#[derive(Debug)]
pub struct Histories {
    sets: Vec<Set>,
    /// Results of adding an entry to a set.
    added: FxHashMap<(SetId, Entry), SetId>,
    /// The latest results, by the low bits of the instruction.
    last: [Option<((SetId, Entry), SetId)>; 8],
    numbering: u32,
}

impl Default for Histories {
    fn default() -> Self {
        Histories { sets: vec![Set::new()], added: FxHashMap::default(), last: [None; 8], numbering: 0 }
    }
}

impl Histories {
    pub fn entries(&self, id: SetId) -> &[Entry] {
        &self.sets[id.0 as usize]
    }

    /// Changes when ids do.
    pub fn numbering(&self) -> u32 {
        self.numbering
    }

    /// How many sets there are.
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// The set with an entry more; older accesses of the same agent that it covers go.
    #[inline]
    pub fn with(&mut self, id: SetId, entry: Entry) -> SetId {
        if let Some((key, to)) = self.last[(entry.pc & 7) as usize]
            && key == (id, entry)
        {
            return to;
        }
        self.with_slowly(id, entry)
    }

    fn with_slowly(&mut self, id: SetId, entry: Entry) -> SetId {
        let key = (id, entry);
        let to = match self.added.get(&key) {
            Some(&to) => to,
            None => {
                let mut set: Set = self.sets[id.0 as usize].iter().filter(|old| !entry.covers(old)).copied().collect();
                if !set.contains(&entry) {
                    set.push(entry);
                }
                let to = SetId(self.sets.len() as u32);
                self.sets.push(set);
                self.added.insert(key, to);
                to
            }
        };
        self.last[(entry.pc & 7) as usize] = Some((key, to));
        to
    }

    /// Keeps only the sets in use, renumbered in order; the caller renames the ids it holds by the returned table.
    pub fn keep(&mut self, used: &[bool]) -> Vec<SetId> {
        let mut names = vec![SetId::EMPTY; self.sets.len()];
        let mut kept = vec![Set::new()];
        for (id, set) in self.sets.iter_mut().enumerate().skip(1) {
            if used[id] {
                names[id] = SetId(kept.len() as u32);
                kept.push(std::mem::take(set));
            }
        }
        self.sets = kept;
        self.added.clear();
        self.last = [None; 8];
        self.numbering += 1;
        names
    }
}
