//! wgmma, mma.sync, ldmatrix and stmatrix.

use super::address::{SmemAddr, swizzle_mask};
use super::control::reg_count;
use super::{Expander, Low};
use crate::attr::Attrs;
use crate::dtype::DType;
use crate::lane::{self, Op as L, Ty};
use crate::layout::{Dim, Swizzle, wgmma_acc};
use crate::passes::PassError;
use crate::tile::{Op, OpKind, SmemTile, Value};

/// Bytes of a k step: 16 elements of 16 bits, 32 of 8, 8 of 32.
const K_STEP_BYTES: u32 = 32;

impl Expander<'_> {
    pub(super) fn tensor_op(&mut self, op: &Op) -> Result<(), PassError> {
        match op.kind {
            OpKind::MmaAsync => self.mma_async(op),
            OpKind::MmaWait | OpKind::MmaReady => {
                self.mma_wait(op);
                Ok(())
            }
            OpKind::MmaSync => {
                self.mma_sync(op);
                Ok(())
            }
            OpKind::LdMatrix => self.ld_matrix(op),
            _ => self.st_matrix(op),
        }
    }

    /// One group: a fence, then for each k step one wgmma for each 64 rows. A lies in shared memory or in registers.
    fn mma_async(&mut self, op: &Op) -> Result<(), PassError> {
        let (b_at, b) = self.smem(op.args[2]);
        let zero = self.scalar(op.args[3]);
        let trans = op.attrs.get_int("trans_b") != 0;
        let [k_len, n] = if trans { b.shape } else { [b.shape[1], b.shape[0]] };
        if trans && b.swizzle == Swizzle::None {
            return self.unsupported(format!(
                "wgmma with B as [k, n] needs rows of a multiple of 32 bytes, not n = {n}: use n in steps of 16"
            ));
        }
        let a = self.operand_a(op.args[1]);
        let b_desc = self.descriptor(b_at, if trans { mn_major_bits(&b) } else { k_major_bits(&b) });
        let mut acc = self.cells[&op.args[0]].clone();
        let per_block = n as usize / 2;
        self.b.effect(L::WgmmaFence, &[], Attrs::none());
        let truth = self.b.constant(Ty::I1, 1);
        let accumulate = self.b.op(L::Xor, &[zero, truth]);
        let a_dtype = match &a {
            OperandA::Shared(_, tile) => tile.dtype,
            OperandA::Registers(_) => b.dtype,
        };
        let dtype = if a_dtype == b.dtype { b.dtype.to_string() } else { format!("{a_dtype}_{}", b.dtype) };
        let attrs = Attrs::none().int("n", i64::from(n)).sym("dtype", &dtype);
        let sum = super::control::reg_ty(self.reg_tile(op.args[0]).dtype);
        let slabs = acc.len() / per_block;
        for k in 0..k_len * b.dtype.bytes() / K_STEP_BYTES {
            let b_step = if trans { k * 16 * b.pitch_bytes() } else { k_major_step(&b, k) };
            let b_k = self.descriptor_add(b_desc, b_step);
            let scale_d = if k == 0 { accumulate } else { truth };
            for (m, regs) in acc.chunks_mut(per_block).enumerate() {
                let (kind, mut args, attrs) = match &a {
                    OperandA::Shared(desc, tile) => {
                        let a_k = self.descriptor_add(*desc, k_major_step(tile, k) + m as u32 * 64 * tile.pitch_bytes());
                        let attrs = attrs.clone().int("trans_a", 0);
                        (L::WgmmaSs, vec![a_k, b_k, scale_d], attrs)
                    }
                    OperandA::Registers(list) => {
                        // All k of the first 64 rows, then of the next (`wgmma_a`); four registers a step.
                        let at = m * list.len() / slabs + 4 * k as usize;
                        let mut args = list[at..at + 4].to_vec();
                        args.extend([b_k, scale_d]);
                        (L::WgmmaRs, args, attrs.clone())
                    }
                };
                args.extend(regs.iter());
                let outs = self.b.inst(kind, &args, &vec![sum; per_block], attrs.int("trans_b", i64::from(trans)));
                regs.copy_from_slice(&outs);
            }
        }
        self.b.effect(L::WgmmaCommit, &[], Attrs::none());
        self.cells.insert(op.args[0], acc);
        Ok(())
    }

    fn operand_a(&mut self, v: Value) -> OperandA {
        if matches!(self.k.ty(v), crate::tile::Ty::Reg(_)) {
            return OperandA::Registers(self.regs(v));
        }
        let (at, tile) = self.smem(v);
        OperandA::Shared(self.descriptor(at, k_major_bits(&tile)), tile)
    }

    /// Accumulators are handed through the wait that makes them readable: one for everything, or one that says so.
    fn mma_wait(&mut self, op: &Op) {
        let n = op.attrs.get_int("n");
        let readable = n == 0 || op.kind == OpKind::MmaReady;
        let acc = if readable { self.cells[&op.args[0]].clone() } else { Vec::new() };
        let types: Vec<Ty> = acc.iter().map(|v| self.b.func.ty(*v)).collect();
        let outs = self.b.inst(L::WgmmaWait, &acc, &types, Attrs::none().int("n", n));
        if readable {
            self.cells.insert(op.args[0], outs.to_vec());
        }
    }

    /// A descriptor (PTX ISA 9.7.16.5.1.2.2): the start address in units of 16 bytes, below the constant bits.
    fn descriptor(&mut self, at: SmemAddr, bits: i64) -> lane::Value {
        let window = self.b.imm(L::And, self.smem_int, 0x3_FFFF);
        let mut start = self.b.imm(L::LShr, window, 4);
        start = self.b.imm(L::IAdd, start, i64::from(at.bytes >> 4));
        if let Some(d) = at.dynamic {
            let d = self.b.imm(L::LShr, d, 4);
            start = self.b.op(L::IAdd, &[start, d]);
        }
        let start = self.b.cast(L::ZExt, start, Ty::I64);
        let bits = self.b.i64(bits);
        self.b.op(L::Or, &[start, bits])
    }

    fn descriptor_add(&mut self, desc: lane::Value, bytes: u32) -> lane::Value {
        if bytes == 0 {
            return desc;
        }
        let by = self.b.i64(i64::from(bytes >> 4));
        self.b.op(L::IAdd, &[desc, by])
    }

    /// For each m16 x n8 fragment one mma; A fragments are used for a whole row of them.
    fn mma_sync(&mut self, op: &Op) {
        let (mut a, mut b) = (self.regs(op.args[1]), self.regs(op.args[2]));
        if self.reg_tile(op.args[1]).dtype == DType::F32 {
            a.iter_mut().chain(&mut b).for_each(|v| *v = self.b.cast(L::Bitcast, *v, Ty::I32));
        }
        let (kind, sum) = match self.reg_tile(op.args[1]).dtype {
            DType::BF16 => (L::MmaBF16, Ty::F32),
            DType::I8 => (L::MmaS8, Ty::I32),
            DType::F32 => (L::MmaTF32, Ty::F32),
            _ => (L::MmaF16, Ty::F32),
        };
        let mut acc = self.cells[&op.args[0]].clone();
        let columns = b.len() / 2;
        for (m, row) in acc.chunks_mut(4 * columns).enumerate() {
            for (n, d) in row.chunks_mut(4).enumerate() {
                let mut args = a[4 * m..4 * m + 4].to_vec();
                args.extend(&b[2 * n..2 * n + 2]);
                args.extend(d.iter());
                let outs = self.b.inst(kind, &args, &[sum; 4], Attrs::none());
                d.copy_from_slice(&outs);
            }
        }
        self.cells.insert(op.args[0], acc);
    }

    /// Fragments of one k step, four 8x8 matrices of 16 bits at a time: of bytes a matrix is 8x16, of words 8x4. Lane `l` gives the address of row `l % 8` of matrix
    /// `l / 8` (PTX ISA 9.7.15.5.15).
    fn ld_matrix(&mut self, op: &Op) -> Result<(), PassError> {
        let (at, tile) = self.smem(op.args[0]);
        let out = self.reg_tile(op.outs[0]);
        let k = op.attrs.get_int("k") as u32 * 16;
        let operand = op.attrs.get_sym("operand");
        if operand != "a" && tile.dtype.bytes() == 4 {
            return self.unsupported(format!("ldmatrix of b in {}: ordinary loads of b as [k, n] serve it", tile.dtype));
        }
        if operand == "bt" && tile.dtype.bytes() == 1 {
            return self.unsupported(format!("ldmatrix turns 16-bit elements only, not {}: give b as [n, k]", tile.dtype));
        }
        let low = self.b.imm(L::And, self.at.lane, 7);
        let second = self.b.imm(L::LShr, self.at.lane, 3);
        let second = self.b.imm(L::And, second, 1);
        let third = self.b.imm(L::LShr, self.at.lane, 4);
        // A and transposed B: matrices 0, 1 lie below each other; plain B: they lie side by side.
        let (down, right) = if operand == "b" { (third, second) } else { (second, third) };
        let down = self.b.imm(L::Shl, down, 3);
        let row = self.b.op(L::IAdd, &[low, down]);
        let right = self.b.imm(L::Shl, right, 3);
        // Where this warp's part begins, along m or n.
        let warp_start = self.warp_start(&out, operand);
        let trans = operand == "bt";
        let add = |x: &mut Self, a: Option<lane::Value>, b| a.map_or(b, |a| x.b.op(L::IAdd, &[a, b]));
        let (row, right) = if trans { (row, add(self, warp_start, right)) } else { (add(self, warp_start, row), right) };
        let right = self.b.imm(L::Shl, right, 1);
        // A step is sixteen rows or 32 bytes further: rows change no bit the swizzle looks at, and columns only bits that are
        // zero in this thread's part, unless that begins at a warp's column. So few addresses serve all steps.
        let pitch = tile.pitch_bytes();
        let thread = (!trans || warp_start.is_none()).then(|| {
            let start = self.b.imm(L::IMul, row, i64::from(pitch));
            let linear = self.b.op(L::IAdd, &[start, right]);
            self.swizzle(tile.swizzle, linear)
        });
        let fragments = reg_count(&out);
        let mut regs = Vec::with_capacity(fragments);
        while regs.len() < fragments {
            let index = (regs.len() / 4) as u32 * 16;
            let (r, c) = if trans { (k, index) } else { (index, k) };
            let bytes = 2 * c;
            let ptr = match thread {
                Some(thread) => {
                    let in_row = bytes % pitch;
                    let to = SmemAddr { bytes: at.bytes + r * pitch + bytes / pitch * tile.panel_bytes, ..at };
                    let (to, offset) = if swizzle_mask(tile.swizzle) == 0 {
                        (SmemAddr { bytes: to.bytes + in_row, ..to }, thread)
                    } else {
                        (to, self.b.imm(L::Xor, thread, i64::from(in_row)))
                    };
                    self.smem_ptr(to, Some(offset))
                }
                None => {
                    let (r, c) = (self.b.imm(L::IAdd, row, i64::from(r)), self.b.imm(L::IAdd, right, i64::from(bytes)));
                    let offset = self.smem_offset(&tile, r, c);
                    self.smem_ptr(at, Some(offset))
                }
            };
            let outs = match (fragments - regs.len() >= 4, trans) {
                (true, false) => self.b.inst(L::LdMatrix4, &[ptr], &[Ty::I32; 4], Attrs::none()),
                (true, true) => self.b.inst(L::LdMatrix4T, &[ptr], &[Ty::I32; 4], Attrs::none()),
                // The last n8 tile alone: its two matrices are the k halves, addressed by lanes 0 to 15.
                (false, false) => self.b.inst(L::LdMatrix2, &[ptr], &[Ty::I32; 2], Attrs::none()),
                (false, true) => self.b.inst(L::LdMatrix2T, &[ptr], &[Ty::I32; 2], Attrs::none()),
            };
            regs.extend(outs);
        }
        if tile.dtype == DType::F32 {
            regs.iter_mut().for_each(|v| *v = self.b.cast(L::Bitcast, *v, Ty::F32));
        }
        self.env.insert(op.outs[0], Low::Regs(regs));
        Ok(())
    }

    /// The first row (A) or column (B) of this warp's fragment, where warps differ in it.
    fn warp_start(&mut self, t: &crate::tile::RegTile, operand: &str) -> Option<lane::Value> {
        let axis = if operand == "a" { 0 } else { 1 };
        let l = &t.layout;
        let warps = l.in_size(Dim::Warp);
        let starts: Vec<u32> = (0..warps).map(|w| l.apply(&[0, 0, w])[axis]).collect();
        let step = *starts.iter().find(|s| **s > 0).unwrap_or(&0);
        if step == 0 {
            return None;
        }
        // Grids of warps: start = step * (warp / inner % count), inner = warps that share the first start.
        let inner = starts.iter().take_while(|s| **s == 0).count() as i64;
        let count = i64::from(starts.iter().max().copied().unwrap_or(0) / step + 1);
        let at = self.b.imm(L::UDiv, self.at.unit_warp, inner);
        let count = self.b.i32(count);
        let at = self.b.op(L::URem, &[at, count]);
        Some(self.b.imm(L::IMul, at, i64::from(step)))
    }

    /// An accumulator fragment's 16-bit pairs are the rows of 8x8 matrices already: register pair (2i, 2i + 1) of 8
    /// columns holds rows 0-7 and 8-15.
    fn st_matrix(&mut self, op: &Op) -> Result<(), PassError> {
        let (at, tile) = self.smem(op.args[0]);
        let t = self.reg_tile(op.args[1]);
        let regs = self.regs(op.args[1]);
        if t.dtype.bytes() == 2 && wgmma_acc(64, t.shape[0], 1).is_ok_and(|l| t.shape[1] == 64 && l.transposed() == t.layout) {
            self.st_matrix_transposed(at, &tile, &regs);
            return Ok(());
        }
        if t.dtype.bytes() != 2 || wgmma_acc(64, t.shape[1], 1).map_or(true, |l| t.shape[0] != 64 || l != t.layout) {
            return self.unsupported(format!(
                "stmatrix of a {}x{} tile of {}: an accumulator of 64 rows at 16 bits, or one transposed",
                t.shape[0], t.shape[1], t.dtype
            ));
        }
        let pitch = i64::from(tile.pitch_bytes());
        let warp_row = self.b.imm(L::Shl, self.at.unit_warp, 4);
        let lane_row = self.b.imm(L::And, self.at.lane, 15);
        let row = self.b.op(L::IAdd, &[warp_row, lane_row]);
        let start = self.b.imm(L::IMul, row, pitch);
        let right = self.b.imm(L::LShr, self.at.lane, 4);
        let right = self.b.imm(L::Shl, right, 4);
        let linear = self.b.op(L::IAdd, &[start, right]);
        // Columns only change bits below the pitch, rows only bits from it on: the swizzle of the sum is the swizzle of
        // the lane's part, xor the column.
        let swizzled = self.swizzle(tile.swizzle, linear);
        let mut done = 0;
        while done < regs.len() {
            let count = if regs.len() - done >= 4 { 4 } else { 2 };
            let col_bytes = (done as u32 / 2) * 16;
            let panel = col_bytes / tile.pitch_bytes();
            let in_row = col_bytes % tile.pitch_bytes();
            let offset = if swizzle_mask(tile.swizzle) == 0 {
                self.b.imm(L::IAdd, swizzled, i64::from(in_row))
            } else {
                self.b.imm(L::Xor, swizzled, i64::from(in_row))
            };
            let to = SmemAddr { bytes: at.bytes + panel * tile.panel_bytes, ..at };
            let ptr = self.smem_ptr(to, Some(offset));
            let mut args = vec![ptr];
            args.extend(&regs[done..done + count]);
            self.b.effect(if count == 4 { L::StMatrix4 } else { L::StMatrix2 }, &args, Attrs::none());
            done += count;
        }
        Ok(())
    }

    /// An accumulator whose rows go to columns: a register pair is a column of an 8x8 matrix, four matrices are eight
    /// columns of sixteen rows and the next eight.
    fn st_matrix_transposed(&mut self, at: SmemAddr, tile: &SmemTile, regs: &[lane::Value]) {
        let pitch = tile.pitch_bytes();
        let low = self.b.imm(L::And, self.at.lane, 7);
        let next = self.b.imm(L::LShr, self.at.lane, 4);
        let next = self.b.imm(L::Shl, next, 3);
        let row = self.b.op(L::IAdd, &[low, next]);
        let half = self.b.imm(L::LShr, self.at.lane, 3);
        let half = self.b.imm(L::And, half, 1);
        let half = self.b.imm(L::Shl, half, 4);
        let warp = self.b.imm(L::Shl, self.at.unit_warp, 5);
        let bytes = self.b.op(L::IAdd, &[warp, half]);
        let offset = self.smem_offset(tile, row, bytes);
        let mut done = 0;
        while done < regs.len() {
            let count = (regs.len() - done).min(4);
            // Sixteen rows further: swizzles repeat every eight.
            let to = SmemAddr { bytes: at.bytes + done as u32 / 2 * 8 * pitch, ..at };
            let ptr = self.smem_ptr(to, Some(offset));
            let mut args = vec![ptr];
            args.extend(&regs[done..done + count]);
            self.b.effect(if count == 4 { L::StMatrix4T } else { L::StMatrix2T }, &args, Attrs::none());
            done += count;
        }
    }
}

/// Where wgmma takes A from.
enum OperandA {
    /// Its descriptor and tile.
    Shared(lane::Value, SmemTile),
    /// Packed pairs, in the order of `wgmma_a`.
    Registers(Vec<lane::Value>),
}

/// Bytes from a K-major tile's start to k step `k`: along a panel's row, then in the next panel.
fn k_major_step(t: &SmemTile, k: u32) -> u32 {
    let per_panel = t.pitch_bytes() / K_STEP_BYTES;
    k / per_panel * t.panel_bytes + k % per_panel * K_STEP_BYTES
}

/// Layout field of a descriptor, bits 62-63: 1 = 128 B, 2 = 64 B, 3 = 32 B, 0 = none.
fn mode(s: Swizzle) -> i64 {
    match s {
        Swizzle::None => 0,
        Swizzle::B128 => 1,
        Swizzle::B64 => 2,
        Swizzle::B32 => 3,
    }
}

/// The constant bits: leading byte offset at 16, stride byte offset at 32, both in units of 16 bytes, swizzle at 62.
fn bits(leading: u32, stride: u32, s: Swizzle) -> i64 {
    i64::from(leading >> 4) << 16 | i64::from(stride >> 4) << 32 | mode(s) << 62
}

/// K-major: groups of eight rows follow each other; the leading offset is not used with a swizzle and is set to one.
fn k_major_bits(t: &SmemTile) -> i64 {
    bits(16, 8 * t.pitch_bytes(), t.swizzle)
}

/// MN-major: panels of the swizzle span along n (leading), groups of eight k rows (stride).
fn mn_major_bits(t: &SmemTile) -> i64 {
    bits(t.panel_bytes, 8 * t.pitch_bytes(), t.swizzle)
}
