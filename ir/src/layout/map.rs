//! The layout type, its accessors and its evaluation.

use smallvec::{SmallVec, smallvec};

use super::{Builder, Dim, LayoutError};

/// Most input points of one layout. A layout describes a tile: the exact operations walk its whole domain.
pub const MAX_POINTS: u64 = 1 << 24;

/// One value for each output dim, in the order of [`Layout::out_dims`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Basis(pub(super) SmallVec<[u32; 3]>);

impl Basis {
    /// The values, one per output dim.
    pub fn values(&self) -> &[u32] {
        &self.0
    }

    /// Whether no output moves: a broadcast.
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|&v| v == 0)
    }
}

/// A strided factor: index `i < extent` adds `i * stride`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outer {
    /// Number of indices, at least 2.
    pub extent: u32,
    /// What each step adds.
    pub stride: Basis,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Input {
    pub(super) dim: Dim,
    pub(super) bases: Vec<Basis>,
    pub(super) outers: Vec<Outer>,
}

/// A function from named input coordinates to named output coordinates: outer strides over a linear atom.
///
/// `==` compares the written form; [`Layout::equivalent`] compares the functions.
///
/// # Example
/// ```
/// use tilewright_ir::layout::{Dim, Layout};
/// // 8 rows of 96 elements of 2 bytes, swizzled by nothing.
/// let tile = Layout::onto([Dim::Byte])
///     .outer(Dim::Row, 8, [(Dim::Byte, 192)])
///     .outer(Dim::Col, 96, [(Dim::Byte, 2)])
///     .build()?;
/// assert_eq!(tile.apply(&[3, 5])[0], 3 * 192 + 5 * 2);
/// assert_eq!(tile.out_extent(Dim::Byte), 8 * 192 - 1);
/// # Ok::<(), tilewright_ir::layout::LayoutError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    pub(super) inputs: Vec<Input>,
    pub(super) outputs: Vec<Dim>,
}

impl Layout {
    /// Starts a layout onto these output dims.
    pub fn onto(outputs: impl IntoIterator<Item = Dim>) -> Builder {
        Builder::new(outputs)
    }

    /// The identity on a box: each dim to itself.
    pub fn identity(sizes: &[(Dim, u32)]) -> Result<Layout, LayoutError> {
        let start = Layout::onto(sizes.iter().map(|&(dim, _)| dim));
        sizes.iter().fold(start, |builder, &(dim, size)| builder.outer(dim, size, [(dim, 1)])).build()
    }

    /// The output at `index`, one coordinate per input dim in the order of [`Layout::in_dims`].
    ///
    /// # Panics
    /// If `index` has another length than the input dims.
    pub fn apply(&self, index: &[u32]) -> SmallVec<[u32; 4]> {
        assert_eq!(index.len(), self.inputs.len(), "one index for each input dim of {self}");
        let mut xor: SmallVec<[u32; 4]> = smallvec![0; self.outputs.len()];
        let mut sum = xor.clone();
        for (input, &i) in self.inputs.iter().zip(index) {
            input.accumulate(i, &mut xor, &mut sum);
        }
        xor.iter().zip(&sum).map(|(x, s)| x.wrapping_add(*s)).collect()
    }

    /// What each thread holds of a vector beside this tile: the layout with `axis` at 0. Registers that only move along the
    /// axis fall away; lanes and warps that do hold the same elements.
    ///
    /// # Errors
    /// A register factor that moves along `axis` and another dim at once.
    ///
    /// # Example
    /// ```
    /// use tilewright_ir::layout::{Dim, wgmma_acc};
    /// let rows = wgmma_acc(64, 176, 1)?.collapsed(Dim::Col)?;
    /// assert_eq!(rows.in_size(Dim::Reg), 2); // rows g and g + 8
    /// assert_eq!(rows.apply(&[1, 7, 2])[..], [32 + 1 + 8, 0]);
    /// # Ok::<(), tilewright_ir::layout::LayoutError>(())
    /// ```
    pub fn collapsed(&self, axis: Dim) -> Result<Layout, LayoutError> {
        let Some(d) = self.outputs.iter().position(|&o| o == axis) else { return Ok(self.clone()) };
        let without = |b: &Basis| {
            let mut values = b.0.clone();
            values[d] = 0;
            Basis(values)
        };
        let mut inputs = self.inputs.clone();
        for input in &mut inputs {
            let mixed = |b: &Basis| b.0[d] != 0 && !without(b).is_zero();
            if input.bases.iter().chain(input.outers.iter().map(|o| &o.stride)).any(mixed) {
                let rule = format!("moves along {axis} and another dim at once, so no vector goes with the tile");
                return Err(LayoutError::Shape { what: "a factor", value: 0, rule });
            }
            if input.dim == Dim::Reg {
                input.bases.retain(|b| b.0[d] == 0);
                input.outers.retain(|o| o.stride.0[d] == 0);
            }
            input.bases.iter_mut().for_each(|b| *b = without(b));
            input.outers.iter_mut().for_each(|o| o.stride = without(&o.stride));
        }
        Layout::from_parts(inputs, self.outputs.clone())
    }

    /// Input dims, in index order.
    pub fn in_dims(&self) -> impl ExactSizeIterator<Item = Dim> + '_ {
        self.inputs.iter().map(|input| input.dim)
    }

    /// Output dims, in value order.
    pub fn out_dims(&self) -> &[Dim] {
        &self.outputs
    }

    /// Whether `dim` is an input.
    pub fn has_input(&self, dim: Dim) -> bool {
        self.input(dim).is_some()
    }

    /// Number of indices of an input dim; 1 where the layout does not have it.
    pub fn in_size(&self, dim: Dim) -> u32 {
        self.input(dim).map_or(1, Input::size)
    }

    /// Input dims with their sizes.
    pub fn in_sizes(&self) -> Vec<(Dim, u32)> {
        self.inputs.iter().map(|input| (input.dim, input.size())).collect()
    }

    /// Number of input points.
    pub fn points(&self) -> u32 {
        self.inputs.iter().map(Input::size).product()
    }

    /// Largest value of an output dim plus one; 1 where the layout does not have it.
    pub fn out_extent(&self, dim: Dim) -> u32 {
        let Some(d) = self.outputs.iter().position(|&o| o == dim) else { return 1 };
        let mut bases: Vec<u32> = self.inputs.iter().flat_map(|i| &i.bases).map(|b| b.0[d]).collect();
        let strided: u32 = self.inputs.iter().flat_map(|i| &i.outers).map(|o| (o.extent - 1) * o.stride.0[d]).sum();
        max_xor(&mut bases) + strided + 1
    }

    /// Basis of each atom bit of an input dim, low bit first; empty where the layout does not have it.
    pub fn bases(&self, dim: Dim) -> &[Basis] {
        self.input(dim).map_or(&[], |input| &input.bases)
    }

    /// Outer factors of an input dim, fastest first; empty where the layout does not have it.
    pub fn outers(&self, dim: Dim) -> &[Outer] {
        self.input(dim).map_or(&[], |input| &input.outers)
    }

    pub(super) fn input(&self, dim: Dim) -> Option<&Input> {
        self.inputs.iter().find(|input| input.dim == dim)
    }

    pub(super) fn sizes(&self) -> Vec<u32> {
        self.inputs.iter().map(Input::size).collect()
    }

    /// The one place where layouts come into being: drops factors of extent 1, checks everything else.
    pub(super) fn from_parts(mut inputs: Vec<Input>, outputs: Vec<Dim>) -> Result<Layout, LayoutError> {
        check_distinct(inputs.iter().map(|i| i.dim), "input")?;
        check_distinct(outputs.iter().copied(), "output")?;
        let mut points = 1u64;
        for input in &mut inputs {
            if input.outers.iter().any(|o| o.extent == 0) {
                return Err(LayoutError::ZeroExtent { dim: input.dim });
            }
            input.outers.retain(|o| o.extent > 1);
            let bits = 1u64.checked_shl(input.bases.len() as u32).unwrap_or(u64::MAX);
            points = input.outers.iter().fold(points.saturating_mul(bits), |p, o| p.saturating_mul(o.extent.into()));
        }
        check_points(points)?;
        for (d, &dim) in outputs.iter().enumerate() {
            let bits = inputs.iter().flat_map(|i| &i.bases).fold(0, |or, b| or | b.0[d]);
            let outers = inputs.iter().flat_map(|i| &i.outers);
            let max = u64::from(bits) + outers.map(|o| u64::from(o.extent - 1) * u64::from(o.stride.0[d])).sum::<u64>();
            if max >= u64::from(u32::MAX) {
                return Err(LayoutError::Overflow { dim, max });
            }
        }
        Ok(Layout { inputs, outputs })
    }
}

impl Input {
    pub(super) fn size(&self) -> u32 {
        self.outers.iter().map(|o| o.extent).product::<u32>() << self.bases.len()
    }

    fn accumulate(&self, index: u32, xor: &mut [u32], sum: &mut [u32]) {
        for (bit, basis) in self.bases.iter().enumerate() {
            if index >> bit & 1 == 1 {
                xor.iter_mut().zip(&basis.0).for_each(|(x, b)| *x ^= b);
            }
        }
        let mut rest = index >> self.bases.len();
        for outer in &self.outers {
            let i = rest % outer.extent;
            rest /= outer.extent;
            sum.iter_mut().zip(&outer.stride.0).for_each(|(s, t)| *s = s.wrapping_add(i.wrapping_mul(*t)));
        }
        debug_assert_eq!(rest, 0, "index {index} of `{}` is past its size {}", self.dim, self.size());
    }
}

/// A layout tabulated per input dim, for walks over the whole domain.
pub(super) struct Table {
    n_outputs: usize,
    // For each input dim, for each index: the xor parts, then the added parts.
    parts: Vec<Vec<u32>>,
}

impl Table {
    pub(super) fn new(layout: &Layout) -> Table {
        let n_outputs = layout.outputs.len();
        let tabulate = |input: &Input| {
            let mut part = vec![0; input.size() as usize * 2 * n_outputs];
            for index in 0..input.size() {
                let (xor, sum) = part[index as usize * 2 * n_outputs..][..2 * n_outputs].split_at_mut(n_outputs);
                input.accumulate(index, xor, sum);
            }
            part
        };
        Table { n_outputs, parts: layout.inputs.iter().map(tabulate).collect() }
    }

    pub(super) fn eval(&self, index: &[u32], out: &mut [u32]) {
        let n = self.n_outputs;
        for (d, value) in out.iter_mut().enumerate() {
            let (xor, sum) = self.parts.iter().zip(index).fold((0u32, 0u32), |(xor, sum), (part, &i)| {
                let at = i as usize * 2 * n + d;
                (xor ^ part[at], sum.wrapping_add(part[at + n]))
            });
            *value = xor.wrapping_add(sum);
        }
    }
}

/// Calls `visit` for each point of a box, first coordinate fastest, until it breaks.
pub(super) fn walk<B>(sizes: &[u32], mut visit: impl FnMut(&[u32]) -> std::ops::ControlFlow<B>) -> Option<B> {
    let mut index: SmallVec<[u32; 4]> = smallvec![0; sizes.len()];
    if sizes.contains(&0) {
        return None;
    }
    loop {
        if let std::ops::ControlFlow::Break(found) = visit(&index) {
            return Some(found);
        }
        let digit = index.iter().zip(sizes).position(|(i, s)| i + 1 < *s)?;
        index[..digit].fill(0);
        index[digit] += 1;
    }
}

pub(super) fn check_points(points: u64) -> Result<(), LayoutError> {
    if points > MAX_POINTS { Err(LayoutError::TooLarge { points }) } else { Ok(()) }
}

fn check_distinct(dims: impl Iterator<Item = Dim>, side: &'static str) -> Result<(), LayoutError> {
    let mut seen = Vec::new();
    for dim in dims {
        if seen.contains(&dim) {
            return Err(LayoutError::DuplicateDim { dim, side });
        }
        seen.push(dim);
    }
    Ok(())
}

/// Largest xor of any subset, by elimination over GF(2).
fn max_xor(values: &mut [u32]) -> u32 {
    let mut best = 0;
    for i in 0..values.len() {
        let Some(pivot) = (i..values.len()).max_by_key(|&j| values[j]).filter(|&j| values[j] != 0) else { break };
        values.swap(i, pivot);
        let (lead, top) = (values[i], values[i].ilog2());
        values[i + 1..].iter_mut().filter(|v| **v >> top & 1 == 1).for_each(|v| *v ^= lead);
        if best >> top & 1 == 0 {
            best ^= lead;
        }
    }
    best
}
