//! Keys of sparse convolutions and of their maps: how outputs follow from inputs, and how it is done.

use super::super::ask::{Ask, flag};
use crate::error::{Fail, Res, bad_input, usage};
use tilewright_templates::gemm::Act;
use tilewright_templates::sparse_conv::core::CoreConfig;
use tilewright_templates::sparse_conv::{Dataflow, Geometry, Mode, RowOrder, act};

/// Every key, of `sparse_conv` and of `kernel_map`.
pub const KEYS: [&str; 12] =
    ["mode", "kernel", "stride", "dilation", "padding", "dataflow", "splits", "order", "fused", "config", "act", "groups"];

/// What the keys ask for.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Transposed without a target is generative.
    pub mode: Mode,
    /// Kernel, stride, dilation, padding: of submanifold convolutions the mode's own.
    pub geometry: Geometry,
    /// None where it is left to the command.
    pub flow: Option<Dataflow>,
    /// What rows are sorted by.
    pub order: RowOrder,
    /// Tiles of the multiplication; none where that is left to the command.
    pub config: Option<CoreConfig>,
    /// Activation.
    pub act: Act,
}

impl Keys {
    /// Reads them; `target` says whether outputs are given.
    pub fn read(ask: &Ask, target: bool) -> Res<Self> {
        let (mode, geometry) = geometry(ask, target)?;
        let flow = dataflow(ask, geometry.taps() as u32)?;
        let order = match ask.key("order") {
            Some(_) if !matches!(flow, Some(Dataflow::ImplicitSorted { .. })) => {
                return usage("order goes with dataflow=implicit_sorted: no other dataflow sorts rows");
            }
            Some(text) => RowOrder::from_name(text)
                .ok_or_else(|| Fail::Usage(format!("order = `{text}`: expected plain, rare or gray_rare")))?,
            None => RowOrder::default(),
        };
        let act = match ask.key("act") {
            Some(text) => act(text).ok_or_else(|| Fail::Usage(format!("act = `{text}`: expected none, relu, gelu or silu")))?,
            None => Act::None,
        };
        if let Some(groups) = ask.value::<usize>("groups", "a whole number from 1", |g| *g >= 1)?.filter(|g| *g != 1) {
            return usage(format!("groups = {groups}: convolutions of groups of channels are not built yet; expected 1"));
        }
        Ok(Keys { mode, geometry, flow, order, config: ask.parsed("config")?, act })
    }
}

/// Mode and geometry.
fn geometry(ask: &Ask, target: bool) -> Res<(Mode, Geometry)> {
    let mode = match ask.key("mode") {
        Some(text) => text.parse::<Mode>().map_err(|e| Fail::Usage(format!("mode = `{text}`: {e}")))?,
        None => return usage("key `mode` is missing: expected submanifold, strided, transposed, generative or inverse"),
    };
    let axes = |name: &str, default: u32| -> Res<[u32; 3]> {
        let Some(text) = ask.key(name) else { return Ok([default; 3]) };
        let numbers: Option<Vec<u32>> = text.split(',').map(|n| n.parse().ok()).collect();
        match numbers.as_deref() {
            Some([n]) => Ok([*n; 3]),
            Some([x, y, z]) => Ok([*x, *y, *z]),
            _ => usage(format!("{name} = `{text}`: expected a whole number, or three as x,y,z")),
        }
    };
    let [kernel, stride, dilation, padding] = [axes("kernel", 3)?, axes("stride", 1)?, axes("dilation", 1)?, axes("padding", 0)?];
    let plain = Geometry { kernel, stride, dilation, padding };
    plain.check(mode).map_err(bad_input)?;
    let (mode, geometry) = match (mode, target) {
        (Mode::Submanifold, _) if ask.key("padding").is_some() => {
            return usage(
                "padding with mode=submanifold: it is dilation*(kernel-1)/2, so that outputs are the inputs; leave it out",
            );
        }
        (Mode::Submanifold, false) => (mode, Geometry::submanifold(kernel, dilation)),
        (Mode::Submanifold, true) => {
            return usage(
                "tensor `coords_target` with mode=submanifold: its outputs are the inputs; leave it out, or use strided",
            );
        }
        (Mode::Generative, true) => {
            return usage(
                "tensor `coords_target` with mode=generative: it makes its outputs; use mode=transposed for given ones",
            );
        }
        (Mode::Inverse, false) => {
            return usage(
                "tensor `coords_target` is missing from the input: mode=inverse takes the inputs of the strided layer it undoes",
            );
        }
        (Mode::Transposed, false) => (Mode::Generative, plain),
        // The same with the same outputs.
        (Mode::Inverse, true) => (Mode::Transposed, plain),
        _ => (mode, plain),
    };
    geometry.check(mode).map_err(bad_input)?;
    Ok((mode, geometry))
}

/// Dataflow, splits, fused.
fn dataflow(ask: &Ask, taps: u32) -> Res<Option<Dataflow>> {
    let text = ask.key("dataflow").unwrap_or("auto");
    let goes_with = |key: &str, flow: &str| match ask.key(key) {
        Some(_) if text != flow => usage(format!("{key} goes with dataflow={flow}, not with dataflow={text}")),
        _ => Ok(()),
    };
    goes_with("splits", "implicit_sorted")?;
    goes_with("fused", "fetch_on_demand")?;
    Ok(match text {
        "auto" => None,
        "gather_scatter" => Some(Dataflow::GatherScatter),
        "fetch_on_demand" => Some(Dataflow::FetchOnDemand { fused: ask.key("fused").is_none() || flag(ask, "fused")? }),
        "implicit" => Some(Dataflow::Implicit),
        "implicit_sorted" => {
            let expected = format!("a whole number from 1 to {taps}, the taps of the kernel");
            let splits = ask.value("splits", &expected, |s| (1..=taps).contains(s))?.unwrap_or(1);
            Some(Dataflow::ImplicitSorted { splits })
        }
        other => {
            return usage(format!(
                "dataflow = `{other}`: expected auto, gather_scatter, fetch_on_demand, implicit or implicit_sorted"
            ));
        }
    })
}
