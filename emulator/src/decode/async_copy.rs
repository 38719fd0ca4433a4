//! cp.async, cp.async.bulk, cp.async.bulk.tensor and their reductions.

use super::decoder::{Decoder, Result};
use super::memory::{atom_op, take_order};
use super::modifiers::Modifiers;
use super::moves::take_space;
use super::ty::Ty;
use crate::parse::ast::{Operand, Space};
use crate::program::memory_op::{Addr, Bulk, BulkRoute, Completion, CpAsync, Order, Prefetch, Scope, Tma, TmaReduce};
use crate::program::sync_op::{MBarrier, MBarrierKind};
use crate::program::{Op, R, Reg};
use smallvec::SmallVec;

impl Decoder<'_> {
    pub(super) fn async_copy(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let reduce = m.take("reduce");
        if !m.take("async") {
            return self.unknown();
        }
        if m.take("bulk") {
            return self.bulk(reduce, m, ops);
        }
        if reduce {
            return self.unknown();
        }
        if m.take("commit_group") {
            self.expect_operands(ops, 0)?;
            return Ok(Op::CpAsyncCommit);
        }
        if m.take("wait_all") {
            self.expect_operands(ops, 0)?;
            return Ok(Op::CpAsyncWait(None));
        }
        if m.take("wait_group") {
            return Ok(Op::CpAsyncWait(Some(self.constant(ops, 0)?)));
        }
        if m.take("mbarrier") {
            if !m.take("arrive") {
                return self.unknown();
            }
            let no_inc = m.take("noinc");
            let space = take_space(m).unwrap_or(Space::Generic);
            self.ty(m)?;
            self.expect_operands(ops, 1)?;
            let kind = MBarrierKind::CpAsyncArrive { no_inc };
            return Ok(Op::MBarrier(Box::new(MBarrier {
                kind,
                addr: self.addr(&ops[0])?,
                space,
                order: Order::Weak,
                scope: Scope::Cta,
            })));
        }
        self.cp_async(m, ops)
    }

    /// A non-negative integer constant operand.
    pub(super) fn constant(&self, ops: &[Operand], at: usize) -> Result<u32> {
        match ops.get(at) {
            Some(Operand::Int(value)) if (0..=i64::from(u32::MAX)).contains(value) => Ok(*value as u32),
            _ => self.error("expected an integer constant"),
        }
    }

    fn cp_async(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let Some(bypass_l1) = m.choose(&[("ca", false), ("cg", true)]) else { return self.unknown() };
        if self.take_space_in_order(m) != Some(Space::Shared) || self.take_space_in_order(m) != Some(Space::Global) {
            return self.unknown();
        }
        m.take_cache_hints();
        if !(3..=5).contains(&ops.len()) {
            return self.unknown();
        }
        let bytes = self.constant(ops, 2)?;
        if !matches!(bytes, 4 | 8 | 16) || (bypass_l1 && bytes != 16) {
            return self.error(format!("cannot copy {bytes} bytes"));
        }
        let (mut src_bytes, mut ignore_src) = (None, None);
        if let Some(operand) = ops.get(3) {
            match self.reg(operand) {
                Some(Reg::P(_)) => ignore_src = Some(self.src_pred(operand)?),
                // A 64-bit register here is a cache policy.
                Some(Reg::D(_)) => {}
                _ if matches!(operand, Operand::NotReg(_)) => ignore_src = Some(self.src_pred(operand)?),
                _ => src_bytes = Some(self.src32(operand, Ty::U(32))?),
            }
        }
        let (dst, src) = (self.addr(&ops[0])?, self.addr(&ops[1])?);
        Ok(Op::CpAsync(Box::new(CpAsync { dst, src, bytes, src_bytes, ignore_src })))
    }

    fn bulk(&mut self, reduce: bool, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        if m.take("commit_group") {
            self.expect_operands(ops, 0)?;
            return Ok(Op::BulkCommit);
        }
        if m.take("wait_group") {
            let read = m.take("read");
            return Ok(Op::BulkWait { pending: self.constant(ops, 0)?, read });
        }
        if m.take("prefetch") {
            return self.bulk_prefetch(m, ops);
        }
        if m.take("tensor") {
            return self.tensor(reduce, m, ops);
        }
        // In the order they are written: destination, source, completion, then the hints.
        let (Some(to), Some(from)) = (self.take_space_in_order(m), self.take_space_in_order(m)) else {
            return self.unknown();
        };
        let to_group = m.take("bulk_group");
        let to_mbarrier = m.take("mbarrier::complete_tx::bytes");
        let multicast = m.take("multicast::cluster");
        m.take_cache_hints();
        if reduce {
            take_order(m);
        }
        let reduce = if reduce {
            let names = ["and", "or", "xor", "add", "inc", "dec", "min", "max"];
            let Some(name) = names.into_iter().find(|name| m.take(name)) else { return self.unknown() };
            m.take("noftz");
            let ty = self.ty(m)?;
            let Some(op) = atom_op(name, ty) else { return self.unknown() };
            let op = if self.ring { op.in_ring() } else { op };
            Some((op, ty.bits() / 8))
        } else {
            None
        };
        let route = match (to, from, to_group, to_mbarrier) {
            (Space::Shared | Space::SharedCluster, Space::Global, false, true) => BulkRoute::GlobalToShared,
            (Space::Global, Space::Shared, true, false) => BulkRoute::SharedToGlobal,
            (Space::SharedCluster, Space::Shared, false, true) => BulkRoute::SharedToCluster,
            _ => return self.unknown(),
        };
        if m.take("cp_mask") {
            return self.error("byte masks are not supported");
        }
        if reduce.is_some() && route == BulkRoute::SharedToGlobal {
            self.talks_through_global = true;
        }
        let mut rest = ops.iter();
        let (Some(dst), Some(src), Some(bytes)) = (rest.next(), rest.next(), rest.next()) else {
            return self.error("takes a destination, a source and a size");
        };
        let (dst, src, bytes) = (self.addr(dst)?, self.addr(src)?, self.src32(bytes, Ty::U(32))?);
        let completion = self.completion(to_mbarrier, rest.next())?;
        let multicast = self.cta_mask(multicast, rest.next())?;
        Ok(Op::Bulk(Box::new(Bulk { route, dst, src, bytes, completion, multicast, reduce, own_cta: to == Space::Shared })))
    }

    fn completion(&mut self, to_mbarrier: bool, operand: Option<&Operand>) -> Result<Completion> {
        match (to_mbarrier, operand) {
            (true, Some(operand)) => Ok(Completion::MBarrier(self.addr(operand)?)),
            (true, None) => self.error("takes the address of an mbarrier"),
            (false, _) => Ok(Completion::Group),
        }
    }

    fn cta_mask(&mut self, multicast: bool, operand: Option<&Operand>) -> Result<Option<R>> {
        match (multicast, operand) {
            (true, Some(operand)) => Ok(Some(self.src32(operand, Ty::B(16))?)),
            (true, None) => self.error("takes a mask of blocks"),
            (false, _) => Ok(None),
        }
    }

    fn take_space_in_order(&self, m: &mut Modifiers) -> Option<Space> {
        // `take_space` goes by its own table; here the textual order tells destination from source.
        let first = m.all().iter().find_map(|part| match *part {
            "shared" | "shared::cta" => Some("s"),
            "shared::cluster" => Some("c"),
            "global" => Some("g"),
            _ => None,
        })?;
        let order: [(&str, Space); 4] = match first {
            "g" => [
                ("global", Space::Global),
                ("shared::cta", Space::Shared),
                ("shared", Space::Shared),
                ("shared::cluster", Space::SharedCluster),
            ],
            "c" => [
                ("shared::cluster", Space::SharedCluster),
                ("global", Space::Global),
                ("shared::cta", Space::Shared),
                ("shared", Space::Shared),
            ],
            _ => [
                ("shared::cta", Space::Shared),
                ("shared", Space::Shared),
                ("global", Space::Global),
                ("shared::cluster", Space::SharedCluster),
            ],
        };
        m.choose(&order)
    }

    fn bulk_prefetch(&mut self, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let tensormap = m.take("tensor");
        m.take_any(&["1d", "2d", "3d", "4d", "5d", "tile", "im2col", "global"]);
        m.take_cache_hints();
        let Some(first) = ops.first() else { return self.unknown() };
        let addr = self.addr_base(first)?;
        Ok(Op::Prefetch(Box::new(Prefetch { space: if tensormap { Space::Generic } else { Space::Global }, addr, tensormap })))
    }

    /// `[map, {coordinates}]`
    fn map_operand(&mut self, operand: &Operand, rank: usize) -> Result<(Addr, SmallVec<[R; 5]>)> {
        let map = self.addr_base(operand)?;
        let Operand::Address { extra, .. } = operand else { return self.unknown() };
        let items: &[Operand] = match extra.as_slice() {
            [Operand::Vector(items)] => items,
            [] => return self.error("the tensor map has no coordinates"),
            items => items,
        };
        if items.len() != rank {
            return self.error(format!("{} coordinates for a tensor of rank {rank}", items.len()));
        }
        let coords = items.iter().map(|item| self.src32(item, Ty::S(32))).collect::<Result<_>>()?;
        Ok((map, coords))
    }

    fn tensor(&mut self, reduce: bool, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        let Some(rank) = m.choose(&[("1d", 1usize), ("2d", 2), ("3d", 3), ("4d", 4), ("5d", 5)]) else {
            return self.unknown();
        };
        let modes = ["im2col::w", "im2col::w::128", "tile::gather4", "tile::scatter4"];
        if m.all().iter().any(|part| modes.contains(part)) {
            return self.error("needs sm_100, the emulator runs sm_80 to sm_90a");
        }
        let (with_offsets, without) = (m.take("im2col"), m.take("im2col_no_offs"));
        if (with_offsets || without) && rank < 3 {
            return self.error("im2col needs 3 to 5 dimensions");
        }
        let (Some(to), Some(from)) = (self.take_space_in_order(m), self.take_space_in_order(m)) else {
            return self.unknown();
        };
        m.take("tile");
        let to_group = m.take("bulk_group");
        let to_mbarrier = m.take("mbarrier::complete_tx::bytes");
        let multicast = m.take("multicast::cluster");
        m.take("cta_group::1");
        m.take_cache_hints();
        let load = match (to, from, to_group, to_mbarrier) {
            (Space::Shared | Space::SharedCluster, Space::Global, false, true) if !reduce => true,
            (Space::Global, Space::Shared, true, false) => false,
            _ => return self.unknown(),
        };
        if load && without || !load && with_offsets {
            return self.unknown();
        }
        let reduce = if reduce {
            let op = m.choose(&[
                ("add", TmaReduce::Add),
                ("min", TmaReduce::Min),
                ("max", TmaReduce::Max),
                ("inc", TmaReduce::Inc),
                ("dec", TmaReduce::Dec),
                ("and", TmaReduce::And),
                ("or", TmaReduce::Or),
                ("xor", TmaReduce::Xor),
            ]);
            if op.is_none() {
                return self.unknown();
            }
            self.talks_through_global = true;
            op
        } else {
            None
        };
        let mut rest = ops.iter();
        let (Some(first), Some(second)) = (rest.next(), rest.next()) else {
            return self.error("takes a shared address and a tensor map");
        };
        let (shared, map) = if load { (first, second) } else { (second, first) };
        let shared = self.addr(shared)?;
        let (map, coords) = self.map_operand(map, rank)?;
        let completion = self.completion(to_mbarrier, if load { rest.next() } else { None })?;
        let im2col = match (with_offsets, without) {
            (true, _) => match rest.next() {
                Some(Operand::Vector(items)) if items.len() == rank - 2 => {
                    Some(items.iter().map(|item| self.src32(item, Ty::B(16))).collect::<Result<_>>()?)
                }
                _ => return self.error(format!("takes {} offsets in braces", rank - 2)),
            },
            (false, true) => Some(SmallVec::new()),
            (false, false) => None,
        };
        let multicast = self.cta_mask(multicast, if load { rest.next() } else { None })?;
        Ok(Op::Tma(Box::new(Tma {
            load,
            im2col,
            map,
            map_space: Space::Generic,
            shared,
            coords,
            completion,
            multicast,
            reduce,
            own_cta: to == Space::Shared,
        })))
    }
}
