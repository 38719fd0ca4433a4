//! `wmma.load`, `wmma.store` and `wmma.mma`.

use super::access::{POISON_VALUE, lanes_of};
use super::cluster::{At, Cluster};
use super::matrices::fill;
use super::probe::{Access, Memory, WarpAccess};
use super::regs::FULL;
use super::step::Flow;
use super::warp::Warp;
use crate::check::How;
use crate::finding::FindingKind;
use crate::memory::space::Target;
use crate::parse::ast::Space;
use crate::program::memory_op::{Order, Scope};
use crate::program::sync_op::{Wmma, WmmaMemory};
use crate::tensor::wmma::{IMAGE_BYTES, Image, wmma};

/// The pieces that a warp moves a matrix in: one to a lane, 32 at a time.
struct Pieces {
    /// Bytes of each: a power of two.
    bytes: u32,
    count: usize,
    /// Of the piece at an offset of the image in memory's order, where it lies in memory.
    start: u64,
    line_bytes: u64,
    pitch: u64,
}

impl Pieces {
    fn address(&self, piece: usize) -> u64 {
        let offset = piece as u64 * u64::from(self.bytes);
        self.start.wrapping_add(offset / self.line_bytes * self.pitch + offset % self.line_bytes)
    }

    /// Addresses of the n-th round and the lanes that have one.
    fn round(&self, round: usize) -> ([u64; 32], u32) {
        let left = self.count - 32 * round;
        let lanes = if left >= 32 { FULL } else { (1 << left) - 1 };
        (std::array::from_fn(|lane| self.address(32 * round + lane)), lanes)
    }
}

impl Cluster<'_> {
    /// What a warp accesses, if its lanes agree on it and it may.
    fn wmma_pieces(&mut self, warp: &Warp, at: &At, mask: u32, op: &WmmaMemory, name: &str) -> Option<Pieces> {
        if self.check_aligned(warp, at, mask, name) && mask != FULL {
            self.report(FindingKind::Divergence, at, mask, None, || {
                format!("{name} needs all 32 lanes, {:#010x} have exited", !mask)
            });
        }
        let [lines, length] = op.matrix.lines();
        let addresses = self.addresses(warp, at, mask, &op.addr);
        let first = lanes_of(addresses.lanes).next()?;
        let start = addresses.of[first];
        let differ = lanes_of(addresses.lanes).filter(|&lane| addresses.of[lane] != start).fold(0, |all, lane| all | 1 << lane);
        let mut stride = u64::from(length);
        let mut strides_differ = 0;
        if let Some(reg) = op.stride {
            let undefined = mask & !warp.regs.rdef(reg);
            if undefined != 0 {
                self.report(FindingKind::Uninit, at, undefined, None, || format!("the stride of {name} is undefined"));
                return None;
            }
            let row = warp.regs.r(reg);
            stride = u64::from(row[first]);
            strides_differ = lanes_of(mask).filter(|&lane| row[lane] != row[first]).fold(0, |all, lane| all | 1 << lane);
        }
        if differ | strides_differ != 0 {
            let what = if differ != 0 { "addresses" } else { "strides" };
            self.report(FindingKind::Divergence, at, differ | strides_differ, None, || {
                format!("all lanes must give {name} the same address and stride, these {what} differ from lane {first}'s")
            });
            return None;
        }
        if stride < u64::from(length) {
            self.report(FindingKind::Descriptor, at, mask, None, || {
                format!("stride {stride} of {name} is less than the {length} elements of a line")
            });
            return None;
        }
        // PTX asks for lines aligned to the fragment, CUDA for no more than 16 bytes; both for the start.
        let fragment = 4 * op.matrix.words as u64;
        if !start.is_multiple_of(fragment) {
            self.report(FindingKind::Misaligned, at, mask, Some(start), || {
                format!("address {start:#x} is not a multiple of {fragment}, the bytes of a fragment of {name}")
            });
            return None;
        }
        let bytes = fragment.min(16) as u32;
        let bits = u64::from(op.matrix.bits);
        let (line_bytes, pitch) = (u64::from(length) * bits / 8, stride * bits);
        if !pitch.is_multiple_of(8 * u64::from(bytes)) {
            self.report(FindingKind::Misaligned, at, mask, Some(start), || {
                format!("stride {stride} of {name} starts lines at other than multiples of {bytes} bytes")
            });
            return None;
        }
        let count = (u64::from(lines) * line_bytes / u64::from(bytes)) as usize;
        Some(Pieces { bytes, count, start, line_bytes, pitch: pitch / 8 })
    }

    fn wmma_access<'a>(at: &At, op: &WmmaMemory, pieces: &Pieces, addresses: &'a [u64; 32], lanes: u32) -> WarpAccess<'a> {
        WarpAccess {
            at: *at,
            lanes,
            memory: Memory::of(op.space),
            access: if op.load { Access::Read } else { Access::Write },
            order: Order::Weak,
            scope: Scope::Cta,
            addresses,
            bytes: pieces.bytes,
            meeting: None,
        }
    }

    pub(super) fn wmma_memory(&mut self, warp: &mut Warp, at: &At, mask: u32, op: &WmmaMemory) -> Flow {
        if op.load {
            self.wmma_load(warp, at, mask, op)
        } else {
            self.wmma_store(warp, at, mask, op)
        }
        Flow::Next
    }

    fn wmma_load(&mut self, warp: &mut Warp, at: &At, mask: u32, op: &WmmaMemory) {
        let mut image = [POISON_VALUE as u8; IMAGE_BYTES];
        if let Some(pieces) = self.wmma_pieces(warp, at, mask, op, "wmma.load") {
            for round in 0..pieces.count.div_ceil(32) {
                let (addresses, lanes) = pieces.round(round);
                self.observe_in(op.space, Self::wmma_access(at, op, &pieces, &addresses, lanes), How::Load, None);
                for lane in lanes_of(lanes) {
                    let value = self.load_piece_of_matrix(at, lane, op.space, addresses[lane], pieces.bytes);
                    let to = (32 * round + lane) * pieces.bytes as usize;
                    image[to..to + pieces.bytes as usize].copy_from_slice(&value.to_le_bytes()[..pieces.bytes as usize]);
                }
            }
        }
        let mut words = [[0; 32]; 8];
        let words = &mut words[..op.matrix.words];
        op.matrix.to_lanes(&op.matrix.reorder(&image, false), words);
        warp.regs.put_words(&op.regs, words, mask);
    }

    fn load_piece_of_matrix(&mut self, at: &At, lane: usize, space: Space, address: u64, bytes: u32) -> u128 {
        let lanes = 1 << lane;
        let shared = match self.matrix_target(at, lane, space, address) {
            None => return POISON_VALUE,
            Some(Target::Global(address)) => return self.load_global(at, lanes, address, bytes).unwrap_or(POISON_VALUE),
            Some(Target::Shared(shared)) if space == Space::Generic => u64::from(shared),
            Some(_) => address,
        };
        match self.shared_at(at, lanes, shared, bytes, bytes, space == Space::Shared) {
            Some(place) => self.load_shared(at, lanes, place, bytes),
            None => POISON_VALUE,
        }
    }

    /// Global or shared memory, or a finding.
    fn matrix_target(&mut self, at: &At, lane: usize, space: Space, address: u64) -> Option<Target> {
        let target = self.target(space, address);
        if matches!(target, Target::Local(_) | Target::Param(_)) {
            self.report(FindingKind::Oob, at, 1 << lane, Some(address), || {
                format!("{address:#x} is neither in global nor in shared memory, where matrices of wmma are")
            });
            return None;
        }
        Some(target)
    }

    fn wmma_store(&mut self, warp: &Warp, at: &At, mask: u32, op: &WmmaMemory) {
        let Some(pieces) = self.wmma_pieces(warp, at, mask, op, "wmma.store") else { return };
        let mut words = [[0; 32]; 8];
        fill(&warp.regs, &op.regs, &mut words);
        let mut defined = [[0; 32]; 8];
        let mut at_word = 0;
        for reg in &op.regs {
            let lanes = warp.regs.defined(*reg);
            let row = std::array::from_fn(|lane| if lanes >> lane & 1 == 1 { u32::MAX } else { 0 });
            let count = if op.matrix.bits == 64 { 2 } else { 1 };
            defined[at_word..at_word + count].fill(row);
            at_word += count;
        }
        let in_memory = |words: &[_]| op.matrix.reorder(&op.matrix.of_lanes(words), true);
        let (image, defined) = (in_memory(&words), in_memory(&defined));
        let bytes = pieces.bytes as usize;
        for round in 0..pieces.count.div_ceil(32) {
            let (addresses, lanes) = pieces.round(round);
            let value = |lane: usize| piece(&image, (32 * round + lane) * bytes, bytes);
            self.observe_in(
                op.space,
                Self::wmma_access(at, op, &pieces, &addresses, lanes),
                How::Store,
                Some(&|lane| if lanes >> lane & 1 == 1 { value(lane) } else { 0 }),
            );
            for lane in lanes_of(lanes) {
                let from = (32 * round + lane) * bytes;
                self.store_piece_of_matrix(at, lane, op.space, addresses[lane], value(lane), &defined[from..from + bytes]);
            }
        }
        self.progress();
    }

    fn store_piece_of_matrix(&mut self, at: &At, lane: usize, space: Space, address: u64, value: u128, defined: &[u8]) {
        let (lanes, bytes) = (1 << lane, defined.len() as u32);
        let whole = defined.iter().all(|byte| *byte != 0);
        let shared = match self.matrix_target(at, lane, space, address) {
            None => return,
            Some(Target::Global(address)) => {
                let Some(buffer) = self.global_at(at, lanes, address, bytes, bytes) else { return };
                let offset = address - buffer.base;
                if whole {
                    buffer.store(offset, bytes, value, true);
                    return;
                }
                for (byte, state) in defined.iter().enumerate() {
                    buffer.store(offset + byte as u64, 1, value >> (8 * byte) & 0xff, *state != 0);
                }
                return;
            }
            Some(Target::Shared(shared)) if space == Space::Generic => u64::from(shared),
            Some(_) => address,
        };
        let Some(place) = self.shared_at(at, lanes, shared, bytes, bytes, space == Space::Shared) else { return };
        self.store_shared(at, lanes, place, bytes, value, whole);
        if !whole {
            for (byte, state) in defined.iter().enumerate() {
                self.ctas[place.cta].shared.mark(place.offset + byte as u32, 1, *state != 0);
            }
        }
    }

    pub(super) fn wmma(&mut self, warp: &mut Warp, at: &At, mask: u32, op: &Wmma) -> Flow {
        if self.check_aligned(warp, at, mask, "wmma.mma") && mask != FULL {
            self.report(FindingKind::Divergence, at, mask, None, || {
                format!("wmma.mma needs all 32 lanes, {:#010x} have exited", !mask)
            });
        }
        for (name, regs) in [("a", &op.a), ("b", &op.b), ("c", &op.c)] {
            let undefined = mask & !regs.iter().fold(FULL, |all, reg| all & warp.regs.defined(*reg));
            if undefined != 0 {
                self.report(FindingKind::Uninit, at, undefined, None, || format!("operand {name} of wmma.mma is undefined"));
            }
        }
        let mut words = [[[0; 32]; 8]; 4];
        let [a, b, c, d] = &mut words;
        let a_end = fill(&warp.regs, &op.a, a);
        let b_end = fill(&warp.regs, &op.b, b);
        let c_end = fill(&warp.regs, &op.c, c);
        let out = &mut d[..op.kind.d().words];
        if let Err(error) = wmma(&op.kind, self.m.arithmetic, [&a[..a_end], &b[..b_end], &c[..c_end]], out) {
            self.report(FindingKind::Unsupported, at, mask, None, || error.to_string());
            self.fatal = true;
            return Flow::Ended;
        }
        warp.regs.put_words(&op.d, out, mask);
        self.probe.counters.tensor_flops += 2 * op.kind.shape.iter().map(|size| u64::from(*size)).product::<u64>();
        Flow::Next
    }
}

/// Bytes of an image as a number.
fn piece(image: &Image, from: usize, bytes: usize) -> u128 {
    image[from..from + bytes].iter().rev().fold(0, |value, byte| value << 8 | u128::from(*byte))
}
