//! Shared-memory wavefronts: 32 banks of 4 bytes, one word of each bank per wavefront.

use std::ops::ControlFlow;

use smallvec::{SmallVec, smallvec};

use super::map::{Table, walk};
use super::{Dim, Layout, LayoutError};

const BANKS: u32 = 32;
const WORD_BYTES: u32 = 4;
const WARP_LANES: u32 = 32;

/// Bytes that each lane of a warp loads or stores at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccessWidth {
    /// `.b32`, and narrower accesses within one word: the whole warp in one phase.
    B4,
    /// `.v2.b32` or `.b64`: half-warps.
    B8,
    /// `.v4.b32`: quarter-warps.
    B16,
}

impl AccessWidth {
    /// Bytes per lane.
    pub fn bytes(self) -> u32 {
        match self {
            AccessWidth::B4 => 4,
            AccessWidth::B8 => 8,
            AccessWidth::B16 => 16,
        }
    }

    /// Phases of a full warp: each moves at most 128 bytes.
    pub fn phases(self) -> u32 {
        self.bytes() / WORD_BYTES
    }
}

/// Cost of one access in shared-memory wavefronts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Wavefronts {
    /// Wavefronts taken.
    pub taken: u32,
    /// Wavefronts of a conflict-free access of the same lanes: one per phase.
    pub ideal: u32,
}

impl Wavefronts {
    /// Extra wavefronts caused by bank conflicts. 0 is conflict-free.
    pub fn conflicts(self) -> u32 {
        self.taken - self.ideal
    }
}

/// Wavefronts of one warp access: lane `i` touches `width` bytes at `lane_bytes[i]`.
///
/// Each phase serves 32, 16 or 8 neighbouring lanes and takes as many wavefronts as the busiest bank has distinct words; equal
/// words are broadcast (CUDA C++ Programming Guide, compute capability 5.x and later, shared memory). Lanes past the end of
/// the slice are inactive, and a phase without lanes costs nothing.
///
/// # Errors
/// An address that is not a multiple of the width, or more than 32 lanes.
///
/// # Example
/// ```
/// use tilewright_ir::layout::{AccessWidth, warp_wavefronts};
/// let column: Vec<u32> = (0..32).map(|lane| lane * 128).collect();
/// assert_eq!(warp_wavefronts(&column, AccessWidth::B4)?.taken, 32);
/// let row: Vec<u32> = (0..32).map(|lane| lane * 16).collect();
/// assert_eq!(warp_wavefronts(&row, AccessWidth::B16)?.conflicts(), 0);
/// # Ok::<(), tilewright_ir::layout::LayoutError>(())
/// ```
pub fn warp_wavefronts(lane_bytes: &[u32], width: AccessWidth) -> Result<Wavefronts, LayoutError> {
    check_lanes(lane_bytes.len(), WARP_LANES)?;
    check_aligned(lane_bytes, width.bytes())?;
    let per_phase = (WARP_LANES / width.phases()) as usize;
    let phases = lane_bytes.chunks(per_phase);
    let ideal = phases.len() as u32;
    Ok(Wavefronts { taken: phases.map(|lanes| busiest_bank(lanes, width.bytes())).sum(), ideal })
}

/// Wavefronts of one 8x8 matrix of `ldmatrix` or `stmatrix`: 8 rows of 16 bytes at `row_bytes`. 1 is conflict-free.
///
/// An x2 or x4 access costs the sum over its matrices.
///
/// # Errors
/// A row that is not 16-byte aligned.
pub fn matrix_wavefronts(row_bytes: &[u32; 8]) -> Result<u32, LayoutError> {
    check_aligned(row_bytes, 16)?;
    Ok(busiest_bank(row_bytes, 16))
}

impl Layout {
    /// Wavefronts of a warp access at the addresses of this layout, from `lane` (and others) to `byte`: the worst over all
    /// other inputs. Other outputs are ignored.
    ///
    /// # Errors
    /// No `lane` input, no `byte` output, more than 32 lanes, misaligned addresses.
    pub fn bank_conflicts(&self, width: AccessWidth) -> Result<Wavefronts, LayoutError> {
        let no_lane = || LayoutError::UnknownDim { dim: Dim::Lane, side: "input", have: self.in_dims().collect() };
        let lane = self.in_dims().position(|d| d == Dim::Lane).ok_or_else(no_lane)?;
        let byte = self.output_position(Dim::Byte)?;
        let table = Table::new(self);
        let mut others = self.sizes();
        let lanes = std::mem::replace(&mut others[lane], 1);
        check_lanes(lanes as usize, WARP_LANES)?;
        let mut out: SmallVec<[u32; 4]> = smallvec![0; self.out_dims().len()];
        let mut worst = Wavefronts { taken: 0, ideal: 0 };
        let failed = walk(&others, |index| {
            let mut index: SmallVec<[u32; 4]> = SmallVec::from_slice(index);
            let addresses: SmallVec<[u32; 32]> = (0..lanes)
                .map(|l| {
                    index[lane] = l;
                    table.eval(&index, &mut out);
                    out[byte]
                })
                .collect();
            match warp_wavefronts(&addresses, width) {
                Ok(found) => {
                    worst = worst.max(found);
                    ControlFlow::Continue(())
                }
                Err(error) => ControlFlow::Break(error),
            }
        });
        failed.map_or(Ok(worst), Err)
    }
}

fn busiest_bank(lane_bytes: &[u32], width: u32) -> u32 {
    let mut words: SmallVec<[u32; 32]> =
        lane_bytes.iter().flat_map(|&byte| (0..width / WORD_BYTES).map(move |w| byte / WORD_BYTES + w)).collect();
    words.sort_unstable();
    words.dedup();
    let mut load = [0; BANKS as usize];
    words.iter().for_each(|word| load[(word % BANKS) as usize] += 1);
    load.into_iter().max().unwrap_or(0)
}

fn check_lanes(lanes: usize, most: u32) -> Result<(), LayoutError> {
    if lanes > most as usize {
        let rule = format!("is more than the {most} lanes of a warp: split the access by warp");
        return Err(LayoutError::Shape { what: "lanes", value: lanes as u32, rule });
    }
    Ok(())
}

fn check_aligned(bytes: &[u32], width: u32) -> Result<(), LayoutError> {
    match bytes.iter().enumerate().find(|(_, b)| !b.is_multiple_of(width)) {
        Some((lane, &byte)) => Err(LayoutError::Misaligned { lane: lane as u32, byte, width }),
        None => Ok(()),
    }
}
