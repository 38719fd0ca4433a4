//! The runtime's device, played by the emulator: the same plans, the same dispatch, no GPU.

use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeMap;
use tilewright_emulator::tensor::swizzle::Swizzle as EmSwizzle;
use tilewright_emulator::tensor::tma::{Interleave as EmInterleave, OobFill as EmOob, TensorDType, TensorMap};
use tilewright_emulator::{
    Arg, BufferId, Counters, Device as Emulator, DeviceConfig, Fill, Finding, Launch, Module, Rendering, Severity,
};
use tilewright_runtime::arch::ComputeCapability;
use tilewright_runtime::device::{
    ArgValue, Device, DeviceError, Geometry, ImageKind, KernelImage, Stream, TensorMapDesc, Workspaces,
};
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::manifest::{Interleave, OobFill, Swizzle};

/// Multiprocessors of the emulated device: few, so that persistent kernels walk several tiles even on small problems.
pub const SMS: u32 = 8;

/// An emulated GPU.
pub struct EmulatorDevice {
    capability: ComputeCapability,
    sms: u32,
    emulator: RefCell<Emulator>,
    log: RefCell<Log>,
    /// What buffers are called.
    names: RefCell<Vec<(String, BufferId)>>,
    /// PTX text of the kernels that were loaded, by entry.
    texts: RefCell<BTreeMap<String, String>>,
}

/// What the launches so far had to say.
#[derive(Default)]
pub struct Log {
    /// Findings of all launches, one for each kernel, kind and line.
    pub findings: Vec<Found>,
    /// Counters of each launch.
    pub counters: Vec<(String, Counters)>,
}

/// A finding and where it belongs.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// The entry.
    pub kernel: String,
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
}

impl Found {
    /// Whether it is the same mistake, maybe at another time.
    pub fn is_again(&self, other: &Found) -> bool {
        let (a, b) = (&self.finding, &other.finding);
        self.kernel == other.kernel && a.kind == b.kind && a.line == b.line && a.severity == b.severity
    }
}

impl EmulatorDevice {
    /// A device of a compute capability; `seed` picks the schedule.
    pub fn new(capability: ComputeCapability, seed: u64, sms: u32) -> Self {
        let emulator = Emulator::new(DeviceConfig { seed, sm_count: sms, ..DeviceConfig::default() });
        EmulatorDevice {
            capability,
            sms,
            emulator: RefCell::new(emulator),
            log: RefCell::default(),
            names: RefCell::default(),
            texts: RefCell::default(),
        }
    }

    /// Takes what was found and counted since the last call.
    pub fn take_log(&self) -> Log {
        self.log.take()
    }

    /// A finding in words, with the lines of the kernel it is about.
    pub fn words(&self, found: &Found) -> String {
        let (texts, path) = (self.texts.borrow(), format!("{}.ptx", found.kernel));
        let text = texts.get(&found.kernel).map_or("", String::as_str);
        let emulator = self.emulator.borrow();
        let names = self.names.borrow();
        names.iter().fold(Rendering::new(text, &path), |r, (name, id)| r.name(name, &emulator, *id)).finding(&found.finding)
    }

    /// Bytes of a buffer that nothing has written yet.
    pub fn unwritten(&self, buffer: BufferId) -> u64 {
        self.emulator.borrow().unwritten(buffer)
    }
}

/// A finding that fails a run.
pub fn is_error(f: &Finding) -> bool {
    f.severity == Severity::Error
}

/// `kind at PTX line N: message`; some are about no line.
pub fn describe(f: &Finding) -> String {
    let place = match (&f.source, f.line) {
        (_, 0) => String::new(),
        (None, line) => format!(" at PTX line {line}"),
        (Some(source), line) => format!(" at PTX line {line} ({source})"),
    };
    format!("{}{place}: {}", f.kind, f.message)
}

fn refused(what: &str, why: impl std::fmt::Display) -> DeviceError {
    DeviceError::Refused { what: what.to_string(), why: why.to_string() }
}

impl Device for EmulatorDevice {
    type Buffer = BufferId;
    type Kernel = (String, Module);

    fn capability(&self) -> ComputeCapability {
        self.capability
    }

    fn sm_count(&self) -> u32 {
        self.sms
    }

    fn wants(&self) -> ImageKind {
        ImageKind::Ptx
    }

    fn alloc(&self, bytes: u64) -> Result<BufferId, DeviceError> {
        self.emulator.borrow_mut().alloc(bytes, Fill::Undefined).map_err(|e| refused("allocating", e))
    }

    fn name(&self, buffer: &BufferId, name: &str) {
        // Only a buffer that is gone has no use for a name.
        let _ = self.emulator.borrow_mut().name(*buffer, name);
        self.names.borrow_mut().push((name.to_string(), *buffer));
    }

    fn workspaces(&self) -> Workspaces {
        Workspaces::Apart
    }

    fn address(&self, buffer: &BufferId) -> u64 {
        self.emulator.borrow().address(*buffer)
    }

    fn upload(&self, buffer: &BufferId, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        self.emulator.borrow_mut().write_at(*buffer, offset, data).map_err(|e| refused("copying to the device", e))
    }

    fn download(&self, buffer: &BufferId, offset: u64, data: &mut [u8]) -> Result<(), DeviceError> {
        let emulator = self.emulator.borrow();
        let from = emulator.read(*buffer).get(offset as usize..offset as usize + data.len());
        data.copy_from_slice(from.ok_or_else(|| refused("copying from the device", "past the end of the buffer"))?);
        Ok(())
    }

    fn load_kernel(&self, image: &KernelImage<'_>) -> Result<Self::Kernel, DeviceError> {
        let text = std::str::from_utf8(image.bytes).map_err(|e| refused(&image.kernel.id, e))?;
        let module = Module::parse(text).map_err(|e| refused(&image.kernel.id, e))?;
        self.texts.borrow_mut().insert(image.kernel.entry.clone(), text.to_string());
        Ok((image.kernel.entry.clone(), module))
    }

    fn launch(&self, kernel: &Self::Kernel, g: &Geometry, args: &[ArgValue], _: Stream) -> Result<(), DeviceError> {
        let (entry, module) = kernel;
        let mut emulator = self.emulator.borrow_mut();
        let args: Result<Vec<Arg>, DeviceError> = args
            .iter()
            .map(|a| {
                Ok(match a {
                    ArgValue::Ptr(p) => Arg::U64(*p),
                    ArgValue::I32(v) => Arg::U32(*v as u32),
                    ArgValue::I64(v) => Arg::U64(*v as u64),
                    ArgValue::F32(v) => Arg::F32(*v),
                    ArgValue::TensorMap(m) => {
                        Arg::Bytes(emulator.encode_tensor_map(&tensor_map(&m.desc)).map_err(|e| refused(entry, e))?.to_vec())
                    }
                })
            })
            .collect();
        let launch = Launch {
            entry: entry.clone(),
            grid: g.grid,
            block: g.block,
            cluster: g.cluster,
            dynamic_shared_bytes: g.shared_bytes,
            args: args?,
        };
        let report = emulator.launch(module, &launch).map_err(|e| refused(entry, e))?;
        let mut log = self.log.borrow_mut();
        for finding in report.findings {
            let found = Found { kernel: entry.clone(), finding };
            match log.findings.iter_mut().find(|known| known.is_again(&found)) {
                Some(known) => known.finding.count += found.finding.count,
                None => log.findings.push(found),
            }
        }
        log.counters.push((entry.clone(), report.counters));
        Ok(())
    }

    fn sync(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}

fn tensor_map(d: &TensorMapDesc) -> TensorMap {
    TensorMap {
        dtype: match d.dtype {
            Dtype::Bf16 => TensorDType::Bf16,
            Dtype::F16 => TensorDType::F16,
            Dtype::U8 | Dtype::I8 | Dtype::E4m3 | Dtype::E5m2 => TensorDType::U8,
            Dtype::I32 => TensorDType::S32,
            _ => TensorDType::F32,
        },
        base: d.address,
        dims: d.dims[..d.rank].to_vec(),
        strides: d.strides[..d.rank - 1].to_vec(),
        box_dims: d.box_dims[..d.rank].to_vec(),
        element_strides: d.element_strides[..d.rank].to_vec(),
        swizzle: match d.swizzle {
            Swizzle::None => EmSwizzle::None,
            Swizzle::B32 => EmSwizzle::B32,
            Swizzle::B64 => EmSwizzle::B64,
            Swizzle::B128 => EmSwizzle::B128,
        },
        interleave: match d.interleave {
            Interleave::None => EmInterleave::None,
            Interleave::B16 => EmInterleave::B16,
            Interleave::B32 => EmInterleave::B32,
        },
        oob_fill: match d.oob {
            OobFill::Zero => EmOob::Zero,
            OobFill::Nan => EmOob::Nan,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every thread writes 7 to `y`, or to the 4 bytes after it.
    fn kernel(offset: u32) -> String {
        format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 y) {{\n.reg .b64 %rd<2>;\n\
             ld.param.b64 %rd1, [y];\nst.global.u32 [%rd1+{offset}], 7;\nret;\n}}\n"
        )
    }

    /// The log of two launches on a named buffer, and its findings in words.
    fn twice(ptx: &str) -> Result<(Log, Vec<String>), Box<dyn std::error::Error>> {
        let device = EmulatorDevice::new(ComputeCapability { major: 8, minor: 0 }, 0, SMS);
        let buffer = device.alloc(4)?;
        device.name(&buffer, "y");
        let kernel = ("k".to_string(), Module::parse(ptx)?);
        device.texts.borrow_mut().insert("k".into(), ptx.into());
        let geometry = Geometry { grid: [1; 3], block: [64, 1, 1], cluster: [1; 3], shared_bytes: 0 };
        for _ in 0..2 {
            device.launch(&kernel, &geometry, &[ArgValue::Ptr(device.address(&buffer))], Stream::default())?;
        }
        let log = device.take_log();
        let words = log.findings.iter().map(|f| device.words(f)).collect();
        Ok((log, words))
    }

    #[test]
    fn findings_of_launches_are_told_once_with_names() -> Result<(), Box<dyn std::error::Error>> {
        let (log, words) = twice(&kernel(0))?;
        assert_eq!(log.counters.len(), 2);
        assert_eq!(log.findings.len(), 1, "{words:?}");
        assert!(!is_error(&log.findings[0].finding) && words[0].starts_with("lint[race-equal]"), "{words:?}");
        assert!(words[0].contains("--> k.ptx:7") && words[0].contains("`y` + 0x0"), "{words:?}");
        let (log, words) = twice(&kernel(4))?;
        let errors: Vec<&Found> = log.findings.iter().filter(|f| is_error(&f.finding)).collect();
        assert!(errors.len() == 1 && errors[0].finding.count == 128, "{words:?}");
        assert_eq!(describe(&errors[0].finding), "oob at PTX line 7: 4 bytes at offset 4 of `y`, which has 4 bytes");
        let json = serde_json::to_value(errors[0])?;
        assert_eq!((json["kernel"].as_str(), json["kind"].as_str()), (Some("k"), Some("oob")));
        Ok(())
    }
}
