//! A street: ground, buildings, cars, poles, vegetation, clutter far away. The sensor stands at the origin, the street runs along x.

use crate::random::{Random, noise};
use crate::shape::{Form, Shape};
use std::f64::consts::TAU;

/// Half the width of the carriageway, in metres.
const ROAD: f64 = 5.0;
/// How high pavements and gardens stand above it.
const CURB: f64 = 0.12;

/// A world, drawn from a seed.
#[derive(Clone, Debug)]
pub struct World {
    /// What stands in it.
    pub shapes: Vec<Shape>,
    ground: Ground,
}

/// The ground: a slope, hills, curbs, and roughness.
#[derive(Clone, Debug)]
struct Ground {
    seed: u64,
    height: f64,
    slope: [f64; 2],
    /// Wave numbers along x and y, phase, height.
    hills: Vec<[f64; 4]>,
}

impl World {
    /// A street below a sensor of this height, `width` times as wide as a suburb's.
    pub fn street(seed: u64, height: f64, width: f64) -> Self {
        let ground = Ground::new(seed, height);
        let mut world = World { shapes: Vec::new(), ground };
        world.houses(seed, width);
        world.cars(seed);
        world.poles(seed);
        world.plants(seed, width);
        world.far(seed, width);
        world
    }

    /// Where a ray going down meets the ground, within `range` metres.
    pub fn ground(&self, ray: &crate::shape::Ray, range: f64) -> Option<f64> {
        let above = |t: f64| {
            let [x, y, z] = ray.place(t);
            z - self.ground.smooth(x, y)
        };
        let (mut low, mut high) = (0.0, 0.5);
        while above(high) > 0.0 {
            // Hills are tens of metres long, so steps may grow with the way gone.
            (low, high) = (high, high + 0.4 + high * 0.04);
            if low > range {
                return None;
            }
        }
        for _ in 0..18 {
            let middle = 0.5 * (low + high);
            if above(middle) > 0.0 { low = middle } else { high = middle }
        }
        let [x, y, _] = ray.place(high);
        // Roughness moves the hit along the ray; a flat ray meets the next bump long before its foot.
        let steep = ray.to[2].abs().max(0.08);
        Some(high - self.ground.rough(x, y) / steep)
    }

    /// How much light the ground sends back at a place, 0 to 1.
    pub fn ground_shine(&self, x: f64, y: f64) -> f64 {
        let base = if y.abs() < ROAD { 0.2 } else { 0.35 };
        base + 0.1 * noise(self.ground.seed ^ 11, x, y, 0.7)
    }

    fn stand(&mut self, x: f64, y: f64, around: f64, shine: f64, form: Form) {
        let z = self.ground.smooth(x, y);
        self.shapes.push(Shape { foot: [x, y, z], around, shine, form });
    }

    fn block(&mut self, r: &mut Random, at: [f64; 2], half: [f64; 2], height: f64, turn: f64, relief: f64) {
        let form = Form::Block { half, height, turn: [turn.cos(), turn.sin()], relief, seed: (r.unit() * 1e15) as u64 };
        let around = (half[0] * half[0] + half[1] * half[1]).sqrt() + relief;
        self.stand(at[0], at[1], around, r.between(0.15, 0.5), form);
    }

    /// Two rows of houses with gaps, at 10 to 15 m from the middle of the street.
    fn houses(&mut self, seed: u64, width: f64) {
        let r = &mut Random::new(seed, 1);
        for side in [-1.0, 1.0] {
            let mut x = -85.0 * width + r.between(0.0, 8.0);
            while x < 85.0 * width {
                let (long, deep) = (r.between(6.0, 14.0), r.between(6.0, 11.0));
                let y = side * (width * r.between(9.5, 15.0) + deep / 2.0);
                let (height, turn) = (r.between(3.5, 11.0), r.between(-0.08, 0.08));
                self.block(r, [x + long / 2.0, y], [long / 2.0, deep / 2.0], height, turn, 0.35);
                x += long + width * r.between(2.0, 15.0);
            }
        }
    }

    fn cars(&mut self, seed: u64) {
        let r = &mut Random::new(seed, 2);
        for _ in 0..30 {
            let parked = r.happens(0.8);
            let side = if r.happens(0.5) { 1.0 } else { -1.0 };
            let y = side * if parked { r.between(3.8, 5.4) } else { r.between(1.2, 2.4) };
            let x = r.between(-70.0, 70.0);
            if x.abs() < 7.0 {
                continue;
            }
            let turn = r.between(-0.06, 0.06);
            let half = r.between(1.9, 2.4);
            self.block(r, [x, y], [half, 0.9], 0.85, turn, 0.06);
            self.block(r, [x - 0.2, y], [1.1, 0.75], 1.5, turn, 0.0);
        }
    }

    fn poles(&mut self, seed: u64) {
        let r = &mut Random::new(seed, 3);
        for _ in 0..60 {
            let side = if r.happens(0.5) { 1.0 } else { -1.0 };
            let (x, y) = (r.between(-75.0, 75.0), side * r.between(5.2, 9.0));
            let radius = r.between(0.04, 0.18);
            let (shine, height) = (r.between(0.3, 0.9), r.between(1.0, 7.0));
            self.stand(x, y, radius, shine, Form::Pole { radius, height });
        }
    }

    /// Trees with trunks, bushes, and hedges along gardens.
    fn plants(&mut self, seed: u64, width: f64) {
        let r = &mut Random::new(seed, 4);
        for _ in 0..30 {
            let side = if r.happens(0.5) { 1.0 } else { -1.0 };
            let (x, y) = (r.between(-75.0, 75.0), side * width * r.between(6.0, 22.0));
            let radius = r.between(1.2, 3.0);
            let height = radius + r.between(0.6, 2.5);
            let free = r.between(0.5, 1.6);
            self.stand(x, y, radius, 0.4, Form::Leaves { radius, height, free });
            self.stand(x, y, 0.3, 0.3, Form::Pole { radius: r.between(0.1, 0.25), height });
        }
        for _ in 0..25 {
            let side = if r.happens(0.5) { 1.0 } else { -1.0 };
            let (x, y) = (r.between(-60.0, 60.0), side * r.between(6.5, 12.0));
            let pieces = (r.unit() * 6.0) as u32 + 1;
            for piece in 0..pieces {
                let radius = r.between(0.4, 0.9);
                let form = Form::Leaves { radius, height: radius * 0.6, free: r.between(0.15, 0.5) };
                self.stand(x + f64::from(piece) * 0.8, y, radius, 0.4, form);
            }
        }
    }

    /// Woods, walls and blocks in the distance: few points, each a voxel of its own, which coarser levels keep.
    fn far(&mut self, seed: u64, width: f64) {
        let r = &mut Random::new(seed, 5);
        for _ in 0..120 {
            let (angle, away) = (r.between(0.0, TAU), width * r.between(28.0, 78.0));
            let (x, y) = (away * angle.cos(), away * angle.sin());
            if y.abs() < 8.0 {
                continue;
            }
            if r.happens(0.75) {
                let radius = r.between(1.5, 4.0);
                let form = Form::Leaves { radius, height: radius * r.between(0.7, 1.6), free: r.between(0.8, 3.0) };
                self.stand(x, y, radius, 0.4, form);
            } else {
                let (half, height) = ([r.between(2.0, 9.0), r.between(0.3, 5.0)], r.between(1.5, 12.0));
                self.block(r, [x, y], half, height, angle, 0.4);
            }
        }
    }
}

impl Ground {
    fn new(seed: u64, height: f64) -> Self {
        let r = &mut Random::new(seed, 0);
        let slope = [r.between(-0.025, 0.025), r.between(-0.015, 0.015)];
        let hills = (0..4)
            .map(|i| {
                let (length, angle) = (r.between(25.0, 60.0) / f64::from(i + 1).sqrt(), r.between(0.0, TAU));
                let k = TAU / length;
                [k * angle.cos(), k * angle.sin(), r.between(0.0, TAU), r.between(0.05, 0.3) / f64::from(i + 1)]
            })
            .collect();
        let mut ground = Ground { seed, height, slope, hills };
        // The car stands on it.
        ground.height += ground.smooth(0.0, 0.0) + height;
        ground
    }

    /// Without roughness.
    fn smooth(&self, x: f64, y: f64) -> f64 {
        let hills: f64 = self.hills.iter().map(|[kx, ky, phase, high]| high * (kx * x + ky * y + phase).sin()).sum();
        // Roads are crowned; curbs rise within a hand's breadth.
        let curb = CURB * ((y.abs() - ROAD) / 0.1).clamp(0.0, 1.0) - 0.02 * y.abs().min(ROAD);
        self.slope[0] * x + self.slope[1] * y + hills + curb - self.height
    }

    /// Asphalt is even; pavements, gardens and grass are not.
    fn rough(&self, x: f64, y: f64) -> f64 {
        let high = if y.abs() < ROAD { 0.012 } else { 0.035 };
        let coarse = noise(self.seed ^ 7, x, y, 0.9);
        let fine = noise(self.seed ^ 8, x, y, 0.12);
        high * (coarse + fine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Ray;

    #[test]
    fn the_car_stands_on_the_ground() {
        for seed in 0..5 {
            let world = World::street(seed, 1.73, 1.0);
            assert!((world.ground.smooth(0.0, 0.0) + 1.73).abs() < 1e-9);
            let down = Ray { from: [0.0; 3], to: [0.0, 0.0, -1.0] };
            let t = world.ground(&down, 80.0).unwrap();
            assert!((t - 1.73).abs() < 0.03, "{t}");
            let up = Ray { from: [0.0; 3], to: [0.6, 0.0, 0.8] };
            assert_eq!(world.ground(&up, 80.0), None);
            assert!(world.shapes.len() > 200);
        }
    }
}
