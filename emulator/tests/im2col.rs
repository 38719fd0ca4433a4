//! An im2col copy to shared memory and back, against the loops of a convolution's input.

use tilewright_emulator::tensor::swizzle::Swizzle;
use tilewright_emulator::tensor::tma::{Interleave, OobFill, TensorDType};
use tilewright_emulator::{Arg, Device, DeviceConfig, Fill, FindingKind, Im2col, Launch, Module, TensorMap};

/// Loads 32 pixels of 64 channels at base pixel (w, h, n) with the filter at (dw, dh), and stores them to `y`, one row a pixel.
const LOAD: &str = "
.version 8.6
.target sm_90a
.address_size 64
.visible .entry k(.param .align 64 .b8 map[128], .param .u64 y, .param .u32 w, .param .u32 h, .param .u32 n, .param .u32 dw, .param .u32 dh)
.reqntid 128, 1, 1
{
    .reg .b16 %h<4>; .reg .b32 %r<32>; .reg .b64 %rd<8>; .reg .pred %p<4>;
    .shared .align 1024 .b8 tile[4096];
    .shared .align 8 .b64 bar;
    ld.param.u64 %rd1, [y]; ld.param.u32 %r1, [w]; ld.param.u32 %r2, [h]; ld.param.u32 %r3, [n];
    ld.param.u32 %r4, [dw]; ld.param.u32 %r5, [dh]; cvt.u16.u32 %h1, %r4; cvt.u16.u32 %h2, %r5;
    mov.u32 %r6, %tid.x; setp.ne.u32 %p1, %r6, 0; mov.b32 %r7, tile; mov.b32 %r8, bar; mov.b32 %r9, 0;
    @%p1 bra ready;
    mbarrier.init.shared::cta.b64 [%r8], 1;
    fence.mbarrier_init.release.cluster;
    mov.b64 %rd2, map; cvta.param.u64 %rd2, %rd2;
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r8], 4096;
    cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%r7], [%rd2, {%r9, %r1, %r2, %r3}], [%r8], {%h1, %h2};
ready:
    bar.sync 0;
again:
    mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r8], 0;
    @!%p2 bra again;
    shr.u32 %r10, %r6, 3; and.b32 %r11, %r10, 7; and.b32 %r12, %r6, 7; xor.b32 %r13, %r12, %r11;
    shl.b32 %r14, %r10, 7; shl.b32 %r15, %r13, 4; add.u32 %r16, %r7, %r14; add.u32 %r16, %r16, %r15;
    shl.b32 %r17, %r6, 4; cvt.u64.u32 %rd3, %r17; add.u64 %rd1, %rd1, %rd3;
    ld.shared.v4.b32 {%r20, %r21, %r22, %r23}, [%r16]; st.global.v4.b32 [%rd1], {%r20, %r21, %r22, %r23};
    ld.shared.v4.b32 {%r20, %r21, %r22, %r23}, [%r16+2048]; st.global.v4.b32 [%rd1+2048], {%r20, %r21, %r22, %r23};
    ret;
}";

/// Stores 32 pixels of 64 channels from shared memory, each word its own number.
const STORE: &str = "
.version 8.6
.target sm_90a
.address_size 64
.visible .entry k(.param .align 64 .b8 map[128], .param .u32 w, .param .u32 h)
.reqntid 32, 1, 1
{
    .reg .b32 %r<16>; .reg .b64 %rd<8>; .reg .pred %p<4>;
    .shared .align 1024 .b8 tile[4096];
    ld.param.u32 %r1, [w]; ld.param.u32 %r2, [h]; mov.u32 %r3, %tid.x; mov.b32 %r4, tile; mov.b32 %r5, 0;
fill:
    mad.lo.u32 %r6, %r5, 32, %r3; shl.b32 %r7, %r6, 2; add.u32 %r7, %r7, %r4; st.shared.b32 [%r7], %r6;
    add.u32 %r5, %r5, 1; setp.lt.u32 %p1, %r5, 32; @%p1 bra fill;
    fence.proxy.async.shared::cta; bar.sync 0;
    setp.ne.u32 %p2, %r3, 0; @%p2 bra done;
    mov.b32 %r8, 0; mov.b64 %rd1, map; cvta.param.u64 %rd1, %rd1;
    cp.async.bulk.tensor.4d.global.shared::cta.im2col_no_offs.bulk_group [%rd1, {%r8, %r1, %r2, %r8}], [%r4];
    cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;
done:
    ret;
}";

const C: u64 = 64;
const W: u64 = 7;
const H: u64 = 5;
const N: u64 = 2;

fn map(base: u64, swizzle: Swizzle) -> TensorMap {
    TensorMap {
        dtype: TensorDType::Bf16,
        base,
        dims: vec![C, W, H, N],
        strides: vec![2 * C, 2 * C * W, 2 * C * W * H],
        box_dims: vec![1; 4],
        element_strides: vec![1; 4],
        swizzle,
        interleave: Interleave::None,
        oob_fill: OobFill::Zero,
    }
}

/// Base pixels of a 3 by 3 filter with padding 1, in the order of the copy, from one of them on.
fn bases(from: [i64; 3]) -> Vec<[i64; 3]> {
    let all = (0..N as i64).flat_map(|n| (-1..H as i64 - 1).flat_map(move |h| (-1..W as i64 - 1).map(move |w| [w, h, n])));
    all.skip_while(|place| *place != from).collect()
}

#[test]
fn a_load_gathers_the_pixels_under_a_filter() {
    let module = Module::parse(LOAD).expect("PTX");
    let x: Vec<u16> = (0..C * W * H * N).map(|at| at as u16 + 1).collect();
    let bytes: Vec<u8> = x.iter().flat_map(|value| value.to_le_bytes()).collect();
    let window = Im2col { lower: vec![-1, -1], upper: vec![-1, -1], channels: 64, pixels: 32 };
    for (seed, from) in [[-1i64, -1, 0], [2, 1, 0], [4, 3, 1]].into_iter().enumerate() {
        for filter in [[0u32, 0], [1, 2], [2, 2]] {
            let mut device = Device::new(DeviceConfig { seed: seed as u64, ..DeviceConfig::default() });
            let input = device.alloc(bytes.len() as u64, Fill::Bytes(&bytes)).expect("memory");
            let y = device.alloc(4096, Fill::Undefined).expect("memory");
            let map = device.encode_im2col_map(&map(device.address(input), Swizzle::B128), &window).expect("a map");
            let [w, h, n] = from.map(|at| Arg::U32(at as u32));
            let [dw, dh] = filter.map(Arg::U32);
            let args = vec![Arg::Bytes(map.to_vec()), Arg::U64(device.address(y)), w, h, n, dw, dh];
            let launch = Launch { entry: "k".into(), block: [128, 1, 1], args, ..Launch::default() };
            let report = device.launch(&module, &launch).expect("a launch");
            assert!(report.findings.is_empty(), "{:#?}", report.findings);
            let got: Vec<u16> = device.read(y).chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]])).collect();
            let places = bases(from);
            for pixel in 0..32 {
                // Past the last image everything is outside.
                let [w, h, n] = places.get(pixel).copied().unwrap_or([0, 0, N as i64]);
                let (w, h) = (w + i64::from(filter[0]), h + i64::from(filter[1]));
                let inside = (0..W as i64).contains(&w) && (0..H as i64).contains(&h) && n < N as i64;
                for channel in 0..C as i64 {
                    let want = if inside { x[(channel + C as i64 * (w + W as i64 * (h + H as i64 * n))) as usize] } else { 0 };
                    assert_eq!(got[pixel * 64 + channel as usize], want, "pixel {pixel}, channel {channel}, filter {filter:?}");
                }
            }
        }
    }
}

#[test]
fn a_store_scatters_pixels() {
    let module = Module::parse(STORE).expect("PTX");
    let mut device = Device::new(DeviceConfig::default());
    let y = device.alloc(2 * C * W * H * N, Fill::Undefined).expect("memory");
    let window = Im2col { lower: vec![0, 0], upper: vec![0, 0], channels: 64, pixels: 32 };
    let map = device.encode_im2col_map(&map(device.address(y), Swizzle::None), &window).expect("a map");
    let args = vec![Arg::Bytes(map.to_vec()), Arg::U32(3), Arg::U32(1)];
    let launch = Launch { entry: "k".into(), block: [32, 1, 1], args, ..Launch::default() };
    let report = device.launch(&module, &launch).expect("a launch");
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    // From pixel (3, 1) on: 25 of the first image, 7 of the second.
    let first = (3 + W as usize) * 2 * C as usize;
    let got = device.read(y);
    let word = |at: usize| u32::from_le_bytes([got[at], got[at + 1], got[at + 2], got[at + 3]]);
    assert!((0..1024).all(|at| word(first + 4 * at) == at as u32));
    assert_eq!(device.unwritten(y), 2 * C * W * H * N - 4096);
}

#[test]
fn tiled_and_im2col_do_not_mix() {
    let module = Module::parse(STORE).expect("PTX");
    let mut device = Device::new(DeviceConfig::default());
    let y = device.alloc(2 * C * W * H * N, Fill::Undefined).expect("memory");
    let tiled = TensorMap { box_dims: vec![64, 4, 4, 2], ..map(device.address(y), Swizzle::None) };
    let args = vec![Arg::Bytes(device.encode_tensor_map(&tiled).expect("a map").to_vec()), Arg::U32(3), Arg::U32(1)];
    let launch = Launch { entry: "k".into(), block: [32, 1, 1], args, ..Launch::default() };
    let report = device.launch(&module, &launch).expect("a launch");
    assert!(report.findings.iter().any(|f| f.kind == FindingKind::Descriptor && f.message.contains("im2col copy")));
}
