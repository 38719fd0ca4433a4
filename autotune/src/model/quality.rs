//! How well a model foresees measurements.

use serde::Serialize;

/// Kendall's tau-b of two lists: 1 where they order alike, -1 where the other way round, 0 where one says nothing. `None`
/// below two different values in either (M. G. Kendall, The Treatment of Ties in Ranking Problems, Biometrika 33, 1945).
pub fn kendall(a: &[f64], b: &[f64]) -> Option<f64> {
    let (mut same, mut ties_a, mut ties_b, mut pairs) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
    for i in 0..a.len().min(b.len()) {
        for j in 0..i {
            let zero = |d: f64| if d == 0.0 { 1.0 } else { 0.0 };
            ties_a += zero(a[i] - a[j]);
            ties_b += zero(b[i] - b[j]);
            pairs += 1.0;
            if a[i] != a[j] && b[i] != b[j] {
                same += (a[i] - a[j]).signum() * (b[i] - b[j]).signum();
            }
        }
    }
    let of = ((pairs - ties_a) * (pairs - ties_b)).sqrt();
    (of > 0.0).then(|| same / of)
}

/// What choosing by `modelled` costs: the best measured of the `top` it ranks first, over the best of all, less 1. Of equal
/// ones the first. `None` below two.
pub fn regret(modelled: &[f64], measured: &[f64], top: usize) -> Option<f64> {
    let n = modelled.len().min(measured.len());
    if n < 2 {
        return None;
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| modelled[*a].total_cmp(&modelled[*b]));
    let least = |list: &mut dyn Iterator<Item = f64>| list.fold(f64::INFINITY, f64::min);
    let best = least(&mut measured[..n].iter().copied());
    Some(least(&mut order.iter().take(top.max(1)).map(|i| measured[*i])) / best - 1.0)
}

/// The value below which `share` of a list lies, by nearest rank; `None` of an empty one.
pub fn percentile(list: &[f64], share: f64) -> Option<f64> {
    let mut sorted = list.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank.min(sorted.len()).checked_sub(1)?).copied()
}

/// Errors of times, and what choosing by them costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quality {
    /// Trials.
    pub trials: usize,
    /// Tasks of which more than one point was measured: what regret and tau are over.
    pub tasks: usize,
    /// Geometric mean of modelled over measured.
    pub bias: f64,
    /// Geometric mean of the factor by which they differ, 1 for no error.
    pub error: f64,
    /// The largest such factor.
    pub worst: f64,
    /// Regret of the model's first: of half of the tasks, of nine in ten, the largest.
    pub top1: [f64; 3],
    /// Regret of the best of its first three, likewise.
    pub top3: [f64; 3],
    /// Mean of Kendall's tau over tasks.
    pub tau: f64,
}

impl Quality {
    /// Of groups of `(modelled, measured)` times, a group a task.
    pub fn of(tasks: &[Vec<(f64, f64)>]) -> Self {
        let logs: Vec<f64> = tasks.iter().flatten().map(|(a, b)| (a / b).ln()).collect();
        let n = logs.len().max(1) as f64;
        let split = |t: &[(f64, f64)]| t.iter().copied().unzip::<f64, f64, Vec<f64>, Vec<f64>>();
        let lists: Vec<(Vec<f64>, Vec<f64>)> = tasks.iter().filter(|t| t.len() > 1).map(|t| split(t)).collect();
        let spread = |top| {
            let all: Vec<f64> = lists.iter().filter_map(|(a, b)| regret(a, b, top)).collect();
            [0.5, 0.9, 1.0].map(|share| percentile(&all, share).unwrap_or(0.0))
        };
        let taus: Vec<f64> = lists.iter().filter_map(|(a, b)| kendall(a, b)).collect();
        Quality {
            trials: logs.len(),
            tasks: lists.len(),
            bias: (logs.iter().sum::<f64>() / n).exp(),
            error: (logs.iter().map(|l| l.abs()).sum::<f64>() / n).exp(),
            worst: logs.iter().fold(0.0f64, |m, l| m.max(l.abs())).exp(),
            top1: spread(1),
            top3: spread(3),
            tau: taus.iter().sum::<f64>() / taus.len().max(1) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_compared_pair_by_pair() {
        assert_eq!(kendall(&[1.0, 2.0, 3.0], &[10.0, 20.0, 30.0]), Some(1.0));
        assert_eq!(kendall(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), Some(-1.0));
        // One of three pairs the wrong way.
        assert!((kendall(&[1.0, 2.0, 3.0], &[1.0, 3.0, 2.0]).unwrap() - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(kendall(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(kendall(&[1.0], &[1.0]), None);
    }

    #[test]
    fn regret_is_what_the_choice_costs() {
        let (modelled, measured) = ([1.0, 2.0, 3.0, 4.0], [5.0, 4.0, 6.0, 3.0]);
        assert!((regret(&modelled, &measured, 1).unwrap() - 2.0 / 3.0).abs() < 1e-12);
        assert!((regret(&modelled, &measured, 3).unwrap() - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(regret(&modelled, &measured, 4), Some(0.0));
        assert_eq!(regret(&modelled[..1], &measured, 1), None);
    }

    #[test]
    fn percentiles_are_members_of_the_list() {
        let list = [3.0, 1.0, 2.0, 4.0];
        assert_eq!([0.0, 0.5, 0.9, 1.0].map(|p| percentile(&list, p).unwrap()), [1.0, 2.0, 4.0, 4.0]);
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn a_model_off_by_a_factor_orders_perfectly() {
        let tasks = vec![vec![(2.0, 1.0), (4.0, 2.0)], vec![(6.0, 3.0)]];
        let q = Quality::of(&tasks);
        assert_eq!((q.trials, q.tasks, q.top1, q.tau), (3, 1, [0.0; 3], 1.0));
        assert!((q.bias - 2.0).abs() < 1e-12 && (q.error - 2.0).abs() < 1e-12 && (q.worst - 2.0).abs() < 1e-12);
    }
}
