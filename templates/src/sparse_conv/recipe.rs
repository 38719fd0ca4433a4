//! How a convolution is done: dataflow, order of rows, tiles. As text in `library.toml`, as a name in ids of plans.

use super::core::{CoreConfig, CoreError};
use super::problem::{Dataflow, RowOrder};
use std::fmt;
use std::str::FromStr;

/// How a convolution is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// How gathering, multiplying and scattering are arranged.
    pub flow: Dataflow,
    /// What rows are sorted by; of [`Dataflow::ImplicitSorted`] only.
    pub order: RowOrder,
    /// Tiles of the multiplication.
    pub config: CoreConfig,
    /// Most taps of the kernel: sorting takes a pass for every 8 of them, [`Dataflow::FetchOnDemand`] by tap a launch for each.
    pub taps: u32,
    /// Any numbers of channels: features and weight are padded to whole 16-byte rows first. Without it they are whole already.
    pub ragged: bool,
}

/// A text that is no recipe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// Not its form.
    #[error(
        "`{0}` is no way of a sparse convolution: expected dataflow=gather_scatter|implicit, dataflow=fetch_on_demand,fused=0|1 or \
         dataflow=implicit_sorted,splits=..,order=plain|rare|gray_rare, then taps=..,config=..,ragged=0|1"
    )]
    Text(String),
    /// The tiles' text is none.
    #[error("{0}")]
    Config(String),
}

impl From<CoreError> for RecipeError {
    fn from(e: CoreError) -> Self {
        RecipeError::Config(e.to_string())
    }
}

/// Stands between a class's name and a recipe's in ids of plans.
const BY: &str = "_by_";

impl Recipe {
    /// Its name in ids.
    pub fn slug(&self) -> String {
        let order = if self.sorts() { format!("_{}", self.order) } else { String::new() };
        format!("{}{order}_k{}_{}{}", self.flow.slug(), self.taps, self.config, if self.ragged { "_ragged" } else { "" })
    }

    /// The id of a plan of an op's class.
    pub fn plan_id(&self, op: &str, class: &str) -> String {
        format!("{op}_{class}{BY}{}", self.slug())
    }

    /// The recipe behind a plan's id.
    pub fn of_plan(id: &str) -> Option<Self> {
        let name = id.split_once(BY)?.1;
        let (name, ragged) = name.strip_suffix("_ragged").map_or((name, false), |n| (n, true));
        // Names of dataflows and orders hold underscores, those of configs begin with their kind.
        let at = ["_mma_", "_wgmma_"].into_iter().find_map(|kind| name.find(kind))?;
        let (flow, config) = (&name[..at], &name[at + 1..]);
        let (flow, taps) = flow.rsplit_once("_k")?;
        let order = RowOrder::ALL.into_iter().filter(|o| flow.ends_with(&format!("_{o}"))).max_by_key(|o| o.to_string().len());
        let (flow, order) = order.map_or((flow, RowOrder::default()), |o| (&flow[..flow.len() - o.to_string().len() - 1], o));
        let flow = match flow {
            "gather_scatter" => Dataflow::GatherScatter,
            "fetch_on_demand" => Dataflow::FetchOnDemand { fused: false },
            "fetch_on_demand_fused" => Dataflow::FetchOnDemand { fused: true },
            "implicit" => Dataflow::Implicit,
            other => Dataflow::ImplicitSorted { splits: other.strip_prefix("implicit_sorted")?.parse().ok()? },
        };
        Some(Recipe { flow, order, taps: taps.parse().ok()?, config: config.parse().ok()?, ragged })
    }

    /// Whether rows are sorted.
    pub fn sorts(&self) -> bool {
        matches!(self.flow, Dataflow::ImplicitSorted { .. })
    }

    /// Name and value of every axis.
    pub fn axes(&self) -> Vec<(&'static str, String)> {
        let mut list = vec![("dataflow", self.flow.to_string())];
        match self.flow {
            Dataflow::FetchOnDemand { fused } => list.push(("fused", u8::from(fused).to_string())),
            Dataflow::ImplicitSorted { splits } => {
                list.extend([("splits", splits.to_string()), ("order", self.order.to_string())]);
            }
            Dataflow::GatherScatter | Dataflow::Implicit => {}
        }
        list.extend([
            ("taps", self.taps.to_string()),
            ("config", self.config.to_string()),
            ("ragged", u8::from(self.ragged).to_string()),
        ]);
        list
    }
}

/// `dataflow=implicit_sorted,splits=2,order=gray_rare,taps=27,config=mma_64x64x32_s3_w2x2,ragged=0`.
impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let axes: Vec<String> = self.axes().iter().map(|(k, v)| format!("{k}={v}")).collect();
        f.write_str(&axes.join(","))
    }
}

impl FromStr for Recipe {
    type Err = RecipeError;

    fn from_str(text: &str) -> Result<Self, RecipeError> {
        let bad = || RecipeError::Text(text.to_string());
        let fields: Vec<(&str, &str)> = text.split(',').map(|f| f.split_once('=')).collect::<Option<_>>().ok_or_else(bad)?;
        let field = |name: &str| fields.iter().find(|f| f.0 == name).map(|f| f.1).ok_or_else(bad);
        let flag = |name: &str| match field(name)? {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(bad()),
        };
        let mut order = RowOrder::default();
        let flow = match field("dataflow")? {
            "gather_scatter" => Dataflow::GatherScatter,
            "fetch_on_demand" => Dataflow::FetchOnDemand { fused: flag("fused")? },
            "implicit" => Dataflow::Implicit,
            "implicit_sorted" => {
                order = RowOrder::from_name(field("order")?).ok_or_else(bad)?;
                Dataflow::ImplicitSorted { splits: field("splits")?.parse().ok().filter(|s| *s >= 1).ok_or_else(bad)? }
            }
            _ => return Err(bad()),
        };
        let taps = field("taps")?.parse().ok().filter(|t| *t >= 1).ok_or_else(bad)?;
        let recipe = Recipe { flow, order, taps, config: field("config")?.parse()?, ragged: flag("ragged")? };
        // Nothing missing, nothing else, in this order.
        if recipe.to_string() == text { Ok(recipe) } else { Err(bad()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_ids_read_back() {
        let flows = [
            Dataflow::GatherScatter,
            Dataflow::FetchOnDemand { fused: false },
            Dataflow::FetchOnDemand { fused: true },
            Dataflow::Implicit,
            Dataflow::ImplicitSorted { splits: 1 },
            Dataflow::ImplicitSorted { splits: 12 },
        ];
        for flow in flows {
            for order in RowOrder::ALL {
                for (config, ragged) in [("mma_64x32x32_s3_w2x2", false), ("wgmma_128x64x64_s4", true)] {
                    let order = if matches!(flow, Dataflow::ImplicitSorted { .. }) { order } else { RowOrder::default() };
                    let recipe = Recipe { flow, order, taps: 27, config: config.parse().unwrap(), ragged };
                    assert_eq!(recipe.to_string().parse(), Ok(recipe));
                    assert_eq!(Recipe::of_plan(&recipe.plan_id("sparse_conv", "f16_strided_target")), Some(recipe));
                }
            }
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let good = "dataflow=implicit_sorted,splits=2,order=rare,taps=8,config=mma_64x32x32_s3_w2x2,ragged=0";
        assert!(good.parse::<Recipe>().is_ok());
        for (from, to) in
            [("splits=2,", ""), ("order=rare", "order=gray"), ("ragged=0", "ragged=2"), ("0", "0,x=1"), ("splits=2", "splits=0")]
        {
            assert_ne!(good.replacen(from, to, 1), good);
            assert!(good.replacen(from, to, 1).parse::<Recipe>().is_err(), "{from} {to}");
        }
        assert!(good.replace("mma_64", "mma_").parse::<Recipe>().unwrap_err().to_string().contains("mma_BMxBN"));
        assert_eq!(Recipe::of_plan("kernel_map_strided"), None);
    }
}
