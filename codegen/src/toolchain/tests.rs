//! Fixtures of `codegen/tests/fixtures` through the tools, and captured output through the parsers.

use super::allowed::Allowed;
use super::messages::{PtxasReport, Severity};
use super::nvdisasm::{Function, Inspection, parse_listing};
use super::*;

fn fixture(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// The tools; None, and a line that says so, where there are none.
fn tools() -> Option<Toolchain> {
    let tools = Toolchain::find(&Search::default()).and_then(|t| t.nvdisasm().map(|_| ()).map(|()| t));
    tools.inspect_err(|why| eprintln!("skipped: {why}")).ok()
}

fn inspect(tools: &Toolchain, name: &str, arch: &str) -> Inspection {
    let assembled = tools.ptxas.assemble(&fixture(&format!("{name}.ptx")), &PtxasOptions::new(arch)).unwrap();
    tools.nvdisasm().unwrap().inspect(&[&assembled]).unwrap().remove(0)
}

fn sass(name: &str) -> SassReport {
    let instrs = parse_listing(&fixture(&format!("{name}.sass.txt")));
    SassReport::of(&[Function { name: name.into(), instrs }])
}

/// Each violation's code, template line and PTX line.
fn breaches(violations: &[ContractViolation]) -> Vec<(&str, String, Option<u32>)> {
    let row = |v: &ContractViolation| v.place.source.as_ref().map(|s| s.to_string()).unwrap_or_default();
    violations.iter().map(|v| (v.breach.code(), row(v), v.place.ptx_line)).collect()
}

fn check_clean(report: &SassReport) {
    let main = report.main().unwrap();
    assert_eq!((main.counts.wgmma, main.counts.gsb0, main.counts.depbar, main.counts.arrive), (4, 1, 1, 1));
    assert_eq!(main.multiplies.get("HGMMA.64x64x16.F32.BF16"), Some(&4));
    assert_eq!((main.accumulator_moves, main.depth), (0, 1));
    assert_eq!(report.max_registers, 56);
}

fn check_specialised(report: &SassReport) {
    let main = report.main().unwrap();
    assert_eq!((main.counts.wgmma, main.counts.gsb0, main.depth), (4, 1, 1));
    assert_eq!((report.max_registers, &report.setmaxnreg[..]), (56, &[24, 232][..]));
    assert_eq!((report.counts.utmaldg, report.counts.bar), (1, 0));
    // One wait's fast path, one arrival; the slow path is a loop of its own.
    assert_eq!(main.counts.syncs, 2);
}

fn check_sm80(report: &SassReport) {
    let main = report.main().unwrap();
    assert_eq!((main.counts.mma, main.counts.ldsm, main.counts.ldgsts, main.counts.bar), (2, 2, 1, 2));
    assert_eq!(main.multiplies.get("HMMA.16816.F32.BF16"), Some(&2));
    assert_eq!((report.max_registers, report.counts.wgmma), (22, 0));
}

#[test]
fn captured_listings() {
    check_clean(&sass("clean_wgmma"));
    check_specialised(&sass("warp_specialised"));
    check_sm80(&sass("mma_sm80"));
}

#[test]
fn captured_messages() {
    let report = |name: &str| PtxasReport::parse(&fixture(&format!("{name}.ptxas.txt")));
    let fence = report("missing_fence");
    let [message] = &fence.messages[..] else { panic!("{fence:?}") };
    assert_eq!((message.code.as_deref(), message.severity, message.line), (Some("C7519"), Severity::Info, Some(66)));
    assert_eq!((message.function.as_deref(), fence.registers), (Some("missing_fence"), 58));

    let rotated = report("rotated_accumulator");
    assert_eq!((rotated.messages.len(), rotated.messages[0].line), (1, None));
    assert!(rotated.messages[0].is_degraded_wgmma() && rotated.messages[0].text.starts_with("Potential Performance Loss"));

    let spills = report("spills");
    assert_eq!((spills.registers, spills.barriers, spills.stack_frame), (32, 1, 144));
    assert_eq!((spills.spill_stores, spills.spill_loads), (164, 164));
    assert!(spills.messages.iter().all(|m| m.severity == Severity::Warning && m.function.as_deref() == Some("spills")));

    let syntax = report("syntax_error");
    assert_eq!(syntax.first_error().map(|m| (m.line, m.text.as_str())), Some((Some(23), "Unknown modifier '.s99'")));
}

#[test]
fn shared_memory_and_fatal_messages() {
    let text = "ptxas info    : 0 bytes gmem, 8 bytes cmem[3]\nptxas info    : Used 40 registers, used 2 barriers, \
        16 bytes cumulative stack size, 2048 bytes smem, 400 bytes cmem[0]\nptxas fatal   : (C7602) Entry needs\n    more\n";
    let report = PtxasReport::parse(text);
    assert_eq!((report.registers, report.barriers, report.static_smem, report.stack_frame), (40, 2, 2048, 16));
    assert_eq!(report.first_error().map(|m| (m.code.as_deref(), m.text.as_str())), Some((Some("C7602"), "Entry needs more")));
}

#[test]
fn clean_kernels_pass() {
    let Some(tools) = tools() else { return };
    let clean = SassContract { expect_hgmma_per_main_loop: Some(4), ..SassContract::clean() };
    check_clean(&clean.check(&inspect(&tools, "clean_wgmma", "sm_90a")).unwrap());
    check_specialised(&clean.check(&inspect(&tools, "warp_specialised", "sm_90a")).unwrap());
    check_sm80(&SassContract::clean().check(&inspect(&tools, "mma_sm80", "sm_80")).unwrap());
}

#[test]
fn breaches_name_the_template_line() {
    let Some(tools) = tools() else { return };
    let contract = SassContract::clean();
    let fence = contract.check(&inspect(&tools, "missing_fence", "sm_90a")).unwrap_err();
    assert_eq!(breaches(&fence), [("C7519", "templates/src/gemm/sm90.rs:42".into(), Some(66))]);
    assert!(fence[0].to_string().contains("put a wgmma fence before each group"), "{}", fence[0]);

    let rotated = contract.check(&inspect(&tools, "rotated_accumulator", "sm_90a")).unwrap_err();
    assert_eq!(rotated.len(), 1);
    let (code, source, _) = &breaches(&rotated)[0];
    assert_eq!((*code, source.as_str()), ("C7514", "templates/src/attention/forward.rs:61"));

    let spills = inspect(&tools, "spills", "sm_90a");
    assert_eq!((spills.sass.max_registers, spills.ptxas.registers), (30, 32));
    let found = contract.check(&spills).unwrap_err();
    let [ContractViolation { breach: Breach::Local { loads, stores, stack, .. }, place, .. }] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!((*loads, *stores, *stack), (spills.sass.counts.ldl, spills.sass.counts.stl, 144));
    assert!(*loads > 0 && *stores > 0);
    let source = place.source.as_ref().unwrap();
    assert!(source.file == "templates/src/norm.rs" && (80..=87).contains(&source.line), "{place}");

    let excused = [Allowed { code: "local", kernel: "spill*", reason: "a test" }];
    assert!(contract.check_allowing(&spills, &excused).is_ok());
}

#[test]
fn terms_of_the_main_loop_and_registers() {
    let Some(tools) = tools() else { return };
    let kernel = inspect(&tools, "clean_wgmma", "sm_90a");
    let strict = SassContract { max_registers: 40, expect_hgmma_per_main_loop: Some(8), ..SassContract::clean() };
    let found = strict.check(&kernel).unwrap_err();
    let of = |code: &str| found.iter().find(|v| v.breach.code() == code).map(|v| v.to_string()).unwrap_or_default();
    assert_eq!(found.len(), 2);
    assert!(of("registers").contains("56 registers where 40 are allowed"), "{found:?}");
    assert!(of("wgmma-count").contains("4 wgmma, not 8"), "{found:?}");
    assert!(of("wgmma-count").contains("templates/src/gemm/sm90.rs:"), "{found:?}");
}

#[test]
fn what_happens_under_wgmmas_is_counted() {
    let text = "/*0000*/ HGMMA.64x64x16.F32.BF16 R24, R4, gdesc[UR4], R24 ;\n/*0010*/ MOV R60, R25 ;\n\
        /*0020*/ IMAD.MOV.U32 R3, RZ, RZ, 0x40 ;\n/*0030*/ IMAD.MOV.U32 R5, RZ, RZ, R61 ;\n\
        /*0040*/ HGMMA.64x64x16.F32.BF16 R24, gdesc[UR4], R24, gsb0 ;\n/*0050*/ MUFU.EX2 R62, R61 ;\n\
        /*0060*/ WARPGROUP.DEPBAR.LE gsb0, 0x0 ;\n/*0070*/ MOV R26, R61 ;\n/*0080*/ MUFU.EX2 R62, R61 ;\n\
        /*0090*/ @P0 BRA 0x0 ;\n";
    let report = SassReport::of(&[Function { name: "k".into(), instrs: parse_listing(text) }]);
    let main = report.main().unwrap();
    assert_eq!((main.counts.moves, main.accumulator_moves, main.first_accumulator_move), (4, 2, Some(0x10)));
    assert_eq!((main.counts.mufu, main.mufu_in_flight), (2, 1));
}

#[test]
fn wrong_ptx_is_a_typed_error() {
    let Some(tools) = tools() else { return };
    let sm90 = PtxasOptions::new("sm_90a");
    let error = tools.ptxas.assemble(&fixture("syntax_error.ptx"), &sm90).unwrap_err();
    let expected = SourceLoc { file: "templates/src/norm.rs".into(), line: 14 };
    let PtxasError::Syntax { line: 23, source_loc, others: 1, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source_loc.as_ref(), Some(&expected));

    let wrong_target = tools.ptxas.assemble(&fixture("clean_wgmma.ptx"), &PtxasOptions::new("sm_80")).unwrap_err();
    assert!(matches!(&wrong_target, PtxasError::Refused { kernel, .. } if kernel == "clean_wgmma"), "{wrong_target}");
    let none = tools.ptxas.assemble(".version 8.0\n.target sm_80\n", &sm90).unwrap_err();
    assert_eq!(none, PtxasError::Entries { names: vec![] });
}

#[test]
fn cubins_are_the_same_every_time_and_name_no_folder() {
    let Some(tools) = tools() else { return };
    let ptx = fixture("warp_specialised.ptx");
    let assemble = || tools.ptxas.assemble(&ptx, &PtxasOptions::new("sm_90a")).unwrap();
    let (first, second) = (assemble(), assemble());
    assert!(first.cubin == second.cubin && first.report == second.report);
    let holds = |needle: &str| first.cubin.windows(needle.len()).any(|w| w == needle.as_bytes());
    assert!(!holds("/tmp") && !holds("kernel.ptx") && holds("sm90.rs"));
}

/// What NVIDIA's own readers say of a cubin: its code with template lines, with PTX lines, in bytes, and what it uses.
fn listings(tools: &Toolchain, cubin: &[u8]) -> Vec<String> {
    let nvdisasm = &tools.nvdisasm().unwrap().path;
    let cuobjdump = nvdisasm.with_file_name("cuobjdump");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), cubin).unwrap();
    let runs: [(&std::path::Path, &[&str]); 5] = [
        (nvdisasm, &["-g", "-c"]),
        (nvdisasm, &["-gp", "-c"]),
        (nvdisasm, &["-hex", "-c"]),
        (&cuobjdump, &["-sass"]),
        (&cuobjdump, &["-res-usage"]),
    ];
    let say = |(program, args): (&std::path::Path, &[&str])| {
        let output = std::process::Command::new(program).args(args).arg(file.path()).output().ok()?;
        assert!(output.status.success(), "{} {args:?}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).replace(file.path().to_str().unwrap(), "");
        Some(text)
    };
    // A toolkit may come without cuobjdump.
    let said: Vec<String> = runs.into_iter().filter_map(say).collect();
    assert!(said.len() >= 3);
    said
}

#[test]
fn without_its_ptx_text_a_cubin_says_the_same() {
    let Some(tools) = tools() else { return };
    for (name, arch) in [("mma_sm80", "sm_80"), ("warp_specialised", "sm_90a"), ("spills", "sm_90a")] {
        let (ptx, options) = (fixture(&format!("{name}.ptx")), PtxasOptions::new(arch));
        let whole = tools.ptxas.assemble_with_text(&ptx, &options).unwrap();
        let bare = tools.ptxas.assemble(&ptx, &options).unwrap();
        let (before, after) = (cubin::Cubin::parse(&whole.cubin).unwrap(), cubin::Cubin::parse(&bare.cubin).unwrap());
        let text = before.section(".nv_debug_ptx_txt").unwrap().len();
        let gone = whole.cubin.len() - bare.cubin.len();
        assert!(text > 500 && gone <= text && text - gone < 128, "{name}: {gone} of {text}");
        assert_eq!(before.sections().len(), after.sections().len());
        for (old, new) in before.sections().iter().zip(after.sections()) {
            assert_eq!(old.name, new.name);
            if old.name == ".nv_debug_ptx_txt" {
                assert!(new.bytes.is_empty());
            } else {
                assert_eq!(whole.cubin[old.bytes.clone()], bare.cubin[new.bytes.clone()], "{name}: {}", old.name);
                assert!(!new.has_bytes() || new.align < 2 || new.bytes.start % new.align == 0, "{name}: {new:?}");
            }
        }
        let nvdisasm = tools.nvdisasm().unwrap();
        assert_eq!(nvdisasm.inspect(&[&whole]).unwrap(), nvdisasm.inspect(&[&bare]).unwrap());
        for (old, new) in listings(&tools, &whole.cubin).iter().zip(listings(&tools, &bare.cubin)) {
            let differs = old.lines().zip(new.lines()).find(|(a, b)| a != b);
            assert!(*old == new, "{name}: {differs:?}");
        }
    }
}

#[test]
fn a_batch_reads_as_each_kernel_alone() {
    let Some(tools) = tools() else { return };
    let all = [("mma_sm80", "sm_80"), ("warp_specialised", "sm_90a"), ("spills", "sm_90a"), ("clean_wgmma", "sm_90a")];
    let assemble =
        |(name, arch): (&str, &str)| tools.ptxas.assemble(&fixture(&format!("{name}.ptx")), &PtxasOptions::new(arch)).unwrap();
    let assembled: Vec<Assembled> = all.into_iter().map(assemble).collect();
    let batch = tools.nvdisasm().unwrap().inspect(&assembled.iter().collect::<Vec<_>>()).unwrap();
    for (inspection, (name, arch)) in batch.iter().zip(all) {
        assert_eq!(*inspection, inspect(&tools, name, arch), "{name}");
    }
}

#[test]
fn damaged_cubins_are_errors() {
    let Some(tools) = tools() else { return };
    let good = tools.ptxas.assemble(&fixture("clean_wgmma.ptx"), &PtxasOptions::new("sm_90a")).unwrap();
    for cut in [0, 16, 64, good.cubin.len() / 2] {
        let bad = Assembled { cubin: good.cubin[..cut].to_vec(), ..good.clone() };
        let error = tools.nvdisasm().unwrap().inspect(&[&bad]).unwrap_err();
        assert!(matches!(error, SassError::Cubin { .. }), "{cut}: {error}");
    }
}
