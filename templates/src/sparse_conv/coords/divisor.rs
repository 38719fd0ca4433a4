//! Divisions by a number that all threads share, by products: 7 instructions, where a division by a number that ptxas does not know is
//! 18 of sm_90a.

use super::lanes::Lanes;
use tilewright_ir::DType;
use tilewright_ir::tile::{CmpPred, RoleBuilder, Scalar, TileRef};

/// A divisor that all threads share, above 0.
pub(super) struct Divisor {
    by: Scalar,
    /// `floor((2^32 - 1) / by)`.
    factor: Scalar,
}

impl Divisor {
    /// Works out the factor.
    pub fn new(r: &mut RoleBuilder, by: Scalar) -> Self {
        let most = r.int(i32::MAX.into());
        let (half, rest) = (r.div(most, by), r.rem(most, by));
        let (half, rest) = (r.add(half, half), r.add(rest, rest));
        let rest = r.add(rest, 1);
        let more = r.div(rest, by);
        Divisor { by, factor: r.add(half, more) }
    }

    /// Quotient and remainder of numbers that are not negative. The product with the factor is below n / by by at most a half and what
    /// is cut off, so that its upper half is the quotient or one less.
    pub fn divide(&self, r: &mut RoleBuilder, l: &Lanes, n: TileRef) -> [TileRef; 2] {
        let q = l.with(r, "mulhi", n, self.factor);
        let whole = l.with(r, "mul", q, self.by);
        let rest = r.binary("sub", n, whole);
        let less = l.than(r, CmpPred::Ge, rest, self.by);
        let one = r.cast(less, DType::I32);
        let over = l.with(r, "sub", rest, self.by);
        [r.binary("add", q, one), r.choose(less, over, rest)]
    }
}
