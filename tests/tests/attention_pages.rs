//! Page statistics, scores and selection against plain loops.

use tilewright_ir::passes::lower;
use tilewright_ir::tile::KernelBuilder;
use tilewright_ir::{Arch, DType};
use tilewright_runtime::plan::Role;
use tilewright_templates::attention::{PageProblem, page_scores, page_select_plan, page_stats, page_stats_plan, page_top};
use tilewright_tests::numbers::{Random, decode, encode, i32s};
use tilewright_tests::{Built, Ran, Runner};

struct Size {
    hq: usize,
    hkv: usize,
    page: usize,
    sub: usize,
    max_pages: usize,
    top: usize,
    /// Tokens of each sequence.
    lengths: Vec<usize>,
}

fn lengths_of(z: &Size) -> Vec<i32> {
    z.lengths.iter().map(|l| *l as i32).collect()
}

fn numbers(bytes: &[u8]) -> Vec<i32> {
    bytes.chunks(4).map(|b| i32::from_le_bytes(b.try_into().expect("four bytes"))).collect()
}

fn build(name: &str, arch: Arch, record: impl FnOnce(&mut KernelBuilder)) -> Built {
    let mut k = KernelBuilder::new(name, arch);
    record(&mut k);
    Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker")).build(&k.finish()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn clean(ran: &Ran, what: &str) {
    assert!(ran.errors.is_empty() && ran.lints.is_empty(), "{what}: {:?} {:?}", ran.errors, ran.lints);
    assert!(ran.unwritten.iter().all(|n| *n == 0), "{what}: {:?} bytes unwritten", ran.unwritten);
}

fn ints(z: &Size, pages: usize) -> Vec<(&'static str, i64)> {
    let list = [
        ("batch", z.lengths.len()),
        ("hq", z.hq),
        ("hkv", z.hkv),
        ("pages", pages),
        ("page", z.page),
        ("sub", z.sub),
        ("max_pages", z.max_pages),
        ("top", z.top),
    ];
    list.into_iter().map(|(n, v)| (n, v as i64)).collect()
}

/// Every number comes from the keys, so the bounds are exact.
fn check_stats(p: &PageProblem, built: &Built, z: &Size, pages: usize, seed: u64) {
    let d = p.d as usize;
    let keys = Random::new(seed + 9).list(p.dtype, pages * z.page * z.hkv * d);
    let n = pages * z.sub * z.hkv * d;
    let bytes = n * p.bounds.bytes() as usize;
    let key_bytes = encode(p.dtype, &keys);
    for seed in 0..3 {
        let ran = built.run(&ints(z, pages), &[], &[("k_pages", &key_bytes)], &[("page_min", bytes), ("page_max", bytes)], seed);
        let ran = ran.unwrap();
        clean(&ran, &p.slug());
        let found = ran.outputs.iter().map(|o| decode(p.bounds, o)).collect::<Vec<_>>();
        let tokens = z.page / z.sub;
        for (at, found) in found[0].iter().zip(&found[1]).enumerate() {
            let (logical, in_row) = (at / (z.hkv * d), at % (z.hkv * d));
            let held = (0..tokens).map(|t| keys[(logical * tokens + t) * z.hkv * d + in_row]);
            let want = [held.clone().fold(f64::INFINITY, f64::min), held.fold(f64::NEG_INFINITY, f64::max)];
            assert_eq!([*found.0, *found.1], want, "{} element {at}", p.slug());
        }
    }
}

#[test]
fn statistics() {
    for (p, arch) in [
        (PageProblem::plain(DType::BF16, 128), Arch::Sm80),
        (PageProblem { logical: true, ..PageProblem::plain(DType::F16, 96) }, Arch::Sm90a),
        (PageProblem { bounds: DType::F32, ..PageProblem::plain(DType::F16, 256) }, Arch::Sm80),
        (PageProblem { logical: true, bounds: DType::F32, ..PageProblem::plain(DType::BF16, 64) }, Arch::Sm90a),
        (PageProblem::plain(DType::BF16, 192), Arch::Sm90a),
    ] {
        p.check().unwrap();
        assert_eq!(PageProblem::from_class(&p.class()), Ok(p));
        let built = build(&format!("page_stats_{}", p.slug()), arch, |k| page_stats(k, &p).unwrap());
        for (hkv, page, sub, pages) in [(1, 1, 1, 1), (3, 16, 4, 7), (2, 64, 2, 9), (5, 6, 3, 4)] {
            let sub = if p.logical { sub } else { 1 };
            let z = Size { hq: hkv, hkv, page, sub, max_pages: 1, top: 1, lengths: vec![1] };
            check_stats(&p, &built, &z, pages, page as u64);
        }
    }
}

fn sizes() -> Vec<Size> {
    vec![
        Size { hq: 1, hkv: 1, page: 1, sub: 1, max_pages: 1, top: 1, lengths: vec![1, 0] },
        Size { hq: 8, hkv: 2, page: 16, sub: 4, max_pages: 20, top: 5, lengths: vec![320, 1, 0, 77, 16, 17] },
        Size { hq: 3, hkv: 3, page: 64, sub: 2, max_pages: 33, top: 40, lengths: vec![2000, 64 * 33] },
        Size { hq: 6, hkv: 2, page: 4, sub: 1, max_pages: 150, top: 17, lengths: vec![599, 513, 5] },
    ]
}

/// Pages that the sequence uses.
fn used(z: &Size, b: usize) -> usize {
    z.lengths[b].div_ceil(z.page)
}

fn check_scores(p: &PageProblem, built: &Built, z: &Size) {
    let (d, batch) = (p.d as usize, z.lengths.len());
    let pages = (0..batch).map(|b| used(z, b)).sum::<usize>() + 3;
    let mut random = Random::new(z.page as u64 + 3);
    let q = random.list(p.dtype, batch * z.hq * d);
    let (mut low, mut high) =
        (random.list(p.bounds, pages * z.sub * z.hkv * d), random.list(p.bounds, pages * z.sub * z.hkv * d));
    for (a, b) in low.iter_mut().zip(&mut high) {
        (*a, *b) = (a.min(*b), a.max(*b));
    }
    // Pages in no order, the first three in no sequence; past a sequence's last page an entry that would be far outside.
    let mut free = (0..pages).rev();
    let table: Vec<i32> = (0..batch)
        .flat_map(|b| (0..z.max_pages).map(move |i| (b, i)))
        .map(|(b, i)| if i < used(z, b) { free.next().expect("a page for each") as i32 } else { i32::MAX / 2 })
        .collect();
    let (q_bytes, table_bytes) = (encode(p.dtype, &q), i32s(&table));
    let (low_bytes, high_bytes) = (encode(p.bounds, &low), encode(p.bounds, &high));
    let lengths = i32s(&lengths_of(z));
    let inputs: [(&str, &[u8]); 5] = [
        ("q", &q_bytes),
        ("page_min", &low_bytes),
        ("page_max", &high_bytes),
        ("page_table", &table_bytes),
        ("kv_len", &lengths),
    ];
    for seed in 0..3 {
        let outputs = [("scores", 4 * batch * z.hq * z.max_pages)];
        let ran = built.run(&ints(z, pages), &[], &inputs, &outputs, seed).unwrap();
        clean(&ran, &p.slug());
        let found = decode(DType::F32, &ran.outputs[0]);
        for (at, got) in found.into_iter().enumerate() {
            let (row, i) = (at / z.max_pages, at % z.max_pages);
            let (b, h) = (row / z.hq, row % z.hq);
            let what = format!("{} sequence {b} head {h} page {i}", p.slug());
            if i >= used(z, b) {
                assert_eq!(got, f64::NEG_INFINITY, "{what}");
                continue;
            }
            let page = table[b * z.max_pages + i] as usize;
            let score = |s: usize| -> f64 {
                let row = ((page * z.sub + s) * z.hkv + h / (z.hq / z.hkv)) * d;
                (0..d).map(|c| (q[row_of(z, b, h, d) + c] * low[row + c]).max(q[row_of(z, b, h, d) + c] * high[row + c])).sum()
            };
            let want = (0..z.sub).map(score).fold(f64::NEG_INFINITY, f64::max);
            // d products below 1, summed in f32.
            assert!((got - want).abs() <= d as f64 * 2e-6, "{what}: {got}, not {want}");
        }
    }
}

fn row_of(z: &Size, b: usize, h: usize, d: usize) -> usize {
    (b * z.hq + h) * d
}

#[test]
fn scores_of_pages() {
    for (p, arch) in [
        (PageProblem::plain(DType::BF16, 128), Arch::Sm80),
        (PageProblem { logical: true, ..PageProblem::plain(DType::F16, 96) }, Arch::Sm90a),
        (PageProblem { bounds: DType::F32, ..PageProblem::plain(DType::BF16, 256) }, Arch::Sm90a),
        (PageProblem { logical: true, ..PageProblem::plain(DType::BF16, 192) }, Arch::Sm80),
        (PageProblem { bounds: DType::F32, logical: true, ..PageProblem::plain(DType::F16, 64) }, Arch::Sm80),
    ] {
        let built = build(&format!("page_scores_{}", p.slug()), arch, |k| page_scores(k, &p).unwrap());
        for z in sizes() {
            let z = Size { sub: if p.logical { z.sub } else { 1 }, ..z };
            check_scores(&p, &built, &z);
        }
    }
}

/// The best pages: the last first, then by score, then by number.
fn best(scores: &[f64], used: usize, top: usize) -> Vec<i32> {
    let mut order: Vec<usize> = (0..used).collect();
    let key = |i: usize| if scores[i].is_nan() { f64::NEG_INFINITY } else { scores[i] };
    order.sort_by(|a, b| (*b + 1 == used).cmp(&(*a + 1 == used)).then(key(*b).total_cmp(&key(*a))).then(a.cmp(b)));
    (0..top).map(|i| order.get(i).map_or(-1, |n| *n as i32)).collect()
}

#[test]
fn selection() {
    for arch in [Arch::Sm80, Arch::Sm90a] {
        let built = build("page_top", arch, |k| page_top(k).unwrap());
        let mut all = sizes();
        all.push(Size { hq: 2, hkv: 1, page: 1, sub: 1, max_pages: 300, top: 130, lengths: vec![300, 129, 128, 127, 0] });
        for z in all {
            let batch = z.lengths.len();
            let mut random = Random::new(77);
            // Many ties; infinities and NaN; garbage past the end.
            let scores: Vec<f64> = (0..batch * z.hq * z.max_pages)
                .map(|at| {
                    let (b, i) = (at / z.max_pages / z.hq, at % z.max_pages);
                    match (random.unit() * 20.0).floor() {
                        _ if i >= used(&z, b) => 1e9,
                        3.0 => f64::NAN,
                        4.0 => f64::INFINITY,
                        5.0 => f64::NEG_INFINITY,
                        x => x,
                    }
                })
                .collect();
            let (score_bytes, lengths) = (encode(DType::F32, &scores), i32s(&lengths_of(&z)));
            for seed in 0..3 {
                let inputs: [(&str, &[u8]); 2] = [("scores", &score_bytes), ("kv_len", &lengths)];
                let outputs = [("select", 4 * batch * z.hq * z.top)];
                let ran = built.run(&ints(&z, 1), &[], &inputs, &outputs, seed).unwrap();
                clean(&ran, "page_top");
                for (row, found) in numbers(&ran.outputs[0]).chunks(z.top).enumerate() {
                    let (b, scores) = (row / z.hq, &scores[row * z.max_pages..][..z.max_pages]);
                    assert_eq!(found, best(scores, used(&z, b), z.top), "sequence {b}, {} tokens", z.lengths[b]);
                }
            }
        }
    }
}

/// From queries to pages, launch by launch as the plan says; small integers, so that every score is exact.
#[test]
fn a_plan_selects_pages() {
    let p = PageProblem { logical: true, ..PageProblem::plain(DType::BF16, 64) };
    let plan = page_select_plan(Arch::Sm90a, &p).unwrap();
    let kernels: Vec<Built> = plan
        .kernels
        .iter()
        .map(|k| Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker")).build(&k.kernel).unwrap())
        .collect();
    for z in sizes() {
        let (d, batch) = (p.d as usize, z.lengths.len());
        let pages = batch * z.max_pages;
        let mut random = Random::new(31);
        let mut whole = |n: usize| -> Vec<f64> { (0..n).map(|_| (random.unit() * 8.0).round()).collect() };
        let (q, low) = (whole(batch * z.hq * d), whole(pages * z.sub * z.hkv * d));
        let high: Vec<f64> = low.iter().zip(whole(low.len())).map(|(low, more)| low + more.abs()).collect();
        let table: Vec<i32> = (0..pages as i32).rev().collect();
        let given = [
            ("q", encode(p.dtype, &q)),
            ("page_min", encode(p.bounds, &low)),
            ("page_max", encode(p.bounds, &high)),
            ("page_table", i32s(&table)),
            ("kv_len", i32s(&lengths_of(&z))),
        ];
        let inputs: Vec<&str> = plan.plan.tensors.iter().filter(|t| t.role == Role::Input).map(|t| t.name.as_str()).collect();
        assert_eq!(inputs, given.each_ref().map(|g| g.0));
        let mut held: Vec<(&str, Vec<u8>)> = given.to_vec();
        for ((launch, built), (name, bytes)) in plan
            .plan
            .launches
            .iter()
            .zip(&kernels)
            .zip([("scores", 4 * batch * z.hq * z.max_pages), ("select", 4 * batch * z.hq * z.top)])
        {
            assert!(launch.binds.contains_key(name));
            let read: Vec<(&str, &[u8])> =
                held.iter().filter(|h| launch.binds.contains_key(h.0)).map(|h| (h.0, h.1.as_slice())).collect();
            let mut ran = built.run(&ints(&z, pages), &[], &read, &[(name, bytes)], 2).unwrap();
            clean(&ran, &launch.kernel);
            held.push((name, ran.outputs.remove(0)));
        }
        for (row, found) in numbers(&held.last().expect("the selection").1).chunks(z.top).enumerate() {
            let (b, h) = (row / z.hq, row % z.hq);
            let score = |i: usize| -> f64 {
                let part = |s: usize| -> f64 {
                    let at = ((table[b * z.max_pages + i] as usize * z.sub + s) * z.hkv + h / (z.hq / z.hkv)) * d;
                    (0..d)
                        .map(|c| (q[row_of(&z, b, h, d) + c] * low[at + c]).max(q[row_of(&z, b, h, d) + c] * high[at + c]))
                        .sum()
                };
                (0..z.sub).map(part).fold(f64::NEG_INFINITY, f64::max)
            };
            let scores: Vec<f64> = (0..used(&z, b)).map(score).collect();
            assert_eq!(found, best(&scores, used(&z, b), z.top), "sequence {b} head {h}");
        }
    }
}

#[test]
fn plans_name_their_tensors() {
    for (p, arch) in [
        (PageProblem::plain(DType::F16, 96), Arch::Sm80),
        (PageProblem { logical: true, bounds: DType::F32, ..PageProblem::plain(DType::BF16, 256) }, Arch::Sm90a),
    ] {
        for plan in [page_stats_plan(arch, &p).unwrap(), page_select_plan(arch, &p).unwrap()] {
            for (launch, kernel) in plan.plan.launches.iter().zip(plan.kernels) {
                assert_eq!(launch.kernel, kernel.id);
                let known = |name: &String| plan.plan.tensors.iter().any(|t| t.name == *name);
                assert!(launch.binds.values().all(known), "{:?}", launch.binds);
                lower(kernel.kernel).unwrap();
            }
        }
    }
    let refused = |p: PageProblem, words: &str| {
        let e = page_select_plan(Arch::Sm80, &p).unwrap_err().to_string();
        assert!(e.contains(words), "{e}");
    };
    let p = PageProblem::plain(DType::BF16, 128);
    refused(PageProblem { d: 80, ..p }, "d = 80: head dims are");
    refused(PageProblem { bounds: DType::F16, ..p }, "bounds of bf16 keys are bf16 or f32, not f16");
    refused(PageProblem { dtype: DType::F32, bounds: DType::F32, ..p }, "pages hold bf16 or f16, not f32");
}
