//! Devices as numbers. A new GPU is a new row.

use tilewright_ir::Arch;

/// What the model knows of a device. Rates are per clock cycle, and bytes are bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceProfile {
    /// Marketing name, for messages only: nothing is keyed by it.
    pub name: &'static str,
    /// Multiprocessors.
    pub sms: u32,
    /// Clock under full tensor load, GHz.
    pub clock_ghz: f64,
    /// bf16 and f16 multiply-adds of one SM's tensor cores, counted as two operations.
    pub tensor_flops: f64,
    /// Part of `tensor_flops` that `mma.sync` reaches.
    pub mma_sync_share: f64,
    /// Shared memory, one SM.
    pub smem_bytes: f64,
    /// L2 to one SM.
    pub l2_bytes_per_sm: f64,
    /// L2 to all SMs.
    pub l2_bytes: f64,
    /// Capacity of L2.
    pub l2_capacity: f64,
    /// DRAM to L2.
    pub dram_bytes: f64,
    /// From asking for a tile to having it, cycles.
    pub load_latency: f64,
    /// Start of a launch until its first instruction, cycles.
    pub launch: f64,
}

/// H200 SXM. 4.3 TB/s is its measured copy rate, 1.46 GHz the clock at which power holds bf16 products on random data;
/// L2 bandwidth is the constant of DeepGEMM's heuristics. `mma.sync` at 0.63: arXiv 2501.12084.
const H200: DeviceProfile = DeviceProfile {
    name: "H200",
    sms: 132,
    clock_ghz: 1.46,
    tensor_flops: 4096.0,
    mma_sync_share: 0.63,
    smem_bytes: 128.0,
    l2_bytes_per_sm: 64.0,
    l2_bytes: 6154.0,
    l2_capacity: 50e6,
    dram_bytes: 4.3e12 / 1.46e9,
    load_latency: 800.0,
    launch: 4000.0,
};

/// A100 SXM 80 GB: 312 TFLOP/s at 1.41 GHz, 2.0 TB/s (NVIDIA's data sheet); L2 as Ampere's white paper has it.
const A100: DeviceProfile = DeviceProfile {
    name: "A100",
    sms: 108,
    clock_ghz: 1.41,
    tensor_flops: 2048.0,
    mma_sync_share: 0.9,
    smem_bytes: 128.0,
    l2_bytes_per_sm: 64.0,
    l2_bytes: 5120.0,
    l2_capacity: 40e6,
    dram_bytes: 1.8e12 / 1.41e9,
    load_latency: 700.0,
    launch: 4000.0,
};

/// RTX 3090: 142 TFLOP/s of f32-accumulating half at 1.7 GHz is half of this row's rate (NVIDIA's white paper).
const GA102: DeviceProfile = DeviceProfile {
    name: "RTX 3090",
    sms: 82,
    clock_ghz: 1.7,
    tensor_flops: 512.0,
    l2_bytes: 2048.0,
    l2_capacity: 6e6,
    dram_bytes: 0.9e12 / 1.7e9,
    ..A100
};

/// L40S: 362 TFLOP/s at 2.5 GHz, 0.86 TB/s (NVIDIA's data sheet).
const AD102: DeviceProfile = DeviceProfile {
    name: "L40S",
    sms: 142,
    clock_ghz: 2.3,
    tensor_flops: 1024.0,
    l2_bytes: 4096.0,
    l2_capacity: 96e6,
    dram_bytes: 0.8e12 / 2.3e9,
    ..A100
};

impl DeviceProfile {
    /// The device that stands for a target until one is measured.
    pub fn of(arch: Arch) -> Self {
        match arch {
            Arch::Sm80 => A100,
            Arch::Sm86 => GA102,
            Arch::Sm89 => AD102,
            Arch::Sm90a => H200,
        }
    }

    /// Cycles to microseconds.
    pub fn microseconds(&self, cycles: f64) -> f64 {
        cycles / self.clock_ghz / 1e3
    }
}
