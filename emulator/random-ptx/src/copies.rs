//! Asynchronous copies: per thread, in bulk, and of tensors with boxes that may lie outside.

use crate::program::{Buffer, Map, SOURCE_BYTES, Writer};

impl Writer {
    /// Words of scratch memory that the threads read after a copy brought them.
    fn read_scratch(&mut self, bytes: u32) {
        let (index, into) = (self.word(), self.word());
        let words = bytes / 4;
        self.lines(format!("rem.u32 %t0, {index}, {words}; shl.b32 %t0, %t0, 2; add.u32 %t0, %t0, %x2"));
        self.line(format!("ld.shared.b32 {into}, [%t0]"));
        self.block_barrier();
    }

    pub fn cp_async(&mut self) {
        self.feature("cp.async");
        let bytes = *self.c.pick(&[4u32, 8, 16]);
        let level = if bytes == 16 { "cg" } else { "ca" };
        let from = 16 * self.c.below((SOURCE_BYTES - 16 * self.threads) / 16);
        self.lines(format!("mul.lo.u32 %t0, %x0, {bytes}; add.u32 %t1, %x2, %t0; cvt.u64.u32 %u0, %t0; add.u64 %u0, %a2, %u0"));
        let keep = self.c.below(bytes + 1);
        let copy = match self.c.below(3) {
            0 => format!("cp.async.{level}.shared.global [%t1], [%u0+{from}], {bytes}"),
            1 => format!("cp.async.{level}.shared.global [%t1], [%u0+{from}], {bytes}, {keep}"),
            _ => format!("cp.async.{level}.shared.global [%t1], [%u0+{from}], {bytes}, %p0"),
        };
        self.line(copy);
        let wait = *self.c.pick(&["cp.async.commit_group; cp.async.wait_group 0", "cp.async.wait_all"]);
        self.lines(wait);
        self.block_barrier();
        self.read_scratch(bytes * self.threads);
    }

    /// Thread 0 starts copies that an mbarrier counts; all wait for it.
    fn counted(&mut self, bytes: u32, copies: impl FnOnce(&mut Self)) {
        self.thread_zero(|w| {
            w.lines("mbarrier.init.shared::cta.b64 [%x5], 1; fence.mbarrier_init.release.cluster; fence.proxy.async.shared::cta");
            w.line(format!("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%x5], {bytes}"));
            copies(w);
        });
        self.block_barrier();
        let again = self.fresh_label();
        self.place_label(&again);
        self.lines(format!("mbarrier.try_wait.parity.shared::cta.b64 %q0, [%x5], 0; @!%q0 bra {again}"));
        self.line("fence.proxy.async.shared::cta");
        self.read_scratch(bytes);
        self.thread_zero(|w| w.line("mbarrier.inval.shared::cta.b64 [%x5]"));
        self.block_barrier();
    }

    pub fn bulk(&mut self) {
        self.feature("bulk");
        let bytes = 16 * self.c.within(1, 64);
        let from = 16 * self.c.below((SOURCE_BYTES - bytes) / 16 + 1);
        // Nobody may still be using scratch memory through the generic proxy.
        self.lines("fence.proxy.async.shared::cta");
        self.block_barrier();
        self.counted(bytes, |w| {
            w.line(format!("add.u64 %u0, %a2, {from}"));
            let copy = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes";
            w.line(format!("{copy} [%x2], [%u0], {bytes}, [%x5]"));
        });
        if let Some(at) = self.sink(bytes) {
            self.thread_zero(|w| {
                w.lines(format!("add.u64 %u0, %a3, {at}; cp.async.bulk.global.shared::cta.bulk_group [%u0], [%x2], {bytes}"));
                w.lines("cp.async.bulk.commit_group; cp.async.bulk.wait_group 0");
            });
            self.block_barrier();
        }
    }

    /// A box of a tensor over the sources, at coordinates that may be negative or too large.
    pub fn tensor_copy(&mut self) {
        self.feature("tma");
        let (dtype, size) = *self.c.pick(&[("u8", 1u64), ("u16", 2), ("bf16", 2), ("u32", 4), ("f32", 4), ("u64", 8)]);
        let swizzle = *self.c.pick(&[0u32, 32, 64, 128]);
        let rank = self.c.within(1, 4) as usize;
        // The inner extent of a box is as wide as its swizzle.
        let inner = if swizzle == 0 { 16 * u64::from(self.c.within(1, 4)) } else { u64::from(swizzle) };
        let mut box_dims = vec![(inner / size) as u32];
        let row = inner * u64::from(self.c.within(1, 2));
        let mut dims = vec![row / size - u64::from(self.c.below(3))];
        let (mut strides, mut bytes) = (Vec::new(), row);
        for _ in 1..rank {
            strides.push(bytes);
            let extent = u64::from(self.c.within(1, 4));
            dims.push(extent);
            bytes *= extent;
            box_dims.push(self.c.within(1, 4));
        }
        let box_bytes = size as u32 * box_dims.iter().product::<u32>();
        if bytes > u64::from(SOURCE_BYTES) || box_bytes > 16_384 {
            return self.bulk();
        }
        let map = self.maps.len();
        self.maps.push(Map {
            buffer: Buffer::In,
            offset: self.source_at(),
            dtype,
            dims,
            strides,
            element_strides: vec![1; rank],
            box_dims,
            swizzle,
        });
        let coords: Vec<String> = (0..rank).map(|_| (self.c.below(12) as i32 - 4).to_string()).collect();
        self.lines("fence.proxy.async.shared::cta");
        self.block_barrier();
        self.counted(box_bytes, |w| {
            for (i, coord) in coords.iter().enumerate() {
                w.line(format!("mov.b32 %t{}, {coord}", 20 + i));
            }
            let list = (0..rank).map(|i| format!("%t{}", 20 + i)).collect::<Vec<_>>().join(", ");
            w.lines(format!("mov.b64 %u0, m{map}; cvta.param.u64 %u0, %u0"));
            let copy = format!("cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes");
            w.line(format!("{copy} [%x2], [%u0, {{{list}}}], [%x5]"));
        });
    }
}
