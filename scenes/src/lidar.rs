//! A scan of a world by a sensor.

use crate::random::Random;
use crate::sensor::{Head, Sensor};
use crate::shape::{Form, Ray, Shape};
use crate::world::World;
use std::f64::consts::TAU;

/// x, y, z in metres from the sensor, and the intensity, 0 to 1.
pub type Point = [f32; 4];

/// Deviations of a beam's elevation from the table and of a firing's azimuth from its step, in degrees.
const BEAM_SIGMA: f64 = 0.04;
const AZIMUTH_SIGMA: f64 = 0.01;

/// One turn of a sensor in a street, from its seed alone. Points come head by head, beam by beam, as real scans mostly do.
pub fn scan(sensor: Sensor, seed: u64) -> Vec<Point> {
    let world = World::street(seed, sensor.height(), sensor.width());
    let mut points = Vec::new();
    for (number, head) in sensor.heads().iter().enumerate() {
        turn(&world, head, &mut Random::new(seed, 100 + number as u64), &mut points);
    }
    points
}

fn turn(world: &World, head: &Head, random: &mut Random, points: &mut Vec<Point>) {
    // What is seen in a direction at all, once for all beams.
    let columns: Vec<Vec<&Shape>> = (0..head.steps).map(|i| seen(world, head, azimuth(head, f64::from(i)))).collect();
    for beam in &head.beams {
        let elevation = (beam + BEAM_SIGMA * random.normal()).to_radians();
        // Lasers of a head fire one after the other.
        let phase = random.unit();
        for (i, shapes) in columns.iter().enumerate() {
            let wobble = (AZIMUTH_SIGMA * random.normal()).to_radians();
            let angle = azimuth(head, i as f64 + phase) + wobble;
            if random.happens(head.dropped) {
                continue;
            }
            let to = [elevation.cos() * angle.cos(), elevation.cos() * angle.sin(), elevation.sin()];
            fire(world, head, shapes, &Ray { from: head.at, to }, random, points);
        }
    }
}

/// Radians of a step.
fn azimuth(head: &Head, step: f64) -> f64 {
    TAU * step / f64::from(head.steps)
}

/// Shapes that rays of this direction and the next may meet.
fn seen<'a>(world: &'a World, head: &Head, angle: f64) -> Vec<&'a Shape> {
    let step = azimuth(head, 1.5);
    let (cos, sin) = (angle.cos(), angle.sin());
    let near = |s: &&Shape| {
        let (x, y) = (s.foot[0] - head.at[0], s.foot[1] - head.at[1]);
        let (ahead, aside) = (x * cos + y * sin, (y * cos - x * sin).abs());
        ahead > -s.around && aside < s.around + ahead.max(0.0) * step + 0.1
    };
    world.shapes.iter().filter(near).collect()
}

/// The echoes of one firing.
fn fire(world: &World, head: &Head, shapes: &[&Shape], ray: &Ray, random: &mut Random, points: &mut Vec<Point>) {
    let ground = world.ground(ray, head.range);
    let mut past = 0.0;
    for _ in 0..head.returns {
        let mut best = (f64::INFINITY, 0.0, false);
        if let Some(t) = ground.filter(|t| *t > past) {
            let [x, y, _] = ray.place(t);
            best = (t, world.ground_shine(x, y), false);
        }
        for shape in shapes {
            if let Some(t) = shape.meet(ray, past, random)
                && t < best.0
            {
                best = (t, shape.shine, matches!(shape.form, Form::Leaves { .. }));
            }
        }
        let (t, shine, porous) = best;
        if t > head.range {
            return;
        }
        // Faint echoes are lost: dark things far away, and ground that is met at a flat angle.
        let flat = if Some(t) == ground { ray.to[2].abs().max(0.005) / 0.03 } else { 1.0 };
        let seen = (1.6 - t / head.range) * (0.6 + shine) * flat;
        if t > head.nearest && random.unit() < seen {
            let p = ray.place(t + head.sigma * random.normal());
            let intensity = (shine + 0.05 * random.normal()).clamp(0.0, 1.0);
            points.push([p[0] as f32, p[1] as f32, p[2] as f32, intensity as f32]);
        }
        // Light goes on behind leaves only.
        if !porous {
            return;
        }
        past = t + 0.3;
    }
}
