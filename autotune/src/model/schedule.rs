//! Tiles over SMs.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A worker's time, smallest first.
#[derive(Clone, Copy, PartialEq)]
struct Load(f64);

impl Eq for Load {}

impl Ord for Load {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.total_cmp(&self.0)
    }
}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// When the last of `workers` is done with runs of equal items `(time, how many)` that go in order to whoever is free first, as
/// the hardware hands out CTAs.
///
/// Exact, and the cost of a run does not grow with its length: once no two workers are further apart than one item, a round
/// of one item for each changes all times by the same.
pub fn greedy(runs: impl IntoIterator<Item = (f64, u64)>, workers: usize) -> f64 {
    let workers = workers.max(1);
    let mut heap: BinaryHeap<Load> = vec![Load(0.0); workers].into();
    let (mut last, mut added) = (0.0f64, 0.0);
    for (time, mut count) in runs {
        while count > 0 {
            let Some(Load(first)) = heap.pop() else { return last };
            if count >= workers as u64 && last - added - first <= time {
                let rounds = count / workers as u64;
                added += rounds as f64 * time;
                last += rounds as f64 * time;
                count -= rounds * workers as u64;
                heap.push(Load(first));
                continue;
            }
            let done = first + time;
            last = last.max(done + added);
            heap.push(Load(done));
            count -= 1;
        }
    }
    last
}

/// The same with items dealt out in turns, as persistent CTAs take tiles `cta, cta + ctas, ...`.
pub fn dealt(runs: impl IntoIterator<Item = (f64, u64)>, workers: usize) -> f64 {
    let workers = workers.max(1);
    // Differences along the workers; a run of part of a round is a range of them.
    let (mut steps, mut all, mut at) = (vec![0.0; workers + 1], 0.0, 0usize);
    for (time, count) in runs {
        let (rounds, left) = (count / workers as u64, (count % workers as u64) as usize);
        all += rounds as f64 * time;
        let end = at + left;
        steps[at] += time;
        steps[end.min(workers)] -= time;
        if end > workers {
            steps[0] += time;
            steps[end - workers] -= time;
        }
        at = end % workers;
    }
    let mut sum = 0.0;
    let most = steps[..workers].iter().map(|s| {
        sum += s;
        sum
    });
    all + most.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::hash;

    fn one_by_one(runs: &[(f64, u64)], workers: usize) -> f64 {
        let mut loads = vec![0.0f64; workers];
        for (time, count) in runs {
            for _ in 0..*count {
                let least = loads.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
                *least += time;
            }
        }
        loads.into_iter().fold(0.0, f64::max)
    }

    fn in_turns(runs: &[(f64, u64)], workers: usize) -> f64 {
        let mut loads = vec![0.0f64; workers];
        let items = runs.iter().flat_map(|(t, c)| (0..*c).map(move |_| *t));
        items.enumerate().for_each(|(i, t)| loads[i % workers] += t);
        loads.into_iter().fold(0.0, f64::max)
    }

    #[test]
    fn runs_are_scheduled_as_their_items_one_by_one() {
        for seed in 0..300 {
            let draw = |word: &str, below: u64| hash(seed, &[word]) % below;
            let workers = 1 + draw("workers", 9) as usize;
            let run = |i: u64| (1.0 + draw(&format!("time {i}"), 20) as f64, draw(&format!("count {i}"), 60));
            let runs: Vec<(f64, u64)> = (0..1 + draw("runs", 6)).map(run).collect();
            let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
            assert!(near(greedy(runs.iter().copied(), workers), one_by_one(&runs, workers)), "{runs:?} {workers}");
            assert!(near(dealt(runs.iter().copied(), workers), in_turns(&runs, workers)), "{runs:?} {workers}");
        }
    }

    #[test]
    fn the_longest_first_end_sooner() {
        let short_first = [(1.0, 9), (8.0, 1)];
        let long_first = [(8.0, 1), (1.0, 9)];
        assert_eq!(greedy(short_first, 2), 12.0);
        assert_eq!(greedy(long_first, 2), 9.0);
        // A million tiles cost no more than ten.
        assert_eq!(greedy([(2.0, 1_000_000)], 100), 20_000.0);
    }
}
