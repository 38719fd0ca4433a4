//! A `.ptx` file with directives in its comments.

use std::collections::HashMap;
use tilewright_emulator::tensor::swizzle::Swizzle;
use tilewright_emulator::tensor::tma::{Interleave, OobFill, TensorDType};
use tilewright_emulator::{Arg, BufferId, Device, DeviceConfig, Fill, Launch, Module, Report, Severity, TensorMap};

#[derive(Clone, Debug)]
enum ArgSpec {
    Plain(Arg),
    Buffer(String),
    Map(MapSpec),
}

#[derive(Clone, Debug)]
struct MapSpec {
    buffer: String,
    dtype: TensorDType,
    fields: HashMap<String, String>,
}

#[derive(Clone, Debug)]
struct BufferSpec {
    name: String,
    bytes: Vec<u8>,
    size: u64,
    zero: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Expected {
    kind: String,
    lint: bool,
    line: u32,
    words: String,
}

#[derive(Clone, Debug, Default)]
pub struct Case {
    run: HashMap<String, String>,
    args: Vec<ArgSpec>,
    buffers: Vec<BufferSpec>,
    expect: Vec<(String, String, Vec<u8>)>,
    unwritten: Vec<(String, u64)>,
    counters: Vec<(String, u64)>,
    findings: Vec<Expected>,
    printed: Vec<String>,
}

type Result<T> = std::result::Result<T, String>;

fn fields(text: &str) -> HashMap<String, String> {
    text.split_whitespace().filter_map(|part| part.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
}

fn list(text: &str) -> Result<Vec<u64>> {
    text.split(',').map(|item| item.parse().map_err(|_| format!("`{item}` is not a number"))).collect()
}

fn number(ty: &str, text: &str) -> Result<Vec<u8>> {
    let bad = || format!("`{text}` is not a {ty}");
    let integer = || -> Result<i128> {
        match text.strip_prefix("0x") {
            Some(hex) => i128::from_str_radix(hex, 16).map_err(|_| bad()),
            None => text.parse().map_err(|_| bad()),
        }
    };
    Ok(match ty {
        "u8" => (integer()? as u8).to_le_bytes().to_vec(),
        "u16" => (integer()? as u16).to_le_bytes().to_vec(),
        "u32" | "s32" => (integer()? as u32).to_le_bytes().to_vec(),
        "u64" => (integer()? as u64).to_le_bytes().to_vec(),
        "f32" => text.parse::<f32>().map_err(|_| bad())?.to_le_bytes().to_vec(),
        "f64" => text.parse::<f64>().map_err(|_| bad())?.to_le_bytes().to_vec(),
        "bf16" => half::bf16::from_f32(text.parse().map_err(|_| bad())?).to_le_bytes().to_vec(),
        "f16" => half::f16::from_f32(text.parse().map_err(|_| bad())?).to_le_bytes().to_vec(),
        other => return Err(format!("unknown type {other}")),
    })
}

/// `1 2 iota(4) iota(4,10) fill(7,3)` as bytes.
fn values(ty: &str, items: &str) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for item in items.split_whitespace() {
        let call = item.strip_suffix(')').and_then(|item| item.split_once('('));
        match call {
            Some(("iota", args)) => {
                let args = list(args)?;
                let (count, start) = (args[0], args.get(1).copied().unwrap_or(0));
                for i in 0..count {
                    out.extend(number(ty, &(start + i).to_string())?);
                }
            }
            Some(("fill", args)) => {
                let (value, count) = args.split_once(',').ok_or("fill(value,count)")?;
                for _ in 0..count.parse::<u64>().map_err(|_| "fill count")? {
                    out.extend(number(ty, value)?);
                }
            }
            _ => out.extend(number(ty, item)?),
        }
    }
    Ok(out)
}

fn dtype(name: &str) -> Result<TensorDType> {
    Ok(match name {
        "u8" => TensorDType::U8,
        "u16" => TensorDType::U16,
        "u32" => TensorDType::U32,
        "bf16" => TensorDType::Bf16,
        "f16" => TensorDType::F16,
        "f32" => TensorDType::F32,
        other => return Err(format!("unknown element type {other}")),
    })
}

impl Case {
    pub fn parse(text: &str) -> Result<Case> {
        let mut case = Case::default();
        for (index, line) in text.lines().enumerate() {
            if let Some((_, marks)) = line.split_once("//~ ") {
                for mark in marks.split("//~ ") {
                    let (kind, words) = mark.trim().split_once(' ').unwrap_or((mark.trim(), ""));
                    case.findings.push(Expected {
                        kind: kind.trim_end_matches('?').into(),
                        lint: kind.ends_with('?'),
                        line: index as u32 + 1,
                        words: words.trim().into(),
                    });
                }
            }
            let Some(rest) = line.strip_prefix("// ") else { continue };
            let Some((directive, rest)) = rest.split_once(": ") else { continue };
            case.directive(directive, rest).map_err(|why| format!("line {}: {why}", index + 1))?;
        }
        Ok(case)
    }

    fn directive(&mut self, directive: &str, rest: &str) -> Result<()> {
        let mut words = rest.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default().to_string();
        match directive {
            "run" => self.run = fields(rest),
            "arg" | "buffer" => {
                let (kind, second, third) = if directive == "buffer" {
                    let (name, tail) = rest.split_once(' ').ok_or("buffer: name type values")?;
                    ("memory".to_string(), name.to_string(), tail.to_string())
                } else {
                    (word(), word(), word())
                };
                match kind.as_str() {
                    "in" | "memory" => {
                        let (ty, items) = third.split_once(' ').ok_or("in: name type values")?;
                        let bytes = values(ty, items)?;
                        let size = bytes.len() as u64;
                        self.buffers.push(BufferSpec { name: second.clone(), bytes, size, zero: false });
                        if kind == "in" {
                            self.args.push(ArgSpec::Buffer(second));
                        }
                    }
                    "out" | "zero" => {
                        let size = third.parse().map_err(|_| "out: name bytes")?;
                        let zero = kind == "zero";
                        self.buffers.push(BufferSpec { name: second.clone(), bytes: Vec::new(), size, zero });
                        self.args.push(ArgSpec::Buffer(second));
                    }
                    "again" => self.args.push(ArgSpec::Buffer(second)),
                    "map" => {
                        let (ty, tail) = third.split_once(' ').ok_or("map: buffer type fields")?;
                        self.args.push(ArgSpec::Map(MapSpec { buffer: second, dtype: dtype(ty)?, fields: fields(tail) }));
                    }
                    ty => self.args.push(ArgSpec::Plain(Arg::Bytes(number(ty, &second)?))),
                }
            }
            "expect" => {
                let (name, ty, items) = (word(), word(), word());
                self.expect.push((name, ty.clone(), values(&ty, &items)?));
            }
            "unwritten" => self.unwritten.push((word(), word().parse().map_err(|_| "unwritten: name bytes")?)),
            "printed" => self.printed.push(rest.replace("\\n", "\n")),
            "counter" => self.counters.push((word(), word().parse().map_err(|_| "counter: name value")?)),
            _ => {}
        }
        Ok(())
    }

    fn triple(&self, key: &str) -> Result<[u32; 3]> {
        let Some(text) = self.run.get(key) else { return Ok([1; 3]) };
        let mut out = [1; 3];
        for (slot, value) in out.iter_mut().zip(list(text)?) {
            *slot = value as u32;
        }
        Ok(out)
    }

    pub fn check(&self, text: &str) -> Result<()> {
        let module = match (Module::parse(text), self.findings.iter().find(|f| f.kind == "parse")) {
            (Ok(module), None) => module,
            (Ok(_), Some(expected)) => return Err(format!("line {} should be refused", expected.line)),
            (Err(error), Some(expected)) if error.line == expected.line && error.message.contains(&expected.words) => {
                return Ok(());
            }
            (Err(error), _) => return Err(error.to_string()),
        };
        let seeds = list(self.run.get("seeds").map_or("0", String::as_str))?;
        for seed in seeds {
            self.check_seed(&module, seed).map_err(|why| format!("seed {seed}: {why}"))?;
        }
        Ok(())
    }

    fn check_seed(&self, module: &Module, seed: u64) -> Result<()> {
        let (device, ids, report) = self.launch(module, DeviceConfig { seed, ..DeviceConfig::default() })?;
        self.check_findings(&report)?;
        if report.printed != self.printed {
            return Err(format!("printed {:?}, expected {:?}", report.printed, self.printed));
        }
        self.check_values(&device, &ids)?;
        let json = serde_json::to_value(report.counters).map_err(|error| error.to_string())?;
        for (name, value) in &self.counters {
            if json[name].as_u64() != Some(*value) {
                return Err(format!("counter {name} is {}, expected {value}", json[name]));
            }
        }
        Ok(())
    }

    /// Runs it whatever findings it expects; the second part says where memory is not as expected.
    ///
    /// # Errors
    /// Why it cannot be launched.
    pub fn run(&self, module: &Module, config: DeviceConfig) -> Result<(Report, Option<String>)> {
        let (device, ids, report) = self.launch(module, config)?;
        Ok((report, self.check_values(&device, &ids).err()))
    }

    fn launch(&self, module: &Module, config: DeviceConfig) -> Result<(Device, HashMap<&str, BufferId>, Report)> {
        let mut device = Device::new(config);
        let mut ids: HashMap<&str, BufferId> = HashMap::new();
        for spec in &self.buffers {
            let fill = if spec.zero { Fill::Zero } else { Fill::Bytes(&spec.bytes) };
            let id = device.alloc(spec.size, fill).map_err(|error| error.to_string())?;
            ids.insert(&spec.name, id);
        }
        let mut args = Vec::new();
        for spec in &self.args {
            args.push(match spec {
                ArgSpec::Plain(arg) => arg.clone(),
                ArgSpec::Buffer(name) => Arg::U64(device.address(*ids.get(name.as_str()).ok_or(format!("no buffer {name}"))?)),
                ArgSpec::Map(spec) => Arg::Bytes(self.map(&device, &ids, spec)?.to_vec()),
            });
        }
        let launch = Launch {
            entry: self.run.get("entry").cloned().unwrap_or_else(|| "k".into()),
            grid: self.triple("grid")?,
            block: self.triple("block")?,
            cluster: self.triple("cluster")?,
            dynamic_shared_bytes: self.run.get("shared").map_or(Ok(0), |v| v.parse()).map_err(|_| "shared")?,
            args,
        };
        let report = device.launch(module, &launch).map_err(|error| error.to_string())?;
        Ok((device, ids, report))
    }

    fn check_values(&self, device: &Device, ids: &HashMap<&str, BufferId>) -> Result<()> {
        for (name, ty, bytes) in &self.expect {
            let id = ids.get(name.as_str()).ok_or(format!("no buffer {name}"))?;
            let got = &device.read(*id)[..bytes.len().min(device.read(*id).len())];
            let size = number(ty, "0")?.len();
            for (index, (want, have)) in bytes.chunks(size).zip(got.chunks(size)).enumerate() {
                if want != have {
                    return Err(format!("{name}[{index}] is {}, expected {}", show(ty, have), show(ty, want)));
                }
            }
        }
        for (name, bytes) in &self.unwritten {
            let id = ids.get(name.as_str()).ok_or(format!("no buffer {name}"))?;
            let got = device.unwritten(*id);
            if got != *bytes {
                return Err(format!("{got} bytes of {name} are unwritten, expected {bytes}"));
            }
        }
        Ok(())
    }

    fn map(&self, device: &Device, ids: &HashMap<&str, BufferId>, spec: &MapSpec) -> Result<[u8; 128]> {
        let field = |name: &str| spec.fields.get(name).map_or("", String::as_str);
        let numbers = |name: &str| if field(name).is_empty() { Ok(Vec::new()) } else { list(field(name)) };
        let dims = numbers("dims")?;
        let narrow = |name: &str| Ok::<_, String>(numbers(name)?.into_iter().map(|v| v as u32).collect::<Vec<_>>());
        let steps = narrow("steps")?;
        let id = ids.get(spec.buffer.as_str()).ok_or(format!("no buffer {}", spec.buffer))?;
        let map = TensorMap {
            dtype: spec.dtype,
            base: device.address(*id),
            strides: numbers("strides")?,
            box_dims: narrow("box")?,
            element_strides: if steps.is_empty() { vec![1; dims.len()] } else { steps },
            swizzle: match field("swizzle") {
                "32" => Swizzle::B32,
                "64" => Swizzle::B64,
                "128" => Swizzle::B128,
                _ => Swizzle::None,
            },
            interleave: Interleave::None,
            oob_fill: if field("oob") == "nan" { OobFill::Nan } else { OobFill::Zero },
            dims,
        };
        device.encode_tensor_map(&map).map_err(|error| error.to_string())
    }

    fn check_findings(&self, report: &Report) -> Result<()> {
        let mut open = self.findings.clone();
        for finding in &report.findings {
            let kind = serde_json::to_value(finding.kind).map_err(|error| error.to_string())?;
            let kind = kind.as_str().unwrap_or_default();
            let lint = finding.severity == Severity::Lint;
            let found = open.iter().position(|expected| {
                expected.kind == kind
                    && expected.lint == lint
                    && expected.line == finding.line
                    && finding.message.contains(&expected.words)
            });
            match found {
                Some(at) => {
                    open.remove(at);
                }
                None => return Err(format!("unexpected {kind} at line {}: {}", finding.line, finding.message)),
            }
        }
        match open.first() {
            None => Ok(()),
            Some(missing) => Err(format!("no {} at line {}: {}", missing.kind, missing.line, missing.words)),
        }
    }
}

fn show(ty: &str, bytes: &[u8]) -> String {
    let mut all = [0; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    let bits = u64::from_le_bytes(all);
    match ty {
        "f32" => f32::from_bits(bits as u32).to_string(),
        "f64" => f64::from_bits(bits).to_string(),
        "bf16" => half::bf16::from_bits(bits as u16).to_string(),
        "f16" => half::f16::from_bits(bits as u16).to_string(),
        _ => format!("{bits:#x}"),
    }
}
