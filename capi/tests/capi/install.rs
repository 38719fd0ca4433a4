//! A program built with what `pkg-config` says of an installation, against the shared and the static library.

#[path = "../../../xtask/src/install_c/place.rs"]
mod place;

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{built, pack_path};

const PROGRAM: &str = r#"
#include <stdio.h>
#include <tilewright.h>

int main(int count, char **arguments) {
    tw_pack *pack;
    if (count != 2 || tw_check_abi(TW_ABI) != TW_OK || tw_open_on(arguments[1], "emulator", &pack) != TW_OK) {
        puts(tw_last_error());
        return 1;
    }
    printf("%s %s %zu\n", tw_version(), tw_device(pack), sizeof(tw_tensor));
    tw_close(pack);
    return 0;
}
"#;

/// What a command prints; None, with a word, where the program is not there.
fn output(command: &mut Command) -> Option<String> {
    match command.output() {
        Ok(output) => {
            let words = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            assert!(output.status.success(), "{command:?}: {}", words.concat());
            Some(words[0].trim().to_owned())
        }
        Err(error) => {
            eprintln!("skipped: no {}: {error}", command.get_program().to_string_lossy());
            None
        }
    }
}

#[test]
fn programs_build_with_what_pkg_config_says() {
    let Some(library) = built("libtilewright.so") else { return };
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("prefix");
    let capi = Path::new(env!("CARGO_MANIFEST_DIR"));
    let version = env!("CARGO_PKG_VERSION");
    let placed = place::place(capi, library.parent().unwrap(), &prefix, version).unwrap();
    assert_eq!(placed.len(), 4);
    let source = folder.path().join("main.c");
    fs::write(&source, PROGRAM).unwrap();

    let ask = |what: &[&str]| {
        let mut command = Command::new("pkg-config");
        output(command.args(what).arg("tilewright").env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")))
    };
    let Some(found) = ask(&["--modversion"]) else { return };
    assert_eq!(found, version);
    let (Some(cflags), Some(libs)) = (ask(&["--cflags"]), ask(&["--libs"])) else { return };
    let (Some(lib), Some(all)) = (ask(&["--variable=libdir"]), ask(&["--static", "--libs"])) else { return };
    // The static library by its name, and of the rest what it needs.
    let archive = format!("{lib}/libtilewright.a");
    let private = all.split_whitespace().filter(|word| !word.starts_with("-L") && *word != "-ltilewright");

    let expected = format!("{version} emulator {}", size_of::<tilewright::Tensor>());
    let build = |name: &str, words: Vec<&str>| {
        let program = folder.path().join(name);
        let mut command = Command::new("cc");
        command.args(["-std=c11", "-Wall", "-Werror"]).args(cflags.split_whitespace()).arg(&source).args(words);
        output(command.arg("-o").arg(&program)).map(|_| program)
    };
    let Some(shared) = build("shared", libs.split_whitespace().collect()) else { return };
    let mut run = Command::new(&shared);
    assert_eq!(output(run.arg(pack_path()).env("LD_LIBRARY_PATH", &lib)), Some(expected.clone()));
    let Some(alone) = build("static", [archive.as_str()].into_iter().chain(private).collect()) else { return };
    fs::remove_file(format!("{lib}/libtilewright.so")).unwrap();
    assert_eq!(output(Command::new(&alone).arg(pack_path())), Some(expected));
}
