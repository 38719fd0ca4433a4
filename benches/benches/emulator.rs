//! Emulator speed, with all checks: warp-instructions a second on one core, of arithmetic and of arithmetic with shared
//! memory; a 512^3 Hopper GEMM in each of the numerics; Triton's flash attention.

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

/// Two accesses to shared memory among fourteen instructions.
const SHARED: &str = "\
.version 8.0
.target sm_80
.address_size 64
.visible .entry spin(.param .u32 n)
{
  .reg .pred %p<2>;
  .reg .b32 %r<16>;
  .shared .align 16 .b8 buffer[4096];
  ld.param.u32 %r1, [n];
  mov.u32 %r2, %tid.x;
  shl.b32 %r3, %r2, 2;
  mov.b32 %r4, buffer;
  add.s32 %r5, %r4, %r3;
  cvt.rn.f32.u32 %r6, %r2;
  mov.u32 %r7, 0;
loop:
  fma.rn.f32 %r6, %r6, 0f3F7FFF00, %r6;
  add.f32 %r6, %r6, 0f3F800000;
  xor.b32 %r8, %r7, %r2;
  and.b32 %r9, %r8, 255;
  shl.b32 %r10, %r9, 4;
  mad.lo.s32 %r11, %r10, 3, %r8;
  st.shared.b32 [%r5], %r11;
  ld.shared.b32 %r12, [%r5];
  max.f32 %r6, %r6, %r12;
  add.s32 %r13, %r12, %r11;
  sub.s32 %r2, %r13, %r11;
  add.s32 %r7, %r7, 1;
  setp.lt.u32 %p1, %r7, %r1;
  @%p1 bra loop;
  ret;
}
";

fn instructions(c: &mut Criterion) {
    spin(c, ARITHMETIC, 7, "arithmetic, warp-instructions on one core");
    spin(c, SHARED, 14, "with shared memory, warp-instructions on one core");
}

fn spin(c: &mut Criterion, text: &str, per_trip: u64, name: &str) {
    let module = Module::parse(text).expect("the bench's own PTX parses");
    let mut dev = Device::new(DeviceConfig::default());
    let trips = 20_000u32;
    let launch = Launch { entry: "spin".into(), block: [128, 1, 1], args: vec![Arg::U32(trips)], ..Launch::default() };
    let mut group = c.benchmark_group("emulator");
    group.sample_size(10);
    // Four warps of one CTA run on one thread: elements a second are warp-instructions a second and core.
    group.throughput(Throughput::Elements(u64::from(trips) * per_trip * 4));
    group.bench_function(name, |b| b.iter(|| dev.launch(&module, &launch).expect("runs")));
    group.finish();
}

fn gemm(c: &mut Criterion) {
    let config = WgmmaConfig::new([128, 128, 64], 4, 2);
    let kernel = build(Arch::Sm90a, &GemmProblem::plain(DType::BF16), &GemmConfig::Wgmma(config)).expect("a legal config");
    let lowered = lower(kernel.kernel).expect("a sound kernel");
    let worker = WorkerCommand { program: Path::new(env!("CARGO_BIN_EXE_bench-codegen-worker")).into(), args: Vec::new() };
    let ptx = WorkerPool::new(1, worker).compile(&lowered.lane.to_string()).expect("LLVM takes it").ptx;
    let module = Module::parse(&ptx).expect("the emulator knows every instruction");
    for (numerics, name) in [(Numerics::Fast, "fast"), (Numerics::Exact, "exact"), (Numerics::Ring, "ring")] {
        gemm_in(c, &lowered, &module, numerics, name);
    }
}

fn gemm_in(c: &mut Criterion, lowered: &Lowered, module: &Module, numerics: Numerics, name: &str) {
    let mut dev = Device::new(DeviceConfig { sm_count: SMS, numerics, ..DeviceConfig::default() });
    let bytes = vec![0x3Fu8; (SIZE * SIZE * 2) as usize];
    let buffers = ["a", "b", "d"].map(|name| (name, dev.alloc(SIZE * SIZE * 2, Fill::Bytes(&bytes)).expect("memory")));
    let args = args(lowered, &dev, &|name| buffers.iter().find(|b| b.0 == name).map_or(0, |b| dev.address(b.1)));
    let launch = Launch {
        entry: lowered.lane.name.clone(),
        grid: [SMS, 1, 1],
        block: [lowered.lane.launch.threads, 1, 1],
        cluster: [1, 1, 1],
        dynamic_shared_bytes: lowered.lane.launch.smem_bytes,
        args,
    };
    let mut group = c.benchmark_group("emulator");
    group.sample_size(10);
    group.throughput(Throughput::Elements(SIZE * SIZE * SIZE));
    let name = format!("sm90 GEMM 512^3, {name}, multiply-adds");
    group.bench_function(name, |b| b.iter(|| dev.launch(module, &launch).expect("runs")));
    group.finish();
}

/// One head of 512 queries and keys of 128, as Triton compiles it for sm_90a.
fn attention(c: &mut Criterion) {
    const TEXT: &str = include_str!("../../emulator/tests/foreign/ptx/attention_d128_39.sm_90a.ptx");
    let module = Module::parse(TEXT).expect("the emulator knows every instruction");
    let mut dev = Device::new(DeviceConfig::default());
    let ones = 0x3f80u16.to_le_bytes().repeat((SIZE * 128) as usize);
    let mut args = Vec::new();
    for _ in 0..3 {
        let input = dev.alloc(2 * SIZE * 128, Fill::Bytes(&ones)).expect("memory");
        args.push(Arg::U64(dev.address(input)));
    }
    for bytes in [2 * SIZE * 128, 4 * SIZE] {
        let output = dev.alloc(bytes, Fill::Undefined).expect("memory");
        args.push(Arg::U64(dev.address(output)));
    }
    args.extend([Arg::F32(0.088), Arg::U32(SIZE as u32), Arg::U64(0), Arg::U64(0)]);
    let (grid, block) = ([SIZE as u32 / 128, 1, 1], [256, 1, 1]);
    let launch = Launch { entry: "attention".into(), grid, block, dynamic_shared_bytes: 98_304, args, ..Launch::default() };
    let mut group = c.benchmark_group("emulator");
    group.sample_size(10);
    group.bench_function("Triton attention, 1 head, 512 by 128", |b| b.iter(|| dev.launch(&module, &launch).expect("runs")));
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

criterion_group!(benches, instructions, gemm, attention);
criterion_main!(benches);
