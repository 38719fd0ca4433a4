use super::*;
use crate::device::DeviceProfile;
use crate::log::TrialLog;
use crate::space::{self, Point, Space};
use crate::task::Task;
use std::collections::HashMap;
use tilewright_ir::{Arch, DType};
use tilewright_templates::gemm::GemmProblem;

/// A small space that is real, with what the model says of each point that the compiler takes.
struct Bench {
    space: Box<dyn Space>,
    ranking: Ranking,
    legal: Vec<Point>,
    model: HashMap<Point, f64>,
}

fn bench(m: i64, n: i64, k: i64) -> Bench {
    let class = GemmProblem::plain(DType::F16).class();
    let space = space::of(Arch::Sm80, "gemm", &class).unwrap();
    let sizes = [("m", m), ("n", n), ("k", k)].map(|(k, v)| (k.to_string(), v)).into();
    let task = Task { op: "gemm".into(), class, sizes };
    let ranking = Ranking::new(&*space, &DeviceProfile::typical(Arch::Sm80), &task).unwrap();
    let legal = ranking.points.iter().map(|p| &p.0).filter(|p| space.check(&task, p).is_ok()).cloned().collect();
    let model = ranking.points.iter().cloned().collect();
    Bench { space, ranking, legal, model }
}

impl Bench {
    fn device(&self, seed: u64, hidden: Hidden) -> Simulated<impl Fn(&Task, &Point) -> f64> {
        Simulated::new(seed, hidden, |_, p| self.model.get(p).copied().unwrap_or(f64::NAN))
    }

    fn search(&self, seed: u64) -> Search<'_> {
        Search { space: &*self.space, ranking: &self.ranking, settings: Settings { seed, ..Settings::default() } }
    }

    /// How much slower than the best of all the found one is.
    fn regret(&self, seed: u64, hidden: Hidden, settings: Settings) -> (f64, usize, usize) {
        let mut device = self.device(seed, hidden);
        let search = Search { settings: Settings { seed, ..settings }, ..self.search(seed) };
        let found = search.run(&mut device, &mut TrialLog::in_memory()).unwrap();
        let task = &self.ranking.task;
        let right = self.legal.iter().filter(|p| device.fault(task, p).is_none());
        let best = right.map(|p| device.truth(task, p)).fold(f64::INFINITY, f64::min);
        assert_eq!(device.fault(task, &found.best.0), None);
        (device.truth(task, &found.best.0) / best - 1.0, found.trials, found.timed.len())
    }
}

#[test]
fn explore() {
    for (m, n, k) in [(512, 4096, 4096), (16, 4096, 4096), (4096, 4096, 4096)] {
        let t = std::time::Instant::now();
        let b = bench(m, n, k);
        println!(
            "{m} {n} {k}: {} legal of {} of {} in {:?}",
            b.legal.len(),
            b.ranking.points.len(),
            b.space.points().len(),
            t.elapsed()
        );
        for (spread, shared, noise) in
            [(0.15, 0.75, 0.01), (0.15, 0.0, 0.01), (0.2, 0.75, 0.01), (0.1, 0.75, 0.01), (0.15, 0.75, 0.03)]
        {
            let hidden = Hidden { spread, shared, noise, ..Hidden::default() };
            let t = std::time::Instant::now();
            let (mut good, mut trials, mut timed, mut bad) = (0, 0, 0, vec![]);
            for seed in 0..200 {
                let (r, n, c) = b.regret(seed, hidden, Settings::default());
                good += u32::from(r <= 0.02);
                if r > 0.02 {
                    bad.push((seed, (r * 1000.0).round() / 10.0));
                }
                trials += n;
                timed += c;
            }
            println!(
                "{hidden:?}: {good} of 200, {} trials {} timed, {:?} {:?}",
                trials / 200,
                timed / 200,
                t.elapsed(),
                &bad[..bad.len().min(12)]
            );
        }
    }
}
