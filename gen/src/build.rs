//! From plans to a pack: lower, compile, describe.

use crate::promises;
use std::collections::BTreeMap;
use std::path::Path;
use tilewright_codegen::toolchain::{ToolError, ToolVersion};
use tilewright_codegen::{Compiled, Compiler, CompilerOptions, Inspect, WorkerCommand};
use tilewright_ir::Arch;
use tilewright_ir::passes::{Lowered, lower};
use tilewright_ops::error::{Fail, Res, failed, failure};
use tilewright_runtime::archive::{self, ARCHIVE};
use tilewright_runtime::manifest::{File, Kernel, Manifest, Resources, SCHEMA, Toolchain, Verification, Verifier};
use tilewright_runtime::pack::MANIFEST;
use tilewright_templates::manifest;
use tilewright_templates::plan::{OpPlan, TemplateKernel};

/// A pack in memory.
pub struct Built {
    /// The manifest, `verified` still without the emulator's verdict.
    pub manifest: Manifest,
    /// Files by their path in the pack.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What could not be done, once.
    pub skipped: Option<ToolError>,
    /// Plans with their config, for ranking and verification.
    pub plans: Vec<OpPlan>,
}

/// A compiler whose workers are this very program.
pub fn compiler(jobs: Option<usize>, inspect: Inspect) -> Res<Compiler> {
    let worker = WorkerCommand { program: std::env::current_exe().map_err(failure)?, args: vec!["codegen-worker".into()] };
    let mut options = CompilerOptions { inspect, ..CompilerOptions::new(worker) };
    if let Some(n) = jobs {
        options.workers = n;
    }
    Ok(Compiler::new(options))
}

/// Builds everything; each failed kernel is named with its cause.
pub fn build(arch: Arch, plans: Vec<OpPlan>, compiler: &Compiler, progress: &(dyn Fn(usize, usize, &str) + Sync)) -> Res<Built> {
    let mut kernels: Vec<&TemplateKernel> = Vec::new();
    for k in plans.iter().flat_map(|p| &p.kernels) {
        if !kernels.iter().any(|other| other.id == k.id) {
            kernels.push(k);
        }
    }
    let mut causes = Vec::new();
    let mut lowered: Vec<(&TemplateKernel, Lowered)> = Vec::new();
    for k in kernels {
        match lower(k.kernel.clone()) {
            Ok(l) => lowered.push((k, l)),
            Err(e) => causes.push(format!("{}: {e}", k.id)),
        }
    }
    let funcs: Vec<_> = lowered.iter().map(|(_, l)| l.lane.clone()).collect();
    let compiled = compiler.compile_all(&funcs, &|done, name| progress(done, funcs.len(), name));
    let mut files = BTreeMap::new();
    let mut entries = Vec::new();
    let mut skipped = None;
    for ((k, l), result) in lowered.iter().zip(compiled) {
        match result {
            Ok(c) => {
                skipped = skipped.or_else(|| c.skipped.clone());
                entries.push(entry(k, l, &c, &mut files)?);
            }
            Err(e) => causes.push(format!("{}: {e}", k.id)),
        }
    }
    if !causes.is_empty() {
        return failed(format!("{} of {} kernels failed: {}", causes.len(), lowered.len().max(causes.len()), causes.join("; ")));
    }
    entries.sort_by(|a, b| a.id.cmp(&b.id));
    let manifest = Manifest {
        schema: SCHEMA,
        target: arch.caps().name.to_string(),
        arch: arch.caps().ptx_target.to_string(),
        toolchain: toolchain(&entries, &files, compiler.ptxas_version()),
        kernels: entries,
        plans: plans.iter().map(|p| p.plan.clone()).collect(),
        dispatch: Vec::new(),
    };
    Ok(Built { manifest, files, skipped, plans })
}

fn entry(k: &TemplateKernel, l: &Lowered, c: &Compiled, files: &mut BTreeMap<String, Vec<u8>>) -> Res<Kernel> {
    let mut add = |suffix: &str, bytes: &[u8]| {
        let path = format!("{}.{suffix}", k.id);
        let file = File { path: path.clone(), blake3: blake3::hash(bytes).to_hex().to_string(), bytes: bytes.len() as u64 };
        files.insert(path, bytes.to_vec());
        file
    };
    let ptx = add("ptx", c.ptx.as_bytes());
    let cubin = c.cubin.as_ref().map(|b| add("cubin", b));
    let mut verified = Vec::new();
    if let Some(s) = &c.sass {
        let detail = promises::check(k, s)?;
        verified.push(Verification { by: Verifier::Sass, detail });
    }
    let resources = c.ptxas.as_ref().map_or_else(Resources::default, |r| Resources {
        registers: r.registers,
        spill_bytes: r.spill_stores + r.spill_loads,
        stack_bytes: r.stack_frame,
        static_shared_bytes: r.static_smem,
        barriers: r.barriers,
        main_loop: c.sass.as_ref().and_then(promises::main_loop),
    });
    Ok(Kernel {
        id: k.id.clone(),
        template: k.template.into(),
        config: k.config.clone(),
        entry: l.lane.name.clone(),
        ptx,
        cubin,
        params: manifest::params(l).map_err(failure)?,
        launch: manifest::launch(l).map_err(failure)?,
        requires: manifest::requires(l).map_err(failure)?,
        resources,
        numerics: k.numerics.clone(),
        verified,
    })
}

fn toolchain(entries: &[Kernel], files: &BTreeMap<String, Vec<u8>>, ptxas: Option<ToolVersion>) -> Toolchain {
    // The PTX itself says which version it is; the highest of the pack is what a driver must know.
    let version = |k: &Kernel| {
        let text = files.get(&k.ptx.path).map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default();
        text.lines().find_map(|l| l.strip_prefix(".version ").map(str::trim).map(String::from)).unwrap_or_default()
    };
    Toolchain {
        tilewright: env!("CARGO_PKG_VERSION").into(),
        llvm: tilewright_codegen::ptx::llvm_version(),
        ptxas: ptxas.map_or_else(|| "none".into(), |v| v.to_string()),
        ptx_version: entries.iter().map(version).max().unwrap_or_default(),
    }
}

impl Built {
    /// Loose files of the pack, manifest included.
    pub fn loose(&self) -> Res<BTreeMap<String, Vec<u8>>> {
        let mut all = self.files.clone();
        let text = self.manifest.to_json().map_err(failure)?;
        all.insert(MANIFEST.into(), text.into_bytes());
        Ok(all)
    }

    /// Everything a library's folder gets: the loose files and the archive of them.
    pub fn contents(&self) -> Res<BTreeMap<String, Vec<u8>>> {
        let mut all = self.loose()?;
        let packed = archive::write(&all, archive::LEVEL).map_err(failure)?;
        all.insert(ARCHIVE.into(), packed);
        Ok(all)
    }

    /// Writes the pack into an empty folder, loose: it is read once, so packing it would be for nothing.
    pub fn write(&self, folder: &Path) -> Res<()> {
        std::fs::create_dir_all(folder).map_err(|e| Fail::Failed(format!("{}: {e}", folder.display())))?;
        for (name, bytes) in self.loose()? {
            let path = folder.join(&name);
            std::fs::write(&path, bytes).map_err(|e| Fail::Failed(format!("{}: {e}", path.display())))?;
        }
        Ok(())
    }
}
