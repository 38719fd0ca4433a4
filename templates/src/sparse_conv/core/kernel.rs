//! Kernels of the core by class and config.

use super::class::{CoreClass, CoreError, Exit};
use super::config::CoreConfig;
use super::{mma, wgmma};
use crate::gemm::Act;
use crate::plan::TemplateKernel;
use tilewright_ir::tile::KernelBuilder;
use tilewright_ir::{Arch, DType};
use tilewright_runtime::manifest::{Gelu, Numerics};

/// The family's name in manifests.
pub(super) const TEMPLATE: &str = "sparse_conv";

/// The id of a kernel.
pub(super) fn core_id(class: &CoreClass, c: &CoreConfig) -> String {
    format!("sparse_core_{}_{c}", class.slug())
}

/// The kernel of a class and a config.
pub fn core_kernel(arch: Arch, class: &CoreClass, c: &CoreConfig) -> Result<TemplateKernel, CoreError> {
    class.check()?;
    c.check(arch, class.dtype)?;
    let id = core_id(class, c);
    let mut k = KernelBuilder::new(&id, arch);
    match c {
        CoreConfig::Mma(c) => mma::mma(&mut k, class, c)?,
        CoreConfig::Wgmma(c) => wgmma::wgmma(&mut k, class, c)?,
    }
    let step = if class.dtype == DType::F32 { "k8" } else { "k16" };
    let atomic = class.exit == Exit::AddAtomic;
    let order = format!("{step}.taps.{}", if atomic { "atomic" } else { "seq" });
    let mut kernel = TemplateKernel::plain(id, TEMPLATE, c.axes(), &order, k);
    // Added in whatever order CTAs come.
    kernel.numerics.batch_invariant = !atomic;
    Ok(with_gelu(kernel, class.epilogue.act))
}

/// Says which form of gelu a kernel has, where it has one.
pub(super) fn with_gelu(k: TemplateKernel, act: Act) -> TemplateKernel {
    let gelu = (act == Act::Gelu).then_some(Gelu::Tanh);
    TemplateKernel { numerics: Numerics { gelu, ..k.numerics }, ..k }
}
