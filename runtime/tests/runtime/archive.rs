//! Packs that are one file: the same packs, and refused like them.

use std::fs;

use tilewright_runtime::archive::{self, ARCHIVE, Archive, ArchiveError};
use tilewright_runtime::device::ImageKind;
use tilewright_runtime::manifest::Manifest;
use tilewright_runtime::pack::{Pack, PackError};

use crate::fixture::{files, manifest, packed, write};

fn images(pack: &Pack) -> Vec<(ImageKind, Vec<u8>)> {
    let both = pack.manifest().kernels.iter().flat_map(|kernel| [(kernel, ImageKind::Cubin), (kernel, ImageKind::Ptx)]);
    both.map(|(kernel, kind)| pack.image(kernel, kind).unwrap()).map(|(kind, bytes)| (kind, bytes.into_owned())).collect()
}

#[test]
fn a_pack_is_the_same_loose_in_a_file_in_a_folder_and_in_the_program() {
    let (loose, folder) = (write(&manifest()), tempfile::tempdir().unwrap());
    let file = folder.path().join(ARCHIVE);
    fs::write(&file, packed(&manifest())).unwrap();
    let other_name = folder.path().join("renamed");
    fs::write(&other_name, packed(&manifest())).unwrap();
    let expected = Pack::open(loose.path()).unwrap();
    let program = Pack::embedded_archive(packed(&manifest()).leak()).unwrap();
    for pack in [Pack::open(folder.path()), Pack::open(&file), Pack::open(&other_name), Ok(program)].map(Result::unwrap) {
        assert_eq!(pack.manifest(), expected.manifest());
        assert_eq!(pack.manifest_blake3(), expected.manifest_blake3());
        assert_eq!(images(&pack), images(&expected));
        pack.verify_all().unwrap();
    }
}

#[test]
fn an_archive_is_the_same_bytes_each_time_and_holds_what_was_put_in() {
    let files = files(&manifest());
    let bytes = archive::write(&files, 19).unwrap();
    assert_eq!(bytes, archive::write(&files, 19).unwrap());
    let archive = Archive::embedded("a.pack", bytes.leak()).unwrap();
    let paths: Vec<&str> = archive.entries().iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, files.keys().map(String::as_str).collect::<Vec<_>>());
    for (path, contents) in &files {
        assert_eq!(&archive.read(archive.entry(path).unwrap()).unwrap(), contents);
    }
    assert!(archive.entry("nothing").is_none());
}

#[test]
fn kernels_of_a_folder_come_from_its_archive_and_its_manifest_must_be_the_same() {
    let folder = write(&manifest());
    fs::write(folder.path().join(ARCHIVE), packed(&manifest())).unwrap();
    // Loose copies are not needed; one that is there must be right only where everything is checked.
    fs::remove_file(folder.path().join("gemm_split.ptx")).unwrap();
    let pack = Pack::open(folder.path()).unwrap();
    pack.verify_all().unwrap();
    let copy = folder.path().join("gemm_128x256.cubin");
    fs::write(&copy, "gemm_128x256.Cubin").unwrap();
    assert_eq!(images(&pack)[0].1, b"gemm_128x256.cubin");
    let error = pack.verify_all().unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: blake3 is ", copy.display())), "{error}");

    let mut other = manifest();
    other.target = "sm91".to_owned();
    let path = folder.path().join("manifest.json");
    fs::write(&path, other.to_json().unwrap()).unwrap();
    let error = Pack::open(folder.path()).unwrap_err();
    assert_eq!(error, PackError::Beside { path: path.display().to_string() });
    fs::write(&path, &manifest().to_json().unwrap()[..500]).unwrap();
    assert!(Pack::open(folder.path()).unwrap_err().to_string().contains("manifest.json: truncated"));
    fs::remove_file(&path).unwrap();
    Pack::open(folder.path()).unwrap();
}

#[test]
fn files_that_are_no_archive_are_refused() {
    let folder = write(&manifest());
    let error = Pack::open(folder.path().join("manifest.json")).unwrap_err().to_string();
    assert!(error.ends_with("manifest.json: not a pack: its first bytes are not those of one"), "{error}");
    let nowhere = folder.path().join("other.pack");
    let missing = ArchiveError::Missing { file: nowhere.display().to_string() };
    assert_eq!(Pack::open(&nowhere).unwrap_err(), PackError::Archive(missing));
    fs::create_dir(folder.path().join(ARCHIVE)).unwrap();
    let error = Pack::open(folder.path()).unwrap_err().to_string();
    assert!(error.ends_with("kernels.pack: not a file"), "{error}");
}

#[test]
fn an_archive_of_another_format_is_refused_by_its_version() {
    let mut bytes = packed(&manifest());
    bytes[8] = 2;
    let error = Pack::embedded_archive(bytes.leak()).unwrap_err().to_string();
    let expected = "embedded kernels.pack: pack format 2, but this runtime reads format 1: use the runtime the pack came with";
    assert_eq!(error, expected);
}

#[test]
fn an_archive_that_shrinks_while_it_is_open_is_an_error_and_no_signal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(ARCHIVE);
    let bytes = packed(&manifest());
    fs::write(&path, &bytes).unwrap();
    let pack = Pack::open(&path).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(bytes.len() as u64 / 2).unwrap();
    let error = pack.verify_all().unwrap_err().to_string();
    assert!(error.contains("truncated: the file became shorter than its index says; copy the pack again"), "{error}");
    // What replaces the file does not disturb who has it open.
    fs::write(&path, &bytes).unwrap();
    pack.verify_all().unwrap();
    let draft = folder.path().join("draft");
    fs::write(&draft, "something else").unwrap();
    fs::rename(&draft, &path).unwrap();
    pack.verify_all().unwrap();
}

#[test]
fn what_no_reader_would_take_is_not_written() {
    let refused =
        |path: &str, contents: Vec<u8>| archive::write(&[(path.to_owned(), contents)].into(), 1).unwrap_err().to_string();
    assert!(refused("../x", vec![1]).contains("must be relative and stay inside"));
    assert!(refused("zeros", vec![0; 1 << 20]).contains("more than 256 times"));
    assert!(refused(&"x".repeat(300), vec![1]).contains("a path of 300 bytes, at most 240"));
}

#[test]
fn the_shipped_packs_are_whole_and_their_manifests_are_those_beside_them() {
    for target in ["sm80", "sm90"] {
        let folder = format!("{}/../kernels-generated/{target}", env!("CARGO_MANIFEST_DIR"));
        let pack = Pack::open(&folder).unwrap();
        assert_eq!(pack.manifest().target, target);
        let text = fs::read_to_string(format!("{folder}/manifest.json")).unwrap();
        assert_eq!(&Manifest::parse(&text, "manifest.json").unwrap(), pack.manifest());
        let alone = Pack::open(format!("{folder}/{ARCHIVE}")).unwrap();
        alone.verify_all().unwrap();
        assert!(pack.manifest().kernels.iter().all(|kernel| kernel.cubin.is_some()));
    }
}
