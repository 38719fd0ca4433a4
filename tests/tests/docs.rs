//! docs/attention.md, docs/gemm.md and docs/sparse-conv.md name tests and configs: they exist.

use std::path::Path;
use tilewright_ir::Arch;
use tilewright_templates::attention::{AttentionConfig, DecodeConfig};
use tilewright_templates::gemm::{GemmConfig, GemmProblem, build};
use tilewright_templates::sparse_conv::core::CoreConfig;
use tilewright_tests::Runner;

const ATTENTION: &str = include_str!("../../docs/attention.md");
const GEMM: &str = include_str!("../../docs/gemm.md");
const SPARSE: &str = include_str!("../../docs/sparse-conv.md");

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

/// The row of a class and a config in the table of what machine code costs, as it should be; None without ptxas.
fn costs(runner: &Runner, class: &str, config: &str) -> Option<String> {
    let output = if class.starts_with("a=f16") { "f16" } else { "bf16" };
    let act = if class.contains("act=") { "" } else { ",act=none" };
    let whole = format!("{class},b=nk,out={output}{act},bias=0,residual=0");
    let problem = GemmProblem::from_class(&whole).unwrap_or_else(|e| panic!("{class}: {e}"));
    let arch = if config.contains("kind=weight_mma") { Arch::Sm80 } else { Arch::Sm90a };
    let kernel = build(arch, &problem, &config.parse().unwrap()).unwrap_or_else(|e| panic!("{class} {config}: {e}"));
    let built = runner.build(&kernel.kernel).unwrap_or_else(|e| panic!("{class} {config}: {e}"));
    let sass = built.compiled.sass?;
    let main = sass.main().unwrap_or_else(|| panic!("{class} {config}: no loop multiplies"));
    let c = &main.counts;
    let kinds = [c.int, c.uniform, c.half, c.convert, c.float, c.moves, c.shared_loads(), main.instructions];
    let each = kinds.map(|n| format!("{:.2}", f64::from(n) / f64::from(main.multiply_count())));
    Some(format!("| `{class}` | `{config}` | {} |", each.join(" | ")))
}

#[test]
fn the_page_says_what_machine_code_costs() {
    let runner = Runner::of_contract(env!("CARGO_BIN_EXE_tilewright-tests-worker"));
    let rows: Vec<&str> = GEMM.lines().filter(|l| l.starts_with("| `a=")).collect();
    assert!(rows.len() >= 10, "{rows:?}");
    let mut should_be = Vec::new();
    for row in &rows {
        let [_, class, _, config, _] = row.splitn(5, '`').collect::<Vec<_>>()[..] else { panic!("{row}") };
        let Some(found) = costs(&runner, class, config) else { return eprintln!("skipped: no ptxas or nvdisasm") };
        should_be.push(found);
    }
    assert!(rows == should_be, "the table should be\n{}", should_be.join("\n"));
}

#[test]
fn tiles_of_sparse_convolutions_are_configs() {
    let words: Vec<&str> = SPARSE.split(['`', ' ', ',']).filter(|w| w.starts_with("mma_") || w.starts_with("wgmma_")).collect();
    assert!(words.len() >= 2, "{words:?}");
    for word in words {
        let config: CoreConfig = word.parse().unwrap_or_else(|e| panic!("{e}"));
        config.check(Arch::Sm90a, tilewright_ir::DType::F16).unwrap();
    }
}
