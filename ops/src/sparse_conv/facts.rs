//! What a report says of a layer: its map, and how it was multiplied.

use super::request::Layer;
use crate::error::{Res, failure};
use serde_json::{Value, json};
use tilewright_templates::sparse_conv::{Recipe, executed_rows};

/// Sizes of a map.
pub fn map(layer: &Layer) -> Value {
    let map = &layer.map;
    json!({"n": layer.n, "m": map.rows(), "taps": map.taps, "pairs": map.pairs()})
}

/// The map, with what the plan's dataflow makes of it: `rows` is tile-padded rows times taps that are multiplied.
pub fn conv(layer: &Layer, plan: &str) -> Res<Vec<(&'static str, Value)>> {
    let recipe = Recipe::of_plan(plan).ok_or_else(|| failure(format!("plan {plan} names no dataflow")))?;
    let mut map = map(layer);
    map["tile"] = json!(recipe.config.tile()[0]);
    map["splits"] = json!(recipe.flow.splits());
    map["order"] = if recipe.sorts() { json!(recipe.order.to_string()) } else { Value::Null };
    map["rows"] = json!(executed_rows(&layer.map, &recipe).map_err(failure)?);
    Ok(vec![("map", map), ("dataflow", json!(recipe.flow.to_string()))])
}
