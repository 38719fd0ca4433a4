//! Which voxels a convolution joins: fine voxel `f`, coarse voxel `q` and tap `o` where `f = stride*q - padding + dilation*o`.

use std::fmt;
use std::str::FromStr;

/// How outputs follow from inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Outputs are the inputs.
    Submanifold,
    /// Inputs are fine, outputs every coarse voxel with an edge, or those given.
    Strided,
    /// Inputs are coarse, outputs the fine voxels given.
    Transposed,
    /// Inputs are coarse, outputs every fine voxel with an edge.
    Generative,
    /// As transposed: back to the inputs of the strided layer it undoes.
    Inverse,
}

/// A kernel and how it moves. Each array is along x, y, z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Geometry {
    /// Taps along each axis, from 1.
    pub kernel: [u32; 3],
    /// Step of coarse voxels in fine ones, from 1.
    pub stride: [u32; 3],
    /// Distance of neighbouring taps, from 1.
    pub dilation: [u32; 3],
    /// How far the kernel's first tap lies before the coarse voxel's corner.
    pub padding: [u32; 3],
}

/// A geometry no kernel serves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// A size outside its range.
    #[error("{what} = {value} along {axis}: expected {from} to {to}")]
    Range {
        /// Kernel, stride, dilation or padding.
        what: &'static str,
        /// x, y or z.
        axis: char,
        /// What was given.
        value: u32,
        /// Least.
        from: u32,
        /// Largest.
        to: u32,
    },
    /// Submanifold convolutions do not move.
    #[error("mode=submanifold takes stride 1, not {0}: outputs are the inputs")]
    SubmanifoldStride(u32),
}

/// Most taps along an axis.
pub const MOST_TAPS: u32 = 7;
/// Largest stride, dilation and padding: far beyond any network, and sums stay inside 64 bits.
const MOST_STEP: u32 = 1 << 16;

impl Mode {
    /// Every mode.
    pub const ALL: [Mode; 5] = [Mode::Submanifold, Mode::Strided, Mode::Transposed, Mode::Generative, Mode::Inverse];

    /// Whether inputs are the coarse side, outputs the fine one.
    pub fn is_up(self) -> bool {
        matches!(self, Mode::Transposed | Mode::Generative | Mode::Inverse)
    }

    /// Its name in keys and classes.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Submanifold => "submanifold",
            Mode::Strided => "strided",
            Mode::Transposed => "transposed",
            Mode::Generative => "generative",
            Mode::Inverse => "inverse",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Mode::ALL.into_iter().find(|m| m.name() == text).ok_or_else(|| {
            let names: Vec<_> = Mode::ALL.iter().map(|m| m.name()).collect();
            format!("expected {}", names.join(", "))
        })
    }
}

impl Geometry {
    /// The same along every axis, without padding.
    pub fn cube(kernel: u32, stride: u32, dilation: u32) -> Self {
        Geometry { kernel: [kernel; 3], stride: [stride; 3], dilation: [dilation; 3], padding: [0; 3] }
    }

    /// A submanifold kernel: each output stands at its middle tap, of an even kernel at the lower of the two.
    pub fn submanifold(kernel: [u32; 3], dilation: [u32; 3]) -> Self {
        let padding = [0, 1, 2].map(|a| dilation[a] * (kernel[a] - 1) / 2);
        Geometry { kernel, stride: [1; 3], dilation, padding }
    }

    /// Checks sizes: kernels of 1 to 7, strides and dilations of 1 to 65536, paddings up to 65536; submanifold ones do not move.
    pub fn check(&self, mode: Mode) -> Result<(), GeometryError> {
        let ranges = [
            ("kernel", self.kernel, 1, MOST_TAPS),
            ("stride", self.stride, 1, MOST_STEP),
            ("dilation", self.dilation, 1, MOST_STEP),
            ("padding", self.padding, 0, MOST_STEP * MOST_TAPS),
        ];
        for (what, values, from, to) in ranges {
            for (value, axis) in values.into_iter().zip(['x', 'y', 'z']) {
                if !(from..=to).contains(&value) {
                    return Err(GeometryError::Range { what, axis, value, from, to });
                }
            }
        }
        match self.stride.into_iter().find(|s| mode == Mode::Submanifold && *s != 1) {
            Some(s) => Err(GeometryError::SubmanifoldStride(s)),
            None => Ok(()),
        }
    }

    /// Taps of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel.iter().map(|k| *k as usize).product()
    }

    /// Tap `k = (ox*ky + oy)*kz + oz` along each axis.
    pub fn offset(&self, k: usize) -> [i64; 3] {
        let [_, ky, kz] = self.kernel.map(|k| k as usize);
        [k / (ky * kz), k / kz % ky, k % kz].map(|o| o as i64)
    }

    /// The fine voxel that tap `k` joins to coarse voxel `q`; any 32-bit `q` stays inside 64 bits.
    pub fn fine(&self, q: [i64; 3], k: usize) -> [i64; 3] {
        let o = self.offset(k);
        [0, 1, 2].map(|a| i64::from(self.stride[a]) * q[a] - i64::from(self.padding[a]) + i64::from(self.dilation[a]) * o[a])
    }

    /// The coarse voxel that tap `k` joins to fine voxel `f`, where there is one.
    pub fn coarse(&self, f: [i64; 3], k: usize) -> Option<[i64; 3]> {
        let o = self.offset(k);
        let scaled = [0, 1, 2].map(|a| f[a] + i64::from(self.padding[a]) - i64::from(self.dilation[a]) * o[a]);
        let stride = self.stride.map(i64::from);
        let whole = (0..3).all(|a| scaled[a] % stride[a] == 0);
        whole.then(|| [0, 1, 2].map(|a| scaled[a] / stride[a]))
    }

    /// What the map kernels take: `kx ky kz sx sy sz dx dy dz px py pz taps`.
    pub fn scalars(&self) -> Vec<(String, i64)> {
        let axes = [("k", self.kernel), ("s", self.stride), ("d", self.dilation), ("p", self.padding)];
        let mut list: Vec<(String, i64)> = axes
            .into_iter()
            .flat_map(|(name, values)| {
                ["x", "y", "z"].into_iter().zip(values).map(move |(a, v)| (format!("{name}{a}"), i64::from(v)))
            })
            .collect();
        list.push(("taps".into(), self.taps() as i64));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fine_and_coarse_are_each_others_inverse() {
        let g = Geometry { kernel: [3, 2, 5], stride: [2, 3, 1], dilation: [1, 2, 3], padding: [1, 0, 6] };
        for k in 0..g.taps() {
            for q in [[0, 0, 0], [-7, 5, i64::from(i32::MIN)], [9, -1, i64::from(i32::MAX)]] {
                assert_eq!(g.coarse(g.fine(q, k), k), Some(q));
            }
        }
        assert_eq!(g.offset(29), [2, 1, 4]);
        assert_eq!(g.coarse([0, 0, 0], 0), None, "0 + 1 is no multiple of 2");
    }

    #[test]
    fn submanifold_kernels_stand_at_their_middle() {
        let g = Geometry::submanifold([3, 4, 1], [2, 1, 1]);
        assert_eq!(g.padding, [2, 1, 0]);
        assert_eq!(g.fine([5, 5, 5], 5), [5, 5, 5]);
        assert!(g.check(Mode::Submanifold).is_ok());
        assert_eq!(Geometry::cube(3, 2, 1).check(Mode::Submanifold), Err(GeometryError::SubmanifoldStride(2)));
        assert!(Geometry::cube(8, 1, 1).check(Mode::Strided).unwrap_err().to_string().contains("kernel = 8 along x"));
    }
}
