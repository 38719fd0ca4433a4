//! A small space for tests.

use super::{Axis, Illegal, Point, Space};
use crate::device::DeviceProfile;
use crate::estimate::{Counts, Estimate, Term};
use crate::task::Task;
use tilewright_templates::plan::OpPlan;

/// Tiles of bm rows with stages; 256 rows do not fit, 5 rows of a problem suit no tile. Wider tiles waste rows, fewer stages
/// wait.
pub struct Toy;

/// A task of the toy.
pub fn task(m: i64) -> Task {
    Task { op: "toy".into(), class: "toy".into(), sizes: [("m".to_string(), m)].into() }
}

fn number(p: &Point, axis: &str) -> f64 {
    p.get(axis).and_then(|v| v.parse().ok()).unwrap_or(1.0)
}

impl Space for Toy {
    fn axes(&self) -> Vec<Axis> {
        let of = |name, values: &[&str]| Axis { name, values: values.iter().map(|v| v.to_string()).collect() };
        vec![of("bm", &["64", "128", "256"]), of("stages", &["2", "3", "4"])]
    }

    fn points(&self) -> Vec<Point> {
        let [bm, stages] = [&self.axes()[0].values, &self.axes()[1].values].map(Clone::clone);
        let mut list: Vec<Point> = bm
            .iter()
            .flat_map(|b| stages.iter().map(move |s| Point::new([("bm", b.as_str()), ("stages", s.as_str())])))
            .collect();
        list.sort();
        list
    }

    fn promising(&self, task: &Task, _: &Point) -> Result<(), Illegal> {
        let odd = task.size("m") == Some(5);
        if odd { Err(Illegal { rule: "sizes", why: "5 rows".into() }) } else { Ok(()) }
    }

    fn check(&self, task: &Task, p: &Point) -> Result<(), Illegal> {
        self.promising(task, p)?;
        let wide = p.get("bm") == Some("256");
        if wide { Err(Illegal { rule: "shared_memory", why: "256 rows are 300 KB".into() }) } else { Ok(()) }
    }

    fn neighbours(&self, p: &Point) -> Vec<Point> {
        let step = |q: &Point| {
            let at = |axis: &Axis, p: &Point| axis.values.iter().position(|v| Some(v.as_str()) == p.get(axis.name)).unwrap_or(0);
            self.axes().iter().map(|a| at(a, p).abs_diff(at(a, q))).sum::<usize>() == 1
        };
        self.points().into_iter().filter(step).collect()
    }

    fn plan(&self, _: &Point) -> Result<OpPlan, Illegal> {
        Err(Illegal { rule: "toy", why: "a toy has no kernel".into() })
    }

    fn estimate(&self, _: &DeviceProfile, task: &Task, p: &Point, _: Option<&Counts>) -> Estimate {
        let (m, bm) = (task.size("m").unwrap_or(1) as f64, number(p, "bm"));
        let (tensor, latency) = ((m / bm).ceil() * bm * 1e-8, 4e-7 / number(p, "stages"));
        let mut terms = vec![(Term::Tensor, tensor), (Term::Latency, latency)];
        terms.sort_by(|a, b| b.1.total_cmp(&a.1));
        Estimate { seconds: tensor + latency, terms }
    }
}
