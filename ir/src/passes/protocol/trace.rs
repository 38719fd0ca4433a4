//! Executes the scalar part of a role and writes down what it does to barriers and shared memory.

use super::{Case, ProtocolError};
use crate::loc::Loc;
use crate::tile::{Kernel, Op, OpKind, Region, Role, Ty, Unit, Value};
use rustc_hash::FxHashMap;

/// A place in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// A stage of a pipe, by the ordinal of its use (stage = ordinal % depth).
    Stage { pipe: usize, ordinal: u64 },
    /// A copy of a buffer, of one warpgroup or the CTA.
    Copy { buffer: usize, copy: i64 },
}

/// What a role does, as far as others can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Wait until a stage is empty, then announce its bytes.
    Acquire { pipe: usize, ordinal: u64 },
    /// Start a copy into a stage: bytes for this CTA's tile, shared by so many CTAs.
    Load { pipe: usize, ordinal: u64, bytes: u32, multicast: u32 },
    /// What the unit itself put into a stage is there.
    Commit { pipe: usize, ordinal: u64 },
    /// Wait until a stage is full.
    Wait { pipe: usize, ordinal: u64 },
    /// Hand a stage back.
    Release { pipe: usize, ordinal: u64 },
    /// A wgmma group that reads these places.
    Mma { reads: Vec<Place> },
    /// At most this many groups pending.
    MmaWait { pending: usize },
    /// A named barrier.
    Named { id: i64, threads: u32, wait: bool },
    /// Generic or cp.async write of a place.
    Write { place: Place, asynchronous: bool },
    /// An ordinary load or ldmatrix of a place.
    Read { place: Place },
    /// TMA store of a place.
    Store { place: Place },
    /// At most this many stores still read.
    StoreWait { pending: usize },
    /// cp.async group closed.
    CopyCommit,
    /// At most this many cp.async groups pending.
    CopyWait { pending: usize },
    /// Generic-to-async proxy fence.
    Fence,
    /// The unit's threads meet.
    Sync,
}

/// One unit of one role of one CTA, and what it does.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    /// CTA rank in the cluster.
    pub cta: u32,
    /// Index of the role.
    pub role: usize,
    /// Unit index in the role.
    pub unit: u32,
    /// Threads of the unit.
    pub threads: u32,
    /// True if the role passes over stages.
    pub skips: bool,
    /// Events with their lines.
    pub events: Vec<(Event, Loc)>,
}

/// The traces of all units of one CTA.
pub(super) fn agents(k: &Kernel, case: &Case, cta: u32) -> Result<Vec<Agent>, ProtocolError> {
    let mut list = Vec::new();
    for (i, role) in k.roles.iter().enumerate() {
        let (units, threads) = (role.units(), role.unit_threads());
        for unit in 0..units {
            let mut t = Tracer {
                k,
                case,
                role,
                cta,
                unit,
                values: FxHashMap::default(),
                places: FxHashMap::default(),
                cells: FxHashMap::default(),
                cursors: vec![Cursor::default(); k.pipes.len()],
                events: Vec::new(),
                skips: false,
            };
            t.region(&role.body)?;
            list.push(Agent { cta, role: i, unit, threads, skips: t.skips, events: t.events });
        }
    }
    Ok(list)
}

/// Ordinals of the next stage to acquire or wait for, and to release.
#[derive(Clone, Copy, Default)]
struct Cursor {
    next: u64,
    release: u64,
}

/// More events than any sound kernel makes at these trip counts.
const MAX_EVENTS: usize = 200_000;

struct Tracer<'a> {
    k: &'a Kernel,
    case: &'a Case,
    role: &'a Role,
    cta: u32,
    unit: u32,
    values: FxHashMap<Value, i64>,
    places: FxHashMap<Value, Place>,
    cells: FxHashMap<Value, Option<i64>>,
    cursors: Vec<Cursor>,
    events: Vec<(Event, Loc)>,
    skips: bool,
}

impl Tracer<'_> {
    fn region(&mut self, r: &Region) -> Result<(), ProtocolError> {
        r.ops.iter().try_for_each(|op| self.op(op))
    }

    /// A loop or branch on a number found in memory that none of the role's partners would notice.
    fn skips_unseen(&self, op: &Op) -> bool {
        op.args.iter().any(|v| !self.values.contains_key(v)) && is_silent(&op.regions[0])
    }

    /// What a region that was passed over may have changed is not known any more.
    fn forget(&mut self, r: &Region) {
        r.walk(&mut |op| {
            if op.kind == OpKind::CellSet {
                self.cells.insert(op.args[0], None);
            }
        });
    }

    fn need(&self, op: &Op, i: usize) -> Result<i64, ProtocolError> {
        let v = op.args[i];
        self.values.get(&v).copied().ok_or_else(|| ProtocolError::Untraceable {
            at: self.k.sources.display(op.loc),
            what: format!("{} depends on %{}, which is not computed from the launch's scalars", op.kind.row().name, v.0),
        })
    }

    fn pipe(&self, op: &Op) -> usize {
        let name = op.attrs.get_sym("pipe");
        self.k.pipes.iter().position(|p| p.name == name).unwrap_or(0)
    }

    fn push(&mut self, op: &Op, e: Event) {
        self.events.push((e, op.loc));
    }

    fn op(&mut self, op: &Op) -> Result<(), ProtocolError> {
        use OpKind::*;
        if self.events.len() > MAX_EVENTS {
            return Err(ProtocolError::Untraceable {
                at: self.k.sources.display(op.loc),
                what: format!("role {} makes more than {MAX_EVENTS} events", self.role.name),
            });
        }
        let out = op.outs.first().copied();
        match op.kind {
            For if !self.skips_unseen(op) => {
                let (from, to, step) = (self.need(op, 0)?, self.need(op, 1)?, self.need(op, 2)?);
                if step <= 0 {
                    return Err(ProtocolError::Untraceable {
                        at: self.k.sources.display(op.loc),
                        what: format!("the loop's step is {step}"),
                    });
                }
                let body = &op.regions[0];
                let mut i = from;
                while i < to {
                    self.values.insert(body.args[0], i);
                    self.region(body)?;
                    i += step;
                }
            }
            // Neither tells other roles anything: the first by the verifier's rules, the second as far as one can see.
            WhileAny => self.forget(&op.regions[0]),
            If | For if self.skips_unseen(op) => self.forget(&op.regions[0]),
            If => {
                if self.need(op, 0)? != 0 {
                    self.region(&op.regions[0])?;
                }
            }
            CellNew => {
                self.cells.insert(op.outs[0], None);
            }
            CellSet => {
                let v = self.values.get(&op.args[1]).copied();
                self.cells.insert(op.args[0], v);
            }
            CellGet => {
                if let Some(Some(v)) = self.cells.get(&op.args[0]).copied() {
                    self.values.insert(op.outs[0], v);
                } else {
                    self.values.remove(&op.outs[0]);
                }
            }
            PipeAcquire | PipeWait => {
                let pipe = self.pipe(op);
                let ordinal = self.cursors[pipe].next;
                self.cursors[pipe].next += 1;
                self.values.insert(op.outs[0], ordinal as i64);
                self.push(
                    op,
                    if op.kind == PipeAcquire { Event::Acquire { pipe, ordinal } } else { Event::Wait { pipe, ordinal } },
                );
            }
            PipeCommit if self.role.unit != Unit::Thread => {
                let (pipe, ordinal) = (self.pipe(op), self.need(op, 0)? as u64);
                self.push(op, Event::Commit { pipe, ordinal });
            }
            PipePeek => {
                let pipe = self.pipe(op);
                let ordinal = self.cursors[pipe].next;
                self.values.insert(op.outs[0], ordinal as i64);
                self.push(op, Event::Wait { pipe, ordinal });
            }
            PipeSkip => {
                let (pipe, count) = (self.pipe(op), self.need(op, 0)?);
                self.skips = true;
                self.cursors[pipe].next += count as u64;
                self.cursors[pipe].release += count as u64;
            }
            PipeRelease => {
                if op.args.is_empty() || self.need(op, 0)? != 0 {
                    let pipe = self.pipe(op);
                    let ordinal = self.cursors[pipe].release;
                    self.cursors[pipe].release += 1;
                    self.push(op, Event::Release { pipe, ordinal });
                }
            }
            PipeSlot => {
                // The stage operand carries the ordinal: `PipeWait` and `PipeAcquire` put it there.
                let place = Place::Stage { pipe: self.pipe(op), ordinal: self.need(op, 0)? as u64 };
                self.places.insert(op.outs[0], place);
            }
            BufferTile => {
                let name = op.attrs.get_sym("buffer");
                let buffer = self.k.buffers.iter().position(|b| b.name == name).unwrap_or(0);
                self.places.insert(op.outs[0], Place::Copy { buffer, copy: self.need(op, 0)? });
            }
            SmemRows | SmemView | SmemPanels => {
                if let Some(p) = self.places.get(&op.args[0]).copied() {
                    self.places.insert(op.outs[0], p);
                }
            }
            TmaLoad | BulkLoad => {
                let pipe = self.pipe(op);
                let slot = &self.k.pipes[pipe].slots[op.attrs.get_int("slot") as usize];
                let Ty::Smem(tile) = self.k.ty(op.args[0]) else { unreachable!("the verifier checked operand types") };
                let ordinal = self.need(op, 1)? as u64;
                self.push(op, Event::Load { pipe, ordinal, bytes: tile.bytes(), multicast: slot.multicast });
            }
            MmaAsync => {
                let reads = op.args[1..3].iter().filter_map(|v| self.places.get(v).copied()).collect();
                self.push(op, Event::Mma { reads });
            }
            MmaWait | MmaReady => self.push(op, Event::MmaWait { pending: op.attrs.get_int("n") as usize }),
            TmaStore | StMatrix | StoreShared | ZeroRows | LdMatrix | LoadShared | CopyAsync | CopyRows => {
                if let Some(place) = self.places.get(&op.args[0]).copied() {
                    self.push(
                        op,
                        match op.kind {
                            TmaStore => Event::Store { place },
                            StMatrix | StoreShared | ZeroRows => Event::Write { place, asynchronous: false },
                            CopyAsync | CopyRows => Event::Write { place, asynchronous: op.attrs.get_int("vec") > 1 },
                            _ => Event::Read { place },
                        },
                    );
                }
            }
            TmaStoreWait => self.push(op, Event::StoreWait { pending: op.attrs.get_int("n") as usize }),
            CopyCommit => self.push(op, Event::CopyCommit),
            CopyWait => self.push(op, Event::CopyWait { pending: op.attrs.get_int("n") as usize }),
            FenceAsync => self.push(op, Event::Fence),
            UnitSync => self.push(op, Event::Sync),
            BarSync | BarArrive => {
                let id = self.need(op, 0)?;
                self.push(op, Event::Named { id, threads: op.attrs.get_int("threads") as u32, wait: op.kind == BarSync });
            }
            LoadScalar if *self.k.ty(op.outs[0]) != Ty::F32 => {
                // What the launch would find there: a probe of the tensor's name says it, of a list of lengths or ends of
                // sequences for the first of them; each further one lies as far on.
                let v = self.case.params.get(op.attrs.get_sym("tensor")).copied().unwrap_or(0);
                let steps = if op.args.len() == 1 { self.need(op, 0)?.saturating_add(1) } else { 1 };
                let v = v.saturating_mul(steps);
                self.values.insert(op.outs[0], v);
            }
            _ => {
                if let (Some(out), Some(v)) = (out, self.scalar(op)) {
                    self.values.insert(out, v);
                }
            }
        }
        Ok(())
    }

    fn scalar(&self, op: &Op) -> Option<i64> {
        use OpKind::*;
        let a = |i: usize| op.args.get(i).and_then(|v| self.values.get(v)).copied();
        Some(match op.kind {
            Const if *self.k.ty(op.outs[0]) != Ty::F32 => op.attrs.get_int("value"),
            Param => *self.case.params.get(op.attrs.get_sym("name"))?,
            CtaId => {
                if op.attrs.get_int("axis") == 0 {
                    i64::from(self.cta)
                } else {
                    0
                }
            }
            NCtas => i64::from(self.k.cluster_size()),
            ClusterRank => i64::from(self.cta),
            WgIndex => i64::from(self.unit),
            Uniform => a(0)?,
            Add => a(0)?.checked_add(a(1)?)?,
            Sub => a(0)?.checked_sub(a(1)?)?,
            Mul => a(0)?.checked_mul(a(1)?)?,
            Div => a(0)?.checked_div(a(1)?)?,
            Rem => a(0)?.checked_rem(a(1)?)?,
            Min => a(0)?.min(a(1)?),
            Max => a(0)?.max(a(1)?),
            Cmp => {
                let (x, y) = (a(0)?, a(1)?);
                i64::from(match op.attrs.get_sym("pred") {
                    "eq" => x == y,
                    "ne" => x != y,
                    "lt" => x < y,
                    "le" => x <= y,
                    "gt" => x > y,
                    _ => x >= y,
                })
            }
            Select => {
                if a(0)? != 0 {
                    a(1)?
                } else {
                    a(2)?
                }
            }
            _ => return None,
        })
    }
}

/// Whether a region does nothing to barriers and shared memory.
fn is_silent(r: &Region) -> bool {
    use OpKind::*;
    let mut silent = true;
    r.walk(&mut |op| {
        silent &= matches!(op.kind, For | If | WhileAny | CellNew | CellGet | CellSet)
            || matches!(op.kind, LoadScalar | LoadElems | StoreElems | LoadRun | LoadRows | StoreRows | LdTile | StTile)
            || matches!(op.kind, Atomic | AtomicCas | AddRows | Any | ScalarOf | Scan | Reduce | ReduceLanes | Uniform)
            || op.kind.row().pure && !matches!(op.kind, PipeSlot | BufferTile);
    });
    silent
}
