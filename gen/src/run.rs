//! `gen run`: an op on tensors from a file.

use crate::build::{build, compiler};
use crate::cli::RunArgs;
use crate::emulator_device::{self, EmulatorDevice, Found, SMS};
use crate::error::{Fail, Res, bad_input, failed, failure, usage};
use crate::gemm_run::{Shape, decode, launch, vars};
use crate::tensors::{self, Tensor, Tensors};
use crate::{dispatch, files, library};
use safetensors::Dtype;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tilewright_autotune::{Candidate, DeviceProfile, Sizes, rank};
use tilewright_ir::{Arch, DType};
use tilewright_runtime::cuda::CudaDevice;
use tilewright_runtime::device::{Device, ImageKind};
use tilewright_runtime::dispatch::{PlanIndex, Policy};
use tilewright_runtime::engine::Engine;
use tilewright_runtime::pack::Pack;
use tilewright_templates::gemm::*;

/// Work (multiply-adds) up to which the result is compared with the reference.
const REFERENCE_LIMIT: usize = 1 << 29;

/// What is asked, from the tensors and the keys.
struct Request {
    problem: GemmProblem,
    shape: Shape,
    /// Whether the tensors have a batch dimension.
    batched: bool,
    alpha: f32,
    splits: Option<u32>,
    config: Option<GemmConfig>,
    tensors: Tensors,
}

/// Runs the command.
pub fn run(args: &RunArgs) -> Res<()> {
    if args.op != "gemm" {
        return usage(format!("op `{}`: expected gemm; attention, sparse_conv and the other ops are not built yet", args.op));
    }
    [Some(&args.output), args.report.as_ref()].into_iter().flatten().try_for_each(|path| files::check_folder(path))?;
    let arch: Arch = args.target.parse().map_err(bad_input)?;
    let cuda = device_ordinal(&args.device)?;
    let request = request(&args.set, tensors::read(&args.input)?)?;
    let chosen = choose(arch, &request)?;
    let outcome = match cuda {
        None => emulated(arch, &request, &chosen)?,
        Some(ordinal) => {
            let device = CudaDevice::open(ordinal).map_err(failure)?;
            let engine = Engine::new(chosen.open()?, device).map_err(failure)?;
            let (out, _) = execute(&engine, &request, chosen.plan)?;
            Outcome {
                out,
                findings: Vec::new(),
                words: String::new(),
                counters: Value::Null,
                kernels: kernels(&engine, chosen.plan),
                plan: plan_id(&engine, chosen.plan),
            }
        }
    };
    let verified = compare(&request, &outcome.out);
    if let Some(path) = &args.report {
        let report = json!({
            "findings": outcome.findings, "kernel": outcome.kernels, "plan": outcome.plan, "counters": outcome.counters,
            "verified_against": verified.as_ref().map_or_else(|e| json!({"failed": e.to_string()}), Clone::clone),
            "device": args.device, "source": chosen.source,
        });
        files::write_whole(path, format!("{report:#}\n").as_bytes())?;
    }
    eprint!("{}", outcome.words);
    if let Some(f) = outcome.findings.iter().find(|f| emulator_device::is_error(&f.finding)) {
        return failed(format!("{}: {}", outcome.plan, emulator_device::describe(&f.finding)));
    }
    verified?;
    let [batch, m, n, _] = request.shape;
    let shape = if request.batched { vec![batch, m, n] } else { vec![m, n] };
    let d = Tensor { dtype: safetensors_dtype(request.problem.output), shape, data: outcome.out };
    tensors::write(&args.output, &Tensors::from([("d".to_string(), d)]))?;
    eprintln!("{} ({})", outcome.plan, chosen.source);
    Ok(())
}

/// What a run gave.
struct Outcome {
    out: Vec<u8>,
    findings: Vec<Found>,
    /// The findings in words.
    words: String,
    counters: Value,
    kernels: Vec<String>,
    plan: String,
}

/// `None` for the emulator.
fn device_ordinal(text: &str) -> Res<Option<u32>> {
    match text.split_once(':') {
        None if text == "emulator" => Ok(None),
        None if text == "cuda" => Ok(Some(0)),
        Some(("cuda", n)) if n.parse::<u32>().is_ok() => Ok(n.parse().ok()),
        _ => usage(format!("--device {text}: expected emulator or cuda:N")),
    }
}

/// A plan in a pack: the library's, or one made for the occasion.
struct Chosen {
    folder: std::path::PathBuf,
    /// Keeps a temporary pack alive.
    _temporary: Option<tempfile::TempDir>,
    plan: PlanIndex,
    source: &'static str,
}

impl Chosen {
    fn open(&self) -> Res<Pack> {
        Pack::open(&self.folder).map_err(bad_input)
    }
}

/// The library's best plan, unless a config or a split is asked for or the library has none.
fn choose(arch: Arch, r: &Request) -> Res<Chosen> {
    if r.config.is_none()
        && r.splits.is_none()
        && let Ok(root) = library::root()
    {
        let folder = root.join("kernels-generated").join(arch.caps().name);
        if folder.join("manifest.json").is_file() {
            let pack = Pack::open(&folder).map_err(bad_input)?;
            let mut v = vars(r.shape)?;
            v.set(tilewright_runtime::expr::VarId::SMS, i64::from(SMS)).map_err(failure)?;
            if let Ok(plan) = pack.dispatcher().select("gemm", &r.problem.class(), &v, Policy::Fastest) {
                // Every file of the plan is checked here, also those this device does not load.
                for launch in &pack.manifest().plans[plan.0 as usize].launches {
                    let kernel = pack.manifest().kernel(&launch.kernel).map(|i| &pack.manifest().kernels[i]);
                    for kind in [ImageKind::Ptx, ImageKind::Cubin] {
                        kernel.map(|k| pack.image(k, kind)).transpose().map_err(bad_input)?;
                    }
                }
                return Ok(Chosen { folder, _temporary: None, plan, source: "library" });
            }
        }
    }
    let (config, splits) = (r.config.map_or_else(|| default_config(arch, r), Ok)?, r.splits.unwrap_or(1));
    let made = plan(arch, &r.problem, &config, splits).map_err(bad_input)?;
    let mut built = build(arch, vec![made], &compiler(Some(1))?, &|_, _, _| {})?;
    dispatch::fill(arch, &mut built)?;
    let folder = tempfile::tempdir().map_err(failure)?;
    built.write(folder.path())?;
    Ok(Chosen { folder: folder.path().to_path_buf(), _temporary: Some(folder), plan: PlanIndex(0), source: "built" })
}

/// A config that fits the sizes: the model's choice among a few.
fn default_config(arch: Arch, r: &Request) -> Res<GemmConfig> {
    let [_, m, n, k] = r.shape;
    let p = &r.problem;
    let multiple = |x: usize, of: &[u32]| of.iter().copied().find(|a| x.is_multiple_of(*a as usize)).unwrap_or(1);
    let rows_aligned = k.is_multiple_of(8) && (p.b == BLayout::Nk || n.is_multiple_of(8));
    let mut list = Vec::new();
    if arch.is_hopper() && rows_aligned {
        let n_align = multiple(n, &[8, 2]);
        for (bm, bn, math_wgs) in [(128, 256, 2), (128, 128, 2), (64, 128, 1), (64, 64, 1), (64, 32, 1)] {
            let stages = (200 * 1024 / ((bm + bn) * 128)).min(8);
            list.push(GemmConfig::Wgmma(WgmmaConfig {
                bm,
                bn,
                bk: 64,
                stages,
                math_wgs,
                schedule: Schedule::Cooperative,
                cluster: Cluster::One,
                raster: 8,
                n_align,
                split: false,
            }));
        }
    }
    let load_align = multiple(if p.b == BLayout::Nk { k } else { gcd(k, n) }, &[8, 4, 2]);
    let n_align = multiple(n, &[2]);
    for (bm, bn, warps_m, warps_n) in [(128, 128, 2, 4), (64, 64, 2, 2), (16, 64, 1, 4)] {
        list.push(GemmConfig::Mma(MmaConfig {
            bm,
            bn,
            bk: 32,
            stages: 3,
            warps_m,
            warps_n,
            raster: 8,
            load_align,
            n_align,
            split: false,
        }));
    }
    list.retain(|c| c.check(p).is_ok());
    let ids: Vec<String> = list.iter().map(GemmConfig::to_string).collect();
    let candidates: Vec<Candidate> =
        list.iter().zip(&ids).map(|(config, id)| Candidate { id, problem: p, config, splits: 1 }).collect();
    let order = rank(&DeviceProfile::typical(arch), Sizes { m: m as f64, n: n as f64, k: k as f64 }, &candidates);
    order.first().map(|i| list[*i]).ok_or_else(|| failure(format!("no config of gemm fits class {} on {arch}", p.class())))
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn emulated(arch: Arch, r: &Request, chosen: &Chosen) -> Res<Outcome> {
    let (major, minor) = arch.caps().compute;
    let capability = tilewright_runtime::arch::ComputeCapability { major: major.into(), minor: minor.into() };
    let engine = Engine::new(chosen.open()?, EmulatorDevice::new(capability, 0, SMS)).map_err(bad_input)?;
    let (out, _) = execute(&engine, r, chosen.plan)?;
    let log = engine.device().take_log();
    let counters: serde_json::Map<String, Value> =
        log.counters.iter().map(|(k, c)| (k.clone(), serde_json::to_value(c).unwrap_or(Value::Null))).collect();
    Ok(Outcome {
        out,
        words: log.findings.iter().map(|f| engine.device().words(f)).collect(),
        findings: log.findings,
        counters: counters.into(),
        kernels: kernels(&engine, chosen.plan),
        plan: plan_id(&engine, chosen.plan),
    })
}

fn execute<D: Device>(engine: &Engine<D>, r: &Request, plan: PlanIndex) -> Res<(Vec<u8>, D::Buffer)> {
    launch(engine, plan, r.shape, r.alpha, &|name| r.tensors.get(name).map(|t| t.data.clone()))
}

fn kernels<D: Device>(engine: &Engine<D>, plan: PlanIndex) -> Vec<String> {
    engine.pack().manifest().plans[plan.0 as usize].launches.iter().map(|l| l.kernel.clone()).collect()
}

fn plan_id<D: Device>(engine: &Engine<D>, plan: PlanIndex) -> String {
    engine.pack().manifest().plans[plan.0 as usize].id.clone()
}

/// Compares with the f64 reference where that is affordable.
fn compare(r: &Request, out: &[u8]) -> Res<Value> {
    let [batch, m, n, k] = r.shape;
    let work = batch * m * n * k * r.problem.gates() as usize;
    if work > REFERENCE_LIMIT {
        return Ok(json!({"reference": null, "why": format!("{work} multiply-adds are more than {REFERENCE_LIMIT}")}));
    }
    let p = &r.problem;
    let numbers = |name: &str, d: DType| r.tensors.get(name).map(|t| decode(d, &t.data)).unwrap_or_default();
    let o = Operands {
        shape: r.shape,
        a: numbers("a", p.input),
        b: numbers("b", p.input),
        bias: numbers("bias", p.input),
        residual: numbers("residual", p.output),
        alpha: f64::from(r.alpha),
    };
    if [&o.a, &o.b, &o.bias, &o.residual].iter().any(|v| v.iter().any(|x| !x.is_finite())) {
        return Ok(json!({"reference": null, "why": "the inputs hold infinities or NaNs"}));
    }
    let reference = reference(p, &o);
    let found = decode(p.output, out);
    if let Some((i, x, want, bound)) = reference.first_miss(&found) {
        return failed(format!("element {i} of d is {x}, the f64 reference {want}, the bound {bound:e}"));
    }
    let worst = found.iter().zip(&reference.value).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    Ok(json!({"reference": "f64", "elements": found.len(), "max_error": worst, "bound": "2*|lowp-ref| + slack"}))
}

/// Checks keys and tensors against each other.
fn request(set: &[String], tensors: Tensors) -> Res<Request> {
    let mut keys: BTreeMap<&str, &str> = BTreeMap::new();
    for s in set {
        let (k, v) = s.split_once('=').ok_or_else(|| Fail::Usage(format!("--set {s}: expected key=value")))?;
        if keys.insert(k, v).is_some() {
            return usage(format!("--set {k} stands twice"));
        }
    }
    const KEYS: [&str; 6] = ["out", "act", "alpha", "b", "split_k", "config"];
    for k in keys.keys() {
        if *k == "weight" {
            return usage("key `weight`: low-bit weights are not built yet; give b in the dtype of a");
        }
        if !KEYS.contains(k) {
            return usage(format!("unknown key `{k}`: expected one of {}", KEYS.join(", ")));
        }
    }
    const TENSORS: [&str; 4] = ["a", "b", "bias", "residual"];
    if let Some(name) = tensors.keys().find(|n| !TENSORS.contains(&n.as_str())) {
        let hint = if name.contains("scale") { "; scaled 8-bit inputs are not built yet" } else { "" };
        return usage(format!("unknown tensor `{name}`: expected a, b, and optionally bias, residual{hint}"));
    }
    let need = |name: &str| tensors.get(name).ok_or_else(|| Fail::Usage(format!("tensor `{name}` is missing from the input")));
    let (a, b) = (need("a")?, need("b")?);
    let input = dtype_of("a", a, &[DType::BF16, DType::F16])?;
    let layout: BLayout = keys.get("b").map_or(Ok(BLayout::Nk), |v| v.parse()).map_err(bad_input)?;
    let act: Act = keys.get("act").map_or(Ok(Act::None), |v| v.parse()).map_err(bad_input)?;
    let output = match keys.get("out") {
        None => input,
        Some(v) => v
            .parse()
            .ok()
            .filter(|d| matches!(d, DType::BF16 | DType::F16 | DType::F32))
            .ok_or_else(|| Fail::Usage(format!("out = `{v}`: expected bf16, f16 or f32")))?,
    };
    let (bias, residual) = (tensors.contains_key("bias"), tensors.contains_key("residual"));
    let problem = GemmProblem { input, output, b: layout, act, bias, residual };
    let (shape, batched) = shape(&problem, a, b)?;
    let [batch, m, n, _] = shape;
    let expect = |name: &str, dtype: DType, want: Vec<usize>| -> Res<()> {
        let t = need(name)?;
        if dtype_of(name, t, &[dtype]).is_err() || t.shape != want {
            return usage(format!("tensor `{name}` is {}: expected {:?} {want:?}", t.describe(), safetensors_dtype(dtype)));
        }
        Ok(())
    };
    if dtype_of("b", b, &[input]).is_err() {
        return usage(format!("tensor `b` is {}: expected a's dtype, {:?}", b.describe(), a.dtype));
    }
    if bias {
        expect("bias", input, vec![n * problem.gates() as usize])?;
    }
    if residual {
        expect("residual", output, if batched { vec![batch, m, n] } else { vec![m, n] })?;
    }
    let alpha = keys
        .get("alpha")
        .map_or(Ok(1.0), |v| v.parse::<f32>().map_err(|_| Fail::Usage(format!("alpha = `{v}`: expected a number"))))?;
    let splits = keys
        .get("split_k")
        .map(|v| {
            v.parse::<u32>()
                .ok()
                .filter(|s| *s >= 1)
                .ok_or_else(|| Fail::Usage(format!("split_k = `{v}`: expected a whole number from 1")))
        })
        .transpose()?;
    let config = keys.get("config").map(|v| v.parse::<GemmConfig>().map_err(bad_input)).transpose()?;
    Ok(Request { problem, shape, batched, alpha, splits, config, tensors })
}

/// Batch, m, n, k of a and b; names the sizes that do not fit.
fn shape(p: &GemmProblem, a: &Tensor, b: &Tensor) -> Res<(Shape, bool)> {
    let rank = a.shape.len();
    if !(2..=3).contains(&rank) {
        return usage(format!("tensor `a` is {}: expected [m, k] or [batch, m, k]", a.describe()));
    }
    let order = if p.b == BLayout::Nk { "[n, k]" } else { "[k, n]" };
    if b.shape.len() != rank {
        return usage(format!("tensor `b` is {}: expected {order} with as many dimensions as a, {}", b.describe(), a.describe()));
    }
    let (batch, m, k) = (if rank == 3 { a.shape[0] } else { 1 }, a.shape[rank - 2], a.shape[rank - 1]);
    let (wide, kb) =
        if p.b == BLayout::Nk { (b.shape[rank - 2], b.shape[rank - 1]) } else { (b.shape[rank - 1], b.shape[rank - 2]) };
    if kb != k {
        return usage(format!(
            "k differs: a is {:?} with k = {k}, b is {:?} as {order} with k = {kb}{}",
            a.shape,
            b.shape,
            if p.b == BLayout::Nk { " (--set b=kn takes [k, n])" } else { "" }
        ));
    }
    if rank == 3 && b.shape[0] != batch {
        return usage(format!("batch differs: a is {:?}, b is {:?}", a.shape, b.shape));
    }
    if !wide.is_multiple_of(p.gates() as usize) {
        return usage(format!("act=swiglu: b has {wide} columns of weights, which are not gate and up of equal number"));
    }
    let shape = [batch, m, wide / p.gates() as usize, k];
    if shape.contains(&0) {
        return usage(format!("a is {:?}, b is {:?}: every size must be at least 1", a.shape, b.shape));
    }
    if shape.iter().any(|s| *s > i32::MAX as usize / 4) {
        return usage(format!("a is {:?}, b is {:?}: sizes are limited to {}", a.shape, b.shape, i32::MAX / 4));
    }
    Ok((shape, rank == 3))
}

fn dtype_of(name: &str, t: &Tensor, allowed: &[DType]) -> Res<DType> {
    let found = [DType::BF16, DType::F16, DType::F32].into_iter().find(|d| safetensors_dtype(*d) == t.dtype);
    let names: Vec<String> = allowed.iter().map(|d| format!("{:?}", safetensors_dtype(*d))).collect();
    found
        .filter(|d| allowed.contains(d))
        .ok_or_else(|| Fail::Usage(format!("tensor `{name}` is {}: expected {}", t.describe(), names.join(" or "))))
}

fn safetensors_dtype(d: DType) -> Dtype {
    match d {
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        _ => Dtype::F32,
    }
}
