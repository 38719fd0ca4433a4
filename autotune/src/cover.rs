//! Few plans for many problems: set cover.
//!
//! A library that held the best plan of every problem would hold a kernel for each. Plans within a few percent of each other are as
//! good, so the fewest are kept with which every problem is done within a regret of its best. The greedy rule for set cover is
//! Chvatal's ("A Greedy Heuristic for the Set-Covering Problem", 1979), at most the harmonic number of the problems worse than the
//! optimum; plans that later ones made superfluous are then left out. Of 2,000 random instances of at most 7 problems and 9
//! plans it needs one plan more than the optimum in 13, never two (a test counts them).

use serde::{Deserialize, Serialize};

/// Regret that is allowed where nobody says.
pub const REGRET: f64 = 0.03;

/// A plan and how long it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    /// Id: what ties are decided by.
    pub id: String,
    /// It takes any sizes of its class.
    pub general: bool,
    /// For each problem the seconds; none where it does not take the problem.
    pub seconds: Vec<Option<f64>>,
}

/// Which plans stay, and what that costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cover {
    /// Positions of the plans that stay, in the order of their ids.
    pub chosen: Vec<usize>,
    /// For each problem the fastest plan that stays, and its regret: how much longer than the best it takes, 0.01 for a hundredth.
    pub per_task: Vec<(usize, f64)>,
    /// The largest regret.
    pub worst: f64,
    /// What the problems together take longer, calls counted.
    pub mean: f64,
}

/// Problems that cannot be covered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CoverError {
    /// Nobody takes it.
    #[error("problem {0} has no plan: add one that takes any sizes")]
    Uncovered(usize),
    /// Sizes nobody tuned would have no plan.
    #[error("no plan takes any sizes: add a general one")]
    NoGeneral,
    /// Not a time.
    #[error("plan {id}, problem {task}: {seconds} is no time in seconds")]
    Time {
        /// The plan.
        id: String,
        /// The problem.
        task: usize,
        /// What was given.
        seconds: f64,
    },
    /// Lists of different lengths.
    #[error("plan {id} has {found} times for {expected} problems")]
    Length {
        /// The plan.
        id: String,
        /// Its times.
        found: usize,
        /// Problems.
        expected: usize,
    },
}

/// The fewest plans, by the greedy rule, with which each problem takes at most `1 + regret` times its best, and one that takes any
/// sizes. `calls` says how often each problem is done; the order of the plans does not matter.
///
/// # Errors
/// A problem that no plan takes, no general plan, times that are none.
pub fn cover(calls: &[f64], plans: &[Timed], regret: f64) -> Result<Cover, CoverError> {
    check(calls, plans)?;
    let best = |task: usize| plans.iter().filter_map(|p| p.seconds[task]).min_by(f64::total_cmp);
    let best: Vec<f64> = (0..calls.len()).map(|t| best(t).ok_or(CoverError::Uncovered(t))).collect::<Result<_, _>>()?;
    if !plans.iter().any(|p| p.general) {
        return Err(CoverError::NoGeneral);
    }
    // One more thing to be covered, beside the problems: sizes that nobody timed.
    let things = calls.len() + 1;
    let good = |plan: usize, thing: usize| match best.get(thing) {
        Some(best) => plans[plan].seconds[thing].is_some_and(|s| s <= best * (1.0 + regret)),
        None => plans[plan].general,
    };
    // Smaller ids first, so that the first of equals is the one to take.
    let mut order: Vec<usize> = (0..plans.len()).collect();
    order.sort_by(|a, b| plans[*a].id.cmp(&plans[*b].id));
    let mut open = vec![true; things];
    let mut chosen: Vec<usize> = Vec::new();
    while open.contains(&true) {
        // What it adds, not in calls: the fewest plans are wanted. Of equals the one that is good where calls are many, then the
        // one that loses less elsewhere.
        let worth = |plan: usize| {
            let adds = (0..things).filter(|t| open[*t] && good(plan, *t)).count();
            let shared: f64 = (0..calls.len()).filter(|t| good(plan, *t)).map(|t| calls[t]).sum();
            let lost = |t: usize| plans[plan].seconds[t].map_or(f64::INFINITY, |s| calls[t] * s / best[t]);
            (adds, shared, -(0..calls.len()).map(lost).sum::<f64>())
        };
        let all = order.iter().map(|p| (worth(*p), *p));
        let Some((_, plan)) = all.reduce(|a, b| if b.0 > a.0 { b } else { a }) else { break };
        (0..things).filter(|t| good(plan, *t)).for_each(|t| open[t] = false);
        chosen.push(plan);
    }
    prune(&mut chosen, things, good);
    chosen.sort_by(|a, b| plans[*a].id.cmp(&plans[*b].id));
    Ok(told(chosen, plans, &best, calls))
}

fn check(calls: &[f64], plans: &[Timed]) -> Result<(), CoverError> {
    for p in plans {
        if p.seconds.len() != calls.len() {
            return Err(CoverError::Length { id: p.id.clone(), found: p.seconds.len(), expected: calls.len() });
        }
        let wrong = |s: &f64| !(s.is_finite() && *s > 0.0);
        let bad = p.seconds.iter().enumerate().find_map(|(t, s)| s.filter(wrong).map(|s| (t, s)));
        if let Some((task, seconds)) = bad {
            return Err(CoverError::Time { id: p.id.clone(), task, seconds });
        }
    }
    Ok(())
}

/// Leaves out plans without which everything is still covered, those chosen last first.
fn prune(chosen: &mut Vec<usize>, things: usize, good: impl Fn(usize, usize) -> bool) {
    for i in (0..chosen.len()).rev() {
        let others = |t: usize| chosen.iter().enumerate().any(|(j, p)| j != i && good(*p, t));
        if (0..things).all(others) {
            chosen.remove(i);
        }
    }
}

fn told(chosen: Vec<usize>, plans: &[Timed], best: &[f64], calls: &[f64]) -> Cover {
    let of = |t: usize| {
        let timed = chosen.iter().filter_map(|p| plans[*p].seconds[t].map(|s| (*p, s)));
        // Every problem is covered, so there is one.
        timed.reduce(|a, b| if b.1 < a.1 { b } else { a }).unwrap_or((0, f64::INFINITY))
    };
    let fastest: Vec<(usize, f64)> = (0..calls.len()).map(of).collect();
    let per_task: Vec<(usize, f64)> = fastest.iter().zip(best).map(|((p, s), best)| (*p, s / best - 1.0)).collect();
    let all: f64 = best.iter().zip(calls).map(|(s, calls)| s * calls).sum();
    let with: f64 = fastest.iter().zip(calls).map(|((_, s), calls)| s * calls).sum();
    let worst = per_task.iter().map(|t| t.1).fold(0.0, f64::max);
    Cover { chosen, worst, mean: if all > 0.0 { with / all - 1.0 } else { 0.0 }, per_task }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{hash, unit};

    fn plan(id: &str, seconds: &[f64]) -> Timed {
        Timed {
            id: id.into(),
            general: id.starts_with('g'),
            seconds: seconds.iter().map(|s| Some(*s).filter(|s| *s > 0.0)).collect(),
        }
    }

    fn ids(plans: &[Timed], regret: f64) -> Vec<String> {
        let calls = vec![1.0; plans[0].seconds.len()];
        cover(&calls, plans, regret).unwrap().chosen.iter().map(|p| plans[*p].id.clone()).collect()
    }

    #[test]
    fn plans_within_the_regret_are_one() {
        let plans = [plan("a", &[1.0, 2.0, 9.0]), plan("b", &[1.02, 1.98, 1.0]), plan("g", &[3.0, 3.0, 3.0])];
        assert_eq!(ids(&plans, 0.03), ["b", "g"]);
        assert_eq!(ids(&plans, 0.0), ["a", "b", "g"]);
        let c = cover(&[1.0, 1.0, 2.0], &plans, 0.03).unwrap();
        assert_eq!((c.per_task[0].0, c.per_task[2].0), (1, 1));
        assert!((c.worst - 0.02).abs() < 1e-12 && (c.mean - 0.02 / 4.98).abs() < 1e-12, "{c:?}");
        // A general plan that is good enough needs no other beside it.
        assert_eq!(ids(&[plan("a", &[1.0, 1.0]), plan("g", &[1.01, 1.0])], 0.03), ["g"]);
    }

    #[test]
    fn equals_go_to_the_smaller_id_in_whatever_order_plans_come() {
        let mut plans = [plan("c", &[1.0, 1.0]), plan("b", &[1.0, 1.0]), plan("gz", &[2.0, 2.0]), plan("ga", &[2.0, 2.0])];
        assert_eq!(ids(&plans, 0.03), ["b", "ga"]);
        plans.reverse();
        assert_eq!(ids(&plans, 0.03), ["b", "ga"]);
    }

    #[test]
    fn what_cannot_be_covered_says_why() {
        let says = |calls: &[f64], plans: &[Timed], why: &str| {
            let error = cover(calls, plans, 0.03).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        says(&[1.0, 1.0], &[plan("g", &[1.0, 0.0])], "problem 1 has no plan");
        says(&[1.0], &[plan("a", &[1.0])], "no plan takes any sizes");
        says(&[1.0], &[plan("g", &[f64::INFINITY])], "plan g, problem 0: inf is no time");
        says(&[1.0, 1.0], &[plan("g", &[1.0])], "1 times for 2 problems");
        assert_eq!(cover(&[], &[plan("g", &[])], 0.03).unwrap().chosen, [0]);
    }

    /// The fewest plans there can be, by trying all sets.
    fn optimum(plans: &[Timed], tasks: usize, regret: f64) -> u32 {
        let best = |t: usize| plans.iter().filter_map(|p| p.seconds[t]).fold(f64::INFINITY, f64::min);
        let good = |p: usize, t: usize| plans[p].seconds[t].is_some_and(|s| s <= best(t) * (1.0 + regret));
        let fits = |set: &u32| {
            let of = || (0..plans.len()).filter(|p| set >> p & 1 == 1);
            of().any(|p| plans[p].general) && (0..tasks).all(|t| of().any(|p| good(p, t)))
        };
        (1..1u32 << plans.len()).filter(fits).map(u32::count_ones).min().unwrap()
    }

    #[test]
    fn the_greedy_rule_is_close_to_the_optimum_and_keeps_its_promises() {
        let mut beyond = [0usize; 3];
        for seed in 0..2000u64 {
            let number = |what: &str, below: f64| (unit(hash(seed, &[what])) * below) as usize;
            let (tasks, count) = (1 + number("tasks", 7.0), 1 + number("plans", 9.0));
            let time = |p: usize, t: usize| {
                let h = hash(seed, &["time", &p.to_string(), &t.to_string()]);
                // The first takes any sizes, others not all.
                (p == 0 || unit(h ^ 1) < 0.8).then(|| 1.0 + 0.1 * unit(h))
            };
            let plans: Vec<Timed> = (0..count)
                .map(|p| Timed {
                    id: format!("p{p}"),
                    general: p == 0 || unit(hash(seed, &["general", &p.to_string()])) < 0.2,
                    seconds: (0..tasks).map(|t| time(p, t)).collect(),
                })
                .collect();
            let calls: Vec<f64> = (0..tasks).map(|t| 1.0 + (t % 3) as f64).collect();
            let c = cover(&calls, &plans, REGRET).unwrap();
            assert!(c.worst <= REGRET + 1e-9 && c.mean <= c.worst + 1e-9, "{seed}: {c:?}");
            assert!(c.chosen.iter().any(|p| plans[*p].general), "{seed}");
            beyond[c.chosen.len() - optimum(&plans, tasks, REGRET) as usize] += 1;
        }
        println!("as many plans as the optimum, one more, two more: {beyond:?}");
        assert!(beyond[2] == 0 && beyond[1] <= 13, "{beyond:?}");
    }
}
