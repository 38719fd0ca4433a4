//! What the model must know of a GPU.

use tilewright_ir::Arch;

/// Rates of one GPU, at the clock it holds under load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceProfile {
    /// Name.
    pub name: &'static str,
    /// The target whose kernels it runs.
    pub arch: Arch,
    /// Multiprocessors.
    pub sms: u32,
    /// Clock under tensor load, Hz.
    pub clock_hz: f64,
    /// Dense 16-bit tensor-core FLOP of one SM and clock.
    pub tensor_flops: f64,
    /// The part of it that `mma.sync` reaches; `wgmma` reaches all.
    pub mma_sync_share: f64,
    /// Shared-memory bytes of one SM and clock.
    pub smem_bytes: f64,
    /// L2 bytes of the whole GPU and clock.
    pub l2_bytes: f64,
    /// Device memory, bytes a second.
    pub memory_bytes: f64,
    /// L2 capacity, bytes.
    pub l2_capacity: f64,
    /// From launch to first instruction and from last to done, seconds.
    pub launch_seconds: f64,
    /// First bytes of a tile, cycles.
    pub load_latency: f64,
}

/// H200 SXM: 4096 FLOP a clock and SM (CUDA guide), 1.46 GHz where power caps bf16 at 788 TFLOP/s, 4.3 TB/s copies
/// (both measured on the bench machine); mma.sync at 62.9 % (arXiv 2501.12084); L2 as in DeepGEMM's heuristics.
const H200: DeviceProfile = DeviceProfile {
    name: "H200",
    arch: Arch::Sm90a,
    sms: 132,
    clock_hz: 1.46e9,
    tensor_flops: 4096.0,
    mma_sync_share: 0.629,
    smem_bytes: 128.0,
    l2_bytes: 6154.0,
    memory_bytes: 4.3e12,
    l2_capacity: 50e6,
    launch_seconds: 3e-6,
    load_latency: 800.0,
};

/// A100 SXM: 2048 FLOP a clock and SM, 1.41 GHz, 2.0 TB/s (NVIDIA A100 white paper); L2 5120 B a clock (same source).
const A100: DeviceProfile = DeviceProfile {
    name: "A100",
    arch: Arch::Sm80,
    sms: 108,
    clock_hz: 1.41e9,
    tensor_flops: 2048.0,
    mma_sync_share: 1.0,
    smem_bytes: 128.0,
    l2_bytes: 5120.0,
    memory_bytes: 2.0e12,
    l2_capacity: 40e6,
    launch_seconds: 3e-6,
    load_latency: 700.0,
};

impl DeviceProfile {
    /// Every profile.
    pub const ALL: [DeviceProfile; 2] = [H200, A100];

    /// The profile of a name, in whatever case.
    pub fn named(name: &str) -> Option<DeviceProfile> {
        DeviceProfile::ALL.into_iter().find(|d| d.name.eq_ignore_ascii_case(name))
    }

    /// The GPU that stands for a target until tuning records name the real one.
    pub fn typical(arch: Arch) -> DeviceProfile {
        if arch.is_hopper() { H200 } else { A100 }
    }
}
