//! docs/attention.md and docs/gemm.md name tests and configs: they exist.

use std::path::Path;
use tilewright_templates::attention::{AttentionConfig, DecodeConfig};
use tilewright_templates::gemm::GemmConfig;

const ATTENTION: &str = include_str!("../../docs/attention.md");
const GEMM: &str = include_str!("../../docs/gemm.md");

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

/// Each system has a row that names tests, and what the page names exists.
fn check_systems(page: &str, systems: &[&str]) {
    for system in systems {
        let row = page.lines().find(|l| l.starts_with(&format!("| {system}"))).unwrap_or_else(|| panic!("no row for {system}"));
        assert!(!tests_of(row).is_empty(), "{system} names no test");
    }
    for (file, name) in tests_of(page) {
        assert!(holds(file, name), "{file} has no test {name}");
    }
}

/// Config ids of a page: whole ones, in tables and after `--set config=`.
fn ids(page: &str) -> Vec<&str> {
    let words = page.split([' ', '`', '\n']).map(|word| word.strip_prefix("config=").unwrap_or(word));
    words.filter(|word| word.contains("kind=") && word.contains(',')).collect()
}

#[test]
fn every_system_names_tests_that_exist() {
    check_systems(
        ATTENTION,
        &["FlashAttention-2", "FlashAttention-3", "FlashInfer", "Hydragen", "StreamingLLM", "DuoAttention", "LServe", "Quest"],
    );
    check_systems(GEMM, &["AWQ", "GPTQ", "MARLIN", "SmoothQuant", "DeepSeek fp8", "COAT", "Tutel, DeepSpeed-MoE"]);
    assert!(!holds("tests/tests/docs.rs", "tests_of") && !holds("tests/tests/docs.rs", "no_such_test"));
}

#[test]
fn configs_are_configs() {
    let attention = ids(ATTENTION);
    assert!(attention.len() >= 3, "{attention:?}");
    for id in attention {
        let known = id.parse::<AttentionConfig>().is_ok() || id.parse::<DecodeConfig>().is_ok();
        assert!(known, "`{id}` is no config");
    }
    let gemm = ids(GEMM);
    assert!(gemm.len() >= 10, "{gemm:?}");
    for id in gemm {
        assert!(id.parse::<GemmConfig>().is_ok(), "`{id}` is no config: {:?}", id.parse::<GemmConfig>());
    }
}
