//! Shared-memory addresses, and where a thread's part of a fragment lies.

use super::{Expander, Low};
use crate::lane::{self, Op as L};
use crate::layout::{Dim, Layout, Swizzle};
use crate::passes::PassError;
use crate::tile::{SmemTile, Ty, Value};

/// A tile's start: constant bytes from the base of dynamic shared memory, plus bytes known at run time.
#[derive(Clone, Copy, Debug)]
pub(super) struct SmemAddr {
    pub bytes: u32,
    pub dynamic: Option<lane::Value>,
}

impl Expander<'_> {
    /// A shared tile: its start and its type.
    pub(super) fn smem(&self, v: Value) -> (SmemAddr, SmemTile) {
        match (&self.env[&v], self.k.ty(v)) {
            (Low::Smem(a), Ty::Smem(t)) => (*a, t.clone()),
            other => unreachable!("the verifier checked that %{} is a shared tile, not {other:?}", v.0),
        }
    }

    /// A tile further on by run-time bytes.
    pub(super) fn advance(&mut self, at: SmemAddr, by: lane::Value) -> SmemAddr {
        let dynamic = match at.dynamic {
            Some(d) => self.b.op(L::IAdd, &[d, by]),
            None => by,
        };
        SmemAddr { dynamic: Some(dynamic), ..at }
    }

    /// The address as a pointer, plus a thread's own offset.
    pub(super) fn smem_ptr(&mut self, at: SmemAddr, offset: Option<lane::Value>) -> lane::Value {
        let mut p = self.smem_base;
        for d in [at.dynamic, offset].into_iter().flatten() {
            p = self.b.op(L::PtrAdd, &[p, d]);
        }
        self.b.ptr_offset(p, i64::from(at.bytes))
    }

    /// The byte offset of (row, byte in row) in a tile, swizzled; any panel.
    pub(super) fn smem_offset(&mut self, t: &SmemTile, row: lane::Value, col_bytes: lane::Value) -> lane::Value {
        let pitch = i64::from(t.pitch_bytes());
        let mut in_row = col_bytes;
        let mut panel = None;
        if t.panels() > 1 {
            in_row = self.b.imm(L::And, col_bytes, pitch - 1);
            let index = self.b.imm(L::LShr, col_bytes, pitch.trailing_zeros().into());
            panel = Some(self.b.imm(L::IMul, index, i64::from(t.panel_bytes)));
        }
        let start = self.b.imm(L::IMul, row, pitch);
        let linear = self.b.op(L::IAdd, &[start, in_row]);
        let swizzled = self.swizzle(t.swizzle, linear);
        match panel {
            Some(p) => self.b.op(L::IAdd, &[swizzled, p]),
            None => swizzled,
        }
    }

    /// `x ^ (x >> 3 & chunk bits)`: the definition in [`Swizzle::apply`], on a value.
    pub(super) fn swizzle(&mut self, s: Swizzle, x: lane::Value) -> lane::Value {
        let mask = swizzle_mask(s);
        if mask == 0 {
            return x;
        }
        let row = self.b.imm(L::LShr, x, 3);
        let bits = self.b.imm(L::And, row, mask);
        self.b.op(L::Xor, &[x, bits])
    }

    /// This thread's (row, col) in a fragment: what its lane and warp contribute. Registers add constants to it.
    pub(super) fn thread_coords(&mut self, l: &Layout) -> Result<[lane::Value; 2], PassError> {
        let sizes: Vec<u32> = [Dim::Reg, Dim::Lane, Dim::Warp].map(|d| l.in_size(d)).to_vec();
        let last = [sizes[0] - 1, sizes[1] - 1, sizes[2] - 1];
        let sum = |i: usize| l.apply(&[last[0], 0, 0])[i] + l.apply(&[0, last[1], 0])[i] + l.apply(&[0, 0, last[2]])[i];
        if (0..2).any(|i| l.apply(&last)[i] != sum(i)) {
            return self.unsupported(format!("the layout {l} does not split into a sum over register, lane and warp"));
        }
        let mut coords = [self.b.i32(0); 2];
        for (dim, index) in [(Dim::Lane, self.at.lane), (Dim::Warp, self.at.unit_warp)] {
            for (axis, coord) in coords.iter_mut().enumerate() {
                for (shift, mask, scale) in runs(l, dim, axis) {
                    let part = self.b.imm(L::LShr, index, shift);
                    let part = self.b.imm(L::And, part, mask);
                    let part = self.b.imm(L::IMul, part, scale);
                    *coord = self.b.op(L::IAdd, &[*coord, part]);
                }
            }
            for (extent, before, strides) in outers(l, dim) {
                for (axis, coord) in coords.iter_mut().enumerate().filter(|(a, _)| strides[*a] != 0) {
                    let at = self.b.imm(L::UDiv, index, before);
                    let extent = self.b.i32(extent);
                    let at = self.b.op(L::URem, &[at, extent]);
                    let part = self.b.imm(L::IMul, at, strides[axis]);
                    *coord = self.b.op(L::IAdd, &[*coord, part]);
                }
            }
        }
        Ok(coords)
    }

    /// What register `r` adds to the thread's (row, col).
    pub(super) fn reg_coords(&self, l: &Layout, r: usize) -> [u32; 2] {
        let at = l.apply(&[r as u32, 0, 0]);
        [at[0], at[1]]
    }
}

/// The address bits a swizzle changes, seen from three bits above: [`Swizzle::apply`] moves bit `b + 3` onto bit `b`.
pub(super) fn swizzle_mask(s: Swizzle) -> i64 {
    (4..7).filter(|b| s.apply(1 << (b + 3)) != 1 << (b + 3)).map(|b| 1i64 << b).sum()
}

/// Runs of atom bits of `dim` whose basis on `axis` doubles from bit to bit: (first bit, mask, value of the first).
fn runs(l: &Layout, dim: Dim, axis: usize) -> Vec<(i64, i64, i64)> {
    let bases: Vec<u32> = l.bases(dim).iter().map(|b| b.values()[axis]).collect();
    let mut list = Vec::new();
    let mut i = 0;
    while i < bases.len() {
        let mut j = i + 1;
        if bases[i] != 0 {
            while j < bases.len() && bases[j] == bases[i] << (j - i) {
                j += 1;
            }
            list.push((i as i64, (1i64 << (j - i)) - 1, i64::from(bases[i])));
        }
        i = j;
    }
    list
}

/// Outer factors of `dim`: (extent, indices per step, strides).
fn outers(l: &Layout, dim: Dim) -> Vec<(i64, i64, [i64; 2])> {
    let mut before = 1i64 << l.bases(dim).len();
    let mut list = Vec::new();
    for o in l.outers(dim) {
        let s = o.stride.values();
        list.push((i64::from(o.extent), before, [i64::from(s[0]), i64::from(s[1])]));
        before *= i64::from(o.extent);
    }
    list
}
