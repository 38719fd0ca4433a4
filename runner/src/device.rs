//! The devices that candidates run on.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A device as `--device` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceName {
    /// A GPU through its driver.
    Cuda(u32),
    /// The emulator: the gate is real, times are the model's.
    Emulator,
    /// No device: times, crashes and hangs that follow from a seed.
    Simulated(u64),
}

/// Not the name of a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device `{0}`: expected cuda:N, emulator, simulated or simulated:SEED")]
pub struct DeviceNameError(String);

impl DeviceName {
    /// Whether its times were measured on hardware.
    pub fn measures(&self) -> bool {
        matches!(self, DeviceName::Cuda(_))
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceName::Cuda(n) => write!(f, "cuda:{n}"),
            DeviceName::Emulator => f.write_str("emulator"),
            DeviceName::Simulated(seed) => write!(f, "simulated:{seed}"),
        }
    }
}

impl FromStr for DeviceName {
    type Err = DeviceNameError;

    fn from_str(text: &str) -> Result<Self, DeviceNameError> {
        let refused = || DeviceNameError(text.to_string());
        match text.split_once(':') {
            None if text == "cuda" => Ok(DeviceName::Cuda(0)),
            None if text == "emulator" => Ok(DeviceName::Emulator),
            None if text == "simulated" => Ok(DeviceName::Simulated(0)),
            Some(("cuda", n)) => n.parse().map(DeviceName::Cuda).map_err(|_| refused()),
            Some(("simulated", n)) => n.parse().map(DeviceName::Simulated).map_err(|_| refused()),
            _ => Err(refused()),
        }
    }
}

impl TryFrom<String> for DeviceName {
    type Error = DeviceNameError;

    fn try_from(text: String) -> Result<Self, DeviceNameError> {
        text.parse()
    }
}

impl From<DeviceName> for String {
    fn from(device: DeviceName) -> String {
        device.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_are_refused() {
        for device in [DeviceName::Cuda(3), DeviceName::Emulator, DeviceName::Simulated(7)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(DeviceName::Cuda(0)));
        for bad in ["", "gpu", "cuda:", "cuda:x", "emulator:1", "simulated:-1"] {
            assert!(bad.parse::<DeviceName>().is_err(), "{bad}");
        }
    }
}
