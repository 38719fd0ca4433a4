//! ldmatrix, stmatrix, movmatrix and mma.sync.

use super::access::{POISON_VALUE, lanes_of};
use super::cluster::{At, Cluster};
use super::probe::{Access, Memory, WarpAccess};
use super::regs::{FULL, Regs, Row};
use super::step::Flow;
use super::warp::Warp;
use crate::check::How;
use crate::finding::FindingKind;
use crate::memory::space::Target;
use crate::parse::ast::Space;
use crate::program::memory_op::{LdMatrix, Order, Regs as RegList, Scope, StMatrix};
use crate::program::sync_op::{Mma, Sparsity};
use crate::program::{R, Reg};
use crate::tensor::sparse::{BadCode, mma_sp};
use crate::tensor::{matrix, mma};

impl Cluster<'_> {
    /// Shared addresses of the rows of `count` matrices: lanes 0.. of the warp.
    fn matrix_rows(
        &mut self,
        warp: &Warp,
        at: &At,
        mask: u32,
        space: Space,
        addr: &crate::program::memory_op::Addr,
        count: usize,
    ) -> super::access::Addresses {
        let used = if count == 4 { FULL } else { (1u32 << (8 * count)) - 1 };
        let mut addresses = self.addresses(warp, at, mask & used, addr);
        if space == Space::Generic {
            for lane in lanes_of(addresses.lanes) {
                let address = addresses.of[lane];
                match self.target(space, address) {
                    Target::Shared(address) => addresses.of[lane] = address.into(),
                    _ => {
                        self.report(FindingKind::Oob, at, 1 << lane, Some(address), || {
                            format!("{address:#x} is not in shared memory, where matrices are loaded from")
                        });
                        addresses.lanes &= !(1 << lane);
                    }
                }
            }
        }
        addresses
    }

    fn observe_matrix(&mut self, at: &At, access: Access, addresses: &super::access::Addresses) {
        let how = if access == Access::Read { How::MatrixLoad } else { How::MatrixStore };
        let access = WarpAccess {
            at: *at,
            lanes: addresses.lanes,
            memory: Memory::Shared,
            access,
            order: Order::Weak,
            scope: Scope::Cta,
            addresses: &addresses.of,
            bytes: 16,
            meeting: None,
        };
        self.observe(&access, how, None);
    }

    pub(super) fn ldmatrix(&mut self, warp: &mut Warp, at: &At, mask: u32, op: &LdMatrix) -> Flow {
        self.check_aligned(warp, at, mask, "ldmatrix");
        let count = op.dst.len();
        let addresses = self.matrix_rows(warp, at, mask, op.space, &op.addr, count);
        self.observe_matrix(at, Access::Read, &addresses);
        let mut rows = [POISON_VALUE.to_le_bytes(); 32];
        for lane in lanes_of(addresses.lanes) {
            if let Some(place) = self.shared_at(at, 1 << lane, addresses.of[lane], 16, 16, true) {
                rows[lane] = self.load_shared(at, 1 << lane, place, 16).to_le_bytes();
            }
        }
        let mut out = [[0; 32]; 4];
        matrix::ldmatrix(&rows[..8 * count], op.trans, &mut out[..count]);
        for (reg, row) in op.dst.iter().zip(&out) {
            if let Reg::R(r) = reg {
                warp.regs.put(*r, row, mask, FULL);
            }
        }
        Flow::Next
    }

    pub(super) fn stmatrix(&mut self, warp: &mut Warp, at: &At, mask: u32, op: &StMatrix) -> Flow {
        self.check_aligned(warp, at, mask, "stmatrix");
        let count = op.src.len();
        let addresses = self.matrix_rows(warp, at, mask, op.space, &op.addr, count);
        self.observe_matrix(at, Access::Write, &addresses);
        let mut sources = [[0; 32]; 4];
        let mut defined = [FULL; 4];
        for (index, reg) in op.src.iter().enumerate() {
            if let Reg::R(r) = reg {
                sources[index] = *warp.regs.r(*r);
                defined[index] = warp.regs.rdef(*r);
            }
        }
        let mut rows = [[0; 16]; 32];
        matrix::stmatrix(&sources[..count], op.trans, &mut rows[..8 * count]);
        for lane in lanes_of(addresses.lanes) {
            let Some(place) = self.shared_at(at, 1 << lane, addresses.of[lane], 16, 16, true) else { continue };
            let all = defined[lane / 8] & mask == mask;
            self.store_shared(at, 1 << lane, place, 16, u128::from_le_bytes(rows[lane]), all);
        }
        self.progress();
        Flow::Next
    }

    pub(super) fn movmatrix(&mut self, warp: &mut Warp, at: &At, mask: u32, d: R, a: R) -> Flow {
        self.check_aligned(warp, at, mask, "movmatrix");
        let out = matrix::movmatrix(warp.regs.r(a));
        let defined = if mask & !warp.regs.rdef(a) == 0 { FULL } else { 0 };
        warp.regs.put(d, &out, mask, defined);
        Flow::Next
    }

    pub(super) fn mma(&mut self, warp: &mut Warp, at: &At, mask: u32, op: &Mma) -> Flow {
        self.check_aligned(warp, at, mask, "mma");
        for (name, regs) in [("a", &op.a), ("b", &op.b), ("c", &op.c)] {
            let undefined = mask & !regs.iter().fold(FULL, |all, reg| all & warp.regs.defined(*reg));
            if undefined != 0 {
                self.report(FindingKind::Uninit, at, undefined, None, || format!("operand {name} of mma is undefined"));
            }
        }
        let mut words = [[0; 32]; 32];
        let a_end = fill(&warp.regs, &op.a, &mut words);
        let b_end = a_end + fill(&warp.regs, &op.b, &mut words[a_end..]);
        let c_end = b_end + fill(&warp.regs, &op.c, &mut words[b_end..]);
        let mut out = [[0; 32]; 16];
        let count = op.kind.d_regs().min(out.len());
        let (a, b, c) = (&words[..a_end], &words[a_end..b_end], &words[b_end..c_end]);
        let out_words = &mut out[..count];
        let computed = match &op.sparse {
            None => mma::mma(&op.kind, self.m.arithmetic, a, b, c, out_words),
            Some(sparse) => {
                self.check_metadata(warp, at, mask, sparse);
                let Sparsity { kind, metadata, selector } = sparse;
                mma_sp(kind, *selector, self.m.arithmetic, [a, b, c], warp.regs.r(*metadata), out_words)
            }
        };
        if let Err(error) = computed {
            self.report(FindingKind::Unsupported, at, mask, None, || error.to_string());
            self.fatal = true;
            return Flow::Ended;
        }
        warp.regs.put_words(&op.d, &out, mask);
        self.probe.counters.tensor_flops += 2 * u64::from(op.kind.m) * 8 * u64::from(op.kind.k);
        Flow::Next
    }

    /// Metadata must be defined where it is read, and its codes must have a meaning.
    fn check_metadata(&mut self, warp: &Warp, at: &At, mask: u32, sparse: &Sparsity) {
        let Sparsity { kind, metadata, selector } = sparse;
        let read = (0..32).filter(|lane| kind.contributes(*selector, *lane)).fold(0, |all, lane| all | 1 << lane);
        let undefined = mask & read & !warp.regs.rdef(*metadata);
        if undefined != 0 {
            self.report(FindingKind::Uninit, at, undefined, None, || "the metadata of mma.sp is undefined".into());
        } else if let Some(bad) = kind.bad_code(*selector, warp.regs.r(*metadata)) {
            self.report(FindingKind::Descriptor, at, 1 << bad.lane, None, || {
                let BadCode { row, code, .. } = bad;
                format!("metadata {code:#06b} for row {row} of a has no meaning in mma.sp")
            });
        }
    }
}

/// Copies registers as 32-bit words, low word first; returns how many.
pub(super) fn fill(regs: &Regs, list: &RegList, out: &mut [Row]) -> usize {
    let mut at = 0;
    for reg in list {
        match reg {
            Reg::R(r) => {
                out[at] = *regs.r(*r);
                at += 1;
            }
            Reg::D(d) => {
                let row = regs.q(*d);
                out[at] = row.map(|x| x as u32);
                out[at + 1] = row.map(|x| (x >> 32) as u32);
                at += 2;
            }
            _ => {}
        }
    }
    at
}
