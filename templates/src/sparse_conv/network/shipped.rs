//! The networks under `networks/`.

use super::graph::{GraphError, Network};

/// Name and text of each network that comes with the library.
pub const SHIPPED: [(&str, &str); 4] = [
    ("minkunet_w1", include_str!("../../../../networks/minkunet_w1.toml")),
    ("minkunet_w05", include_str!("../../../../networks/minkunet_w05.toml")),
    ("centerpoint", include_str!("../../../../networks/centerpoint.toml")),
    ("second", include_str!("../../../../networks/second.toml")),
];

/// A network that comes with the library, by its name; `None` where there is none of it.
pub fn shipped(name: &str) -> Option<Result<Network, GraphError>> {
    SHIPPED.iter().find(|s| s.0 == name).map(|s| Network::parse(s.1))
}

#[cfg(test)]
mod tests {
    use super::super::graph::{Kind, LevelId};
    use super::*;
    use crate::sparse_conv::Mode;

    fn network(name: &str) -> Network {
        shipped(name).expect("it is shipped").expect("it parses")
    }

    #[test]
    fn every_network_parses_and_has_its_name() {
        for (name, _) in SHIPPED {
            let n = network(name);
            assert_eq!(n.name, name);
            assert_eq!(n.groups.iter().map(|g| g.layers.len()).sum::<usize>(), convs(&n));
        }
        assert!(shipped("resnet").is_none());
    }

    fn convs(n: &Network) -> usize {
        n.layers.iter().filter(|l| matches!(l.kind, Kind::Conv(_))).count()
    }

    #[test]
    fn minkunet_shares_one_map_a_level_and_one_a_pair_of_twins() {
        let n = network("minkunet_w1");
        assert_eq!(n.levels.len(), 5);
        let of = |mode, taps| n.groups.iter().filter(move |g| g.mode == mode && g.geometry.taps() == taps);
        assert_eq!(of(Mode::Submanifold, 27).count(), 5);
        assert_eq!(of(Mode::Strided, 8).count(), 4);
        // Where channels change, a residual block's other path is a matrix product: a map of one tap, at each level once.
        assert_eq!(of(Mode::Submanifold, 1).count(), 5);
        for g in of(Mode::Strided, 8) {
            let ups = g.layers.iter().filter(|l| matches!(n.layer(**l).kind, Kind::Conv(c) if c.up)).count();
            assert_eq!((g.layers.len(), ups), (2, 1), "a down layer and its twin");
        }
        // 2 + 4 * (1 + 2 * 2) + 4 * (1 + 2 * 2) with 3x3x3 or 2x2x2 kernels are the 42 of its name.
        assert_eq!(n.groups.iter().filter(|g| g.geometry.taps() > 1).map(|g| g.layers.len()).sum::<usize>(), 42);
        let last = n.layers.last().unwrap();
        assert_eq!((last.cout, last.level), (96, LevelId(0)));
        assert_eq!(network("minkunet_w05").layers.last().unwrap().cout, 48);
    }

    #[test]
    fn detectors_go_down_only() {
        let centerpoint = network("centerpoint");
        assert_eq!((centerpoint.levels.len(), convs(&centerpoint), centerpoint.layers.last().unwrap().cout), (5, 21, 128));
        let second = network("second");
        assert_eq!((second.levels.len(), convs(&second), second.layers.last().unwrap().cout), (5, 12, 128));
    }

    #[test]
    fn a_prefix_keeps_the_maps_it_needs() {
        let n = network("minkunet_w1");
        let block = n.until(n.find("stage1.0.conv2").unwrap());
        assert_eq!((block.layers.len(), block.levels.len(), block.groups.len()), (5, 2, 3));
        assert!(block.groups.iter().all(|g| g.layers.iter().all(|l| l.0 < 5)));
        let whole = n.until(n.find("stage8.1.conv2").unwrap());
        assert_eq!((&whole.layers, &whole.levels, &whole.groups), (&n.layers, &n.levels, &n.groups));
    }
}
