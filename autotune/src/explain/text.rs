//! An explanation in words.

use super::explanation::{Explanation, Other};
use std::fmt;

/// Neighbours and illegal ones that are printed.
const SHOWN: usize = 12;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on {}", self.task, self.device)?;
        if let Some(plan) = &self.plan {
            writeln!(f, "  plan      {}, first in its dispatch table, which is ranked by {}", plan.id, plan.ranked_by)?;
        }
        match &self.point {
            Some(point) => writeln!(f, "  chosen    {point}")?,
            None if self.plan.is_some() => writeln!(f, "  chosen    no point of the space: its time is not modelled")?,
            None => writeln!(f, "  chosen    the template's default: no point of the space takes it")?,
        }
        writeln!(f, "  rung      {}", self.rung)?;
        for (rung, why) in &self.passed {
            writeln!(f, "            not {rung}: {why}")?;
        }
        if let Some(us) = self.modelled_us {
            writeln!(f, "  modelled  {us:.2} us")?;
        }
        match self.measured_us {
            Some(us) => writeln!(f, "  measured  {us:.2} us")?,
            None => writeln!(f, "  measured  never: nothing is recorded of this problem on this device")?,
        }
        if let Some(bound) = self.bound {
            let terms: Vec<String> = self.terms.iter().map(|p| format!("{} {:.2}", p.term, p.us)).collect();
            writeln!(f, "  bound by  {bound}; each alone, us: {}", terms.join(", "))?;
        }
        if let (Some(work), Some([tensor, memory])) = (self.work, self.roofs) {
            let of = |share: f64| format!("{:.1} %", 100.0 * share);
            writeln!(
                f,
                "  roofs     {} of the tensor cores ({:.3} GFLOP), {} of device memory ({:.3} MB)",
                of(tensor),
                work.flop / 1e9,
                of(memory),
                work.bytes / 1e6
            )?;
        }
        if let Some(best) = &self.best {
            writeln!(f, "  the model would take")?;
            line(f, best)?;
        }
        list(f, "one step away", &self.neighbours)?;
        list(f, "other kernels", &self.families)?;
        if !self.illegal.is_empty() {
            writeln!(f, "  one step away, none")?;
            for i in self.illegal.iter().take(SHOWN) {
                writeln!(f, "    {}: {}: {}", i.change, i.rule, i.why)?;
            }
        }
        let [points, promising] = self.space;
        writeln!(f, "  space     {points} points, {promising} of which no rule but the compiler's may speak against")
    }
}

fn list(f: &mut fmt::Formatter<'_>, title: &str, others: &[Other]) -> fmt::Result {
    if others.is_empty() {
        return Ok(());
    }
    writeln!(f, "  {title}")?;
    others.iter().take(SHOWN).try_for_each(|o| line(f, o))?;
    match others.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(f, "    and {more} more"),
    }
}

fn line(f: &mut fmt::Formatter<'_>, o: &Other) -> fmt::Result {
    writeln!(f, "    {:>+10.2} us  {}: {}", o.more_us, o.change, o.why)
}
