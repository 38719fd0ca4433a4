//! A small decision tree over the axes of a table.

use serde::{Deserialize, Serialize};

use super::table::{CellIndex, ChosenBy};

/// Most nodes of a tree.
pub const MAX_NODES: usize = 8192;
/// Most splits between the root and a leaf.
pub const MAX_DEPTH: usize = 48;

/// A decision tree in one list. The root is the first node; children stand after their parent, each named once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// Splits and leaves.
    pub nodes: Vec<Node>,
    /// What ranked its cells.
    pub chosen_by: ChosenBy,
    /// What having fewer kernels costs at most on the grid it was made from, in percent over the best there was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regret_percent: Option<f64>,
}

/// A node. In JSON a leaf is its cell's number, a split `[axis, bound, up_to, above]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Node {
    /// The answer.
    Leaf(CellIndex),
    /// Position of the axis, its inclusive bound, the node up to it and the node above it.
    Split(u32, i64, u32, u32),
}

impl Tree {
    /// The cell of a problem with these values of the axes. Ends, because children stand after their parents.
    pub fn cell(&self, values: &[i64]) -> CellIndex {
        let mut at = 0;
        loop {
            match self.nodes[at] {
                Node::Leaf(cell) => return cell,
                Node::Split(axis, bound, up_to, above) => {
                    at = if values[axis as usize] <= bound { up_to } else { above } as usize;
                }
            }
        }
    }

    /// The cells that some value of the first axis reaches, from its largest down, until `visit` returns an answer. The first
    /// of `values` is not looked at.
    pub fn from_largest<T, E>(
        &self,
        values: &[i64],
        mut visit: impl FnMut(CellIndex) -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        // Lower branches to come back to; no deeper than the tree.
        let mut later = [0u32; MAX_DEPTH];
        let (mut pending, mut at) = (0, 0usize);
        loop {
            at = match self.nodes[at] {
                Node::Split(0, _, up_to, above) => {
                    later[pending] = up_to;
                    pending += 1;
                    above as usize
                }
                Node::Split(axis, bound, up_to, above) => {
                    if values[axis as usize] <= bound {
                        up_to as usize
                    } else {
                        above as usize
                    }
                }
                Node::Leaf(cell) => {
                    if let Some(found) = visit(cell)? {
                        return Ok(Some(found));
                    }
                    let Some(next) = pending.checked_sub(1) else { return Ok(None) };
                    pending = next;
                    later[pending] as usize
                }
            }
        }
    }

    /// What is wrong with its shape, if anything, for a table of so many axes and cells.
    pub(super) fn check(&self, axes: usize, cells: usize) -> Result<(), String> {
        let count = self.nodes.len();
        if !(1..=MAX_NODES).contains(&count) {
            return Err(format!("{count} nodes, must be 1 to {MAX_NODES}"));
        }
        // Splits above each node; none until its parent was seen.
        let mut depths: Vec<Option<usize>> = vec![None; count];
        depths[0] = Some(0);
        for (at, node) in self.nodes.iter().enumerate() {
            let Some(depth) = depths[at] else { return Err(format!("node {at} is no child of an earlier one")) };
            match *node {
                Node::Leaf(cell) if cell.0 as usize >= cells => return Err(format!("node {at}: cell {} of {cells}", cell.0)),
                Node::Leaf(_) => {}
                Node::Split(axis, ..) if axis as usize >= axes => return Err(format!("node {at}: axis {axis} of {axes}")),
                Node::Split(_, _, up_to, above) => {
                    if depth == MAX_DEPTH {
                        return Err(format!("node {at} is deeper than {MAX_DEPTH} splits"));
                    }
                    for child in [up_to as usize, above as usize] {
                        if child <= at || child >= count {
                            return Err(format!("node {at}: child {child} must stand after it, among {count}"));
                        }
                        if depths[child].replace(depth + 1).is_some() {
                            return Err(format!("node {child} is the child of two nodes"));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
