//! Numbers that depend on a seed alone (SplitMix64, Steele et al., OOPSLA 2014).

/// A stream of numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed and a purpose, so that parts of a scene do not shift each other's numbers.
    pub fn new(seed: u64, purpose: u64) -> Self {
        Random(mix(seed ^ mix(purpose)))
    }

    /// From 0 to 1.
    pub fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        to_unit(mix(self.0))
    }

    /// Between two numbers.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Whether something of probability p happens.
    pub fn happens(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Nearly normal with deviation 1: the sum of four uniform numbers, so nothing lies beyond 3.5.
    pub fn normal(&mut self) -> f64 {
        let sum: f64 = (0..4).map(|_| self.unit()).sum();
        (sum - 2.0) * 3f64.sqrt()
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
}

/// A number from 0 to 1 for a place of a lattice.
pub fn at(seed: u64, place: [i64; 2]) -> f64 {
    to_unit(mix(mix(seed ^ place[0] as u64).wrapping_add(place[1] as u64)))
}

/// Value noise from -1 to 1: numbers at the places of a lattice of `cell` metres, smooth between them.
pub fn noise(seed: u64, x: f64, y: f64, cell: f64) -> f64 {
    let (x, y) = (x / cell, y / cell);
    let (i, j) = (x.floor(), y.floor());
    let ease = |t: f64| t * t * (3.0 - 2.0 * t);
    let (u, v) = (ease(x - i), ease(y - j));
    let corner = |a: i64, b: i64| at(seed, [i as i64 + a, j as i64 + b]);
    let low = corner(0, 0) * (1.0 - u) + corner(1, 0) * u;
    let high = corner(0, 1) * (1.0 - u) + corner(1, 1) * u;
    2.0 * (low * (1.0 - v) + high * v) - 1.0
}

fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn to_unit(x: u64) -> f64 {
    (x >> 11) as f64 / (1u64 << 53) as f64
}
