//! `ldmatrix` and `stmatrix`: 8x8 matrices of 16-bit elements between shared memory and fragments (PTX ISA 9.7.14.5.15, 9.7.14.5.16).

use std::ops::ControlFlow;

use smallvec::{SmallVec, smallvec};

use super::fit::fit;
use super::map::{Table, walk};
use super::{Dim, Dim::*, Layout, LayoutError};

/// How a lane's pair of elements lies in an 8x8 matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MatrixOrder {
    /// The pair lies along a row: lane `l` holds `[l / 4][2 * (l % 4) + j]`.
    Plain,
    /// `.trans`, the pair lies along a column: lane `l` holds `[2 * (l % 4) + j][l / 4]`.
    Trans,
}

/// Registers of one access, `{reg lane} -> {matrix row col}`: element `j` of 32-bit register `m` belongs to matrix `m`.
///
/// # Errors
/// `matrices` not 1, 2 or 4.
///
/// # Example
/// ```
/// use tilewright_ir::layout::{MatrixOrder, matrix_regs};
/// let x4 = matrix_regs(4, MatrixOrder::Plain)?;
/// assert_eq!(x4.to_string(),
///     "{reg: [col1 matrix1 matrix2] lane: [col2 col4 row1 row2 row4]} -> {matrix row col}");
/// # Ok::<(), tilewright_ir::layout::LayoutError>(())
/// ```
pub fn matrix_regs(matrices: u32, order: MatrixOrder) -> Result<Layout, LayoutError> {
    check_matrices(matrices)?;
    let plain = Layout::onto([Matrix, Row, Col])
        .bits(Reg, [(Col, 1)])
        .bits(Reg, (0..matrices.ilog2()).map(|bit| (Matrix, 1 << bit)))
        .bits(Lane, [(Col, 2), (Col, 4), (Row, 1), (Row, 2), (Row, 4)])
        .build()?;
    Ok(match order {
        MatrixOrder::Plain => plain,
        MatrixOrder::Trans => plain.transposed(),
    })
}

/// Where each lane points when a 16-bit `fragment`, `{reg lane ..} -> {row col}`, is loaded or stored by matrices: the first
/// element of row `l % 8` of matrix `l / 8`.
///
/// The result has the dims of the fragment. Its `reg` counts accesses of `matrices` matrices each, in register order, and its
/// `lane` counts the 8 * `matrices` lanes whose address is used. A row runs along `col`, with [`MatrixOrder::Trans`] too:
/// compose with the shared-memory tile to get byte addresses. For B of `mma` in a `[n, k]` tile use the
/// [`Layout::transposed`] fragment and `Plain`; in a `[k, n]` tile the fragment itself and `Trans`.
///
/// # Errors
/// A fragment without `reg`, `lane` and `col`, whose registers do not come in whole accesses, or whose pairs and
/// lanes do not form 8x8 matrices in this order.
///
/// # Example
/// ```
/// use tilewright_ir::layout::{Dim, MatrixOrder, matrix_rows, mma_a};
/// let rows = matrix_rows(&mma_a(16, 64, 1, 1)?, 4, MatrixOrder::Plain)?;
/// assert_eq!(rows.in_size(Dim::Reg), 4); // one ldmatrix.x4 per k step
/// assert_eq!(rows.apply(&[1, 9, 0])[..], [8 + 1, 16]);
/// # Ok::<(), tilewright_ir::layout::LayoutError>(())
/// ```
pub fn matrix_rows(fragment: &Layout, matrices: u32, order: MatrixOrder) -> Result<Layout, LayoutError> {
    check_matrices(matrices)?;
    let position = |dim: Dim| {
        let unknown = || LayoutError::UnknownDim { dim, side: "input", have: fragment.in_dims().collect() };
        fragment.in_dims().position(|d| d == dim).ok_or_else(unknown)
    };
    let (reg, lane) = (position(Reg)?, position(Lane)?);
    let col = fragment.output_position(Col)?;
    let access_regs = 2 * matrices;
    if fragment.in_size(Lane) != 32 || !fragment.in_size(Reg).is_multiple_of(access_regs) {
        let rule =
            format!("elements over {} lanes are no whole x{matrices} accesses: use fewer matrices", fragment.in_size(Lane));
        return Err(LayoutError::Shape { what: "reg", value: fragment.in_size(Reg), rule });
    }
    let table = Table::new(fragment);
    // The element of the fragment at column `c` of row `lane % 8` of matrix `lane / 8`.
    let element = |index: &[u32], c: u32, out: &mut [u32]| {
        let (matrix, r) = (index[lane] / 8, index[lane] % 8);
        let (group, along) = match order {
            MatrixOrder::Plain => (r, c),
            MatrixOrder::Trans => (c, r),
        };
        let mut held: SmallVec<[u32; 4]> = SmallVec::from_slice(index);
        held[reg] = index[reg] * access_regs + 2 * matrix + along % 2;
        held[lane] = 4 * group + along / 2;
        table.eval(&held, out);
    };
    let mut inputs = fragment.in_sizes();
    inputs[reg].1 /= access_regs;
    inputs[lane].1 = 8 * matrices;
    // The address names eight neighbouring columns of one row: they must be the ones the lanes hold.
    let mut expected: SmallVec<[u32; 4]> = smallvec![0; fragment.out_dims().len()];
    let mut held = expected.clone();
    let sizes: Vec<u32> = inputs.iter().map(|&(_, size)| size).collect();
    let stray = walk(&sizes, |index| {
        element(index, 0, &mut expected);
        for c in 1..8 {
            expected[col] += 1;
            element(index, c, &mut held);
            if held != expected {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    if stray.is_some() {
        let rule = format!("({order:?}) does not find 8x8 matrices with rows along `col` in {fragment}: use the other order");
        return Err(LayoutError::Shape { what: "matrices", value: matrices, rule });
    }
    fit("matrix_rows", &inputs, fragment.out_dims(), |index, out| element(index, 0, out))
}

fn check_matrices(matrices: u32) -> Result<(), LayoutError> {
    if matches!(matrices, 1 | 2 | 4) {
        return Ok(());
    }
    Err(LayoutError::Shape { what: "matrices", value: matrices, rule: "is not 1, 2 or 4".to_owned() })
}
