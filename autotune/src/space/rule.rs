//! What every space is made of: kinds of kernels with their axes, and rules with reasons.

use super::{Axis, Illegal, Point};
use crate::task::Task;
use std::collections::BTreeSet;

/// Axes that move together, and their values in natural order: neighbours stand beside each other.
#[derive(Clone, Debug)]
pub(super) struct Line {
    names: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

/// Points of one kernel: a value of each line, and what follows from them.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    /// Axes with one value.
    pub fixed: Vec<(&'static str, String)>,
    /// Free axes.
    pub lines: Vec<Line>,
}

/// A constraint: its name, and why a point breaks it.
pub(super) struct Rule<F, C> {
    /// Its name.
    pub name: &'static str,
    /// The reason, with the numbers that break it.
    pub why: fn(&F, &Task, &Point, &C) -> Option<String>,
}

impl Line {
    /// One axis.
    pub fn one<V: ToString>(names: &'static [&'static str; 1], values: impl IntoIterator<Item = V>) -> Self {
        Line { names, rows: values.into_iter().map(|v| vec![v.to_string()]).collect() }
    }

    /// Axes that a template ties together.
    pub fn tied<const N: usize>(names: &'static [&'static str; N], rows: &[[&str; N]]) -> Self {
        Line { names, rows: rows.iter().map(|r| r.map(String::from).to_vec()).collect() }
    }

    fn at(&self, p: &Point) -> Option<usize> {
        self.rows.iter().position(|r| self.names.iter().zip(r).all(|(n, v)| p.get(n) == Some(v)))
    }

    fn put(&self, p: Point, row: usize) -> Point {
        self.names.iter().zip(&self.rows[row]).fold(p, |p, (n, v)| p.with(n, v.as_str()))
    }
}

impl Kind {
    /// Whether a point names this kernel.
    pub fn is_of(&self, p: &Point) -> bool {
        self.fixed.iter().all(|(n, v)| p.get(n) == Some(v))
    }

    /// The product of its lines, without what `tied` has a reason against; that is asked as axis after axis is put.
    pub fn points(&self, tied: impl Fn(&Point) -> bool) -> Vec<Point> {
        let mut list = vec![Point::new(self.fixed.iter().cloned())];
        for line in &self.lines {
            let put = |p: &Point| (0..line.rows.len()).map(|row| line.put(p.clone(), row)).collect::<Vec<_>>();
            list = list.iter().flat_map(put).filter(|p| !tied(p)).collect();
        }
        list
    }

    /// One step along each line, both ways.
    pub fn steps(&self, p: &Point) -> Vec<Point> {
        let mut list = Vec::new();
        for line in &self.lines {
            let Some(at) = line.at(p) else { continue };
            let rows = [at.checked_sub(1), Some(at + 1).filter(|r| *r < line.rows.len())];
            list.extend(rows.into_iter().flatten().map(|row| line.put(p.clone(), row)));
        }
        list
    }

    /// The axis whose value is none of this kernel's; `derived` are axes that follow from the others.
    pub fn stranger(&self, p: &Point, derived: &[&str]) -> Option<String> {
        for line in &self.lines {
            if line.at(p).is_none() {
                let given: Vec<_> = line.names.iter().map(|n| format!("{n}={}", p.get(n).unwrap_or("?"))).collect();
                let rows: Vec<_> = line.rows.iter().map(|r| r.join(" ")).collect();
                return Some(format!("{}: {} is one of {}", given.join(","), line.names.join(" "), rows.join(", ")));
            }
        }
        let named = |axis: &str| {
            self.fixed.iter().any(|f| f.0 == axis)
                || self.lines.iter().any(|l| l.names.contains(&axis))
                || derived.contains(&axis)
        };
        p.axes().find(|(axis, _)| !named(axis)).map(|(axis, _)| format!("{axis} is no axis of {}", self.name()))
    }

    /// `kind=wgmma unpack=1`.
    pub fn name(&self) -> String {
        self.fixed.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(" ")
    }
}

/// The axes of some kinds, values in the order of the lines and each once; those that follow from others have the values that
/// occur.
pub(super) fn axes(kinds: &[Kind], derived: &[&'static str], points: &[Point]) -> Vec<Axis> {
    let mut list: Vec<Axis> = Vec::new();
    let mut add = |name: &'static str, value: &str| {
        let at = list.iter().position(|a| a.name == name).unwrap_or_else(|| {
            list.push(Axis { name, values: Vec::new() });
            list.len() - 1
        });
        if list[at].values.iter().all(|v| v != value) {
            list[at].values.push(value.to_string());
        }
    };
    for kind in kinds {
        kind.fixed.iter().for_each(|(n, v)| add(n, v));
        for line in &kind.lines {
            line.rows.iter().for_each(|r| line.names.iter().zip(r).for_each(|(n, v)| add(n, v)));
        }
    }
    for name in derived {
        let values: BTreeSet<u32> = points.iter().filter_map(|p| p.get(name)?.parse().ok()).collect();
        values.iter().for_each(|v| add(name, &v.to_string()));
    }
    list
}

/// The first rule a point breaks.
pub(super) fn first_broken<F, C>(rules: &[Rule<F, C>], family: &F, task: &Task, p: &Point, c: &C) -> Result<(), Illegal> {
    let broken = rules.iter().find_map(|r| (r.why)(family, task, p, c).map(|why| Illegal { rule: r.name, why }));
    broken.map_or(Ok(()), Err)
}
