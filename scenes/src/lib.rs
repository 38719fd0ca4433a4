//! Voxels to test and time sparse convolutions with. Speed depends on which neighbours exist, so coordinates drawn at random are
//! no input for it: 92000 of them in the box of a street scan have 1.03 neighbours each, those of the scan 3.8.
//!
//! | file | holds |
//! |---|---|
//! | `sensor` | beams of the sensors that are simulated |
//! | `world` | a street: ground, buildings, cars, poles, vegetation, clutter far away |
//! | `shape` | what rays meet, and where |
//! | `lidar` | a scan of a world by a sensor |
//! | `ply` | reading real scans |
//! | `voxels` | from points to voxels |
//! | `random` | numbers that depend on a seed alone |
//!
//! Means of simulated scans (`tests/calibration.rs` prints and holds them) and a real one each: voxels, pairs of a 3x3x3 submanifold
//! map for each voxel, rows executed for each pair in tiles of 128 (as the scan comes; sorted in 1, 2, 3 ranges of taps), voxels
//! of the next four levels:
//!
//! | scan, voxel | voxels | neighbours | rows for each pair | levels |
//! |---|---|---|---|---|
//! | HDL-64, 0.05 m | 96367 | 3.68 | 6.12; 2.20, 1.41, 1.19 | 64657, 33400, 14232, 5324 |
//! | KITTI | 91767 | 3.77 | 5.39; 2.15, 1.43, 1.20 | 60152, 31834, 14467, 5925 |
//! | HDL-32, 0.075 x 0.075 x 0.2 m | 20308 | 2.66 | 6.89; 2.45, 1.62, 1.37 | 15273, 9495, 4853, 2130 |
//! | nuScenes | 19866 | 2.92 | 6.08; 2.40, 1.67, 1.40 | 14167, 8879, 4939, 2435 |
//! | rig, 0.1 m | 112405 | 5.81 | 4.39; 1.97, 1.37, 1.16 | 61314, 26945, 9916, 3251 |
//! | Waymo | 125565 | 6.28 | 4.21; 2.20, 1.42, 1.16 | 67099, 27855, 10600, 3716 |
//!
//! ```
//! use tilewright_scenes::{Sensor, scan, voxelise};
//!
//! let points = scan(Sensor::Hdl32, 7);
//! let voxels = voxelise(&points, [0.1; 3], 0).unwrap();
//! assert!(voxels.coords.len() > 10_000);
//! ```
#![warn(missing_docs)]

mod lidar;
mod ply;
mod random;
mod sensor;
mod shape;
mod voxels;
mod world;

pub use lidar::{Point, scan};
pub use ply::{PlyError, read_ply};
pub use sensor::{Sensor, UnknownSensor};
pub use voxels::{VoxelError, Voxels, voxelise};
