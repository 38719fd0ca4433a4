//! Bytes from device memory, and how long they take.

use super::coefficients::Coefficients;
use crate::device::DeviceProfile;

/// Operands of a GEMM and how its tiles walk over them.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// Rows and columns of a tile.
    pub tile: [f64; 2],
    /// Tiles along m and n.
    pub tiles: [f64; 2],
    /// Rows of tiles walked together.
    pub raster: f64,
    /// Tiles at work at once.
    pub wave: f64,
    /// Bytes of a row of a, and of a column of b.
    pub row_bytes: [f64; 2],
    /// Rows of a, columns of b.
    pub extent: [f64; 2],
}

impl Walk {
    /// Bytes of a and b from device memory: each once where L2 holds both; once a, and b for each band of `raster` rows of
    /// tiles, where it holds a band's rows of a; else, for each wave, the rows and columns that its tiles share as they go
    /// along k together.
    pub fn bytes(&self, d: &DeviceProfile, co: &Coefficients) -> f64 {
        let holds = co.l2_holds * d.l2_capacity;
        let [a, b] = [0, 1].map(|i| self.extent[i] * self.row_bytes[i]);
        if a + b <= holds {
            return a + b;
        }
        let rows = self.raster.min(self.tiles[0]).max(1.0);
        let bands = (self.tiles[0] / rows).ceil();
        let columns = (self.wave / rows).ceil().clamp(1.0, self.tiles[1]);
        let waves = (self.tiles[0] * self.tiles[1] / self.wave).ceil().max(1.0);
        let panel = rows * self.tile[0] * self.row_bytes[0] + columns * self.tile[1] * self.row_bytes[1];
        // What a band keeps while its waves go by, and the columns of the wave at work.
        let by_band = if panel <= holds { a + bands * b } else { f64::INFINITY };
        by_band.min(waves * panel).max(a + b)
    }
}

/// Seconds of bytes that a launch wrote and the next reads: through L2 where it holds them.
pub fn hand_over(d: &DeviceProfile, co: &Coefficients, bytes: f64) -> f64 {
    let memory = d.memory_bytes * co.memory;
    let near = if bytes <= co.l2_holds * d.l2_capacity { (d.l2_bytes * co.l2 * d.boost_hz).max(memory) } else { memory };
    bytes / near
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(n: f64, raster: f64) -> Walk {
        let tiles = [(n / 128.0).ceil(), (n / 256.0).ceil()];
        Walk { tile: [128.0, 256.0], tiles, raster, wave: 132.0, row_bytes: [2.0 * n; 2], extent: [n; 2] }
    }

    #[test]
    fn small_operands_come_once_and_large_ones_again() {
        let (d, co) = (DeviceProfile::named("H200").unwrap(), Coefficients::default());
        let once = |n: f64| 4.0 * n * n;
        assert_eq!(walk(2048.0, 8.0).bytes(d, &co), once(2048.0));
        let large = walk(16384.0, 8.0).bytes(d, &co);
        assert!(large > 2.0 * once(16384.0) && large < 30.0 * once(16384.0), "{}", large / once(16384.0));
        // Square waves share more than long ones.
        assert!(large < walk(16384.0, 1.0).bytes(d, &co));
    }

    #[test]
    fn what_fits_l2_is_handed_over_faster() {
        let (d, co) = (DeviceProfile::named("H200").unwrap(), Coefficients::default());
        assert!(hand_over(d, &co, 1e6) < 1e6 / d.memory_bytes);
        assert_eq!(hand_over(d, &co, 1e9), 1e9 / d.memory_bytes);
    }
}
