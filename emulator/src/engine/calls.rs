//! Calls and returns.
//!
//! A call moves its lanes to the callee and opens a join behind itself, so lanes that return on different ways meet
//! there. Frames of the lanes of one call lie at the same offset of their local memories.

use super::access::lanes_of;
use super::cluster::{At, Cluster};
use super::ldst::{extend, scatter};
use super::regs::{FULL, Regs, Row, Row64};
use super::step::Flow;
use super::warp::{Split, Warp};
use crate::finding::FindingKind;
use crate::program::call_op::{Call, Callee, FrameAccess, Slot, Target};
use crate::program::memory_op::Elem;
use crate::program::{D, Op, P, R, Reg};

/// A call that has not returned in all lanes.
#[derive(Debug)]
pub struct Frame {
    /// Index into the kernel's callees.
    pub callee: u32,
    /// Where it starts in each lane's local memory.
    pub base: u32,
    /// The instruction of the call.
    pub call: u32,
    pub parent: u32,
    /// Lanes in it, or in calls it made.
    pub live: u32,
    /// The function's registers as an earlier call of it left them.
    saved: Option<Box<Saved>>,
}

#[derive(Debug)]
struct Saved {
    r: Vec<(R, Row, u32)>,
    q: Vec<(D, Row64, u32)>,
    p: Vec<(P, u32, u32)>,
}

fn rows32(callee: &Callee) -> impl Iterator<Item = R> {
    callee.rows32.clone().map(R).chain(callee.frame32.iter().map(|(row, _)| *row))
}

fn rows64(callee: &Callee) -> impl Iterator<Item = D> {
    callee.rows64.clone().map(D).chain(callee.frame64.iter().map(|(row, _)| *row))
}

impl Saved {
    fn of(regs: &Regs, callee: &Callee) -> Saved {
        Saved {
            r: rows32(callee).map(|row| (row, *regs.r(row), regs.rdef(row))).collect(),
            q: rows64(callee).map(|row| (row, *regs.q(row), regs.qdef(row))).collect(),
            p: callee.preds.clone().map(P).map(|p| (p, regs.p[p.0 as usize], regs.pdef(p))).collect(),
        }
    }

    fn restore(&self, regs: &mut Regs, lanes: u32) {
        for (row, value, defined) in &self.r {
            regs.put(*row, value, lanes, *defined);
        }
        for (row, value, defined) in &self.q {
            regs.put64(*row, value, lanes, *defined);
        }
        for (p, value, defined) in &self.p {
            regs.put_pred(*p, *value, lanes, *defined);
        }
    }
}

/// A value on its way between two functions, with the definedness of its bytes.
type Passed = (Vec<u8>, Vec<bool>);

fn local_start(lane: usize, local_bytes: u32) -> u32 {
    lane as u32 * local_bytes.next_multiple_of(16)
}

fn read_slot(warp: &Warp, slot: Slot, lane: usize, base: u32, local_bytes: u32) -> Passed {
    match slot {
        Slot::Frame { offset, bytes } => {
            let (mut data, mut init) = (vec![0; bytes as usize], vec![false; bytes as usize]);
            warp.local.read_bytes(local_start(lane, local_bytes) + base + offset, &mut data, &mut init);
            (data, init)
        }
        Slot::Reg(reg) => {
            let bytes = slot.bytes() as usize;
            let data = warp.regs.lane(reg, lane).to_le_bytes()[..bytes].to_vec();
            (data, vec![(warp.regs.defined(reg) >> lane) & 1 == 1; bytes])
        }
    }
}

fn write_slot(warp: &mut Warp, slot: Slot, lane: usize, base: u32, local_bytes: u32, (mut data, mut init): Passed) {
    match slot {
        Slot::Frame { offset, bytes } => {
            // A narrow value in a 32-bit register leaves its upper bytes behind.
            data.resize(bytes as usize, 0);
            init.resize(bytes as usize, false);
            warp.local.write_bytes(local_start(lane, local_bytes) + base + offset, &data, &init);
        }
        Slot::Reg(reg) => {
            let mut value = [0; 16];
            let bytes = data.len().min(16);
            value[..bytes].copy_from_slice(&data[..bytes]);
            warp.regs.set_lane(reg, lane, u128::from_le_bytes(value));
            let defined = if init.iter().all(|byte| *byte) { FULL } else { 0 };
            warp.regs.set_defined(reg, 1 << lane, defined);
        }
    }
}

impl Warp {
    /// Start of a frame in each lane's local memory.
    pub fn frame_base(&self, frame: u32) -> u32 {
        self.frames.get(frame as usize).map_or(0, |frame| frame.base)
    }

    fn push_frame(&mut self, frame: Frame) -> u32 {
        match self.frames.iter().position(|old| old.live == 0) {
            Some(at) => {
                self.frames[at] = frame;
                at as u32
            }
            None => {
                self.frames.push(frame);
                self.frames.len() as u32 - 1
            }
        }
    }

    fn is_active(&self, mut frame: u32, callee: u32) -> bool {
        while let Some(here) = self.frames.get(frame as usize) {
            if here.callee == callee {
                return true;
            }
            frame = here.parent;
        }
        false
    }
}

impl Cluster<'_> {
    pub(super) fn call(&mut self, warp: &mut Warp, index: usize, at: &At, lanes: u32, op: &Call) -> Flow {
        let mut parts: Vec<(u32, u32)> = Vec::new();
        match op.target {
            Target::Builtin(builtin) => return self.builtin(warp, index, at, lanes, builtin, op),
            Target::Direct(callee) => parts.push((callee, lanes)),
            Target::Indirect(address) => {
                let undefined = lanes & !warp.regs.qdef(address);
                if undefined != 0 {
                    self.report(FindingKind::Uninit, at, undefined, None, || "the called address was never set".into());
                }
                for lane in lanes_of(lanes) {
                    let value = warp.regs.q(address)[lane];
                    let Some(callee) = self.callee_at(at, lane, value, op) else {
                        self.fatal = true;
                        return Flow::Ended;
                    };
                    match parts.iter_mut().find(|(known, _)| *known == callee) {
                        Some((_, mask)) => *mask |= 1 << lane,
                        None => parts.push((callee, 1 << lane)),
                    }
                }
            }
        }
        let join = warp.join_at(index, at.pc + 1);
        let Split { mask, frame: parent, .. } = warp.splits[index];
        let mut entered = Vec::with_capacity(parts.len());
        for (callee, lanes) in parts {
            let Some(frame) = self.enter(warp, at, lanes, parent, callee, op) else {
                self.fatal = true;
                return Flow::Ended;
            };
            entered.push((self.m.kernel.callees[callee as usize].entry, lanes, frame));
        }
        if let [(entry, taken, frame)] = entered[..]
            && taken == mask
        {
            warp.splits[index].join = join;
            warp.splits[index].frame = frame;
            return Flow::Jump(entry);
        }
        warp.splits.remove(index);
        if mask & !lanes != 0 {
            warp.splits.push(Split::ready(at.pc + 1, mask & !lanes, join, parent));
        }
        for (entry, lanes, frame) in entered {
            warp.splits.push(Split::ready(entry, lanes, join, frame));
        }
        warp.turn = index;
        Flow::Ended
    }

    /// The function at an address, checked against what is passed.
    fn callee_at(&mut self, at: &At, lane: usize, address: u64, op: &Call) -> Option<u32> {
        let callees = &self.m.kernel.callees;
        let found = callees.iter().position(|callee| callee.address == address);
        let fits =
            |given: &[Slot], formal: &[Slot]| given.len() == formal.len() && given.iter().zip(formal).all(|(a, b)| a.fits(*b));
        let message = match found.and_then(|index| callees.get(index)) {
            None => format!("{address:#x} is not the address of a function"),
            Some(callee)
                if !fits(&op.args, &callee.params) || (!op.returns.is_empty() && !fits(&op.returns, &callee.returns)) =>
            {
                format!("`{}` is called with parameters or results of another type", callee.name)
            }
            Some(_) => return found.map(|index| index as u32),
        };
        self.report(FindingKind::Oob, at, 1 << lane, Some(address), || message);
        None
    }

    fn enter(&mut self, warp: &mut Warp, at: &At, lanes: u32, parent: u32, index: u32, op: &Call) -> Option<u32> {
        let kernel = self.m.kernel;
        let callee = kernel.callees.get(index as usize)?;
        let (caller_base, caller_bytes) = match warp.frames.get(parent as usize) {
            Some(frame) => (frame.base, kernel.callees.get(frame.callee as usize)?.frame_bytes),
            None => (0, kernel.frame_bytes),
        };
        let base = caller_base + caller_bytes;
        let size = kernel.local_bytes;
        if base + callee.frame_bytes > size {
            self.report(FindingKind::Oob, at, lanes, None, || {
                format!(
                    "the call of `{}` does not fit the {size} bytes of local memory of a thread: it recurses too deep",
                    callee.name
                )
            });
            return None;
        }
        let saved = warp.is_active(parent, index).then(|| Box::new(Saved::of(&warp.regs, callee)));
        let args: Vec<Vec<Passed>> = lanes_of(lanes)
            .map(|lane| op.args.iter().map(|slot| read_slot(warp, *slot, lane, caller_base, size)).collect())
            .collect();
        // Nothing is left over from earlier calls.
        for row in rows32(callee) {
            warp.regs.set_defined(Reg::R(row), lanes, 0);
        }
        for row in rows64(callee) {
            warp.regs.set_defined(Reg::D(row), lanes, 0);
        }
        for p in callee.preds.clone() {
            warp.regs.set_defined(Reg::P(P(p)), lanes, 0);
        }
        for (row, offset) in &callee.frame32 {
            warp.regs.put(*row, &[base + offset; 32], lanes, FULL);
        }
        for (row, offset) in &callee.frame64 {
            warp.regs.put64(*row, &[u64::from(base + offset); 32], lanes, FULL);
        }
        for (lane, args) in lanes_of(lanes).zip(args) {
            warp.local.forget(local_start(lane, size) + base, callee.frame_bytes);
            for (formal, value) in callee.params.iter().zip(args) {
                write_slot(warp, *formal, lane, base, size, value);
            }
        }
        Some(warp.push_frame(Frame { callee: index, base, call: at.pc, parent, live: lanes, saved }))
    }

    pub(super) fn ret(&mut self, warp: &mut Warp, index: usize, at: &At, lanes: u32) -> Flow {
        let kernel = self.m.kernel;
        let Split { mask, frame: here, join, .. } = warp.splits[index];
        let Some(frame) = warp.frames.get_mut(here as usize) else { return self.exit(warp, index, at, lanes) };
        frame.live &= !lanes;
        let (base, parent, back) = (frame.base, frame.parent, frame.call + 1);
        let saved = if frame.live == 0 { frame.saved.take() } else { None };
        let call = kernel.code.get(frame.call as usize);
        if let (Some(callee), Some(Op::Call(call))) = (kernel.callees.get(frame.callee as usize), call.map(|inst| &inst.op)) {
            let size = kernel.local_bytes;
            let read = |lane| callee.returns.iter().map(|slot| read_slot(warp, *slot, lane, base, size)).collect();
            let values: Vec<Vec<Passed>> = lanes_of(lanes).map(read).collect();
            match (&saved, &warp.frames[here as usize].saved) {
                (Some(saved), _) => saved.restore(&mut warp.regs, lanes),
                (None, Some(saved)) => saved.restore(&mut warp.regs, lanes),
                (None, None) => {}
            }
            let caller_base = warp.frame_base(parent);
            for (lane, values) in lanes_of(lanes).zip(values) {
                for (slot, value) in call.returns.iter().zip(values) {
                    write_slot(warp, *slot, lane, caller_base, size, value);
                }
            }
        }
        if lanes == mask {
            warp.splits[index].frame = parent;
            return Flow::Jump(back);
        }
        warp.splits[index].mask &= !lanes;
        warp.splits[index].pc = at.pc + 1;
        warp.splits.push(Split::ready(back, lanes, join, parent));
        Flow::Ended
    }

    /// `ld.param` of a call: undefined bytes make an undefined register, as an unused argument may be.
    pub(super) fn ld_frame(warp: &mut Warp, index: usize, mask: u32, op: &FrameAccess, local_bytes: u32) -> Flow {
        let base = warp.frame_base(warp.splits[index].frame);
        for (element, reg) in op.regs.iter().enumerate() {
            let offset = op.offset + element as u32 * op.elem.bytes;
            let mut defined = 0;
            for lane in lanes_of(mask) {
                let place = local_start(lane, local_bytes) + base + offset;
                defined |= u32::from(warp.local.is_partly_init(place, op.elem.bytes)) << lane;
                let value = warp.local.load(place, op.elem.bytes);
                scatter(&mut warp.regs, &[*reg], op.elem, lane, value);
            }
            warp.regs.set_defined(*reg, mask, defined);
        }
        Flow::Next
    }

    pub(super) fn st_frame(warp: &mut Warp, index: usize, mask: u32, op: &FrameAccess, local_bytes: u32) -> Flow {
        let base = warp.frame_base(warp.splits[index].frame);
        let plain = Elem { bytes: op.elem.bytes, signed: false };
        for (element, reg) in op.regs.iter().enumerate() {
            let offset = op.offset + element as u32 * op.elem.bytes;
            let defined = warp.regs.defined(*reg);
            for lane in lanes_of(mask) {
                let value = extend(warp.regs.lane(*reg, lane), plain);
                let place = local_start(lane, local_bytes) + base + offset;
                warp.local.store(place, op.elem.bytes, value, (defined >> lane) & 1 == 1);
            }
        }
        Flow::Next
    }

    /// A value that a builtin gets; `None` if it is undefined.
    pub(super) fn argument(&self, warp: &Warp, index: usize, slot: Slot, lane: usize) -> Option<u64> {
        let base = warp.frame_base(warp.splits[index].frame);
        let (data, init) = read_slot(warp, slot, lane, base, self.m.kernel.local_bytes);
        let mut value = [0; 8];
        let bytes = data.len().min(8);
        value[..bytes].copy_from_slice(&data[..bytes]);
        init.iter().all(|byte| *byte).then_some(u64::from_le_bytes(value))
    }

    /// Gives the result of a builtin.
    pub(super) fn give(&self, warp: &mut Warp, index: usize, slot: Slot, lane: usize, value: u32) {
        let base = warp.frame_base(warp.splits[index].frame);
        let value = (value.to_le_bytes().to_vec(), vec![true; 4]);
        write_slot(warp, slot, lane, base, self.m.kernel.local_bytes, value);
    }
}
