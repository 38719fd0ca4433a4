//! The example of docs/how-to/add-a-score-mod.md runs, and its page shows it as it is.

#[path = "../examples/attention_mods.rs"]
mod example;

use tilewright_codegen::WorkerCommand;

#[test]
fn the_example_agrees_with_f64() {
    let program = env!("CARGO_BIN_EXE_tilewright-tests-worker").into();
    let worst = example::run(WorkerCommand { program, args: Vec::new() }).unwrap();
    // The outputs stay below 1, where bf16 has steps of 2^-8: one for rounding o, one for rounding P.
    assert!(worst <= 2.0 * 2f64.powi(-8), "{worst}");
}

#[test]
fn the_page_shows_the_example() {
    let page = include_str!("../../docs/how-to/add-a-score-mod.md");
    let source = include_str!("../examples/attention_mods.rs");
    let blocks: Vec<&str> = page.split("```rust\n").skip(1).filter_map(|b| b.split("```").next()).collect();
    assert_eq!(blocks.len(), 3, "two mods and how they are handed over");
    for block in blocks {
        assert!(source.contains(block.trim_end()), "not in the example as it stands:\n{block}");
    }
    for mod_ in page.split("```rust\n").skip(1).take(2).filter_map(|b| b.split("```").next()) {
        assert!(mod_.lines().count() < 20, "a mod is under 20 lines");
    }
}
