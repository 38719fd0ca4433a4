//! What the counters and the checker see of accesses and synchronisation, and what the checker's hazards say.

use super::access::lanes_of;
use super::cluster::{At, Cluster};
use super::probe::{Access, Memory, RangeAccess, WarpAccess};
use crate::check::{Act, Actor, Conflict, Entry, Fenced, Hazard, How, LaneClash, Place, Spell, Strength, Touch};
use crate::finding::{FindingKind, OtherSide, Severity, Thread};
use crate::memory::space::{CTA_OFFSET_MASK, CTA_SHIFT, RESERVED_SHARED, Target};
use crate::parse::ast::Space;
use crate::program::memory_op::{Order, Scope};
use crate::program::op::Fence;

/// What lanes are about to write, by lane.
pub type Values<'v> = &'v dyn Fn(usize) -> u128;

/// How far an order is seen.
pub(super) fn strength(order: Order, scope: Scope) -> Strength {
    match (order, scope) {
        (Order::Weak, _) => Strength::Weak,
        (_, Scope::Cta) => Strength::Cta,
        (_, Scope::Cluster) => Strength::Cluster,
        (_, Scope::Gpu | Scope::Sys) => Strength::Gpu,
    }
}

fn touch_of(access: Access) -> Touch {
    match access {
        Access::Read => Touch::Read,
        Access::Write => Touch::Write,
        Access::Atomic => Touch::Update,
    }
}

fn shared_place(address: u64) -> Place {
    Place::Shared { cta: (address >> CTA_SHIFT) as usize, offset: address as u32 & CTA_OFFSET_MASK }
}

impl<'a> Cluster<'a> {
    fn actor(&self, at: &At) -> Actor {
        match self.acting {
            Some((id, _)) => Actor::Op(id),
            None => Actor::Warp { cta: at.cta, warp: at.warp },
        }
    }

    /// As `observe`, for addresses of a state space; generic ones are told apart first.
    pub(super) fn observe_in(&mut self, space: Space, access: WarpAccess, how: How, values: Option<Values<'_>>) {
        if space != Space::Generic {
            return self.observe(&access, how, values);
        }
        let mut parts = [(Memory::Global, 0), (Memory::Shared, 0), (Memory::Local, 0)];
        let mut addresses = *access.addresses;
        for lane in lanes_of(access.lanes) {
            let part = match self.target(space, addresses[lane]) {
                Target::Global(_) => 0,
                Target::Shared(address) => {
                    addresses[lane] = address.into();
                    1
                }
                Target::Local(_) | Target::Param(_) => 2,
            };
            parts[part].1 |= 1 << lane;
        }
        for (memory, lanes) in parts.into_iter().filter(|(_, lanes)| *lanes != 0) {
            self.observe(&WarpAccess { memory, lanes, addresses: &addresses, ..access }, how, values);
        }
    }

    /// An access of a warp's lanes, before it happens.
    pub(super) fn observe(&mut self, access: &WarpAccess, how: How, values: Option<Values<'_>>) {
        self.probe.warp_access(access);
        if self.check.is_none() || access.memory == Memory::Local || access.lanes == 0 {
            return;
        }
        let At { cta, warp, .. } = access.at;
        let strong = strength(access.order, access.scope);
        let first = lanes_of(access.lanes).next().unwrap_or(0);
        let sync_at = |address: u64| match access.memory {
            Memory::Shared => shared_place(address),
            _ => Place::Global { address },
        };
        let how = self.acting.map_or(how, |(_, how)| how);
        let act = Act { actor: self.actor(&access.at), pc: access.at.pc, how, touch: touch_of(access.access), strength: strong };
        let sees_values = access.access == Access::Write && self.sees_others && access.memory == Memory::Global;
        let bytes: Option<[[u8; 16]; 32]> =
            values.filter(|_| sees_values).map(|value| std::array::from_fn(|lane| value(lane).to_le_bytes()));
        let is_row = self.is_row(access);
        let inside = match access.memory {
            _ if is_row => u32::MAX,
            Memory::Global => self.lanes_in_buffers(access),
            _ => self.lanes_in_live_blocks(access),
        };
        if access.access == Access::Write && strong == Strength::Weak && self.acting.is_none() && !is_row {
            self.check_lanes_apart(access, values);
        }
        let Some(check) = &mut self.check else { return };
        if strong != Strength::Weak && access.access != Access::Write {
            let acquires = matches!(access.order, Order::Acquire | Order::AcqRel);
            for address in distinct(access.addresses, access.lanes, first) {
                check.strong_read(cta, warp, sync_at(address), strong, acquires);
            }
        }
        if bytes.is_none() && is_row {
            check.access(&act, 0, sync_at(access.addresses[0]), 32 * access.bytes);
        } else {
            let places = lanes_of(inside).map(|lane| {
                let value = bytes.as_ref().map(|bytes| &bytes[lane][..access.bytes.min(16) as usize]);
                (sync_at(access.addresses[lane]), access.bytes, value)
            });
            check.access_all(&act, 0, places);
        }
        if strong != Strength::Weak && access.access != Access::Read {
            let releases = matches!(access.order, Order::Release | Order::AcqRel);
            let update = access.access == Access::Atomic;
            for address in distinct(access.addresses, access.lanes, first) {
                check.strong_write(cta, warp, sync_at(address), strong, releases, update);
            }
        }
        if let (Some(meeting), Memory::Shared) = (access.meeting, access.memory) {
            let offset_of = |lane: usize| access.addresses[lane] as u32 & CTA_OFFSET_MASK;
            let own = |lane: usize| (access.addresses[lane] >> CTA_SHIFT) as usize == cta;
            let lanes = lanes_of(inside).filter(|&lane| own(lane)).map(|lane| (lane as u8, offset_of(lane)));
            let row = (is_row && own(0)).then(|| offset_of(0));
            let what = (access.bytes, access.access == Access::Write, access.at.pc);
            let spell = Spell { warp: warp as u16, meeting };
            if let Some(clash) = check.touch_lanes(cta, spell, row, lanes, what) {
                self.report_clash(access, &clash);
            }
        }
        self.report_hazards(access.lanes, Some((access, values)));
    }

    /// Whether all lanes' accesses are one range, of memory that is there; of the own block, if it is shared.
    fn is_row(&self, access: &WarpAccess) -> bool {
        if access.lanes != u32::MAX || !consecutive(access) {
            return false;
        }
        let (first, bytes) = (access.addresses[0], 32 * u64::from(access.bytes));
        match access.memory {
            Memory::Global => self.m.global.find(first, bytes).is_ok(),
            _ => [first, first + bytes - 1].iter().all(|address| (address >> CTA_SHIFT) as usize == access.at.cta),
        }
    }

    #[cold]
    fn report_clash(&mut self, access: &WarpAccess, clash: &LaneClash) {
        let At { cta, warp, .. } = access.at;
        let first = At { pc: clash.pc, ..access.at };
        let does = if access.access == Access::Write { "write" } else { "read" };
        let did = if clash.before_wrote { "write" } else { "read" };
        let other = OtherSide {
            what: did.into(),
            line: self.line(&first),
            source: self.m.source(clash.pc),
            thread: Some(self.thread(&first, 1 << clash.before)),
        };
        let address = u64::from(clash.offset) + ((cta as u64) << CTA_SHIFT);
        let help = "put bar.warp.sync between the two: lanes of a warp need not run in step".to_string();
        let (kind, line) = (FindingKind::Race, other.line);
        self.report_full(kind, Severity::Error, &access.at, 1 << clash.now, Some(address), Some(other), Some(help), || {
            let (offset, LaneClash { now, before, .. }) = (clash.offset.saturating_sub(RESERVED_SHARED), clash);
            format!(
                "{does} at offset {offset} of shared memory by lane {now} of warp {warp} after the {did} by its lane \
                 {before} at line {line}, which nothing orders before it"
            )
        });
    }

    /// Lanes of one store must not write the same place: which of them lasts is not defined.
    fn check_lanes_apart(&mut self, access: &WarpAccess, values: Option<Values<'_>>) {
        let ascending = |lanes: u32| {
            let mut last = None;
            lanes_of(lanes).all(|lane| last.replace(access.addresses[lane]).is_none_or(|before| before < access.addresses[lane]))
        };
        if ascending(access.lanes) {
            return;
        }
        let mut sorted: smallvec::SmallVec<[(u64, usize); 32]> =
            lanes_of(access.lanes).map(|l| (access.addresses[l], l)).collect();
        sorted.sort_unstable();
        let Some(pair) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) else { return };
        let same = |a: usize, b: usize| values.is_some_and(|value| value(a) == value(b));
        let differ = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0 && !same(pair[0].1, pair[1].1));
        let (kind, severity, [(address, first), (_, second)]) = match differ {
            Some(pair) => (FindingKind::Race, Severity::Error, [pair[0], pair[1]]),
            None => (FindingKind::RaceEqual, Severity::Lint, [pair[0], pair[1]]),
        };
        let help = "let one lane write, or use an atomic".to_string();
        self.report_full(kind, severity, &access.at, 1 << first | 1 << second, Some(address), None, Some(help), || {
            let what = if severity == Severity::Error { "different values" } else { "the same value" };
            format!("lanes {first} and {second} write {what} to {address:#x} in one instruction")
        });
    }

    /// Lanes whose shared address is of a block that exists and has not exited; others are findings of their own.
    fn lanes_in_live_blocks(&self, access: &WarpAccess) -> u32 {
        let alive = |address: u64| {
            let cta = (address >> CTA_SHIFT) as usize;
            cta == access.at.cta || self.ctas.get(cta).is_some_and(|cta| cta.live_warps != 0)
        };
        lanes_of(access.lanes).filter(|&lane| alive(access.addresses[lane])).fold(0, |mask, lane| mask | 1 << lane)
    }

    /// Lanes whose whole access is inside of an allocation: only those have a shadow.
    fn lanes_in_buffers(&self, access: &WarpAccess) -> u32 {
        let mut last: Option<(u64, u64)> = None;
        let mut inside = 0;
        for lane in lanes_of(access.lanes) {
            let address = access.addresses[lane];
            let end = address.wrapping_add(access.bytes.into());
            if !last.is_some_and(|(low, high)| low <= address && end <= high && address < end) {
                last = self.m.global.find(address, access.bytes.into()).ok().map(|b| (b.base, b.base + b.bytes));
                if last.is_none() {
                    continue;
                }
            }
            inside |= 1 << lane;
        }
        inside
    }

    /// Consecutive bytes that an asynchronous operation touches; `value` is what it writes.
    pub(super) fn observe_range(&mut self, range: &RangeAccess, value: Option<&[u8]>) {
        self.probe.range_access(range);
        if self.check.is_none() || range.bytes == 0 {
            return;
        }
        let place = match range.memory {
            Memory::Shared => shared_place(range.address),
            _ => Place::Global { address: range.address },
        };
        if range.memory == Memory::Global && self.m.global.find(range.address, range.bytes.into()).is_err() {
            return;
        }
        let act = Act {
            actor: self.actor(&range.at),
            pc: range.at.pc,
            how: self.acting.map_or(How::Bulk, |(_, how)| how),
            touch: touch_of(range.access),
            // Reductions of the async proxy are relaxed at .gpu scope (PTX ISA 9.7.9.25.4.2).
            strength: if range.access == Access::Atomic { Strength::Gpu } else { Strength::Weak },
        };
        if let Some(check) = &mut self.check {
            check.access_all(&act, 0, std::iter::once((place, range.bytes, value)));
        }
        self.report_hazards(1, None);
    }

    /// 16 bytes of shared memory that a warpgroup's operation reads, as all its warps (0) or one of them (1 to 4) see.
    pub(super) fn observe_operand(&mut self, at: &At, chunks: &[(u32, usize)]) {
        let act = Act { actor: self.actor(at), pc: at.pc, how: How::Wgmma, touch: Touch::Read, strength: Strength::Weak };
        let Some(check) = &mut self.check else { return };
        for run in chunks.chunk_by(|a, b| a.1 == b.1) {
            let places = run.iter().map(|(offset, _)| (Place::Shared { cta: at.cta, offset: *offset }, 16, None));
            check.access_all(&act, run[0].1, places);
        }
        self.report_hazards(u32::MAX, None);
    }

    pub(super) fn observe_fence(&mut self, at: &At, fence: Fence) {
        let Some(check) = &mut self.check else { return };
        match fence {
            Fence::Memory { order, scope, .. } => {
                let (acquires, releases) = (order != Order::Release, order != Order::Acquire);
                check.fence_memory(at.cta, at.warp, strength(order, scope), acquires, releases);
            }
            Fence::ProxyAsync { only } => {
                let what: &[Fenced] = match only {
                    Some(Space::Global) => &[Fenced::Global],
                    Some(_) => &[Fenced::Shared],
                    None => &[Fenced::Shared, Fenced::Global],
                };
                check.fence_proxy(at.cta, at.warp, what);
            }
            Fence::ProxyAsyncGeneric { .. } => check.fence_proxy(at.cta, at.warp, &[Fenced::Shared]),
            // Either side is a fence between threads too.
            Fence::ProxyTensorMap { order: Order::Acquire, scope, .. } => {
                check.fence_memory(at.cta, at.warp, strength(Order::Acquire, scope), true, false);
                check.acquire_maps(at.cta, at.warp);
            }
            Fence::ProxyTensorMap { scope, .. } => {
                check.fence_proxy(at.cta, at.warp, &[Fenced::TensorMapReleased]);
                check.fence_memory(at.cta, at.warp, strength(Order::Release, scope), false, true);
            }
            Fence::MBarrierInit => check.fence_inits(at.cta, at.warp),
            _ => {}
        }
    }

    /// A copy reads its tensor map from global memory.
    pub(super) fn observe_map(&mut self, at: &At, lanes: u32, address: u64) {
        let actor = self.actor(at);
        let Some(check) = &mut self.check else { return };
        let act = Act { actor, pc: at.pc, how: How::MapRead, touch: Touch::Read, strength: Strength::Weak };
        check.access(&act, 0, Place::Global { address }, crate::tensor_map::BYTES as u32);
        self.report_hazards(lanes, None);
    }

    /// Somebody uses the mbarrier at a place.
    pub(super) fn observe_mbarrier(&mut self, at: &At, place: (usize, u32)) {
        let actor = self.actor(at);
        let how = self.acting.map_or(How::Atomic, |(_, how)| how);
        let Some(check) = &mut self.check else { return };
        let act = Act { actor, pc: at.pc, how, touch: Touch::Update, strength: Strength::Cluster };
        check.use_mbarrier(&act, place);
        self.report_hazards(1, None);
    }

    pub(super) fn report_hazards(&mut self, lanes: u32, write: Option<(&WarpAccess, Option<Values<'_>>)>) {
        let Some(hazards) = self.check.as_mut().and_then(|check| check.take_hazards()) else { return };
        for hazard in hazards {
            self.report_hazard(lanes, &hazard, write);
        }
    }

    #[cold]
    fn report_hazard(&mut self, lanes: u32, hazard: &Hazard, write: Option<(&WarpAccess, Option<Values<'_>>)>) {
        let Hazard { now, before, place, .. } = hazard;
        let at = At { cta: (now.cta % self.ctas.len() as u32) as usize, warp: usize::from(now.warp), pc: now.pc };
        let (address, where_) = match *place {
            Place::Shared { cta, offset } => {
                let rank = if self.ctas.len() > 1 { format!(" of block rank {cta}") } else { String::new() };
                let text = format!("offset {} of shared memory{rank}", offset.saturating_sub(RESERVED_SHARED));
                (u64::from(offset) + ((cta as u64) << CTA_SHIFT), text)
            }
            Place::Global { address } => (address, self.m.global.place(address)),
        };
        let lanes = match write {
            Some((access, _)) => lanes_of(access.lanes)
                .filter(|&lane| address.wrapping_sub(access.addresses[lane]) < access.bytes.into())
                .fold(0, |mask, lane| mask | 1 << lane),
            None => lanes,
        };
        let equal = hazard.conflict == Conflict::Unordered
            && !hazard.before_read
            && hazard.touch == Touch::Write
            && write.is_some_and(|(access, values)| self.writes_the_same(access, values, *place, address, lanes));
        let (kind, severity) = match hazard.conflict {
            Conflict::Unordered if equal => (FindingKind::RaceEqual, Severity::Lint),
            Conflict::Unordered => (FindingKind::Race, Severity::Error),
            Conflict::Unfenced => (FindingKind::Proxy, Severity::Error),
            // Real failures are known, but so is shipped code without this fence.
            Conflict::UnfencedRead => (FindingKind::Proxy, Severity::Lint),
        };
        let (does, did) =
            (verb(now.how, hazard.touch), verb(before.how, if hazard.before_read { Touch::Read } else { Touch::Write }));
        let other = self.other_side(before, did);
        let same_warp = before.cta == now.cta && before.warp == now.warp;
        let who = if same_warp {
            "by the same warp".to_string()
        } else if before.cta == now.cta {
            format!("by warp {}", before.warp)
        } else {
            format!("by block {:?} warp {}", self.block_id(before.cta), before.warp)
        };
        let line = other.line;
        let problem = match hazard.conflict {
            Conflict::Unordered => "which nothing orders before it",
            Conflict::Unfenced if now.how == How::MapRead => "which no fence.proxy.tensormap makes visible",
            Conflict::Unfenced => "which no proxy fence makes visible to the async proxy",
            Conflict::UnfencedRead => "which no proxy fence puts before it",
        };
        let help = super::advice::advice(hazard);
        self.report_full(kind, severity, &at, lanes, Some(address), Some(other), Some(help), || {
            format!("{does} at {where_} after the {did} {who} at line {line}, {problem}")
        });
    }

    /// Whether the bytes at a place already are what the lanes write there.
    fn writes_the_same(&self, access: &WarpAccess, values: Option<Values<'_>>, place: Place, address: u64, lanes: u32) -> bool {
        let (Some(values), Some(lane)) = (values, lanes_of(lanes).next()) else { return false };
        let old = match place {
            Place::Shared { cta, offset } => {
                let shared = &self.ctas[cta].shared;
                if !shared.is_init(offset, 1) {
                    return false;
                }
                shared.load(offset, 1)
            }
            Place::Global { address } => match self.m.global.find(address, 1) {
                Ok(buffer) => buffer.load(address - buffer.base, 1),
                Err(_) => return false,
            },
        };
        let shift = 8 * (address - access.addresses[lane]);
        let size = if address.is_multiple_of(4) && access.bytes >= 4 { 4 } else { 1 };
        if size == 1 {
            return old as u8 == (values(lane) >> shift) as u8;
        }
        let old = match place {
            Place::Shared { cta, offset } => self.ctas[cta].shared.load(offset, 4),
            Place::Global { address } => self.m.global.find(address, 4).map_or(0, |b| b.load(address - b.base, 4)),
        };
        old as u32 == (values(lane) >> shift) as u32
    }

    fn block_id(&self, cta_in_launch: u32) -> [u32; 3] {
        let size = self.ctas.len() as u32;
        self.m.block_of(cta_in_launch / size, cta_in_launch % size)
    }

    fn other_side(&self, entry: &Entry, what: &str) -> OtherSide {
        let kernel = self.m.kernel;
        let first = u32::from(entry.warp) * 32;
        OtherSide {
            what: what.to_string(),
            line: kernel.code.get(entry.pc as usize).map_or(0, |inst| inst.line),
            source: self.m.source(entry.pc),
            thread: Some(Thread {
                block: self.block_id(entry.cta),
                warp: entry.warp.into(),
                lanes: u32::MAX,
                tid: self.m.tid(first),
            }),
        }
    }
}

/// Whether the lanes' accesses are one range.
fn consecutive(access: &WarpAccess) -> bool {
    let (first, bytes) = (access.addresses[0], u64::from(access.bytes));
    (0..32).all(|lane| access.addresses[lane] == first.wrapping_add(lane as u64 * bytes))
}

/// Addresses of a few lanes that differ, the first lane's first.
fn distinct(addresses: &[u64; 32], lanes: u32, first: usize) -> impl Iterator<Item = u64> {
    let mut out: smallvec::SmallVec<[u64; 4]> = smallvec::smallvec![addresses[first]];
    for lane in lanes_of(lanes) {
        if out.last() != Some(&addresses[lane]) {
            out.push(addresses[lane]);
        }
    }
    out.into_iter()
}

/// What an access is called.
fn verb(how: How, touch: Touch) -> &'static str {
    let read = touch == Touch::Read;
    match how {
        How::Load | How::Store if read => "read",
        How::Load | How::Store => "write",
        How::Atomic if read => "strong read",
        How::Atomic => "atomic",
        How::MatrixLoad | How::MatrixStore if read => "ldmatrix read",
        How::MatrixLoad | How::MatrixStore => "stmatrix write",
        How::CpAsync if read => "read by cp.async",
        How::CpAsync => "write by cp.async",
        How::Bulk if read => "read by a bulk copy",
        How::Bulk => "write by a bulk copy",
        How::Tensor if read => "read by a tensor copy",
        How::Tensor => "write by a tensor copy",
        How::Wgmma => "operand read by wgmma",
        How::StAsync => "write by st.async",
        How::MBarrierInit => "mbarrier.init",
        How::MapRead => "read of a tensor map",
    }
}
