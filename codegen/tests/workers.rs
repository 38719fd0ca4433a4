//! Worker processes: what they refuse, how they die, what happens next.

mod support;

use std::time::Duration;
use support::{lane_file, pool, worker_command};
use tilewright_codegen::worker::Stage;
use tilewright_codegen::{CodegenError, WorkerCommand, WorkerPool};

/// A shell that, the first time, does `once` and, from then on, becomes the real worker.
fn worker_after(once: &str, folder: &tempfile::TempDir) -> WorkerCommand {
    let mark = folder.path().join("done");
    let script = format!(
        "if [ -e {mark} ]; then exec {worker}; fi; touch {mark}; {once}",
        mark = mark.display(),
        worker = worker_command().program.display()
    );
    WorkerCommand { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()] }
}

fn stage_of(error: &CodegenError) -> (Stage, &str, &str) {
    match error {
        CodegenError::Lane { stage, at, what, .. } => (*stage, at, what),
        other => panic!("expected a refusal, got {other}"),
    }
}

#[test]
fn text_that_does_not_parse_is_refused_with_its_line() {
    let pool = pool();
    let error = pool.compile(&lane_file("mma").replace("mma.bf16", "mma.bf17")).expect_err("no such instruction");
    let (stage, at, what) = stage_of(&error);
    assert_eq!(stage, Stage::Parse);
    assert_eq!(at, "line 19 of the Lane IR");
    assert!(what.contains("mma.bf17"), "{what}");
    assert_eq!(error.kernel(), Some("mma"));
    pool.compile(&lane_file("mma")).expect("the pool goes on");
}

#[test]
fn text_that_does_not_verify_is_refused_with_the_template_line() {
    let error = pool().compile(&lane_file("wgmma_small").replace("sm_90a", "sm_80")).expect_err("Hopper only");
    let (stage, at, what) = stage_of(&error);
    assert_eq!(stage, Stage::Verify);
    assert!(at.starts_with("tests/src/wgmma_small.rs:"), "{at}");
    assert!(what.contains("wgmma.fence") && what.contains("sm_80"), "{what}");
}

#[test]
fn a_kernel_without_blocks_is_refused() {
    let error =
        pool().compile("lane @empty target sm_80 threads 32 cluster 1 1 1 min_ctas 1 smem 0\nend\n").expect_err("nothing to run");
    assert!(error.to_string().contains("`empty`") && error.to_string().contains("at least one block"), "{error}");
}

#[test]
fn what_llvm_cannot_say_is_refused_with_the_template_line() {
    for (kernel, from, to, expected) in [
        ("integers", "pred=slt", "pred=less", "pred = less"),
        ("memory", "align=16", "align=3", "align = 3"),
        ("floats", "= bitcast %37", "= bitcast %1", "cannot go from ptr.global to f32"),
        ("mma", "lane @mma", "lane @smem", "cannot name a kernel"),
    ] {
        let text = lane_file(kernel);
        assert!(text.contains(from), "{kernel} has no `{from}`");
        let error = pool().compile(&text.replacen(from, to, 1)).expect_err(expected);
        let (stage, _, what) = stage_of(&error);
        assert_eq!(stage, Stage::Llvm, "{what}");
        assert!(what.contains(expected), "{what}");
    }
}

#[test]
fn a_worker_that_aborts_costs_one_kernel() {
    let folder = tempfile::tempdir().expect("a folder");
    let pool =
        WorkerPool::new(1, worker_after("read line; echo 'LLVM ERROR: Cannot select: intrinsic' >&2; kill -ABRT $$", &folder));
    let error = pool.compile(&lane_file("mma")).expect_err("it aborts");
    let CodegenError::WorkerDied { kernel, status, stderr } = &error else { panic!("{error}") };
    assert_eq!((kernel.as_str(), status.as_str()), ("mma", "signal 6, abort"));
    assert!(stderr.contains("Cannot select"), "{stderr}");
    assert!(error.to_string().contains("mma") && error.to_string().contains("instruction table"), "{error}");
    pool.compile(&lane_file("mma")).expect("a new worker takes its place");
}

#[test]
fn a_worker_that_hangs_is_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let pool = WorkerPool::new(1, worker_after("exec sleep 60", &folder)).with_timeout(Duration::from_secs(5));
    let error = pool.compile(&lane_file("mma")).expect_err("it hangs");
    assert!(error.to_string().contains("no answer within 5 s"), "{error}");
    pool.compile(&lane_file("mma")).expect("a new worker takes its place");
}

#[test]
fn a_worker_that_is_not_there_is_named() {
    let command = WorkerCommand { program: "/nowhere/gen".into(), args: Vec::new() };
    let error = WorkerPool::new(1, command).compile(&lane_file("mma")).expect_err("no such file");
    assert!(error.to_string().contains("/nowhere/gen"), "{error}");
}

#[test]
fn one_pool_serves_many_threads() {
    let (pool, text) = (pool(), lane_file("mma"));
    let expected = pool.compile(&text).expect("PTX").ptx;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(pool.compile(&text).expect("PTX").ptx, expected));
        }
    });
}
