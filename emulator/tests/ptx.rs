//! Runs every `tests/ptx/*.ptx` file and compares what it does with what its comments say.
//!
//! A file starts with directives, one a line:
//!
//! ```text
//! // run: entry=k grid=1,1,1 block=32,1,1 cluster=1,1,1 shared=0 seeds=0,1,2
//! // arg: u32 5            also u64, f32, and `bytes` with hex digits
//! // arg: in x u32 iota(32)
//! // arg: out y 128        bytes, undefined at the start; `zero y 128` for cleared ones
//! // arg: map x u16 dims=64,8 strides=128 box=64,8 swizzle=128 oob=zero
//! // buffer: x u16 iota(512)          memory that only a map names
//! // expect: y u32 0 1 fill(7,30)
//! // unwritten: y 16
//! // counter: tensor_flops 4096
//! // printed: t=0\n                   one for each call of printf; without any nothing may be printed
//! ```
//!
//! `//~ kind words` at the end of a line of PTX expects a finding of that kind there whose message has these words;
//! `//~ parse words` expects the module to be refused at that line. Without any the run must be clean. Lints are
//! spelt `//~ kind? words`.

mod common;

use common::case::Case;

#[test]
fn every_file_does_what_it_says() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ptx");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .expect("tests/ptx is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "ptx"))
        .collect();
    names.sort();
    assert!(names.len() > 20, "the cases are missing");
    let mut failures = Vec::new();
    for path in names {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Err(why) = Case::parse(&text).and_then(|case| case.check(&text)) {
            failures.push(format!("{name}: {why}"));
        }
    }
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}
