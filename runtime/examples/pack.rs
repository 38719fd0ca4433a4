//! `kernels.pack` from a folder with `manifest.json` and loose files, and back.
//!
//! ```sh
//! cargo run -p tilewright-runtime --example pack -- make FOLDER               # writes FOLDER/kernels.pack and manifest.json
//! cargo run -p tilewright-runtime --example pack -- extract PACK_OR_FOLDER OUT # loose files, for cuobjdump and the like
//! ```
//!
//! `make` takes kernels from the loose files where there are any, else from `kernels.pack`, and the manifest from
//! `manifest.json`, whose last line it writes anew: so a manifest may be edited. Every hash is checked first.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use tilewright_runtime::archive::{self, ARCHIVE, Archive};
use tilewright_runtime::device::ImageKind;
use tilewright_runtime::manifest::Manifest;
use tilewright_runtime::pack::{MANIFEST, Pack};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", folder] => make(Path::new(folder)),
        ["extract", pack, out] => extract(Path::new(pack), Path::new(out)),
        _ => {
            eprintln!("usage: pack make FOLDER | pack extract PACK_OR_FOLDER OUT");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(said) => {
            eprintln!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("pack: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(folder: &Path) -> Result<String, Box<dyn Error>> {
    let path = folder.join(MANIFEST);
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
    value.as_object_mut().map(|fields| fields.remove("blake3"));
    let manifest: Manifest = serde_json::from_value(value)?;
    manifest.validate(&path.display().to_string())?;
    let packed = folder.join(ARCHIVE);
    let old = if packed.exists() { Some(Archive::open(&packed)?) } else { None };
    let mut files = BTreeMap::new();
    for (_, file) in manifest.kernels.iter().flat_map(|kernel| kernel.files()) {
        let contents = match (fs::read(folder.join(&file.path)), &old) {
            (Ok(contents), _) => contents,
            (Err(error), None) => return Err(format!("{}: {error}", folder.join(&file.path).display()).into()),
            (Err(_), Some(old)) => old.read(old.entry(&file.path).ok_or(format!("{}: in neither place", file.path))?)?,
        };
        if blake3::hash(&contents).to_hex().as_str() != file.blake3 {
            return Err(format!("{}: not the file that the manifest means", file.path).into());
        }
        files.insert(file.path.clone(), contents);
    }
    let text = manifest.to_json()?.into_bytes();
    files.insert(MANIFEST.to_owned(), text.clone());
    let bytes = archive::write(&files, archive::LEVEL)?;
    whole(&packed, &bytes)?;
    whole(&path, &text)?;
    Pack::open(folder)?.verify_all()?;
    Ok(format!("{}: {} files in {} bytes", packed.display(), files.len(), bytes.len()))
}

fn extract(pack: &Path, out: &Path) -> Result<String, Box<dyn Error>> {
    let pack = Pack::open(pack)?;
    // Everything is read and checked before the first file is written, and the manifest's checks hold its paths inside.
    let mut files = BTreeMap::from([(MANIFEST, pack.manifest().to_json()?.into_bytes())]);
    for kernel in &pack.manifest().kernels {
        files.insert(&kernel.ptx.path, pack.image(kernel, ImageKind::Ptx)?.1.into_owned());
        if let Some(cubin) = &kernel.cubin {
            files.insert(&cubin.path, pack.image(kernel, ImageKind::Cubin)?.1.into_owned());
        }
    }
    for (path, contents) in &files {
        let path = out.join(path);
        fs::create_dir_all(path.parent().unwrap_or(out))?;
        whole(&path, contents)?;
    }
    Ok(format!("{}: {} files", out.display(), files.len()))
}

/// A file appears whole or not at all.
fn whole(path: &Path, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let draft = path.with_extension("tmp");
    fs::write(&draft, bytes).and_then(|()| fs::rename(&draft, path)).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(())
}
