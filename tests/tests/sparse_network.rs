//! Networks as one plan on the emulator: every layer against f64, from what the layers before it gave.

use std::collections::BTreeMap;
use tilewright_ir::{Arch, DType};
use tilewright_runtime::plan::Role;
use tilewright_scenes::{Sensor, scan, voxelise};
use tilewright_templates::plan::OpPlan;
use tilewright_templates::sparse_conv::network::{
    Feed, GroupChoice, GroupId, Kind, LayerId, Network, NetworkChoice, NetworkMaps, ShortTiles, network_plan, network_reference,
    shipped,
};
use tilewright_templates::sparse_conv::{ConvOperands, ConvProblem, Coord, Dataflow, Points, RowOrder, conv_reference};
use tilewright_tests::numbers::{Random, decode, encode, i32s};
use tilewright_tests::{BuiltPlan, PlanRan, Runner};

/// A U with one pair of twins, residual blocks with and without a shortcut, and a concatenation.
const U: &str = "name = \"u\"\nchannels = 4\nlayers = [\n\
    { name = \"stem\", op = \"submanifold\", cin = 4, cout = 16 },\n\
    { name = \"down\", op = \"strided\", cin = 16, cout = 16, kernel = 2, stride = 2 },\n\
    { name = \"mid\", op = \"residual\", cin = 16, cout = 32, act = \"silu\" },\n\
    { name = \"up\", op = \"inverse\", of = \"down\", cin = 32, cout = 16 },\n\
    { name = \"cat\", op = \"concat\", with = \"stem\", cin = 16, cout = 32 },\n\
    { name = \"last\", op = \"residual\", cin = 32, cout = 16 },\n]\n";

/// A piece of a simulated scan.
fn crop(n: usize) -> Vec<Coord> {
    voxelise(&scan(Sensor::Hdl32, 1), [0.15; 3], 0).unwrap().crop(n).coords
}

struct Trial<'a> {
    network: &'a Network,
    d: DType,
    choice: &'a NetworkChoice,
    op: OpPlan,
    built: BuiltPlan,
}

impl<'a> Trial<'a> {
    fn new(arch: Arch, network: &'a Network, d: DType, choice: &'a NetworkChoice) -> Self {
        let op = network_plan(arch, network, d, choice).unwrap();
        let runner = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker"));
        let kernels = op.kernels.iter().map(|k| (k.id.as_str(), &k.kernel));
        let built = runner.build_plan(&op.plan, kernels).unwrap_or_else(|e| panic!("{e}"));
        Trial { network, d, choice, op, built }
    }

    /// Runs the network on voxels, with room for `spare` more on every level, and checks every layer.
    fn holds(&self, coords: &[Coord], spare: usize, seed: u64) {
        let maps = NetworkMaps::build(self.network, Points::new(coords.to_vec()).unwrap()).unwrap();
        let vars: Vec<(String, i64)> = maps.variables().into_iter().map(|(n, v)| (n, v + spare as i64)).collect();
        let vars: Vec<(&str, i64)> = vars.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        let inputs = self.inputs(coords, spare, seed);
        let given: Vec<(&str, &[u8])> = inputs.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
        let ran = self.built.run(&vars, &[], &given, seed).unwrap();
        assert!(ran.errors.is_empty(), "{}", ran.errors.join("\n"));
        assert_eq!(ran.tensors["status"], i32s(&[i32::MAX; 4]));
        let level = self.network.layers.last().unwrap().level;
        if let Some(found) = ran.tensors.get("coords_out") {
            let expected: Vec<i32> = maps.levels[level.0].rows().iter().flatten().copied().collect();
            assert_eq!(found[..4 * expected.len()], i32s(&expected));
            assert_eq!(ran.tensors["count_out"], i32s(&[maps.rows(level) as i32]));
        }
        let numbers: BTreeMap<String, Vec<f64>> = (inputs.iter().filter(|(n, _)| !n.starts_with("co")))
            .map(|(n, b)| (n.clone(), decode(if n == "features" || n.ends_with("weight") { self.d } else { DType::F32 }, b)))
            .collect();
        let reference = network_reference(self.network, &maps, self.d, self.choice, &numbers).unwrap();
        let found = &decode(self.d, &ran.tensors["features_out"])[..reference.value.len()];
        let (error, bound) = (reference.error(found), reference.bound());
        assert!(error <= bound && bound > 0.0, "{} is off by {error}, the bound is {bound}", self.network.name);
        assert!(reference.error(&found[1..]).is_nan());
        for id in 0..self.network.layers.len() {
            self.check(&maps, &ran, LayerId(id));
        }
    }

    /// Contents of every input.
    fn inputs(&self, coords: &[Coord], spare: usize, seed: u64) -> BTreeMap<String, Vec<u8>> {
        let mut random = Random::new(seed + 1);
        let padded: Vec<i32> = coords.iter().flatten().copied().chain(std::iter::repeat_n(77, 4 * spare)).collect();
        let mut list = BTreeMap::from([("coords".into(), i32s(&padded)), ("count".into(), i32s(&[coords.len() as i32]))]);
        let channels = self.network.channels as usize;
        list.insert("features".into(), encode(self.d, &random.list(self.d, (coords.len() + spare) * channels)));
        for layer in &self.network.layers {
            let Kind::Conv(conv) = &layer.kind else { continue };
            let taps = self.network.group(conv.group).geometry.taps();
            let (cin, cout) = (layer.cin as usize, layer.cout as usize);
            // So that features neither grow nor vanish from layer to layer.
            let scale = 1.5 / (cin as f64 * taps as f64).sqrt();
            let weight: Vec<f64> = random.list(self.d, taps * cin * cout).iter().map(|w| w * scale).collect();
            list.insert(format!("{}.weight", layer.name), encode(self.d, &weight));
            for (name, middle, size) in [("bias", 0.0, 0.3), ("bn_scale", 0.75, 0.25), ("bn_shift", 0.0, 0.3)] {
                let v: Vec<f64> = (0..cout).map(|_| middle + size * random.unit()).collect();
                list.insert(format!("{}.{name}", layer.name), encode(DType::F32, &v));
            }
        }
        list.retain(|name, _| self.op.plan.tensors.iter().any(|t| t.name == *name && t.role == Role::Input));
        list
    }

    /// A layer from the tensors that the run left.
    fn check(&self, maps: &NetworkMaps, ran: &PlanRan, id: LayerId) {
        let (network, d) = (self.network, self.d);
        let layer = network.layer(id);
        let rows = |feed: Feed| maps.rows(network.level_of(feed)) * network.channels_of(feed) as usize;
        let tensor = |feed: Feed| {
            let name = match feed {
                Feed::Input => "features".into(),
                Feed::Layer(id) if id.0 + 1 == network.layers.len() => "features_out".into(),
                Feed::Layer(id) => format!("{}.y", network.layer(id).name),
            };
            decode(d, &ran.tensors[&name])[..rows(feed)].to_vec()
        };
        let found = tensor(Feed::Layer(id));
        let conv = match &layer.kind {
            Kind::Conv(conv) => conv,
            Kind::Concat(c) => {
                let (first, second) = (tensor(layer.input), tensor(c.with));
                let rows = first.chunks(layer.cin as usize).zip(second.chunks(c.channels as usize));
                let expected: Vec<f64> = rows.flat_map(|(a, b)| [a, b].concat()).collect();
                assert_eq!(found, expected, "{}", layer.name);
                return;
            }
        };
        let vector =
            |name: &str| ran.tensors.get(&format!("{}.{name}", layer.name)).map_or(Vec::new(), |b| decode(DType::F32, b));
        let operands = ConvOperands {
            channels: [layer.cin as usize, layer.cout as usize],
            features: tensor(layer.input),
            weight: decode(d, &ran.tensors[&format!("{}.weight", layer.name)]),
            bias: vector("bias"),
            bn_scale: vector("bn_scale"),
            bn_shift: vector("bn_shift"),
            residual: conv.residual.map_or(Vec::new(), tensor),
        };
        let problem = ConvProblem { act: conv.act, ..ConvProblem::plain(d, network.mode_of(conv)) };
        let map = maps.of(network, conv).unwrap();
        let reference = conv_reference(&problem, &map, &operands, self.choice.of(conv.group).flow);
        assert_eq!(reference.first_miss(&found, layer.cout as usize), None, "{} of {}", layer.name, network.name);
        // A test of zeros would hold whatever the kernels did; relu leaves few voxels some.
        let alive = found.iter().filter(|v| **v != 0.0).count() * 8 > found.len();
        assert!(alive || maps.rows(layer.level) < 20, "{} is nearly all zeros", layer.name);
    }
}

#[test]
fn a_small_u_by_implicit_gemm() {
    let network = Network::parse(U).unwrap();
    let choice = NetworkChoice::all(GroupChoice::plain(DType::F16, Dataflow::Implicit));
    let trial = Trial::new(Arch::Sm90a, &network, DType::F16, &choice);
    trial.holds(&crop(110), 0, 0);
    trial.holds(&crop(40), 37, 1);
    // One voxel has one neighbour: itself.
    trial.holds(&[[3, -5, 7, 1_000_000]], 2, 2);
}

#[test]
fn groups_done_each_in_another_way() {
    let network = Network::parse(U).unwrap();
    let plain = |flow| GroupChoice::plain(DType::BF16, flow);
    let short = Some(ShortTiles { rows: 32, eps_thousandths: 250 });
    let groups = [
        GroupChoice { order: RowOrder::GrayRare, ..plain(Dataflow::ImplicitSorted { splits: 2 }) },
        plain(Dataflow::FetchOnDemand { fused: false }),
        GroupChoice { short, ..plain(Dataflow::GatherScatter) },
        plain(Dataflow::FetchOnDemand { fused: true }),
    ];
    let choice = NetworkChoice {
        groups: groups.into_iter().enumerate().map(|(i, g)| (GroupId(i), g)).collect(),
        otherwise: plain(Dataflow::Implicit),
    };
    assert_eq!(network.groups.len(), 5, "one group is left for the other choice");
    let trial = Trial::new(Arch::Sm80, &network, DType::BF16, &choice);
    trial.holds(&crop(80), 5, 1);
    trial.holds(&crop(40), 0, 2);
}

#[test]
fn the_first_blocks_of_minkunet() {
    let whole = shipped("minkunet_w05").unwrap().unwrap();
    let network = whole.until(whole.find("stage1.0.conv2").unwrap());
    let choice = NetworkChoice::all(GroupChoice::plain(DType::F16, Dataflow::ImplicitSorted { splits: 1 }));
    Trial::new(Arch::Sm80, &network, DType::F16, &choice).holds(&crop(60), 0, 0);
}

#[test]
fn every_shipped_network_has_a_plan_within_the_runtimes_variables() {
    for (name, _) in tilewright_templates::sparse_conv::network::SHIPPED {
        let network = shipped(name).unwrap().unwrap();
        for (arch, d, flow) in [
            (Arch::Sm90a, DType::F16, Dataflow::ImplicitSorted { splits: 3 }),
            (Arch::Sm80, DType::BF16, Dataflow::GatherScatter),
        ] {
            let op = network_plan(arch, &network, d, &NetworkChoice::all(GroupChoice::plain(d, flow))).unwrap();
            let known = network.levels.len() + network.groups.len();
            let most = op.plan.launches.iter().map(|l| l.sets.len()).max().unwrap();
            // And `sms`.
            assert!(known + most < tilewright_runtime::expr::MAX_VARS, "{name}: {known} + {most}");
        }
    }
}
