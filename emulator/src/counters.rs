//! What a run did.

use serde::Serialize;

/// Sums over a launch. Instructions are warp instructions: one for each time a warp issues it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// All warp instructions. A wait that spins counts once.
    pub warp_instructions: u64,
    /// Arithmetic, moves and conversions.
    pub alu: u64,
    /// Branches and exits.
    pub control: u64,
    /// Loads, stores, atomics, matrix loads and stores.
    pub memory: u64,
    /// `cp.async`, bulk and tensor copies.
    pub async_copy: u64,
    /// Barriers, fences, votes and shuffles.
    pub sync: u64,
    /// `mma` and `wgmma`.
    pub tensor: u64,
    /// Multiplications and additions of the tensor cores.
    pub tensor_flops: u64,
    /// 128-byte passes through shared memory that loads, stores and `ldmatrix` needed.
    pub shared_wavefronts: u64,
    /// Passes they would need without bank conflicts.
    pub shared_wavefronts_ideal: u64,
    /// Distinct 32-byte sectors that global loads and stores touched, instruction by instruction.
    pub global_sectors: u64,
    /// Bytes that threads read from global memory.
    pub global_bytes_read: u64,
    /// Bytes that threads wrote to global memory.
    pub global_bytes_written: u64,
    /// Bytes that threads read from shared memory.
    pub shared_bytes_read: u64,
    /// Bytes that threads wrote to shared memory.
    pub shared_bytes_written: u64,
    /// Bytes that `wgmma` read from shared memory.
    pub wgmma_shared_bytes: u64,
    /// Bytes that bulk and tensor copies read from global memory.
    pub tma_bytes_read: u64,
    /// Bytes that bulk and tensor copies wrote to global memory.
    pub tma_bytes_written: u64,
}

impl std::ops::AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        let Counters {
            warp_instructions,
            alu,
            control,
            memory,
            async_copy,
            sync,
            tensor,
            tensor_flops,
            shared_wavefronts,
            shared_wavefronts_ideal,
            global_sectors,
            global_bytes_read,
            global_bytes_written,
            shared_bytes_read,
            shared_bytes_written,
            wgmma_shared_bytes,
            tma_bytes_read,
            tma_bytes_written,
        } = other;
        self.warp_instructions += warp_instructions;
        self.alu += alu;
        self.control += control;
        self.memory += memory;
        self.async_copy += async_copy;
        self.sync += sync;
        self.tensor += tensor;
        self.tensor_flops += tensor_flops;
        self.shared_wavefronts += shared_wavefronts;
        self.shared_wavefronts_ideal += shared_wavefronts_ideal;
        self.global_sectors += global_sectors;
        self.global_bytes_read += global_bytes_read;
        self.global_bytes_written += global_bytes_written;
        self.shared_bytes_read += shared_bytes_read;
        self.shared_bytes_written += shared_bytes_written;
        self.wgmma_shared_bytes += wgmma_shared_bytes;
        self.tma_bytes_read += tma_bytes_read;
        self.tma_bytes_written += tma_bytes_written;
    }
}
