//! Where the CUDA tools are.

use super::{Nvdisasm, Ptxas};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The release of ptxas that is accepted. Cubins run on drivers of their own CUDA major and later minors: 13.0 is the
/// oldest that knows every target here, and driver 580 (CUDA 13.0) is what servers have.
pub const PTXAS_RELEASE: (u32, u32) = (13, 0);

/// Where `cargo xtask setup` puts the tools, below the workspace root.
pub const TOOLS_DIR: &str = ".tools/cuda-13/bin";

/// Where to look for the tools, and what to accept.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Look here and nowhere else.
    pub dir: Option<PathBuf>,
    /// Accept a ptxas of another release than [`PTXAS_RELEASE`].
    pub any_ptxas: bool,
}

/// Why the tools cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// Nowhere to be found.
    #[error("no `{tool}` in {places}: run `cargo xtask setup`, or name the folder that holds it")]
    Missing {
        /// The program.
        tool: &'static str,
        /// Where it was looked for.
        places: String,
    },
    /// It does not start, or says nothing that looks like a version.
    #[error("`{path} --version` gave no version: {why}")]
    Unusable {
        /// The program.
        path: PathBuf,
        /// The system's reason, or what it printed.
        why: String,
    },
    /// A ptxas whose cubins the supported drivers may refuse.
    #[error(
        "`{path}` is ptxas {found}, not {}.{}.x: its cubins may need a newer driver. Run `cargo xtask setup`, or ask for any ptxas",
        PTXAS_RELEASE.0,
        PTXAS_RELEASE.1
    )]
    Release {
        /// The program.
        path: PathBuf,
        /// Its version.
        found: ToolVersion,
    },
}

/// A version as NVIDIA's tools print it: `V13.0.88`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ToolVersion {
    /// CUDA major.
    pub major: u32,
    /// CUDA minor.
    pub minor: u32,
    /// Build.
    pub build: u32,
}

impl ToolVersion {
    /// Reads the output of `--version`.
    pub fn parse(output: &str) -> Option<Self> {
        let word =
            output.split_whitespace().rev().find_map(|w| w.strip_prefix('V').filter(|v| v.starts_with(char::is_numeric)))?;
        let mut numbers = word.split('.').map(|n| n.parse().ok());
        Some(ToolVersion { major: numbers.next()??, minor: numbers.next()??, build: numbers.next()?? })
    }
}

impl std::fmt::Display for ToolVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

/// The tools of one machine.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// The assembler.
    pub ptxas: Ptxas,
    nvdisasm: Result<Nvdisasm, ToolError>,
}

impl Toolchain {
    /// Finds the tools: in `search.dir` if given; else in `.tools/cuda-13/bin` of the current folder, of this program's
    /// folder and of all folders above them; else on the PATH.
    ///
    /// # Errors
    /// There is no ptxas, or it is of the wrong release. That there is no nvdisasm is told by [`Toolchain::nvdisasm`].
    pub fn find(search: &Search) -> Result<Self, ToolError> {
        let path = locate("ptxas", search)?;
        let version = version_of(&path)?;
        if (version.major, version.minor) != PTXAS_RELEASE && !search.any_ptxas {
            return Err(ToolError::Release { path, found: version });
        }
        let nvdisasm = locate("nvdisasm", search).and_then(|path| Ok(Nvdisasm { version: version_of(&path)?, path }));
        Ok(Toolchain { ptxas: Ptxas { path, version }, nvdisasm })
    }

    /// The disassembler.
    ///
    /// # Errors
    /// There is none, and so no SASS report: a kernel can be assembled but not vouched for.
    pub fn nvdisasm(&self) -> Result<&Nvdisasm, ToolError> {
        self.nvdisasm.as_ref().map_err(Clone::clone)
    }
}

fn locate(tool: &'static str, search: &Search) -> Result<PathBuf, ToolError> {
    let folders = match &search.dir {
        Some(dir) => vec![dir.clone()],
        None => default_folders(),
    };
    let found = folders.iter().map(|dir| dir.join(tool)).find(|path| path.is_file());
    found.ok_or_else(|| {
        let places = match &search.dir {
            Some(dir) => format!("`{}`", dir.display()),
            None => format!("`{TOOLS_DIR}` here, beside this program or above them, nor on the PATH"),
        };
        ToolError::Missing { tool, places }
    })
}

fn default_folders() -> Vec<PathBuf> {
    let starts = [std::env::current_dir().ok(), std::env::current_exe().ok()];
    let above = starts.iter().flatten().flat_map(|start| start.ancestors()).map(|dir| dir.join(TOOLS_DIR));
    let path = std::env::var_os("PATH").unwrap_or_default();
    above.chain(std::env::split_paths(&path)).collect()
}

fn version_of(path: &Path) -> Result<ToolVersion, ToolError> {
    let unusable = |why: String| ToolError::Unusable { path: path.to_path_buf(), why };
    let output = Command::new(path).arg("--version").output().map_err(|e| unusable(e.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    ToolVersion::parse(&text).ok_or_else(|| unusable(format!("it printed `{}`", text.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTXAS: &str = "ptxas: NVIDIA (R) Ptx optimizing assembler\nCopyright (c) 2005-2025 NVIDIA Corporation\n\
        Built on Wed_Aug_20_01:55:12_PM_PDT_2025\nCuda compilation tools, release 13.0, V13.0.88\n\
        Build cuda_13.0.r13.0/compiler.36424714_0\n";

    #[test]
    fn version_is_read() {
        let version = ToolVersion::parse(PTXAS).unwrap();
        assert_eq!(version, ToolVersion { major: 13, minor: 0, build: 88 });
        assert_eq!(version.to_string(), "13.0.88");
        assert_eq!(ToolVersion::parse("bash: ptxas: Version unknown"), None);
    }

    #[cfg(unix)]
    #[test]
    fn other_releases_are_refused_unless_asked_for() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ptxas");
        std::fs::write(&path, "#!/bin/sh\necho 'Cuda compilation tools, release 13.2, V13.2.51'\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let search = |any_ptxas| Search { dir: Some(dir.path().to_path_buf()), any_ptxas };
        let refused = Toolchain::find(&search(false)).unwrap_err();
        assert!(refused.to_string().contains("is ptxas 13.2.51, not 13.0.x"), "{refused}");
        let tools = Toolchain::find(&search(true)).unwrap();
        assert_eq!(tools.ptxas.version.minor, 2);
        assert!(matches!(tools.nvdisasm(), Err(ToolError::Missing { tool: "nvdisasm", .. })));
    }
}
