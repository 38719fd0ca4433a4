//! Making a table: known problems as entries, a grid of representative sizes as the smallest tree.

use std::collections::HashMap;

use super::check::MAX_AXES;
use super::table::{CellIndex, ChosenBy, Dispatch, Exact, PlanIndex};
use super::tree::{MAX_DEPTH, MAX_NODES, Node, Tree};

/// Most regions of neighbouring buckets that the search for a tree may look at; a grid of 13 x 5 x 4 has 13,650.
const MAX_REGIONS: usize = 300_000;

/// Makes a [`Dispatch`].
///
/// ```
/// use tilewright_runtime::dispatch::{ChosenBy, Known, PlanIndex, TableBuilder};
/// let table = TableBuilder::new("gemm", "a=bf16")
///     .axis("m", &[64, 1024])
///     .axis("n", &[2048])
///     .known(Known {
///         key: vec![4096],
///         bounds: vec![16],
///         ranked: vec![vec![PlanIndex(2)], vec![PlanIndex(0)]],
///         chosen_by: ChosenBy::Tuned,
///         regret_percent: None,
///     })
///     .build(ChosenBy::Model, |sizes| vec![PlanIndex(u32::from(sizes[0] <= 64))])?;
/// assert_eq!(table.plans(&[16, 4096]), [PlanIndex(2)]);
/// assert_eq!(table.plans(&[16, 4095]), [PlanIndex(1)]);
/// assert_eq!(table.tree.nodes.len(), 3);
/// # Ok::<(), tilewright_runtime::dispatch::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TableBuilder {
    op: String,
    class: String,
    axes: Vec<Axis>,
    known: Vec<Known>,
    regret_percent: Option<f64>,
}

/// What is known of one combination of all axes but the first.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Values of the axes after the first.
    pub key: Vec<i64>,
    /// Inclusive upper bounds on the first axis, ascending; the bucket after the last one is open.
    pub bounds: Vec<i64>,
    /// For each bucket, the plans to try, best first.
    pub ranked: Vec<Vec<PlanIndex>>,
    /// What ranked them.
    pub chosen_by: ChosenBy,
    /// What having fewer kernels costs here at most, in percent.
    pub regret_percent: Option<f64>,
}

/// Why no table can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// More or fewer axes than a table may have.
    #[error("a table of {op} has {found} axes, must have 1 to {MAX_AXES}")]
    Axes {
        /// The op.
        op: String,
        /// Axes given.
        found: usize,
    },
    /// Bounds that are not sorted.
    #[error("axis {axis}: bounds {bounds:?} must ascend")]
    Bounds {
        /// Name of the axis.
        axis: String,
        /// Its bounds.
        bounds: Vec<i64>,
    },
    /// A known problem does not fit the axes, or stands twice.
    #[error("key {key:?}: {why}")]
    Known {
        /// Its key.
        key: Vec<i64>,
        /// What is wrong.
        why: String,
    },
    /// The grid is too fine to find the smallest tree, or its tree too large.
    #[error("a grid of {0:?} buckets is too fine: give its axes fewer bounds")]
    Grid(Vec<usize>),
}

/// One dimension of the grid.
#[derive(Clone, Debug)]
struct Axis {
    name: String,
    bounds: Vec<i64>,
}

/// Cells by number, each list once, in the order of first use.
#[derive(Default)]
struct Cells {
    lists: Vec<Vec<PlanIndex>>,
    numbers: HashMap<Vec<PlanIndex>, CellIndex>,
}

impl TableBuilder {
    /// A table without axes yet.
    pub fn new(op: &str, class: &str) -> Self {
        TableBuilder { op: op.to_owned(), class: class.to_owned(), axes: Vec::new(), known: Vec::new(), regret_percent: None }
    }

    /// Adds an axis: the variable's name and the inclusive upper bounds of the grid's buckets, the last of which is open. The
    /// first axis is the one that varies in a server.
    pub fn axis(mut self, name: &str, bounds: &[i64]) -> Self {
        self.axes.push(Axis { name: name.to_owned(), bounds: bounds.to_vec() });
        self
    }

    /// Adds a known combination of the axes after the first.
    pub fn known(mut self, known: Known) -> Self {
        self.known.push(known);
        self
    }

    /// Says what having fewer kernels costs at most on the grid, in percent.
    pub fn regret_percent(mut self, percent: f64) -> Self {
        self.regret_percent = Some(percent);
        self
    }

    /// The table, with the smallest tree that gives on the grid what `rank` gives.
    ///
    /// `rank` is called once for each point of the grid, in order, the last axis innermost, with a size for each axis: the
    /// bucket's upper bound, or twice the last bound for the open bucket (1 where there are no bounds). Among trees with
    /// equally few leaves it takes one with the shortest paths, then the earlier axis and the lower bound.
    pub fn build(mut self, chosen_by: ChosenBy, mut rank: impl FnMut(&[i64]) -> Vec<PlanIndex>) -> Result<Dispatch, BuildError> {
        if !(1..=MAX_AXES).contains(&self.axes.len()) {
            return Err(BuildError::Axes { op: self.op, found: self.axes.len() });
        }
        if let Some(axis) = self.axes.iter().find(|axis| !axis.bounds.is_sorted_by(|a, b| a < b)) {
            return Err(BuildError::Bounds { axis: axis.name.clone(), bounds: axis.bounds.clone() });
        }
        let mut cells = Cells::default();
        self.known.sort_by(|a, b| a.key.cmp(&b.key));
        let mut exact: Vec<Exact> = Vec::with_capacity(self.known.len());
        for known in self.known {
            if exact.last().is_some_and(|last| last.key == known.key) {
                return Err(BuildError::Known { key: known.key, why: "known twice".to_owned() });
            }
            exact.push(entry(known, self.axes.len() - 1, &mut cells)?);
        }

        let buckets: Vec<usize> = self.axes.iter().map(|axis| axis.bounds.len() + 1).collect();
        let regions = buckets.iter().try_fold(1usize, |all, &n| all.checked_mul(n * (n + 1) / 2));
        if regions.is_none_or(|all| all > MAX_REGIONS) {
            return Err(BuildError::Grid(buckets));
        }
        let points: usize = buckets.iter().product();
        let sizes: Vec<Vec<i64>> = self.axes.iter().map(Axis::sizes).collect();
        let grid = (0..points).map(|point| {
            let at = unravel(point, &buckets);
            let sizes: Vec<i64> = at.iter().zip(&sizes).map(|(&bucket, sizes)| sizes[bucket]).collect();
            cells.number(rank(&sizes))
        });
        let grid: Vec<CellIndex> = grid.collect();
        let mut search = Search { buckets: &buckets, grid: &grid, best: HashMap::new() };
        let whole: Vec<[u16; 2]> = buckets.iter().map(|&n| [0, n as u16]).collect();
        search.solve(&whole);
        let mut nodes = Vec::new();
        let depth = search.write(&whole, &self.axes, &mut nodes);
        if nodes.len() > MAX_NODES || depth > MAX_DEPTH {
            return Err(BuildError::Grid(buckets));
        }
        Ok(Dispatch {
            op: self.op,
            class: self.class,
            axes: self.axes.into_iter().map(|axis| axis.name).collect(),
            exact,
            tree: Tree { nodes, chosen_by, regret_percent: self.regret_percent },
            cells: cells.lists,
        })
    }
}

impl Axis {
    fn sizes(&self) -> Vec<i64> {
        let open = self.bounds.last().map_or(1, |last| last.saturating_mul(2));
        self.bounds.iter().copied().chain([open]).collect()
    }
}

impl Cells {
    fn number(&mut self, plans: Vec<PlanIndex>) -> CellIndex {
        let next = CellIndex(self.lists.len() as u32);
        let number = *self.numbers.entry(plans.clone()).or_insert(next);
        if number == next {
            self.lists.push(plans);
        }
        number
    }
}

/// Neighbouring buckets with the same plans become one.
fn entry(known: Known, others: usize, cells: &mut Cells) -> Result<Exact, BuildError> {
    let Known { key, bounds, ranked, chosen_by, regret_percent } = known;
    let why = if key.len() != others {
        format!("needs {others} values, one for each axis after the first")
    } else if !bounds.is_sorted_by(|a, b| a < b) {
        format!("bounds {bounds:?} must ascend")
    } else if ranked.len() != bounds.len() + 1 {
        format!("{} lists of plans for {} buckets", ranked.len(), bounds.len() + 1)
    } else {
        String::new()
    };
    if !why.is_empty() {
        return Err(BuildError::Known { key, why });
    }
    let mut merged = Exact { key, bounds: Vec::new(), cells: Vec::new(), chosen_by, regret_percent };
    for (at, plans) in ranked.into_iter().enumerate() {
        let cell = cells.number(plans);
        if merged.cells.last() == Some(&cell) {
            continue;
        }
        if at > 0 {
            merged.bounds.push(bounds[at - 1]);
        }
        merged.cells.push(cell);
    }
    Ok(merged)
}

/// A part of the grid: for each axis the first bucket and the one after the last.
type Region = Vec<[u16; 2]>;

/// How the smallest tree of a region begins, and what it costs.
#[derive(Clone, Copy, PartialEq)]
struct Best {
    leaves: u32,
    /// Length of the paths to all leaves together.
    path: u32,
    /// Axis and the first bucket above the bound; none for a leaf.
    split: Option<(u16, u16)>,
}

/// The smallest tree of every region that can arise, by dynamic programming.
struct Search<'a> {
    buckets: &'a [usize],
    grid: &'a [CellIndex],
    best: HashMap<Region, Best>,
}

impl Search<'_> {
    fn solve(&mut self, whole: &Region) -> Best {
        if let Some(best) = self.best.get(whole) {
            return *best;
        }
        let mut best = Best { leaves: 1, path: 0, split: None };
        if !self.uniform(whole) {
            best.leaves = u32::MAX;
            for axis in 0..whole.len() {
                let [from, to] = whole[axis];
                for at in from + 1..to {
                    let [low, high] = halves(whole, axis, at).map(|half| self.solve(&half));
                    let leaves = low.leaves + high.leaves;
                    let path = low.path + high.path + leaves;
                    if (leaves, path) < (best.leaves, best.path) {
                        best = Best { leaves, path, split: Some((axis as u16, at)) };
                    }
                }
            }
        }
        self.best.insert(whole.clone(), best);
        best
    }

    fn uniform(&self, whole: &Region) -> bool {
        let first = self.at(&whole.iter().map(|range| range[0]).collect::<Vec<u16>>());
        let mut at: Vec<u16> = whole.iter().map(|range| range[0]).collect();
        loop {
            if self.at(&at) != first {
                return false;
            }
            // The next point, the last axis fastest.
            let Some(axis) = (0..at.len()).rev().find(|&axis| at[axis] + 1 < whole[axis][1]) else { return true };
            at[axis] += 1;
            for later in axis + 1..at.len() {
                at[later] = whole[later][0];
            }
        }
    }

    fn at(&self, point: &[u16]) -> CellIndex {
        self.grid[point.iter().zip(self.buckets).fold(0, |all, (&at, &buckets)| all * buckets + usize::from(at))]
    }

    /// Appends the tree of a region, parents first; returns its depth.
    fn write(&self, whole: &Region, axes: &[Axis], nodes: &mut Vec<Node>) -> usize {
        let Some((axis, at)) = self.best[whole].split else {
            nodes.push(Node::Leaf(self.at(&whole.iter().map(|range| range[0]).collect::<Vec<u16>>())));
            return 0;
        };
        let parent = nodes.len();
        let [low, high] = halves(whole, axis.into(), at);
        nodes.push(Node::Leaf(CellIndex(0)));
        let up_to = nodes.len() as u32;
        let low = self.write(&low, axes, nodes);
        let above = nodes.len() as u32;
        let high = self.write(&high, axes, nodes);
        nodes[parent] = Node::Split(axis.into(), axes[usize::from(axis)].bounds[usize::from(at) - 1], up_to, above);
        1 + low.max(high)
    }
}

fn halves(whole: &Region, axis: usize, at: u16) -> [Region; 2] {
    let (mut low, mut high) = (whole.clone(), whole.clone());
    low[axis][1] = at;
    high[axis][0] = at;
    [low, high]
}

fn unravel(mut point: usize, buckets: &[usize]) -> Vec<usize> {
    let mut at = vec![0; buckets.len()];
    for (axis, &n) in buckets.iter().enumerate().rev() {
        at[axis] = point % n;
        point /= n;
    }
    at
}
