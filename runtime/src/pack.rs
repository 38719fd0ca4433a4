//! A pack: a manifest and the files it names, as one file, built into the program, or loose in a folder.
//!
//! Opening reads the manifest alone. A kernel's file is read, and its length and BLAKE3 checked, when the kernel is
//! loaded; [`Pack::verify_all`] checks every file at once.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::arch::ComputeCapability;
use crate::archive::{ARCHIVE, Archive, ArchiveError, MAX_FILE_BYTES};
use crate::compat::{self, Code, CompatError, CudaVersion};
use crate::device::ImageKind;
use crate::dispatch::Dispatcher;
use crate::manifest::{File, Kernel, Manifest};
use crate::validate::ManifestError;

/// The manifest's name in a pack's folder.
pub const MANIFEST: &str = "manifest.json";
/// Longest manifest, as of any file; thousands of kernels stay below a tenth of it.
const MAX_MANIFEST_BYTES: u64 = MAX_FILE_BYTES;

/// An open pack.
#[derive(Debug)]
pub struct Pack {
    manifest: Manifest,
    manifest_blake3: String,
    dispatcher: Dispatcher,
    source: Source,
}

/// Files built into the program: path in the pack and contents.
pub type Embedded = &'static [(&'static str, &'static [u8])];

#[derive(Debug)]
enum Source {
    /// Loose files.
    Folder(PathBuf),
    Embedded(Embedded),
    /// One file, and the folder it was found in, where there may be loose copies.
    Archive(Archive, Option<PathBuf>),
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
    /// The manifest beside an archive is a different one.
    #[error("{path}: not the manifest in {ARCHIVE} beside it: run `gen` again, or copy both from one place")]
    Beside {
        /// The manifest.
        path: String,
    },
    /// The manifest is refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The archive is refused.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The device can run nothing of it.
    #[error(transparent)]
    Compat(#[from] CompatError),
}

impl Pack {
    /// Opens the pack at `path`: a file such as `kernels.pack`, or a folder with one, or a folder with loose files.
    ///
    /// Where a folder has `kernels.pack`, kernels come from it alone, and a `manifest.json` beside it must be the same as
    /// the one in it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PackError> {
        let path = path.as_ref();
        let packed = path.join(ARCHIVE);
        if path.is_file() || (path.extension().is_some_and(|extension| extension == "pack") && !path.is_dir()) {
            return Self::of_archive(Archive::open(path)?, None);
        }
        if packed.exists() {
            let pack = Self::of_archive(Archive::open(&packed)?, Some(path.to_path_buf()))?;
            return pack.check_beside(path);
        }
        let source = Source::Folder(path.to_path_buf());
        let bytes = source.read(MANIFEST, MAX_MANIFEST_BYTES)?;
        Self::new(&bytes, source)
    }

    /// Opens a pack built into the program: `files` holds `manifest.json` and everything it names.
    pub fn embedded(files: Embedded) -> Result<Self, PackError> {
        let source = Source::Embedded(files);
        let bytes = source.read(MANIFEST, MAX_MANIFEST_BYTES)?;
        Self::new(&bytes, source)
    }

    /// Opens a pack built into the program as the bytes of its `kernels.pack`.
    pub fn embedded_archive(bytes: &'static [u8]) -> Result<Self, PackError> {
        Self::of_archive(Archive::embedded(&format!("embedded {ARCHIVE}"), bytes)?, None)
    }

    /// An archive holds its manifest and the files that it names, each as long as it says, and nothing else.
    fn of_archive(archive: Archive, folder: Option<PathBuf>) -> Result<Self, PackError> {
        let entry = |path: &str| {
            let missing = || ArchiveError::Damaged { file: archive.name().to_owned(), what: format!("no {path} in it") };
            archive.entry(path).ok_or_else(missing)
        };
        let bytes = archive.read(entry(MANIFEST)?)?;
        let name = format!("{}: {MANIFEST}", archive.name());
        let (manifest, manifest_blake3) = parse(&bytes, &name)?;
        let mut named = 1;
        for (_, file) in manifest.kernels.iter().flat_map(|kernel| kernel.files()) {
            let found = entry(&file.path)?;
            if found.bytes != file.bytes {
                let what = format!("{} bytes, but the manifest says {}", found.bytes, file.bytes);
                return Err(ArchiveError::Entry { file: archive.name().to_owned(), path: file.path.clone(), what }.into());
            }
            named += 1;
        }
        // The manifest names each path once, so with equal numbers the archive has no other.
        if named != archive.entries().len() {
            let what = format!("{} files, but its manifest names {named}", archive.entries().len());
            return Err(ArchiveError::Damaged { file: archive.name().to_owned(), what }.into());
        }
        Ok(Pack { dispatcher: Dispatcher::new(&manifest), manifest, manifest_blake3, source: Source::Archive(archive, folder) })
    }

    fn new(bytes: &[u8], source: Source) -> Result<Self, PackError> {
        let (manifest, manifest_blake3) = parse(bytes, &source.describe(MANIFEST))?;
        Ok(Pack { dispatcher: Dispatcher::new(&manifest), manifest, manifest_blake3, source })
    }

    /// Refuses a folder whose manifest is not the archive's: one of the two is of another library.
    fn check_beside(self, folder: &Path) -> Result<Self, PackError> {
        let path = folder.join(MANIFEST);
        let describe = || path.display().to_string();
        match read_at_most(&path, MAX_MANIFEST_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(self),
            Err(error) => Err(PackError::Io { path: describe(), why: error.to_string() }),
            Ok(bytes) => {
                let found = blake3::hash(&bytes).to_hex().to_string();
                if found == self.manifest_blake3 {
                    return Ok(self);
                }
                // A reason of its own says more than two hashes.
                parse(&bytes, &describe())?;
                Err(PackError::Beside { path: describe() })
            }
        }
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

    /// Which of the pack's code a device gets, that has this capability, a driver for this CUDA version (None without a
    /// driver) and wants this kind. Machine code where it runs; else PTX, where the driver can compile it for the device;
    /// else the pack is refused.
    pub fn check_device(
        &self,
        device: ComputeCapability,
        driver: Option<CudaVersion>,
        wants: ImageKind,
    ) -> Result<Code, PackError> {
        Ok(compat::code_for(&self.manifest, device, driver, wants)?)
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
        self.manifest.kernels.iter().try_for_each(|kernel| self.verify(kernel))
    }

    /// Checks a kernel's files, and the copies of them that lie loose beside an archive.
    pub fn verify(&self, kernel: &Kernel) -> Result<(), PackError> {
        for (_, file) in kernel.files() {
            self.file(file)?;
            if let Source::Archive(_, Some(folder)) = &self.source
                && folder.join(&file.path).exists()
            {
                check(&Source::Folder(folder.clone()), file)?;
            }
        }
        Ok(())
    }

    fn file(&self, file: &File) -> Result<Cow<'static, [u8]>, PackError> {
        check(&self.source, file)
    }
}

/// A file's contents, if they are those the manifest means.
fn check(source: &Source, file: &File) -> Result<Cow<'static, [u8]>, PackError> {
    let altered =
        |what, expected: String, found: String| PackError::Altered { path: source.describe(&file.path), what, expected, found };
    // One byte more than expected is enough to see that a file is too long.
    let bytes = source.read(&file.path, file.bytes.saturating_add(1))?;
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

/// The manifest in `bytes` and their hash; `name` is its name in errors.
fn parse(bytes: &[u8], name: &str) -> Result<(Manifest, String), PackError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| PackError::Io { path: name.to_owned(), why: format!("not UTF-8: {error}; copy the pack again") })?;
    Ok((Manifest::parse(text, name)?, blake3::hash(bytes).to_hex().to_string()))
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
            Source::Archive(archive, _) => {
                let entry = archive.entry(path).ok_or_else(|| PackError::Missing { path: self.describe(path) })?;
                Ok(Cow::Owned(archive.read(entry)?))
            }
        }
    }

    fn describe(&self, path: &str) -> String {
        match self {
            Source::Folder(folder) => folder.join(path).display().to_string(),
            Source::Embedded(_) => format!("embedded {path}"),
            Source::Archive(archive, _) => format!("{}: {path}", archive.name()),
        }
    }
}

fn read_at_most(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    use io::Read;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
