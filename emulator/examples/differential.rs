//! Writes random programs with their inputs and the emulator's outputs into a folder, for a machine with a GPU to compare.
//!
//! `cargo run --release -p tilewright-emulator --example differential -- FOLDER [COUNT]`
//!
//! `programs.json` lists them: name, target, threads, blocks, output bytes, tensor maps and features. Beside it lie
//! `<name>.ptx`, `<name>.in` and `<name>.out`. `benches/gpu/differential.py` reads the folder.

#[path = "../tests/common/random.rs"]
mod random;

use std::path::Path;
use tilewright_emulator::{DeviceConfig, Module, Numerics, Severity};
use tilewright_random_ptx::{Buffer, Choices, Map, Program, Target};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("which folder?")?;
    let count: u64 = args.next().map_or(Ok(200), |count| count.parse())?;
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    let mut list = Vec::new();
    for seed in 0..count {
        // Hopper three times of four: Ampere's programs run there too.
        let target = if seed % 4 == 0 { Target::Sm80 } else { Target::Sm90a };
        let program = Program::random(Choices::from_seed(0x90_0000 + seed), target);
        let output = emulate(&program).map_err(|why| format!("seed {seed}: {why}"))?;
        let name = format!("p{seed:04}");
        std::fs::write(folder.join(format!("{name}.ptx")), &program.text)?;
        std::fs::write(folder.join(format!("{name}.in")), &program.input)?;
        std::fs::write(folder.join(format!("{name}.out")), output)?;
        list.push(serde_json::json!({
            "name": name,
            "target": target.name(),
            "threads": program.threads,
            "blocks": program.blocks,
            "output_bytes": program.output_bytes,
            "maps": program.maps.iter().map(describe).collect::<Vec<_>>(),
            "features": program.features,
        }));
    }
    std::fs::write(folder.join("programs.json"), format!("{:#}\n", serde_json::Value::from(list)))?;
    eprintln!("{count} programs in {}", folder.display());
    Ok(())
}

fn describe(map: &Map) -> serde_json::Value {
    serde_json::json!({
        "buffer": if map.buffer == Buffer::In { "in" } else { "out" },
        "offset": map.offset, "dtype": map.dtype, "dims": map.dims, "strides": map.strides, "box": map.box_dims,
        "element_strides": map.element_strides, "swizzle": map.swizzle,
    })
}

/// The output of a program, of the exact tensor cores of Hopper.
fn emulate(program: &Program) -> Result<Vec<u8>> {
    let module = Module::parse(&program.text)?;
    let arch = Some("sm_90a".parse()?);
    let config = DeviceConfig { arch, numerics: Numerics::Exact, ..DeviceConfig::default() };
    let (report, output) = random::run(program, &module, config)?;
    match report.findings.iter().find(|finding| finding.severity == Severity::Error) {
        Some(finding) => Err(format!("line {}: {}", finding.line, finding.message).into()),
        None => Ok(output),
    }
}
