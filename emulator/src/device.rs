//! The device: memory, and the launches that work on it.

use crate::error::DeviceError;
use crate::memory::global::{Buffer, Freed, MAX_BYTES, MAX_SLOTS};
use crate::module::{Arch, Module};
use crate::parse::ast::InitItem;
use crate::tensor::Numerics;
use crate::tensor::im2col::Im2col;
use crate::tensor::tma::TensorMap;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Which findings a run collects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checks {
    /// Everything the emulator can tell.
    #[default]
    All,
    /// Only what would stop a kernel on a device; other misuse has its effects but is not reported.
    None,
}

/// How a device behaves.
#[derive(Clone, Copy, Debug)]
pub struct DeviceConfig {
    /// Architecture whose limits apply; a module's `.target` unless set.
    pub arch: Option<Arch>,
    /// What is reported.
    pub checks: Checks,
    /// How tensor cores and, in the ring, all floats compute.
    pub numerics: Numerics,
    /// The schedule. 0: warps in turn, asynchronous operations as early as possible. 1: as late as possible. Above,
    /// warps in random order, odd seeds late and even ones with random delays. Also moves buffers about.
    pub seed: u64,
    /// Multiprocessors, for `%nsmid`.
    pub sm_count: u32,
    /// Warp instructions one cluster may execute before it is given up as hung.
    pub max_steps: u64,
    /// Blocks that are resident together when blocks talk through global memory; all of them unless set.
    pub resident: Option<u32>,
}

impl Default for DeviceConfig {
    fn default() -> Self {
        DeviceConfig {
            arch: None,
            checks: Checks::All,
            numerics: Numerics::Fast,
            seed: 0,
            sm_count: 132,
            max_steps: 2_000_000_000,
            resident: None,
        }
    }
}

/// An allocation of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub(crate) u32);

/// What a new buffer holds.
#[derive(Clone, Copy, Debug)]
pub enum Fill<'a> {
    /// Nothing: reads before writes are findings.
    Undefined,
    /// Zero bytes.
    Zero,
    /// These bytes; the rest is undefined.
    Bytes(&'a [u8]),
}

/// A GPU, emulated.
///
/// ```
/// use tilewright_emulator::{Arg, Device, DeviceConfig, Fill, Launch, Module};
/// let ptx = "
/// .version 8.6
/// .target sm_80
/// .address_size 64
/// .visible .entry add(.param .u64 x) {
///     .reg .b32 %r<4>;
///     .reg .b64 %rd<4>;
///     ld.param.b64 %rd1, [x];
///     mov.u32 %r1, %tid.x;
///     mul.wide.u32 %rd2, %r1, 4;
///     add.s64 %rd3, %rd1, %rd2;
///     ld.global.b32 %r2, [%rd3];
///     add.s32 %r3, %r2, %r1;
///     st.global.b32 [%rd3], %r3;
///     ret;
/// }";
/// let module = Module::parse(ptx)?;
/// let mut device = Device::new(DeviceConfig::default());
/// let x = device.alloc(128, Fill::Zero)?;
/// let report = device.launch(
///     &module,
///     &Launch { entry: "add".into(), block: [32, 1, 1], args: vec![Arg::U64(device.address(x))], ..Launch::default() },
/// )?;
/// assert!(report.findings.is_empty());
/// assert_eq!(device.read(x)[4..8], [1, 0, 0, 0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Device {
    pub(crate) config: DeviceConfig,
    pub(crate) buffers: Vec<Result<Buffer, Freed>>,
    /// Places of freed buffers, the oldest first.
    gone: VecDeque<u32>,
    /// Variables of modules that were used, by module and index.
    symbols: FxHashMap<(u64, usize), BufferId>,
}

impl Device {
    /// A device without allocations.
    pub fn new(config: DeviceConfig) -> Self {
        Device { config, buffers: Vec::new(), gone: VecDeque::new(), symbols: FxHashMap::default() }
    }

    /// Allocates `bytes` bytes on a 256-byte boundary, far from everything else.
    pub fn alloc(&mut self, bytes: u64, fill: Fill<'_>) -> Result<BufferId, DeviceError> {
        if bytes > MAX_BYTES {
            return Err(DeviceError::TooLarge { bytes, limit: MAX_BYTES });
        }
        // Fresh places first: a late access to a freed buffer stays a finding as long as its place is not needed.
        let slot = match self.buffers.len() {
            fresh if fresh < MAX_SLOTS => fresh,
            live => self.gone.pop_front().ok_or(DeviceError::OutOfSlots { live })? as usize,
        };
        let mut buffer = Buffer::new(slot, bytes, self.config.seed);
        match fill {
            Fill::Undefined => {}
            Fill::Zero => buffer.zero(),
            Fill::Bytes(data) => {
                check_range(data.len(), 0, bytes)?;
                buffer.write(0, data);
            }
        }
        match self.buffers.get_mut(slot) {
            Some(place) => *place = Ok(buffer),
            None => self.buffers.push(Ok(buffer)),
        }
        Ok(BufferId(slot as u32))
    }

    /// Calls a buffer by a name in findings.
    ///
    /// # Errors
    /// A buffer that is gone.
    pub fn name(&mut self, id: BufferId, name: impl Into<String>) -> Result<(), DeviceError> {
        match self.buffers.get_mut(id.0 as usize) {
            Some(Ok(buffer)) => {
                buffer.name = Some(name.into());
                Ok(())
            }
            _ => Err(DeviceError::NoBuffer { id }),
        }
    }

    /// The address of the first byte, 0 for a buffer that is gone.
    pub fn address(&self, id: BufferId) -> u64 {
        self.live(id).map_or(0, |buffer| buffer.base)
    }

    /// Gives an allocation back: later accesses to it are findings.
    pub fn free(&mut self, id: BufferId) -> Result<(), DeviceError> {
        let slot = self.buffers.get_mut(id.0 as usize).ok_or(DeviceError::NoBuffer { id })?;
        match slot {
            Ok(buffer) => {
                *slot = Err(Freed { base: buffer.base, bytes: buffer.bytes });
                self.gone.push_back(id.0);
                Ok(())
            }
            Err(_) => Err(DeviceError::NoBuffer { id }),
        }
    }

    /// The bytes of a buffer; those never written are 0xCC. Empty for a buffer that is gone.
    pub fn read(&self, id: BufferId) -> &[u8] {
        self.live(id).map_or(&[], Buffer::bytes)
    }

    /// How many bytes of a buffer nobody wrote.
    pub fn unwritten(&self, id: BufferId) -> u64 {
        self.live(id).map_or(0, Buffer::unwritten)
    }

    /// For each byte of a buffer, whether it was written.
    pub fn written(&self, id: BufferId) -> Vec<bool> {
        self.live(id).map_or_else(Vec::new, |buffer| (0..buffer.bytes).map(|byte| buffer.is_written(byte)).collect())
    }

    /// Writes bytes from the start of a buffer.
    pub fn write(&mut self, id: BufferId, data: &[u8]) -> Result<(), DeviceError> {
        self.write_at(id, 0, data)
    }

    /// Writes bytes at an offset of a buffer.
    pub fn write_at(&mut self, id: BufferId, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        match self.buffers.get_mut(id.0 as usize) {
            Some(Ok(buffer)) => {
                check_range(data.len(), offset, buffer.bytes)?;
                buffer.write(offset, data);
                Ok(())
            }
            _ => Err(DeviceError::NoBuffer { id }),
        }
    }

    /// A tensor map as the 128 bytes a kernel takes: for a by-value parameter, or for global memory.
    ///
    /// # Errors
    /// The rule of `cuTensorMapEncodeTiled` that the map breaks.
    pub fn encode_tensor_map(&self, map: &TensorMap) -> Result<[u8; 128], DeviceError> {
        map.validate().map_err(|error| DeviceError::TensorMap(error.to_string()))?;
        Ok(crate::tensor_map::encode(map))
    }

    /// An im2col tensor map as the 128 bytes a kernel takes. Of `map` the box does not count.
    ///
    /// # Errors
    /// The rule of `cuTensorMapEncodeIm2col` that the map breaks.
    pub fn encode_im2col_map(&self, map: &TensorMap, window: &Im2col) -> Result<[u8; 128], DeviceError> {
        window.validate(map.rank()).map_err(|error| DeviceError::TensorMap(error.to_string()))?;
        // The row of a pixel keeps the rules of a box's row.
        let mut box_dims = vec![1; map.rank()];
        box_dims[0] = window.channels;
        let map = TensorMap { box_dims, ..map.clone() };
        map.validate().map_err(|error| DeviceError::TensorMap(error.to_string()))?;
        Ok(crate::tensor_map::encode_im2col(&map, window))
    }

    /// The buffer behind a `.global` or `.const` variable, which keeps its contents between launches.
    pub fn symbol(&mut self, module: &Module, name: &str) -> Result<BufferId, DeviceError> {
        self.load(module)?;
        let found = module.global_variables().find(|(_, variable)| variable.name == name);
        found
            .and_then(|(index, _)| self.symbols.get(&(module.id, index)).copied())
            .ok_or_else(|| DeviceError::NoSymbol { name: name.into() })
    }

    /// Allocates and initialises a module's variables, once.
    pub(crate) fn load(&mut self, module: &Module) -> Result<(), DeviceError> {
        let mut fresh = Vec::new();
        for (index, variable) in module.global_variables() {
            if !self.symbols.contains_key(&(module.id, index)) {
                // Variables without an initialiser are zero (PTX ISA 5.4.4).
                let id = self.alloc(variable.bytes, Fill::Zero)?;
                self.name(id, &variable.name)?;
                self.symbols.insert((module.id, index), id);
                fresh.push((index, id));
            }
        }
        for (index, id) in fresh {
            let mut at = 0;
            for item in &module.variables[index].init {
                let bytes = match item {
                    InitItem::Bytes(bytes) => bytes.clone(),
                    InitItem::Symbol { name, offset } => {
                        self.symbol_address(module, name)?.wrapping_add(*offset as u64).to_le_bytes().to_vec()
                    }
                    InitItem::SymbolByte { name, offset, byte } => {
                        let address = self.symbol_address(module, name)?.wrapping_add(*offset as u64);
                        address.to_le_bytes().get(*byte as usize).map(|byte| vec![*byte]).unwrap_or_default()
                    }
                };
                self.write_at(id, at, &bytes)?;
                at += bytes.len() as u64;
            }
        }
        Ok(())
    }

    /// The address of a variable or function by name.
    fn symbol_address(&self, module: &Module, name: &str) -> Result<u64, DeviceError> {
        if let Some((_, address)) = module.functions.iter().find(|(function, _)| function == name) {
            return Ok(*address);
        }
        let target = module.global_variables().find(|(_, variable)| variable.name == *name);
        let buffer = target.and_then(|(index, _)| self.symbols.get(&(module.id, index)).copied());
        buffer.map(|buffer| self.address(buffer)).ok_or_else(|| DeviceError::NoSymbol { name: name.into() })
    }

    /// Addresses of a loaded module's variables, by index.
    pub(crate) fn variable_addresses(&self, module: &Module) -> Vec<u64> {
        let address = |index| self.symbols.get(&(module.id, index)).map_or(0, |id| self.address(*id));
        (0..module.variables.len()).map(address).collect()
    }

    fn live(&self, id: BufferId) -> Option<&Buffer> {
        self.buffers.get(id.0 as usize)?.as_ref().ok()
    }
}

fn check_range(given: usize, offset: u64, size: u64) -> Result<(), DeviceError> {
    let given = given as u64;
    match offset.checked_add(given) {
        Some(end) if end <= size => Ok(()),
        _ => Err(DeviceError::OutOfRange { given, offset, size }),
    }
}
