//! The search: group after group, the candidate with which the whole network takes least.

use super::candidate::Candidate;
use super::cost::Model;
use super::log::{Header, LogError, Outcome, Trial, TrialLog};
use super::measure::{Failure, Measure};
use super::space::Space;
use super::work::{NetworkWork, WorkError, digest};
use crate::random::hash;
use serde::Serialize;

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// What is drawn beside the model's best follows from it.
    pub seed: u64,
    /// Candidates of a group that the model ranks first.
    pub best: usize,
    /// Candidates drawn from the others.
    pub drawn: usize,
    /// Runs of a candidate, of which the median counts.
    pub samples: u32,
    /// Runs of those that are left at the end of a group.
    pub final_samples: u32,
    /// How many may be left.
    pub finalists: usize,
    /// Most trials altogether, counting those of the log. Groups that come after keep the model's choice.
    pub trials: usize,
}

/// A search over the groups of a network.
#[derive(Clone, Debug)]
pub struct Search<'a> {
    /// What there is to tune.
    pub work: &'a NetworkWork,
    /// What ranks candidates before they are tried.
    pub model: Model<'a>,
    /// What they are drawn from.
    pub space: Space,
    /// How much is tried.
    pub settings: Settings,
    ranked: Vec<Vec<(Candidate, f64)>>,
}

/// What came of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupFound {
    /// The choice.
    pub choice: Candidate,
    /// Seconds of the whole network for each candidate that was timed, best first.
    pub timed: Vec<(Candidate, f64)>,
    /// Candidates that failed, and why, in the order they were tried.
    pub failed: Vec<(Candidate, Failure)>,
    /// Whether the budget ended before all were tried.
    pub cut_short: bool,
}

/// What came of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Group by group.
    pub groups: Vec<GroupFound>,
    /// Seconds of the whole network with these choices; none where the budget ended before it could be timed.
    pub seconds: Option<f64>,
    /// Trials, those of the log included.
    pub trials: usize,
}

/// A search that ends without a choice.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// What there is to tune.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A group that the space has nothing for.
    #[error("group {group} has no candidate: {why}")]
    NoCandidate {
        /// The group.
        group: String,
        /// Why its first point is none.
        why: String,
    },
    /// A group of which no candidate works.
    #[error("none of the {tried} candidates of group {group} that were tried is right; the last {last}")]
    NoneRight {
        /// The group.
        group: String,
        /// How many.
        tried: usize,
        /// What was wrong with the last.
        last: Failure,
    },
    /// The budget ended before each group had a candidate that is right.
    #[error("{trials} trials end before group {group} has a candidate that is right")]
    Budget {
        /// The budget.
        trials: usize,
        /// The group.
        group: String,
    },
}

/// Times that differ by less than this part of what the group takes are ties, which the smaller id wins.
const TIE: f64 = 0.01;
/// Candidates within this part of what the group takes are timed again.
const NEAR: f64 = 0.15;

/// What finds the best within 2 % where the model is off by 10 % a candidate and a run by 1 %; where the model is off by 20 %, twice
/// as many candidates do.
impl Default for Settings {
    fn default() -> Self {
        Settings { seed: 0, best: 48, drawn: 8, samples: 9, final_samples: 41, finalists: 8, trials: 10_000 }
    }
}

/// A search as it goes on.
struct Run<'s, 'm> {
    s: &'s Search<'s>,
    measure: &'m mut dyn Measure,
    log: &'m mut TrialLog,
    used: usize,
}

/// Why a trial brought nothing.
enum Stop {
    Failed(String, Failure),
    Budget,
}

type Tried<T> = Result<Result<T, Stop>, LogError>;

impl<'a> Search<'a> {
    /// Ranks the candidates of each group; work that contradicts itself and groups without candidates are refused.
    pub fn new(work: &'a NetworkWork, model: Model<'a>, space: Space, settings: Settings) -> Result<Self, SearchError> {
        work.check()?;
        let rank = |group: usize| {
            let (legal, illegal) = space.candidates(work, group);
            if legal.is_empty() {
                let why = illegal.first().map_or_else(|| "the space is empty".into(), |(c, why)| format!("{c}: {why}"));
                return Err(SearchError::NoCandidate { group: work.groups[group].name.clone(), why });
            }
            let time = |c: Candidate| (c, model.group(work, group, &c).chosen_seconds());
            let mut list: Vec<_> = legal.into_iter().map(time).collect();
            // Stable, and the candidates come by id.
            list.sort_by(|a, b| a.1.total_cmp(&b.1));
            Ok(list)
        };
        let ranked = (0..work.groups.len()).map(rank).collect::<Result<_, _>>()?;
        Ok(Search { work, model, space, settings, ranked })
    }

    /// What a log of this search is headed by.
    pub fn header(&self) -> Header {
        let w = self.work;
        let ids: Vec<String> = self.space.points(w.precision).iter().map(Candidate::to_string).collect();
        let (deterministic, most) = (self.space.deterministic, self.space.workspace_bytes);
        let search = digest(&(&self.settings, ids, self.space.arch.caps().name, deterministic, most));
        Header::new(&w.network, w.shape_fingerprint(), w.stats_fingerprint(), &self.model.device.name, search)
    }

    /// Candidates of a group with what the model says of lists and layers, seconds, best first.
    pub fn ranked(&self, group: usize) -> &[(Candidate, f64)] {
        &self.ranked[group]
    }

    /// What the model alone chooses: of each group the candidate that takes least, of ties the smaller id. Groups add up, so that
    /// this is also what a greedy search over modelled times of the whole ends at.
    pub fn modelled(&self) -> Vec<Candidate> {
        let pick = |list: &Vec<(Candidate, f64)>| {
            let ties = list.iter().take_while(|c| c.1 <= list[0].1 * (1.0 + TIE));
            ties.min_by_key(|c| c.0.to_string()).map_or(list[0].0, |c| c.0)
        };
        self.ranked.iter().map(pick).collect()
    }

    /// Runs it: each group's candidates are timed with all other groups at their choice so far, so that maps, sorting and
    /// reordering are charged. What the log holds is not measured again.
    pub fn run(&self, measure: &mut dyn Measure, log: &mut TrialLog) -> Result<Found, SearchError> {
        let ranked = &self.ranked;
        let mut run = Run { s: self, measure, log, used: 0 };
        let mut failed: Vec<Vec<(Candidate, Failure)>> = vec![Vec::new(); ranked.len()];
        let mut choice = run.start(ranked, &mut failed)?;
        let mut groups = Vec::new();
        for (g, list) in ranked.iter().enumerate() {
            let modelled: f64 = self.model.network(self.work, &choice);
            let found = run.group(g, list, &choice, modelled, std::mem::take(&mut failed[g]))?;
            choice[g] = found.choice;
            groups.push(found);
        }
        let from = self.settings.samples + self.settings.final_samples;
        let seconds = run.whole(&choice, from, self.settings.final_samples)?.ok();
        Ok(Found { groups, seconds, trials: run.used })
    }

    /// Candidates of a group to try: the model's best, the best of each dataflow, and some drawn from the rest.
    fn shortlist(&self, group: usize, ranked: &[(Candidate, f64)]) -> Vec<(Candidate, f64)> {
        let (best, drawn) = (self.settings.best.max(1), self.settings.drawn);
        let mut list: Vec<_> = ranked.iter().take(best).copied().collect();
        for c in ranked.iter().skip(best) {
            if list.iter().all(|l| l.0.flow.family() != c.0.flow.family()) {
                list.push(*c);
            }
        }
        let mut rest: Vec<_> = ranked.iter().filter(|c| !list.contains(c)).copied().collect();
        let name = &self.work.groups[group].name;
        rest.sort_by_cached_key(|c| hash(self.settings.seed, &[name, &c.0.to_string()]));
        list.extend(rest.into_iter().take(drawn));
        list
    }
}

impl Run<'_, '_> {
    fn name(&self, group: usize) -> String {
        self.s.work.groups[group].name.clone()
    }

    /// Looks a trial up, or makes it where the budget has room.
    fn trial(&mut self, trial: Trial, make: impl FnOnce(&mut dyn Measure) -> Outcome) -> Tried<Outcome> {
        if self.used >= self.s.settings.trials {
            return Ok(Err(Stop::Budget));
        }
        self.used += 1;
        if let Some(known) = self.log.get(&trial) {
            return Ok(Ok(known.clone()));
        }
        let outcome = make(self.measure);
        self.log.push(trial, outcome.clone())?;
        Ok(Ok(outcome))
    }

    fn check(&mut self, group: usize, c: &Candidate) -> Tried<()> {
        let name = self.name(group);
        let trial = Trial::Check { group: name.clone(), candidate: c.to_string() };
        let made = self.trial(trial, |m| match m.check(group, c) {
            Ok(()) => Outcome::Right,
            Err(failure) => Outcome::Failed { group: name, failure },
        })?;
        Ok(made.and_then(|o| match o {
            Outcome::Failed { group, failure } => Err(Stop::Failed(group, failure)),
            Outcome::Right | Outcome::Nanoseconds(_) => Ok(()),
        }))
    }

    fn whole(&mut self, choice: &[Candidate], from: u32, samples: u32) -> Tried<f64> {
        let trial = Trial::Whole { choice: fingerprint(choice), from };
        self.time(trial, choice, from, samples)
    }

    fn with(&mut self, group: usize, choice: &[Candidate], from: u32, samples: u32) -> Tried<f64> {
        let (group, candidate) = (self.name(group), choice[group].to_string());
        let trial = Trial::Time { group, candidate, choice: fingerprint(choice), from };
        self.time(trial, choice, from, samples)
    }

    /// The median of some runs.
    fn time(&mut self, trial: Trial, choice: &[Candidate], from: u32, samples: u32) -> Tried<f64> {
        let names: Vec<String> = (0..choice.len()).map(|g| self.name(g)).collect();
        let made = self.trial(trial, |m| {
            let mut runs = Vec::new();
            for sample in from..from + samples.max(1) {
                match m.time(choice, sample) {
                    Ok(t) if t.is_finite() && t > 0.0 => runs.push((t * 1e9).round() as u64),
                    Ok(t) => {
                        let failure = Failure::Crashed(format!("it took {t} seconds"));
                        return Outcome::Failed { group: String::new(), failure };
                    }
                    Err(b) => {
                        let group = names.get(b.group).cloned().unwrap_or_default();
                        return Outcome::Failed { group, failure: b.failure };
                    }
                }
            }
            Outcome::Nanoseconds(runs)
        })?;
        Ok(made.and_then(|o| match o {
            Outcome::Nanoseconds(mut runs) if !runs.is_empty() => {
                runs.sort_unstable();
                Ok(runs[runs.len() / 2] as f64 * 1e-9)
            }
            Outcome::Failed { group, failure } => Err(Stop::Failed(group, failure)),
            Outcome::Nanoseconds(_) | Outcome::Right => {
                Err(Stop::Failed(String::new(), Failure::Crashed("the log has no time of it".into())))
            }
        }))
    }

    /// A choice that runs: of each group the first candidate, by the model's rank, that is right and does not break the whole.
    fn start(
        &mut self,
        ranked: &[Vec<(Candidate, f64)>],
        failed: &mut [Vec<(Candidate, Failure)>],
    ) -> Result<Vec<Candidate>, SearchError> {
        let mut choice = Vec::new();
        for (g, list) in ranked.iter().enumerate() {
            choice.push(self.first_right(g, list, &mut failed[g])?);
        }
        while !choice.is_empty() {
            match self.whole(&choice, 0, self.s.settings.samples)? {
                Ok(_) | Err(Stop::Budget) => break,
                Err(Stop::Failed(group, failure)) => {
                    // Where nobody knows which group it was, it was the last.
                    let g = (0..choice.len()).find(|g| self.s.work.groups[*g].name == group).unwrap_or(choice.len() - 1);
                    failed[g].push((choice[g], failure));
                    choice[g] = self.first_right(g, &ranked[g], &mut failed[g])?;
                }
            }
        }
        Ok(choice)
    }

    /// The first candidate, by the model's rank, that has not failed and is right.
    fn first_right(
        &mut self,
        group: usize,
        ranked: &[(Candidate, f64)],
        failed: &mut Vec<(Candidate, Failure)>,
    ) -> Result<Candidate, SearchError> {
        for (c, _) in ranked {
            if failed.iter().any(|f| f.0 == *c) {
                continue;
            }
            match self.check(group, c)? {
                Ok(()) => return Ok(*c),
                Err(Stop::Failed(_, why)) => failed.push((*c, why)),
                Err(Stop::Budget) => {
                    return Err(SearchError::Budget { trials: self.s.settings.trials, group: self.name(group) });
                }
            }
        }
        let last = failed.last().map_or(Failure::Crashed("nothing was tried".into()), |f| f.1.clone());
        Err(SearchError::NoneRight { group: self.name(group), tried: failed.len(), last })
    }

    fn group(
        &mut self,
        group: usize,
        ranked: &[(Candidate, f64)],
        choice: &[Candidate],
        modelled: f64,
        mut failed: Vec<(Candidate, Failure)>,
    ) -> Result<GroupFound, SearchError> {
        let with = |c: Candidate| {
            let mut all = choice.to_vec();
            all[group] = c;
            all
        };
        let settings = self.s.settings;
        // The choice so far is tried with the others, even if many before it failed.
        let mut list = self.s.shortlist(group, ranked);
        list.extend(ranked.iter().filter(|r| r.0 == choice[group] && !list.contains(r)).copied().collect::<Vec<_>>());
        let (mut timed, mut cut_short): (Vec<(Candidate, f64)>, bool) = (Vec::new(), false);
        for (c, _) in list {
            if failed.iter().any(|f| f.0 == c) {
                continue;
            }
            let gate = if c == choice[group] { Ok(()) } else { self.check(group, &c)? };
            let time = match gate {
                Ok(()) => self.with(group, &with(c), 0, settings.samples)?,
                Err(stop) => Err(stop),
            };
            match time {
                Ok(t) => timed.push((c, t)),
                Err(Stop::Failed(_, why)) => failed.push((c, why)),
                Err(Stop::Budget) => cut_short = true,
            }
        }
        timed.sort_by(|a, b| a.1.total_cmp(&b.1));
        let Some(&(_, best)) = timed.first() else {
            return match failed.last() {
                // What the group began with was right, but could not be timed, and nothing else could.
                Some((_, last)) if !cut_short => {
                    Err(SearchError::NoneRight { group: self.name(group), tried: failed.len(), last: last.clone() })
                }
                _ => Ok(GroupFound { choice: choice[group], timed, failed, cut_short }),
            };
        };
        // What the group takes of the whole, as the model has it.
        let mine = ranked.iter().find(|r| r.0 == timed[0].0).map_or(0.0, |r| r.1);
        let part = best * (mine / modelled).min(1.0);
        let near = timed.iter().take(settings.finalists.max(1)).take_while(|t| t.1 <= best + NEAR * part).count();
        if near > 1 {
            for t in &mut timed[..near] {
                match self.with(group, &with(t.0), settings.samples, settings.final_samples)? {
                    Ok(again) => t.1 = again,
                    Err(Stop::Budget) => cut_short = true,
                    Err(Stop::Failed(_, why)) => {
                        failed.push((t.0, why));
                        t.1 = f64::INFINITY;
                    }
                }
            }
            timed.retain(|t| t.1.is_finite());
            timed.sort_by(|a, b| a.1.total_cmp(&b.1));
        }
        let Some(&(_, best)) = timed.first() else {
            let last = failed.last().map_or(Failure::Crashed("nothing was timed".into()), |f| f.1.clone());
            return Err(SearchError::NoneRight { group: self.name(group), tried: failed.len(), last });
        };
        let ties = timed.iter().filter(|t| t.1 <= best + TIE * part);
        let winner = ties.min_by_key(|t| t.0.to_string()).map_or(timed[0].0, |t| t.0);
        Ok(GroupFound { choice: winner, timed, failed, cut_short })
    }
}

/// What names the candidates of all groups.
fn fingerprint(choice: &[Candidate]) -> String {
    digest(&choice.iter().map(Candidate::to_string).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeviceProfile;
    use crate::sparse::samples::{KITTI, minkunet, small};
    use crate::sparse::simulate::{Hidden, Simulated};
    use crate::sparse::work::Precision;

    fn search(work: &NetworkWork) -> Search<'_> {
        let device = &DeviceProfile::all()[0];
        Search::new(work, Model { device }, Space::new(device.arch), Settings::default()).unwrap()
    }

    fn seeded<'a>(s: &Search<'a>, seed: u64) -> Search<'a> {
        Search { settings: Settings { seed, ..s.settings }, ..s.clone() }
    }

    fn choice(found: &Found) -> Vec<Candidate> {
        found.groups.iter().map(|g| g.choice).collect()
    }

    /// The best choice there is: groups add up, so that each group's best candidate is in it.
    fn best(s: &Search, device: &mut Simulated) -> Vec<Candidate> {
        let mut of = |g: usize| {
            let right: Vec<_> = s.ranked(g).iter().map(|r| r.0).filter(|c| device.fault(g, c).is_none()).collect();
            right.into_iter().min_by(|a, b| device.group_seconds(g, a).total_cmp(&device.group_seconds(g, b))).unwrap()
        };
        (0..s.work.groups.len()).map(&mut of).collect()
    }

    #[test]
    fn the_search_ends_within_two_percent_of_the_best_and_never_at_what_is_wrong() {
        let networks = [minkunet(&KITTI, 1.0, Precision::F16), small()];
        for (work, seeds) in networks.iter().zip([5, 25]) {
            let (base, mut near, mut worst) = (search(work), 0, 0.0f64);
            for seed in 0..seeds {
                let s = seeded(&base, seed);
                let mut device = Simulated::new(s.model, work, seed, Hidden::default());
                let found = choice(&s.run(&mut device, &mut TrialLog::in_memory()).unwrap());
                for (g, c) in found.iter().enumerate() {
                    assert_eq!(device.fault(g, c), None, "seed {seed}: {c}");
                }
                assert_eq!(device.wasted, 0, "seed {seed}: timed although wrong");
                let ideal = best(&s, &mut device);
                let ratio = device.seconds(&found) / device.seconds(&ideal);
                worst = worst.max(ratio);
                near += usize::from(ratio <= 1.02);
            }
            assert!(near * 100 >= seeds as usize * 95, "{}: {near} of {seeds}, the worst {worst}", work.network);
        }
    }

    #[test]
    fn a_search_killed_anywhere_goes_on_where_it_was_and_ends_the_same() {
        let work = small();
        let base = search(&work);
        let s = Search { settings: Settings { best: 6, drawn: 2, samples: 3, final_samples: 5, ..base.settings }, ..base };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trials");
        let run = |path: &std::path::Path| {
            let mut device = Simulated::new(s.model, &work, 7, Hidden::default());
            let mut log = TrialLog::open(path, &s.header()).unwrap();
            let found = s.run(&mut device, &mut log).unwrap();
            (found, device.asked, std::fs::read(path).unwrap())
        };
        let (whole, asked, bytes) = run(&path);
        assert_eq!(whole.trials + 1, bytes.iter().filter(|b| **b == b'\n').count(), "a line each, and the header");
        let (again, none, same) = run(&path);
        assert!(again == whole && none == 0 && same == bytes, "nothing is left to measure");
        let mut fewer = asked;
        for kill in 0..40 {
            // Anywhere: in the header, in a line, between two.
            let end = hash(kill, &["kill"]) as usize % bytes.len();
            std::fs::write(&path, &bytes[..end]).unwrap();
            let (resumed, asked_again, after) = run(&path);
            assert!(resumed == whole && after == bytes, "killed after {end} bytes");
            let finished = bytes[..end].iter().filter(|b| **b == b'\n').count().saturating_sub(1);
            // Each trial that was finished saves what it asked the device at least once.
            assert!(asked_again <= asked - finished as u64, "{asked_again} of {asked} asked again after {finished} trials");
            fewer = fewer.min(asked_again);
        }
        assert!(fewer < asked / 4);
        // Another scene, another seed: another log.
        let other = seeded(&s, 1);
        let refused = TrialLog::open(&path, &other.header()).unwrap_err().to_string();
        assert!(refused.contains("of another search"), "{refused}");
    }

    #[test]
    fn the_same_seed_ends_the_same_and_a_budget_ends_it_early() {
        let work = small();
        let s = search(&work);
        let run = |s: &Search| {
            let mut device = Simulated::new(s.model, &work, 3, Hidden::default());
            s.run(&mut device, &mut TrialLog::in_memory())
        };
        let found = run(&s).unwrap();
        assert_eq!(run(&s).unwrap(), found);
        assert!(found.groups.iter().all(|g| !g.cut_short) && found.seconds.is_some());
        let short = Search { settings: Settings { trials: 30, ..s.settings }, ..s.clone() };
        let cut = run(&short).unwrap();
        assert_eq!(cut.trials, 30);
        assert!(cut.groups[2].cut_short && cut.groups[2].timed.is_empty());
        // What was not tried keeps the model's first that is right.
        let mut device = Simulated::new(s.model, &work, 3, Hidden::default());
        let first = s.ranked(2).iter().map(|r| r.0).find(|c| device.check(2, c).is_ok()).unwrap();
        assert_eq!(cut.groups[2].choice, first);
        let none = Search { settings: Settings { trials: 1, ..s.settings }, ..s.clone() };
        assert!(run(&none).unwrap_err().to_string().contains("1 trials end before group"));
    }

    /// A device on which all candidates take the same, but for those of a family.
    struct Flat<'a> {
        slow: &'a str,
        right: fn(&Candidate) -> bool,
    }

    impl Measure for Flat<'_> {
        fn check(&mut self, _: usize, c: &Candidate) -> Result<(), Failure> {
            if (self.right)(c) { Ok(()) } else { Err(Failure::Wrong("nan".into())) }
        }

        fn time(&mut self, choice: &[Candidate], sample: u32) -> Result<f64, crate::sparse::measure::Broken> {
            // Within half a percent: noise that must not decide.
            let slow = choice.iter().filter(|c| c.flow.family() == self.slow).count() as f64;
            Ok(1e-3 * (1.0 + slow) * (1.0 + 1e-5 * f64::from(sample % 3)))
        }
    }

    #[test]
    fn ties_go_to_the_smaller_id_and_dataflows_the_model_ranks_last_are_tried_too() {
        let work = small();
        let s = search(&work);
        let found = s.run(&mut Flat { slow: "implicit_sorted", right: |_| true }, &mut TrialLog::in_memory()).unwrap();
        for g in &found.groups {
            let families: Vec<_> = g.timed.iter().map(|t| t.0.flow.family()).collect();
            for family in ["gather_scatter", "fetch_on_demand", "implicit", "implicit_sorted"] {
                assert!(families.contains(&family), "{family} was not tried");
            }
            assert_ne!(g.choice.flow.family(), "implicit_sorted");
            let near = g.timed.iter().filter(|t| t.1 < 1.5 * g.timed[0].1).map(|t| t.0.to_string());
            assert_eq!(Some(g.choice.to_string()), near.min());
        }
        let none = s.run(&mut Flat { slow: "", right: |_| false }, &mut TrialLog::in_memory()).unwrap_err().to_string();
        assert!(none.contains("none of the") && none.contains("wrong: nan"), "{none}");
    }
}
