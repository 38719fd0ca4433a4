//! Prints how fast the emulator is: warp instructions per second of a loop of arithmetic and shared memory on one
//! thread, and the times of a 512 x 512 x 512 wgmma GEMM in each of the numerics and of a flash attention.
//!
//! `cargo run --release -p tilewright-emulator --example speed`

use std::time::Instant;
use tilewright_emulator::tensor::swizzle::Swizzle;
use tilewright_emulator::tensor::tma::{Interleave, OobFill, TensorDType};
use tilewright_emulator::{Arg, Device, DeviceConfig, Fill, Launch, Module, Numerics, Severity, TensorMap};

const LOOP: &str = "
.version 8.6
.target sm_90a
.address_size 64
.visible .entry spin(.param .u64 out, .param .u32 rounds) {
    .reg .pred %p<2>;
    .reg .b32 %r<16>;
    .reg .b64 %rd<6>;
    .shared .align 16 .b8 buffer[4096];
    ld.param.b64 %rd1, [out];
    ld.param.b32 %r1, [rounds];
    mov.u32 %r2, %tid.x;
    cvt.rn.f32.u32 %r3, %r2;
    mov.b32 %r4, 0f3F800000;
    mov.b32 %r5, 0;
    shl.b32 %r6, %r2, 2;
    mov.b32 %r7, buffer;
    add.s32 %r8, %r7, %r6;
$loop:
    fma.rn.f32 %r4, %r4, 0f3F7FFF00, %r3;
    add.f32 %r3, %r3, 0f3F800000;
    xor.b32 %r9, %r5, %r2;
    and.b32 %r10, %r9, 255;
    shl.b32 %r11, %r10, 4;
    mad.lo.s32 %r12, %r11, 3, %r9;
    st.shared.b32 [%r8], %r12;
    ld.shared.b32 %r13, [%r8];
    max.f32 %r4, %r4, %r3;
    cvt.u64.u32 %rd2, %r13;
    add.s64 %rd3, %rd1, %rd2;
    add.s32 %r5, %r5, 1;
    setp.lt.u32 %p1, %r5, %r1;
    @%p1 bra $loop;
    mul.wide.u32 %rd4, %r2, 4;
    add.s64 %rd5, %rd1, %rd4;
    st.global.b32 [%rd5], %r4;
    ret;
}";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let module = Module::parse(LOOP)?;
    let mut device = Device::new(DeviceConfig::default());
    let out = device.alloc(4096, Fill::Undefined)?;
    let launch = Launch {
        entry: "spin".into(),
        block: [128, 1, 1],
        args: vec![Arg::U64(device.address(out)), Arg::U32(200_000)],
        ..Launch::default()
    };
    let start = Instant::now();
    let report = device.launch(&module, &launch)?;
    let seconds = start.elapsed().as_secs_f64();
    for finding in &report.findings {
        println!("{finding:?}");
    }
    let rate = report.counters.warp_instructions as f64 / seconds / 1e6;
    println!("{} warp instructions in {seconds:.3} s: {rate:.1} M/s", report.counters.warp_instructions);
    for numerics in [Numerics::Fast, Numerics::Exact, Numerics::Ring] {
        gemm(numerics)?;
    }
    attention()
}

/// Flash attention by Triton: one head, 512 queries and keys of 128, with every check.
fn attention() -> Result<(), Box<dyn std::error::Error>> {
    const S: u64 = 512;
    let module = Module::parse(include_str!("../tests/foreign/ptx/attention_d128_39.sm_90a.ptx"))?;
    let mut device = Device::new(DeviceConfig::default());
    let ones = 0x3f80u16.to_le_bytes().repeat((S * 128) as usize);
    let mut args = Vec::new();
    for _ in 0..3 {
        let input = device.alloc(2 * S * 128, Fill::Bytes(&ones))?;
        args.push(Arg::U64(device.address(input)));
    }
    let out = device.alloc(2 * S * 128, Fill::Undefined)?;
    let sums = device.alloc(4 * S, Fill::Undefined)?;
    args.extend([out, sums].map(|id| Arg::U64(device.address(id))));
    args.extend([Arg::F32(0.088), Arg::U32(S as u32), Arg::U64(0), Arg::U64(0)]);
    let launch = Launch {
        entry: "attention".into(),
        grid: [S as u32 / 128, 1, 1],
        block: [256, 1, 1],
        dynamic_shared_bytes: 98_304,
        args,
        ..Launch::default()
    };
    let start = Instant::now();
    let report = device.launch(&module, &launch)?;
    let seconds = start.elapsed().as_secs_f64();
    let wrong = report.findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    println!("Triton attention {S} by 128 in {seconds:.3} s on all threads, {wrong} errors");
    Ok(())
}

fn gemm(numerics: Numerics) -> Result<(), Box<dyn std::error::Error>> {
    const N: u64 = 512;
    let module = Module::parse(include_str!("../tests/ptx/llvm/gemm_sm90.ptx"))?;
    let mut device = Device::new(DeviceConfig { numerics, ..DeviceConfig::default() });
    let ones = 0x3f80u16.to_le_bytes().repeat((N * N) as usize);
    let out = device.alloc(4 * N * N, Fill::Undefined)?;
    let mut args = Vec::new();
    for _ in 0..2 {
        let input = device.alloc(2 * N * N, Fill::Bytes(&ones))?;
        let map = TensorMap {
            dtype: TensorDType::Bf16,
            base: device.address(input),
            dims: vec![N; 2],
            strides: vec![2 * N],
            box_dims: vec![64, 128],
            element_strides: vec![1; 2],
            swizzle: Swizzle::B128,
            interleave: Interleave::None,
            oob_fill: OobFill::Zero,
        };
        args.push(Arg::Bytes(device.encode_tensor_map(&map)?.to_vec()));
    }
    args.extend([Arg::U64(device.address(out)), Arg::U32(N as u32), Arg::U32(N as u32 / 64)]);
    let launch = Launch {
        entry: "gemm".into(),
        grid: [4, 4, 1],
        block: [384, 1, 1],
        dynamic_shared_bytes: 4 * 32_768 + 64,
        args,
        ..Launch::default()
    };
    let start = Instant::now();
    let report = device.launch(&module, &launch)?;
    let seconds = start.elapsed().as_secs_f64();
    let rate = report.counters.tensor_flops as f64 / 2.0 / seconds / 1e9;
    println!("{numerics:?} gemm {N}^3 in {seconds:.3} s on all threads: {rate:.1} GMAC/s, {} findings", report.findings.len());
    Ok(())
}
