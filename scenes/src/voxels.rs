//! From points to voxels.

use crate::lidar::Point;
use crate::random::Random;
use rustc_hash::FxHashSet;

/// Voxels in the order in which points first lead to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Voxels {
    /// Batch, x, y, z, each once.
    pub coords: Vec<[i32; 4]>,
    /// The first point of each voxel.
    pub points: Vec<usize>,
}

/// Points that have no voxel.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum VoxelError {
    /// A voxel without extent.
    #[error("a voxel of {0:?} m: sizes are positive numbers of metres")]
    Size([f64; 3]),
    /// A point that is not a number, or too far away.
    #[error("point {row} at {at:?} m with voxels of {size:?} m does not fit 32-bit coordinates")]
    Range {
        /// The point.
        row: usize,
        /// Its place in metres.
        at: [f32; 3],
        /// The voxels' size.
        size: [f64; 3],
    },
}

/// Voxels of some size in metres along x, y, z: `floor(p / size)`; of points in the same voxel the first stays.
pub fn voxelise(points: &[Point], size: [f64; 3], batch: i32) -> Result<Voxels, VoxelError> {
    if !size.iter().all(|s| *s > 0.0 && s.is_finite()) {
        return Err(VoxelError::Size(size));
    }
    let mut seen = FxHashSet::default();
    let mut voxels = Voxels::default();
    for (row, p) in points.iter().enumerate() {
        let cell = [0, 1, 2].map(|a| (f64::from(p[a]) / size[a]).floor());
        if !cell.iter().all(|c| (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(c)) {
            return Err(VoxelError::Range { row, at: [p[0], p[1], p[2]], size });
        }
        let [x, y, z] = cell.map(|c| c as i32);
        let coord = [batch, x, y, z];
        if seen.insert(coord) {
            voxels.coords.push(coord);
            voxels.points.push(row);
        }
    }
    Ok(voxels)
}

impl Voxels {
    /// Features `[voxels, channels]` of voxels made of `points`: the first point's place in its voxel along x, y, z, from -0.5 to
    /// 0.5, its intensity (against the strongest, where one is above 1), then numbers from -1 to 1 drawn at random.
    pub fn features(&self, points: &[Point], size: [f64; 3], channels: usize) -> Vec<f32> {
        let strongest = points.iter().map(|p| p[3]).fold(1.0, f32::max);
        let mut random = Random::new(channels as u64, 1000);
        let mut list = Vec::with_capacity(self.coords.len() * channels);
        for (coord, point) in self.coords.iter().zip(&self.points) {
            let p = points[*point];
            let place = |a: usize| (f64::from(p[a]) / size[a] - f64::from(coord[a + 1]) - 0.5) as f32;
            let known = [place(0), place(1), place(2), p[3] / strongest];
            list.extend((0..channels).map(|c| known.get(c).copied().unwrap_or_else(|| random.between(-1.0, 1.0) as f32)));
        }
        list
    }

    /// The `n` voxels nearest to one at the median distance from the sensor, in their order: a piece of a scan with the
    /// neighbourhoods of the whole. All of them where there are no more.
    pub fn crop(&self, n: usize) -> Voxels {
        let square =
            |c: &[i32; 4], o: &[i32; 4]| (1..4).map(|a| (i64::from(c[a]) - i64::from(o[a])).pow(2) as u128).sum::<u128>();
        let mut rows: Vec<usize> = (0..self.coords.len()).collect();
        rows.sort_by_key(|r| (square(&self.coords[*r], &[0; 4]), *r));
        let Some(middle) = rows.get(rows.len() / 2).map(|r| self.coords[*r]) else { return Voxels::default() };
        rows.sort_by_key(|r| (square(&self.coords[*r], &middle), *r));
        rows.truncate(n);
        rows.sort_unstable();
        Voxels { coords: rows.iter().map(|r| self.coords[*r]).collect(), points: rows.iter().map(|r| self.points[*r]).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_and_keeps_the_first() {
        let points = [[0.01, -0.01, 0.0, 0.5], [0.26, 0.0, 0.0, 0.1], [0.09, -0.09, 0.05, 0.9], [-0.1, 0.0, 0.3, 0.0]];
        let v = voxelise(&points, [0.1, 0.1, 0.2], 3).unwrap();
        assert_eq!(v.coords, [[3, 0, -1, 0], [3, 2, 0, 0], [3, -2, 0, 1]]);
        assert_eq!(v.points, [0, 1, 3]);
    }

    #[test]
    fn features_are_places_and_intensities() {
        let points = [[0.15, -0.05, 0.0, 64.0], [0.0, 0.0, 0.0, 128.0]];
        let v = voxelise(&points, [0.1; 3], 0).unwrap();
        let f = v.features(&points, [0.1; 3], 6);
        for (found, expected) in f.iter().zip([0.0, 0.0, -0.5, 0.5]) {
            assert!((found - expected).abs() < 1e-4, "{f:?}");
        }
        assert_eq!((f.len(), f[6 + 3]), (12, 1.0));
        assert!(f[4] != f[10] && f.iter().all(|x| x.abs() <= 1.0));
    }

    #[test]
    fn what_has_no_voxel_is_refused() {
        let refused = |p: f32, size: f64| voxelise(&[[0.0; 4], [0.0, p, 0.0, 0.0]], [size; 3], 0).unwrap_err().to_string();
        assert!(refused(f32::NAN, 0.1).contains("point 1"));
        assert!(refused(3e8, 0.1).contains("32-bit"));
        assert!(refused(0.0, 0.0).contains("positive"));
        assert!(refused(0.0, f64::NAN).contains("positive"));
    }

    #[test]
    fn a_crop_is_a_piece() {
        let points: Vec<Point> = (0..100).map(|i| [i as f32, 0.0, 0.0, 0.0]).collect();
        let v = voxelise(&points, [1.0; 3], 0).unwrap();
        let c = v.crop(5);
        assert_eq!(c.points, [48, 49, 50, 51, 52]);
        assert_eq!(v.crop(1000), v);
        assert_eq!(Voxels::default().crop(3), Voxels::default());
    }
}
