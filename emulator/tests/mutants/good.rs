//! Kernels that are right, and what running one of them, or a mutant of one, shows.

use crate::common::case::Case;
use crate::common::spec::{Param, Spec};
use tilewright_emulator::tensor::swizzle::Swizzle;
use tilewright_emulator::{DeviceConfig, Finding, FindingKind, Module};

/// Schedules that a good kernel is silent on. Late delivery first: it shows most.
pub const SEEDS: [u64; 8] = [1, 0, 3, 2, 5, 4, 7, 6];

#[derive(Clone, Debug)]
pub enum Source {
    Spec(Box<Spec>),
    /// Directives and PTX in one text.
    Case(String),
}

#[derive(Clone, Debug)]
pub struct Good {
    pub name: String,
    pub source: Source,
    /// Constants that a stage index is compared with.
    pub stages: Vec<i64>,
    /// Multiprocessors of the device, which persistent kernels ask for.
    pub sms: u32,
}

/// What one run showed.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The text, the arguments or the launch are not accepted.
    Refused(String),
    Ran {
        /// Errors, and lints that are not about speed.
        findings: Vec<Finding>,
        wrong: Option<String>,
        steps: u64,
    },
}

impl Good {
    pub fn text(&self) -> &str {
        match &self.source {
            Source::Spec(spec) => &spec.text,
            Source::Case(text) => text,
        }
    }

    /// Runs the kernel with another text, under one schedule.
    pub fn run(&self, module: &Module, text: &str, seed: u64, max_steps: u64) -> Outcome {
        let config = DeviceConfig { seed, max_steps, sm_count: self.sms, ..DeviceConfig::default() };
        let ran = match &self.source {
            Source::Spec(spec) => spec.run(module, config),
            Source::Case(_) => Case::parse(text).and_then(|case| case.run(module, config)),
        };
        match ran {
            Err(why) => Outcome::Refused(why),
            Ok((report, wrong)) => Outcome::Ran {
                findings: report.findings.into_iter().filter(|f| !is_about_speed(f)).collect(),
                wrong,
                steps: report.counters.warp_instructions,
            },
        }
    }

    /// The kernel with one thing changed that the host passes: name of the operator, what it was, the kernel.
    pub fn host_edits(&self) -> Vec<(String, String, Good)> {
        match &self.source {
            Source::Spec(spec) => spec_edits(spec).into_iter().map(|(op, was, spec)| (op, was, self.with(spec))).collect(),
            Source::Case(text) => {
                let with = |(operator, was, text)| (operator, was, Good { source: Source::Case(text), ..self.clone() });
                directive_edits(text).into_iter().map(with).collect()
            }
        }
    }

    fn with(&self, spec: Spec) -> Good {
        Good { source: Source::Spec(Box::new(spec)), ..self.clone() }
    }
}

fn is_about_speed(finding: &Finding) -> bool {
    matches!(finding.kind, FindingKind::BankConflict | FindingKind::Uncoalesced)
}

fn spec_edits(spec: &Spec) -> Vec<(String, String, Spec)> {
    let mut out = Vec::new();
    for (at, param) in spec.params.iter().enumerate() {
        let Param::Map(buffer, map) = param else { continue };
        let mut put = |operator: &str, changed| {
            let mut spec = spec.clone();
            spec.params[at] = Param::Map(*buffer, changed);
            out.push((operator.to_string(), format!("tensor map {at}"), spec));
        };
        for swizzle in Swizzle::ALL {
            if swizzle != map.swizzle {
                put(&format!("map-swizzle-{swizzle:?}"), tilewright_emulator::TensorMap { swizzle, ..map.clone() });
            }
        }
        for axis in 0..map.box_dims.len() {
            if map.box_dims[axis] > 1 {
                let mut changed = map.clone();
                changed.box_dims[axis] /= 2;
                put(&format!("map-box-{axis}/2"), changed);
            }
            let mut changed = map.clone();
            changed.dims[axis] -= if axis == 0 { 8.min(changed.dims[0] - 1) } else { 1.min(changed.dims[axis] - 1) };
            if changed.dims != map.dims {
                put(&format!("map-dim-{axis}-smaller"), changed);
            }
        }
    }
    out
}

fn directive_edits(text: &str) -> Vec<(String, String, String)> {
    let mut out = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if !line.starts_with("// arg: map ") {
            continue;
        }
        let mut put = |operator: &str, changed: String| {
            let lines: Vec<&str> = text.lines().collect();
            let mut lines: Vec<String> = lines.into_iter().map(str::to_string).collect();
            lines[at] = changed;
            out.push((operator.to_string(), line.to_string(), lines.join("\n")));
        };
        for swizzle in ["32", "64", "128"] {
            let old = line.split("swizzle=").nth(1).map(|rest| rest.split(' ').next().unwrap_or_default());
            match old {
                Some(old) if old != swizzle => {
                    put(
                        &format!("map-swizzle-B{swizzle}"),
                        line.replace(&format!("swizzle={old}"), &format!("swizzle={swizzle}")),
                    );
                }
                Some(_) => put("map-swizzle-None", line.replace(&format!("swizzle={swizzle}"), "")),
                None => put(&format!("map-swizzle-B{swizzle}"), format!("{line} swizzle={swizzle}")),
            }
        }
        let Some(sizes) = line.split("box=").nth(1).and_then(|rest| rest.split(' ').next()) else { continue };
        let numbers: Vec<u32> = sizes.split(',').filter_map(|size| size.parse().ok()).collect();
        for axis in 0..numbers.len() {
            let mut changed = numbers.clone();
            changed[axis] = (changed[axis] / 2).max(1);
            if changed != numbers {
                let changed: Vec<String> = changed.iter().map(u32::to_string).collect();
                put(&format!("map-box-{axis}/2"), line.replace(&format!("box={sizes}"), &format!("box={}", changed.join(","))));
            }
        }
    }
    out
}
