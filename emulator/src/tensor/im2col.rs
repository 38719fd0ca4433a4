//! Tensor copies that gather the pixels under a filter (PTX ISA 5.5.4, `cuTensorMapEncodeIm2col`).
//!
//! A tensor has dimensions C, W, H, D, N, innermost first; of rank 3 without H and D, of rank 4 without D. A copy walks
//! over pixels, W fastest, in a window that leaves `lower` out at the start of each spatial dimension (or adds to it, if
//! negative) and goes on `upper` beyond the end, from its own coordinates on. Of each pixel, moved by the copy's offsets
//! (the place in the filter), it takes `channels` channels. What lies outside of the tensor is filled.

use super::tma::{Run, TensorMap};
use thiserror::Error;

/// What an im2col map has instead of a box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Im2col {
    /// Where the window starts, relative to the first pixel: W, H, D, as many as the rank less 2.
    pub lower: Vec<i32>,
    /// Where it ends, relative to the last pixel.
    pub upper: Vec<i32>,
    /// Channels of a pixel that a copy takes, 1 to 256.
    pub channels: u32,
    /// Pixels of a copy, 1 to 1024.
    pub pixels: u32,
}

/// A rule of `cuTensorMapEncodeIm2col` that is broken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum Im2colError {
    /// Without a spatial dimension there are no pixels.
    #[error("im2col needs 3 to 5 dimensions, there are {rank}")]
    Rank { rank: usize },
    /// One corner coordinate for each spatial dimension.
    #[error("{got} {name} corner coordinates for {want} spatial dimensions")]
    Corner { name: &'static str, got: usize, want: usize },
    /// Corners have few bits when they are many.
    #[error("{name} corner {value} is not between {} and {}, which rank {rank} has room for", -limit, limit - 1)]
    Range { name: &'static str, value: i32, limit: i32, rank: usize },
    /// See [`Im2col::channels`].
    #[error("{channels} channels are not between 1 and 256")]
    Channels { channels: u32 },
    /// See [`Im2col::pixels`].
    #[error("{pixels} pixels are not between 1 and 1024")]
    Pixels { pixels: u32 },
}

impl Im2col {
    /// Checks the rules that only im2col maps have.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self, rank: usize) -> Result<(), Im2colError> {
        let limit = match rank {
            3 => 1 << 15,
            4 => 1 << 7,
            5 => 1 << 4,
            _ => return Err(Im2colError::Rank { rank }),
        };
        for (name, corner) in [("lower", &self.lower), ("upper", &self.upper)] {
            if corner.len() != rank - 2 {
                return Err(Im2colError::Corner { name, got: corner.len(), want: rank - 2 });
            }
            if let Some(&value) = corner.iter().find(|value| !(-limit..limit).contains(*value)) {
                return Err(Im2colError::Range { name, value, limit, rank });
            }
        }
        if !(1..=256).contains(&self.channels) {
            return Err(Im2colError::Channels { channels: self.channels });
        }
        if !(1..=1024).contains(&self.pixels) {
            return Err(Im2colError::Pixels { pixels: self.pixels });
        }
        Ok(())
    }

    /// Bytes of a copy in shared memory, whatever part of it lies outside.
    pub fn bytes(&self, map: &TensorMap) -> u32 {
        self.channels.saturating_mul(self.pixels).saturating_mul(map.dtype.bytes())
    }

    /// The consecutive pieces of a copy at `coords` (C, W, H, D, N) with the filter at `offsets` (W, H, D).
    pub fn runs(&self, map: &TensorMap, coords: &[i32], offsets: &[i32]) -> Vec<Run> {
        let element = map.dtype.bytes();
        let spatial = map.rank() - 2;
        let mut at: Vec<i64> = coords.iter().map(|c| i64::from(*c)).collect();
        // Channels before the tensor, inside, and after.
        let (start, size) = (at[0], i64::from(self.channels));
        let before = (-start).clamp(0, size);
        let end = (map.dims[0] as i64 - start).clamp(before, size);
        let mut out = Vec::new();
        let mut shared_offset = 0;
        for _ in 0..self.pixels {
            let mut inside = true;
            let mut address = map.base.wrapping_add(((start + before) as u64).wrapping_mul(element.into()));
            for dim in 1..map.rank() {
                let offset = if dim <= spatial { i64::from(offsets[dim - 1]) } else { 0 };
                let place = at[dim] + offset;
                inside &= (0..map.dims[dim] as i64).contains(&place);
                address = address.wrapping_add((place as u64).wrapping_mul(map.strides[dim - 1]));
            }
            let parts = if inside {
                [(None, before), (Some(address), end - before), (None, size - end)]
            } else {
                [(None, size), (None, 0), (None, 0)]
            };
            for (global, elements) in parts.into_iter().filter(|(_, elements)| *elements > 0) {
                let bytes = elements as u32 * element;
                out.push(Run { global, shared_offset, bytes });
                shared_offset += bytes;
            }
            // The next pixel: W first, then H, D, and the next image.
            let mut dim = 1;
            loop {
                if dim > spatial {
                    at[dim] += 1;
                    break;
                }
                at[dim] += i64::from(map.element_strides[dim]);
                if at[dim] <= map.dims[dim] as i64 - 1 + i64::from(self.upper[dim - 1]) {
                    break;
                }
                at[dim] = i64::from(self.lower[dim - 1]);
                dim += 1;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::swizzle::Swizzle;
    use crate::tensor::tma::{Interleave, OobFill, TensorDType};

    fn tensor(dims: [u64; 4], step: u32) -> TensorMap {
        let strides: Vec<u64> = (1..4).map(|dim| 2 * dims[..dim].iter().product::<u64>()).collect();
        TensorMap {
            dtype: TensorDType::Bf16,
            base: 4096,
            dims: dims.to_vec(),
            strides,
            box_dims: vec![16, 1, 1, 1],
            element_strides: vec![1, step, step, 1],
            swizzle: Swizzle::None,
            interleave: Interleave::None,
            oob_fill: OobFill::Zero,
        }
    }

    /// Pixels of a convolution with a 3 by 3 filter, padding 1, against the loops of its definition.
    #[test]
    fn pixels_are_those_of_a_convolution() {
        for step in [1, 2] {
            let dims = [16u64, 7, 5, 3];
            let map = tensor(dims, step);
            let window = Im2col { lower: vec![-1, -1], upper: vec![-1, -1], channels: 16, pixels: 20 };
            assert_eq!(window.validate(4), Ok(()));
            // Output pixels in order, as base pixels of the filter.
            let mut bases = Vec::new();
            for n in 0..3i64 {
                for h in (-1..=3).step_by(step as usize) {
                    for w in (-1..=5).step_by(step as usize) {
                        bases.push([w, h, n]);
                    }
                }
            }
            for first in [0, 4, 9] {
                for filter in [[0, 0], [2, 1], [1, 2]] {
                    let [w, h, n] = bases[first];
                    let runs = window.runs(&map, &[0, w as i32, h as i32, n as i32], &filter);
                    let mut at = 0;
                    for run in runs {
                        assert_eq!(run.shared_offset, 32 * at);
                        let [w, h, n] = bases.get(first + at as usize).copied().unwrap_or([0, 0, 99]);
                        let (w, h) = (w + i64::from(filter[0]), h + i64::from(filter[1]));
                        let inside = (0..7).contains(&w) && (0..5).contains(&h) && n < 3;
                        let address = 4096 + 2 * 16 * (w + 7 * (h + 5 * n));
                        assert_eq!(run.global, inside.then_some(address as u64));
                        at += 1;
                    }
                    assert_eq!(at, 20);
                }
            }
        }
    }

    #[test]
    fn channels_outside_are_filled() {
        let map = tensor([24, 4, 4, 1], 1);
        let window = Im2col { lower: vec![0, 0], upper: vec![0, 0], channels: 16, pixels: 1 };
        let runs = window.runs(&map, &[16, 0, 0, 0], &[0, 0]);
        let parts: Vec<_> = runs.iter().map(|run| (run.global, run.bytes)).collect();
        assert_eq!(parts, [(Some(4096 + 32), 16), (None, 16)]);
    }

    #[test]
    fn broken_rules_are_named() {
        let window = Im2col { lower: vec![-129, 0], upper: vec![0, 0], channels: 16, pixels: 8 };
        assert!(matches!(window.validate(4), Err(Im2colError::Range { value: -129, .. })));
        assert!(matches!(window.validate(2), Err(Im2colError::Rank { rank: 2 })));
        assert!(matches!(window.validate(5), Err(Im2colError::Corner { .. })));
        let many = Im2col { lower: vec![0], upper: vec![0], channels: 16, pixels: 2000 };
        assert!(matches!(many.validate(3), Err(Im2colError::Pixels { pixels: 2000 })));
    }
}
