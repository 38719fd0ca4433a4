//! The maps of a network on the host: exact sizes for a plan's capacities, and what a run is checked against.

use super::super::geometry::Mode;
use super::super::host::{KernelMap, MapError, Points};
use super::graph::{Conv, LevelId, Network};

/// Voxels of every level and the map of every group.
#[derive(Clone, Debug)]
pub struct NetworkMaps {
    /// Voxels, by level.
    pub levels: Vec<Points>,
    /// Maps, by group, from the fine level to the coarse one.
    pub maps: Vec<KernelMap>,
}

impl NetworkMaps {
    /// Every map of a network on these voxels.
    ///
    /// # Errors
    /// A voxel of a coarser level does not fit 32 bits.
    pub fn build(network: &Network, input: Points) -> Result<Self, MapError> {
        let mut all = NetworkMaps { levels: vec![input], maps: Vec::new() };
        for group in &network.groups {
            let fine = &all.levels[group.fine.0];
            let map = KernelMap::build(group.mode, &group.geometry, fine, None)?;
            if group.mode != Mode::Submanifold {
                all.levels.push(Points::new(map.coords_out.clone())?);
            }
            all.maps.push(map);
        }
        Ok(all)
    }

    /// Voxels of a level.
    pub fn rows(&self, level: LevelId) -> usize {
        self.levels[level.0].rows().len()
    }

    /// The map a convolution multiplies through: its group's, or the inverse.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn of(&self, network: &Network, conv: &Conv) -> Result<KernelMap, MapError> {
        if !conv.up {
            return Ok(self.maps[conv.group.0].clone());
        }
        let group = network.group(conv.group);
        KernelMap::build(Mode::Inverse, &group.geometry, &self.levels[group.coarse.0], Some(&self.levels[group.fine.0]))
    }

    /// The variables of a plan of the network, with no room to spare: `rows0`, .. of levels and `pairs0`, .. of groups.
    pub fn variables(&self) -> Vec<(String, i64)> {
        let rows = self.levels.iter().enumerate().map(|(i, l)| (format!("rows{i}"), l.rows().len() as i64));
        let pairs = self.maps.iter().enumerate().map(|(i, m)| (format!("pairs{i}"), m.pairs() as i64));
        rows.chain(pairs).collect()
    }
}
