//! Shared memory that one unit writes and reads itself: cp.async rings and epilogue staging.

use super::trace::{Agent, Event, Place};
use super::{Case, ProtocolError};
use crate::loc::Loc;
use crate::tile::Kernel;
use rustc_hash::FxHashMap;

/// How far a write has come on its way to its readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// cp.async, group not closed yet or closed as group `n`.
    InFlight(Option<usize>),
    /// This thread sees its own writes.
    Landed,
    /// Fenced towards the async proxy, not synchronised.
    Fenced,
    /// Every thread of the unit sees it; the flag says whether the async proxy does too.
    Visible(bool),
}

#[derive(Default)]
struct State {
    written: FxHashMap<Place, Written>,
    /// Read since the last meeting of the unit.
    read: Vec<Place>,
    copy_groups: usize,
    stores: Vec<Place>,
    /// Stores that were retired by the issuing thread, not yet known to the others.
    retired: Vec<Place>,
}

/// Checks one unit's own use of buffers: nothing read before it landed, nothing overwritten while it is read, fences
/// before asynchronous reads, nothing left behind.
pub(super) fn check(k: &Kernel, case: &Case, agent: &Agent) -> Result<(), ProtocolError> {
    let mut s = State::default();
    let role = &k.roles[agent.role].name;
    let fail = |loc: Loc, what: String| -> Result<(), ProtocolError> {
        Err(ProtocolError::Overlap { case: case.name.clone(), at: k.sources.display(loc), what: format!("role {role}: {what}") })
    };
    let name = |p: &Place| match p {
        Place::Copy { buffer, copy } => format!("copy {copy} of {}", k.buffers[*buffer].name),
        Place::Stage { pipe, ordinal } => {
            format!("stage {} of {}", ordinal % u64::from(k.pipes[*pipe].stages), k.pipes[*pipe].name)
        }
    };
    for (event, loc) in &agent.events {
        match event {
            Event::Write { place, asynchronous } => {
                if s.read.contains(place) {
                    fail(
                        *loc,
                        format!("{} is overwritten before all threads are past reading it: a `sync` is missing", name(place)),
                    )?;
                }
                if s.stores.contains(place) || s.retired.contains(place) {
                    fail(
                        *loc,
                        format!(
                            "{} is overwritten while a TMA store may still read it: a `tma_store_wait` and a `sync` are missing",
                            name(place)
                        ),
                    )?;
                }
                s.written.insert(*place, if *asynchronous { Written::InFlight(None) } else { Written::Landed });
            }
            Event::CopyCommit => {
                for w in s.written.values_mut().filter(|w| **w == Written::InFlight(None)) {
                    *w = Written::InFlight(Some(s.copy_groups));
                }
                s.copy_groups += 1;
            }
            Event::CopyWait { pending } => {
                let done = s.copy_groups.saturating_sub(*pending);
                for w in s.written.values_mut() {
                    if matches!(w, Written::InFlight(Some(g)) if *g < done) {
                        *w = Written::Landed;
                    }
                }
            }
            Event::Fence => s.written.values_mut().filter(|w| **w == Written::Landed).for_each(|w| *w = Written::Fenced),
            Event::Sync => {
                for w in s.written.values_mut() {
                    *w = match *w {
                        Written::Landed => Written::Visible(false),
                        Written::Fenced => Written::Visible(true),
                        other => other,
                    };
                }
                s.read.clear();
                s.retired.clear();
            }
            // A stage is seen by whoever waited for it: the simulation checks that.
            Event::Read { place: Place::Stage { .. } } => {}
            Event::Read { place } => {
                if !matches!(s.written.get(place), Some(Written::Visible(_))) {
                    fail(
                        *loc,
                        format!(
                            "{} is read before it has landed for every thread: wait for the copies, then `sync`",
                            name(place)
                        ),
                    )?;
                }
                s.read.push(*place);
            }
            Event::Store { place } => {
                match s.written.get(place) {
                    Some(Written::Visible(true)) => {}
                    Some(Written::Visible(false)) => fail(
                        *loc,
                        format!("{} is read by a TMA store without a proxy fence between its writes and the `sync`", name(place)),
                    )?,
                    _ => fail(*loc, format!("{} is read by a TMA store before the unit met: a `sync` is missing", name(place)))?,
                }
                s.stores.push(*place);
            }
            Event::StoreWait { pending } => {
                let done = s.stores.len().saturating_sub(*pending);
                s.retired.extend(s.stores.drain(..done));
            }
            _ => {}
        }
    }
    if let Some(p) = s.stores.first() {
        fail(
            agent.events.last().map_or(Loc::default(), |e| e.1),
            format!("ends while a TMA store may still read {}: wait for all stores first", name(p)),
        )?;
    }
    Ok(())
}
