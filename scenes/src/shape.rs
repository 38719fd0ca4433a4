//! What rays meet, and where.

use crate::random::{Random, at};

/// A ray: origin and direction, of length 1.
#[derive(Clone, Copy, Debug)]
pub struct Ray {
    /// Where it starts.
    pub from: [f64; 3],
    /// Where it goes.
    pub to: [f64; 3],
}

/// A thing that stands in the world.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Centre of its foot.
    pub foot: [f64; 3],
    /// Radius of a circle around it, seen from above.
    pub around: f64,
    /// How much light comes back, 0 to 1.
    pub shine: f64,
    /// Its form.
    pub form: Form,
}

/// Forms.
#[derive(Clone, Debug)]
pub enum Form {
    /// Half sizes along its own axes, height, the turn of the first axis, and the depth of relief on its walls.
    Block {
        /// Half length and half width.
        half: [f64; 2],
        /// Height.
        height: f64,
        /// Cosine and sine of the turn.
        turn: [f64; 2],
        /// How far panels of the walls stand back, at most.
        relief: f64,
        /// Where panels get their depths from.
        seed: u64,
    },
    /// An upright cylinder.
    Pole {
        /// Radius.
        radius: f64,
        /// Height.
        height: f64,
    },
    /// A ball of leaves, its centre so high: a ray gets through with a probability.
    Leaves {
        /// Radius.
        radius: f64,
        /// Height of the centre.
        height: f64,
        /// Mean length of a ray's way inside before it meets a leaf.
        free: f64,
    },
}

impl Ray {
    /// The place after so many metres.
    pub fn place(&self, t: f64) -> [f64; 3] {
        [0, 1, 2].map(|a| self.from[a] + t * self.to[a])
    }
}

impl Shape {
    /// Where the ray first meets it, after more than `past` metres.
    pub fn meet(&self, ray: &Ray, past: f64, random: &mut Random) -> Option<f64> {
        let from = [0, 1, 2].map(|a| ray.from[a] - self.foot[a]);
        match &self.form {
            Form::Block { half, height, turn, relief, seed } => {
                let spin = |v: [f64; 3]| [v[0] * turn[0] + v[1] * turn[1], v[1] * turn[0] - v[0] * turn[1], v[2]];
                let (p, d) = (spin(from), spin(ray.to));
                let (enter, side) = slab(p, d, [-half[0], -half[1], -2.0], [half[0], half[1], *height])?;
                if enter <= past {
                    return None;
                }
                if *relief == 0.0 || side == 2 {
                    return Some(enter);
                }
                // Windows and doors: panels of the wall, some of which stand back.
                let along = p[1 - side] + enter * d[1 - side];
                let up = p[2] + enter * d[2];
                let panel = [(along / 1.3).floor() as i64 * 2 + side as i64, (up / 1.5).floor() as i64];
                let back = (at(*seed, panel) - 0.4).max(0.0) * relief / 0.6;
                Some(enter + back / d[side].abs().max(0.2))
            }
            Form::Pole { radius, height } => {
                let a = ray.to[0].powi(2) + ray.to[1].powi(2);
                let b = from[0] * ray.to[0] + from[1] * ray.to[1];
                let c = from[0].powi(2) + from[1].powi(2) - radius * radius;
                let t = (-b - (b * b - a * c).sqrt()) / a;
                (t > past && (-2.0..*height).contains(&(from[2] + t * ray.to[2]))).then_some(t)
            }
            Form::Leaves { radius, height, free } => {
                let p = [from[0], from[1], from[2] - height];
                let b: f64 = (0..3).map(|a| p[a] * ray.to[a]).sum();
                let c: f64 = p.iter().map(|v| v * v).sum::<f64>() - radius * radius;
                let root = (b * b - c).sqrt();
                let (enter, leave) = ((-b - root).max(past), -b + root);
                // Not a number where the ray misses.
                let t = enter + free * random.exponential();
                (t < leave && t > past).then_some(t)
            }
        }
    }
}

/// Where a ray enters a box, and through a side of which axis. `None` where it misses or starts inside.
fn slab(p: [f64; 3], d: [f64; 3], low: [f64; 3], high: [f64; 3]) -> Option<(f64, usize)> {
    let (mut enter, mut leave, mut side) = (f64::NEG_INFINITY, f64::INFINITY, 0);
    for a in 0..3 {
        let (t0, t1) = ((low[a] - p[a]) / d[a], (high[a] - p[a]) / d[a]);
        let (near, far) = if t0 < t1 { (t0, t1) } else { (t1, t0) };
        if near > enter {
            (enter, side) = (near, a);
        }
        leave = leave.min(far);
    }
    (enter < leave && enter > 0.0).then_some((enter, side))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAY: Ray = Ray { from: [0.0, 0.0, 1.0], to: [1.0, 0.0, 0.0] };

    fn shape(x: f64, y: f64, form: Form) -> Shape {
        Shape { foot: [x, y, 0.0], around: 5.0, shine: 0.5, form }
    }

    #[test]
    fn rays_meet_the_near_side() {
        let mut random = Random::new(0, 0);
        let block = |turn| Form::Block { half: [2.0, 1.0], height: 3.0, turn, relief: 0.0, seed: 1 };
        assert_eq!(shape(10.0, 0.0, block([1.0, 0.0])).meet(&RAY, 0.0, &mut random), Some(8.0));
        assert_eq!(shape(10.0, 0.0, block([0.0, 1.0])).meet(&RAY, 0.0, &mut random), Some(9.0));
        assert_eq!(shape(10.0, 1.5, block([1.0, 0.0])).meet(&RAY, 0.0, &mut random), None);
        assert_eq!(shape(10.0, 0.0, block([1.0, 0.0])).meet(&RAY, 9.0, &mut random), None);
        let pole = |height| shape(5.0, 0.0, Form::Pole { radius: 0.5, height });
        assert_eq!(pole(4.0).meet(&RAY, 0.0, &mut random), Some(4.5));
        assert_eq!(pole(0.5).meet(&RAY, 0.0, &mut random), None);
    }

    #[test]
    fn leaves_let_some_rays_through() {
        let mut random = Random::new(0, 0);
        let tree = shape(6.0, 0.0, Form::Leaves { radius: 1.0, height: 1.0, free: 2.0 });
        let hits: Vec<f64> = (0..1000).filter_map(|_| tree.meet(&RAY, 0.0, &mut random)).collect();
        // The way inside is 2 m: 1 - exp(-1) of the rays meet a leaf.
        assert!((570..700).contains(&hits.len()), "{}", hits.len());
        assert!(hits.iter().all(|t| (5.0..7.0).contains(t)));
    }
}
