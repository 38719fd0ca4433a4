//! What a plan needs of whatever runs it: a GPU through the driver, or an emulator.

use std::fmt;

use crate::arch::ComputeCapability;
use crate::compat::CudaVersion;
use crate::dtype::Dtype;
use crate::manifest::{Interleave, Kernel, L2Promotion, OobFill, Swizzle};

/// Most dimensions of a tensor map.
pub const MAX_RANK: usize = 5;

/// Something that holds memory and launches kernels.
///
/// Addresses are plain numbers in the device's own space; the host never reads through them. A launch with a wrong
/// address is the device's to refuse: a GPU reports an illegal access, an emulator a finding.
pub trait Device {
    /// An allocation; dropping it frees it.
    type Buffer;
    /// A loaded kernel; dropping it unloads it.
    type Kernel;

    /// Its compute capability, which the pack's architecture is checked against.
    fn capability(&self) -> ComputeCapability;

    /// The latest CUDA version its driver supports; None where code goes through no driver.
    fn driver(&self) -> Option<CudaVersion> {
        None
    }

    /// Multiprocessors: the variable `sms` of expressions.
    fn sm_count(&self) -> u32;

    /// Which file of a kernel it loads.
    fn wants(&self) -> ImageKind;

    /// Allocates `bytes`, aligned to 256, contents undefined. Nothing may be asked for with 0 bytes.
    fn alloc(&self, bytes: u64) -> Result<Self::Buffer, DeviceError>;

    /// Says what a buffer is called, for devices that tell about buffers in their messages.
    fn name(&self, buffer: &Self::Buffer, name: &str) {
        let _ = (buffer, name);
    }

    /// How it wants the workspaces of a plan. A device that watches every access keeps them apart, so that an access past the end
    /// of one or to what another left behind is seen.
    fn workspaces(&self) -> Workspaces {
        Workspaces::Packed
    }

    /// Where an allocation starts.
    fn address(&self, buffer: &Self::Buffer) -> u64;

    /// Copies `data` into `buffer` from byte `offset` on; done when it returns.
    fn upload(&self, buffer: &Self::Buffer, offset: u64, data: &[u8]) -> Result<(), DeviceError>;

    /// Copies from byte `offset` of `buffer` on into `data`, after every earlier launch.
    fn download(&self, buffer: &Self::Buffer, offset: u64, data: &mut [u8]) -> Result<(), DeviceError>;

    /// Makes a kernel ready to launch.
    fn load_kernel(&self, image: &KernelImage<'_>) -> Result<Self::Kernel, DeviceError>;

    /// The 128 bytes the hardware reads for `desc`. A device that reads [`TensorMapArg::desc`] instead keeps this default.
    fn encode_tensor_map(&self, desc: &TensorMapDesc) -> Result<EncodedTensorMap, DeviceError> {
        let _ = desc;
        Ok(EncodedTensorMap::default())
    }

    /// Moves an encoded map to another base address. Called on the launch path: no allocation.
    fn rebase_tensor_map(&self, map: &mut TensorMapArg, address: u64) -> Result<(), DeviceError> {
        map.desc.address = address;
        map.encoded = self.encode_tensor_map(&map.desc)?;
        Ok(())
    }

    /// Queues a launch on `stream` (an emulator may run it at once). Called on the launch path: no allocation on success.
    ///
    /// `args` are the kernel's parameters in order.
    fn launch(&self, kernel: &Self::Kernel, geometry: &Geometry, args: &[ArgValue], stream: Stream) -> Result<(), DeviceError>;

    /// Waits for everything queued and reports what failed.
    fn sync(&self) -> Result<(), DeviceError>;
}

/// A queue of work: a `CUstream` as a number, 0 for the default stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream(pub usize);

/// How the workspaces of a plan lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workspaces {
    /// In one allocation; those that are never needed at the same time share memory.
    Packed,
    /// Each in an allocation of its own.
    Apart,
}

/// Which file of a kernel a device loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// PTX text.
    Ptx,
    /// Machine code; a kernel that has none is given as PTX.
    Cubin,
}

/// A kernel's code, its hash already checked.
#[derive(Clone, Copy, Debug)]
pub struct KernelImage<'a> {
    /// Its manifest entry: id, entry symbol, parameters, block, shared memory.
    pub kernel: &'a Kernel,
    /// What `bytes` are.
    pub kind: ImageKind,
    /// PTX text (UTF-8, no terminating zero) or a cubin.
    pub bytes: &'a [u8],
}

/// Sizes of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks, x y z.
    pub grid: [u32; 3],
    /// Threads of a block, x y z.
    pub block: [u32; 3],
    /// Blocks of a cluster, x y z.
    pub cluster: [u32; 3],
    /// Dynamic shared memory.
    pub shared_bytes: u32,
}

/// The value of a kernel parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum ArgValue {
    /// A device address.
    Ptr(u64),
    /// A 32-bit integer.
    I32(i32),
    /// A 64-bit integer.
    I64(i64),
    /// A single.
    F32(f32),
    /// A tensor map by value.
    TensorMap(Box<TensorMapArg>),
}

/// A tensor map as both sides see it.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorMapArg {
    /// What it says.
    pub desc: TensorMapDesc,
    /// What the hardware reads.
    pub encoded: EncodedTensorMap,
}

/// A tiled tensor map; only the first `rank` entries of each array count (`rank - 1` of `strides`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorMapDesc {
    /// Device address of the first element, a multiple of 16.
    pub address: u64,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, 1 to 5.
    pub rank: usize,
    /// Extents in elements, innermost first.
    pub dims: [u64; MAX_RANK],
    /// Bytes between neighbours along dims 1.. .
    pub strides: [u64; MAX_RANK - 1],
    /// Tile extents in elements, innermost first.
    pub box_dims: [u32; MAX_RANK],
    /// Steps in elements, innermost first.
    pub element_strides: [u32; MAX_RANK],
    /// Shared-memory swizzle.
    pub swizzle: Swizzle,
    /// Interleaved layout.
    pub interleave: Interleave,
    /// L2 sector promotion.
    pub l2_promotion: L2Promotion,
    /// What elements outside read as.
    pub oob: OobFill,
}

/// `CUtensorMap`: opaque, 128 bytes. CUDA 13 aligns it to 128 (12 to 64).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(128))]
pub struct EncodedTensorMap(pub [u64; 16]);

/// Why a device refused or failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The driver's library is not there.
    #[error("no NVIDIA driver: libcuda.so.1 not found on the library path; use --device emulator")]
    NoDriver,
    /// The driver is older than the calls used.
    #[error("NVIDIA driver supports CUDA {found}, and {needed} or later is needed: update the driver")]
    DriverTooOld {
        /// CUDA version of the driver.
        found: String,
        /// Oldest that works.
        needed: String,
    },
    /// No such device.
    #[error("no CUDA device {ordinal}: this machine has {count}")]
    NoDevice {
        /// Ordinal asked for.
        ordinal: u32,
        /// Devices present.
        count: u32,
    },
    /// A driver call failed.
    #[error("{what}: {call} failed with {name} ({text})")]
    Driver {
        /// What was being done, with the kernel or size.
        what: String,
        /// The driver function.
        call: &'static str,
        /// The driver's name for the error.
        name: String,
        /// The driver's words for it.
        text: String,
    },
    /// The device cannot do this, or found a fault while doing it.
    #[error("{what}: {why}")]
    Refused {
        /// What was being done.
        what: String,
        /// Why not.
        why: String,
    },
}

impl fmt::Display for ImageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ImageKind::Ptx => "PTX",
            ImageKind::Cubin => "cubin",
        })
    }
}
