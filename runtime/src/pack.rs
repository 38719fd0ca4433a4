//! A pack: `manifest.json` and the files it names, in a folder or embedded in the program.
//!
//! Opening reads the manifest alone. A kernel's file is read, and its length and BLAKE3 checked, when the kernel is
//! loaded; [`Pack::verify_all`] checks every file at once.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::arch::{Arch, ComputeCapability, UnknownArch};
use crate::device::ImageKind;
use crate::dispatch::Dispatcher;
use crate::manifest::{File, Kernel, Manifest};
use crate::validate::ManifestError;

/// The manifest's name in a pack's folder.
pub const MANIFEST: &str = "manifest.json";
/// Longest manifest; thousands of kernels stay below a tenth of it.
const MAX_MANIFEST_BYTES: u64 = 256 << 20;

/// An open pack.
#[derive(Debug)]
pub struct Pack {
    manifest: Manifest,
    manifest_blake3: String,
    dispatcher: Dispatcher,
    arch: Arch,
    source: Source,
}

/// Files built into the program: path in the pack and contents.
pub type Embedded = &'static [(&'static str, &'static [u8])];

#[derive(Debug)]
enum Source {
    Folder(PathBuf),
    Embedded(Embedded),
}

/// Why a pack is refused, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// A file is not there.
    #[error("{path}: no such file; copy the pack again")]
    Missing {
        /// The file.
        path: String,
    },
    /// A file cannot be read.
    #[error("{path}: {why}")]
    Io {
        /// The file.
        path: String,
        /// The system's words.
        why: String,
    },
    /// A file is not the one that was generated and verified.
    #[error("{path}: {what} is {found}, but the manifest says {expected}; copy the pack again")]
    Altered {
        /// The file.
        path: String,
        /// `length` or `blake3`.
        what: &'static str,
        /// In the manifest.
        expected: String,
        /// Of the file.
        found: String,
    },
    /// The manifest is refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest's architecture has no meaning.
    #[error(transparent)]
    UnknownArch(#[from] UnknownArch),
    /// The pack is for other devices.
    #[error("the pack is for {arch}, and the device has compute capability {device}: use the pack for its target")]
    WrongArch {
        /// The pack's architecture.
        arch: String,
        /// The device's capability.
        device: ComputeCapability,
    },
}

impl Pack {
    /// Opens the pack in `folder`.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, PackError> {
        let source = Source::Folder(folder.as_ref().to_path_buf());
        let bytes = source.read(MANIFEST, MAX_MANIFEST_BYTES)?;
        Self::new(&bytes, source)
    }

    /// Opens a pack built into the program: `files` holds `manifest.json` and everything it names.
    pub fn embedded(files: Embedded) -> Result<Self, PackError> {
        let source = Source::Embedded(files);
        let bytes = source.read(MANIFEST, MAX_MANIFEST_BYTES)?;
        Self::new(&bytes, source)
    }

    fn new(bytes: &[u8], source: Source) -> Result<Self, PackError> {
        let path = source.describe(MANIFEST);
        let text = std::str::from_utf8(bytes)
            .map_err(|error| PackError::Io { path: path.clone(), why: format!("not UTF-8: {error}") })?;
        let manifest = Manifest::parse(text, &path)?;
        Ok(Pack {
            manifest_blake3: blake3::hash(bytes).to_hex().to_string(),
            dispatcher: Dispatcher::new(&manifest),
            arch: manifest.arch.parse()?,
            manifest,
            source,
        })
    }

    /// Its contents.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// BLAKE3 of the manifest file, 64 hex digits: identifies the pack, as the manifest holds every file's hash.
    pub fn manifest_blake3(&self) -> &str {
        &self.manifest_blake3
    }

    /// Its dispatch tables.
    pub fn dispatcher(&self) -> &Dispatcher {
        &self.dispatcher
    }

    /// Refuses a device that the pack's machine code does not run on.
    pub fn check_device(&self, device: ComputeCapability) -> Result<(), PackError> {
        if self.arch.runs_on(device) {
            return Ok(());
        }
        Err(PackError::WrongArch { arch: self.manifest.arch.clone(), device })
    }

    /// A kernel's code, checked. A kernel without a cubin gives its PTX.
    pub fn image(&self, kernel: &Kernel, wanted: ImageKind) -> Result<(ImageKind, Cow<'static, [u8]>), PackError> {
        match (wanted, &kernel.cubin) {
            (ImageKind::Cubin, Some(cubin)) => Ok((ImageKind::Cubin, self.file(cubin)?)),
            _ => Ok((ImageKind::Ptx, self.file(&kernel.ptx)?)),
        }
    }

    /// Checks every file that the manifest names.
    pub fn verify_all(&self) -> Result<(), PackError> {
        for kernel in &self.manifest.kernels {
            self.file(&kernel.ptx)?;
            if let Some(cubin) = &kernel.cubin {
                self.file(cubin)?;
            }
        }
        Ok(())
    }

    fn file(&self, file: &File) -> Result<Cow<'static, [u8]>, PackError> {
        let altered = |what, expected: String, found: String| PackError::Altered {
            path: self.source.describe(&file.path),
            what,
            expected,
            found,
        };
        // One byte more than expected is enough to see that a file is too long.
        let bytes = self.source.read(&file.path, file.bytes.saturating_add(1))?;
        if bytes.len() as u64 > file.bytes {
            return Err(altered("length", format!("{} bytes", file.bytes), "longer".to_owned()));
        }
        if (bytes.len() as u64) < file.bytes {
            return Err(altered("length", format!("{} bytes", file.bytes), format!("{} bytes", bytes.len())));
        }
        let found = blake3::hash(&bytes).to_hex();
        if found.as_str() != file.blake3 {
            return Err(altered("blake3", file.blake3.clone(), found.to_string()));
        }
        Ok(bytes)
    }
}

impl Source {
    /// At most `limit` bytes of a file.
    fn read(&self, path: &str, limit: u64) -> Result<Cow<'static, [u8]>, PackError> {
        match self {
            Source::Folder(folder) => {
                let path = folder.join(path);
                read_at_most(&path, limit).map(Cow::Owned).map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => PackError::Missing { path: path.display().to_string() },
                    _ => PackError::Io { path: path.display().to_string(), why: error.to_string() },
                })
            }
            Source::Embedded(files) => files
                .iter()
                .find(|(name, _)| *name == path)
                .map(|&(_, bytes)| Cow::Borrowed(bytes))
                .ok_or_else(|| PackError::Missing { path: self.describe(path) }),
        }
    }

    fn describe(&self, path: &str) -> String {
        match self {
            Source::Folder(folder) => folder.join(path).display().to_string(),
            Source::Embedded(_) => format!("embedded {path}"),
        }
    }
}

fn read_at_most(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    use io::Read;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
