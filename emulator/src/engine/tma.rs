//! Tensor copies.

use super::access::lanes_of;
use super::cluster::{At, Cluster};
use super::copies::{Chunk, merge};
use super::probe::Access;
use super::queue::{Action, BulkTarget, Issued, TmaAction};
use super::step::Flow;
use super::warp::{GroupOp, Warp};
use crate::finding::FindingKind;
use crate::memory::space::Target;
use crate::parse::ast::Space;
use crate::program::memory_op::{AtomOp, Completion, Tma, TmaReduce};
use crate::tensor::Arithmetic;
use crate::tensor::im2col::Im2col;
use crate::tensor::tma::{TensorDType, TensorMap};

impl<'a> Cluster<'a> {
    /// The tensor map at an address of parameter, constant or global memory.
    pub(super) fn tensor_map(&mut self, at: &At, lanes: u32, space: Space, address: u64) -> Option<(TensorMap, Option<Im2col>)> {
        let mut bytes = [0u8; 128];
        if !address.is_multiple_of(64) {
            self.report(FindingKind::Misaligned, at, lanes, Some(address), || {
                format!("tensor map address {address:#x} is not a multiple of 64")
            });
            return None;
        }
        match self.target(space, address) {
            Target::Param(offset) => match self.m.params.get(offset as usize..offset as usize + 128) {
                Some(slice) => bytes.copy_from_slice(slice),
                None => {
                    self.report(FindingKind::Oob, at, lanes, Some(address), || {
                        "the tensor map is not inside the parameters".into()
                    });
                    return None;
                }
            },
            Target::Global(address) => {
                let buffer = self.global_at(at, lanes, address, 128, 1)?;
                self.observe_map(at, lanes, address);
                let mut init = [false; 128];
                buffer.read_bytes(address - buffer.base, &mut bytes, &mut init);
            }
            Target::Shared(_) | Target::Local(_) => {
                self.report(FindingKind::Descriptor, at, lanes, Some(address), || {
                    "a tensor map must be in parameter, constant or global memory".into()
                });
                return None;
            }
        }
        match crate::tensor_map::decode(&bytes) {
            Ok(map) => {
                let window = crate::tensor_map::window(&bytes, &map);
                Some((map, window))
            }
            Err(why) => {
                self.report(FindingKind::Descriptor, at, lanes, Some(address), || why.to_string());
                None
            }
        }
    }

    pub(super) fn tma(&mut self, warp: &mut Warp, at: &At, mask: u32, op: &Tma) -> Flow {
        for lane in lanes_of(mask) {
            // Findings say what went wrong; the copy does not happen.
            let _ = self.tma_lane(warp, at, lane, op);
        }
        Flow::Next
    }

    fn tma_lane(&mut self, warp: &mut Warp, at: &At, lane: usize, op: &Tma) -> Option<()> {
        let lanes = 1u32 << lane;
        let address = self.address_of_lane(warp, at, lane, &op.map)?;
        let (map, window) = self.tensor_map(at, lanes, op.map_space, address)?;
        let rank = map.rank();
        if rank != op.coords.len() {
            let given = op.coords.len();
            self.report(FindingKind::Descriptor, at, lanes, Some(address), || {
                format!("a {given}d copy uses a tensor map of rank {rank}")
            });
            return None;
        }
        let mut coords = Vec::with_capacity(rank);
        for reg in &op.coords {
            if (warp.regs.rdef(*reg) >> lane) & 1 == 0 {
                self.report(FindingKind::Uninit, at, lanes, None, || "a tensor coordinate is undefined".into());
            }
            coords.push(warp.regs.r(*reg)[lane] as i32);
        }
        let window = match (&op.im2col, window) {
            (None, None) => None,
            (Some(offsets), Some(window)) => {
                let mut given: Vec<i32> = offsets.iter().map(|reg| warp.regs.r(*reg)[lane] as i32 & 0xffff).collect();
                given.resize(rank - 2, 0);
                let undefined = offsets.iter().any(|reg| (warp.regs.rdef(*reg) >> lane) & 1 == 0);
                if undefined {
                    self.report(FindingKind::Uninit, at, lanes, None, || "an im2col offset is undefined".into());
                }
                Some((window, given))
            }
            (copy, _) => {
                let (copy, map) = if copy.is_some() { ("im2col", "tiled") } else { ("tiled", "im2col") };
                self.report(FindingKind::Descriptor, at, lanes, Some(address), || {
                    format!("{copy} copy with a tensor map that is {map}")
                });
                return None;
            }
        };
        if window.is_some() && !op.load && coords.iter().any(|coord| *coord < 0) {
            self.report(FindingKind::Descriptor, at, lanes, None, || {
                format!("coordinates {coords:?} of an im2col store must not be negative")
            });
            return None;
        }
        let shared = self.address_of_lane(warp, at, lane, &op.shared)?;
        let mut action = TmaAction { map, window, coords, targets: Vec::new(), reduce: op.reduce };
        let bytes = action.bytes();
        let place = self.shared_at(at, lanes, shared, bytes, 128, !op.load || op.own_cta)?;
        let mut due = warp.last_due;
        if !op.load {
            let source = BulkTarget { cta: place.cta, offset: place.offset, barrier: (0, 0) };
            action.targets.push(source);
            let Issued { id, token } = self.issue(*at, Action::TmaStore(Box::new(action)), &mut due);
            if self.tracks_groups() {
                warp.bulk.open.push(GroupOp { id, lanes, pc: at.pc, token, told: false });
            }
            return Some(());
        }
        let Completion::MBarrier(barrier) = op.completion else { return None };
        let barrier = self.address_of_lane(warp, at, lane, &barrier)?;
        let space = if op.own_cta { Space::Shared } else { Space::SharedCluster };
        let barrier = self.barrier_place(at, lanes, space, barrier, true)?;
        action.targets = self.targets(warp, at, lane, place, barrier, op.multicast)?;
        self.issue(*at, Action::TmaLoad(Box::new(action)), &mut due);
        Some(())
    }

    pub(super) fn perform_tma_load(&mut self, at: At, tma: &TmaAction) {
        let map = &tma.map;
        let bytes = tma.bytes();
        let mut image = Chunk::new(bytes as usize);
        for run in tma.runs() {
            let range = run.shared_offset as usize..(run.shared_offset + run.bytes) as usize;
            let Some(address) = run.global else {
                map.fill(&mut image.data[range]);
                continue;
            };
            match self.m.global.find(address, run.bytes.into()) {
                Ok(buffer) => {
                    buffer.read_bytes(address - buffer.base, &mut image.data[range.clone()], &mut image.init[range]);
                }
                Err(why) => {
                    image.init[range].fill(false);
                    self.report(FindingKind::Oob, &at, 1, Some(address), || format!("tensor copy reads {why}"));
                }
            }
            self.global_range(at, Access::Read, address, run.bytes, None);
        }
        for target in &tma.targets {
            self.shared_range(at, Access::Write, target.cta, target.offset, bytes);
            let cta = &mut self.ctas[target.cta];
            if let Some(barrier) = cta.mbarrier_at(target.offset, bytes) {
                self.write_to_mbarrier(&at, 1, barrier);
            } else {
                let mut offset = 0;
                while offset < bytes {
                    let take = (bytes - offset).min(16) as usize;
                    let from = offset as usize;
                    let to = map.swizzle.apply(target.offset + offset);
                    cta.shared.write_bytes(to, &image.data[from..from + take], &image.init[from..from + take]);
                    offset += 16;
                }
            }
            self.complete_tx(&at, target.barrier, bytes);
        }
    }

    pub(super) fn perform_tma_store(&mut self, at: At, tma: &TmaAction) {
        let map = &tma.map;
        let Some(source) = tma.targets.first() else { return };
        let bytes = tma.bytes();
        let mut image = Chunk::new(bytes as usize);
        let shared = &self.ctas[source.cta].shared;
        let mut offset = 0;
        while offset < bytes {
            let take = (bytes - offset).min(16) as usize;
            let at = offset as usize;
            let from = map.swizzle.apply(source.offset + offset);
            shared.read_bytes(from, &mut image.data[at..at + take], &mut image.init[at..at + take]);
            offset += 16;
        }
        self.shared_range(at, Access::Read, source.cta, source.offset, bytes);
        let ring = self.m.arithmetic == Arithmetic::Ring;
        let element_op = |op| reduce_op(op, map.dtype).map(|op| if ring { op.in_ring() } else { op });
        let reduce = match tma.reduce.map(element_op) {
            Some(None) => {
                let dtype = map.dtype;
                self.report(FindingKind::Unsupported, &at, 1, None, || {
                    format!("{:?} of {dtype:?} elements is not a tensor reduction", tma.reduce)
                });
                return;
            }
            Some(Some(op)) => Some(op),
            None => None,
        };
        for run in tma.runs() {
            let Some(address) = run.global else { continue };
            let range = run.shared_offset as usize..(run.shared_offset + run.bytes) as usize;
            let mut part = Chunk { data: image.data[range.clone()].to_vec(), init: image.init[range].to_vec() };
            let access = if reduce.is_some() { Access::Atomic } else { Access::Write };
            self.global_range(at, access, address, run.bytes, Some(&part.data));
            match self.m.global.find(address, run.bytes.into()) {
                Ok(buffer) => {
                    let to = address - buffer.base;
                    if let Some(op) = reduce {
                        let mut old = Chunk::new(part.data.len());
                        buffer.read_bytes(to, &mut old.data, &mut old.init);
                        merge(&mut part, &old, op, map.dtype.bytes());
                    }
                    buffer.write_bytes(to, &part.data, &part.init);
                }
                Err(why) => self.report(FindingKind::Oob, &at, 1, Some(address), || format!("tensor copy writes {why}")),
            }
        }
    }
}

/// The element operation of a tensor reduction (PTX ISA 9.7.9.27.5.3).
fn reduce_op(op: TmaReduce, dtype: TensorDType) -> Option<AtomOp> {
    use TensorDType as T;
    Some(match (op, dtype) {
        (TmaReduce::Add, T::F16) => AtomOp::AddF16,
        (TmaReduce::Add, T::Bf16) => AtomOp::AddBf16,
        (TmaReduce::Add, T::F32) => AtomOp::AddF32,
        (TmaReduce::Add, T::F64) => AtomOp::AddF64,
        (TmaReduce::Add, T::U32 | T::S32 | T::U64 | T::S64) => AtomOp::Add,
        (TmaReduce::Min, T::F16) => AtomOp::MinF16,
        (TmaReduce::Max, T::F16) => AtomOp::MaxF16,
        (TmaReduce::Min, T::Bf16) => AtomOp::MinBf16,
        (TmaReduce::Max, T::Bf16) => AtomOp::MaxBf16,
        (TmaReduce::Min, T::U32 | T::U64) => AtomOp::MinU,
        (TmaReduce::Max, T::U32 | T::U64) => AtomOp::MaxU,
        (TmaReduce::Min, T::S32 | T::S64) => AtomOp::MinS,
        (TmaReduce::Max, T::S32 | T::S64) => AtomOp::MaxS,
        (TmaReduce::Inc, T::U32) => AtomOp::Inc,
        (TmaReduce::Dec, T::U32) => AtomOp::Dec,
        (TmaReduce::And, T::U32 | T::S32 | T::U64 | T::S64) => AtomOp::And,
        (TmaReduce::Or, T::U32 | T::S32 | T::U64 | T::S64) => AtomOp::Or,
        (TmaReduce::Xor, T::U32 | T::S32 | T::U64 | T::S64) => AtomOp::Xor,
        _ => return None,
    })
}
