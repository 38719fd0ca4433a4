//! What of PTX is emulated: `tests/coverage/*.txt` say it, and these tests hold the emulator, `docs/emulator/coverage.md`
//! and ptxas to it.
//!
//! A line is `TARGET snippet` for a form that runs, `! TARGET snippet` for one that is refused by name, and
//! `!! TARGET snippet` for one that the target does not have at all; `= words` starts a section. `<a/b>` stands for each of its alternatives. A snippet is the body of a kernel with the registers
//! and names of [`module`], or after `@` a module directive; `$` is a number of its own. Rewrite the page with
//! `BLESS=1 cargo test -p tilewright-emulator --test coverage`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tilewright_emulator::{Device, DeviceConfig, Launch, LaunchError, Module, Numerics};

struct Row {
    place: String,
    runs: bool,
    /// ptxas knows it.
    exists: bool,
    target: String,
    text: String,
    snippets: Vec<String>,
}

enum Line {
    Section(String),
    Row(Row),
}

/// Each alternative of each `<a/b>`, with `$` numbered from `number`.
fn expand(text: &str) -> Vec<String> {
    let Some((before, rest)) = text.split_once('<') else { return vec![text.to_string()] };
    let Some((inside, after)) = rest.split_once('>') else { return vec![text.to_string()] };
    // `%t<4>` declares registers.
    if !inside.contains('/') {
        return expand(after).into_iter().map(|tail| format!("{before}<{inside}>{tail}")).collect();
    }
    let tails = expand(after);
    let each = |choice: &str| tails.iter().map(|tail| format!("{before}{choice}{tail}")).collect::<Vec<_>>();
    inside.split('/').flat_map(each).collect()
}

fn lines() -> Vec<Line> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/coverage");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("tests/coverage").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let mut out = Vec::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for (index, line) in std::fs::read_to_string(&file).expect("a readable file").lines().enumerate() {
            if let Some(title) = line.strip_prefix("= ") {
                out.push(Line::Section(title.to_string()));
                continue;
            }
            if line.trim().is_empty() {
                continue;
            }
            let exists = !line.starts_with("!! ");
            let (runs, rest) = match line.trim_start_matches('!').strip_prefix(' ') {
                Some(rest) => (false, rest),
                None => (true, line),
            };
            let (target, text) = rest.split_once(' ').expect("a target and a snippet");
            let place = format!("{name}:{}", index + 1);
            out.push(Line::Row(Row { place, runs, exists, target: target.into(), text: text.into(), snippets: expand(text) }));
        }
    }
    out
}

fn rows() -> Vec<Row> {
    let row = |line| match line {
        Line::Row(row) => Some(row),
        Line::Section(_) => None,
    };
    lines().into_iter().filter_map(row).collect()
}

const SHARED_PART: &str = ".extern .func (.param .b32 r) vprintf(.param .b64 a, .param .b64 b);
.extern .func __assertfail(.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e);
.extern .func (.param .b64 r) malloc(.param .b64 a);
.extern .func free(.param .b64 a);
.shared .align 128 .b8 smem[1024];
.global .align 16 .b8 gmem[256];
.const .align 16 .b8 cmem[256];
.func function(.param .b32 x) { ret; }
.func (.param .b32 y) function2(.param .b32 x, .param .b32 z) { st.param.b32 [y], 0; ret; }
";

fn header(target: &str) -> String {
    format!(".version 9.0\n.target {target}\n.address_size 64\n{SHARED_PART}")
}

/// A snippet as a kernel or directive of its own on one line.
fn kernel(snippet: &str, number: usize) -> String {
    let snippet = snippet.replace('$', &number.to_string());
    if let Some(directive) = snippet.strip_prefix("@ ") {
        return format!("{directive}\n");
    }
    format!(
        ".visible .entry k{number}(.param .u64 arg) {{ .reg .pred %p<8>; .reg .b8 %c<8>; .reg .b16 %h<16>; .reg .b32 %r<32>; \
         .reg .b64 %d<16>; .reg .b128 %q<8>; .param .b32 arg_; .param .b32 result; .param .b64 wide; {snippet} L: ret; }}\n"
    )
}

/// One snippet as a module.
fn module(target: &str, snippet: &str) -> String {
    format!("{}{}.visible .entry last() {{ ret; }}\n", header(target), kernel(snippet, 0))
}

#[test]
fn each_form_runs_or_is_refused_as_the_table_says() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for row in rows() {
        for snippet in &row.snippets {
            count += 1;
            match (Module::parse(&module(&row.target, snippet)), row.runs) {
                (Err(error), true) => wrong.push(format!("{}: {snippet}: {error}", row.place)),
                (Ok(_), false) => wrong.push(format!("{}: {snippet}: is accepted, not refused", row.place)),
                _ => {}
            }
        }
    }
    assert!(count > 1500, "the table is missing");
    assert!(wrong.is_empty(), "{} of {count} forms:\n{}", wrong.len(), wrong.join("\n"));
}

/// Decoding for the ring is a path of its own. A launch without threads gets as far as that and no further.
#[test]
fn each_form_that_runs_does_so_in_the_ring() {
    let mut device = Device::new(DeviceConfig { numerics: Numerics::Ring, ..DeviceConfig::default() });
    let mut wrong = Vec::new();
    for row in rows().into_iter().filter(|row| row.runs) {
        for snippet in &row.snippets {
            let Ok(parsed) = Module::parse(&module(&row.target, snippet)) else { continue };
            let launch = Launch { entry: "last".into(), block: [0; 3], ..Launch::default() };
            match device.launch(&parsed, &launch) {
                Err(LaunchError::Shape(_)) => {}
                // The only ones without a meaning there, and they say so.
                Err(LaunchError::Ring(_)) if snippet.starts_with("redux.sync.") && snippet.contains(".abs") => {}
                other => wrong.push(format!("{}: {snippet}: {other:?}", row.place)),
            }
        }
    }
    assert!(wrong.is_empty(), "{} forms:\n{}", wrong.len(), wrong.join("\n"));
}

fn page() -> String {
    let mut out = String::from(
        "# What the emulator covers\n\n\
         Forms of PTX ISA 9.0, from the lowest target that has each; `<a/b>` stands for each of its alternatives. What is not\n\
         here or is marked refused ends with an error that names the instruction and its line: nothing is skipped silently.\n\
         `%h`, `%r`, `%d`, `%q` are registers of 16, 32, 64 and 128 bits, `%p` predicates.\n\n\
         Written from `emulator/tests/coverage/*.txt` by `BLESS=1 cargo test -p tilewright-emulator --test coverage`, which\n\
         also holds the emulator and ptxas to each row.\n",
    );
    for line in lines() {
        match line {
            Line::Section(title) => {
                let _ = write!(out, "\n## {title}\n\n| form | from | |\n|---|---|---|\n");
            }
            Line::Row(row) => {
                let state = if row.runs {
                    "runs".to_string()
                } else {
                    let first = row.snippets.first().map_or("", String::as_str);
                    let error = Module::parse(&module(&row.target, first)).err();
                    format!("refused: {}", error.map_or_else(String::new, |error| error.message.replace('|', "\\|")))
                };
                let text = row.text.strip_prefix("@ ").unwrap_or(&row.text).replace('$', "").replace('|', "\\|");
                let _ = writeln!(out, "| `{text}` | {} | {state} |", row.target);
            }
        }
    }
    out
}

#[test]
fn the_page_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/emulator/coverage.md");
    let page = page();
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, &page).expect("the page is written");
        return;
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let first = there.lines().zip(page.lines()).position(|(a, b)| a != b).unwrap_or(there.lines().count());
    assert!(there == page, "docs/emulator/coverage.md differs at line {}: accept with BLESS=1", first + 1);
}

/// The project's own ptxas, or the one on the path.
fn ptxas() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let mut candidates = vec![root.join(".tools/cuda-13/bin/ptxas")];
    candidates.extend(std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join("ptxas")));
    candidates.into_iter().find(|path| path.is_file())
}

#[test]
fn ptxas_knows_each_form() {
    let Some(ptxas) = ptxas() else {
        eprintln!("skipped: no ptxas in .tools/cuda-13/bin or on the path");
        return;
    };
    let mut by_target: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for row in rows().into_iter().filter(|row| row.exists) {
        let all = row.snippets.iter().map(|snippet| (row.place.clone(), snippet.clone()));
        by_target.entry(row.target.clone()).or_default().extend(all);
    }
    let mut wrong = Vec::new();
    for (target, snippets) in by_target {
        // One form a line, so that messages tell which it is.
        let mut text = header(&target);
        let first = text.lines().count() + 1;
        for (number, (_, snippet)) in snippets.iter().enumerate() {
            text += &kernel(snippet, number);
        }
        let file = std::env::temp_dir().join(format!("tilewright-coverage-{}-{target}.ptx", std::process::id()));
        std::fs::write(&file, text).expect("a temporary file");
        let mut command = Command::new(&ptxas);
        command.arg("-c").arg(format!("-arch={target}")).args(["-O0", "-o"]);
        let output = output_of(&mut command, &file);
        std::fs::remove_file(&file).expect("the file is removed");
        for message in output.lines().filter(|line| line.contains("error") || line.contains("fatal")) {
            let line = message.split_once("line ").and_then(|(_, rest)| rest.split(';').next()?.trim().parse::<usize>().ok());
            match line.and_then(|line| snippets.get(line.checked_sub(first)?)) {
                Some((place, snippet)) => wrong.push(format!("{place}: {target} {snippet}: {message}")),
                None if message.contains("aborted") => {}
                None => wrong.push(format!("{target}: {message}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{} messages:\n{}", wrong.len(), wrong.join("\n"));
}

fn output_of(command: &mut Command, file: &Path) -> String {
    let out = file.with_extension("cubin");
    let output = command.arg(&out).arg(file).output().expect("ptxas runs");
    let _ = std::fs::remove_file(&out);
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}
