//! Commands and their arguments.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use tilewright_ops::level::Level;

/// Generates, verifies and runs GPU kernels.
#[derive(Debug, Parser)]
#[command(name = "gen", version, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct Cli {
    /// What else to do than generate.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Generating.
    #[command(flatten)]
    pub generate: GenerateArgs,
}

/// Commands besides generating.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List ops, templates, targets, dtypes and config axes.
    List(ListArgs),
    /// Run an op on tensors from a file; builds the kernel if the library has none for it.
    Run(RunArgs),
    /// Run any PTX file in the emulator.
    Emulate(EmulateArgs),
    /// Find the fastest config of each problem on a device, or make a pack for a host that has one.
    Tune(TuneArgs),
    /// Say what is chosen for a problem or for each part of a network, and why.
    Explain(ExplainArgs),
    /// Show a kernel as Tile IR, Lane IR, LLVM IR, PTX or SASS, or what its SASS is made of.
    Show(ShowArgs),
    /// Turn a LiDAR scan, real or simulated, into the voxels and features of a sparse convolution.
    Scene(SceneArgs),
    /// The LLVM process behind the others.
    #[command(hide = true)]
    CodegenWorker,
    /// The process that measures.
    #[command(hide = true)]
    TuneWorker,
}

/// `gen --target`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// GPU target: sm80, sm86, sm89, sm90.
    #[arg(long)]
    pub target: Option<String>,
    /// Only plans whose id matches, `*` and `?` stand for anything. Nothing is written without --out.
    #[arg(long, value_name = "GLOB")]
    pub only: Option<String>,
    /// Folder to write instead of kernels-generated/TARGET.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Kernels compiled at once; all cores where not given.
    #[arg(long)]
    pub jobs: Option<usize>,
    /// How much the emulator runs before a kernel is believed.
    #[arg(long, value_parser = level(), default_value = "full")]
    pub verify: Level,
    /// Write nothing; fail if the output would differ from what is there.
    #[arg(long)]
    pub check: bool,
    /// Print a summary as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `gen list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// `gen run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The op: `gen list` names them.
    pub op: String,
    /// GPU target.
    #[arg(long)]
    pub target: String,
    /// `emulator`, or `cuda:N`.
    #[arg(long, default_value = "emulator")]
    pub device: String,
    /// Tensors to read.
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// Where the results go.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// Keys of the op: `gen list` names them.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Where a report goes: findings, kernel, plan, counters, verified_against.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// `gen emulate`.
#[derive(Debug, Args)]
pub struct EmulateArgs {
    /// PTX text.
    pub ptx: PathBuf,
    /// Launch description.
    #[arg(long, value_name = "FILE")]
    pub launch: PathBuf,
    /// Tensors to read.
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Where the outputs go.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// Which checks to make.
    #[arg(long, value_parser = ["all", "none"], default_value = "all")]
    pub checks: String,
    /// Arithmetic of tensor cores.
    #[arg(long, value_parser = ["fast", "exact", "ring"], default_value = "fast")]
    pub numerics: String,
    /// Number of schedules to try, those of seeds 0 and up.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub schedules: u64,
    /// Try this schedule only, which a finding names.
    #[arg(long, conflicts_with = "schedules")]
    pub seed: Option<u64>,
    /// Where a report goes: findings and counters.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// `gen tune`.
#[derive(Debug, Args)]
pub struct TuneArgs {
    /// The op: gemm, gemm_grouped, attention, attention_decode. With --workload, only its tasks.
    pub op: Option<String>,
    /// GPU target.
    #[arg(long)]
    pub target: Option<String>,
    /// Sizes; several of one kind are a list, and every combination is a task: m=16,64 n=4096 k=4096.
    #[arg(long = "set", value_name = "SIZE=N,..", num_args = 1.., conflicts_with = "workload")]
    pub set: Vec<String>,
    /// The op's class; the op's plainest where none is given.
    #[arg(long, conflicts_with = "workload")]
    pub class: Option<String>,
    /// The problems of a model: a name, or a TOML file.
    #[arg(long, value_name = "NAME|FILE")]
    pub workload: Option<String>,
    /// cuda:N, `emulator` (a true gate, the model's times) or simulated:SEED (for tests of the tuner).
    #[arg(long, default_value = "cuda:0")]
    pub device: String,
    /// The device profile whose model chooses candidates; the target's usual one where none is given. A GPU here has its own.
    #[arg(long, value_name = "NAME")]
    pub device_profile: Option<String>,
    /// Which random data and which candidates beside the model's best.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Candidates that the model ranks first and that are tried; 32 where not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(usize))]
    pub shortlist: Option<usize>,
    /// Most trials of a task.
    #[arg(long, value_name = "N")]
    pub budget: Option<usize>,
    /// The log of trials, which a search that was killed goes on from; one under target/tune where none is given.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Only the tasks of part i of n, from 1.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<String>,
    /// Measure nothing: write a folder with all candidates and a runner, for a host with only a driver.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["log", "merge"])]
    pub pack: Option<PathBuf>,
    /// Measure nothing: turn logs, those of a pack's runner or of shards, into records.
    #[arg(long, value_name = "LOG", num_args = 1.., conflicts_with_all = ["op", "workload", "set", "class", "shard", "log"])]
    pub merge: Vec<PathBuf>,
    /// Measure nothing: fit the model's coefficients to logs of one device, and print the table for its profile.
    #[arg(long, value_name = "LOG", num_args = 1.., conflicts_with_all = ["op", "workload", "set", "class", "shard", "log", "pack", "merge"])]
    pub fit: Vec<PathBuf>,
    /// Where records go, in a folder for each device profile; records/ of the workspace where not given.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Kernels compiled at once; all cores where not given.
    #[arg(long)]
    pub jobs: Option<usize>,
    /// Print what was found as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `gen show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// A kernel's id, `*` and `?` stand for anything; or give --class and --config.
    pub kernel: Option<String>,
    /// GPU target.
    #[arg(long)]
    pub target: String,
    /// The op of --class and --config; gemm where none is given.
    #[arg(long)]
    pub op: Option<String>,
    /// The op's class; the op's plainest where none is given.
    #[arg(long)]
    pub class: Option<String>,
    /// A config id.
    #[arg(long)]
    pub config: Option<String>,
    /// Comma list of tile, lane, llvm, ptx, sass, report (registers, and what the main loop is made of).
    #[arg(long, value_delimiter = ',', default_value = "tile")]
    pub level: Vec<String>,
}

/// `gen scene`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true))]
pub struct SceneArgs {
    /// A scan in the PLY format; `cargo xtask scans` gets two.
    #[arg(long, value_name = "FILE", group = "source")]
    pub scan: Option<PathBuf>,
    /// A sensor to simulate in a street: hdl64, hdl32, waymo.
    #[arg(long, group = "source")]
    pub sensor: Option<String>,
    /// Which street.
    #[arg(long, default_value_t = 0, conflicts_with = "scan")]
    pub seed: u64,
    /// Size of a voxel in metres: one number, or x,y,z.
    #[arg(long, value_delimiter = ',', default_value = "0.05")]
    pub voxel: Vec<f64>,
    /// Only so many voxels: those around one at the median distance.
    #[arg(long, value_name = "N")]
    pub crop: Option<usize>,
    /// Channels of the features: the place in the voxel, the intensity, then numbers drawn at random.
    #[arg(long, default_value_t = 4)]
    pub channels: usize,
    /// Dtype of the features: f16, bf16 or f32.
    #[arg(long, default_value = "f16", value_parser = ["f16", "bf16", "f32"])]
    pub dtype: String,
    /// Where `coords` and `features` go.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
}

/// `gen explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// What to explain: gemm, gemm_grouped, attention, attention_decode, or sparse_network.
    pub op: String,
    /// Keys. Of an op its sizes and the fields of its class, as in m=16 n=4096 k=4096 act=swiglu; of a network: network (a name
    /// or a TOML file), dtype (f16, bf16, f32), deterministic (true, false).
    #[arg(long = "set", value_name = "KEY=VALUE", num_args = 1..)]
    pub set: Vec<String>,
    /// GPU target of an op; that of --device-profile where not given.
    #[arg(long)]
    pub target: Option<String>,
    /// The scene of a network: a safetensors file with `coords` I32 [n,4] (batch, x, y, z).
    #[arg(long, value_name = "FILE", conflicts_with = "work")]
    pub input: Option<PathBuf>,
    /// Layers and statistics of maps as JSON, as --save-work writes them, instead of a network and a scene.
    #[arg(long, value_name = "FILE")]
    pub work: Option<PathBuf>,
    /// Where layers and statistics go.
    #[arg(long, value_name = "FILE")]
    pub save_work: Option<PathBuf>,
    /// The GPU: a file of autotune/profiles, such as h200 or a100.
    #[arg(long, value_name = "NAME")]
    pub device_profile: Option<String>,
    /// Explain what this tuning record chose instead of what the model chooses.
    #[arg(long, value_name = "FILE", conflicts_with = "save_record")]
    pub record: Option<PathBuf>,
    /// Where a tuning record of what the model chooses goes.
    #[arg(long, value_name = "FILE")]
    pub save_record: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

fn level() -> impl TypedValueParser<Value = Level> {
    PossibleValuesParser::new(["off", "quick", "full"]).map(|text| match text.as_str() {
        "off" => Level::Off,
        "quick" => Level::Quick,
        _ => Level::Full,
    })
}
