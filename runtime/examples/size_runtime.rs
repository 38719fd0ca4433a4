//! The least a server does with the runtime: `cargo xtask binary-size` weighs what that adds to a program.

use std::error::Error;

use tilewright_runtime::cuda::CudaDevice;
use tilewright_runtime::device::{Device, Stream};
use tilewright_runtime::dispatch::Policy;
use tilewright_runtime::engine::{Engine, Problem};
use tilewright_runtime::expr::Vars;
use tilewright_runtime::pack::Pack;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: size_runtime PACK")?;
    println!("{} bytes", std::fs::read(&path)?.len());
    let engine = Engine::new(Pack::open(path)?, CudaDevice::open(0)?)?;
    let class = "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0";
    let vars = Vars::gemm(16, 4096, 4096);
    let plan = engine.select("gemm", class, &vars, Policy::Fastest)?;
    let mut ready = engine.prepare(plan, &Problem { vars, scalars: &[("alpha", 1.0)] })?;
    let buffers = ready.tensors().iter().map(|tensor| engine.device().alloc(tensor.bytes)).collect::<Result<Vec<_>, _>>()?;
    let addresses: Vec<u64> = buffers.iter().map(|buffer| engine.device().address(buffer)).collect();
    engine.launch(&mut ready, &addresses, Stream::default())?;
    engine.device().sync()?;
    println!("ran as {}", engine.code());
    Ok(())
}
