//! Launches: checks, then clusters, in parallel where they cannot see each other.

use crate::check::{Across, Checker, Crossing, Mark, World};
use crate::counters::Counters;
use crate::device::{Checks, Device};
use crate::engine::cluster::{Cluster, Outcome};
use crate::engine::machine::{Dice, Machine, Schedule};
use crate::engine::printf::Printed;
use crate::engine::probe::Probe;
use crate::error::LaunchError;
use crate::finding::{Finding, FindingKind, Findings, OtherSide, Severity, Thread};
use crate::lints;
use crate::memory::global::GlobalView;
use crate::memory::space::RESERVED_SHARED;
use crate::module::{Arch, Module};
use crate::program::Kernel;
use crate::ring;
use crate::tensor::{Arithmetic, Numerics};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;

/// A kernel argument; its size must be that of the parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// 8 bytes, such as an address.
    U64(u64),
    /// 4 bytes
    U32(u32),
    /// 4 bytes; in the ring the payload of this number.
    F32(f32),
    /// The value of any other parameter, little-endian: tensor maps, structs, 16-bit numbers.
    Bytes(Vec<u8>),
}

impl Arg {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Arg::U64(value) => value.to_le_bytes().to_vec(),
            Arg::U32(value) => value.to_le_bytes().to_vec(),
            Arg::F32(value) => value.to_le_bytes().to_vec(),
            Arg::Bytes(bytes) => bytes.clone(),
        }
    }
}

/// What to run, and on how many threads.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Name of the entry.
    pub entry: String,
    /// Blocks, `[x, y, z]`.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Blocks of a cluster; they divide the grid.
    pub cluster: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared_bytes: u32,
    /// One for each parameter.
    pub args: Vec<Arg>,
}

impl Default for Launch {
    fn default() -> Self {
        Launch { entry: String::new(), grid: [1; 3], block: [1; 3], cluster: [1; 3], dynamic_shared_bytes: 0, args: Vec::new() }
    }
}

/// What a launch did, and what was wrong with it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Mistakes, in the order of the clusters that made them; empty when clean.
    pub findings: Vec<Finding>,
    /// Work done.
    pub counters: Counters,
    /// What device code printed, one entry for each call of `printf`, by block.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub printed: Vec<String>,
    /// Calls of `printf` beyond the first 10 000 of a cluster, which are not kept.
    #[serde(skip_serializing_if = "is_zero")]
    pub printed_left_out: u64,
}

/// Instructions a cluster runs before the next one has a turn, where blocks talk through global memory.
const TURN: u64 = 200_000;
/// Clusters that are there together from the start in random schedules.
const AT_ONCE: u32 = 8;

impl Device {
    /// Runs a kernel to its end, or until a mistake stops it.
    ///
    /// # Errors
    /// A launch that a driver would refuse. Mistakes of the kernel itself are findings of the report.
    pub fn launch(&mut self, module: &Module, launch: &Launch) -> Result<Report, LaunchError> {
        let ring = self.config.numerics == Numerics::Ring;
        let kernel = match ring {
            true => module.ring_kernel(&launch.entry).map_err(|error| LaunchError::Ring(error.clone()))?,
            false => module.kernel(&launch.entry),
        };
        let kernel = kernel.ok_or_else(|| LaunchError::NoEntry {
            name: launch.entry.clone(),
            known: module.entries().collect::<Vec<_>>().join(", "),
        })?;
        let arch = self.config.arch.unwrap_or(module.arch);
        let arithmetic = Arithmetic::new(self.config.numerics, arch.sm);
        check_shape(kernel, launch)?;
        let params = pack_params(kernel, launch, ring)?;
        let shared_window = shared_window(kernel, launch, arch)?;
        self.load(module)?;
        let variables = self.variable_addresses(module);
        let config = self.config;
        let view = GlobalView::new(&mut self.buffers);
        let machine = Machine {
            kernel,
            sources: &module.sources,
            global: &view,
            variables: &variables,
            params: &params,
            grid: launch.grid,
            block: launch.block,
            cluster: launch.cluster,
            explicit_cluster: kernel.explicit_cluster || launch.cluster != [1; 3],
            dynamic_shared: launch.dynamic_shared_bytes,
            shared_window,
            checks: config.checks == Checks::All,
            arithmetic,
            schedule: Schedule::new(config.seed),
            together: kernel.talks_through_global,
            sm_count: config.sm_count.max(1),
            max_steps: config.max_steps,
            launch_registers: launch_registers(kernel),
        };
        let count: u32 = machine.clusters().iter().product();
        let across = (machine.checks && count > 1 && !machine.together).then(Arc::<Across>::default);
        let results = if kernel.talks_through_global {
            let resident = config.resident.map_or(u32::MAX, |blocks| (blocks / machine.cluster_size()).max(1));
            run_together(&machine, count, resident)
        } else {
            (0..count).into_par_iter().map(|index| run_alone(&machine, index, across.as_ref())).collect()
        };
        let mut findings = Findings::default();
        let mut probe = Probe::default();
        let (mut printed, mut printed_left_out) = (Vec::new(), 0);
        for Ran { findings: found, probe: seen, printed: lines, left_out } in results {
            findings.merge(found);
            probe += seen;
            printed.extend(lines);
            printed_left_out += left_out;
        }
        for crossing in across.iter().flat_map(|across| across.crossings()) {
            findings.add_whole(crossing_finding(&machine, &crossing));
        }
        if machine.checks {
            let ran = |pc: usize| probe.waits.get(pc).is_some_and(|ran| *ran);
            lints::costly(kernel, &probe.costs, config.seed).for_each(|lint| findings.add_whole(lint));
            lints::unlooped(kernel, ran, config.seed).into_iter().for_each(|lint| findings.add_whole(lint));
        }
        printed.sort_by_key(|line| [line.block[2], line.block[1], line.block[0]]);
        let printed = printed.into_iter().map(|line| line.text).collect();
        Ok(Report { findings: findings.into_vec(), counters: probe.counters, printed, printed_left_out })
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What a cluster leaves behind.
#[derive(Default)]
struct Ran {
    findings: Findings,
    probe: Probe,
    printed: Vec<Printed>,
    left_out: u64,
}

impl From<Cluster<'_>> for Ran {
    fn from(cluster: Cluster<'_>) -> Self {
        let Cluster { findings, probe, printed, left_out, .. } = cluster;
        Ran { findings, probe, printed, left_out }
    }
}

fn run_alone(machine: &Machine<'_>, index: u32, across: Option<&Arc<Across>>) -> Ran {
    let mut cluster = Cluster::new(machine, index, checker(machine, World::default(), across, index));
    let mut idle = (u64::MAX, 0);
    loop {
        match cluster.run(u64::MAX) {
            Outcome::Done => break,
            Outcome::Running => {}
            Outcome::Stuck => cluster.report_deadlock(),
            Outcome::Polling => {
                // Nobody else is there to change what is polled; a few rounds more rule out time-outs.
                idle = if idle.0 == cluster.progress { (idle.0, idle.1 + 1) } else { (cluster.progress, 0) };
                if idle.1 > 8 {
                    cluster.report_deadlock();
                }
            }
        }
        if cluster.fatal {
            break;
        }
    }
    cluster.into()
}

/// What looks for races in a cluster, if anybody does.
fn checker(machine: &Machine<'_>, world: World, across: Option<&Arc<Across>>, index: u32) -> Option<Box<Checker>> {
    machine.checks.then(|| {
        let (ctas, warps) = (machine.cluster_size() as usize, machine.warps() as usize);
        Box::new(Checker::new(world, across.cloned(), index, ctas, warps, machine.shared_window))
    })
}

/// Two clusters on the same bytes of global memory.
fn crossing_finding(machine: &Machine<'_>, crossing: &Crossing) -> Finding {
    let thread = |mark: &Mark| Thread {
        block: machine.block_of(mark.cluster, mark.cta),
        warp: mark.warp,
        lanes: u32::MAX,
        tid: machine.tid(32 * mark.warp),
    };
    let line = |mark: &Mark| machine.kernel.code.get(mark.pc as usize).map_or(0, |inst| inst.line);
    let Crossing { address, first, second, second_writes, equal } = crossing;
    let does = if *second_writes { "write" } else { "read" };
    let place = machine.global.place(*address);
    let same = if *equal { ", both of the same bytes" } else { "" };
    Finding {
        kind: if *equal { FindingKind::RaceEqual } else { FindingKind::Race },
        severity: if *equal { Severity::Lint } else { Severity::Error },
        line: line(second),
        source: machine.source(second.pc),
        thread: Some(thread(second)),
        address: Some(*address),
        message: format!(
            "{does} at {place}, which block {:?} writes at line {} in the same launch without any order between them{same}",
            machine.block_of(first.cluster, first.cta),
            line(first)
        ),
        other: Some(OtherSide {
            what: "write".into(),
            line: line(first),
            source: machine.source(first.pc),
            thread: Some(thread(first)),
        }),
        help: Some(
            "give each block bytes of its own, use atomics, or order the blocks by release and acquire at .gpu scope".into(),
        ),
        seed: machine.schedule.seed,
        count: 1,
    }
}

/// Clusters in turns on one thread. A new one starts when the ones there wait for others, or are done; in random
/// schedules several are there from the start, in any order, and take short turns.
fn run_together(machine: &Machine<'_>, count: u32, resident: u32) -> Vec<Ran> {
    let mut results: Vec<Ran> = (0..count).map(|_| Default::default()).collect();
    let mut active: VecDeque<(u32, Cluster<'_>)> = VecDeque::new();
    let mut next = 0;
    // The part of the checker that all clusters share goes from one to the next.
    let mut world = World::default();
    // Turns in a row in which nobody made progress.
    let mut idle_turns = 0;
    let mut dice = Dice::new(machine.schedule.seed);
    let (at_once, longest) = if machine.schedule.round_robin { (1, TURN) } else { (resident.min(AT_ONCE), 2_000) };
    loop {
        let room = if idle_turns > 0 { resident } else { at_once };
        if next < count && (active.len() as u32) < room {
            let mut check = checker(machine, std::mem::take(&mut world), None, next);
            swap_world(&mut check, &mut world);
            active.push_front((next, Cluster::new(machine, next, check)));
            next += 1;
            if idle_turns == 0 && (active.len() as u32) < room {
                continue;
            }
        }
        let turn = if at_once == 1 { longest } else { 1 + dice.below(longest) };
        let chosen = if at_once == 1 { 0 } else { dice.below(active.len() as u64) as usize };
        let Some((index, mut cluster)) = active.remove(chosen) else { return results };
        let before = cluster.progress;
        if idle_turns == 0 {
            cluster.forget_polls();
        }
        swap_world(&mut cluster.check, &mut world);
        let outcome = cluster.run(turn);
        swap_world(&mut cluster.check, &mut world);
        let all_started = next == count || active.len() as u32 + 1 >= resident;
        let moved = cluster.progress != before || outcome == Outcome::Done;
        idle_turns = if moved { 0 } else { idle_turns + 1 };
        if outcome == Outcome::Done || cluster.fatal {
            let stop = cluster.fatal;
            results[index as usize] = cluster.into();
            if stop {
                break;
            }
            continue;
        }
        let limit = 40 * (active.len() + 1);
        if all_started && idle_turns > limit && outcome != Outcome::Running {
            cluster.report_deadlock();
            results[index as usize] = cluster.into();
            break;
        }
        active.push_back((index, cluster));
    }
    for (index, cluster) in active {
        results[index as usize] = cluster.into();
    }
    results
}

fn swap_world(check: &mut Option<Box<Checker>>, world: &mut World) {
    if let Some(check) = check {
        std::mem::swap(&mut check.world, world);
    }
}

fn product(extents: &[u32; 3]) -> u64 {
    extents.iter().fold(1, |all: u64, n| all.saturating_mul(u64::from(*n)))
}

fn check_shape(kernel: &Kernel, launch: &Launch) -> Result<(), LaunchError> {
    let shape = |message: String| Err(LaunchError::Shape(message));
    let Launch { grid, block, cluster, .. } = launch;
    if grid.contains(&0) || block.contains(&0) || cluster.contains(&0) {
        return shape(format!("grid {grid:?}, block {block:?} and cluster {cluster:?} must not contain 0"));
    }
    let blocks: u64 = product(grid);
    if grid[0] > i32::MAX as u32 || grid[1] > 65_535 || grid[2] > 65_535 || blocks > u64::from(u32::MAX) {
        return shape(format!("grid {grid:?} is too large"));
    }
    let threads: u64 = product(block);
    if threads > 1024 || block[2] > 64 {
        return shape(format!("block {block:?} has more than 1024 threads, or more than 64 in z"));
    }
    let ranks: u64 = product(cluster);
    if ranks > 16 {
        return shape(format!("cluster {cluster:?} has more than 16 blocks"));
    }
    if (0..3).any(|axis| grid[axis] % cluster[axis] != 0) {
        return shape(format!("grid {grid:?} is not a multiple of cluster {cluster:?}"));
    }
    if let Some(required) = kernel.reqntid
        && required != *block
    {
        return shape(format!("block {block:?} differs from .reqntid {required:?} of `{}`", kernel.name));
    }
    if let Some(most) = kernel.maxntid {
        let limit: u64 = product(&most);
        if threads > limit {
            return shape(format!("block {block:?} exceeds .maxntid {most:?} of `{}`", kernel.name));
        }
    }
    match kernel.reqcluster {
        Some(required) if required != *cluster => {
            shape(format!("cluster {cluster:?} differs from .reqnctapercluster {required:?} of `{}`", kernel.name))
        }
        _ => Ok(()),
    }
}

fn pack_params(kernel: &Kernel, launch: &Launch, ring: bool) -> Result<Vec<u8>, LaunchError> {
    if kernel.params.len() != launch.args.len() {
        return Err(LaunchError::ArgCount {
            entry: kernel.name.clone(),
            expected: kernel.params.len(),
            given: launch.args.len(),
        });
    }
    let mut packed = vec![0; kernel.param_bytes as usize];
    for (index, (param, arg)) in kernel.params.iter().zip(&launch.args).enumerate() {
        let bytes = match arg {
            Arg::F32(value) if ring => ring::of_f32(*value).to_le_bytes().to_vec(),
            _ => arg.bytes(),
        };
        if bytes.len() != param.bytes as usize {
            return Err(LaunchError::ArgSize {
                index,
                param: param.name.clone(),
                expected: param.bytes as usize,
                given: bytes.len(),
            });
        }
        let at = param.offset as usize;
        packed[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    Ok(packed)
}

/// Bytes of a block's window, the reserved start included.
fn shared_window(kernel: &Kernel, launch: &Launch, arch: Arch) -> Result<u32, LaunchError> {
    let fixed = u64::from(kernel.static_shared);
    let dynamic = u64::from(launch.dynamic_shared_bytes);
    let needed = if dynamic == 0 { fixed } else { u64::from(kernel.dynamic_shared_at) + dynamic };
    let limit = arch.shared_bytes();
    if needed > limit {
        return Err(LaunchError::SharedSize { needed, fixed, limit, arch: arch.to_string() });
    }
    Ok(RESERVED_SHARED + needed as u32)
}

/// Registers of each thread when a kernel starts: what it asks for, or what the register file of 64 Ki gives its
/// threads, in steps of 8. Unknown unless the block size is.
fn launch_registers(kernel: &Kernel) -> Option<u32> {
    let threads = kernel.reqntid.or(kernel.maxntid)?.iter().try_fold(1u32, |all, n| all.checked_mul(*n))?;
    if let Some(registers) = kernel.maxnreg {
        return Some(registers.next_multiple_of(8));
    }
    let share = 65_536 / (threads.min(1024).next_multiple_of(128).saturating_mul(kernel.min_ctas.unwrap_or(1))).max(1);
    Some((share / 8 * 8).min(248))
}
