//! Writes the Lane IR of one GEMM kernel: `dump sm90 CLASS CONFIG > k.lane`.

use tilewright_ir::{Arch, passes::lower};
use tilewright_templates::gemm::{GemmConfig, GemmProblem, build};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [target, class, config] = args.as_slice() else { return Err("usage: dump TARGET CLASS CONFIG".into()) };
    let arch: Arch = target.parse()?;
    let k = build(arch, &GemmProblem::from_class(class)?, &config.parse::<GemmConfig>()?)?;
    println!("{}", lower(k.kernel)?.lane);
    Ok(())
}
