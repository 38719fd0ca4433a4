//! Bursts of launches and the time of one.

use super::sensors::{Reading, Sensors};
use super::sets::Sets;
use super::{crashed, launched, refused};
use std::time::{Duration, Instant};
use tilewright_autotune::search::{Failure, Sample};
use tilewright_ops::case::Case;
use tilewright_runtime::cuda::{CudaDevice, CudaGraph, CudaStream};
use tilewright_runtime::dispatch::PlanIndex;
use tilewright_runtime::engine::{Engine, EngineError, Launchable, Problem};

/// How times are taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Protocol {
    /// Below this, launches are recorded as a graph: the host could not keep up.
    pub graph_below: Duration,
    /// How long a burst is to take.
    pub burst: Duration,
    /// How long the clock must have been steady.
    pub steady: Duration,
    /// How long warming up may take.
    pub warm_limit: Duration,
    /// A GPU that was busy within this needs no warming up.
    pub still_warm: Duration,
}

/// 50 us: a launch takes the host some 3 to 5, several tensor maps included. 200 ms and 1 %: NVML renews its clock about every 100 ms.
impl Default for Protocol {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Protocol {
            graph_below: Duration::from_micros(50),
            burst: ms(2),
            steady: ms(200),
            warm_limit: ms(3000),
            still_warm: ms(100),
        }
    }
}

/// Clock readings within this part of each other are steady.
const STEADY: f64 = 0.01;
/// As many readings at least say that it is.
const READINGS: usize = 5;
/// Launches of a burst.
const BURST: std::ops::RangeInclusive<usize> = 3..=1000;

/// A candidate ready to be timed: a launchable a set, as a workspace is a buffer too.
pub(super) struct Timed {
    launchables: Vec<Launchable<CudaDevice>>,
    /// What each is launched on.
    addresses: Vec<Vec<u64>>,
    /// The burst, once it is known how long a launch takes.
    burst: Option<Burst>,
    /// Which set is next.
    turn: usize,
}

struct Burst {
    launches: usize,
    graph: Option<CudaGraph>,
}

/// What a burst needs.
pub(super) struct Run<'a> {
    pub engine: &'a Engine<CudaDevice>,
    pub stream: &'a CudaStream,
    pub sensors: Option<&'a dyn Sensors>,
    pub protocol: &'a Protocol,
    /// When the GPU was busy last.
    pub last: &'a mut Option<Instant>,
}

impl Timed {
    /// Prepares a plan for every set.
    pub fn new(engine: &Engine<CudaDevice>, plan: PlanIndex, case: &Case, sets: &Sets) -> Result<Self, Failure> {
        let problem = Problem { vars: case.vars, scalars: &case.scalars };
        let ready = (0..sets.count()).map(|_| engine.prepare(plan, &problem).map_err(refused));
        let launchables = ready.collect::<Result<Vec<Launchable<CudaDevice>>, _>>()?;
        let tensors = launchables.first().map_or(&[][..], Launchable::tensors);
        let addresses = sets.addresses(engine.device(), tensors)?;
        Ok(Timed { launchables, addresses, burst: None, turn: 0 })
    }

    /// Queues one launch on a set.
    pub fn launch(&mut self, engine: &Engine<CudaDevice>, set: usize, stream: &CudaStream) -> Result<(), Failure> {
        self.queue(engine, set, stream).map_err(launched)
    }

    /// The mean time of the launches of a burst.
    pub fn sample(&mut self, run: &mut Run<'_>) -> Result<Sample, Failure> {
        if self.burst.is_none() {
            self.burst = Some(self.measure_burst(run)?);
        }
        if run.last.is_none_or(|at| at.elapsed() > run.protocol.still_warm) {
            self.warm(run)?;
        }
        let (seconds, reading) = self.burst(run)?;
        *run.last = Some(Instant::now());
        Ok(Sample {
            seconds,
            sm_clock_mhz: reading.sm_clock_mhz,
            memory_clock_mhz: reading.memory_clock_mhz,
            temperature_c: reading.temperature_c,
            power_mw: reading.power_mw,
        })
    }

    fn queue(&mut self, engine: &Engine<CudaDevice>, set: usize, stream: &CudaStream) -> Result<(), EngineError> {
        let at = set % self.launchables.len();
        engine.launch(&mut self.launchables[at], &self.addresses[at], stream.id())
    }

    fn rotate(&mut self, run: &Run<'_>, launches: usize) -> Result<(), EngineError> {
        for _ in 0..launches {
            self.queue(run.engine, self.turn, run.stream)?;
            self.turn += 1;
        }
        Ok(())
    }

    /// How many launches a burst has, and the graph of them where they are short.
    fn measure_burst(&mut self, run: &Run<'_>) -> Result<Burst, Failure> {
        let few = *BURST.start();
        self.between(run, |s| s.rotate(run, few).map_err(launched))?;
        let one = self.between(run, |s| s.rotate(run, few).map_err(launched))? / few as f64;
        let launches = (run.protocol.burst.as_secs_f64() / one.max(1e-9)).ceil() as usize;
        // Whole rounds of the sets, so that every burst is the same.
        let launches = launches.clamp(*BURST.start(), *BURST.end()).next_multiple_of(self.launchables.len());
        if one >= run.protocol.graph_below.as_secs_f64() {
            return Ok(Burst { launches, graph: None });
        }
        self.turn = 0;
        let graph = run.engine.device().capture(run.stream, || self.rotate(run, launches)).map_err(launched)?;
        Ok(Burst { launches, graph: Some(graph) })
    }

    /// Seconds a launch, and what the sensors said meanwhile.
    fn burst(&mut self, run: &Run<'_>) -> Result<(f64, Reading), Failure> {
        let Some(burst) = self.burst.take() else { return Err(super::lost()) };
        let mut reading = Reading::default();
        let seconds = self.between(run, |s| {
            match &burst.graph {
                Some(graph) => graph.launch(run.stream).map_err(crashed)?,
                None => s.rotate(run, burst.launches).map_err(launched)?,
            }
            reading = run.sensors.map(Sensors::read).unwrap_or_default();
            Ok(())
        });
        let launches = burst.launches;
        self.burst = Some(burst);
        Ok((seconds? / launches as f64, reading))
    }

    /// Seconds from before to after what `work` queues.
    fn between(&mut self, run: &Run<'_>, work: impl FnOnce(&mut Self) -> Result<(), Failure>) -> Result<f64, Failure> {
        let device = run.engine.device();
        let (start, end) = (device.event().map_err(crashed)?, device.event().map_err(crashed)?);
        start.record(run.stream).map_err(crashed)?;
        work(self)?;
        end.record(run.stream).map_err(crashed)?;
        end.wait().map_err(crashed)?;
        end.seconds_since(&start).map_err(crashed)
    }

    /// Bursts until the clock is steady, or time is up.
    fn warm(&mut self, run: &Run<'_>) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut clocks: Vec<(Instant, f64)> = Vec::new();
        while begun.elapsed() < run.protocol.warm_limit {
            let (_, reading) = self.burst(run)?;
            let now = Instant::now();
            clocks.extend(reading.sm_clock_mhz.map(|clock| (now, f64::from(clock))));
            let recent: Vec<f64> = clocks.iter().filter(|(at, _)| now - *at <= run.protocol.steady).map(|c| c.1).collect();
            let (low, high) = recent.iter().fold((f64::MAX, 0.0f64), |(low, high), c| (low.min(*c), high.max(*c)));
            let long = clocks.first().is_some_and(|(at, _)| now - *at >= run.protocol.steady);
            if long && recent.len() >= READINGS && high <= low * (1.0 + STEADY) {
                break;
            }
        }
        Ok(())
    }
}
