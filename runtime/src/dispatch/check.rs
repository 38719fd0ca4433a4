//! What choosing relies on, checked once when a manifest is read.

use super::table::{Dispatch, Exact};
use crate::plan::Plan;

/// Most axes of a table; choosing keeps their values in an array of this size.
pub const MAX_AXES: usize = 8;

impl Dispatch {
    /// Refuses, with the field and the reason, a table that cannot be chosen from: wrong references, keys or bounds out of
    /// order, trees that are none.
    pub(crate) fn check(&self, plans: &[Plan]) -> Result<(), (String, String)> {
        let refuse = |field: &str, why: String| Err((field.to_owned(), why));
        if !(1..=MAX_AXES).contains(&self.axes.len()) {
            return refuse("axes", format!("{} of them, must be 1 to {MAX_AXES}", self.axes.len()));
        }
        for (at, axis) in self.axes.iter().enumerate() {
            if axis.is_empty() || self.axes[..at].contains(axis) {
                return refuse("axes", format!("{axis:?} must be a variable, named once"));
            }
        }
        for plan in self.cells.iter().flatten() {
            let Some(found) = plans.get(plan.0 as usize) else {
                return refuse("cells", format!("plan {} of {}", plan.0, plans.len()));
            };
            if (&found.op, &found.class) != (&self.op, &self.class) {
                return refuse("cells", format!("plan `{}` is for {} `{}`", found.id, found.op, found.class));
            }
        }
        for entry in &self.exact {
            self.check_entry(entry).or_else(|why| refuse(&format!("exact[{:?}]", entry.key), why))?;
        }
        if let Some(pair) = self.exact.windows(2).find(|pair| pair[0].key >= pair[1].key) {
            return refuse("exact", format!("key {:?} must come before {:?}, once", pair[1].key, pair[0].key));
        }
        self.tree.check(self.axes.len(), self.cells.len()).or_else(|why| refuse("tree", why))?;
        check_regret(self.tree.regret_percent).or_else(|why| refuse("tree", why))
    }

    fn check_entry(&self, entry: &Exact) -> Result<(), String> {
        let others = self.axes.len() - 1;
        if entry.key.len() != others {
            return Err(format!("the key needs {others} values, one for each axis after the first"));
        }
        if !entry.bounds.is_sorted_by(|a, b| a < b) {
            return Err(format!("bounds {:?} must ascend", entry.bounds));
        }
        if entry.cells.len() != entry.bounds.len() + 1 {
            return Err(format!("{} cells for {} buckets", entry.cells.len(), entry.bounds.len() + 1));
        }
        if let Some(cell) = entry.cells.iter().find(|cell| cell.0 as usize >= self.cells.len()) {
            return Err(format!("cell {} of {}", cell.0, self.cells.len()));
        }
        check_regret(entry.regret_percent)
    }
}

fn check_regret(percent: Option<f64>) -> Result<(), String> {
    match percent {
        Some(percent) if !(percent.is_finite() && percent >= 0.0) => Err(format!("regret of {percent} %")),
        _ => Ok(()),
    }
}
