//! `gen --target`: builds, verifies and writes the library.

use crate::build::{Built, build, compiler};
use crate::cli::GenerateArgs;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Instant;
use tilewright_codegen::Inspect;
use tilewright_emulator_device::Found;
use tilewright_ir::Arch;
use tilewright_ops::error::{Fail, Res, bad_input, failed, failure, usage};
use tilewright_ops::level::Level;
use tilewright_ops::records::{self, Collapsed};
use tilewright_ops::{dispatch, files, library};
use tilewright_runner::verify::{Verdict, verify};
use tilewright_runtime::archive::ARCHIVE;
use tilewright_runtime::dispatch::PlanIndex;
use tilewright_runtime::manifest::{Verification, Verifier};
use tilewright_runtime::pack::MANIFEST;
use tilewright_templates::plan::OpPlan;

/// Runs the command.
pub fn generate(args: &GenerateArgs) -> Res<()> {
    let Some(target) = &args.target else { return usage("--target is missing: one of sm80, sm86, sm89, sm90") };
    let arch: Arch = target.parse().map_err(bad_input)?;
    if arch.caps().ptx_target != arch.caps().name {
        eprintln!("target {}: {}", arch.caps().name, arch.caps().ptx_target);
    }
    let start = Instant::now();
    let root = library::root()?;
    let mut plans = library::plans(&root, arch)?;
    let mut tuned = tuned(&root, arch, args.only.is_some())?;
    let known = |p: &OpPlan| plans.iter().any(|q: &OpPlan| q.plan.id == p.plan.id);
    let more: Vec<OpPlan> = std::mem::take(&mut tuned.plans).into_iter().filter(|p| !known(p)).collect();
    plans.extend(more);
    if let Some(glob) = &args.only {
        plans.retain(|p| matches(glob, &p.plan.id));
    }
    if plans.is_empty() {
        return usage(match &args.only {
            Some(glob) => format!("--only {glob}: no plan of {target} matches; `gen list` names them"),
            None => format!(
                "{} ships nothing for {target}: name it in an entry's targets, or build one kernel with `gen run`",
                library::FILE
            ),
        });
    }
    let compiler = compiler(args.jobs, Inspect::Always)?;
    let bar = Progress::new("compile");
    let mut built = build(arch, plans, &compiler, &|done, all, name| bar.at(done, all, name))?;
    bar.done();
    if let Some(why) = &built.skipped {
        eprintln!("skipped: cubins and the SASS contract: {why}");
    }
    if args.verify == Level::Off {
        eprintln!("skipped: verification in the emulator (--verify off)");
    } else {
        verify_all(&mut built, args.verify)?;
    }
    built.manifest.dispatch = dispatch::tables(arch, &built.plans)?;
    tuned.drop_changed(&built.manifest).iter().for_each(|why| eprintln!("records: refused: {why}"));
    let ids: Vec<&str> = built.plans.iter().map(|p| p.plan.id.as_str()).collect();
    records::enter(&mut built.manifest.dispatch, &ids, &tuned.tuned)?;
    built.manifest.validate(MANIFEST).map_err(failure)?;
    let contents = built.contents()?;
    let out = args.out.clone().unwrap_or_else(|| root.join("kernels-generated").join(arch.caps().name));
    let differing = differences(&out, &contents)?;
    let (kernels, plans) = (built.manifest.kernels.len(), built.manifest.plans.len());
    if args.check {
        if !differing.is_empty() {
            return failed(format!(
                "{} is not what gen makes: {}; run `cargo xtask gen --target {target}`",
                out.display(),
                differing.join(", ")
            ));
        }
    } else if args.only.is_some() && args.out.is_none() {
        eprintln!("nothing written: --only makes a part of the library; give --out DIR to keep it");
    } else {
        write(&out, &contents)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    eprintln!(
        "{kernels} kernels, {plans} plans for {target} in {seconds:.1} s: {}",
        if args.check { "as they are there" } else { "done" }
    );
    if args.json {
        let list: Vec<_> = built
            .manifest
            .kernels
            .iter()
            .map(|k| serde_json::json!({"id": k.id, "resources": k.resources, "verified": k.verified}))
            .collect();
        println!("{}", serde_json::json!({"target": target, "out": out, "kernels": list, "changed": differing}));
    }
    Ok(())
}

/// What the workspace's records add to the library; nothing to a part of it. Says which it used and which not.
fn tuned(root: &Path, arch: Arch, part: bool) -> Res<Collapsed> {
    if part {
        return Ok(Collapsed::default());
    }
    let found = records::read(root, arch)?;
    found.refused.iter().for_each(|why| eprintln!("records: refused: {why}"));
    found.used.iter().for_each(|what| eprintln!("records: used: {what}"));
    if found.known.is_empty() {
        eprintln!("records: none for {}: tables are in the model's order", arch.caps().name);
    }
    let collapsed = records::collapse(arch, &found.known)?;
    collapsed.told.iter().for_each(|line| eprintln!("records: {line}"));
    Ok(collapsed)
}

/// Runs every plan in the emulator and notes the verdict with its kernels.
fn verify_all(built: &mut Built, level: Level) -> Res<()> {
    let folder = tempfile::tempdir().map_err(failure)?;
    built.write(folder.path())?;
    let bar = Progress::new("verify");
    let count = built.plans.len();
    let done = std::sync::atomic::AtomicUsize::new(0);
    let verdicts: Vec<Res<Verdict>> = (0..count)
        .into_par_iter()
        .map(|i| {
            let verdict = verify(folder.path(), PlanIndex(i as u32), level);
            let n = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            bar.at(n, count, &built.plans[i].plan.id);
            verdict
        })
        .collect();
    bar.done();
    // Plans share kernels, so a lint may come with several.
    let mut told: Vec<&Found> = Vec::new();
    for (lint, words) in verdicts.iter().flatten().flat_map(|v| &v.lints) {
        if !told.iter().any(|known| known.is_again(lint)) {
            eprint!("{words}");
            told.push(lint);
        }
    }
    let causes: Vec<String> = verdicts.iter().filter_map(|v| v.as_ref().err()).map(Fail::to_string).collect();
    if !causes.is_empty() {
        return failed(format!("{} of {count} plans failed verification: {}", causes.len(), causes.join("; ")));
    }
    let name = if level == Level::Full { "full" } else { "quick" };
    for (plan, verdict) in built.plans.iter().zip(verdicts) {
        let detail = format!("{name}: {}", verdict?.ran);
        for launch in &plan.plan.launches {
            let kernel = built.manifest.kernels.iter_mut().find(|k| k.id == launch.kernel);
            if let Some(k) = kernel.filter(|k| !k.verified.iter().any(|v| v.by == Verifier::Emulator)) {
                k.verified.push(Verification { by: Verifier::Emulator, detail: detail.clone() });
            }
        }
    }
    Ok(())
}

/// Names of files that are missing, different, or too many in a folder. Loose kernels may be missing, as they are in a
/// fresh clone: the archive has them.
fn differences(out: &Path, contents: &BTreeMap<String, Vec<u8>>) -> Res<Vec<String>> {
    let differs = |name: &str, bytes: &Vec<u8>| match std::fs::read(out.join(name)) {
        Ok(there) => there != *bytes,
        Err(_) => matches!(name, MANIFEST | ARCHIVE) || out.join(name).exists(),
    };
    let mut list: Vec<String> = contents.iter().filter(|(n, b)| differs(n, b)).map(|(n, _)| n.clone()).collect();
    list.extend(strangers(out, contents)?);
    Ok(list)
}

/// Files of an earlier library that this one does not have.
fn strangers(out: &Path, contents: &BTreeMap<String, Vec<u8>>) -> Res<Vec<String>> {
    let Ok(entries) = std::fs::read_dir(out) else { return Ok(Vec::new()) };
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let ours = |n: &String| [".ptx", ".cubin", ".json", ".pack"].iter().any(|s| n.ends_with(s));
    let mut list: Vec<String> = names.filter(|n| ours(n) && !contents.contains_key(n)).collect();
    list.sort();
    Ok(list)
}

/// Loose kernels first, then the archive, the manifest last: until it is there the old one refuses the new archive.
fn write(out: &Path, contents: &BTreeMap<String, Vec<u8>>) -> Res<()> {
    std::fs::create_dir_all(out).map_err(|e| Fail::Failed(format!("{}: {e}", out.display())))?;
    let put = |name: &str, bytes: &[u8]| {
        let path = out.join(name);
        if std::fs::read(&path).ok().as_deref() == Some(bytes) { Ok(()) } else { files::write_whole(&path, bytes) }
    };
    let mut files: Vec<_> = contents.iter().collect();
    files.sort_by_key(|(name, _)| [ARCHIVE, MANIFEST].iter().position(|last| last == name));
    for (name, bytes) in files {
        put(name, bytes)?;
    }
    for stale in strangers(out, contents)? {
        std::fs::remove_file(out.join(&stale)).map_err(|e| Fail::Failed(format!("{stale}: {e}")))?;
    }
    Ok(())
}

/// `*` stands for any run of characters, `?` for one.
pub fn matches(glob: &str, text: &str) -> bool {
    let (g, t): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    // table[j]: the glob read so far matches the first j characters.
    let mut table = vec![false; t.len() + 1];
    table[0] = true;
    for c in g {
        if c == '*' {
            for j in 1..=t.len() {
                table[j] |= table[j - 1];
            }
        } else {
            for j in (1..=t.len()).rev() {
                table[j] = table[j - 1] && (c == '?' || c == t[j - 1]);
            }
            table[0] = false;
        }
    }
    table[t.len()]
}

/// A bar on a terminal, a line now and then elsewhere.
struct Progress {
    what: &'static str,
    bar: Option<ProgressBar>,
}

impl Progress {
    fn new(what: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style).with_prefix(what)
        });
        Progress { what, bar }
    }

    fn at(&self, done: usize, all: usize, name: &str) {
        match &self.bar {
            Some(b) => {
                b.set_length(all as u64);
                b.set_position(done as u64);
                b.set_message(name.to_string());
            }
            None => eprintln!("{} {done}/{all} {name}", self.what),
        }
    }

    fn done(&self) {
        if let Some(b) = &self.bar {
            b.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn globs() {
        assert!(
            matches("*silu*", "gemm_bf16_silu_x4") && matches("gemm_?f16", "gemm_bf16") && matches("gemm_?16*", "gemm_f16_nk")
        );
        assert!(!matches("gemm_?16", "gemm_bf16"));
        assert!(matches("*", "") && !matches("?", "") && !matches("a", "ab"));
    }
}
