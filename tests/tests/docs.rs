//! docs/attention.md names tests and configs: they exist.

use std::path::Path;
use tilewright_templates::attention::{AttentionConfig, DecodeConfig};

const PAGE: &str = include_str!("../../docs/attention.md");

/// The `file.rs::name` of a text.
fn tests_of(text: &str) -> Vec<(&str, &str)> {
    text.split('`').filter_map(|code| code.split_once(".rs::").map(|(stem, name)| (&code[..stem.len() + 3], name))).collect()
}

/// Whether a file holds a test of a name.
fn holds(file: &str, name: &str) -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let source = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
    let head = format!("fn {name}() {{");
    source.lines().zip(source.lines().skip(1)).any(|(above, line)| above.trim() == "#[test]" && line.trim() == head)
}

#[test]
fn every_system_names_tests_that_exist() {
    for system in
        ["FlashAttention-2", "FlashAttention-3", "FlashInfer", "Hydragen", "StreamingLLM", "DuoAttention", "LServe", "Quest"]
    {
        let row = PAGE.lines().find(|l| l.starts_with(&format!("| {system}"))).unwrap_or_else(|| panic!("no row for {system}"));
        assert!(!tests_of(row).is_empty(), "{system} names no test");
    }
    for (file, name) in tests_of(PAGE) {
        assert!(holds(file, name), "{file} has no test {name}");
    }
    assert!(!holds("tests/tests/docs.rs", "tests_of") && !holds("tests/tests/docs.rs", "no_such_test"));
}

#[test]
fn configs_are_configs() {
    // Whole ids, in the table and after `--set config=`.
    let ids = PAGE.split([' ', '`', '\n']).map(|word| word.strip_prefix("config=").unwrap_or(word));
    let ids: Vec<&str> = ids.filter(|word| word.contains(",kind=")).collect();
    assert!(ids.len() >= 3, "{ids:?}");
    for id in ids {
        let known = id.parse::<AttentionConfig>().is_ok() || id.parse::<DecodeConfig>().is_ok();
        assert!(known, "`{id}` is no config");
    }
}
