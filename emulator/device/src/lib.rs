//! The runtime's device, played by the emulator: the same plans, the same dispatch, no GPU.

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tilewright_emulator::tensor::swizzle::Swizzle as EmSwizzle;
use tilewright_emulator::tensor::tma::{Interleave as EmInterleave, OobFill as EmOob, TensorDType, TensorMap};
use tilewright_emulator::{
    Arg, BufferId, Counters, Device as Emulator, DeviceConfig, Fill, Finding, Launch, Module, Rendering, Report, Severity,
};
use tilewright_runtime::arch::ComputeCapability;
use tilewright_runtime::device::{
    ArgValue, Device, DeviceError, Geometry, ImageKind, KernelImage, Stream, TensorMapDesc, Workspaces,
};
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::manifest::{Interleave, OobFill, Swizzle};

/// Multiprocessors of the emulated device: few, so that persistent kernels walk several tiles even on small problems.
pub const SMS: u32 = 8;

/// An emulated GPU. Threads may share it; their launches take turns.
pub struct EmulatorDevice {
    capability: ComputeCapability,
    sms: u32,
    /// Shared with the buffers, which free themselves.
    state: Arc<Mutex<State>>,
}

struct State {
    emulator: Emulator,
    log: Log,
    /// What live buffers are called.
    names: Vec<(String, BufferId)>,
    /// PTX text of the kernels that were loaded, by entry.
    texts: BTreeMap<String, String>,
}

/// Emulated device memory.
pub struct EmulatorBuffer {
    id: BufferId,
    state: Arc<Mutex<State>>,
}

/// A kernel's entry and the module it is in.
pub struct EmulatorKernel {
    entry: String,
    module: Module,
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
    /// Name, address and bytes of the buffers there were.
    #[serde(skip)]
    places: Vec<(String, u64, u64)>,
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
        let state = State { emulator, log: Log::default(), names: Vec::new(), texts: BTreeMap::new() };
        EmulatorDevice { capability, sms, state: Arc::new(Mutex::new(state)) }
    }

    /// Takes what was found and counted since the last call.
    pub fn take_log(&self) -> Log {
        std::mem::take(&mut lock(&self.state).log)
    }

    /// A finding in words, with the lines of the kernel it is about.
    pub fn words(&self, found: &Found) -> String {
        let (state, path) = (lock(&self.state), format!("{}.ptx", found.kernel));
        let text = state.texts.get(&found.kernel).map_or("", String::as_str);
        let places = found.places.iter();
        places.fold(Rendering::new(text, &path), |r, (name, at, bytes)| r.place(name, *at, *bytes)).finding(&found.finding)
    }

    /// Bytes of a buffer that nothing has written yet.
    pub fn unwritten(&self, buffer: &EmulatorBuffer) -> u64 {
        lock(&self.state).emulator.unwritten(buffer.id)
    }

    /// Runs a launch and gives its report, where [`Device::launch`] keeps findings and counters for [`Self::take_log`].
    pub fn run(&self, kernel: &EmulatorKernel, geometry: &Geometry, args: &[ArgValue]) -> Result<Report, DeviceError> {
        lock(&self.state).run(kernel, geometry, args)
    }
}

impl State {
    fn run(&mut self, kernel: &EmulatorKernel, g: &Geometry, args: &[ArgValue]) -> Result<Report, DeviceError> {
        let EmulatorKernel { entry, module } = kernel;
        let args: Result<Vec<Arg>, DeviceError> = args
            .iter()
            .map(|a| {
                Ok(match a {
                    ArgValue::Ptr(p) => Arg::U64(*p),
                    ArgValue::I32(v) => Arg::U32(*v as u32),
                    ArgValue::I64(v) => Arg::U64(*v as u64),
                    ArgValue::F32(v) => Arg::F32(*v),
                    ArgValue::TensorMap(m) => {
                        let encoded = self.emulator.encode_tensor_map(&tensor_map(&m.desc));
                        Arg::Bytes(encoded.map_err(|e| refused(entry, e))?.to_vec())
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
        self.emulator.launch(module, &launch).map_err(|e| refused(entry, e))
    }

    /// Keeps what a launch had to say.
    fn note(&mut self, entry: &str, report: Report) {
        let place =
            |(name, id): &(String, BufferId)| (name.clone(), self.emulator.address(*id), self.emulator.read(*id).len() as u64);
        for finding in report.findings {
            let found = Found { kernel: entry.to_string(), finding, places: self.names.iter().map(place).collect() };
            match self.log.findings.iter_mut().find(|known| known.is_again(&found)) {
                Some(known) => known.finding.count += found.finding.count,
                None => self.log.findings.push(found),
            }
        }
        self.log.counters.push((entry.to_string(), report.counters));
    }
}

impl Drop for EmulatorBuffer {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.names.retain(|(_, id)| *id != self.id);
        // The id is this buffer's alone, so it is live.
        let _ = state.emulator.free(self.id);
    }
}

/// The state, whatever a thread that panicked has left of it: a launch that ended early is one that wrote less.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
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
    type Buffer = EmulatorBuffer;
    type Kernel = EmulatorKernel;

    fn capability(&self) -> ComputeCapability {
        self.capability
    }

    fn sm_count(&self) -> u32 {
        self.sms
    }

    fn wants(&self) -> ImageKind {
        ImageKind::Ptx
    }

    fn alloc(&self, bytes: u64) -> Result<EmulatorBuffer, DeviceError> {
        let id = lock(&self.state).emulator.alloc(bytes, Fill::Undefined).map_err(|e| refused("allocating", e))?;
        Ok(EmulatorBuffer { id, state: Arc::clone(&self.state) })
    }

    fn name(&self, buffer: &EmulatorBuffer, name: &str) {
        let mut state = lock(&self.state);
        // Only a buffer that is gone has no use for a name.
        let _ = state.emulator.name(buffer.id, name);
        state.names.push((name.to_string(), buffer.id));
    }

    fn workspaces(&self) -> Workspaces {
        Workspaces::Apart
    }

    fn address(&self, buffer: &EmulatorBuffer) -> u64 {
        lock(&self.state).emulator.address(buffer.id)
    }

    fn upload(&self, buffer: &EmulatorBuffer, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        lock(&self.state).emulator.write_at(buffer.id, offset, data).map_err(|e| refused("copying to the device", e))
    }

    fn download(&self, buffer: &EmulatorBuffer, offset: u64, data: &mut [u8]) -> Result<(), DeviceError> {
        let state = lock(&self.state);
        let held = state.emulator.read(buffer.id);
        let from = usize::try_from(offset).ok().and_then(|from| held.get(from..from.checked_add(data.len())?));
        data.copy_from_slice(from.ok_or_else(|| refused("copying from the device", "past the end of the buffer"))?);
        Ok(())
    }

    fn load_kernel(&self, image: &KernelImage<'_>) -> Result<EmulatorKernel, DeviceError> {
        let text = std::str::from_utf8(image.bytes).map_err(|e| refused(&image.kernel.id, e))?;
        let module = Module::parse(text).map_err(|e| refused(&image.kernel.id, e))?;
        lock(&self.state).texts.insert(image.kernel.entry.clone(), text.to_string());
        Ok(EmulatorKernel { entry: image.kernel.entry.clone(), module })
    }

    fn launch(&self, kernel: &EmulatorKernel, g: &Geometry, args: &[ArgValue], _: Stream) -> Result<(), DeviceError> {
        let mut state = lock(&self.state);
        let report = state.run(kernel, g, args)?;
        state.note(&kernel.entry, report);
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
        let kernel = EmulatorKernel { entry: "k".to_string(), module: Module::parse(ptx)? };
        lock(&device.state).texts.insert("k".into(), ptx.into());
        let geometry = Geometry { grid: [1; 3], block: [64, 1, 1], cluster: [1; 3], shared_bytes: 0 };
        for _ in 0..2 {
            device.launch(&kernel, &geometry, &[ArgValue::Ptr(device.address(&buffer))], Stream::default())?;
        }
        let log = device.take_log();
        // Names outlive the buffers.
        drop(buffer);
        let words = log.findings.iter().map(|f| device.words(f)).collect();
        Ok((log, words))
    }

    #[test]
    fn threads_share_a_device_and_its_memory_comes_back() -> Result<(), Box<dyn std::error::Error>> {
        let device = EmulatorDevice::new(ComputeCapability { major: 8, minor: 0 }, 0, SMS);
        let kernel = EmulatorKernel { entry: "k".to_string(), module: Module::parse(&kernel(0))? };
        let geometry = Geometry { grid: [1; 3], block: [32, 1, 1], cluster: [1; 3], shared_bytes: 0 };
        let turns = |_| -> Result<(), DeviceError> {
            // More allocations in all than an emulator has places for.
            for _ in 0..2_500 {
                device.alloc(16)?;
            }
            let buffer = device.alloc(4)?;
            device.launch(&kernel, &geometry, &[ArgValue::Ptr(device.address(&buffer))], Stream::default())?;
            let mut back = [0; 4];
            device.download(&buffer, 0, &mut back)?;
            assert_eq!(back, [7, 0, 0, 0]);
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|i| scope.spawn(move || turns(i))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(refused("a thread", "it panicked"))))
        })?;
        Ok(())
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
