//! What is tried first: the model's order.

use super::found::SearchError;
use super::settings::Settings;
use crate::device::DeviceProfile;
use crate::random::hash;
use crate::space::{Point, Space};
use crate::task::Task;
use rayon::prelude::*;
use std::collections::{BTreeSet, HashMap};

/// The points of a task that pass the rules without a compiler, with the model's seconds, best first; of ties the smaller id.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// The task.
    pub task: Task,
    /// Points and seconds.
    pub points: Vec<(Point, f64)>,
    seconds: HashMap<Point, f64>,
}

impl Ranking {
    /// Ranks a space for a task.
    pub fn new(space: &dyn Space, device: &DeviceProfile, task: &Task) -> Result<Self, SearchError> {
        let all = space.points();
        let promising = all.par_iter().filter(|p| space.promising(task, p).is_ok());
        let mut points: Vec<_> = promising.map(|p| (p.clone(), space.estimate(device, task, p, None).seconds)).collect();
        points.retain(|p| p.1.is_finite());
        if points.is_empty() {
            let why = all.first().map_or_else(
                || "the space is empty".into(),
                |p| match space.promising(task, p) {
                    Ok(()) => format!("{p}: the model has no time for it"),
                    Err(why) => format!("{p}: {why}"),
                },
            );
            return Err(SearchError::NoCandidate { task: task.to_string(), why });
        }
        // Stable, and points come by id.
        points.sort_by(|a, b| a.1.total_cmp(&b.1));
        let seconds = points.iter().cloned().collect();
        Ok(Ranking { task: task.clone(), points, seconds })
    }

    /// The model's seconds of a point.
    pub fn seconds(&self, point: &Point) -> Option<f64> {
        self.seconds.get(point).copied()
    }

    /// The points to try: the model's best, the best of each kind of kernel, and some drawn from the rest. `usable` is asked of
    /// each in turn, since only the compiler knows whether it fits.
    pub fn shortlist(&self, settings: &Settings, usable: impl Fn(&Point) -> bool) -> Vec<Point> {
        let mut list: Vec<Point> = Vec::new();
        let mut known = BTreeSet::new();
        let mut kinds = BTreeSet::new();
        let mut limit = f64::INFINITY;
        for (p, seconds) in &self.points {
            let room = if *seconds <= limit { settings.widest } else { 0 };
            let wanted = list.len() < settings.shortlist.max(room).max(1) || !kinds.contains(&kind(p));
            if wanted && usable(p) {
                limit = limit.min(seconds * (1.0 + settings.margin));
                kinds.insert(kind(p));
                known.insert(p);
                list.push(p.clone());
            }
        }
        let mut rest: Vec<&Point> = self.points.iter().map(|p| &p.0).filter(|p| !known.contains(p)).collect();
        rest.sort_by_cached_key(|p| hash(settings.seed, &[&self.task.to_string(), &p.to_string()]));
        list.extend(rest.into_iter().filter(|p| usable(p)).take(settings.drawn).cloned());
        list
    }
}

/// What sets kernels apart that the model may be wrong about as a whole.
pub(super) fn kind(p: &Point) -> (&str, bool, bool) {
    let many = |axis: &str| p.get(axis).is_some_and(|v| v != "1" && v != "0");
    (p.get("kind").unwrap_or_default(), p.get("unpack").is_some(), many("splits") || p.get("split") == Some("1"))
}
