//! What the machine code of a shipped kernel must look like.

use super::allowed::{ALLOWED, Allowed};
use super::nvdisasm::{Function, Inspection, Instr};
use super::sass::SassReport;
use super::source::SourceLoc;
use serde::{Deserialize, Serialize};

/// The terms for one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SassContract {
    /// The most registers an instruction may name, plus one.
    pub max_registers: u32,
    /// No spill, no stack, no local-memory access.
    pub forbid_local: bool,
    /// No `C75xx` of ptxas: no wgmma serialised or repaired, no `setmaxnreg` ignored.
    pub forbid_c75xx: bool,
    /// How many warpgroup multiplies the main loop holds.
    pub expect_hgmma_per_main_loop: Option<u32>,
    /// No move of a wgmma's own registers between the wgmmas of the main loop.
    pub forbid_moves_between_hgmma: bool,
}

impl SassContract {
    /// Everything forbidden that can be, and no expectation that depends on the template.
    pub fn clean() -> Self {
        SassContract {
            max_registers: 255,
            forbid_local: true,
            forbid_c75xx: true,
            expect_hgmma_per_main_loop: None,
            forbid_moves_between_hgmma: true,
        }
    }

    /// Holds a kernel to the terms, less the reviewed exceptions of [`ALLOWED`].
    ///
    /// # Errors
    /// Every breach, with the template line where one is known.
    pub fn check(&self, kernel: &Inspection) -> Result<SassReport, Vec<ContractViolation>> {
        self.check_allowing(kernel, ALLOWED)
    }

    /// As [`check`](SassContract::check), with exceptions of the caller's.
    ///
    /// # Errors
    /// As [`check`](SassContract::check).
    pub fn check_allowing(&self, kernel: &Inspection, allowed: &[Allowed]) -> Result<SassReport, Vec<ContractViolation>> {
        let mut found = Vec::new();
        if self.forbid_c75xx {
            found.extend(degraded(kernel));
        }
        if self.forbid_local {
            found.extend(local(kernel));
        }
        if kernel.sass.max_registers > self.max_registers {
            let (used, limit) = (kernel.sass.max_registers, self.max_registers);
            found.push((Breach::Registers { used, limit }, Place::default()));
        }
        found.extend(self.main_loop(kernel));
        let allowed_here = |breach: &Breach| allowed.iter().any(|row| row.covers(breach.code(), &kernel.kernel));
        let violation = |(breach, place)| ContractViolation { kernel: kernel.kernel.clone(), breach, place };
        let violations: Vec<_> = found.into_iter().filter(|(b, _)| !allowed_here(b)).map(violation).collect();
        if violations.is_empty() { Ok(kernel.sass.clone()) } else { Err(violations) }
    }

    fn main_loop(&self, kernel: &Inspection) -> Vec<(Breach, Place)> {
        let main = kernel.sass.main();
        let found = main.map_or(0, |l| l.counts.wgmma);
        let mut out = Vec::new();
        if let Some(expected) = self.expect_hgmma_per_main_loop.filter(|expected| *expected != found) {
            let place = main.map(|l| Place::of(kernel, &l.function, l.header)).unwrap_or_default();
            out.push((Breach::WgmmaCount { expected, found }, place));
        }
        if let Some((main, at)) = main.and_then(|l| Some((l, l.first_accumulator_move?)))
            && self.forbid_moves_between_hgmma
        {
            out.push((Breach::Moves { count: main.accumulator_moves }, Place::of(kernel, &main.function, at)));
        }
        out
    }
}

/// What is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// ptxas serialised or repaired wgmma, or ignored a directive.
    #[error("ptxas {code}: {text}; {}", advice(.code))]
    Ptxas {
        /// `C7514`, or `loss` where ptxas gives no code.
        code: String,
        /// ptxas' words.
        text: String,
    },
    /// Local memory.
    #[error(
        "local memory: {loads} loads and {stores} stores ({spill_stores} bytes of spill stores, {stack} bytes of stack); \
         use a smaller tile or fewer live values, and only constant indices into register tiles"
    )]
    Local {
        /// LDL instructions.
        loads: u32,
        /// STL instructions.
        stores: u32,
        /// Bytes spilled.
        spill_stores: u32,
        /// Bytes of stack.
        stack: u32,
    },
    /// Registers.
    #[error("{used} registers where {limit} are allowed; use a smaller tile or fewer live values")]
    Registers {
        /// Used.
        used: u32,
        /// Allowed.
        limit: u32,
    },
    /// The main loop is not the one that was written.
    #[error(
        "the main loop has {found} wgmma, not {expected}: ptxas unrolled it, or the optimiser changed it; say how far to unroll"
    )]
    WgmmaCount {
        /// Expected.
        expected: u32,
        /// Found.
        found: u32,
    },
    /// Accumulators wander.
    #[error(
        "{count} moves of accumulator or fragment registers between the wgmmas of the main loop; keep one accumulator \
         in one place: no rotation through the loop, no copy while a group is in flight"
    )]
    Moves {
        /// Moves.
        count: u32,
    },
}

impl Breach {
    /// The name an [`Allowed`] row knows it by.
    pub fn code(&self) -> &str {
        match self {
            Breach::Ptxas { code, .. } => code,
            Breach::Local { .. } => "local",
            Breach::Registers { .. } => "registers",
            Breach::WgmmaCount { .. } => "wgmma-count",
            Breach::Moves { .. } => "moves",
        }
    }
}

/// Where: as much as is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Line of the template.
    pub source: Option<SourceLoc>,
    /// Line of the PTX.
    pub ptx_line: Option<u32>,
    /// Offset in the function and text of the instruction.
    pub sass: Option<(u32, String)>,
}

impl Place {
    fn of(kernel: &Inspection, function: &str, address: u32) -> Self {
        let (ptx_line, source) = kernel.place(function, address);
        let instrs = kernel.functions.iter().filter(|f| f.name == function).flat_map(|f| &f.instrs);
        let sass = instrs.filter(|i| i.address == address).map(|i| (address, i.to_string())).next();
        Place { source, ptx_line, sass }
    }

    fn of_ptx(kernel: &Inspection, ptx_line: Option<u32>) -> Self {
        Place { source: ptx_line.and_then(|line| kernel.lines.source(line)), ptx_line, sass: None }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let source = self.source.as_ref().map(|s| s.to_string());
        let ptx = self.ptx_line.map(|line| format!("PTX line {line}"));
        let sass = self.sass.as_ref().map(|(address, text)| format!("SASS {address:#06x} `{text}`"));
        let known: Vec<String> = [source, ptx, sass].into_iter().flatten().collect();
        if known.is_empty() { Ok(()) } else { write!(f, " at {}", known.join(", ")) }
    }
}

/// A breach in a kernel, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kernel `{kernel}`{place}: {breach}")]
pub struct ContractViolation {
    /// The entry.
    pub kernel: String,
    /// What is broken.
    pub breach: Breach,
    /// Where.
    pub place: Place,
}

fn degraded(kernel: &Inspection) -> Vec<(Breach, Place)> {
    let messages = kernel.ptxas.messages.iter().filter(|m| m.is_degraded_wgmma());
    let breach = messages.map(|m| {
        // The serialising ones name a function and no line: its main wgmma is the best there is to point at.
        let line = m.line.or_else(|| kernel.lines.main_wgmma(m.function.as_deref().unwrap_or(&kernel.kernel)));
        let code = m.code.clone().unwrap_or_else(|| "loss".to_owned());
        (Breach::Ptxas { code, text: m.text.clone() }, Place::of_ptx(kernel, line))
    });
    breach.collect()
}

fn local(kernel: &Inspection) -> Option<(Breach, Place)> {
    let (counts, ptxas) = (&kernel.sass.counts, &kernel.ptxas);
    if counts.ldl + counts.stl + ptxas.spill_stores + ptxas.spill_loads + ptxas.stack_frame == 0 {
        return None;
    }
    let touches = |i: &&Instr| matches!(i.base(), "LDL" | "STL");
    let first = |f: &Function| Some((f.name.clone(), f.instrs.iter().find(touches)?.address));
    let place = kernel.functions.iter().find_map(first).map(|(function, at)| Place::of(kernel, &function, at));
    let (loads, stores) = (counts.ldl, counts.stl);
    let breach = Breach::Local { loads, stores, spill_stores: ptxas.spill_stores, stack: ptxas.stack_frame };
    Some((breach, place.unwrap_or_default()))
}

/// The way out of each code that has been seen, from NVIDIA's forum answers and experiments with ptxas 13.0.
fn advice(code: &str) -> &'static str {
    match code {
        "C7504" | "C7508" => "setmaxnreg needs the block's size (`reqntid`) and `minnctapersm` 1 on the entry, and no calls",
        "C7509" | "C7510" => "no call may stand between a wgmma and its wait: one function a kernel",
        "C7511" | "C7512" => "the accumulators do not fit: use a smaller tile, or more warpgroups",
        "C7514" | "C7515" => {
            "ordinary code reads or writes registers of a group in flight: wait for every group in the iteration that \
             issued it, unless the next one continues the same accumulator"
        }
        "C7517" | "C7518" => "an accumulator is read before its group was waited for: wait first",
        "C7519" | "C7520" => "put a wgmma fence before each group whose registers ordinary code wrote",
        _ => "read it as a lost overlap of wgmma with other work",
    }
}
