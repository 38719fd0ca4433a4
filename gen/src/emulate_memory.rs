//! Memory of `gen emulate`: tensors and module variables of one schedule.

use crate::launch_file::{Alloc, LaunchFile};
use safetensors::Dtype;
use std::collections::BTreeMap;
use tilewright_emulator::{BufferId, Device, DeviceConfig, Fill, Module, Rendering};
use tilewright_ops::error::{Fail, Res, bad_input, failure, usage};
use tilewright_ops::tensors::{Tensor, Tensors};

/// Bytes that nothing wrote come out as this.
const UNWRITTEN: u8 = 0xCC;
/// Bytes that `alloc` may ask for in all.
const ALLOC_LIMIT: u64 = 8 << 30;
/// Outputs that are variables start like this.
const SYMBOL: &str = "symbol:";

/// A tensor on the device.
pub struct Placed {
    /// Where.
    pub id: BufferId,
    /// Element type.
    pub dtype: Dtype,
    shape: Vec<usize>,
}

/// A device and what is in it.
pub struct Memory {
    /// The device.
    pub device: Device,
    /// Tensors by name, variables as `symbol:name`.
    pub tensors: BTreeMap<String, Placed>,
}

/// What a run leaves behind.
#[derive(PartialEq)]
pub struct Left {
    /// Outputs; bytes that nothing wrote are 0xCC.
    pub tensors: Tensors,
    /// Bytes of each that nothing wrote.
    pub unwritten: BTreeMap<String, u64>,
}

impl Memory {
    /// Places the input, what `alloc` asks for, and the values of variables.
    pub fn new(config: DeviceConfig, module: &Module, file: &LaunchFile, inputs: &Tensors) -> Res<Memory> {
        let mut m = Memory { device: Device::new(config), tensors: BTreeMap::new() };
        for (name, t) in inputs {
            let id = m.device.alloc(t.data.len() as u64, Fill::Bytes(&t.data)).map_err(bad_input)?;
            m.place(name, Placed { id, dtype: t.dtype, shape: t.shape.clone() })?;
        }
        limit(file)?;
        for (name, a) in &file.alloc {
            if inputs.contains_key(name) {
                return usage(format!("tensor `{name}` is in the input file and in alloc: expected one of them"));
            }
            let (dtype, bytes) = size(name, a)?;
            let fill = if a.zero { Fill::Zero } else { Fill::Undefined };
            let id = m.device.alloc(bytes, fill).map_err(|e| Fail::Usage(format!("alloc `{name}`: {e}")))?;
            m.place(name, Placed { id, dtype, shape: a.shape.clone() })?;
        }
        m.symbols(module, file)?;
        let mut seen = Vec::new();
        for name in &file.outputs {
            if let Some(symbol) = name.strip_prefix(SYMBOL) {
                m.symbol(module, symbol)?;
            } else if !m.tensors.contains_key(name) {
                return usage(format!("output `{name}` is neither in the input file nor in alloc"));
            }
            if seen.contains(&name) {
                return usage(format!("output `{name}` stands twice"));
            }
            seen.push(name);
        }
        Ok(m)
    }

    /// The address of a byte of a tensor.
    pub fn address(&self, name: &str, offset: u64) -> Res<u64> {
        let t = self.tensors.get(name).filter(|_| !name.starts_with(SYMBOL));
        let t =
            t.ok_or_else(|| Fail::Usage(format!("there is no tensor `{name}`: expected one of the input file or of alloc")))?;
        let bytes = self.device.read(t.id).len() as u64;
        if offset > bytes {
            return usage(format!("offset {offset} is past the end of tensor `{name}`, which has {bytes} bytes"));
        }
        Ok(self.device.address(t.id) + offset)
    }

    /// Adds a tensor, whose name findings use.
    fn place(&mut self, name: &str, tensor: Placed) -> Res<()> {
        self.device.name(tensor.id, name).map_err(failure)?;
        self.tensors.insert(name.to_string(), tensor);
        Ok(())
    }

    /// The outputs.
    pub fn read(&self, names: &[String]) -> Left {
        let mut left = Left { tensors: Tensors::new(), unwritten: BTreeMap::new() };
        for name in names {
            let t = &self.tensors[name];
            let mut data = self.device.read(t.id).to_vec();
            data.iter_mut().zip(self.device.written(t.id)).filter(|(_, w)| !*w).for_each(|(b, _)| *b = UNWRITTEN);
            left.unwritten.insert(name.clone(), self.device.unwritten(t.id));
            left.tensors.insert(name.clone(), Tensor { dtype: t.dtype, shape: t.shape.clone(), data });
        }
        left
    }

    /// Names the tensors in a text report.
    pub fn name<'a>(&self, rendering: Rendering<'a>) -> Rendering<'a> {
        self.tensors.iter().fold(rendering, |r, (name, t)| r.name(name, &self.device, t.id))
    }

    /// The buffer of a variable, which becomes a tensor of bytes.
    fn symbol(&mut self, module: &Module, name: &str) -> Res<BufferId> {
        let id = self.device.symbol(module, name).map_err(|e| {
            let known = module.symbols().collect::<Vec<_>>().join(", ");
            Fail::Usage(format!("symbol `{name}`: {e}; it has {}", if known.is_empty() { "none" } else { &known }))
        })?;
        let shape = vec![self.device.read(id).len()];
        self.tensors.entry(format!("{SYMBOL}{name}")).or_insert(Placed { id, dtype: Dtype::U8, shape });
        Ok(id)
    }

    fn symbols(&mut self, module: &Module, file: &LaunchFile) -> Res<()> {
        for (name, s) in &file.symbols {
            let id = self.symbol(module, name)?;
            let bytes = match (&s.tensor, &s.bytes) {
                (Some(from), None) => {
                    let t = self.tensors.get(from).filter(|_| !from.starts_with(SYMBOL));
                    let t = t.ok_or_else(|| Fail::Usage(format!("symbol `{name}`: there is no tensor `{from}`")))?;
                    if self.device.unwritten(t.id) > 0 {
                        return usage(format!("symbol `{name}`: tensor `{from}` is undefined: expected one of the input file"));
                    }
                    let (dtype, shape, data) = (t.dtype, t.shape.clone(), self.device.read(t.id).to_vec());
                    self.tensors.insert(format!("{SYMBOL}{name}"), Placed { id, dtype, shape });
                    data
                }
                (None, Some(hex)) => unhex(hex)
                    .ok_or_else(|| Fail::Usage(format!("symbol `{name}`: bytes `{hex}` are not pairs of hex digits")))?,
                _ => return usage(format!("symbol `{name}`: expected exactly one of tensor, bytes")),
            };
            let room = self.device.read(id).len();
            if bytes.len() != room {
                return usage(format!("symbol `{name}` is {room} bytes, its value is {} bytes", bytes.len()));
            }
            self.device.write(id, &bytes).map_err(failure)?;
        }
        Ok(())
    }
}

/// All allocations together, before the first is made.
fn limit(file: &LaunchFile) -> Res<()> {
    let mut total = 0u64;
    for (name, a) in &file.alloc {
        let (_, bytes) = size(name, a)?;
        total = total.saturating_add(bytes);
        if total > ALLOC_LIMIT {
            return usage(format!("alloc `{name}`: its {bytes} bytes make {total} bytes in all, expected at most {ALLOC_LIMIT}"));
        }
    }
    Ok(())
}

/// Dtype and bytes of an allocation.
fn size(name: &str, a: &Alloc) -> Res<(Dtype, u64)> {
    let dtype = dtype(&a.dtype).map_err(|e| Fail::Usage(format!("alloc `{name}`: {e}")))?;
    let bits = a.shape.iter().try_fold(dtype.bitsize(), |bits, n| bits.checked_mul(*n));
    match bits {
        Some(bits) if bits % 8 == 0 => Ok((dtype, bits as u64 / 8)),
        Some(bits) => usage(format!("alloc `{name}`: {dtype:?} {:?} is {bits} bits, not whole bytes", a.shape)),
        None => usage(format!("alloc `{name}`: {dtype:?} {:?} is too large", a.shape)),
    }
}

/// A safetensors dtype by name.
pub fn dtype(name: &str) -> Res<Dtype> {
    serde_json::from_value(serde_json::Value::String(name.to_string()))
        .map_err(|_| Fail::Usage(format!("unknown dtype `{name}`: expected a safetensors dtype such as F32, BF16, I8")))
}

/// Bytes from pairs of hex digits.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let pair = |c: &[u8]| if let [high, low] = c { Some(digit(*high)? << 4 | digit(*low)?) } else { None };
    text.as_bytes().chunks(2).map(pair).collect()
}
