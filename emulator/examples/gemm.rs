//! Runs a warp-specialised wgmma GEMM and prints the time.
use std::time::Instant;
use tilewright_emulator::*;
use tilewright_emulator::tensor::{swizzle::Swizzle, tma::{TensorMap, TensorDType, Interleave, OobFill}};
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let text = std::fs::read_to_string(&args[1])?;
    let (m,n,k): (usize,usize,usize) = (args[2].parse()?, args[3].parse()?, args[4].parse()?);
    let seed = args.get(5).map_or(Ok(0), |s| s.parse())?;
    let t0 = Instant::now();
    let module = Module::parse(&text)?;
    println!("parse {:?}", t0.elapsed());
    let mut dev = Device::new(DeviceConfig { seed, ..Default::default() });
    let mut rng = 12345u32;
    let mut next = || { rng = rng.wrapping_mul(1664525).wrapping_add(1013904223); ((rng >> 16) as i32 % 17 - 8) as f32 * 0.125 };
    let a: Vec<f32> = (0..m*k).map(|_| next()).collect();
    let b: Vec<f32> = (0..n*k).map(|_| next()).collect();
    let bytes = |x: &[f32]| x.iter().flat_map(|v| half::bf16::from_f32(*v).to_bits().to_le_bytes()).collect::<Vec<u8>>();
    let da = dev.alloc((m*k*2) as u64, Fill::Bytes(&bytes(&a)))?;
    let db = dev.alloc((n*k*2) as u64, Fill::Bytes(&bytes(&b)))?;
    let mp = m.next_multiple_of(128); let np = n.next_multiple_of(128);
    let dd = dev.alloc((mp*np*4) as u64, Fill::Undefined)?;
    let map = |base, rows: usize| TensorMap { dtype: TensorDType::Bf16, base, dims: vec![k as u64, rows as u64], strides: vec![(k*2) as u64], box_dims: vec![64, 128], element_strides: vec![1,1], swizzle: Swizzle::B128, interleave: Interleave::None, oob_fill: OobFill::Zero };
    let ta = dev.encode_tensor_map(&map(dev.address(da), m))?;
    let tb = dev.encode_tensor_map(&map(dev.address(db), n))?;
    let launch = Launch { entry: "gemm".into(), grid: [(np/128) as u32, (mp/128) as u32, 1], block: [384,1,1], cluster: [1,1,1], dynamic_shared_bytes: 4*32768+64+1024,
        args: vec![Arg::Bytes(ta.to_vec()), Arg::Bytes(tb.to_vec()), Arg::U64(dev.address(dd)), Arg::U32(np as u32), Arg::U32(k.div_ceil(64) as u32)] };
    let t0 = Instant::now();
    let report = dev.launch(&module, &launch)?;
    println!("run {:?}", t0.elapsed());
    for f in &report.findings { println!("{:?} line {} {} x{} {}", f.kind, f.line, f.message, f.count, serde_json::to_string(f).unwrap_or_default()); }
    println!("{}", serde_json::to_string(&report)?);
    let out = dev.read(dd);
    let mut worst = 0f64;
    for i in 0..m { for j in 0..n {
        let want: f64 = (0..k).map(|x| a[i*k+x] as f64 * b[j*k+x] as f64).sum();
        let at = (i*np+j)*4;
        let got = f32::from_le_bytes(out[at..at+4].try_into()?) as f64;
        worst = worst.max((want-got).abs());
    }}
    println!("worst error {worst} unwritten {}", dev.unwritten(dd));
    Ok(())
}
