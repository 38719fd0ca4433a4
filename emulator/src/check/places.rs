//! What strong writes pass on to strong reads of the same place: release and acquire patterns (PTX ISA 8.7).

use super::checker::Place;
use super::clock::{Agent, Clock};
use super::history::Strength;
use rustc_hash::FxHashMap;

/// What blocks of one reach released at a place.
#[derive(Debug)]
struct Part {
    /// The warp that released it, if it was one.
    by: Option<Agent>,
    cta: u32,
    cluster: u32,
    reach: Strength,
    clock: Clock,
}

/// Stands for blocks of several numbers.
const MANY: u32 = u32::MAX;

/// Places in shared memory are told apart by cluster.
#[derive(Debug, Default)]
pub struct Places {
    at: FxHashMap<(u32, Place), Vec<Part>>,
}

/// Whether a scope around one block includes another.
pub fn reaches(reach: Strength, one: (u32, u32), other: (u32, u32)) -> bool {
    match reach {
        Strength::Weak => false,
        Strength::Cta => one.0 == other.0,
        Strength::Cluster => one.1 == other.1,
        Strength::Gpu => true,
    }
}

fn key(cluster: u32, place: Place) -> (u32, Place) {
    match place {
        Place::Shared { .. } => (cluster, place),
        Place::Global { .. } => (0, place),
    }
}

impl Places {
    /// A strong write, or with `update` a read-modify-write, which continues the release sequence it is in.
    pub fn write(
        &mut self,
        in_: u32,
        place: Place,
        by: Agent,
        who: (u32, u32),
        passes: Option<(Strength, &Clock)>,
        update: bool,
    ) {
        let (cta, cluster) = who;
        if passes.is_none() && !self.at.contains_key(&key(in_, place)) {
            return;
        }
        let parts = self.at.entry(key(in_, place)).or_default();
        if !update {
            // A release goes on through later strong writes of the same thread.
            parts.retain(|part| part.by == Some(by));
        }
        let Some((reach, clock)) = passes else { return };
        // Wide releases of many blocks go together: who they were matters to narrow readers only.
        let wide = reach == Strength::Gpu;
        let full = parts.len() >= 4;
        let same = |part: &&mut Part| part.reach == reach && (part.cta == cta || wide && (part.cta == MANY || full));
        match parts.iter_mut().find(same) {
            Some(part) => {
                if part.cta != cta {
                    (part.cta, part.cluster) = (MANY, MANY);
                }
                if part.by != Some(by) {
                    part.by = None;
                }
                part.clock.join(clock);
            }
            None => parts.push(Part { by: Some(by), cta, cluster, reach, clock: clock.clone() }),
        }
    }

    /// Hands over what a read of this reach acquires, with the blocks that released it.
    pub fn read(
        &self,
        in_: u32,
        place: Place,
        (cta, cluster): (u32, u32),
        reach: Strength,
        mut found: impl FnMut((u32, u32), &Clock),
    ) {
        let Some(parts) = self.at.get(&key(in_, place)) else { return };
        for part in parts {
            let released = reaches(part.reach, (part.cta, part.cluster), (cta, cluster));
            let acquired = reaches(reach, (cta, cluster), (part.cta, part.cluster));
            if released && acquired {
                found((part.cta, part.cluster), &part.clock);
            }
        }
    }
}
