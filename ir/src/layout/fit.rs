//! The layout equal to a given function, if there is one; and the normal form.
//!
//! Both rest on what a layout determines. Let `e(i, b)` be bit `b` of input dim `i`, below the odd part of its size.
//! * Outer factors only add. So two bits of different dims with `f(e + e') != f(e) + f(e')` are both atom bits, and so is
//!   every bit below them in their dims.
//! * Within one dim, the fewest atom bits for which the rest is strided can be told from the values along that dim.
//! * What is left is a mixed-radix sum, whose shortest form is unique: a factor ends where adding its stride stops holding.
//!
//! These give the candidate with the fewest atom bits, and only it can equal the function: a layout with more atom bits has
//! them disjoint from all other bases, where xor and add agree. One walk over the domain decides.

use std::ops::ControlFlow;

use smallvec::{SmallVec, smallvec};

use super::map::{Input, Table, check_points, walk};
use super::{Basis, Dim, Layout, LayoutError, Outer, Point};

type Values = SmallVec<[u32; 4]>;

impl Layout {
    /// The layout equal to `f` on the box `inputs`, in normal form; `f` writes one value per output dim.
    ///
    /// Exact and complete: an error means that no layout equals `f`. Costs one evaluation of `f` per point.
    ///
    /// # Errors
    /// [`LayoutError::NotRepresentable`] with a point that no candidate reaches.
    ///
    /// # Example
    /// ```
    /// use tilewright_ir::layout::{Dim::*, Layout};
    /// let packed = Layout::from_fn(&[(Row, 4), (Col, 12)], &[Byte], |i, out| out[0] = i[0] * 12 + i[1])?;
    /// assert_eq!(packed.to_string(), "{row: [| 4*byte12] col: [byte1 byte2 | 3*byte4]} -> {byte}");
    /// let modulo = Layout::from_fn(&[(Row, 4), (Col, 12)], &[Byte], |i, out| out[0] = i[0] * 12 + (i[1] + i[0]) % 12);
    /// assert!(modulo.is_err());
    /// # Ok::<(), tilewright_ir::layout::LayoutError>(())
    /// ```
    pub fn from_fn(inputs: &[(Dim, u32)], outputs: &[Dim], f: impl Fn(&[u32], &mut [u32])) -> Result<Layout, LayoutError> {
        fit("from_fn", inputs, outputs, f)
    }

    /// The normal form: equal functions with the same dims in the same order have equal normal forms.
    ///
    /// First each dim keeps the fewest atom bits that any layout of this function can have, and its outer factors merge where
    /// one continues the other. Then, dim by dim, the power-of-two part of the first outer factor becomes atom bits if all
    /// those bits are disjoint from each other and from every basis so far, so that xor cannot differ from add.
    pub fn normalize(&self) -> Layout {
        let table = Table::new(self);
        candidate("normalize", &self.in_sizes(), &self.outputs, &|index, out| table.eval(index, out))
            .map(absorb)
            .expect("a layout is representable by itself")
    }

    /// Whether both are the same function: same dims in the same order, same sizes, same values.
    pub fn equivalent(&self, other: &Layout) -> bool {
        self.outputs == other.outputs && self.in_sizes() == other.in_sizes() && self.normalize() == other.normalize()
    }
}

/// [`Layout::from_fn`] with the name of the operation for its error.
pub(super) fn fit(
    op: &'static str,
    inputs: &[(Dim, u32)],
    outputs: &[Dim],
    f: impl Fn(&[u32], &mut [u32]),
) -> Result<Layout, LayoutError> {
    let candidate = candidate(op, inputs, outputs, &f)?;
    let sizes: Values = inputs.iter().map(|&(_, size)| size).collect();
    let table = Table::new(&candidate);
    let (mut value, mut linear): (Values, Values) = (smallvec![0; outputs.len()], smallvec![0; outputs.len()]);
    let witness = walk(&sizes, |index| {
        f(index, &mut value);
        table.eval(index, &mut linear);
        if value == linear {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break(not_representable(op, inputs, index, &value, &linear))
    });
    match witness {
        Some(error) => Err(error),
        None => Layout::from_parts(absorb(candidate).inputs, outputs.to_vec()),
    }
}

/// The only layout of fewest atom bits that can equal `f`.
fn candidate(
    op: &'static str,
    inputs: &[(Dim, u32)],
    outputs: &[Dim],
    f: &impl Fn(&[u32], &mut [u32]),
) -> Result<Layout, LayoutError> {
    if let Some(&(dim, _)) = inputs.iter().find(|(_, size)| *size == 0) {
        return Err(LayoutError::ZeroExtent { dim });
    }
    check_points(inputs.iter().fold(1u64, |points, &(_, size)| points.saturating_mul(size.into())))?;
    let at = |index: &[u32]| {
        let mut out: Values = smallvec![0; outputs.len()];
        f(index, &mut out);
        out
    };
    let mut index: Values = smallvec![0; inputs.len()];
    let origin = at(&index);
    if origin.iter().any(|&v| v != 0) {
        let zero: Values = smallvec![0; outputs.len()];
        return Err(not_representable(op, inputs, &index, &origin, &zero));
    }
    let forced = forced_bits(inputs, &at);
    let mut fitted = Vec::with_capacity(inputs.len());
    for (i, &(dim, size)) in inputs.iter().enumerate() {
        let mut line = Vec::with_capacity(size as usize);
        for x in 0..size {
            index[i] = x;
            line.push(at(&index));
        }
        index[i] = 0;
        let mut worst: Option<Misfit> = None;
        let found = (forced[i]..=size.trailing_zeros()).find_map(|bits| match fit_line(dim, bits, &line) {
            Ok(input) => Some(input),
            Err(misfit) => {
                worst = worst.take().filter(|w| w.index >= misfit.index).or(Some(misfit));
                None
            }
        });
        match (found, worst) {
            (Some(input), _) => fitted.push(input),
            (None, Some(misfit)) => {
                index[i] = misfit.index;
                return Err(not_representable(op, inputs, &index, &line[misfit.index as usize], &misfit.linear));
            }
            (None, None) => unreachable!("a dim has at least one count of atom bits to try"),
        }
    }
    Ok(Layout { inputs: fitted, outputs: outputs.to_vec() })
}

/// Per dim, how many low bits must be atom bits because one of them does not add to a bit of another dim.
fn forced_bits(inputs: &[(Dim, u32)], at: &impl Fn(&[u32]) -> Values) -> Vec<u32> {
    let mut forced = vec![0; inputs.len()];
    let bits: Vec<(usize, u32, Values)> = inputs
        .iter()
        .enumerate()
        .flat_map(|(i, &(_, size))| (0..size.trailing_zeros()).map(move |bit| (i, bit)))
        .map(|(i, bit)| {
            let mut index: Values = smallvec![0; inputs.len()];
            index[i] = 1 << bit;
            (i, bit, at(&index))
        })
        .collect();
    for (k, (i, bit, value)) in bits.iter().enumerate() {
        for (j, other_bit, other) in bits[..k].iter().filter(|(j, _, _)| j != i) {
            if *bit < forced[*i] && *other_bit < forced[*j] {
                continue;
            }
            let mut index: Values = smallvec![0; inputs.len()];
            index[*i] = 1 << bit;
            index[*j] = 1 << other_bit;
            let both = at(&index);
            if (0..both.len()).any(|d| u64::from(both[d]) != u64::from(value[d]) + u64::from(other[d])) {
                forced[*i] = forced[*i].max(bit + 1);
                forced[*j] = forced[*j].max(other_bit + 1);
            }
        }
    }
    forced
}

struct Misfit {
    index: u32,
    linear: Values,
}

/// One dim as `bits` atom bits under the shortest mixed-radix sum, if the values along it allow that.
fn fit_line(dim: Dim, bits: u32, line: &[Values]) -> Result<Input, Misfit> {
    let basis = |index: u32| Basis(line[index as usize].iter().copied().collect());
    let size = line.len() as u32;
    let mut input = Input { dim, bases: (0..bits).map(|b| basis(1 << b)).collect(), outers: Vec::new() };
    let (mut unit, mut rest) = (1u32 << bits, size >> bits);
    while rest > 1 {
        let stride = basis(unit);
        let adds = |e: &u32| {
            (0..stride.0.len()).all(|d| u64::from(line[(unit * e) as usize][d]) == u64::from(*e) * u64::from(stride.0[d]))
        };
        let extent = (2..rest).find(|e| !adds(e)).unwrap_or(rest);
        if !rest.is_multiple_of(extent) {
            let linear = stride.0.iter().map(|s| s.wrapping_mul(extent)).collect();
            return Err(Misfit { index: unit * extent, linear });
        }
        input.outers.push(Outer { extent, stride });
        unit *= extent;
        rest /= extent;
    }
    let fitted = Layout { inputs: vec![input], outputs: vec![dim; line[0].len()] };
    for (index, value) in line.iter().enumerate() {
        let linear = fitted.apply(&[index as u32]);
        if linear != *value {
            return Err(Misfit { index: index as u32, linear });
        }
    }
    Ok(fitted.inputs.into_iter().next().expect("made of one input"))
}

/// Turns power-of-two parts of first outer factors into atom bits where no bit meets another.
fn absorb(mut layout: Layout) -> Layout {
    let mut used: Values = smallvec![0; layout.outputs.len()];
    for basis in layout.inputs.iter().flat_map(|i| &i.bases) {
        used.iter_mut().zip(&basis.0).for_each(|(u, b)| *u |= b);
    }
    for input in &mut layout.inputs {
        while let Some(first) = input.outers.first_mut() {
            let bits = first.extent.trailing_zeros();
            let Some((bases, taken)) = disjoint_bits(&first.stride, bits, &used) else { break };
            used = taken;
            input.bases.extend(bases);
            first.extent >>= bits;
            if first.extent > 1 {
                first.stride.0.iter_mut().for_each(|s| *s <<= bits);
                break;
            }
            input.outers.remove(0);
        }
    }
    layout
}

fn disjoint_bits(stride: &Basis, bits: u32, used: &Values) -> Option<(Vec<Basis>, Values)> {
    let mut taken = used.clone();
    let mut bases = Vec::with_capacity(bits as usize);
    for bit in 0..bits {
        for (t, s) in taken.iter_mut().zip(&stride.0) {
            let value = s << bit;
            if *t & value != 0 {
                return None;
            }
            *t |= value;
        }
        bases.push(Basis(stride.0.iter().map(|s| s << bit).collect()));
    }
    (bits > 0).then_some((bases, taken))
}

pub(super) fn not_representable(
    op: &'static str,
    inputs: &[(Dim, u32)],
    index: &[u32],
    value: &[u32],
    linear: &[u32],
) -> LayoutError {
    LayoutError::NotRepresentable {
        op,
        at: Point(inputs.iter().zip(index).map(|(&(dim, _), &i)| (dim, i)).collect()),
        value: value.to_vec(),
        linear: linear.to_vec(),
    }
}
