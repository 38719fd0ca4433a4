//! The header is what cbindgen makes of the sources, and what a C compiler makes of it is what Rust has.

use std::collections::BTreeSet;
use std::fs;
use std::mem::offset_of;
use std::process::Command;

use tilewright::{Gemm, Number, Size, Sizes, Tensor};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// In the order in which their functions stand in the header.
const SOURCES: [&str; 7] = ["status", "pack", "memory", "problem", "select", "op", "dlpack"];

fn source(name: &str) -> String {
    format!("{ROOT}/src/{name}.rs")
}

#[test]
fn header_is_what_cbindgen_makes_of_the_sources() {
    let config = cbindgen::Config::from_file(format!("{ROOT}/cbindgen.toml")).unwrap();
    let builder = SOURCES.iter().fold(cbindgen::Builder::new().with_config(config), |b, name| b.with_src(source(name)));
    let mut made = Vec::new();
    builder.generate().unwrap().write(&mut made);
    // Markdown's heading and escapes mean nothing in C.
    let made = String::from_utf8(made).unwrap().replace("// # Safety\n", "// Promised by the caller:\n").replace("\\[", "[");
    let made = made.replace("\\]", "]");
    let path = format!("{ROOT}/include/tilewright.h");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap();
    assert!(kept == made, "{path} is not what the sources say: run `BLESS=1 cargo test -p tilewright-c header`");
}

#[test]
fn every_function_is_in_the_header_and_in_no_other_file() {
    let header = fs::read_to_string(format!("{ROOT}/include/tilewright.h")).unwrap();
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(format!("{ROOT}/src")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let names = text.split("extern \"C\" fn tw_").skip(1).map(|rest| rest.split('(').next().unwrap().to_owned());
        for name in names {
            assert!(header.contains(&format!("tw_{name}(")), "tw_{name} of {} is not in the header", path.display());
            found.insert(name);
        }
        assert!(
            text.matches("#[unsafe(no_mangle)]").count() == text.matches("extern \"C\" fn tw_").count(),
            "{}",
            path.display()
        );
    }
    assert!(found.len() >= 27, "{found:?}");
}

/// What the compiler says of a source that includes the header; None, with a word, where there is none.
fn compiles(name: &str, arguments: &[&str], text: &str) -> Option<()> {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join(name);
    fs::write(&source, text).unwrap();
    let mut command = Command::new("cc");
    command.args(arguments).args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I"]);
    match command.arg(format!("{ROOT}/include")).arg(&source).output() {
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            // A C compiler need not come with one for C++.
            if words.contains("cc1plus") {
                eprintln!("skipped: no C++ compiler");
                return None;
            }
            assert!(output.status.success(), "{words}");
            Some(())
        }
        Err(error) => {
            eprintln!("skipped: no C compiler: {error}");
            None
        }
    }
}

#[test]
fn a_c_compiler_takes_the_header_and_its_layouts() {
    let checks = [
        ("sizeof(tw_gemm)", size_of::<Gemm>()),
        ("offsetof(tw_gemm, alpha)", offset_of!(Gemm, alpha)),
        ("sizeof(tw_size)", size_of::<Size>()),
        ("sizeof(tw_number)", size_of::<Number>()),
        ("sizeof(tw_problem)", size_of::<Sizes>()),
        ("offsetof(tw_problem, numbers)", offset_of!(Sizes, numbers)),
        ("offsetof(tw_problem, n_numbers)", offset_of!(Sizes, n_numbers)),
        ("sizeof(tw_tensor)", size_of::<Tensor>()),
        ("offsetof(tw_tensor, rank)", offset_of!(Tensor, rank)),
        ("offsetof(tw_tensor, shape)", offset_of!(Tensor, shape)),
        ("offsetof(tw_tensor, alignment)", offset_of!(Tensor, alignment)),
    ];
    let mut text = "#include <stddef.h>\n#include \"tilewright.h\"\n".to_owned();
    for (expression, expected) in checks {
        text += &format!("_Static_assert({expression} == {expected}, \"{expression}\");\n");
    }
    compiles("layout.c", &["-std=c11"], &text);
}

#[test]
fn a_cpp_compiler_takes_the_header() {
    let text = "#include \"tilewright.h\"\nint main() { return tw_check_abi(TW_ABI); }\n";
    compiles("main.cpp", &["-std=c++17", "-x", "c++"], text);
}
