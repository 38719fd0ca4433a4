//! Counts taken from a kernel's instructions.

use super::flow;
use super::kinds::{Work, work};
use super::nvdisasm::{Function, INSTR_BYTES, Instr};
use super::operands::{is_mma, is_move, is_wgmma, registers};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Instructions of the kinds that decide how fast a kernel is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpCounts {
    /// Warpgroup multiplies: HGMMA, QGMMA, IGMMA, BGMMA.
    pub wgmma: u32,
    /// Those with a `gsb0` mark: one a committed group in a healthy kernel, each of them in a serialised one.
    pub gsb0: u32,
    /// `WARPGROUP.DEPBAR`: waits for groups.
    pub depbar: u32,
    /// `WARPGROUP.ARRIVE`: register fences before groups.
    pub arrive: u32,
    /// Warp multiplies: HMMA, IMMA, DMMA, BMMA, QMMA.
    pub mma: u32,
    /// Matrix loads from shared memory.
    pub ldsm: u32,
    /// Other loads from shared memory.
    pub lds: u32,
    /// Matrix stores to shared memory.
    pub stsm: u32,
    /// TMA loads.
    pub utmaldg: u32,
    /// TMA stores and reductions.
    pub utmastg: u32,
    /// `cp.async`.
    pub ldgsts: u32,
    /// Mbarrier operations.
    pub syncs: u32,
    /// Block barriers.
    pub bar: u32,
    /// Vector to uniform register moves.
    pub r2ur: u32,
    /// MOV, UMOV, IMAD.MOV, and constants that come as something else.
    pub moves: u32,
    /// Integer and bit instructions: IADD3, LOP3, SHF, PRMT, IMAD and their kin.
    pub int: u32,
    /// The same on the uniform datapath.
    pub uniform: u32,
    /// Instructions on pairs of 16-bit floats: HFMA2, HADD2, HMUL2, bf16 or f16.
    pub half: u32,
    /// Conversions between number formats: F2F, F2FP, I2F and their kin.
    pub convert: u32,
    /// Instructions on floats: FADD, FMUL, FFMA and their kin.
    pub float: u32,
    /// Special functions: exponentials and their kin.
    pub mufu: u32,
    /// Loads from local memory.
    pub ldl: u32,
    /// Stores to local memory.
    pub stl: u32,
}

impl OpCounts {
    /// Loads from shared memory of both kinds.
    pub fn shared_loads(&self) -> u32 {
        self.lds + self.ldsm
    }

    fn add(&mut self, instr: &Instr) {
        let count = match instr.base() {
            _ if is_wgmma(instr) => {
                self.gsb0 += u32::from(instr.operands.ends_with("gsb0"));
                &mut self.wgmma
            }
            _ if is_mma(instr) => &mut self.mma,
            "WARPGROUP" if instr.opcode.starts_with("WARPGROUP.DEPBAR") => &mut self.depbar,
            "WARPGROUP" if instr.opcode.starts_with("WARPGROUP.ARRIVE") => &mut self.arrive,
            "STSM" => &mut self.stsm,
            "UTMALDG" => &mut self.utmaldg,
            "UTMASTG" | "UTMAREDG" => &mut self.utmastg,
            "LDGSTS" => &mut self.ldgsts,
            "SYNCS" => &mut self.syncs,
            "BAR" => &mut self.bar,
            "R2UR" => &mut self.r2ur,
            "MUFU" => &mut self.mufu,
            "LDL" => &mut self.ldl,
            "STL" => &mut self.stl,
            base => match work(instr) {
                Some(Work::Int) => &mut self.int,
                Some(Work::Uniform) => &mut self.uniform,
                Some(Work::Half) => &mut self.half,
                Some(Work::Convert) => &mut self.convert,
                Some(Work::Float) => &mut self.float,
                Some(Work::Move) => &mut self.moves,
                Some(Work::SharedLoad) if base == "LDSM" => &mut self.ldsm,
                Some(Work::SharedLoad) => &mut self.lds,
                None => return,
            },
        };
        *count += 1;
    }
}

/// One loop, without the loops inside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopReport {
    /// The function it is in.
    pub function: String,
    /// Byte offset of its header in the function.
    pub header: u32,
    /// Loops around it, itself included.
    pub depth: u32,
    /// Instructions.
    pub instructions: u32,
    /// Instructions by kind.
    pub counts: OpCounts,
    /// Multiplies by opcode: `HGMMA.64x256x16.F32.BF16`.
    pub multiplies: BTreeMap<String, u32>,
    /// Moves that read or write a register of a wgmma in flight: what is left when accumulators do not stay where they
    /// are.
    pub accumulator_moves: u32,
    /// Byte offset of the first of them.
    pub first_accumulator_move: Option<u32>,
    /// Special functions that run while a wgmma is in flight: the part of a softmax that hides under products.
    pub mufu_in_flight: u32,
}

/// What the instructions of a kernel say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SassReport {
    /// The highest register any instruction names, plus one: what the kernel truly uses, whatever it allocates.
    pub max_registers: u32,
    /// Each register count that a role asks for by `setmaxnreg`, ascending.
    pub setmaxnreg: Vec<u32>,
    /// Instructions, without the padding at the end.
    pub instructions: u32,
    /// Bytes of code, padding included.
    pub code_bytes: u32,
    /// Instructions by kind, over the whole kernel.
    pub counts: OpCounts,
    /// Every loop that multiplies, or all loops where none does.
    pub loops: Vec<LoopReport>,
    /// Index in `loops` of the one with most wgmma, or most mma where there is no wgmma; of equals the
    /// deeper, then the shorter (a mask makes its loop longer), then the earlier. None where no loop multiplies.
    pub main_loop: Option<usize>,
}

impl SassReport {
    /// Reads the functions of one kernel.
    pub fn of(functions: &[Function]) -> Self {
        let mut report = SassReport::default();
        let mut caps = BTreeSet::new();
        let mut loops = Vec::new();
        for function in functions {
            let used = &function.instrs[..function.instrs.len() - padding(&function.instrs)];
            report.instructions += used.len() as u32;
            report.code_bytes += function.instrs.len() as u32 * INSTR_BYTES;
            for instr in used {
                report.counts.add(instr);
                report.max_registers = registers(instr).map(|r| r.end).fold(report.max_registers, u32::max);
                caps.extend(instr.target().filter(|_| instr.base() == "USETMAXREG"));
            }
            loops.extend(flow::loops(function).iter().map(|l| LoopReport::of(function, l)));
        }
        let multiplies = |l: &LoopReport| l.counts.wgmma + l.counts.mma > 0;
        if loops.iter().any(multiplies) {
            loops.retain(multiplies);
        }
        let rank = |l: &LoopReport| (l.counts.wgmma, l.counts.mma, l.depth, Reverse(l.instructions));
        let main = (0..loops.len()).filter(|i| multiplies(&loops[*i])).rev().max_by_key(|i| rank(&loops[*i]));
        SassReport { setmaxnreg: caps.into_iter().collect(), loops, main_loop: main, ..report }
    }

    /// The loop where the kernel spends its time.
    pub fn main(&self) -> Option<&LoopReport> {
        self.main_loop.and_then(|index| self.loops.get(index))
    }
}

impl LoopReport {
    /// How many multiplies: wgmmas, or warp multiplies where there is no wgmma.
    pub fn multiply_count(&self) -> u32 {
        if self.counts.wgmma > 0 { self.counts.wgmma } else { self.counts.mma }
    }

    fn of(function: &Function, found: &flow::Loop) -> Self {
        let instrs: Vec<&Instr> = found.own.iter().map(|i| &function.instrs[*i]).collect();
        let mut counts = OpCounts::default();
        let mut multiplies = BTreeMap::new();
        for instr in &instrs {
            counts.add(instr);
            if is_wgmma(instr) || is_mma(instr) {
                *multiplies.entry(instr.opcode.clone()).or_default() += 1;
            }
        }
        let (moves, mufu_in_flight) = InFlight::of(&instrs);
        LoopReport {
            function: function.name.clone(),
            header: function.instrs[found.header].address,
            depth: found.depth,
            instructions: instrs.len() as u32,
            counts,
            multiplies,
            accumulator_moves: moves.len() as u32,
            first_accumulator_move: moves.first().copied(),
            mufu_in_flight,
        }
    }
}

/// What happens in a loop while groups of wgmmas are in flight.
#[derive(Default)]
struct InFlight {
    /// Registers of each group, oldest first; the last one is still being issued.
    groups: Vec<BTreeSet<u32>>,
    open: bool,
}

impl InFlight {
    /// Addresses of the moves that touch a register of a wgmma in flight, and the special functions that run meanwhile. The
    /// loop is gone through twice: the second time with what the first leaves pending.
    fn of(instrs: &[&Instr]) -> (Vec<u32>, u32) {
        let mut flight = InFlight::default();
        flight.iteration(instrs);
        flight.iteration(instrs)
    }

    fn iteration(&mut self, instrs: &[&Instr]) -> (Vec<u32>, u32) {
        let (mut moves, mut mufu) = (Vec::new(), 0);
        for instr in instrs {
            if is_wgmma(instr) {
                if !std::mem::replace(&mut self.open, true) {
                    self.groups.push(BTreeSet::new());
                }
                if let Some(group) = self.groups.last_mut() {
                    group.extend(registers(instr).flatten());
                }
                self.open &= !instr.operands.ends_with("gsb0");
            } else if instr.opcode.starts_with("WARPGROUP.DEPBAR") {
                let left =
                    instr.operands.rsplit_once("0x").and_then(|(_, n)| usize::from_str_radix(n.trim(), 16).ok()).unwrap_or(0);
                self.groups.drain(..self.groups.len().saturating_sub(left));
                self.open &= !self.groups.is_empty();
            } else if is_move(instr) && registers(instr).flatten().any(|r| self.groups.iter().any(|g| g.contains(&r))) {
                moves.push(instr.address);
            } else if instr.base() == "MUFU" && !self.groups.is_empty() {
                mufu += 1;
            }
        }
        (moves, mufu)
    }
}

/// The endless branch and the NOPs after the last instruction.
fn padding(instrs: &[Instr]) -> usize {
    let nops = instrs.iter().rev().take_while(|i| i.base() == "NOP").count();
    let last = instrs.len().checked_sub(nops + 1).map(|at| &instrs[at]);
    let endless = last.is_some_and(|i| i.base() == "BRA" && i.predicate.is_none() && i.target() == Some(i.address));
    nops + usize::from(endless)
}
