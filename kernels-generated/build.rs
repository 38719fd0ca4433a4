//! Lists the generated packs, so that they can be built into a program.

use std::fmt::Write as _;
use std::path::Path;

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for build scripts");
    println!("cargo::rerun-if-changed={root}");
    let mut text = String::from("/// Packs by target, each with its files.\nconst PACKS: &[(&str, Embedded)] = &[\n");
    for target in folders(Path::new(&root)) {
        let folder = Path::new(&root).join(&target);
        // A folder without a manifest is no pack.
        if !folder.join("manifest.json").is_file() {
            continue;
        }
        writeln!(text, "    ({target:?}, &[").expect("writing to a string cannot fail");
        for file in names(&folder, |p| p.is_file()) {
            let path = folder.join(&file);
            writeln!(text, "        ({file:?}, include_bytes!({path:?})),").expect("writing to a string cannot fail");
        }
        text.push_str("    ]),\n");
    }
    text.push_str("];\n");
    let out = std::env::var("OUT_DIR").expect("cargo sets it for build scripts");
    std::fs::write(Path::new(&out).join("packs.rs"), text).expect("the build folder can be written");
}

fn folders(root: &Path) -> Vec<String> {
    names(root, |p| p.is_dir()).into_iter().filter(|n| n != "src").collect()
}

fn names(folder: &Path, keep: impl Fn(&Path) -> bool) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut list: Vec<String> = entries.filter(|e| keep(&e.path())).filter_map(|e| e.file_name().into_string().ok()).collect();
    list.sort();
    list
}
