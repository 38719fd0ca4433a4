//! Layouts from layouts.

use std::ops::{ControlFlow, Range};

use smallvec::{SmallVec, smallvec};

use super::builder::basis;
use super::fit::{fit, not_representable};
use super::map::{Input, Table, walk};
use super::{Dim, Layout, LayoutError, Outer};

/// Part of a layout whose outputs lie in a range: see [`Layout::slice`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The part, with its inputs renumbered from 0 in increasing order and the sliced output counted from the start.
    pub layout: Layout,
    /// For each input dim, the indices of the whole layout that the part keeps, in increasing order.
    pub kept: Vec<Vec<u32>>,
}

/// Part of a layout whose inputs lie in a range: see [`Layout::restrict`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restriction {
    /// The part, with the restricted input renumbered from 0 and outputs counted from `offset`.
    pub layout: Layout,
    /// The output at the first index of the part, one value per output dim.
    pub offset: Vec<u32>,
}

impl Layout {
    /// `after` applied to the outputs of `self`: `after o self`, in normal form.
    ///
    /// Dims are matched by name. Exact and complete: an error means that the composed function is no layout, which happens
    /// when a sum of `self` carries into a bit that `after` swizzles.
    ///
    /// # Errors
    /// Outputs of `self` that are not the inputs of `after` or reach past their sizes;
    /// [`LayoutError::NotRepresentable`].
    ///
    /// # Example
    /// ```
    /// use tilewright_ir::layout::{Swizzle, mma_acc, smem_tile};
    /// let smem = smem_tile(64, 192, 2, Swizzle::B128)?;
    /// assert!(mma_acc(64, 192, 4, 1)?.compose(&smem).is_ok());
    /// // Two warps split a row at column 96, inside the second 64-column panel: register and warp carry into each other.
    /// assert!(mma_acc(64, 192, 2, 2)?.compose(&smem).is_err());
    /// # Ok::<(), tilewright_ir::layout::LayoutError>(())
    /// ```
    pub fn compose(&self, after: &Layout) -> Result<Layout, LayoutError> {
        let after = after.reorder_in("compose", &self.outputs)?;
        for (dim, expected) in after.in_sizes() {
            let found = self.out_extent(dim);
            if found > expected {
                return Err(LayoutError::SizeMismatch { op: "compose", dim, expected, found });
            }
        }
        let (first, second) = (Table::new(self), Table::new(&after));
        fit("compose", &self.in_sizes(), &after.outputs, |index, out| {
            let mut between: SmallVec<[u32; 4]> = smallvec![0; self.outputs.len()];
            first.eval(index, &mut between);
            second.eval(&between, out);
        })
    }

    /// The inverse of a bijection onto the box of output extents, in normal form.
    ///
    /// # Errors
    /// [`LayoutError::NotBijective`], [`LayoutError::NotRepresentable`].
    pub fn inverse(&self) -> Result<Layout, LayoutError> {
        let extents: Vec<u32> = self.outputs.iter().map(|&dim| self.out_extent(dim)).collect();
        let sizes = self.sizes();
        let points = u64::from(self.points());
        let cells = extents.iter().fold(1u64, |cells, &e| cells.saturating_mul(e.into()));
        if cells != points {
            return Err(LayoutError::NotBijective { points, cells, injective: self.is_injective() });
        }
        let table = Table::new(self);
        let mut out: SmallVec<[u32; 4]> = smallvec![0; extents.len()];
        // For each output cell the linear index of its input.
        let mut sources: Vec<Option<u32>> = vec![None; points as usize];
        let twice = walk(&sizes, |index| {
            table.eval(index, &mut out);
            match sources[linear_index(&out, &extents)].replace(linear_index(index, &sizes) as u32) {
                None => ControlFlow::Continue(()),
                Some(_) => ControlFlow::Break(LayoutError::NotBijective { points, cells, injective: false }),
            }
        });
        if let Some(error) = twice {
            return Err(error);
        }
        let inputs: Vec<_> = self.outputs.iter().copied().zip(extents.iter().copied()).collect();
        let outputs: Vec<_> = self.in_dims().collect();
        fit("inverse", &inputs, &outputs, |index, out| {
            let mut rest = sources[linear_index(index, &extents)].unwrap_or_default();
            for (value, size) in out.iter_mut().zip(&sizes) {
                *value = rest % size;
                rest /= size;
            }
        })
    }

    /// Adds an outer factor: `extent` copies of the tile, each `stride` further. A dim the layout lacks is added.
    ///
    /// # Errors
    /// Terms over dims that are no output, extent 0, and results too large.
    pub fn tile_by(&self, input: Dim, extent: u32, stride: &[(Dim, u32)]) -> Result<Layout, LayoutError> {
        let outer = Outer { extent, stride: basis(&self.outputs, stride)? };
        let mut inputs = self.inputs.clone();
        match inputs.iter_mut().find(|i| i.dim == input) {
            Some(found) => found.outers.push(outer),
            None => inputs.push(Input { dim: input, bases: Vec::new(), outers: vec![outer] }),
        }
        Layout::from_parts(inputs, self.outputs.clone())
    }

    /// A tile of tiles, in normal form: `tiles` says where each copy of `self` goes, in units of the output extents of `self`.
    ///
    /// An input dim of both counts `self` fast and `tiles` slow; the inputs only `tiles` has come last.
    ///
    /// # Errors
    /// Other output dims in `tiles`, results too large, [`LayoutError::NotRepresentable`].
    ///
    /// # Example
    /// ```
    /// use tilewright_ir::layout::{Dim::*, Layout, mma_acc};
    /// let grid = Layout::onto([Row, Col]).outer(Reg, 12, [(Col, 1)]).outer(Warp, 4, [(Row, 1)]).build()?;
    /// assert!(mma_acc(16, 8, 1, 1)?.product(&grid)?.equivalent(&mma_acc(64, 96, 4, 1)?));
    /// # Ok::<(), tilewright_ir::layout::LayoutError>(())
    /// ```
    pub fn product(&self, tiles: &Layout) -> Result<Layout, LayoutError> {
        let tiles = tiles.reorder_out("product", &self.outputs)?;
        for &dim in &self.outputs {
            let max = u64::from(self.out_extent(dim)) * u64::from(tiles.out_extent(dim));
            if max >= u64::from(u32::MAX) {
                return Err(LayoutError::Overflow { dim, max });
            }
        }
        let extents: Vec<u32> = self.outputs.iter().map(|&dim| self.out_extent(dim)).collect();
        let mut inputs = self.in_sizes();
        inputs.extend(tiles.in_sizes().into_iter().filter(|&(dim, _)| !self.has_input(dim)).map(|(dim, _)| (dim, 1)));
        let own: Vec<u32> = inputs.iter().map(|&(_, size)| size).collect();
        for (dim, size) in &mut inputs {
            *size = size.saturating_mul(tiles.in_size(*dim));
        }
        let tile_dims: Vec<usize> = tiles.in_dims().filter_map(|dim| inputs.iter().position(|i| i.0 == dim)).collect();
        let (inner, outer) = (Table::new(self), Table::new(&tiles));
        fit("product", &inputs, &self.outputs, |index, out| {
            let low: SmallVec<[u32; 4]> = index.iter().zip(&own).map(|(i, n)| i % n).collect();
            let high: SmallVec<[u32; 4]> = tile_dims.iter().map(|&at| index[at] / own[at]).collect();
            let mut tile: SmallVec<[u32; 4]> = smallvec![0; out.len()];
            inner.eval(&low, out);
            outer.eval(&high, &mut tile);
            for (d, value) in out.iter_mut().enumerate() {
                *value += extents[d] * tile[d];
            }
        })
    }

    /// The part whose output `dim` lies in `range`, in normal form: for example the registers that hold columns 64 to 96.
    ///
    /// # Errors
    /// [`LayoutError::NotABox`] when those inputs are not a product of one index set per input dim;
    /// [`LayoutError::NotRepresentable`] when the part no longer starts at the start of the range, or is no layout.
    ///
    /// # Example
    /// ```
    /// use tilewright_ir::layout::{Dim, wgmma_acc};
    /// let half = wgmma_acc(64, 192, 1)?.slice(Dim::Col, 96..192)?;
    /// assert!(half.layout.equivalent(&wgmma_acc(64, 96, 1)?));
    /// assert_eq!(half.kept[0], (48..96).collect::<Vec<_>>());
    /// # Ok::<(), tilewright_ir::layout::LayoutError>(())
    /// ```
    pub fn slice(&self, dim: Dim, range: Range<u32>) -> Result<Slice, LayoutError> {
        let at = self.output_position(dim)?;
        let table = Table::new(self);
        let sizes = self.sizes();
        let mut hit: Vec<Vec<bool>> = sizes.iter().map(|&size| vec![false; size as usize]).collect();
        let mut out: SmallVec<[u32; 4]> = smallvec![0; self.outputs.len()];
        let mut points = 0u64;
        walk(&sizes, |index| -> ControlFlow<()> {
            table.eval(index, &mut out);
            if range.contains(&out[at]) {
                points += 1;
                hit.iter_mut().zip(index).for_each(|(h, &i)| h[i as usize] = true);
            }
            ControlFlow::Continue(())
        });
        let kept: Vec<Vec<u32>> = hit.iter().map(|h| (0..h.len() as u32).filter(|&i| h[i as usize]).collect()).collect();
        if points == 0 || kept.iter().map(|k| k.len() as u64).product::<u64>() != points {
            return Err(LayoutError::NotABox { dim, start: range.start, end: range.end, points });
        }
        let inputs: Vec<_> = self.in_dims().zip(&kept).map(|(dim, k)| (dim, k.len() as u32)).collect();
        let layout = fit("slice", &inputs, &self.outputs, |index, out| {
            let whole: SmallVec<[u32; 4]> = index.iter().zip(&kept).map(|(&i, k)| k[i as usize]).collect();
            table.eval(&whole, out);
            out[at] -= range.start;
        })?;
        Ok(Slice { layout, kept })
    }

    /// The part whose input `dim` lies in `range`, in normal form: for example the registers of one k step.
    ///
    /// # Errors
    /// An empty range or one past the size; [`LayoutError::NotRepresentable`], also when an output goes below the offset.
    pub fn restrict(&self, dim: Dim, range: Range<u32>) -> Result<Restriction, LayoutError> {
        let unknown = || LayoutError::UnknownDim { dim, side: "input", have: self.in_dims().collect() };
        let at = self.in_dims().position(|d| d == dim).ok_or_else(unknown)?;
        let mut inputs = self.in_sizes();
        if range.is_empty() || range.end > inputs[at].1 {
            return Err(LayoutError::SizeMismatch { op: "restrict", dim, expected: inputs[at].1, found: range.end });
        }
        inputs[at].1 = range.end - range.start;
        let table = Table::new(self);
        let eval = |index: &[u32], out: &mut [u32]| {
            let mut whole: SmallVec<[u32; 4]> = SmallVec::from_slice(index);
            whole[at] += range.start;
            table.eval(&whole, out);
        };
        let mut offset = vec![0; self.outputs.len()];
        eval(&vec![0; inputs.len()], &mut offset);
        // A swizzled part may go below its first output, where no unsigned offset reaches.
        let sizes: Vec<u32> = inputs.iter().map(|&(_, size)| size).collect();
        let mut out: SmallVec<[u32; 4]> = smallvec![0; self.outputs.len()];
        let below = walk(&sizes, |index| {
            eval(index, &mut out);
            if out.iter().zip(&offset).all(|(o, f)| o >= f) {
                return ControlFlow::Continue(());
            }
            ControlFlow::Break(not_representable("restrict", &inputs, index, &out, &offset))
        });
        if let Some(error) = below {
            return Err(error);
        }
        let layout = fit("restrict", &inputs, &self.outputs, |index, out| {
            eval(index, out);
            out.iter_mut().zip(&offset).for_each(|(o, f)| *o -= f);
        })?;
        Ok(Restriction { layout, offset })
    }

    /// The same function with its input dims in this order.
    pub fn permute_in(&self, dims: &[Dim]) -> Result<Layout, LayoutError> {
        self.reorder_in("permute_in", dims)
    }

    /// The same function with its output dims in this order.
    pub fn permute_out(&self, dims: &[Dim]) -> Result<Layout, LayoutError> {
        self.reorder_out("permute_out", dims)
    }

    /// Rows and columns exchanged, inputs and outputs alike; the order of the dims stays.
    ///
    /// For a fragment this is the layout of the transposed tile in the same registers.
    pub fn transposed(&self) -> Layout {
        let swap = |dim| match dim {
            Dim::Row => Dim::Col,
            Dim::Col => Dim::Row,
            other => other,
        };
        let mut swapped = self.clone();
        swapped.inputs.iter_mut().for_each(|i| i.dim = swap(i.dim));
        swapped.outputs.iter_mut().for_each(|o| *o = swap(*o));
        let (ins, outs): (Vec<_>, Vec<_>) = (self.in_dims().collect(), self.outputs.clone());
        let has_both = |dims: &[Dim]| dims.contains(&Dim::Row) && dims.contains(&Dim::Col);
        if has_both(&ins) {
            swapped = swapped.permute_in(&ins).expect("the swap of two dims there keeps the set");
        }
        if has_both(&outs) {
            swapped = swapped.permute_out(&outs).expect("the swap of two dims there keeps the set");
        }
        swapped
    }

    /// Both functions side by side: the outputs of `self`, then those of `other`, in normal form.
    ///
    /// # Errors
    /// Other input dims or sizes, an output of both, [`LayoutError::NotRepresentable`].
    pub fn concat_out(&self, other: &Layout) -> Result<Layout, LayoutError> {
        let other = other.reorder_in("concat_out", &self.in_dims().collect::<Vec<_>>())?;
        for (dim, expected) in self.in_sizes() {
            let found = other.in_size(dim);
            if found != expected {
                return Err(LayoutError::SizeMismatch { op: "concat_out", dim, expected, found });
            }
        }
        let outputs: Vec<Dim> = self.outputs.iter().chain(&other.outputs).copied().collect();
        let (first, second) = (Table::new(self), Table::new(&other));
        fit("concat_out", &self.in_sizes(), &outputs, |index, out| {
            let (left, right) = out.split_at_mut(self.outputs.len());
            first.eval(index, left);
            second.eval(index, right);
        })
    }

    /// The same function with an input dim renamed.
    pub fn rename_in(&self, from: Dim, to: Dim) -> Result<Layout, LayoutError> {
        let mut inputs = self.inputs.clone();
        let unknown = || LayoutError::UnknownDim { dim: from, side: "input", have: self.in_dims().collect() };
        inputs.iter_mut().find(|i| i.dim == from).ok_or_else(unknown)?.dim = to;
        Layout::from_parts(inputs, self.outputs.clone())
    }

    /// The same function with an output dim renamed.
    pub fn rename_out(&self, from: Dim, to: Dim) -> Result<Layout, LayoutError> {
        let mut outputs = self.outputs.clone();
        outputs[self.output_position(from)?] = to;
        Layout::from_parts(self.inputs.clone(), outputs)
    }

    fn reorder_in(&self, op: &'static str, dims: &[Dim]) -> Result<Layout, LayoutError> {
        let order = positions(op, &self.in_dims().collect::<Vec<_>>(), dims)?;
        let inputs = order.iter().map(|&i| self.inputs[i].clone()).collect();
        Ok(Layout { inputs, outputs: self.outputs.clone() })
    }

    fn reorder_out(&self, op: &'static str, dims: &[Dim]) -> Result<Layout, LayoutError> {
        let order = positions(op, &self.outputs, dims)?;
        let mut inputs = self.inputs.clone();
        for input in &mut inputs {
            let strides = input.outers.iter_mut().map(|o| &mut o.stride);
            for basis in input.bases.iter_mut().chain(strides) {
                basis.0 = order.iter().map(|&i| basis.0[i]).collect();
            }
        }
        Ok(Layout { inputs, outputs: dims.to_vec() })
    }

    pub(super) fn output_position(&self, dim: Dim) -> Result<usize, LayoutError> {
        let unknown = || LayoutError::UnknownDim { dim, side: "output", have: self.outputs.clone() };
        self.outputs.iter().position(|&o| o == dim).ok_or_else(unknown)
    }
}

/// For each dim of `wanted` its position in `have`; both must be the same set.
fn positions(op: &'static str, have: &[Dim], wanted: &[Dim]) -> Result<Vec<usize>, LayoutError> {
    let mismatch = || LayoutError::DimMismatch { op, expected: have.to_vec(), found: wanted.to_vec() };
    let found: Option<Vec<usize>> = wanted.iter().map(|w| have.iter().position(|h| h == w)).collect();
    let found = found.filter(|f| f.len() == have.len() && (0..have.len()).all(|i| f.contains(&i)));
    found.ok_or_else(mismatch)
}

fn linear_index(index: &[u32], extents: &[u32]) -> usize {
    index.iter().zip(extents).rev().fold(0, |at, (&i, &e)| at * e as usize + i as usize)
}
