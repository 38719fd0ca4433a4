//! Layers, the resolutions (levels) they work at, and the groups of layers that share a kernel map.

use super::super::geometry::{Geometry, GeometryError, Mode};
use crate::gemm::Act;

/// A layer, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId(pub usize);

/// A set of voxels, by its place; 0 is the input's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LevelId(pub usize);

/// A kernel map that layers share, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub usize);

/// Where features come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feed {
    /// The network's input.
    Input,
    /// A layer's output.
    Layer(LayerId),
}

/// A layer graph. Layers stand in an order in which each comes after those it takes features from; the last is the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Channels of the input.
    pub channels: u32,
    /// Layers in order.
    pub layers: Vec<Layer>,
    /// Sets of voxels, the input's first.
    pub levels: Vec<Level>,
    /// Kernel maps, each between two levels or on one.
    pub groups: Vec<Group>,
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its name, given once in a network.
    pub name: String,
    /// Where its features come from.
    pub input: Feed,
    /// Voxels of its output.
    pub level: LevelId,
    /// Channels it takes from `input`.
    pub cin: u32,
    /// Channels it gives.
    pub cout: u32,
    /// What it does.
    pub kind: Kind,
}

/// What a layer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A convolution with its epilogue: `act((sum + bias) * bn_scale + bn_shift + residual)`.
    Conv(Conv),
    /// The channels of `input`, then those of another layer.
    Concat(Concat),
}

/// A convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// The map it multiplies through.
    pub group: GroupId,
    /// Runs the map backwards, from its outputs to its inputs.
    pub up: bool,
    /// Adds `bias [cout]`.
    pub bias: bool,
    /// Multiplies by `bn_scale [cout]` and adds `bn_shift [cout]`, a batch norm folded to two vectors.
    pub bn: bool,
    /// The activation.
    pub act: Act,
    /// Features of the same shape as the output that are added before the activation.
    pub residual: Option<Feed>,
}

/// A concatenation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concat {
    /// The features that come second.
    pub with: Feed,
    /// Their channels.
    pub channels: u32,
}

/// A set of voxels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// The map whose outputs these are; none for the input's.
    pub from: Option<GroupId>,
}

/// Layers that share a kernel map: the same level, kernel, stride, dilation, padding and mode. Layers that go back up are of the
/// group of the layer they undo, and run its map backwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Submanifold or strided.
    pub mode: Mode,
    /// Kernel, stride, dilation, padding.
    pub geometry: Geometry,
    /// Voxels of the map's inputs.
    pub fine: LevelId,
    /// Voxels of its outputs; `fine` of a submanifold map.
    pub coarse: LevelId,
    /// Its layers, in order.
    pub layers: Vec<LayerId>,
}

/// A graph that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// The file is no TOML, or a key is unknown, missing or of the wrong kind.
    #[error("line {line}: {message}")]
    File {
        /// From 1.
        line: usize,
        /// What was found and expected.
        message: String,
    },
    /// No layers at all.
    #[error("network `{0}` has no layers")]
    Empty(String),
    /// A name given twice, or kept for the input.
    #[error("layer `{0}`: the name is taken; every layer has its own, and `input` is the network's input")]
    Name(String),
    /// A layer that is not there, or comes later.
    #[error("layer `{layer}`: {key} = \"{wanted}\" names no earlier layer; there are {known}")]
    Unknown {
        /// The layer.
        layer: String,
        /// input, with, of or residual.
        key: &'static str,
        /// What it names.
        wanted: String,
        /// The layers before it.
        known: String,
    },
    /// An op that is none.
    #[error("layer `{layer}`: op = \"{op}\": expected submanifold, strided, inverse, concat or residual")]
    Op {
        /// The layer.
        layer: String,
        /// What it says.
        op: String,
    },
    /// An activation that is none.
    #[error("layer `{layer}`: act = \"{act}\": expected none, relu, gelu or silu")]
    Act {
        /// The layer.
        layer: String,
        /// What it says.
        act: String,
    },
    /// A key that the op does not take.
    #[error("layer `{layer}`: {key} means nothing to op = \"{op}\"")]
    Key {
        /// The layer.
        layer: String,
        /// The key.
        key: &'static str,
        /// The op.
        op: String,
    },
    /// A key that the op needs.
    #[error("layer `{layer}`: op = \"{op}\" needs {key}")]
    Missing {
        /// The layer.
        layer: String,
        /// The key.
        key: &'static str,
        /// The op.
        op: String,
    },
    /// A layer's channels are not those it is given.
    #[error("layer `{layer}`: {key} = {found}, but {why} {expected}")]
    Channels {
        /// The layer.
        layer: String,
        /// cin, cout or residual.
        key: &'static str,
        /// What it says.
        found: u32,
        /// Where the other number comes from.
        why: String,
        /// What it would have to be.
        expected: u32,
    },
    /// Features that stand on other voxels.
    #[error(
        "layer `{layer}`: {key} `{other}` is at level {found}, expected level {expected}: features are joined voxel by voxel"
    )]
    Level {
        /// The layer.
        layer: String,
        /// input, with or residual.
        key: &'static str,
        /// The layer named.
        other: String,
        /// Its level.
        found: usize,
        /// The level needed.
        expected: usize,
    },
    /// An inverse layer whose twin is no strided layer.
    #[error("layer `{layer}`: of = \"{twin}\" is no strided layer, so there is no map to run backwards")]
    Twin {
        /// The layer.
        layer: String,
        /// What it names.
        twin: String,
    },
    /// A geometry no kernel serves.
    #[error("layer `{layer}`: {source}")]
    Geometry {
        /// The layer.
        layer: String,
        /// Why.
        source: GeometryError,
    },
}

impl Network {
    /// A network without layers.
    pub(super) fn new(name: &str, channels: u32) -> Self {
        let levels = vec![Level { from: None }];
        Network { name: name.into(), channels, layers: Vec::new(), levels, groups: Vec::new() }
    }

    /// A layer by its name.
    pub fn find(&self, name: &str) -> Option<LayerId> {
        self.layers.iter().position(|l| l.name == name).map(LayerId)
    }

    /// A layer.
    pub fn layer(&self, id: LayerId) -> &Layer {
        &self.layers[id.0]
    }

    /// A group.
    pub fn group(&self, id: GroupId) -> &Group {
        &self.groups[id.0]
    }

    /// Channels that come from a place.
    pub fn channels_of(&self, feed: Feed) -> u32 {
        match feed {
            Feed::Input => self.channels,
            Feed::Layer(id) => self.layer(id).cout,
        }
    }

    /// Voxels on which features of a place stand.
    pub fn level_of(&self, feed: Feed) -> LevelId {
        match feed {
            Feed::Input => LevelId(0),
            Feed::Layer(id) => self.layer(id).level,
        }
    }

    /// A feed in words.
    pub fn name_of(&self, feed: Feed) -> &str {
        match feed {
            Feed::Input => "input",
            Feed::Layer(id) => &self.layer(id).name,
        }
    }

    /// Voxels that a convolution's inputs stand on.
    pub fn level_in(&self, conv: &Conv) -> LevelId {
        let group = self.group(conv.group);
        if conv.up { group.coarse } else { group.fine }
    }

    /// The mode of a convolution: its group's, or inverse.
    pub fn mode_of(&self, conv: &Conv) -> Mode {
        if conv.up { Mode::Inverse } else { self.group(conv.group).mode }
    }

    /// The network up to a layer, which becomes its output: a block of it, with the levels and maps that it needs.
    pub fn until(&self, last: LayerId) -> Network {
        let layers = self.layers[..=last.0].to_vec();
        let mut groups = self.groups.clone();
        groups.iter_mut().for_each(|g| g.layers.retain(|l| *l <= last));
        // Groups and levels are numbered as layers first need them, so those a prefix does not need are the last ones.
        let groups: Vec<Group> = groups.into_iter().take_while(|g| !g.layers.is_empty()).collect();
        let levels = groups.iter().map(|g| g.coarse.0 + 1).max().unwrap_or(1);
        Network {
            name: format!("{}_until_{}", self.name, self.layer(last).name),
            channels: self.channels,
            layers,
            levels: self.levels[..levels].to_vec(),
            groups,
        }
    }

    /// The group of a layer that goes down or stays, made where there is none yet.
    pub(super) fn group_for(&mut self, mode: Mode, geometry: Geometry, fine: LevelId) -> GroupId {
        let same = |g: &Group| (g.mode, g.geometry, g.fine) == (mode, geometry, fine);
        if let Some(at) = self.groups.iter().position(same) {
            return GroupId(at);
        }
        let id = GroupId(self.groups.len());
        let coarse = if mode == Mode::Submanifold {
            fine
        } else {
            self.levels.push(Level { from: Some(id) });
            LevelId(self.levels.len() - 1)
        };
        self.groups.push(Group { mode, geometry, fine, coarse, layers: Vec::new() });
        id
    }

    /// Adds a layer.
    pub(super) fn push(&mut self, layer: Layer) -> LayerId {
        let id = LayerId(self.layers.len());
        if let Kind::Conv(conv) = &layer.kind {
            self.groups[conv.group.0].layers.push(id);
        }
        self.layers.push(layer);
        id
    }
}
