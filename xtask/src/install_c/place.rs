//! What an installation of the C library is: files under a prefix. The tests of `capi` include this file, to build programs
//! against what it lays out.

use std::fs;
use std::io;
use std::path::Path;

/// Puts the libraries in `built` with the header and the pkg-config file of `capi` under `prefix`; returns what is there.
pub fn place(capi: &Path, built: &Path, prefix: &Path, version: &str) -> io::Result<Vec<String>> {
    let made = |folder: &str| {
        let path = prefix.join(folder);
        fs::create_dir_all(&path).map_err(named(&path)).and_then(|()| path.canonicalize())
    };
    let (lib, include, pkgconfig) = (made("lib")?, made("include")?, made("lib/pkgconfig")?);
    let mut placed = Vec::new();
    for (from, to) in [
        (built.join("libtilewright.so"), &lib),
        (built.join("libtilewright.a"), &lib),
        (capi.join("include/tilewright.h"), &include),
    ] {
        let to = to.join(from.file_name().unwrap_or_default());
        fs::copy(&from, &to).map_err(named(&from))?;
        placed.push(to.display().to_string());
    }
    let form = capi.join("tilewright.pc.in");
    let text = fs::read_to_string(&form).map_err(named(&form))?;
    let root = prefix.canonicalize().map_err(named(prefix))?;
    let text = text.replace("@prefix@", &root.display().to_string()).replace("@version@", version);
    let to = pkgconfig.join("tilewright.pc");
    fs::write(&to, text).map_err(named(&to))?;
    placed.push(to.display().to_string());
    Ok(placed)
}

/// The error with the file it is about.
fn named(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    let path = path.display().to_string();
    move |error| io::Error::new(error.kind(), format!("`{path}`: {error}"))
}
