//! The table of one op and class, as a manifest holds it, and looking a cell up in it.

use serde::{Deserialize, Serialize};

use super::tree::{Node, Tree};

/// Position of a plan in its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanIndex(pub u32);

/// Position of a list of plans in [`Dispatch::cells`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CellIndex(pub u32);

/// The table of one op and class.
///
/// A problem whose other axes stand in `exact` (layers that were tuned) takes its cell there; every other one walks `tree`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dispatch {
    /// The op.
    pub op: String,
    /// The class, as its plans spell it.
    pub class: String,
    /// Variables it looks at; the first is the one that varies in a server, such as m of a matrix product.
    pub axes: Vec<String>,
    /// By ascending key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exact: Vec<Exact>,
    /// For all other keys.
    pub tree: Tree,
    /// Plans to try, best first; entries and leaves name them by position.
    pub cells: Vec<Vec<PlanIndex>>,
}

/// The plans of one combination of all axes but the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exact {
    /// Values of the axes after the first.
    pub key: Vec<i64>,
    /// Inclusive upper bounds on the first axis, ascending; the bucket after the last one is open.
    pub bounds: Vec<i64>,
    /// A cell for each bucket, one more than `bounds`.
    pub cells: Vec<CellIndex>,
    /// What ranked them.
    pub chosen_by: ChosenBy,
    /// What having fewer kernels costs here at most, in percent over the best there was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regret_percent: Option<f64>,
}

/// What ranked plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChosenBy {
    /// The performance model.
    Model,
    /// Measurements on a device.
    Tuned,
}

impl Dispatch {
    /// A table that always gives the same cell: the first of `plans` that fits.
    pub fn single(op: &str, class: &str, plans: Vec<PlanIndex>) -> Self {
        let tree = Tree { nodes: vec![Node::Leaf(CellIndex(0))], chosen_by: ChosenBy::Model, regret_percent: None };
        Dispatch {
            op: op.to_owned(),
            class: class.to_owned(),
            axes: vec!["m".to_owned()],
            exact: Vec::new(),
            tree,
            cells: vec![plans],
        }
    }

    /// The cell of a problem, with values in the order of [`Dispatch::axes`]. The table must be a checked one.
    pub fn cell(&self, values: &[i64]) -> CellIndex {
        match self.entry(values) {
            Some(entry) => entry.cell(values[0]),
            None => self.tree.cell(values),
        }
    }

    /// What is known of the problem's other axes. The first of `values` is not looked at.
    pub fn entry(&self, values: &[i64]) -> Option<&Exact> {
        let found = self.exact.binary_search_by(|entry| entry.key.as_slice().cmp(&values[1..]));
        Some(&self.exact[found.ok()?])
    }

    /// The cells that some value of the first axis has, from its largest down, until `visit` returns an answer. The first of
    /// `values` is not looked at.
    pub fn from_largest<T, E>(
        &self,
        values: &[i64],
        mut visit: impl FnMut(CellIndex) -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let Some(entry) = self.entry(values) else { return self.tree.from_largest(values, visit) };
        for &cell in entry.cells.iter().rev() {
            if let Some(found) = visit(cell)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The plans of a problem, best first.
    pub fn plans(&self, values: &[i64]) -> &[PlanIndex] {
        &self.cells[self.cell(values).0 as usize]
    }
}

impl Exact {
    /// The cell of a value of the first axis.
    pub fn cell(&self, first: i64) -> CellIndex {
        self.cells[self.bounds.partition_point(|&bound| bound < first)]
    }
}
