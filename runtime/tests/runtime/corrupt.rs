//! Corrupted and hostile packs: every one is refused in one line that names the file, without a panic, a large
//! allocation, or anything written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tilewright_runtime::archive::{ARCHIVE, FORMAT, MAGIC};
use tilewright_runtime::manifest::Manifest;
use tilewright_runtime::pack::{Embedded, MANIFEST, Pack};

use crate::allocation::peak;
use crate::fixture::{files, manifest, packed, write};

/// What a refusal may allocate at once. The fixture has 3 KiB packed and 8 KiB of manifest, of which parsing makes several
/// times as much.
const MOST_BYTES: usize = 1 << 20;

/// A folder in which one file is corrupted again and again.
struct Victim {
    folder: tempfile::TempDir,
    file: &'static str,
    names: Vec<String>,
    refused: usize,
}

impl Victim {
    fn new(folder: tempfile::TempDir, file: &'static str) -> Self {
        let names = listing(folder.path());
        Victim { folder, file, names, refused: 0 }
    }

    fn archive() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(ARCHIVE), packed(&manifest())).unwrap();
        Pack::open(folder.path()).unwrap().verify_all().unwrap();
        Victim::new(folder, ARCHIVE)
    }

    /// Opening `bytes` and loading everything must fail; the line without the file's name. One case of eight is a file,
    /// the others are bytes of the program, which say the same and cost no disk.
    fn refuses(&mut self, what: &str, bytes: &[u8]) -> String {
        let (mut outcome, mut name) = (Ok(()), format!("embedded {}", self.file));
        let most = if self.refused.is_multiple_of(8) {
            let path = self.folder.path().join(self.file);
            fs::write(&path, bytes).unwrap();
            name = path.display().to_string();
            peak(|| outcome = Pack::open(self.folder.path()).and_then(|pack| pack.verify_all()))
        } else {
            let bytes: &'static [u8] = bytes.to_vec().leak();
            let files: Embedded = vec![(MANIFEST, bytes)].leak();
            match self.file {
                MANIFEST => peak(|| outcome = Pack::embedded(files).and_then(|pack| pack.verify_all())),
                _ => peak(|| outcome = Pack::embedded_archive(bytes).and_then(|pack| pack.verify_all())),
            }
        };
        let error = outcome.expect_err(what).to_string();
        assert!(most < MOST_BYTES, "{what}: {most} bytes allocated: {error}");
        assert!(!error.contains('\n') && error.len() < 2000, "{what}: {error}");
        self.refused += 1;
        error.strip_prefix(&format!("{name}: ")).unwrap_or_else(|| panic!("{what}: {error}")).to_owned()
    }

    fn done(self, at_least: usize) {
        assert_eq!(listing(self.folder.path()), self.names, "nothing was written");
        assert!(self.refused >= at_least, "{} cases, meant to be {at_least}", self.refused);
    }
}

fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// SplitMix64, so that every run has the same cases.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }
}

/// A file of an archive as a forger writes it: every number is free, the hashes hold.
#[derive(Clone)]
struct Forged {
    path: Vec<u8>,
    offset: u64,
    stored: u64,
    bytes: u64,
    frame: Vec<u8>,
}

/// The fixture's files, laid out as the format says.
fn honest() -> Vec<Forged> {
    let files = files(&manifest());
    let forge = |(path, contents): (String, Vec<u8>)| {
        let frame = zstd::bulk::compress(&contents, 3).unwrap();
        let (stored, bytes) = (frame.len() as u64, contents.len() as u64);
        Forged { path: path.into_bytes(), offset: 0, stored, bytes, frame }
    };
    laid_out(files.into_iter().map(forge).collect())
}

fn laid_out(mut files: Vec<Forged>) -> Vec<Forged> {
    let mut offset = 64 + files.iter().map(|file| 58 + file.path.len() as u64).sum::<u64>();
    for file in &mut files {
        file.offset = offset;
        offset += file.stored;
    }
    files
}

/// The archive of these files with a header of `count` files and hashes that hold: what the documentation of the format
/// says, written a second time.
fn forge(files: &[Forged], count: u32) -> Vec<u8> {
    let mut index = Vec::new();
    for Forged { path, offset, stored, bytes, frame } in files {
        for number in [offset, stored, bytes] {
            index.extend_from_slice(&number.to_le_bytes());
        }
        index.extend_from_slice(blake3::hash(frame).as_bytes());
        index.extend_from_slice(&(path.len() as u16).to_le_bytes());
        index.extend_from_slice(path);
    }
    let frames: Vec<u8> = files.iter().flat_map(|file| file.frame.clone()).collect();
    let mut header = [MAGIC.as_slice(), &FORMAT.to_le_bytes(), &count.to_le_bytes()].concat();
    header.extend_from_slice(&(index.len() as u64).to_le_bytes());
    header.extend_from_slice(&((64 + index.len() + frames.len()) as u64).to_le_bytes());
    let hash = *blake3::Hasher::new().update(&header).update(&index).finalize().as_bytes();
    [header, hash.to_vec(), index, frames].concat()
}

fn forged(files: &[Forged]) -> Vec<u8> {
    forge(files, files.len() as u32)
}

#[test]
fn every_flipped_bit_of_an_archive_is_refused() {
    let mut victim = Victim::archive();
    let good = packed(&manifest());
    let mut random = Random(1);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << random.below(8);
        victim.refuses(&format!("byte {at}"), &bad);
    }
    victim.done(2000);
}

#[test]
fn every_truncated_extended_or_spliced_archive_is_refused() {
    let mut victim = Victim::archive();
    let good = packed(&manifest());
    let boundaries = honest().into_iter().map(|file| file.offset as usize).chain([8, 12, 16, 24, 32, 64]);
    let near: Vec<usize> = boundaries.flat_map(|at| [at - 1, at, at + 1]).chain((0..good.len()).step_by(17)).collect();
    for at in near.into_iter().filter(|&at| at < good.len()) {
        victim.refuses(&format!("cut at {at}"), &good[..at]);
    }
    let mut random = Random(2);
    for case in 0..300 {
        let mut bad = good.clone();
        let (from, to, length) = (random.below(good.len()), random.below(good.len()), 1 + random.below(64));
        match case % 4 {
            0 => bad.extend((0..length).map(|_| random.next() as u8)),
            1 => drop(bad.splice(to..to, good[from..(from + length).min(good.len())].iter().copied())),
            2 => drop(bad.drain(from..(from + length).min(good.len()))),
            _ => bad[from..(from + length).min(good.len())].iter_mut().for_each(|byte| *byte = random.next() as u8),
        }
        if bad != good {
            victim.refuses(&format!("splice {case}"), &bad);
        }
    }
    victim.done(400);
}

#[test]
fn hostile_archives_are_refused_though_their_hashes_hold() {
    let mut victim = Victim::archive();
    let honest = honest();
    fs::write(victim.folder.path().join(ARCHIVE), forged(&honest)).unwrap();
    Pack::open(victim.folder.path()).unwrap().verify_all().expect("the forger knows the format");

    let long = "x".repeat(241);
    let paths = ["../x", "/etc/passwd", "a/../../x", "a//b", "", ".", "a/.", "a\0b", "a\nb", "C:x", "a\\b", "a\u{7f}", &long];
    for at in 0..honest.len() {
        for path in paths {
            let mut files = honest.clone();
            files[at].path = path.into();
            let error = victim.refuses(&format!("path {path:?}"), &forged(&laid_out(files)));
            assert!(error.contains("must be relative") || error.contains("a path of 241 bytes, at most 240"), "{error}");
        }
        let mut files = honest.clone();
        files[at].path = vec![0xff, 0xfe];
        assert!(victim.refuses("bytes for a path", &forged(&laid_out(files))).contains("no UTF-8"));
        let mut files = honest.clone();
        files.insert(at, honest[at].clone());
        assert!(victim.refuses("twice", &forged(&laid_out(files))).contains("does not come after the one before it"));
        for number in [0, 1, 63, 1 << 20, 1 << 31, 1 << 32, 1 << 62, 1 << 63, u64::MAX - 1, u64::MAX] {
            type Change = fn(&mut Forged, u64);
            let changes: [(&str, Change); 5] = [
                ("offset", |file, number| file.offset = number),
                ("stored", |file, number| file.stored = number),
                ("bytes", |file, number| file.bytes = number),
                ("offset by", |file, number| file.offset = file.offset.wrapping_add(number.max(1))),
                ("bytes by", |file, number| file.bytes = file.bytes.wrapping_add(number.max(1))),
            ];
            for (what, change) in changes {
                let mut files = honest.clone();
                change(&mut files[at], number);
                victim.refuses(&format!("{what} {number} of file {at}"), &forged(&files));
            }
        }
    }
    for count in [0, 1, honest.len() as u32 - 1, honest.len() as u32 + 1, 1 << 16, 1 << 31, u32::MAX] {
        victim.refuses(&format!("{count} files"), &forge(&honest, count));
    }
    // The header's numbers of bytes, its hash written anew.
    for number in [0, 1, 1 << 31, 1 << 63, u64::MAX] {
        for at in [16, 24] {
            let mut bad = forged(&honest);
            bad[at..at + 8].copy_from_slice(&number.to_le_bytes());
            let index = honest[0].offset as usize;
            let hash = *blake3::Hasher::new().update(&bad[..32]).update(&bad[64..index]).finalize().as_bytes();
            bad[32..64].copy_from_slice(&hash);
            victim.refuses(&format!("header {at}: {number}"), &bad);
        }
    }
    victim.done(400);
}

#[test]
fn frames_that_are_no_frames_of_their_files_are_refused() {
    let mut victim = Victim::archive();
    let honest = honest();
    let with = |path: &str, frame: Vec<u8>, bytes: Option<u64>| {
        let mut files = honest.clone();
        let file = files.iter_mut().find(|file| file.path == path.as_bytes()).unwrap();
        (file.stored, file.bytes, file.frame) = (frame.len() as u64, bytes.unwrap_or(file.bytes), frame);
        forged(&laid_out(files))
    };
    let packed = |bytes: &[u8]| zstd::bulk::compress(bytes, 3).unwrap();
    let bomb = packed(&vec![0; 48 << 20]);
    for path in [MANIFEST, "gemm_128x256.cubin"] {
        let frame = honest.iter().find(|file| file.path == path.as_bytes()).unwrap().frame.clone();
        let error = victim.refuses("bomb", &with(path, bomb.clone(), None));
        assert!(error.contains("does not unpack into"), "{error}");
        let error = victim.refuses("admitted bomb", &with(path, bomb.clone(), Some(48 << 20)));
        assert!(error.contains("more than 256 times as much"), "{error}");
        let half = zstd::bulk::decompress(&frame, 1 << 16).map(|contents| contents[..contents.len() / 2].to_vec()).unwrap();
        let error = victim.refuses("too little", &with(path, packed(&half), None));
        assert!(error.contains(&format!("frame unpacks into {} bytes, but the index says", half.len())), "{error}");
        victim.refuses("two frames", &with(path, [frame.clone(), frame.clone()].concat(), None));
        victim.refuses("no frame", &with(path, b"nothing of zstd".to_vec(), None));
        victim.refuses("nothing", &with(path, Vec::new(), None));
        let mut random = Random(3);
        // Damage to a frame for which the index vouches: what comes out is compared with the manifest.
        for at in 0..frame.len().min(200) {
            let mut bad = frame.clone();
            bad[at] ^= 1 << random.below(8);
            fs::write(victim.folder.path().join(ARCHIVE), with(path, bad.clone(), None)).unwrap();
            // zstd's header has a bit without meaning: then the contents are right, and all is well.
            let contents = zstd::bulk::decompress(&bad, 1 << 16).ok();
            if contents != zstd::bulk::decompress(&frame, 1 << 16).ok() {
                victim.refuses(&format!("{path}: byte {at} of its frame"), &with(path, bad, None));
            }
        }
    }
    victim.done(100);
}

/// A forger's archive of `manifest`, whatever it says.
fn archive_of(text: &[u8], mut files: BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    files.insert(MANIFEST.to_owned(), text.to_vec());
    let forge = |(path, contents): (String, Vec<u8>)| {
        // Level 1 with no dictionary may compress more than the reader takes for true; such text is stored in one block.
        let frame = zstd::bulk::compress(&contents, 1).unwrap();
        Forged { path: path.into_bytes(), offset: 0, stored: frame.len() as u64, bytes: contents.len() as u64, frame }
    };
    forged(&laid_out(files.into_iter().map(forge).collect()))
}

#[test]
fn an_archive_and_its_manifest_must_name_the_same_files() {
    let mut victim = Victim::archive();
    let (good, all) = (manifest(), files(&manifest()));
    let text = good.to_json().unwrap().into_bytes();
    let mut extra = all.clone();
    extra.insert("extra.ptx".to_owned(), b"x".to_vec());
    let error = victim.refuses("extra", &archive_of(&text, extra));
    assert_eq!(
        error,
        "9 files, but its manifest names 8; copy the pack again"
            .replace('9', &(all.len() + 1).to_string())
            .replace('8', &all.len().to_string())
    );
    for path in all.keys().filter(|path| *path != MANIFEST) {
        let mut fewer = all.clone();
        fewer.remove(path);
        let error = victim.refuses("fewer", &archive_of(&text, fewer));
        assert_eq!(error, format!("no {path} in it; copy the pack again"));
        let mut longer = all.clone();
        longer.get_mut(path).unwrap().push(b'x');
        assert!(victim.refuses("longer", &archive_of(&text, longer)).contains("but the manifest says"));
        let mut other = all.clone();
        other.get_mut(path).unwrap()[0] ^= 1;
        let error = victim.refuses("another file", &archive_of(&text, other));
        assert!(error.starts_with(&format!("{path}: blake3 is ")), "{error}");
    }
    let mut none = honest();
    none.retain(|file| file.path != MANIFEST.as_bytes());
    assert_eq!(victim.refuses("no manifest", &forged(&laid_out(none))), "no manifest.json in it; copy the pack again");
    victim.done(10);
}

#[test]
fn an_altered_kernel_is_refused_when_it_is_loaded_and_the_others_are_not() {
    let mut victim = Victim::archive();
    let good = packed(&manifest());
    let honest = honest();
    // Level 9 and level 3 may lay frames out differently: take them from the good archive's index.
    let archive = tilewright_runtime::archive::Archive::embedded("good", good.clone().leak()).unwrap();
    for entry in archive.entries().iter().filter(|entry| entry.path != MANIFEST) {
        let mut bad = good.clone();
        bad[(entry.offset + entry.stored / 2) as usize] ^= 4;
        let error = victim.refuses(&entry.path, &bad);
        assert_eq!(error, format!("{}: the blake3 of its frame is not the one in the index; copy the pack again", entry.path));
        let pack = Pack::embedded_archive(bad.leak()).unwrap();
        let whole = pack.manifest().kernels.iter().filter(|kernel| kernel.files().all(|(_, file)| file.path != entry.path));
        for kernel in whole {
            for kind in [tilewright_runtime::device::ImageKind::Ptx, tilewright_runtime::device::ImageKind::Cubin] {
                pack.image(kernel, kind).unwrap();
            }
        }
    }
    victim.done(honest.len() - 1);
}

#[test]
fn every_flipped_bit_of_a_manifest_is_refused() {
    let mut victim = Victim::new(write(&manifest()), MANIFEST);
    let good = manifest().to_json().unwrap().into_bytes();
    let mut random = Random(4);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << random.below(8);
        victim.refuses(&format!("byte {at}"), &bad);
    }
    for at in (0..good.len()).step_by(29) {
        victim.refuses(&format!("cut at {at}"), &good[..at]);
    }
    victim.done(5000);
}

#[test]
fn hostile_manifests_are_refused() {
    let mut victim = Victim::new(write(&manifest()), MANIFEST);
    let good = manifest().to_json().unwrap();
    // Every number of the manifest, as numbers of all sizes.
    let numbers: Vec<(usize, usize)> = number_spans(&good);
    for &(from, to) in &numbers {
        for number in ["-1", "1e999", "18446744073709551616", "9223372036854775808", "1.5", "null", "\"7\""] {
            victim.refuses(&format!("{number} at {from}"), [&good[..from], number, &good[to..]].concat().as_bytes());
        }
    }
    for open in ["[", "{\"schema\":", "{\"schema\":1,\"kernels\":[", "[{\"a\":"] {
        victim.refuses(&format!("deep {open}"), open.repeat(20_000).as_bytes());
    }
    let sealed = |change: fn(&mut Manifest)| {
        let mut changed = manifest();
        change(&mut changed);
        changed.to_json().unwrap().into_bytes()
    };
    // What a forger seals anew.
    type Change = fn(&mut Manifest);
    let changes: [(Change, &str); 14] = [
        (|m| m.kernels[0].ptx.path = "../../etc/passwd".into(), "must be relative and stay inside"),
        (|m| m.kernels[0].ptx.path = "/etc/passwd".into(), "must be relative and stay inside"),
        (|m| m.kernels[0].ptx.path = "a\0b".into(), "must be relative and stay inside"),
        (|m| m.kernels[0].ptx.path = "a/".repeat(150), "a path of 300 bytes, at most 240"),
        (|m| m.kernels[0].ptx.bytes = 1 << 63, "9223372036854775808 bytes, at most"),
        (|m| m.kernels[0].ptx.bytes = u64::MAX, "18446744073709551615 bytes, at most"),
        (|m| m.kernels[0].ptx.blake3 = "Z".repeat(64), "must be 64 lower-case hex digits"),
        (|m| m.kernels[0].entry = "a\0b".into(), "is no symbol"),
        (|m| m.kernels[0].launch.block = [u32::MAX; 3], "must multiply to"),
        (|m| m.kernels[0].launch.cluster = [u32::MAX, 2, 2], "must multiply to"),
        (|m| m.kernels.push(m.kernels[0].clone()), "is used twice"),
        (|m| m.plans.push(m.plans[0].clone()), "used twice"),
        (|m| m.schema = 77, "schema 77 of tilewright"),
        (|m| m.arch = "sm_9999a".into(), "is no architecture"),
    ];
    for (change, expected) in changes {
        let error = victim.refuses(expected, &sealed(change));
        assert!(error.contains(expected), "{error}\nexpected {expected}");
    }
    victim.done(500);
}

/// Where the numbers of a JSON text are that stand for values: after `:`, `[` or `,`.
fn number_spans(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut spans = Vec::new();
    let (mut at, mut in_string) = (0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'0'..=b'9' if !in_string => {
                let from = at;
                while bytes[at].is_ascii_digit() {
                    at += 1;
                }
                spans.push((from, at));
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    spans
}
