//! Published points, as data.

use serde::Deserialize;
use std::collections::BTreeMap;

/// What a published value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// 10^12 FLOP a second; a causal attention counts half.
    Tflops,
    /// Microseconds.
    Us,
    /// Time with 16-bit weights over the time with packed ones.
    Speedup,
}

/// A published value.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Sizes by the variables of plans.
    pub sizes: BTreeMap<String, i64>,
    /// In the group's unit.
    pub value: f64,
    /// Of which config, where it was published of more than one.
    #[serde(default)]
    pub config: Option<String>,
    /// What it is called, where its sizes do not say.
    #[serde(default)]
    pub name: Option<String>,
    /// `[n, k]` of layers that it is the sum of.
    #[serde(default)]
    pub layers: Vec<[i64; 2]>,
}

/// Points of one table or figure.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// In words.
    pub name: String,
    /// Device profile.
    pub device: String,
    /// Op of ours that computes the same.
    pub op: String,
    /// Its class.
    pub class: String,
    /// Unit of the values.
    pub unit: Unit,
    /// Who published them where.
    pub source: String,
    /// What must be known of them.
    #[serde(default)]
    pub note: Option<String>,
    /// The points.
    pub points: Vec<Published>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    group: Vec<Group>,
}

/// Every group.
pub fn groups() -> Result<Vec<Group>, toml::de::Error> {
    let texts = [
        include_str!("../../published/gemm.toml"),
        include_str!("../../published/packed.toml"),
        include_str!("../../published/attention.toml"),
        include_str!("../../published/decode.toml"),
    ];
    let mut all = Vec::new();
    for text in texts {
        all.extend(toml::from_str::<File>(text)?.group);
    }
    Ok(all)
}

impl Published {
    /// A size, 1 where it is not named.
    pub fn size(&self, name: &str) -> f64 {
        self.sizes.get(name).map_or(1.0, |v| *v as f64)
    }

    /// What tells it from others of its group.
    pub fn label(&self) -> String {
        let sizes = || self.sizes.iter().map(|(k, v)| format!("{k} {v}")).collect::<Vec<_>>().join(", ");
        let name = self.name.clone().unwrap_or_else(sizes);
        match &self.config {
            Some(config) => format!("{name}: {config}"),
            None => name,
        }
    }
}
