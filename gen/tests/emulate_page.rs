//! docs/emulator/run-and-check-your-ptx.md says what is true: its files, its report, its kinds of findings.

use crate::common::emulation::*;
use crate::common::{gen_in, load, root};

const PAGE: &str = "docs/emulator/run-and-check-your-ptx.md";

fn page() -> String {
    std::fs::read_to_string(root().join(PAGE)).unwrap()
}

/// Fenced blocks of a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let start = format!("```{language}\n");
    let block = |rest: &str| rest.split("```").next().unwrap_or_default().to_string();
    page.split(&start).skip(1).map(block).collect()
}

/// A folder with the example, its input made as the page says.
fn example() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(root().join("docs/emulator/example")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let made = std::process::Command::new("python3").arg("input.py").current_dir(dir.path()).status().unwrap();
    assert!(made.success(), "python3 input.py");
    dir
}

/// The arguments of the commands of the page that run `gen emulate`.
fn commands(page: &str) -> Vec<Vec<String>> {
    let lines = blocks(page, "sh").join("\n");
    let lines = lines.lines().filter_map(|l| l.strip_prefix("gen "));
    lines.map(|l| l.split_whitespace().map(str::to_string).collect()).collect()
}

#[test]
fn the_commands_of_the_page_do_what_it_says() {
    let (page, dir) = (page(), example());
    let commands = commands(&page);
    assert_eq!(commands.len(), 2);
    let run = |command: &[String]| gen_in(dir.path(), &command.iter().map(String::as_str).collect::<Vec<_>>());
    let o = run(&commands[0]);
    assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
    let (shape, y) = load(&dir.path().join("out.safetensors"), "y");
    assert_eq!(shape, [50]);
    assert!((0..50).all(|i| y[i] == 2.0 * i as f64), "{y:?}");
    let o = run(&commands[1]);
    assert_eq!(o.status.code(), Some(1));
    let text = String::from_utf8_lossy(&o.stderr);
    let quoted = blocks(&page, "text");
    assert_eq!(quoted.len(), 1);
    assert!(text.contains(&quoted[0]), "the page quotes\n{}\nbut this is printed\n{text}", quoted[0]);
    // The barrier that the kernel forgets is all that it lacks.
    let ptx = std::fs::read_to_string(dir.path().join("reverse.ptx")).unwrap();
    std::fs::write(dir.path().join("reverse.ptx"), ptx.replace("  sub.u32", "  bar.sync 0;\n  sub.u32")).unwrap();
    let o = run(&commands[1]);
    assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
    let (_, y) = load(&dir.path().join("out.safetensors"), "y");
    assert!((0..64).all(|i| y[i] == (63 - i) as f64), "{y:?}");
}

#[test]
fn the_page_quotes_the_launch_file() {
    let file = std::fs::read_to_string(root().join("docs/emulator/example/launch.json")).unwrap();
    assert_eq!(blocks(&page(), "json"), [file]);
}

#[test]
fn every_kind_of_finding_has_a_row() {
    let source = std::fs::read_to_string(root().join("emulator/src/finding.rs")).unwrap();
    let body = source.split("pub enum FindingKind {").nth(1).unwrap().split('}').next().unwrap();
    let names = body.lines().map(str::trim).filter(|l| !l.starts_with("//") && !l.is_empty());
    let kebab = |name: &str| -> String {
        let letters = name.trim_end_matches(',').chars().enumerate();
        letters.flat_map(|(i, c)| [(c.is_uppercase() && i > 0).then_some('-'), Some(c.to_ascii_lowercase())]).flatten().collect()
    };
    let kinds: Vec<String> = names.map(kebab).collect();
    assert!(kinds.len() > 20 && kinds.contains(&"wgmma-in-flight".to_string()), "{kinds:?}");
    let page = page();
    let table = page.split("### Kinds of findings").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<&str> = table.lines().filter_map(|l| l.strip_prefix("| `")?.split('`').next()).collect();
    let mut missing = kinds.clone();
    missing.retain(|k| !rows.contains(&k.as_str()));
    assert!(missing.is_empty(), "no row for {missing:?}");
    assert!(rows.iter().all(|r| kinds.iter().any(|k| k == r)), "rows of no kind: {rows:?}");
}

#[test]
fn links_of_the_page_lead_somewhere() {
    // Without what is code.
    let page: String = page().split('`').step_by(2).collect();
    let folder = root().join("docs/emulator");
    let links: Vec<&str> = page.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() >= 4);
    for link in links.iter().filter(|l| !l.starts_with("http")) {
        assert!(folder.join(link).exists(), "{link}");
    }
}

#[test]
fn every_flag_and_key_of_the_page_exists() {
    // All keys of the tables, in one file that runs.
    let r = emulate(
        &module(".global .align 4 .b32 v;\n.visible .entry k(.param .u64 x) {\nret;\n}\n.visible .entry l() {\nret;\n}\n"),
        r#"{"launches":[{"entry":"k","grid":[1,1,1],"block":[1,1,1],"cluster":[1,1,1],"shared_bytes":16,
            "args":[{"tensor":"x","offset":64}]},
            {"entry":"l","grid":[1,1,1],"block":[1,1,1],"programmatic":true}],
            "symbols":{"v":{"bytes":"01000000"}},"resident":1,
            "alloc":{"scratch":{"dtype":"U8","shape":[16],"zero":true}},"outputs":["symbol:v","scratch"]}"#,
        &[x()],
        &["--checks", "none", "--schedules", "2", "--numerics", "exact"],
    );
    assert_eq!(r.bytes("symbol:v"), i32s([1]));
    assert_eq!(r.bytes("scratch"), [0; 16]);
}
