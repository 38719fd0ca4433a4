//! A GPU.

use super::{Bench, Found};
use crate::cuda::{Gpu, Nvml, Protocol, Sensors};
use crate::wire::Ready;
use tilewright_autotune::search::{Failure, Sample};
use tilewright_runtime::cuda::CudaDevice;

pub(super) struct Cuda(Gpu);

impl Cuda {
    pub fn open(ordinal: u32, seed: u64) -> Result<Self, String> {
        let bus_id = CudaDevice::open(ordinal).and_then(|d| d.pci_bus_id()).map_err(|e| e.to_string())?;
        let sensors = Nvml::find(&bus_id).map(|n| Box::new(n) as Box<dyn Sensors>);
        Gpu::open(ordinal, seed, Protocol::default(), sensors).map(Cuda).map_err(|e| e.to_string())
    }
}

impl Bench for Cuda {
    fn ready(&self) -> Ready {
        Ready { name: self.0.name().into(), capabilities: Some(self.0.capabilities()), notes: self.0.notes() }
    }

    fn check(&mut self, f: &Found<'_>) -> Result<(), Failure> {
        self.0.check(f.pack, f.task, f.point, f.entry)
    }

    fn time(&mut self, f: &Found<'_>, _: u32, count: u32) -> Result<Vec<Sample>, Failure> {
        self.0.time(f.pack, f.task, f.point, f.entry, count)
    }
}
