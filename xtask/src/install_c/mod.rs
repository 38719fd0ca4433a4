//! `cargo xtask install-c`.

mod place;

use crate::{Usage, shell};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

pub const HELP: &str = "\
Usage: cargo xtask install-c --prefix DIR [--with-emulator]

Builds the C library and puts libtilewright.so, libtilewright.a, tilewright.h and tilewright.pc under DIR/lib and DIR/include.
With --with-emulator packs can be opened on the CPU too. Needs no LLVM and no CUDA. Prints the files' names to stdout.
";

/// How cargo's messages call the shared library.
const LIBRARY: &str = "libtilewright.so";

struct Options {
    prefix: PathBuf,
    emulator: bool,
}

pub fn run(args: &[String]) -> Result<ExitCode> {
    let options = parse(args)?;
    let features: &[&str] = if options.emulator { &["--features", "emulator"] } else { &[] };
    let library = build(features)?;
    let built = library.parent().context("cargo built a library that lies nowhere")?;
    let files = place::place(&shell::root().join("capi"), built, &options.prefix, env!("CARGO_PKG_VERSION"))?;
    println!("{}", files.join("\n"));
    let pkgconfig = options.prefix.join("lib/pkgconfig");
    eprintln!("To use it:  PKG_CONFIG_PATH={} cc main.c $(pkg-config --cflags --libs tilewright)", pkgconfig.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the C library; the shared one's path, as cargo reports it.
pub fn build(features: &[&str]) -> Result<PathBuf> {
    let mut command = shell::cargo();
    command.args(["build", "--release", "-p", "tilewright-c", "--message-format", "json-render-diagnostics"]).args(features);
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the C library does not build");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut files = messages.split('"').filter(|word| word.ends_with(LIBRARY));
    files.next_back().map(PathBuf::from).with_context(|| format!("cargo built no `{LIBRARY}`"))
}

fn parse(args: &[String]) -> Result<Options> {
    let (mut prefix, mut emulator) = (None, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.split_once('=') {
            Some(("--prefix", value)) => prefix = Some(PathBuf::from(value)),
            None if arg == "--prefix" => prefix = args.next().map(PathBuf::from),
            None if arg == "--with-emulator" => emulator = true,
            _ => return Err(Usage(format!("unexpected `{arg}`\n\n{HELP}")).into()),
        }
    }
    let prefix = prefix.ok_or_else(|| Usage(format!("--prefix is missing\n\n{HELP}")))?;
    Ok(Options { prefix, emulator })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(args: &[&str]) -> Result<(PathBuf, bool), String> {
        let args: Vec<String> = args.iter().map(|arg| arg.to_string()).collect();
        parse(&args).map(|o| (o.prefix, o.emulator)).map_err(|e| e.to_string().lines().next().unwrap_or_default().to_owned())
    }

    #[test]
    fn a_prefix_is_needed_and_nothing_else_is_taken() {
        assert_eq!(words(&["--prefix", "/opt/tw"]), Ok(("/opt/tw".into(), false)));
        assert_eq!(words(&["--with-emulator", "--prefix=x"]), Ok(("x".into(), true)));
        assert_eq!(words(&[]), Err("--prefix is missing".into()));
        assert_eq!(words(&["--prefix"]), Err("--prefix is missing".into()));
        assert_eq!(words(&["--prefix", "x", "y"]), Err("unexpected `y`".into()));
    }
}
