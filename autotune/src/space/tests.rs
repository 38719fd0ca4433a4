use super::*;

use std::collections::BTreeMap;
use tilewright_ir::DType;

use tilewright_templates::attention::{AttentionProblem, DecodeProblem};
use tilewright_templates::gemm::GemmProblem;

fn task(op: &str, class: &str, sizes: &[(&str, i64)]) -> Task {
    Task { op: op.into(), class: class.into(), sizes: sizes.iter().map(|(k, v)| (k.to_string(), *v)).collect() }
}

fn dense(dtype: DType) -> String {
    GemmProblem::plain(dtype).class()
}

fn packed() -> String {
    GemmProblem { weight: "int4g64z".parse().unwrap(), ..GemmProblem::plain(DType::BF16) }.class()
}

/// A space of each kind with a task of usual sizes.
fn samples() -> Vec<(Arch, Box<dyn Space>, Task)> {
    let gemm = [("m", 512), ("n", 4096), ("k", 4096)];
    let list = [
        (Arch::Sm90a, "gemm", dense(DType::BF16), &gemm[..]),
        (Arch::Sm80, "gemm", dense(DType::F16), &gemm),
        (Arch::Sm90a, "gemm", dense(DType::E4M3), &gemm),
        (Arch::Sm90a, "gemm", packed(), &gemm),
        (
            Arch::Sm90a,
            "gemm_grouped",
            format!("{},groups=offsets", dense(DType::BF16)),
            &[("tokens", 4096), ("e", 8), ("n", 4096), ("k", 4096)],
        ),
        (
            Arch::Sm90a,
            "attention",
            AttentionProblem { causal: true, ..AttentionProblem::plain(DType::BF16, 128) }.class(),
            &[("sq", 4096), ("hq", 32), ("hkv", 8)],
        ),
        (
            Arch::Sm90a,
            "attention_decode",
            DecodeProblem::plain(DType::BF16, 128).class(),
            &[("batch", 16), ("hq", 32), ("hkv", 8), ("page", 64), ("max_pages", 128)],
        ),
    ];
    list.into_iter().map(|(arch, op, class, sizes)| (arch, of(arch, op, &class).unwrap(), task(op, &class, sizes))).collect()
}

#[test]
fn time() {
    for (arch, space, task) in samples() {
        let t = std::time::Instant::now();
        let again = of(arch, &task.op, &task.class).unwrap();
        let made = t.elapsed();
        let points = again.points();
        let t = std::time::Instant::now();
        let good: Vec<_> = points.iter().filter(|p| space.promising(&task, p).is_ok()).collect();
        let cheap = t.elapsed();
        let t = std::time::Instant::now();
        good.iter().for_each(|p| assert!(space.estimate(DeviceProfile::typical(arch), &task, p, None).seconds > 0.0));
        let model = t.elapsed();
        let t = std::time::Instant::now();
        let mut why = BTreeMap::<_, (u32, String)>::new();
        for p in good.iter().step_by(17) {
            if let Err(e) = space.check(&task, p) {
                let w = why.entry(e.rule).or_default();
                w.0 += 1;
                w.1 = e.why;
            }
        }
        println!(
            "{arch} {task}: {} points {made:?}, {} good {cheap:?} model {model:?}, {} checked {:?}",
            points.len(),
            good.len(),
            good.iter().step_by(17).count(),
            t.elapsed()
        );
        println!("{why:?}");
    }
}
