//! The search of one task: a function of its log, which is asked first; the device is asked for the rest.

use super::found::{End, Found, SearchError, Times};
use super::measure::{Failure, Measure, Sample};
use super::rank::Ranking;
use super::settings::{HEATS, NEAR, PARENTS, Settings, TIE};
use crate::log::{LogError, Outcome, Trial, TrialLog};
use crate::space::{Point, Space};
use crate::task::Task;
use std::collections::{BTreeMap, BTreeSet};

/// A task to search.
pub struct Search<'a> {
    /// What may be tried.
    pub space: &'a dyn Space,
    /// In which order.
    pub ranking: &'a Ranking,
    /// How much.
    pub settings: Settings,
}

/// A search as it goes on.
struct Run<'s> {
    s: &'s Search<'s>,
    measure: &'s mut dyn Measure,
    log: &'s mut TrialLog,
    used: usize,
    seconds: f64,
    samples: BTreeMap<Point, Vec<Sample>>,
    failed: BTreeMap<Point, Failure>,
    spent: bool,
}

impl Search<'_> {
    /// Runs it. What the log holds is not measured again, so a search that was killed goes on where it was and ends the same.
    pub fn run(&self, measure: &mut dyn Measure, log: &mut TrialLog) -> Result<Found, SearchError> {
        let (samples, failed) = (BTreeMap::new(), BTreeMap::new());
        let mut run = Run { s: self, measure, log, used: 0, seconds: 0.0, samples, failed, spent: false };
        let found = run.task()?;
        log.sync()?;
        Ok(found)
    }
}

impl Run<'_> {
    fn task(&mut self) -> Result<Found, SearchError> {
        let s = self.s;
        let task = &s.ranking.task;
        let first = {
            let device = &*self.measure;
            s.ranking.shortlist(&s.settings, |p| device.available(task, p) && s.space.check(task, p).is_ok())
        };
        if first.is_empty() {
            let (p, _) = &s.ranking.points[0];
            let why = match s.space.check(task, p) {
                Err(why) => format!("{p}: {why}"),
                Ok(()) => format!("{p} and the others cannot be run here"),
            };
            return Err(SearchError::NoCandidate { task: task.to_string(), why });
        }
        let mut tried: BTreeSet<Point> = first.iter().cloned().collect();
        self.race(first)?;
        // While the best three change, they have neighbours that were not tried.
        for _ in 0..s.settings.steps {
            let near: BTreeSet<Point> =
                self.order().into_iter().take(PARENTS).flat_map(|(p, _)| s.space.neighbours(&p)).collect();
            let device = &*self.measure;
            let usable = |p: &Point| device.available(task, p) && s.space.check(task, p).is_ok();
            let new: Vec<Point> = near.into_iter().filter(|p| !tried.contains(p) && usable(p)).collect();
            if new.is_empty() || self.spent {
                break;
            }
            tried.extend(new.iter().cloned());
            self.race(new)?;
        }
        let finals = self.finals()?;
        self.found(tried.len(), finals)
    }

    /// The smallest median so far.
    fn best(&self) -> f64 {
        self.order().first().map_or(f64::INFINITY, |p| p.1)
    }

    /// Points that were sampled most and work, by median; of ties the smaller id.
    fn order(&self) -> Vec<(Point, f64)> {
        let most = self.samples.iter().filter(|(p, _)| !self.failed.contains_key(p)).map(|(_, s)| s.len()).max().unwrap_or(0);
        let full = self.samples.iter().filter(|(p, s)| s.len() == most && !self.failed.contains_key(p));
        let mut list: Vec<_> = full.filter_map(|(p, s)| Some((p.clone(), Times::of(s)?.median))).collect();
        list.sort_by(|a, b| a.1.total_cmp(&b.1));
        list
    }

    /// Gates and times candidates: one sample of each, three of those that may still win, nine of the rest of them.
    ///
    /// A heat drops a candidate whose *fastest* run is slower than the best median by more than chance explains: 30 % after one
    /// sample, 5 % after three, each with the noise of this device on top. One sample may be an outlier, of which a device has a
    /// few percent: one that is 30 % slower than the model and the others make expect is not believed, and the candidate stays.
    fn race(&mut self, points: Vec<Point>) -> Result<(), SearchError> {
        let (mut running, mut from) = (points, 0);
        for (heat, to) in HEATS.into_iter().enumerate() {
            let mut timed = Vec::new();
            for p in running {
                // One after the other, so that a budget that ends in the first heat has times of some.
                if (heat > 0 || self.gate(&p)?) && self.time(&p, from, to - from)? {
                    timed.push(p);
                }
            }
            from = to;
            let noise = self.noise();
            let slack = [0.30 + 2.0 * noise, 0.05 + 2.0 * noise, f64::INFINITY][heat];
            let sampled = |p: &Point| self.samples.get(p).map_or(&[][..], Vec::as_slice);
            let median = |p: &Point| Times::of(sampled(p)).map_or(f64::INFINITY, |t| t.median);
            let fastest = |p: &Point| sampled(p).iter().map(|s| s.seconds).fold(f64::INFINITY, f64::min);
            let best = timed.iter().map(median).fold(self.best(), f64::min);
            let expected = self.expected();
            let odd = |p: &Point| heat == 0 && fastest(p) > 1.3 * expected(p);
            timed.retain(|p| fastest(p) <= best * (1.0 + slack) || odd(p));
            running = timed;
        }
        Ok(())
    }

    /// Seconds of a point by the model, on the scale of what was measured.
    fn expected(&self) -> impl Fn(&Point) -> f64 {
        let modelled = |p: &Point| self.s.ranking.seconds(p);
        let ratio = |(p, s): (&Point, &Vec<Sample>)| Some(Times::of(s)?.median / modelled(p)?);
        let mut ratios: Vec<f64> = self.samples.iter().filter_map(ratio).collect();
        ratios.sort_by(f64::total_cmp);
        let scale = ratios.get(ratios.len() / 2).copied().unwrap_or(1.0);
        move |p| modelled(p).map_or(f64::INFINITY, |s| s * scale)
    }

    /// Half of what separates the fifths of a candidate's runs, as a part of its median: that of the candidate in the middle.
    fn noise(&self) -> f64 {
        let spread = |s: &Vec<Sample>| Times::of(s).filter(|t| t.samples > 2).map(|t| (t.p80 - t.p20) / 2.0 / t.median);
        let mut list: Vec<f64> = self.samples.values().filter_map(spread).collect();
        list.sort_by(f64::total_cmp);
        list.get(list.len() / 2).copied().unwrap_or(0.0)
    }

    /// Finalists in turns; each with its times.
    fn finals(&mut self) -> Result<Vec<(Point, Times)>, SearchError> {
        let (order, noise) = (self.order(), self.noise());
        let limit = order.first().map_or(0.0, |b| b.1 * (1.0 + NEAR + noise));
        let near = order.into_iter().take_while(|p| p.1 <= limit).take(self.s.settings.finalists.max(1));
        let mut points: Vec<Point> = near.map(|p| p.0).collect();
        points.sort();
        if points.len() < 2 {
            return Ok(Vec::new());
        }
        let (task, rounds) = (self.s.ranking.task.clone(), self.s.settings.rounds.max(1));
        let trial = Trial::Interleaved { task: task.clone(), points: points.clone(), from: 0, rounds };
        let made = self.trial(trial, |m| {
            let turns = m.interleaved(&task, &points, 0, rounds);
            let noted = |t: Result<Vec<Sample>, Failure>| t.and_then(|list| noted(list, rounds));
            let missing = || Err(Failure::Crashed("the device gave no answer for it".into()));
            let mut turns: Vec<_> = turns.into_iter().map(noted).collect();
            turns.resize_with(points.len(), missing);
            Outcome::Turns(turns)
        })?;
        let Some(Outcome::Turns(turns)) = made else { return Ok(Vec::new()) };
        let mut list = Vec::new();
        for (p, turn) in points.into_iter().zip(turns) {
            match turn {
                Ok(samples) => list.extend(Times::of(&samples).map(|t| (p, t))),
                Err(failure) => drop(self.failed.insert(p, failure)),
            }
        }
        list.sort_by(|a, b| a.1.median.total_cmp(&b.1.median));
        Ok(list)
    }

    fn found(&mut self, tried: usize, finals: Vec<(Point, Times)>) -> Result<Found, SearchError> {
        let task = self.s.ranking.task.clone();
        let order = self.order();
        let timed: Vec<(Point, Times)> =
            order.iter().filter_map(|(p, _)| Some((p.clone(), Times::of(self.samples.get(p)?)?))).collect();
        // Finals cut short or failed leave the order of the race.
        let mut list = if finals.is_empty() { timed } else { finals };
        let Some(fastest) = list.first().map(|p| p.1.median) else {
            return Err(match self.failed.iter().next_back() {
                Some((p, last)) if !self.spent => {
                    SearchError::NoneRight { task: task.to_string(), tried, point: p.to_string(), last: last.clone() }
                }
                _ => SearchError::Budget { task: task.to_string(), trials: self.used },
            });
        };
        let ties = list.iter().take_while(|p| p.1.median <= fastest * (1.0 + TIE));
        let at = ties.enumerate().min_by(|a, b| a.1.0.cmp(&b.1.0)).map_or(0, |(i, _)| i);
        let best = list.remove(at);
        let mut all: Vec<(Point, f64)> = self
            .samples
            .iter()
            .filter(|(p, _)| !self.failed.contains_key(p))
            .filter_map(|(p, s)| Some((p.clone(), Times::of(s)?.median)))
            .collect();
        all.sort_by(|a, b| a.1.total_cmp(&b.1));
        Ok(Found {
            modelled: self.s.ranking.seconds(&best.0).unwrap_or(f64::NAN),
            runner_up: list.into_iter().next(),
            best,
            timed: all,
            failed: std::mem::take(&mut self.failed).into_iter().collect(),
            trials: self.used,
            end: if self.spent { End::Budget } else { End::Settled },
            task,
        })
    }

    /// Looks a trial up, or makes it where the budget has room.
    fn trial(&mut self, trial: Trial, make: impl FnOnce(&mut dyn Measure) -> Outcome) -> Result<Option<Outcome>, LogError> {
        let settings = &self.s.settings;
        if self.used >= settings.trials || settings.seconds.is_some_and(|s| self.seconds >= s) {
            self.spent = true;
            return Ok(None);
        }
        self.used += 1;
        let outcome = match self.log.get(&trial) {
            Some(known) => known.clone(),
            None => {
                let outcome = make(self.measure);
                self.log.push(trial, outcome.clone())?;
                outcome
            }
        };
        self.seconds += outcome.seconds();
        Ok(Some(outcome))
    }

    /// Whether a candidate's numbers are right.
    fn gate(&mut self, p: &Point) -> Result<bool, SearchError> {
        let task = &self.s.ranking.task;
        let trial = Trial::Gate { task: task.clone(), point: p.clone() };
        if let Some(Outcome::Right { artifact: Some(logged) }) = self.log.get(&trial)
            && let Some(now) = self.measure.artifact(task, p)
            && now != *logged
        {
            let (task, point, logged) = (task.to_string(), p.to_string(), logged.clone());
            return Err(SearchError::Changed { task, point, logged, now });
        }
        let made = self.trial(trial, |m| match m.check(task, p) {
            Ok(()) => Outcome::Right { artifact: m.artifact(task, p) },
            Err(failure) => Outcome::Failed(failure),
        })?;
        Ok(self.settle(p, made).is_some())
    }

    /// Runs a candidate some more; whether it did.
    fn time(&mut self, p: &Point, from: u32, count: u32) -> Result<bool, SearchError> {
        let task = &self.s.ranking.task;
        let trial = Trial::Times { task: task.clone(), point: p.clone(), from, count };
        let made = self.trial(trial, |m| match m.time(task, p, from, count).and_then(|list| noted(list, count)) {
            Ok(list) => Outcome::Samples(list),
            Err(failure) => Outcome::Failed(failure),
        })?;
        let Some(outcome) = self.settle(p, made) else { return Ok(false) };
        if let Outcome::Samples(list) = outcome {
            self.samples.entry(p.clone()).or_default().extend(list);
        }
        Ok(true)
    }

    /// Keeps a failure as data.
    fn settle(&mut self, p: &Point, made: Option<Outcome>) -> Option<Outcome> {
        match made? {
            Outcome::Failed(failure) => {
                self.failed.insert(p.clone(), failure);
                None
            }
            outcome => Some(outcome),
        }
    }
}

/// Samples as the log gives them back, all of them.
fn noted(list: Vec<Sample>, count: u32) -> Result<Vec<Sample>, Failure> {
    if list.len() != count as usize {
        return Err(Failure::Crashed(format!("{} samples of {count}", list.len())));
    }
    list.into_iter().map(Sample::noted).collect()
}

/// Tasks of a shard, 1 of n to n of n: by a hash of their ids, so that it does not depend on the list they stand in.
pub fn shard(tasks: &[Task], index: u32, count: u32) -> Vec<Task> {
    let own = |t: &&Task| crate::random::hash(0, &[&t.to_string()]) % u64::from(count.max(1)) == u64::from(index.wrapping_sub(1));
    tasks.iter().filter(own).cloned().collect()
}
