//! What every op family hands on: kernels ready to be lowered, and the plans that launch them.

use std::collections::BTreeMap;
use tilewright_ir::tile::Kernel;
use tilewright_runtime::manifest::Numerics;
use tilewright_runtime::plan::Plan;

/// A kernel of a template, ready to be lowered.
#[derive(Clone, Debug)]
pub struct TemplateKernel {
    /// Id in the manifest; also the entry's name and the files' stem.
    pub id: String,
    /// The template it came from, for the manifest.
    pub template: &'static str,
    /// The config's axes, for the manifest.
    pub config: BTreeMap<String, String>,
    /// What decides its rounding, for the manifest.
    pub numerics: Numerics,
    /// wgmmas of one iteration of the main loop, which the machine code must show; `None` where nothing is promised.
    pub main_loop_wgmmas: Option<u32>,
    /// Most of the main loop's exponentials run while wgmmas are in flight, which the machine code must show.
    pub hides_exponentials: bool,
    /// Tile IR.
    pub kernel: Kernel,
}

/// A plan with the kernels it launches.
#[derive(Clone, Debug)]
pub struct OpPlan {
    /// The plan.
    pub plan: Plan,
    /// Its kernels, in launch order.
    pub kernels: Vec<TemplateKernel>,
}
