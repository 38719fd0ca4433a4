//! The space of matrix multiplication: dense, and of packed weights.

use super::Point;
use super::gemm_point::{GemmPoint, dense_kinds, derive, tied};
use super::gemm_rules::{self, Sized};
use super::listed::{Family, with_defaults};
use super::rule::{Kind, Rule};
use super::weight::{packed_kinds, unpacked, unpacking};
use crate::device::DeviceProfile;
use crate::estimate::{Counts, Estimate};
use crate::model;
use crate::task::Task;
use tilewright_ir::Arch;
use tilewright_templates::gemm::weight::{WeightClass, dequantised_plan};
use tilewright_templates::gemm::{Groups, Weight, plan};
use tilewright_templates::plan::OpPlan;

/// One class of `gemm`.
pub(super) struct Gemm {
    arch: Arch,
    class: WeightClass,
}

impl Gemm {
    pub fn new(arch: Arch, class: &str) -> Result<Self, String> {
        let class = WeightClass::from_class(class).map_err(|e| e.to_string())?;
        class.problem.check().map_err(|e| e.to_string())?;
        if class.problem.groups != Groups::Batch {
            return Err(format!("class `{}` has groups: its op is gemm_grouped", class.class()));
        }
        Ok(Gemm { arch, class })
    }

    fn sizes(&self, task: &Task) -> Option<Sized> {
        let [m, n, k] = ["m", "n", "k"].map(|name| task.size(name));
        Some(Sized { m: m?, n: n?, k: k?, batch: task.size("batch").unwrap_or(1) })
    }
}

impl Family for Gemm {
    type Config = GemmPoint;
    const RULES: &'static [Rule<Self, GemmPoint>] = &[
        Rule { name: "target", why: |f, _, _, c| gemm_rules::target(f.arch, c) },
        Rule { name: "config", why: |f, _, _, c| gemm_rules::config(&f.class.problem, c) },
        Rule { name: "sizes", why: |f, t, _, _| f.sizes(t).is_none().then(|| "a gemm has sizes m, n and k".into()) },
        Rule { name: "alignment", why: |f, t, _, c| gemm_rules::alignment(&f.class.problem, c, &f.sizes(t)?) },
        Rule { name: "parts", why: |f, t, _, c| gemm_rules::parts(f.arch, &f.class.problem, c, &f.sizes(t)?) },
    ];
    const DERIVED: &'static [&'static str] = &["stages"];

    fn arch(&self) -> Arch {
        self.arch
    }

    fn op_and_class(&self) -> (&'static str, String) {
        ("gemm", self.class.class())
    }

    fn complete(&self, task: &Task) -> Task {
        with_defaults(task, [("batch", Some(1)), ("split_k", Some(0))])
    }

    fn kinds(&self) -> Vec<Kind> {
        match self.class.problem.weight {
            Weight::Same => dense_kinds(self.arch, &self.class.problem, true),
            Weight::Packed(_) => packed_kinds(self.arch, &self.class.problem, true),
        }
    }

    fn tied(&self, p: &Point) -> Option<String> {
        tied(p)
    }

    fn derive(&self, p: Point) -> Point {
        derive(&self.class.problem, p)
    }

    fn config(&self, p: &Point) -> Result<GemmPoint, String> {
        GemmPoint::read(p)
    }

    fn plan(&self, c: &GemmPoint) -> Result<OpPlan, String> {
        let p = &self.class.problem;
        let make = if c.unpack { dequantised_plan } else { plan };
        let made = make(self.arch, p, &c.config, c.splits).and_then(|op| self.class.complete(self.arch, op));
        made.map_err(|e| e.to_string())
    }

    fn estimate(&self, device: &DeviceProfile, task: &Task, c: &GemmPoint, counts: Option<&Counts>) -> Estimate {
        let p = if c.unpack { unpacked(&self.class.problem) } else { self.class.problem };
        let Some(s) = self.sizes(task) else { return Estimate::never() };
        // The batch's rows follow each other.
        let sizes = model::Sizes { m: (s.m * s.batch) as f64, n: s.n as f64, k: s.k as f64 };
        let product = model::gemm::estimate(device, &p, &c.config, c.splits, sizes, counts);
        match self.class.packed().filter(|_| c.unpack) {
            Some(packed) => unpacking(device, packed, (s.n * s.k * s.batch) as f64 * f64::from(p.gates())).then(product),
            None => product,
        }
    }
}
