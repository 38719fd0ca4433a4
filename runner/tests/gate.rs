//! The gate on the emulator: a candidate whose numbers are wrong is told from the same one whose numbers are right.

use std::fs;
use std::path::Path;
use std::time::Duration;
use tilewright_autotune::search::{Failure, Measure};
use tilewright_autotune::space::Point;
use tilewright_autotune::task::Task;
use tilewright_runner::device::DeviceName;
use tilewright_runner::pack::{Candidate, FILE, SearchPlan, TaskPlan, TuningPlan};
use tilewright_runner::supervise::{Deadlines, Supervisor, WorkerCommand};
use tilewright_runner::wire::{Open, VERSION};
use tilewright_runtime::device::ImageKind;
use tilewright_runtime::manifest::ParamKind;
use tilewright_runtime::pack::Pack;

const CLASS: &str = "a=f16,b=nk,out=f16,act=none,bias=0,residual=0";

#[test]
fn a_candidate_that_drops_the_end_of_k_is_wrong_on_the_emulator() {
    let shipped = Pack::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels-generated/sm80")).unwrap();
    let mut manifest = shipped.manifest().clone();
    let of_class = |p: &&tilewright_runtime::plan::Plan| p.op == "gemm" && p.class == CLASS && p.launches.len() == 1;
    let right = manifest.plans.iter().find(of_class).unwrap().clone();
    let mut kernel = manifest.kernels[manifest.kernel(&right.launches[0].kernel).unwrap()].clone();
    kernel.cubin = None;
    let folder = tempfile::tempdir().unwrap();
    let (_, ptx) = shipped.image(&kernel, ImageKind::Ptx).unwrap();
    // The same kernel, told that k ends 8 earlier.
    let (mut short, mut wrong) = (kernel.clone(), right.clone());
    short.ptx.path = "short.ptx".into();
    for path in [&kernel.ptx.path, &short.ptx.path] {
        fs::write(folder.path().join(path), &ptx).unwrap();
    }
    (short.id, wrong.id) = (format!("{}_short", kernel.id), format!("{}_short", right.id));
    wrong.launches[0].kernel.clone_from(&short.id);
    let k = short.params.iter_mut().find(|p| p.name == "k").unwrap();
    k.kind = ParamKind::I32 { value: "k-8".parse().unwrap() };
    (manifest.kernels, manifest.dispatch) = (vec![kernel, short], Vec::new());
    let ids = [right.id.clone(), wrong.id.clone()];
    manifest.plans = vec![right, wrong];
    fs::write(folder.path().join("manifest.json"), manifest.to_json().unwrap()).unwrap();

    let sizes = [("m", 64), ("n", 64), ("k", 64)].map(|(name, size)| (name.to_string(), size)).into();
    let task = Task { op: "gemm".into(), class: CLASS.into(), sizes };
    let points = ["short=0", "short=1"].map(|p| p.parse::<Point>().unwrap());
    let candidates = points.iter().zip(ids).map(|(p, id)| Candidate::new(p.clone(), id, 1e-6)).collect();
    let mut plan = TuningPlan::new("sm80", "none".into(), "A100", SearchPlan::from(&Default::default()));
    plan.tasks.push(TaskPlan { task: task.clone(), candidates });
    fs::write(folder.path().join(FILE), plan.to_json()).unwrap();

    let command = WorkerCommand { program: env!("CARGO_BIN_EXE_tilewright-runner").into(), args: vec!["worker".into()] };
    let open = Open { version: VERSION, device: DeviceName::Emulator, packs: vec![folder.path().into()], seed: 0 };
    let deadline = Duration::from_secs(120);
    let deadlines = Deadlines { open: deadline, check: deadline, time: deadline };
    let mut device = Supervisor::start(command, open, deadlines).unwrap();
    assert_eq!(device.check(&task, &points[0]), Ok(()));
    let refused = device.check(&task, &points[1]);
    assert!(matches!(&refused, Err(Failure::Wrong(why)) if why.contains("of d is")), "{refused:?}");
    assert_eq!(device.started(), 1, "a wrong number costs no worker");
}
