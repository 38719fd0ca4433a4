//! Shared memory that the units of one role write and read themselves: cp.async rings, epilogue staging, partial sums.

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

/// Checks how the units of one role of one CTA use buffers: nothing read before it landed, nothing overwritten while it is
/// read, fences before asynchronous reads, nothing left behind. Units know of each other what lies before a meeting of the
/// whole role; between two meetings none touches what another writes.
pub(super) fn check(k: &Kernel, case: &Case, agents: &[&Agent]) -> Result<(), ProtocolError> {
    let meetings = meetings(agents);
    let mut states: Vec<State> = agents.iter().map(|_| State::default()).collect();
    let mut at = vec![0; agents.len()];
    loop {
        let mut touched = Vec::new();
        for ((agent, s), at) in agents.iter().zip(&mut states).zip(&mut at) {
            let rest = &agent.events[*at..];
            let length = rest.iter().position(|(e, _)| meets(e, &meetings)).unwrap_or(rest.len());
            touched.push(Touched::new(s, &rest[..length]));
            events(k, case, agent, s, &rest[..length])?;
            *at += length;
        }
        apart(k, case, agents, &touched)?;
        // Simulation has shown that all units get here.
        if at.iter().zip(agents).any(|(at, a)| *at == a.events.len()) {
            break;
        }
        at.iter_mut().for_each(|at| *at += 1);
        meet(&mut states);
    }
    for (s, agent) in states.iter().zip(agents) {
        if let Some(p) = s.stores.first() {
            let at = agent.events.last().map_or(Loc::default(), |e| e.1);
            let what = format!("ends while a TMA store may still read {}: wait for all stores first", name(k, p));
            return fail(k, case, agent, at, what);
        }
    }
    Ok(())
}

/// Named barriers at which every thread of the role waits: all units take part as often, and none only arrives.
fn meetings(agents: &[&Agent]) -> Vec<i64> {
    let Some(first) = agents.first() else { return Vec::new() };
    let all = agents.len() as u32 * first.threads;
    let of = |a: &Agent, wanted: i64, waits: bool| {
        a.events.iter().filter(|(e, _)| matches!(e, Event::Named { id, wait, .. } if *id == wanted && *wait == waits)).count()
    };
    let mut ids: Vec<i64> = Vec::new();
    for (e, _) in &first.events {
        if let Event::Named { id, threads, wait: true } = e
            && *threads == all
            && !ids.contains(id)
        {
            ids.push(*id);
        }
    }
    ids.retain(|id| agents.iter().all(|a| of(a, *id, true) == of(first, *id, true) && of(a, *id, false) == 0));
    ids
}

fn meets(e: &Event, meetings: &[i64]) -> bool {
    matches!(e, Event::Named { id, .. } if meetings.contains(id))
}

/// What a unit did to buffers between two meetings.
struct Touched {
    writes: Vec<(Place, Loc)>,
    /// Also what stores that began earlier may still read.
    uses: Vec<Place>,
}

impl Touched {
    fn new(s: &State, events: &[(Event, Loc)]) -> Self {
        let mut t = Touched { writes: Vec::new(), uses: s.stores.iter().chain(&s.retired).copied().collect() };
        for (event, loc) in events {
            match event {
                Event::Write { place: place @ Place::Copy { .. }, .. } => t.writes.push((*place, *loc)),
                Event::Read { place: place @ Place::Copy { .. } } | Event::Store { place: place @ Place::Copy { .. } } => {
                    t.uses.push(*place);
                }
                _ => {}
            }
        }
        t
    }
}

/// No unit writes what another touches before the next meeting.
fn apart(k: &Kernel, case: &Case, agents: &[&Agent], touched: &[Touched]) -> Result<(), ProtocolError> {
    for (i, mine) in touched.iter().enumerate() {
        for (place, loc) in &mine.writes {
            let other = touched
                .iter()
                .enumerate()
                .filter(|(j, _)| *j != i)
                .find(|(_, t)| t.uses.contains(place) || t.writes.iter().any(|(p, _)| p == place));
            if let Some((j, _)) = other {
                let what = format!(
                    "unit {i} writes {} while unit {j} uses it: the units must meet at a barrier of all their threads in between",
                    name(k, place)
                );
                return fail(k, case, agents[i], *loc, what);
            }
        }
    }
    Ok(())
}

/// The role meets: what each unit wrote is there for all.
fn meet(states: &mut [State]) {
    let mut seen = Vec::new();
    for s in states.iter_mut() {
        sync(s);
        let visible = s.written.iter().filter(|(_, w)| matches!(w, Written::Visible(_)));
        seen.extend(visible.map(|(p, w)| (*p, *w)));
    }
    for s in states {
        for (p, w) in &seen {
            s.written.entry(*p).or_insert(*w);
        }
    }
}

fn sync(s: &mut State) {
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

fn name(k: &Kernel, p: &Place) -> String {
    match p {
        Place::Copy { buffer, copy } => format!("copy {copy} of {}", k.buffers[*buffer].name),
        Place::Stage { pipe, ordinal } => {
            format!("stage {} of {}", ordinal % u64::from(k.pipes[*pipe].stages), k.pipes[*pipe].name)
        }
    }
}

fn fail(k: &Kernel, case: &Case, agent: &Agent, loc: Loc, what: String) -> Result<(), ProtocolError> {
    let role = &k.roles[agent.role].name;
    let at = k.sources.display(loc);
    Err(ProtocolError::Overlap { case: case.name.clone(), at, what: format!("role {role}: {what}") })
}

/// One unit's own use, up to a meeting.
fn events(k: &Kernel, case: &Case, agent: &Agent, s: &mut State, list: &[(Event, Loc)]) -> Result<(), ProtocolError> {
    let fail = |loc: Loc, what: String| fail(k, case, agent, loc, what);
    let name = |p: &Place| name(k, p);
    for (event, loc) in list {
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
            Event::Sync => sync(s),
            // The commit fences what the thread sees.
            Event::Commit { pipe, ordinal } => {
                let place = Place::Stage { pipe: *pipe, ordinal: *ordinal };
                match s.written.remove(&place) {
                    Some(Written::InFlight(_)) => {
                        fail(*loc, format!("{} is committed before its copies have landed: wait for them", name(&place)))?;
                    }
                    None => fail(*loc, format!("{} is committed, but the unit put nothing into it", name(&place)))?,
                    Some(_) => {}
                }
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
    Ok(())
}
