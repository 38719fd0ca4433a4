//! The space of grouped multiplication: rows sorted by expert.

use super::Point;
use super::gemm_point::{GemmPoint, dense_kinds, derive, tied};
use super::gemm_rules::{self, Sized};
use super::listed::{Family, with_defaults};
use super::rule::{Kind, Rule};
use super::weight::{packed_kinds, unpacked, unpacking};
use crate::device::DeviceProfile;
use crate::estimate::{Counts, Estimate};
use crate::model::grouped::{self, Rows};
use crate::task::Task;
use tilewright_ir::Arch;
use tilewright_templates::gemm::{GemmProblem, Groups, Weight, grouped_class, grouped_dequantised_plan, grouped_plan};
use tilewright_templates::plan::OpPlan;

/// One class of `gemm_grouped`.
pub(super) struct Grouped {
    arch: Arch,
    problem: GemmProblem,
    gather: bool,
}

impl Grouped {
    pub fn new(arch: Arch, class: &str) -> Result<Self, String> {
        let (text, gather) = class.strip_suffix(",gather=1").map_or((class, false), |text| (text, true));
        let problem = GemmProblem::from_class(text).map_err(|e| e.to_string())?;
        problem.check().map_err(|e| e.to_string())?;
        if problem.groups == Groups::Batch || gather && problem.groups != Groups::Offsets {
            return Err(format!("class `{class}`: groups=offsets or groups=counts, gathered rows only with offsets"));
        }
        Ok(Grouped { arch, problem, gather })
    }

    /// Rows of all experts, experts, columns, depth.
    fn sizes(&self, task: &Task) -> Option<[i64; 4]> {
        let e = task.size("e")?;
        let rows = match self.problem.groups {
            Groups::Counts => task.size("max_m")? * e,
            Groups::Offsets | Groups::Batch => task.size("tokens")?,
        };
        Some([rows, e, task.size("n")?, task.size("k")?])
    }

    fn sized(&self, task: &Task) -> Option<Sized> {
        let [rows, e, n, k] = self.sizes(task)?;
        Some(Sized { m: rows / e.max(1), n, k, batch: e })
    }
}

impl Family for Grouped {
    type Config = GemmPoint;
    const RULES: &'static [Rule<Self, GemmPoint>] = &[
        Rule { name: "target", why: |f, _, _, c| gemm_rules::target(f.arch, c) },
        Rule { name: "config", why: |f, _, _, c| gemm_rules::config(&f.problem, c) },
        Rule {
            name: "sizes",
            why: |f, t, _, _| {
                let rows = if f.problem.groups == Groups::Counts { "max_m" } else { "tokens" };
                f.sizes(t).is_none().then(|| format!("a grouped gemm has sizes {rows}, e, n and k"))
            },
        },
        Rule { name: "alignment", why: |f, t, _, c| gemm_rules::alignment(&f.problem, c, &f.sized(t)?) },
    ];
    const DERIVED: &'static [&'static str] = &["stages"];

    fn arch(&self) -> Arch {
        self.arch
    }

    fn op_and_class(&self) -> (&'static str, String) {
        ("gemm_grouped", grouped_class(&self.problem.class(), self.gather))
    }

    fn complete(&self, task: &Task) -> Task {
        let m = self.sized(task).map(|s| s.m.max(1));
        let rows = task.size("tokens");
        with_defaults(task, [("m", m), ("rows", rows), ("tokens", rows), ("batch", Some(1)), ("split_k", Some(0))])
    }

    fn kinds(&self) -> Vec<Kind> {
        match self.problem.weight {
            Weight::Same => dense_kinds(self.arch, &self.problem, false),
            Weight::Packed(_) => packed_kinds(self.arch, &self.problem, false),
        }
    }

    fn tied(&self, p: &Point) -> Option<String> {
        tied(p)
    }

    fn derive(&self, p: Point) -> Point {
        derive(&self.problem, p)
    }

    fn config(&self, p: &Point) -> Result<GemmPoint, String> {
        GemmPoint::read(p)
    }

    fn plan(&self, c: &GemmPoint) -> Result<OpPlan, String> {
        let make = if c.unpack { grouped_dequantised_plan } else { grouped_plan };
        make(self.arch, &self.problem, &c.config, self.gather).map_err(|e| e.to_string())
    }

    fn estimate(&self, device: &DeviceProfile, task: &Task, c: &GemmPoint, counts: Option<&Counts>) -> Estimate {
        let p = if c.unpack { unpacked(&self.problem) } else { self.problem };
        let Some([rows, e, n, k]) = self.sizes(task) else { return Estimate::never() };
        let even = Rows::Even { tokens: rows.max(0) as u64, experts: e.max(1) as u64 };
        let product = grouped::estimate(device, &p, &c.config, &even, [n as f64, k as f64], counts);
        match self.problem.weight {
            Weight::Packed(packed) if c.unpack => {
                unpacking(device, packed, (n * k * e) as f64 * f64::from(p.gates())).then(product)
            }
            Weight::Same | Weight::Packed(_) => product,
        }
    }
}
