//! The device behind a pack: a GPU, or the emulator where it is built in.

use std::fmt;
use std::str::FromStr;

use tilewright_runtime::arch::ComputeCapability;
use tilewright_runtime::compat::CudaVersion;
use tilewright_runtime::cuda::{CudaBuffer, CudaDevice, CudaKernel};
use tilewright_runtime::device::{
    ArgValue, Device, DeviceError, EncodedTensorMap, Geometry, ImageKind, KernelImage, Stream, TensorMapArg, TensorMapDesc,
    Workspaces,
};

#[cfg(feature = "emulator")]
use tilewright_emulator_device::{EmulatorBuffer, EmulatorDevice, EmulatorKernel, SMS, describe, is_error};

/// Which device: `cuda:1`, `cuda` (the first), `emulator`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceName {
    Cuda(u32),
    Emulator,
}

/// A device; its buffers and kernels are of its own kind.
pub enum AnyDevice {
    /// A GPU and its ordinal.
    Cuda(CudaDevice, u32),
    /// The emulator.
    #[cfg(feature = "emulator")]
    Emulator(EmulatorDevice),
}

/// Memory of a device.
pub enum AnyBuffer {
    /// Of a GPU.
    Cuda(CudaBuffer),
    /// Of the emulator.
    #[cfg(feature = "emulator")]
    Emulator(EmulatorBuffer),
}

/// A kernel that a device loaded.
pub enum AnyKernel {
    /// By a GPU's driver.
    Cuda(CudaKernel),
    /// By the emulator.
    #[cfg(feature = "emulator")]
    Emulator(EmulatorKernel),
}

impl AnyDevice {
    /// Opens a device; the emulator plays one of `capability`.
    pub(crate) fn open(name: DeviceName, capability: ComputeCapability) -> Result<Self, DeviceError> {
        match name {
            DeviceName::Cuda(ordinal) => Ok(AnyDevice::Cuda(CudaDevice::open(ordinal)?, ordinal)),
            #[cfg(feature = "emulator")]
            DeviceName::Emulator => Ok(AnyDevice::Emulator(EmulatorDevice::new(capability, 0, SMS))),
            #[cfg(not(feature = "emulator"))]
            DeviceName::Emulator => {
                let _ = capability;
                let why = "this library has none: build it with `cargo build --release -p tilewright-c --features emulator`";
                Err(DeviceError::Refused { what: "opening the emulator".to_owned(), why: why.to_owned() })
            }
        }
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ordinal = |text: &str| text.parse().ok().map(DeviceName::Cuda);
        let name = match text.split_once(':') {
            Some(("cuda", number)) => ordinal(number),
            None if text == "cuda" => Some(DeviceName::Cuda(0)),
            None if text == "emulator" => Some(DeviceName::Emulator),
            _ => None,
        };
        name.ok_or_else(|| format!("`{text}` is no device: expected `cuda:<ordinal>` or `emulator`"))
    }
}

impl fmt::Display for AnyDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnyDevice::Cuda(_, ordinal) => write!(f, "cuda:{ordinal}"),
            #[cfg(feature = "emulator")]
            AnyDevice::Emulator(_) => f.write_str("emulator"),
        }
    }
}

/// A buffer or kernel of one device given to another.
#[cfg(feature = "emulator")]
fn foreign<T>(what: &str) -> Result<T, DeviceError> {
    Err(DeviceError::Refused { what: what.to_owned(), why: "it belongs to another device".to_owned() })
}

/// The same call for every kind of device.
macro_rules! whichever {
    ($any:expr, $device:ident => $call:expr) => {
        match $any {
            AnyDevice::Cuda($device, _) => $call,
            #[cfg(feature = "emulator")]
            AnyDevice::Emulator($device) => $call,
        }
    };
}

impl Device for AnyDevice {
    type Buffer = AnyBuffer;
    type Kernel = AnyKernel;

    fn capability(&self) -> ComputeCapability {
        whichever!(self, device => device.capability())
    }

    fn driver(&self) -> Option<CudaVersion> {
        whichever!(self, device => device.driver())
    }

    fn sm_count(&self) -> u32 {
        whichever!(self, device => device.sm_count())
    }

    fn wants(&self) -> ImageKind {
        whichever!(self, device => device.wants())
    }

    fn alloc(&self, bytes: u64) -> Result<AnyBuffer, DeviceError> {
        match self {
            AnyDevice::Cuda(device, _) => device.alloc(bytes).map(AnyBuffer::Cuda),
            #[cfg(feature = "emulator")]
            AnyDevice::Emulator(device) => device.alloc(bytes).map(AnyBuffer::Emulator),
        }
    }

    fn name(&self, buffer: &AnyBuffer, name: &str) {
        // A GPU tells nothing about buffers.
        let _ = (buffer, name);
        #[cfg(feature = "emulator")]
        if let (AnyDevice::Emulator(device), AnyBuffer::Emulator(buffer)) = (self, buffer) {
            device.name(buffer, name);
        }
    }

    fn workspaces(&self) -> Workspaces {
        whichever!(self, device => device.workspaces())
    }

    fn address(&self, buffer: &AnyBuffer) -> u64 {
        match (self, buffer) {
            (AnyDevice::Cuda(device, _), AnyBuffer::Cuda(buffer)) => device.address(buffer),
            #[cfg(feature = "emulator")]
            (AnyDevice::Emulator(device), AnyBuffer::Emulator(buffer)) => device.address(buffer),
            #[cfg(feature = "emulator")]
            _ => 0,
        }
    }

    fn upload(&self, buffer: &AnyBuffer, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        match (self, buffer) {
            (AnyDevice::Cuda(device, _), AnyBuffer::Cuda(buffer)) => device.upload(buffer, offset, data),
            #[cfg(feature = "emulator")]
            (AnyDevice::Emulator(device), AnyBuffer::Emulator(buffer)) => device.upload(buffer, offset, data),
            #[cfg(feature = "emulator")]
            _ => foreign("copying to a buffer"),
        }
    }

    fn download(&self, buffer: &AnyBuffer, offset: u64, data: &mut [u8]) -> Result<(), DeviceError> {
        match (self, buffer) {
            (AnyDevice::Cuda(device, _), AnyBuffer::Cuda(buffer)) => device.download(buffer, offset, data),
            #[cfg(feature = "emulator")]
            (AnyDevice::Emulator(device), AnyBuffer::Emulator(buffer)) => device.download(buffer, offset, data),
            #[cfg(feature = "emulator")]
            _ => foreign("copying from a buffer"),
        }
    }

    fn load_kernel(&self, image: &KernelImage<'_>) -> Result<AnyKernel, DeviceError> {
        match self {
            AnyDevice::Cuda(device, _) => device.load_kernel(image).map(AnyKernel::Cuda),
            #[cfg(feature = "emulator")]
            AnyDevice::Emulator(device) => device.load_kernel(image).map(AnyKernel::Emulator),
        }
    }

    fn encode_tensor_map(&self, desc: &TensorMapDesc) -> Result<EncodedTensorMap, DeviceError> {
        whichever!(self, device => device.encode_tensor_map(desc))
    }

    fn rebase_tensor_map(&self, map: &mut TensorMapArg, address: u64) -> Result<(), DeviceError> {
        whichever!(self, device => device.rebase_tensor_map(map, address))
    }

    fn launch(&self, kernel: &AnyKernel, geometry: &Geometry, args: &[ArgValue], stream: Stream) -> Result<(), DeviceError> {
        match (self, kernel) {
            (AnyDevice::Cuda(device, _), AnyKernel::Cuda(kernel)) => device.launch(kernel, geometry, args, stream),
            // A finding fails the launch, as an illegal access fails it on a GPU.
            #[cfg(feature = "emulator")]
            (AnyDevice::Emulator(device), AnyKernel::Emulator(kernel)) => {
                let report = device.run(kernel, geometry, args)?;
                match report.findings.iter().find(|finding| is_error(finding)) {
                    Some(finding) => Err(DeviceError::Refused { what: "emulated launch".to_owned(), why: describe(finding) }),
                    None => Ok(()),
                }
            }
            #[cfg(feature = "emulator")]
            _ => foreign("launching a kernel"),
        }
    }

    fn sync(&self) -> Result<(), DeviceError> {
        whichever!(self, device => device.sync())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        assert_eq!("cuda".parse(), Ok(DeviceName::Cuda(0)));
        assert_eq!("cuda:3".parse(), Ok(DeviceName::Cuda(3)));
        assert_eq!("emulator".parse(), Ok(DeviceName::Emulator));
        for bad in ["", "cuda:", "cuda:-1", "gpu", "emulator:0", "cpu"] {
            let why = bad.parse::<DeviceName>().unwrap_err();
            assert_eq!(why, format!("`{bad}` is no device: expected `cuda:<ordinal>` or `emulator`"));
        }
    }
}
