//! What every op family hands on: kernels ready to be lowered, and the plans that launch them.

use std::collections::BTreeMap;
use tilewright_ir::tile::{Kernel, KernelBuilder};
use tilewright_runtime::dtype::Dtype;
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
    /// What the main loop may cost beside its multiplies, which the machine code must keep; `None` where nothing is promised.
    pub budget: Option<LoopBudget>,
    /// Tile IR.
    pub kernel: Kernel,
}

impl TemplateKernel {
    /// A kernel that promises nothing of its machine code. Its sums, where it has any, are in f32, in an order that the batch has
    /// no part in.
    pub fn plain<'a>(
        id: String,
        template: &'static str,
        axes: impl IntoIterator<Item = (&'a str, String)>,
        order: &str,
        kernel: KernelBuilder,
    ) -> Self {
        TemplateKernel {
            id,
            template,
            config: axes.into_iter().map(|(k, v)| (k.to_string(), v)).collect(),
            numerics: Numerics { accumulator: Dtype::F32, order: order.into(), batch_invariant: true, gelu: None },
            main_loop_wgmmas: None,
            hides_exponentials: false,
            budget: None,
            kernel: kernel.finish(),
        }
    }
}

/// The most instructions of each kind that a multiply of the main loop may cost a warp: a wgmma, or a warp multiply where there is
/// no wgmma. `None` for a kind promises nothing.
///
/// The numbers come from the machine: a conversion of weights hides under their loads only while its instructions fit between
/// them. One m64n?k16 wgmma eats 8 weights a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoopBudget {
    /// Instructions of any kind, those of loop control and barriers included.
    pub instructions: Option<f64>,
    /// Integer and bit instructions.
    pub int: Option<f64>,
    /// Instructions on pairs of 16-bit floats.
    pub half: Option<f64>,
    /// Conversions between number formats.
    pub convert: Option<f64>,
    /// Instructions on floats.
    pub float: Option<f64>,
    /// Copies of one register or constant.
    pub moves: Option<f64>,
    /// Loads from shared memory.
    pub shared_loads: Option<f64>,
}

impl LoopBudget {
    /// What is promised: the kind's name, as the manifest has it, and the most of it.
    pub fn promised(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let kinds = [
            ("instructions", self.instructions),
            ("int", self.int),
            ("half", self.half),
            ("convert", self.convert),
            ("float", self.float),
            ("moves", self.moves),
            ("shared_loads", self.shared_loads),
        ];
        kinds.into_iter().filter_map(|(name, most)| Some((name, most?)))
    }
}

/// A plan with the kernels it launches.
#[derive(Clone, Debug)]
pub struct OpPlan {
    /// The plan.
    pub plan: Plan,
    /// Its kernels, in launch order.
    pub kernels: Vec<TemplateKernel>,
}
