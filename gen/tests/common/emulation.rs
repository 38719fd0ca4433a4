//! Runs `gen emulate` on PTX, a launch.json and tensors.

use super::{gen_in, outcome, save};
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::Value;
use std::path::PathBuf;

/// A tensor of an input file.
pub type Input<'a> = (&'a str, Dtype, Vec<usize>, Vec<u8>);

/// A run, and the folder of its files.
pub struct Run {
    pub dir: tempfile::TempDir,
    pub code: i32,
    /// All of stderr.
    pub text: String,
    /// The last line of it.
    pub line: String,
}

/// A module of sm_90a.
pub fn module(body: &str) -> String {
    format!(".version 8.6\n.target sm_90a\n.address_size 64\n{body}")
}

pub fn i32s(values: impl IntoIterator<Item = i32>) -> Vec<u8> {
    values.into_iter().flat_map(i32::to_le_bytes).collect()
}

/// `x`, 64 integers 0, 1, ...
pub fn x() -> Input<'static> {
    ("x", Dtype::I32, vec![64], i32s(0..64))
}

/// Runs it with an input, an output and a report.
pub fn emulate(ptx: &str, launch: &str, inputs: &[Input<'_>], more: &[&str]) -> Run {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("k.ptx"), ptx).unwrap();
    std::fs::write(dir.path().join("launch.json"), launch).unwrap();
    save(&dir.path().join("in"), inputs);
    run_in(dir, &[&["--input", "in", "--output", "out", "--report", "report"], more].concat())
}

/// Runs it in a folder that has k.ptx and launch.json.
pub fn run_in(dir: tempfile::TempDir, more: &[&str]) -> Run {
    let o = gen_in(dir.path(), &[&["emulate", "k.ptx", "--launch", "launch.json"], more].concat());
    let text = String::from_utf8_lossy(&o.stderr).into_owned();
    let (code, line) = outcome(&o);
    Run { dir, code, text, line }
}

impl Run {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn report(&self) -> Value {
        let bytes = std::fs::read(self.path("report")).unwrap_or_else(|e| panic!("no report: {e}: {}", self.text));
        serde_json::from_slice(&bytes).unwrap()
    }

    /// An output.
    pub fn output(&self, name: &str) -> (Dtype, Vec<usize>, Vec<u8>) {
        assert_eq!(self.code, 0, "{}", self.text);
        let bytes = std::fs::read(self.path("out")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let t = file.tensor(name).unwrap();
        (t.dtype(), t.shape().to_vec(), t.data().to_vec())
    }

    /// The bytes of an output.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.output(name).2
    }

    /// The findings, as (kind, severity, line).
    pub fn findings(&self) -> Vec<(String, String, u64)> {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        let one = |f: &Value| (text(&f["kind"]), text(&f["severity"]), f["line"].as_u64().unwrap_or_default());
        self.report()["findings"].as_array().unwrap().iter().map(one).collect()
    }

    /// Demands a refusal: exit status 2, one line with these words, and no files.
    #[track_caller]
    pub fn refused(&self, words: &str) {
        assert!(self.code == 2 && self.line.contains(words), "`{words}` is not in: {} {}", self.code, self.text);
        assert_eq!(self.text.lines().count(), 1, "{}", self.text);
        let mut names: Vec<_> = std::fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        let strangers: Vec<_> = names.iter().filter(|n| !["in", "k.ptx", "launch.json"].iter().any(|k| n == k)).collect();
        assert!(strangers.is_empty(), "left behind: {strangers:?}");
    }
}
