//! Questions about one layout.

use std::ops::ControlFlow;

use rustc_hash::FxHashSet;
use smallvec::{SmallVec, smallvec};

use super::map::{Input, Table, walk};
use super::{Basis, Dim, Layout, Outer};

impl Layout {
    /// Whether distinct inputs have distinct outputs. Walks the domain.
    pub fn is_injective(&self) -> bool {
        self.distinct_outputs().len() as u32 == self.points()
    }

    /// Whether the outputs are exactly the box `extents`, one extent per output dim. Walks the domain.
    pub fn is_surjective_onto(&self, extents: &[u32]) -> bool {
        let cells = extents.iter().fold(1u64, |cells, &e| cells.saturating_mul(e.into()));
        extents.len() == self.out_dims().len()
            && self.out_dims().iter().zip(extents).all(|(&dim, &extent)| self.out_extent(dim) <= extent)
            && self.distinct_outputs().len() as u64 == cells
    }

    /// Vector width: the largest power of two `v` such that `v` neighbouring indices of `input`, from a multiple of `v`, map
    /// to `v` consecutive values of `output` from a multiple of `v`, at every input, with all other outputs unmoved.
    ///
    /// 1 where the layout has no such dims.
    pub fn contiguous_run(&self, input: Dim, output: Dim) -> u32 {
        self.vector_width(input, output, 1)
    }

    /// [`Layout::contiguous_run`] in steps of `unit`, for byte outputs of `unit`-byte elements: `v` neighbours lie `unit` apart
    /// from a multiple of `v * unit`.
    ///
    /// 1 where not even two neighbours do, and for a `unit` that is no power of two.
    pub fn vector_width(&self, input: Dim, output: Dim, unit: u32) -> u32 {
        let (Some(found), Some(d)) = (self.input(input), self.out_dims().iter().position(|&o| o == output)) else { return 1 };
        if !unit.is_power_of_two() {
            return 1;
        }
        let steps = |basis: &Basis, step: u64| {
            basis.values().iter().enumerate().all(|(i, &v)| u64::from(v) == if i == d { step } else { 0 })
        };
        let unit = u64::from(unit);
        let merged = merge_first(&found.outers, self.out_dims().len());
        let plain_bits = found.bases.iter().enumerate().take_while(|(bit, b)| steps(b, unit << bit)).count();
        let mut run_bits = plain_bits as u32;
        if plain_bits == found.bases.len() && steps(&merged.outer.stride, unit << plain_bits) {
            run_bits += merged.outer.extent.trailing_zeros();
        }
        (0..=run_bits).rev().find(|&bits| self.is_aligned(found, &merged, d, bits, unit << bits)).map_or(1, |bits| 1 << bits)
    }

    /// Whether output `d` is a multiple of `width` wherever the low `run_bits` of the index of `own` are zero.
    fn is_aligned(&self, own: &Input, merged: &Merged, d: usize, run_bits: u32, width: u64) -> bool {
        let aligned = |basis: &Basis| u64::from(basis.values()[d]).is_multiple_of(width);
        let others = self.inputs.iter().filter(|i| i.dim != own.dim);
        let inside = run_bits.min(own.bases.len() as u32);
        // The strided indices that one vector takes in; what the first factor has left over then steps by that many.
        let taken = 1u32 << (run_bits - inside);
        let left =
            merged.outer.extent == taken || (u64::from(merged.outer.stride.values()[d]) * u64::from(taken)).is_multiple_of(width);
        left && own.bases[inside as usize..].iter().all(aligned)
            && own.outers[merged.count..].iter().all(|o| aligned(&o.stride))
            && others.flat_map(|i| i.bases.iter().chain(i.outers.iter().map(|o| &o.stride))).all(aligned)
    }

    fn distinct_outputs(&self) -> FxHashSet<SmallVec<[u32; 4]>> {
        let table = Table::new(self);
        let mut out: SmallVec<[u32; 4]> = smallvec![0; self.out_dims().len()];
        let mut seen = FxHashSet::default();
        walk(&self.sizes(), |index| -> ControlFlow<()> {
            table.eval(index, &mut out);
            seen.insert(out.clone());
            ControlFlow::Continue(())
        });
        seen
    }
}

/// The first outer factor of a dim together with those that continue it.
struct Merged {
    outer: Outer,
    count: usize,
}

fn merge_first(outers: &[Outer], n_outputs: usize) -> Merged {
    let Some((first, rest)) = outers.split_first() else {
        return Merged { outer: Outer { extent: 1, stride: Basis(smallvec![0; n_outputs]) }, count: 0 };
    };
    let mut merged = Merged { outer: first.clone(), count: 1 };
    for next in rest {
        let pairs = next.stride.values().iter().zip(first.stride.values());
        if !pairs.into_iter().all(|(&n, &s)| u64::from(n) == u64::from(s) * u64::from(merged.outer.extent)) {
            break;
        }
        merged.outer.extent *= next.extent;
        merged.count += 1;
    }
    merged
}
