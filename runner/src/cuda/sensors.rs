//! Clocks, temperature and power.

use nvml_wrapper::Nvml as Library;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use std::ffi::OsStr;

/// What a GPU says of itself while it works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// SM clock, MHz.
    pub sm_clock_mhz: Option<u32>,
    /// Memory clock, MHz.
    pub memory_clock_mhz: Option<u32>,
    /// Degrees Celsius.
    pub temperature_c: Option<u32>,
    /// Milliwatts.
    pub power_mw: Option<u32>,
}

/// Something that knows clocks, temperature and power. There is nothing to set here.
pub trait Sensors {
    /// What they are now; what cannot be read is missing.
    fn read(&self) -> Reading;
}

/// NVML, which comes with the driver and is looked for at run time.
pub struct Nvml {
    library: Library,
    bus_id: String,
}

impl Nvml {
    /// The sensors of the device at a place on the bus: CUDA and NVML count devices differently. `None` where there is no NVML.
    pub fn find(bus_id: &str) -> Option<Nvml> {
        // The name without a number is a development package's.
        let library = Library::builder().lib_path(OsStr::new("libnvidia-ml.so.1")).init().ok()?;
        library.device_by_pci_bus_id(bus_id).ok()?;
        Some(Nvml { library, bus_id: bus_id.into() })
    }
}

impl Sensors for Nvml {
    fn read(&self) -> Reading {
        let Ok(device) = self.library.device_by_pci_bus_id(self.bus_id.as_str()) else { return Reading::default() };
        Reading {
            sm_clock_mhz: device.clock_info(Clock::SM).ok(),
            memory_clock_mhz: device.clock_info(Clock::Memory).ok(),
            temperature_c: device.temperature(TemperatureSensor::Gpu).ok(),
            power_mw: device.power_usage().ok(),
        }
    }
}
