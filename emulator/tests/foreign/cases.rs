//! Kernels of other compilers: what to launch them with, and what they must compute.
//!
//! Any test may include this module. [`all`] is the table, [`run`] runs the text of a case, or a changed text.

mod bench;
mod cuda;
mod triton;

use bench::{Bench, MapLayout};
use std::path::PathBuf;
use tilewright_emulator::{Module, Report};

/// One fixture at one size.
#[derive(Clone)]
pub struct Case {
    /// File in `ptx/`, without `.ptx`.
    pub fixture: String,
    pub size: [usize; 3],
    setup: fn(&mut Bench, [usize; 3]),
}

/// What a run did.
pub struct Ran {
    pub report: Report,
    /// The first wrong element.
    pub mistake: Option<String>,
}

/// A kernel for each architecture and size. Meaning of the sizes is the kernel's own.
type Row = (&'static str, &'static [&'static str], &'static [[usize; 3]], fn(&mut Bench, [usize; 3]));

const BOTH: &[&str] = &["sm_80", "sm_90a"];
const SM90: &[&str] = &["sm_90a"];

pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, archs, sizes, setup) in triton::KERNELS.iter().chain(cuda::KERNELS) {
        for arch in *archs {
            for size in *sizes {
                cases.push(Case { fixture: format!("{name}.{arch}"), size: *size, setup: *setup });
            }
        }
    }
    cases
}

impl Case {
    /// The text as its compiler printed it.
    pub fn text(&self) -> String {
        // Kernels of one CUDA file are one module: `file:entry`.
        let file = match self.fixture.split_once(':') {
            Some((file, rest)) => format!("{file}.{}", rest.rsplit('.').next().unwrap_or_default()),
            None => self.fixture.clone(),
        };
        let path = folder().join(format!("{file}.ptx"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

/// Runs `text`, which is a case's or a mutant of it, under the schedule `seed`.
///
/// # Errors
/// The text is refused, or the launch is.
pub fn run(text: &str, case: &Case, seed: u64) -> Result<Ran, String> {
    let module = Module::parse(text).map_err(|error| error.to_string())?;
    let mut bench = Bench::new(seed);
    let triton = describe(&case.fixture, &mut bench);
    (case.setup)(&mut bench, case.size);
    if triton {
        bench.triton_scratch();
    }
    let launch = bench.launch.clone();
    let report = bench.device.launch(&module, &launch).map_err(|error| error.to_string())?;
    Ok(Ran { report, mistake: bench.mistake() })
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/ptx"))
}

/// What Triton says about a launch; whether it is Triton's at all.
fn describe(fixture: &str, bench: &mut Bench) -> bool {
    let table = std::fs::read_to_string(folder().join("launch.json")).expect("launch.json");
    let table: serde_json::Value = serde_json::from_str(&table).expect("JSON");
    if let Some((_, rest)) = fixture.split_once(':') {
        bench.launch.entry = rest.split('.').next().unwrap_or_default().into();
        return false;
    }
    let what = table.get(fixture).expect("launch.json knows every Triton kernel");
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
    bench.launch.entry = what["entry"].as_str().unwrap_or_default().into();
    bench.launch.block = [number(&what["threads"]) as u32, 1, 1];
    bench.launch.dynamic_shared_bytes = number(&what["shared"]) as u32;
    bench.scratch_bytes = number(&what["scratch"]);
    for map in what["maps"].as_array().into_iter().flatten() {
        let side = |at: usize| number(&map["block_size"][at]) as u32;
        bench.maps.push(MapLayout { swizzle: number(&map["swizzle"]), box_rows_cols: [side(0), side(1)] });
    }
    true
}
