//! The GPU kit's script, as far as it goes without torch and a GPU.

use std::mem::offset_of;
use std::path::Path;
use std::process::{Command, Output};

use tilewright::{Gemm, Tensor};

use crate::built;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/gpu/run.py");

const STAND_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../runtime/tests/runtime/fixtures/libcuda.c");

/// A worker that crashes, hangs and loses its GPU, each at one case.
const WORKER: &str = r#"
import os, sys, time
sys.path.insert(0, os.environ["KIT"])
import run
part = run.Part(sys.argv[sys.argv.index("--part") + 1])
for key in ["one", "crash", "two", "hang", "lost", "three"]:
    if key in part.data["cases"]:
        continue
    part.start(key)
    if key == "crash":
        os._exit(9)
    if key == "hang":
        time.sleep(60)
    if key == "lost":
        part.finish(key, {"status": "crashed", "why": "illegal access"})
        sys.exit(run.CONTEXT_LOST)
    part.finish(key, {"status": "ok"})
"#;

/// Runs that worker as the script runs its own, and prints what is left.
const PARENT: &str = r#"
import argparse, os, sys
sys.path.insert(0, os.environ["KIT"])
import run
run.__file__ = sys.argv[1]
part = sys.argv[2]
problem = run.run_phase("check", argparse.Namespace(lib="", pack="", stall_s=2), part, 0, lambda: None)
cases = run.Part(part).data["cases"]
print(problem, *(f"{key}={cases[key]['status']}" for key in sorted(cases)))
"#;

/// The script's output, with modules for Python in `modules`; None, with a word, where there is no Python.
fn run(modules: &Path, arguments: &[&str]) -> Option<Output> {
    let output = Command::new("python3").args(["-B", SCRIPT]).args(arguments).env("PYTHONPATH", modules).output();
    match output {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("skipped: no python3: {error}");
            None
        }
    }
}

/// What Python prints; None, with a word, where there is none.
fn python(arguments: &[&str]) -> Option<String> {
    let kit = Path::new(SCRIPT).parent().unwrap();
    match Command::new("python3").arg("-B").args(arguments).env("KIT", kit).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(error) => {
            eprintln!("skipped: no python3: {error}");
            None
        }
    }
}

/// The one line with which the script refused.
fn refusal(modules: &Path, arguments: &[&str]) -> Option<String> {
    let output = run(modules, arguments)?;
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert_eq!(words.lines().count(), 1, "{words}");
    Some(words.trim_end().to_owned())
}

#[test]
fn help_needs_nothing_installed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(output) = run(folder.path(), &["--help"]) else { return };
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for word in ["--budget-s", "--out", "--pack", "--lib", "gpu-report.json"] {
        assert!(text.contains(word), "{word} is missing from\n{text}");
    }
}

#[test]
fn a_crash_or_a_hang_costs_one_case() {
    let folder = tempfile::tempdir().unwrap();
    let [worker, part] = ["worker.py", "part.json"].map(|name| folder.path().join(name));
    std::fs::write(&worker, WORKER).unwrap();
    let Some(words) = python(&["-c", PARENT, worker.to_str().unwrap(), part.to_str().unwrap()]) else { return };
    let last = words.lines().last().unwrap_or_default();
    assert_eq!(last, "None crash=crashed hang=hung lost=crashed one=ok three=ok two=ok", "{words}");
}

#[test]
fn the_script_lays_out_structures_as_the_library_does() {
    let print = "import os, sys; sys.path.insert(0, os.environ['KIT']); import run, ctypes; \
                 print(ctypes.sizeof(run.Gemm), run.Gemm.alpha.offset, ctypes.sizeof(run.TensorInfo), \
                 run.TensorInfo.shape.offset, run.TensorInfo.alignment.offset)";
    let Some(words) = python(&["-c", print]) else { return };
    let expected = [
        size_of::<Gemm>(),
        offset_of!(Gemm, alpha),
        size_of::<Tensor>(),
        offset_of!(Tensor, shape),
        offset_of!(Tensor, alignment),
    ];
    assert_eq!(words.trim(), expected.map(|number| number.to_string()).join(" "));
}

#[test]
fn what_is_missing_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let Some(line) = refusal(folder.path(), &["--lib", "/nowhere/lib.so"]) else { return };
    assert!(line.starts_with("run.py: /nowhere/lib.so is missing: build it with `cargo build"), "{line}");

    let phase = refusal(folder.path(), &["--phases", "check,measure"]).unwrap();
    assert_eq!(
        phase,
        "run.py: no phase measure: there are check, sweep, mixed-check, mixed, attention-check, attention, sparse-check, sparse, tune, plans"
    );

    // A torch that finds no GPU, whether or not the machine has the real one.
    let library = folder.path().join("lib.so");
    std::fs::write(&library, "").unwrap();
    let library = library.to_str().unwrap();
    let torch = |text: &str| std::fs::write(folder.path().join("torch.py"), text).unwrap();
    torch("class version:\n    cuda = None\n__version__ = '2.11.0+cpu'\n");
    let line = refusal(folder.path(), &["--lib", library]).unwrap();
    assert_eq!(line, "run.py: torch 2.11.0+cpu is built without CUDA: install a CUDA build");
    torch("class version:\n    cuda = '13.0'\nclass cuda:\n    is_available = lambda: False\n");
    let line = refusal(folder.path(), &["--lib", library]).unwrap();
    assert_eq!(line, "run.py: torch finds no CUDA device: run this on a machine with an NVIDIA GPU and driver");
}

/// The scripts' own tests; with `environment` those of [`plans_of_the_shipped_pack_take_the_kits_problems`] too.
fn script_tests(names: &[&str], environment: &[(&str, &Path)]) -> Option<String> {
    let mut command = Command::new("python3");
    command.args(["-B", "-m", "unittest", "-v"]).args(names).current_dir(Path::new(SCRIPT).parent().unwrap());
    match command.envs(environment.iter().copied()).output() {
        Ok(output) => {
            let words = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
            assert!(output.status.success(), "{words}");
            Some(words)
        }
        Err(error) => {
            eprintln!("skipped: no python3: {error}");
            None
        }
    }
}

#[test]
fn the_scripts_pass_their_own_tests() {
    let Some(words) = script_tests(&["test_attention", "test_gemm_mixed", "test_sparse"], &[]) else { return };
    for test in ["test_texts_are_those_of_the_library", "test_keys_are_unique_and_the_short_list_is_part_of_all"] {
        assert!(words.contains(test), "{words}");
    }
}

#[test]
fn plans_of_the_shipped_pack_take_the_kits_problems() {
    let Some(library) = built("libtilewright.so") else { return };
    let folder = tempfile::tempdir().unwrap();
    let [driver, log] = ["libcuda.so", "log"].map(|name| folder.path().join(name));
    let built = Command::new("cc").args(["-std=gnu11", "-shared", "-fPIC", "-o"]).arg(&driver).arg(STAND_IN).output();
    let built = match built {
        Ok(output) => output,
        Err(error) => return eprintln!("skipped: no C compiler: {error}"),
    };
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let pack = Path::new(SCRIPT).parent().unwrap().join("../../kernels-generated/sm90");
    let environment = [
        ("LD_LIBRARY_PATH", folder.path()),
        ("STAND_IN_LOG", &log),
        ("STAND_IN_ANY", Path::new("1")),
        ("TILEWRIGHT_LIB", &library),
        ("TILEWRIGHT_PACK", &pack),
    ];
    let Some(words) = script_tests(&["test_attention.Packs", "test_gemm_mixed.Packs"], &environment) else { return };
    assert!(words.contains("Ran 5 tests") && !words.contains("skipped"), "{words}");
    // Without numpy these say that they are skipped.
    let Some(words) = script_tests(&["test_sparse.Packs"], &environment) else { return };
    assert!(words.contains("Ran 1 test"), "{words}");
}
