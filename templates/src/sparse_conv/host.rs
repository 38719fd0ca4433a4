//! Kernel maps on the host, entry by entry from the relation: exact, and the witness of every kernel that makes one.

use super::geometry::{Geometry, Mode};
use rustc_hash::FxHashMap;

/// Batch, x, y, z.
pub type Coord = [i32; 4];

/// Coordinates and where each stands.
#[derive(Clone, Debug, Default)]
pub struct Points {
    rows: Vec<Coord>,
    at: FxHashMap<Coord, i32>,
}

/// Which input each output meets at each tap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelMap {
    /// Taps of the kernel.
    pub taps: usize,
    /// Coordinates of the outputs.
    pub coords_out: Vec<Coord>,
    /// `[m, taps]`: row of the input, or -1.
    pub map: Vec<i32>,
}

/// Points or outputs that are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// Two rows with the same coordinates.
    #[error("rows {first} and {second} are the same voxel {at:?}: every voxel is given once")]
    Duplicate {
        /// The earlier row.
        first: i32,
        /// The later row.
        second: i32,
        /// Batch, x, y, z.
        at: Coord,
    },
    /// A batch below 0.
    #[error("row {row} has batch {batch}: batches count from 0")]
    Batch {
        /// The row.
        row: usize,
        /// Its batch.
        batch: i32,
    },
    /// More rows than 32 bits number.
    #[error("{0} rows: at most 2147483647 are numbered")]
    Rows(usize),
    /// An output outside 32 bits.
    #[error("row {row} at {from:?} leads to {to:?}, which does not fit 32-bit coordinates")]
    Range {
        /// The input row.
        row: usize,
        /// Its coordinates.
        from: Coord,
        /// x, y, z of the output.
        to: [i64; 3],
    },
}

impl Points {
    /// Takes coordinates in their order.
    pub fn new(rows: Vec<Coord>) -> Result<Self, MapError> {
        if i32::try_from(rows.len()).is_err() {
            return Err(MapError::Rows(rows.len()));
        }
        let mut at = FxHashMap::with_capacity_and_hasher(rows.len(), Default::default());
        for (row, c) in rows.iter().enumerate() {
            if c[0] < 0 {
                return Err(MapError::Batch { row, batch: c[0] });
            }
            if let Some(first) = at.insert(*c, row as i32) {
                return Err(MapError::Duplicate { first, second: row as i32, at: *c });
            }
        }
        Ok(Points { rows, at })
    }

    /// The coordinates, in order.
    pub fn rows(&self) -> &[Coord] {
        &self.rows
    }

    /// The row of a voxel.
    pub fn find(&self, batch: i32, xyz: [i64; 3]) -> Option<i32> {
        let [x, y, z] = xyz.map(|v| i32::try_from(v).ok());
        self.at.get(&[batch, x?, y?, z?]).copied()
    }
}

impl KernelMap {
    /// The map of a layer. Without `target`, strided and generative outputs come in the order in which inputs, and taps of an
    /// input, first lead to them; submanifold outputs are the inputs.
    pub fn build(mode: Mode, g: &Geometry, input: &Points, target: Option<&Points>) -> Result<Self, MapError> {
        Ok(Self::at(mode, g, input, Self::outputs(mode, g, input, target)?))
    }

    /// The outputs of a layer alone, as [`Self::build`] has them.
    pub fn outputs(mode: Mode, g: &Geometry, input: &Points, target: Option<&Points>) -> Result<Vec<Coord>, MapError> {
        Ok(match (mode, target) {
            (_, Some(target)) => target.rows().to_vec(),
            (Mode::Submanifold, None) => input.rows().to_vec(),
            (_, None) => outputs(mode, g, input)?,
        })
    }

    /// The map of a layer at outputs that are known.
    pub fn at(mode: Mode, g: &Geometry, input: &Points, coords_out: Vec<Coord>) -> Self {
        let taps = g.taps();
        let mut map = Vec::with_capacity(coords_out.len() * taps);
        for c in &coords_out {
            let xyz = [c[1], c[2], c[3]].map(i64::from);
            for k in 0..taps {
                let want = if mode.is_up() { g.coarse(xyz, k) } else { Some(g.fine(xyz, k)) };
                map.push(want.and_then(|want| input.find(c[0], want)).unwrap_or(-1));
            }
        }
        KernelMap { taps, coords_out, map }
    }

    /// Rows of the output.
    pub fn rows(&self) -> usize {
        self.coords_out.len()
    }

    /// Entries that are not -1.
    pub fn pairs(&self) -> usize {
        self.map.iter().filter(|j| **j >= 0).count()
    }

    /// The entries of output row `m`.
    pub fn row(&self, m: usize) -> &[i32] {
        &self.map[m * self.taps..(m + 1) * self.taps]
    }
}

/// Every voxel with an edge, first come first.
fn outputs(mode: Mode, g: &Geometry, input: &Points) -> Result<Vec<Coord>, MapError> {
    let mut seen = FxHashMap::default();
    let mut list = Vec::new();
    for (row, c) in input.rows().iter().enumerate() {
        let xyz = [c[1], c[2], c[3]].map(i64::from);
        for k in 0..g.taps() {
            let Some(to) = (if mode.is_up() { Some(g.fine(xyz, k)) } else { g.coarse(xyz, k) }) else { continue };
            let [Ok(x), Ok(y), Ok(z)] = to.map(i32::try_from) else {
                return Err(MapError::Range { row, from: *c, to });
            };
            let out = [c[0], x, y, z];
            seen.entry(out).or_insert_with(|| list.push(out));
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strided_map_and_its_inverse_have_the_same_edges() {
        let points = Points::new(vec![[0, 0, 0, 0], [0, 1, 0, 0], [0, -3, 2, 5], [1, 0, 0, 0]]).unwrap();
        let g = Geometry { padding: [1; 3], ..Geometry::cube(3, 2, 1) };
        let down = KernelMap::build(Mode::Strided, &g, &points, None).unwrap();
        let coarse = Points::new(down.coords_out.clone()).unwrap();
        let up = KernelMap::build(Mode::Inverse, &g, &coarse, Some(&points)).unwrap();
        assert_eq!(down.coords_out[0], [0, 0, 0, 0], "the first input leads there by its first tap that divides");
        assert!(down.pairs() > 0);
        for m in 0..down.rows() {
            for k in 0..27 {
                let j = down.row(m)[k];
                assert!(j < 0 || up.row(j as usize)[k] == m as i32);
            }
        }
        assert_eq!(up.pairs(), down.pairs());
    }

    #[test]
    fn points_are_given_once_and_batches_count_from_0() {
        let twice = Points::new(vec![[0, 1, 2, 3], [0, 0, 0, 0], [0, 1, 2, 3]]);
        assert_eq!(twice.unwrap_err().to_string(), "rows 0 and 2 are the same voxel [0, 1, 2, 3]: every voxel is given once");
        assert!(matches!(Points::new(vec![[-1, 0, 0, 0]]), Err(MapError::Batch { row: 0, batch: -1 })));
        let far = Points::new(vec![[0, i32::MAX, 0, 0]]).unwrap();
        let g = Geometry::cube(2, 2, 1);
        assert!(matches!(KernelMap::build(Mode::Generative, &g, &far, None), Err(MapError::Range { row: 0, .. })));
    }
}
