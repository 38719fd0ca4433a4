//! From a data file to a graph.
//!
//! A file is TOML: `name`, `channels` of the input, and `layers`, each a table:
//!
//! | key | of | says |
//! |---|---|---|
//! | `name`, `op` | all | what it is called, and submanifold, strided, inverse, concat or residual |
//! | `input` | all | the layer that features come from; where absent the one before, `input` for the network's |
//! | `cin`, `cout` | all | channels in and out, checked against the layers around it |
//! | `kernel`, `dilation` | submanifold, strided, residual | one integer or `[x, y, z]`; 3 and 1 where absent |
//! | `stride`, `padding` | strided | 1 and 0 where absent |
//! | `of` | inverse | the strided layer that it undoes |
//! | `with` | concat | the layer whose channels come second |
//! | `bias`, `bn` | convolutions | false and true where absent |
//! | `act` | all but concat | none, relu, gelu or silu; relu where absent |
//! | `residual` | convolutions | a layer whose features are added before the activation |
//!
//! `residual` blocks are written out: `NAME.conv1` with bn and act, `NAME.conv2` with bn, to which the block's input is added,
//! through the 1x1x1 convolution `NAME.shortcut` with bn where channels change, before the activation. `NAME` is then the
//! name of `NAME.conv2` too.

use super::super::geometry::{Geometry, Mode};
use super::graph::{Concat, Conv, Feed, GraphError, Kind, Layer, LayerId, LevelId, Network};
use crate::gemm::Act;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    channels: u32,
    layers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    op: String,
    input: Option<String>,
    cin: u32,
    cout: u32,
    kernel: Option<Triple>,
    stride: Option<Triple>,
    dilation: Option<Triple>,
    padding: Option<Triple>,
    of: Option<String>,
    with: Option<String>,
    bias: Option<bool>,
    bn: Option<bool>,
    act: Option<String>,
    residual: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "expected one integer or [x, y, z]")]
enum Triple {
    All(u32),
    Each([u32; 3]),
}

impl Network {
    /// Reads a network from the text of its file.
    ///
    /// # Errors
    /// The text is no such file, or layers do not fit each other; the line or the layer is named.
    pub fn parse(text: &str) -> Result<Self, GraphError> {
        let file: File = toml::from_str(text).map_err(|e| GraphError::File {
            line: e.span().map_or(1, |s| text[..s.start.min(text.len())].matches('\n').count() + 1),
            message: e.message().replace('\n', " "),
        })?;
        let mut reader = Reader { network: Network::new(&file.name, file.channels), names: BTreeMap::new() };
        for entry in &file.layers {
            reader.read(entry)?;
        }
        match reader.network.layers.is_empty() {
            true => Err(GraphError::Empty(file.name)),
            false => Ok(reader.network),
        }
    }
}

/// A network as far as it has been read.
struct Reader {
    network: Network,
    names: BTreeMap<String, LayerId>,
}

impl Reader {
    fn read(&mut self, e: &Entry) -> Result<(), GraphError> {
        let input = match &e.input {
            Some(name) => self.feed(e, "input", name)?,
            None => self.network.layers.len().checked_sub(1).map_or(Feed::Input, |last| Feed::Layer(LayerId(last))),
        };
        let (network, given) = (&self.network, self.network.channels_of(input));
        if given != e.cin {
            let why = format!("`{}` gives", network.name_of(input));
            return Err(GraphError::Channels { layer: e.name.clone(), key: "cin", found: e.cin, why, expected: given });
        }
        e.check_keys()?;
        match e.op.as_str() {
            "submanifold" => {
                let geometry = Geometry::submanifold(triple(e.kernel, 3), triple(e.dilation, 1));
                self.conv(e, input, Mode::Submanifold, geometry)
            }
            "strided" => {
                let (kernel, dilation) = (triple(e.kernel, 3), triple(e.dilation, 1));
                let (stride, padding) = (triple(e.stride, 1), triple(e.padding, 0));
                self.conv(e, input, Mode::Strided, Geometry { kernel, stride, dilation, padding })
            }
            "inverse" => self.inverse(e, input),
            "concat" => self.concat(e, input),
            _ => self.block(e, input),
        }
    }

    fn conv(&mut self, e: &Entry, input: Feed, mode: Mode, geometry: Geometry) -> Result<(), GraphError> {
        let fail = |source| GraphError::Geometry { layer: e.name.clone(), source };
        geometry.check(mode).map_err(fail)?;
        let group = self.network.group_for(mode, geometry, self.network.level_of(input));
        let level = self.network.group(group).coarse;
        let conv = Conv { group, up: false, bias: false, bn: true, act: Act::Relu, residual: None };
        self.add_conv(e, input, level, conv)
    }

    fn inverse(&mut self, e: &Entry, input: Feed) -> Result<(), GraphError> {
        let twin = e.of.as_deref().ok_or_else(|| e.missing("of"))?;
        let no_twin = || GraphError::Twin { layer: e.name.clone(), twin: twin.into() };
        let Feed::Layer(id) = self.feed(e, "of", twin)? else { return Err(no_twin()) };
        let group = match self.network.layer(id).kind {
            Kind::Conv(c) if !c.up && self.network.group(c.group).mode == Mode::Strided => c.group,
            _ => return Err(no_twin()),
        };
        let (fine, coarse) = (self.network.group(group).fine, self.network.group(group).coarse);
        self.same_level(e, "input", input, coarse)?;
        let conv = Conv { group, up: true, bias: false, bn: true, act: Act::Relu, residual: None };
        self.add_conv(e, input, fine, conv)
    }

    /// Adds a convolution with the epilogue that its entry asks for.
    fn add_conv(&mut self, e: &Entry, input: Feed, level: LevelId, conv: Conv) -> Result<(), GraphError> {
        let residual = e.residual.as_deref().map(|name| self.feed(e, "residual", name)).transpose()?;
        if let Some(other) = residual {
            self.same_level(e, "residual", other, level)?;
            let found = self.network.channels_of(other);
            if found != e.cout {
                let why = "cout is".to_string();
                return Err(GraphError::Channels { layer: e.name.clone(), key: "residual", found, why, expected: e.cout });
            }
        }
        let kind = Kind::Conv(Conv { bias: e.bias.unwrap_or(false), bn: e.bn.unwrap_or(true), act: e.act()?, residual, ..conv });
        self.add(Layer { name: e.name.clone(), input, level, cin: e.cin, cout: e.cout, kind })?;
        Ok(())
    }

    fn concat(&mut self, e: &Entry, input: Feed) -> Result<(), GraphError> {
        let with = self.feed(e, "with", e.with.as_deref().ok_or_else(|| e.missing("with"))?)?;
        let level = self.network.level_of(input);
        self.same_level(e, "with", with, level)?;
        let channels = self.network.channels_of(with);
        if e.cin + channels != e.cout {
            let why = format!("cin and the channels of `{}` are", self.network.name_of(with));
            let expected = e.cin + channels;
            return Err(GraphError::Channels { layer: e.name.clone(), key: "cout", found: e.cout, why, expected });
        }
        let kind = Kind::Concat(Concat { with, channels });
        self.add(Layer { name: e.name.clone(), input, level, cin: e.cin, cout: e.cout, kind })?;
        Ok(())
    }

    /// A residual block, written out.
    fn block(&mut self, e: &Entry, input: Feed) -> Result<(), GraphError> {
        let level = self.network.level_of(input);
        let geometry = Geometry::submanifold(triple(e.kernel, 3), triple(e.dilation, 1));
        geometry.check(Mode::Submanifold).map_err(|source| GraphError::Geometry { layer: e.name.clone(), source })?;
        let group = self.network.group_for(Mode::Submanifold, geometry, level);
        let plain = Conv { group, up: false, bias: false, bn: true, act: Act::None, residual: None };
        let (cin, cout, act) = (e.cin, e.cout, e.act()?);
        let name = |part: &str| format!("{}.{part}", e.name);
        let kind = Kind::Conv(Conv { act, ..plain });
        let first = self.add(Layer { name: name("conv1"), input, level, cin, cout, kind })?;
        let past = if cin == cout {
            input
        } else {
            let group = self.network.group_for(Mode::Submanifold, Geometry::submanifold([1; 3], [1; 3]), level);
            let kind = Kind::Conv(Conv { group, ..plain });
            Feed::Layer(self.add(Layer { name: name("shortcut"), input, level, cin, cout, kind })?)
        };
        let kind = Kind::Conv(Conv { act, residual: Some(past), ..plain });
        let input = Feed::Layer(first);
        let last = self.add(Layer { name: name("conv2"), input, level, cin: cout, cout, kind })?;
        self.call(&e.name, last)
    }

    fn add(&mut self, layer: Layer) -> Result<LayerId, GraphError> {
        let name = layer.name.clone();
        let id = self.network.push(layer);
        self.call(&name, id)?;
        Ok(id)
    }

    /// Gives a layer a name.
    fn call(&mut self, name: &str, id: LayerId) -> Result<(), GraphError> {
        if name == "input" || self.names.insert(name.into(), id).is_some() {
            return Err(GraphError::Name(name.into()));
        }
        Ok(())
    }

    fn feed(&self, e: &Entry, key: &'static str, name: &str) -> Result<Feed, GraphError> {
        match self.names.get(name) {
            _ if name == "input" => Ok(Feed::Input),
            Some(id) => Ok(Feed::Layer(*id)),
            None => {
                let known = ["input"].into_iter().chain(self.names.keys().map(String::as_str)).collect::<Vec<_>>().join(", ");
                Err(GraphError::Unknown { layer: e.name.clone(), key, wanted: name.into(), known })
            }
        }
    }

    fn same_level(&self, e: &Entry, key: &'static str, feed: Feed, expected: LevelId) -> Result<(), GraphError> {
        let found = self.network.level_of(feed);
        if found == expected {
            return Ok(());
        }
        let other = self.network.name_of(feed).to_string();
        Err(GraphError::Level { layer: e.name.clone(), key, other, found: found.0, expected: expected.0 })
    }
}

impl Entry {
    /// Every key must mean something to the op.
    fn check_keys(&self) -> Result<(), GraphError> {
        let takes: &[&str] = match self.op.as_str() {
            "submanifold" => &["kernel", "dilation", "bias", "bn", "act", "residual"],
            "strided" => &["kernel", "stride", "dilation", "padding", "bias", "bn", "act", "residual"],
            "inverse" => &["of", "bias", "bn", "act", "residual"],
            "concat" => &["with"],
            "residual" => &["kernel", "dilation", "act"],
            op => return Err(GraphError::Op { layer: self.name.clone(), op: op.into() }),
        };
        let given = [
            ("kernel", self.kernel.is_some()),
            ("stride", self.stride.is_some()),
            ("dilation", self.dilation.is_some()),
            ("padding", self.padding.is_some()),
            ("of", self.of.is_some()),
            ("with", self.with.is_some()),
            ("bias", self.bias.is_some()),
            ("bn", self.bn.is_some()),
            ("act", self.act.is_some()),
            ("residual", self.residual.is_some()),
        ];
        match given.into_iter().find(|(key, there)| *there && !takes.contains(key)) {
            Some((key, _)) => Err(GraphError::Key { layer: self.name.clone(), key, op: self.op.clone() }),
            None => Ok(()),
        }
    }

    fn act(&self) -> Result<Act, GraphError> {
        match self.act.as_deref() {
            Some("none") => Ok(Act::None),
            None | Some("relu") => Ok(Act::Relu),
            Some("gelu") => Ok(Act::Gelu),
            Some("silu") => Ok(Act::Silu),
            Some(act) => Err(GraphError::Act { layer: self.name.clone(), act: act.into() }),
        }
    }

    fn missing(&self, key: &'static str) -> GraphError {
        GraphError::Missing { layer: self.name.clone(), key, op: self.op.clone() }
    }
}

fn triple(given: Option<Triple>, otherwise: u32) -> [u32; 3] {
    match given {
        None => [otherwise; 3],
        Some(Triple::All(v)) => [v; 3],
        Some(Triple::Each(v)) => v,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small U; `more` comes after its layers.
    fn parse(more: &str) -> Result<Network, GraphError> {
        Network::parse(&format!(
            "name = \"u\"\nchannels = 4\nlayers = [\n{{ name = \"stem\", op = \"submanifold\", cin = 4, cout = 8 }},\n\
             {{ name = \"down\", op = \"strided\", cin = 8, cout = 8, kernel = 2, stride = 2 }},\n\
             {{ name = \"mid\", op = \"residual\", cin = 8, cout = 16 }},\n{more}\n]\n"
        ))
    }

    fn refusal(more: &str) -> String {
        parse(more).unwrap_err().to_string()
    }

    #[test]
    fn blocks_are_written_out_and_twins_share_their_map() {
        let n = parse(
            "{ name = \"up\", op = \"inverse\", of = \"down\", cin = 16, cout = 8, act = \"silu\" },\n\
             { name = \"cat\", op = \"concat\", with = \"stem\", cin = 8, cout = 16 },\n\
             { name = \"last\", op = \"submanifold\", cin = 16, cout = 4, residual = \"input\", bn = false, bias = true },",
        )
        .unwrap();
        let names: Vec<_> = n.layers.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(names, ["stem", "down", "mid.conv1", "mid.shortcut", "mid.conv2", "up", "cat", "last"]);
        assert_eq!(
            n.groups.iter().map(|g| g.layers.iter().map(|l| l.0).collect()).collect::<Vec<Vec<_>>>(),
            [vec![0, 7], vec![1, 5], vec![2, 4], vec![3],]
        );
        let Kind::Conv(up) = n.layers[5].kind else { panic!("a convolution") };
        assert_eq!((up.up, up.group, n.layers[5].level, n.mode_of(&up)), (true, n_group(1), LevelId(0), Mode::Inverse));
        assert_eq!((up.act, up.bn), (Act::Silu, true));
        let Kind::Conv(conv2) = n.layers[4].kind else { panic!("a convolution") };
        assert_eq!((conv2.residual, conv2.act), (Some(Feed::Layer(LayerId(3))), Act::Relu));
        assert_eq!(n.layers[5].input, Feed::Layer(LayerId(4)), "the layer before a block's successor is its last");
        let Kind::Conv(last) = n.layers[7].kind else { panic!("a convolution") };
        assert_eq!((last.residual, last.bias, last.bn), (Some(Feed::Input), true, false));
    }

    fn n_group(id: usize) -> super::super::graph::GroupId {
        super::super::graph::GroupId(id)
    }

    #[test]
    fn a_residual_may_be_a_blocks_name() {
        let n = parse("{ name = \"next\", op = \"submanifold\", cin = 16, cout = 16, residual = \"mid\" }").unwrap();
        let Kind::Conv(next) = n.layers[5].kind else { panic!("a convolution") };
        assert_eq!(next.residual, Some(Feed::Layer(LayerId(4))));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let told = |more: &str, parts: &[&str]| {
            let text = refusal(more);
            assert!(parts.iter().all(|p| text.contains(p)) && !text.contains('\n'), "{text}");
        };
        told(
            "{ name = \"a\", op = \"submanifold\", cin = 16, cout = 8, input = \"midd\" }",
            &["`a`", "input = \"midd\" names no earlier layer", "down, mid, mid.conv1"],
        );
        told("{ name = \"a\", op = \"submanifold\", cin = 8, cout = 8 }", &["`a`: cin = 8, but `mid.conv2` gives 16"]);
        told("{ name = \"a\", op = \"concat\", with = \"down\", cin = 16, cout = 8 }", &["cout = 8", "`down` are 24"]);
        told(
            "{ name = \"a\", op = \"concat\", with = \"stem\", cin = 16, cout = 24 }",
            &["with `stem` is at level 0, expected level 1"],
        );
        told("{ name = \"a\", op = \"inverse\", cin = 16, cout = 8 }", &["`a`: op = \"inverse\" needs of"]);
        told("{ name = \"a\", op = \"inverse\", of = \"stem\", cin = 16, cout = 8 }", &["of = \"stem\" is no strided layer"]);
        told(
            "{ name = \"a\", op = \"inverse\", of = \"down\", input = \"stem\", cin = 8, cout = 8 }",
            &["input `stem` is at level 0, expected level 1"],
        );
        told("{ name = \"a\", op = \"submanifold\", cin = 16, cout = 4, residual = \"mid\" }", &["residual = 16, but cout is 4"]);
        told("{ name = \"a\", op = \"conv\", cin = 16, cout = 8 }", &["op = \"conv\": expected submanifold, strided"]);
        told("{ name = \"a\", op = \"submanifold\", cin = 16, cout = 8, stride = 2 }", &["stride means nothing to op"]);
        told("{ name = \"a\", op = \"submanifold\", cin = 16, cout = 8, act = \"tanh\" }", &["act = \"tanh\": expected none"]);
        told("{ name = \"a\", op = \"submanifold\", cin = 16, cout = 8, kernel = 9 }", &["`a`: kernel = 9 along x"]);
        told("{ name = \"mid\", op = \"submanifold\", cin = 16, cout = 8 }", &["`mid`: the name is taken"]);
        told("{ name = \"a\", op = \"submanifold\", cin = 16 }", &["line 7", "cout"]);
        told("{ name = \"a\", op = \"submanifold\", cin = 16, cout = 8, channels = 3 }", &["line 7", "channels"]);
        told(
            "{ name = \"a\", op = \"submanifold\", cin = 16, cout = 8, kernel = [3, 3] }",
            &["line 7", "one integer or [x, y, z]"],
        );
        let empty = Network::parse("name = \"none\"\nchannels = 4\nlayers = []\n");
        assert_eq!(empty.unwrap_err().to_string(), "network `none` has no layers");
    }
}
