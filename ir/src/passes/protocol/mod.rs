//! Proves a kernel's protocol before anything is emitted: no deadlock, no overlap, counts match.
//!
//! Control flow in a kernel depends on scalars only, so each role's synchronisation is a fixed list of events for given
//! trip counts. [`trace`] executes the scalar part of every role and writes that list down; [`simulate`] runs all lists
//! of a cluster against the barriers that `derive_barriers` planned, producers first and consumers first, bytes landing
//! at once and as late as possible. Trip counts are those where rings go wrong: 0, 1, S-1, S, S+1, 2S+1 iterations and
//! 0 to 3 tiles; the kernel's probes say which shape variable makes them.

mod buffers;
mod simulate;
mod trace;

use crate::tile::{Kernel, ProbeAxis};
use rustc_hash::FxHashMap;

/// A kernel whose roles do not fit together. `case` names the trip counts at which it shows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Nobody can go on.
    #[error("{case}: deadlock: {waiting}")]
    Deadlock {
        /// Trip counts.
        case: String,
        /// Who waits for what.
        waiting: String,
    },
    /// The bytes announced are not the bytes loaded.
    #[error("{case}: pipe {pipe} announces {announced} bytes a stage, its loads bring {brought}")]
    Bytes {
        /// Trip counts.
        case: String,
        /// Pipe.
        pipe: String,
        /// `tx_bytes`.
        announced: u32,
        /// Sum of the loads.
        brought: u32,
    },
    /// A barrier counts other arrivals than it gets.
    #[error("{case}: the {side} barriers of pipe {pipe} count {planned} arrivals, the roles make {made}")]
    Arrivals {
        /// Trip counts.
        case: String,
        /// Pipe.
        pipe: String,
        /// `full` or `empty`.
        side: &'static str,
        /// Planned.
        planned: u32,
        /// Made.
        made: u32,
    },
    /// Memory is overwritten, or read, or left, at the wrong time.
    #[error("{case}: {at}: {what}")]
    Overlap {
        /// Trip counts.
        case: String,
        /// The template's `file:line`.
        at: String,
        /// Which memory, who and why.
        what: String,
    },
    /// The kernel cannot be traced: control flow depends on something that is no scalar of the launch.
    #[error("{at}: {what}")]
    Untraceable {
        /// The template's `file:line`.
        at: String,
        /// Why.
        what: String,
    },
}

/// Values of the scalar parameters for one run of the check.
#[derive(Clone, Debug)]
pub(super) struct Case {
    name: String,
    params: FxHashMap<String, i64>,
}

/// Checks every case of a prepared kernel (barriers derived, memory planned).
pub fn check_protocol(k: &Kernel) -> Result<(), ProtocolError> {
    let ctas = k.cluster_size();
    for case in cases(k) {
        let mut traces = Vec::new();
        for cta in 0..ctas {
            traces.extend(trace::agents(k, &case, cta)?);
        }
        // Simulation shows that units meet as often as each other, which the check of buffers builds on.
        for order in simulate::Order::ALL {
            simulate::run(k, &case, &traces, order)?;
        }
        for cta in 0..ctas {
            for role in 0..k.roles.len() {
                let units: Vec<&trace::Agent> = traces.iter().filter(|t| t.cta == cta && t.role == role).collect();
                buffers::check(k, &case, &units)?;
            }
        }
    }
    Ok(())
}

/// The cases worth running: trips around the ring's depth, and a few tiles.
fn cases(k: &Kernel) -> Vec<Case> {
    let depth = i64::from(k.pipes.iter().map(|p| p.stages).chain(k.buffers.iter().map(|b| b.copies)).max().unwrap_or(1));
    let mut trips = vec![0, 1, depth - 1, depth, depth + 1, 2 * depth + 1];
    trips.sort_unstable();
    trips.dedup();
    let has = |axis| k.probes.iter().any(|p| p.axis == axis);
    let trips = if has(ProbeAxis::Trips) { trips } else { vec![1] };
    let tiles = if has(ProbeAxis::Tiles) { vec![0, 1, 2, 3] } else { vec![1] };
    let mut list = Vec::new();
    for &t in &trips {
        for &n in &tiles {
            let mut params: FxHashMap<String, i64> = k.scalars.iter().map(|s| (s.name.clone(), 1)).collect();
            for p in &k.probes {
                let count = if p.axis == ProbeAxis::Trips { t } else { n };
                params.insert(p.param.clone(), i64::from(p.unit) * count);
            }
            list.push(Case { name: format!("{}, {t} iterations, {n} tiles", k.name), params });
        }
    }
    list
}
