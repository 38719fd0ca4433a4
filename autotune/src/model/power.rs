//! The clock under load.

use super::coefficients::Coefficients;
use crate::device::DeviceProfile;

/// Clock while the tensor cores work `busy` of the time, Hz. Power, not issue, limits dense multiplies of random data (8192^3
/// in bf16 on an H200: 788 TFLOP/s, of zeros 894), so the clock falls in a line from the highest to the loaded one.
pub fn clock(d: &DeviceProfile, co: &Coefficients, busy: f64) -> f64 {
    let drop = co.power * (d.boost_hz - d.clock_hz) * busy.clamp(0.0, 1.0);
    (d.boost_hz - drop).max(0.1 * d.boost_hz)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_falls_from_boost_to_loaded() {
        let (d, co) = (DeviceProfile::named("H200").unwrap(), Coefficients::default());
        assert_eq!(clock(d, &co, 0.0), d.boost_hz);
        assert!((clock(d, &co, 1.0) - d.clock_hz).abs() < 1.0);
        assert_eq!(clock(d, &Coefficients { power: 0.0, ..co }, 1.0), d.boost_hz);
    }
}
