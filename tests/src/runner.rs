//! From a kernel in the DSL to what it computes on the emulator: every floor below `gen` in a few lines.

use std::collections::BTreeMap;
use std::path::PathBuf;
use tilewright_codegen::{CodegenError, Compiled, Compiler, CompilerOptions, Inspect, WorkerCommand};
use tilewright_emulator::tensor::swizzle::Swizzle;
use tilewright_emulator::tensor::tma::{Interleave, OobFill, TensorDType};
use tilewright_emulator::{
    Arg, BufferId, Device, DeviceConfig, Fill, Launch, Module, Numerics, Rendering, Report, Severity, TensorMap,
};
use tilewright_ir::DType;
use tilewright_ir::layout::Swizzle as IrSwizzle;
use tilewright_ir::passes::{Lowered, ParamDesc, PassError, TensorMapDesc, lower};
use tilewright_ir::tile::Kernel;
use tilewright_runtime::expr::{Expr, VarId, Vars};

pub(crate) type Error = Box<dyn std::error::Error>;

/// Builds kernels.
pub struct Runner {
    compiler: Compiler,
}

/// A built kernel.
pub struct Built {
    /// Through the middle.
    pub lowered: Lowered,
    /// Through LLVM, and ptxas where there is one.
    pub compiled: Compiled,
    module: Module,
}

/// What a launch gave.
pub struct Ran {
    /// Bytes of each output, in the order asked for.
    pub outputs: Vec<Vec<u8>>,
    /// Bytes of each output that nothing wrote.
    pub unwritten: Vec<u64>,
    /// Bytes of each input afterwards: a kernel may write some.
    pub inputs: Vec<Vec<u8>>,
    /// Findings that are errors, in words.
    pub errors: Vec<String>,
    /// Findings that are lints, in words.
    pub lints: Vec<String>,
}

impl Runner {
    /// `worker` is the path of the tests' worker: `env!("CARGO_BIN_EXE_tilewright-tests-worker")`.
    pub fn new(worker: &str) -> Self {
        Self::with_worker(WorkerCommand { program: PathBuf::from(worker), args: Vec::new() })
    }

    /// As [`Self::new`] with any worker.
    pub fn with_worker(worker: WorkerCommand) -> Self {
        Self::inspecting(worker, Inspect::WhenPtxasComplains)
    }

    /// As [`Self::new`], and every kernel is held to the whole SASS contract and has a report of its instructions.
    pub fn of_contract(worker: &str) -> Self {
        Self::inspecting(WorkerCommand { program: PathBuf::from(worker), args: Vec::new() }, Inspect::Always)
    }

    fn inspecting(worker: WorkerCommand, inspect: Inspect) -> Self {
        Runner { compiler: Compiler::new(CompilerOptions { inspect, ..CompilerOptions::new(worker) }) }
    }

    /// Lowers and compiles; where ptxas is there, it must report neither spills nor local memory nor trouble with wgmma.
    pub fn build(&self, kernel: &Kernel) -> Result<Built, Error> {
        let lowered = lower(kernel.clone()).map_err(|e: PassError| e.to_string())?;
        let compiled = self.compiler.compile(&lowered.lane).map_err(|e: CodegenError| e.to_string())?;
        let module = Module::parse(&compiled.ptx)?;
        Ok(Built { lowered, compiled, module })
    }
}

impl Built {
    /// The same kernel with other PTX: what a mutant does.
    pub fn with_ptx(&self, ptx: String) -> Result<Built, Error> {
        let module = Module::parse(&ptx)?;
        Ok(Built { lowered: self.lowered.clone(), compiled: Compiled { ptx, ..self.compiled.clone() }, module })
    }

    /// Launches once under schedule `seed`. `ints` are the shape variables, `floats` the F32 scalars; `inputs` go by tensor
    /// name; `outputs` name a tensor and its bytes, which start undefined.
    pub fn run(
        &self,
        ints: &[(&str, i64)],
        floats: &[(&str, f32)],
        inputs: &[(&str, &[u8])],
        outputs: &[(&str, usize)],
        seed: u64,
    ) -> Result<Ran, Error> {
        self.run_as(ints, floats, inputs, outputs, seed, Numerics::Fast)
    }

    /// As [`Self::run`] in a numeric mode.
    pub fn run_as(
        &self,
        ints: &[(&str, i64)],
        floats: &[(&str, f32)],
        inputs: &[(&str, &[u8])],
        outputs: &[(&str, usize)],
        seed: u64,
        numerics: Numerics,
    ) -> Result<Ran, Error> {
        let mut device = Device::new(DeviceConfig { seed, numerics, ..DeviceConfig::default() });
        let mut vars = Vars::new();
        vars.set(VarId::SMS, 4)?;
        for (name, value) in ints {
            vars.set(VarId::of(name), *value)?;
        }
        let mut buffers: Vec<(&str, BufferId)> = Vec::new();
        for (name, bytes) in inputs {
            buffers.push((name, device.alloc(bytes.len().max(1) as u64, Fill::Undefined)?));
            device.write(buffers[buffers.len() - 1].1, bytes)?;
        }
        for (name, bytes) in outputs {
            buffers.push((name, device.alloc((*bytes).max(1) as u64, Fill::Undefined)?));
        }
        for (name, id) in &buffers {
            device.name(*id, *name)?;
        }
        let addresses: BTreeMap<&str, u64> = buffers.iter().map(|(name, id)| (*name, device.address(*id))).collect();
        let report = self.launch(&mut device, &vars, floats, &addresses)?;
        let mut ran =
            Ran { outputs: Vec::new(), unwritten: Vec::new(), inputs: Vec::new(), errors: Vec::new(), lints: Vec::new() };
        for finding in &report.findings {
            let path = format!("{}.ptx", self.lowered.lane.name);
            let words = buffers.iter().fold(Rendering::new(&self.compiled.ptx, &path), |r, (n, id)| r.name(n, &device, *id));
            let list = if finding.severity == Severity::Error { &mut ran.errors } else { &mut ran.lints };
            list.push(words.finding(finding));
        }
        ran.inputs = buffers.iter().zip(inputs).map(|((_, id), (_, bytes))| device.read(*id)[..bytes.len()].to_vec()).collect();
        for ((_, id), (_, bytes)) in buffers[inputs.len()..].iter().zip(outputs) {
            ran.outputs.push(device.read(*id)[..*bytes].to_vec());
            ran.unwritten.push(device.unwritten(*id));
        }
        Ok(ran)
    }

    /// One launch on a device; `addresses` says where each of the kernel's tensors lies.
    pub(crate) fn launch(
        &self,
        device: &mut Device,
        vars: &Vars,
        floats: &[(&str, f32)],
        addresses: &BTreeMap<&str, u64>,
    ) -> Result<Report, Error> {
        let address =
            |name: &str| addresses.get(name).copied().ok_or_else(|| Error::from(format!("no tensor `{name}` was given")));
        let mut args = Vec::new();
        for p in &self.lowered.params {
            args.push(match p {
                ParamDesc::Ptr(name, _) => Arg::U64(address(name)?),
                ParamDesc::Scalar(name, DType::F32) => {
                    let hit = floats.iter().find(|f| f.0 == name).ok_or_else(|| format!("no scalar `{name}` was given"))?;
                    Arg::F32(hit.1)
                }
                ParamDesc::Scalar(name, _) => Arg::U32(number(name, vars)? as u32),
                ParamDesc::TensorMap(m) => {
                    Arg::Bytes(device.encode_tensor_map(&tensor_map(m, vars, address(&m.tensor)?)?)?.to_vec())
                }
            });
        }
        let mut grid = [0; 3];
        for (g, text) in grid.iter_mut().zip(&self.lowered.tile.grid) {
            *g = u32::try_from(number(text, vars)?)?;
        }
        // Nothing to do: runtimes leave such a launch out.
        if grid.contains(&0) {
            return Ok(Report::default());
        }
        let bounds = &self.lowered.lane.launch;
        let launch = Launch {
            entry: self.lowered.lane.name.clone(),
            grid,
            block: [bounds.threads, 1, 1],
            cluster: bounds.cluster,
            dynamic_shared_bytes: bounds.smem_bytes,
            args,
        };
        Ok(device.launch(&self.module, &launch)?)
    }
}

fn number(text: &str, vars: &Vars) -> Result<i64, Error> {
    Ok(text.parse::<Expr>()?.eval(vars)?)
}

fn tensor_map(m: &TensorMapDesc, vars: &Vars, base: u64) -> Result<TensorMap, Error> {
    let list = |texts: &[String]| texts.iter().map(|t| Ok(number(t, vars)? as u64)).collect::<Result<Vec<_>, Error>>();
    Ok(TensorMap {
        dtype: match m.dtype {
            DType::BF16 => TensorDType::Bf16,
            DType::F16 => TensorDType::F16,
            DType::F32 => TensorDType::F32,
            DType::U8 | DType::I8 | DType::E4M3 | DType::E5M2 => TensorDType::U8,
            _ => TensorDType::S32,
        },
        base,
        dims: list(&m.dims)?,
        strides: list(&m.strides)?,
        box_dims: m.box_dims.clone(),
        element_strides: vec![1; m.box_dims.len()],
        swizzle: match m.swizzle {
            IrSwizzle::None => Swizzle::None,
            IrSwizzle::B32 => Swizzle::B32,
            IrSwizzle::B64 => Swizzle::B64,
            IrSwizzle::B128 => Swizzle::B128,
        },
        interleave: Interleave::None,
        oob_fill: OobFill::Zero,
    })
}
