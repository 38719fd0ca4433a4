//! What a run did.

use serde::Serialize;

/// Declares the counters once: the struct, and their sums.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Sums over a launch. Instructions are warp instructions: one for each time a warp issues it.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl std::ops::AddAssign for Counters {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    /// All warp instructions. A wait that spins counts once.
    warp_instructions,
    /// Arithmetic, moves and conversions.
    alu,
    /// Branches and exits.
    control,
    /// Loads, stores, atomics, matrix loads and stores.
    memory,
    /// `cp.async`, bulk and tensor copies.
    async_copy,
    /// Barriers, fences, votes and shuffles.
    sync,
    /// `mma` and `wgmma`.
    tensor,
    /// Multiplications and additions of the tensor cores.
    tensor_flops,
    /// 128-byte passes through shared memory that loads, stores and `ldmatrix` needed.
    shared_wavefronts,
    /// Passes they would need without bank conflicts.
    shared_wavefronts_ideal,
    /// Distinct 32-byte sectors that global loads and stores touched, instruction by instruction.
    global_sectors,
    /// Bytes that threads read from global memory.
    global_bytes_read,
    /// Bytes that threads wrote to global memory.
    global_bytes_written,
    /// Bytes that threads read from shared memory.
    shared_bytes_read,
    /// Bytes that threads wrote to shared memory.
    shared_bytes_written,
    /// Bytes that `wgmma` read from shared memory.
    wgmma_shared_bytes,
    /// Bytes that bulk and tensor copies read from global memory.
    tma_bytes_read,
    /// Bytes that bulk and tensor copies wrote to global memory.
    tma_bytes_written,
    /// Bytes that come from L2, in whole 32-byte sectors, if nothing hits in L1; a multicast counts once.
    l2_bytes_read,
    /// Bytes that go to L2, in whole 32-byte sectors.
    l2_bytes_written,
    /// Times a warp had to wait: at a barrier, an mbarrier, for copies or `wgmma`, for registers.
    waits,
}
