//! Plans whose workspaces share memory, as they do on a GPU: the emulator, which keeps them apart elsewhere, finds the same results.

use std::path::Path;

use tilewright_emulator_device::{EmulatorBuffer, EmulatorDevice, EmulatorKernel, SMS, describe, is_error};
use tilewright_ops::case::Trial;
use tilewright_ops::execute::execute;
use tilewright_ops::level::Level;
use tilewright_runtime::arch::ComputeCapability;
use tilewright_runtime::device::{ArgValue, Device, DeviceError, Geometry, ImageKind, KernelImage, Stream, Workspaces};
use tilewright_runtime::dispatch::PlanIndex;
use tilewright_runtime::engine::{Engine, Problem};
use tilewright_runtime::pack::Pack;
use tilewright_runtime::plan::Role;

/// The emulator with workspaces in one allocation.
struct Packed(EmulatorDevice);

impl Device for Packed {
    type Buffer = EmulatorBuffer;
    type Kernel = EmulatorKernel;

    fn capability(&self) -> ComputeCapability {
        self.0.capability()
    }

    fn sm_count(&self) -> u32 {
        self.0.sm_count()
    }

    fn wants(&self) -> ImageKind {
        self.0.wants()
    }

    fn alloc(&self, bytes: u64) -> Result<EmulatorBuffer, DeviceError> {
        self.0.alloc(bytes)
    }

    fn workspaces(&self) -> Workspaces {
        Workspaces::Packed
    }

    fn address(&self, buffer: &EmulatorBuffer) -> u64 {
        self.0.address(buffer)
    }

    fn upload(&self, buffer: &EmulatorBuffer, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        self.0.upload(buffer, offset, data)
    }

    fn download(&self, buffer: &EmulatorBuffer, offset: u64, data: &mut [u8]) -> Result<(), DeviceError> {
        self.0.download(buffer, offset, data)
    }

    fn load_kernel(&self, image: &KernelImage<'_>) -> Result<EmulatorKernel, DeviceError> {
        self.0.load_kernel(image)
    }

    fn launch(&self, kernel: &EmulatorKernel, g: &Geometry, args: &[ArgValue], stream: Stream) -> Result<(), DeviceError> {
        self.0.launch(kernel, g, args, stream)
    }

    fn sync(&self) -> Result<(), DeviceError> {
        self.0.sync()
    }
}

#[test]
fn plans_that_share_memory_among_workspaces_are_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernels-generated/sm80");
    let device = EmulatorDevice::new(ComputeCapability { major: 8, minor: 0 }, 1, SMS);
    let engine = Engine::new(Pack::open(folder).unwrap(), Packed(device)).unwrap();
    let manifest = engine.pack().manifest();
    let rooms = |at: usize| manifest.plans[at].tensors.iter().filter(|t| t.role == Role::Workspace).count();
    let mut shared = 0;
    for at in (0..manifest.plans.len()).filter(|&at| rooms(at) >= 5) {
        let (index, plan) = (PlanIndex(at as u32), &manifest.plans[at]);
        let fits = |vars: &_| engine.check(index, vars).is_ok();
        let family = tilewright_ops::find(&plan.op).unwrap();
        let trial = Trial { manifest, plan, level: Level::Quick, seed: 3, fits: &fits };
        // The first case of each: sharing is a matter of the plan.
        for case in (family.cases)(&trial).unwrap().iter().take(1) {
            let ready = engine.prepare(index, &Problem { vars: case.vars, scalars: &case.scalars }).unwrap();
            let bytes = |t: &tilewright_runtime::plan::PlanTensor| {
                let mut vars = case.vars;
                vars.set(tilewright_runtime::expr::VarId::SMS, SMS.into()).unwrap();
                t.shape.iter().map(|e| e.eval(&vars).unwrap() as u64).product::<u64>() * t.dtype.bytes()
            };
            let apart = plan.tensors.iter().filter(|t| t.role == Role::Workspace).map(|t| bytes(t).max(1).next_multiple_of(256));
            shared += usize::from(ready.workspace_bytes() < apart.sum::<u64>());
            let ran = execute(&engine, index, case).unwrap_or_else(|e| panic!("{}: {e}", plan.id));
            let log = engine.device().0.take_log();
            let errors: Vec<String> =
                log.findings.iter().filter(|f| is_error(&f.finding)).map(|f| describe(&f.finding)).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", plan.id);
            case.compare(&ran.outputs, manifest, index, false).unwrap_or_else(|e| panic!("{}: {e}", plan.id));
        }
    }
    assert!(shared >= 3, "only {shared} plans shared anything");
}
