//! When two accesses to the same bytes are in order (PTX ISA 8.9 and 8.6), and when they collide.

use super::clock::{Clock, Fenced};
use super::history::{Entry, Histories, SetId};
use super::shadow::Cell;

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    Read,
    Write,
    /// Reads and writes as one.
    Update,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Nothing orders the two.
    Unordered,
    /// They are in order, but a generic write needs a proxy fence before an access of the async proxy.
    Unfenced,
    /// A generic read needs one before an asynchronous write.
    UnfencedRead,
}

/// What an acting agent has behind it, and which sets of accesses it knows to lie there entirely.
#[derive(Clone, Debug, Default)]
pub struct Viewer {
    pub clock: Clock,
    /// By what fences are about, as histories and fences differ.
    known: [Known; 4],
}

/// Sets known to be behind, by the low bits of the id. Knowledge only grows, so this stays true, until the sets are
/// numbered anew.
#[derive(Clone, Debug, Default)]
struct Known {
    ids: [SetId; 32],
    numbering: u32,
}

impl Viewer {
    pub fn new(clock: Clock) -> Self {
        Viewer { clock, known: Default::default() }
    }

    /// The earliest access of a set that collides with `now`.
    fn collision(&mut self, histories: &Histories, id: SetId, now: &Entry, fenced: Fenced) -> Option<(Entry, Conflict)> {
        let known = &mut self.known[fenced as usize];
        if known.numbering != histories.numbering() {
            *known = Known { ids: Default::default(), numbering: histories.numbering() };
        }
        let slot = &mut known.ids[(id.0 & 31) as usize];
        if id == SetId::EMPTY || *slot == id {
            return None;
        }
        let mut excused = false;
        let mut unfenced = None;
        for before in histories.entries(id) {
            if self.clock.before.get(before.agent) < before.time {
                if now.morally_strong_with(before) {
                    excused = true;
                    continue;
                }
                return Some((*before, Conflict::Unordered));
            }
            let crosses = now.how.is_async() && !before.how.is_async();
            if crosses && self.clock.fenced(fenced).get(before.agent) < before.time && unfenced.is_none() {
                unfenced = Some((*before, Conflict::Unfenced));
            }
        }
        if unfenced.is_none() && !excused {
            *slot = id;
        }
        unfenced
    }
}

/// Touches a cell: what collides, and the cell afterwards.
pub fn touch(
    viewer: &mut Viewer,
    histories: &mut Histories,
    cell: Cell,
    now: &Entry,
    touch: Touch,
    fenced: Fenced,
) -> (Cell, Option<(Entry, Conflict)>) {
    let written = viewer.collision(histories, cell.writers, now, fenced);
    if touch == Touch::Read {
        return (Cell { readers: histories.with(cell.readers, *now), ..cell }, written);
    }
    let read = viewer.collision(histories, cell.readers, now, fenced);
    let read = read.map(|(before, conflict)| match conflict {
        Conflict::Unfenced => (before, Conflict::UnfencedRead),
        other => (before, other),
    });
    // A strong write leaves other strong ones beside it that nothing orders; a weak one is alone.
    let keep = now.strength != super::history::Strength::Weak;
    let base = if keep { cell.writers } else { SetId::EMPTY };
    let readers = if keep && read.is_some() { cell.readers } else { SetId::EMPTY };
    (Cell { writers: histories.with(base, *now), readers }, written.or(read))
}
