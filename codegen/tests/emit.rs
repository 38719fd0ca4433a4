//! Lane IR to PTX: every row of the instruction table, debug lines, determinism.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use support::{lane_file, lane_files, pool, ring};
use tilewright_ir::Arch;
use tilewright_ir::lane::{self, table::TABLE};

#[test]
fn the_test_kernels_use_every_row_of_the_table() {
    let mut used = BTreeSet::new();
    for (_, text) in lane_files() {
        let func = lane::parse(&text).expect("a test kernel parses");
        used.extend(func.blocks.iter().flat_map(|b| &b.insts).map(|i| i.op));
    }
    let missing: Vec<_> = TABLE.iter().filter(|row| !used.contains(&row.op)).map(|row| row.name).collect();
    assert!(missing.is_empty(), "no kernel under tests/lane uses {missing:?}");
}

#[test]
fn every_kernel_becomes_ptx_of_the_lowest_version_on_every_target_that_has_its_instructions() {
    let pool = pool();
    let mut compiled = BTreeMap::new();
    for (name, text) in lane_files() {
        for arch in Arch::all() {
            let mut func = lane::parse(&text).expect("a test kernel parses");
            func.arch = arch;
            if lane::verify(&func).is_err() {
                continue;
            }
            let output = pool.compile(&func.to_string()).unwrap_or_else(|e| panic!("{e}"));
            let version = func.target().ptx;
            assert_eq!(output.ptx_version, version, "{name}");
            let head = format!(".version {}.{}\n.target {arch}\n", version / 10, version % 10);
            assert!(output.ptx.contains(&head), "{name} does not say {head}");
            *compiled.entry(arch).or_insert(0) += 1;
        }
    }
    assert_eq!(compiled[&Arch::Sm90a], lane_files().len(), "Hopper has every instruction there is");
    assert!(compiled[&Arch::Sm80] >= 5, "{compiled:?}");
}

#[test]
fn two_runs_in_two_processes_write_the_same_bytes() {
    let texts: Vec<String> = lane_files().into_iter().map(|(_, text)| text).chain([ring::kernel("ring").to_string()]).collect();
    let (one, other) = (pool(), pool());
    for text in &texts {
        let first = one.compile(text).expect("PTX");
        // The second pool compiles another kernel in between, so that nothing depends on what came before.
        other.compile(&texts[0]).expect("PTX");
        let second = other.compile(text).expect("PTX");
        assert_eq!(first.ptx, second.ptx);
    }
}

#[test]
fn ptx_names_the_template_line_and_carries_no_dwarf() {
    let ptx = pool().compile(&ring::kernel("ring").to_string()).expect("PTX").ptx;
    let file = ptx.lines().find(|l| l.contains(".file")).expect("a .file directive");
    assert_eq!(file.trim(), format!(".file\t1 \"{}\"", ring::SOURCE));
    let before_mma = ptx.split("wgmma.mma_async").next().expect("text before the first MMA");
    let last = before_mma.lines().rfind(|l| l.contains(".loc")).expect("a .loc directive before the MMA");
    assert_eq!(last.trim(), format!(".loc\t1 {} 0", ring::MMA_LINE));
    assert!(!ptx.contains("debug_info") && !ptx.contains(".target sm_90a, debug"));
}

#[test]
fn a_second_template_file_keeps_its_own_lines() {
    let text = lane_file("loops")
        .replace("source 0 \"tests/src/loops.rs\"", "source 0 \"a.rs\"\nsource 1 \"b.rs\"")
        .replace("@0:29", "@1:7");
    let ptx = pool().compile(&text).expect("PTX").ptx;
    assert!(ptx.contains("\"a.rs\"") && ptx.contains("\"b.rs\""), "{ptx}");
    assert!(ptx.contains(".loc\t2 7 0"), "{ptx}");
}

#[test]
fn a_loop_marked_nounroll_says_so_to_ptxas() {
    let ptx = pool().compile(&lane_file("loops")).expect("PTX").ptx;
    assert_eq!(ptx.matches(".pragma \"nounroll\"").count(), 1, "{ptx}");
}

#[test]
fn shared_memory_and_launch_bounds_reach_the_ptx() {
    let ptx = pool().compile(&lane_file("hopper")).expect("PTX").ptx;
    for line in [
        ".extern .shared .align 1024 .b8 smem[];",
        ".reqntid 384, 1, 1",
        ".minnctapersm 1",
        ".reqnctapercluster 2, 1, 1",
        ".param .align 64 .b8 hopper_param_0[128]",
        ".param .u64 .ptr .global .align 16 hopper_param_2",
    ] {
        assert!(ptx.contains(line), "no `{line}` in\n{ptx}");
    }
}
