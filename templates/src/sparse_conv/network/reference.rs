//! What a network gives in f64, and what its own precision costs: every layer by the reference of one convolution.

use super::super::host::MapError;
use super::super::problem::ConvProblem;
use super::super::reference::{ConvOperands, conv_reference};
use super::choice::NetworkChoice;
use super::graph::{Concat, Feed, Kind, Layer, Network};
use super::maps::NetworkMaps;
use std::collections::BTreeMap;
use tilewright_ir::DType;

/// The output of a network.
#[derive(Clone, Debug, Default)]
pub struct NetworkReference {
    /// `[rows, channels]` in f64.
    pub value: Vec<f64>,
    /// The same with every layer in the kernels' precision.
    pub lowp: Vec<f64>,
}

/// Computes it. `tensors` holds `features` and the layers' tensors by the names of a plan, as numbers.
///
/// # Errors
/// An up layer's map cannot be made.
pub fn network_reference(
    network: &Network,
    maps: &NetworkMaps,
    d: DType,
    choice: &NetworkChoice,
    tensors: &BTreeMap<String, Vec<f64>>,
) -> Result<NetworkReference, MapError> {
    let get = |name: &str| tensors.get(name).cloned().unwrap_or_default();
    let mut given: Vec<[Vec<f64>; 2]> = Vec::new();
    for layer in &network.layers {
        let feed = |feed: Feed, which: usize, given: &[[Vec<f64>; 2]]| match feed {
            Feed::Input => get("features"),
            Feed::Layer(id) => given[id.0][which].clone(),
        };
        let mut both: [Vec<f64>; 2] = Default::default();
        for (which, out) in both.iter_mut().enumerate() {
            let x = feed(layer.input, which, &given);
            *out = match &layer.kind {
                Kind::Concat(c) => side_by_side(layer, c, &x, &feed(c.with, which, &given)),
                Kind::Conv(conv) => {
                    let part = |name: &str| get(&format!("{}.{name}", layer.name));
                    let operands = ConvOperands {
                        channels: [layer.cin as usize, layer.cout as usize],
                        features: x,
                        weight: part("weight"),
                        bias: part("bias"),
                        bn_scale: part("bn_scale"),
                        bn_shift: part("bn_shift"),
                        residual: conv.residual.map_or(Vec::new(), |r| feed(r, which, &given)),
                    };
                    let problem = ConvProblem { act: conv.act, ..ConvProblem::plain(d, network.mode_of(conv)) };
                    let map = maps.of(network, conv)?;
                    let r = conv_reference(&problem, &map, &operands, choice.of(conv.group).flow);
                    if which == 0 { r.value } else { r.lowp }
                }
            };
        }
        given.push(both);
    }
    let [value, lowp] = given.pop().unwrap_or_default();
    Ok(NetworkReference { value, lowp })
}

impl NetworkReference {
    /// How far an output may be off: twice what the kernels' precision costs, as root mean squares over the whole output (one
    /// element's roundings, through all layers, are nobody's to predict), and a slack for sums in other orders.
    pub fn bound(&self) -> f64 {
        let gap: Vec<f64> = self.lowp.iter().zip(&self.value).map(|(a, b)| a - b).collect();
        2.0 * rms(&gap) + 1e-5 * rms(&self.value)
    }

    /// How far it is off; not a number where an element is none, or where elements are missing.
    pub fn error(&self, found: &[f64]) -> f64 {
        if found.len() != self.value.len() {
            return f64::NAN;
        }
        rms(&found.iter().zip(&self.value).map(|(a, b)| a - b).collect::<Vec<_>>())
    }
}

fn rms(v: &[f64]) -> f64 {
    (v.iter().map(|x| x * x).sum::<f64>() / v.len().max(1) as f64).sqrt()
}

fn side_by_side(layer: &Layer, c: &Concat, first: &[f64], second: &[f64]) -> Vec<f64> {
    let rows = first.chunks(layer.cin as usize).zip(second.chunks(c.channels as usize));
    rows.flat_map(|(a, b)| [a, b].concat()).collect()
}
