//! Emulator speed: a 512^3 Hopper GEMM with all checks in each of the numerics, and plain arithmetic in
//! warp-instructions a second on one core.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::path::Path;
use tilewright_codegen::{WorkerCommand, WorkerPool};
use tilewright_emulator::tensor::swizzle::Swizzle;
use tilewright_emulator::tensor::tma::{Interleave, OobFill, TensorDType, TensorMap};
use tilewright_emulator::{Arg, Device, DeviceConfig, Fill, Launch, Module, Numerics};
use tilewright_ir::passes::{Lowered, ParamDesc, lower};
use tilewright_ir::{Arch, DType};
use tilewright_runtime::expr::Vars;
use tilewright_templates::gemm::*;
use tilewright_templates::manifest::expr;

const SIZE: u64 = 512;
const SMS: u32 = 16;

/// A loop of dependent multiply-adds: one warp-instruction is little else than its own dispatch.
const ARITHMETIC: &str = "\
.version 8.0
.target sm_80
.address_size 64
.visible .entry spin(.param .u32 n)
{
  .reg .pred %p<2>;
  .reg .b32 %r<8>;
  ld.param.u32 %r1, [n];
  mov.u32 %r2, %tid.x;
  mov.u32 %r3, 0;
loop:
  mad.lo.s32 %r4, %r2, 3, %r3;
  xor.b32 %r5, %r4, %r2;
  shl.b32 %r6, %r5, 1;
  add.s32 %r2, %r6, %r4;
  add.s32 %r3, %r3, 1;
  setp.lt.u32 %p1, %r3, %r1;
  @%p1 bra loop;
  ret;
}
";

fn arithmetic(c: &mut Criterion) {
    let module = Module::parse(ARITHMETIC).expect("the bench's own PTX parses");
    let mut dev = Device::new(DeviceConfig::default());
    let trips = 20_000u32;
    let launch = Launch { entry: "spin".into(), block: [128, 1, 1], args: vec![Arg::U32(trips)], ..Launch::default() };
    let mut group = c.benchmark_group("emulator");
    group.sample_size(10);
    // Four warps of one CTA run on one thread: elements a second are warp-instructions a second and core.
    group.throughput(Throughput::Elements(u64::from(trips) * 7 * 4));
    group.bench_function("arithmetic, warp-instructions on one core", |b| b.iter(|| dev.launch(&module, &launch).expect("runs")));
    group.finish();
}

fn gemm(c: &mut Criterion) {
    let config = WgmmaConfig {
        bm: 128,
        bn: 128,
        bk: 64,
        stages: 4,
        math_wgs: 2,
        schedule: Schedule::Cooperative,
        cluster: Cluster::One,
        raster: 8,
        n_align: 8,
        split: false,
    };
    let kernel = build(Arch::Sm90a, &GemmProblem::plain(DType::BF16), &GemmConfig::Wgmma(config)).expect("a legal config");
    let lowered = lower(kernel.kernel).expect("a sound kernel");
    let worker = WorkerCommand { program: Path::new(env!("CARGO_BIN_EXE_bench-codegen-worker")).into(), args: Vec::new() };
    let ptx = WorkerPool::new(1, worker).compile(&lowered.lane.to_string()).expect("LLVM takes it").ptx;
    let module = Module::parse(&ptx).expect("the emulator knows every instruction");
    let mut group = c.benchmark_group("emulator");
    group.sample_size(10);
    group.throughput(Throughput::Elements(SIZE * SIZE * SIZE));
    for numerics in [Numerics::Fast, Numerics::Exact, Numerics::Ring] {
        let mut dev = Device::new(DeviceConfig { sm_count: SMS, numerics, ..DeviceConfig::default() });
        let bytes = vec![0x3Fu8; (SIZE * SIZE * 2) as usize];
        let buffers = ["a", "b", "d"].map(|name| (name, dev.alloc(SIZE * SIZE * 2, Fill::Bytes(&bytes)).expect("memory")));
        let args = args(&lowered, &dev, &|name| buffers.iter().find(|b| b.0 == name).map_or(0, |b| dev.address(b.1)));
        let launch = Launch {
            entry: lowered.lane.name.clone(),
            grid: [SMS, 1, 1],
            block: [lowered.lane.launch.threads, 1, 1],
            cluster: [1, 1, 1],
            dynamic_shared_bytes: lowered.lane.launch.smem_bytes,
            args,
        };
        let name = format!("sm90 GEMM 512^3, {numerics:?}, multiply-adds");
        group.bench_function(name, |b| b.iter(|| dev.launch(&module, &launch).expect("runs")));
    }
    group.finish();
}

fn args(l: &Lowered, dev: &Device, address: &dyn Fn(&str) -> u64) -> Vec<Arg> {
    let n = SIZE as i64;
    let eval = |text: &str| expr(text).map(|e| e.eval(&Vars::gemm(n, n, n))).expect("parses").expect("known variables");
    l.params
        .iter()
        .map(|p| match p {
            ParamDesc::Ptr(t, _) => Arg::U64(address(t)),
            ParamDesc::Scalar(_, DType::F32) => Arg::F32(1.0),
            ParamDesc::Scalar(name, _) => Arg::U32(eval(name) as u32),
            ParamDesc::TensorMap(t) => {
                let map = TensorMap {
                    dtype: TensorDType::Bf16,
                    base: address(&t.tensor),
                    dims: t.dims.iter().map(|d| eval(d) as u64).collect(),
                    strides: t.strides.iter().map(|s| eval(s) as u64).collect(),
                    box_dims: t.box_dims.clone(),
                    element_strides: vec![1; t.box_dims.len()],
                    swizzle: Swizzle::B128,
                    interleave: Interleave::None,
                    oob_fill: OobFill::Zero,
                };
                Arg::Bytes(dev.encode_tensor_map(&map).expect("a legal map").to_vec())
            }
        })
        .collect()
}

criterion_group!(benches, arithmetic, gemm);
criterion_main!(benches);
