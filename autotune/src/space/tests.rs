use super::*;
use crate::random::hash;
use std::collections::BTreeSet;
use std::sync::LazyLock;
use tilewright_ir::DType;
use tilewright_ir::passes::lower;
use tilewright_templates::attention::{AttentionProblem, DecodeProblem, Select};
use tilewright_templates::gemm::{BLayout, GemmProblem};

struct Sample {
    arch: Arch,
    space: Box<dyn Space>,
    task: Task,
    points: Vec<Point>,
}

fn task(op: &str, class: &str, sizes: &[(&str, i64)]) -> Task {
    Task { op: op.into(), class: class.into(), sizes: sizes.iter().map(|(k, v)| (k.to_string(), *v)).collect() }
}

fn sample(arch: Arch, op: &str, class: &str, sizes: &[(&str, i64)]) -> Sample {
    let space = of(arch, op, class).unwrap();
    Sample { arch, points: space.points(), space, task: task(op, class, sizes) }
}

/// A space of each kind with a task of usual sizes. Made once: all tests look at the same.
static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(|| {
    let gemm = [("m", 512), ("n", 4096), ("k", 4096)];
    let dense = GemmProblem::plain(DType::BF16);
    let weight = "int4g64z".parse().unwrap();
    let causal = AttentionProblem { causal: true, ..AttentionProblem::plain(DType::BF16, 128) };
    let decode = [("batch", 16), ("hq", 32), ("hkv", 8), ("page", 16), ("max_pages", 128)];
    let experts = [("tokens", 4096), ("e", 8), ("n", 4096), ("k", 4096)];
    vec![
        sample(Arch::Sm90a, "gemm", &dense.class(), &gemm),
        sample(Arch::Sm80, "gemm", &GemmProblem { b: BLayout::Kn, ..dense }.class(), &gemm),
        sample(Arch::Sm90a, "gemm", &GemmProblem { weight, ..dense }.class(), &gemm),
        sample(Arch::Sm90a, "gemm_grouped", &format!("{},groups=offsets", dense.class()), &experts),
        sample(Arch::Sm90a, "attention", &causal.class(), &[("sq", 4096), ("hq", 32), ("hkv", 8)]),
        sample(Arch::Sm90a, "attention_decode", &DecodeProblem::plain(DType::BF16, 128).class(), &decode),
    ]
});

/// The same points everywhere.
fn drawn<'a>(points: impl Iterator<Item = &'a Point>, count: usize) -> Vec<&'a Point> {
    let mut list: Vec<&Point> = points.collect();
    list.sort_by_cached_key(|p| hash(7, &[&p.to_string()]));
    list.truncate(count);
    list
}

#[test]
fn ids_are_sorted_and_the_same_as_ever() {
    let now: Vec<String> = SAMPLES
        .iter()
        .map(|s| {
            assert!(s.points.is_sorted_by(|a, b| a.to_string() < b.to_string()), "{}", s.task);
            assert!((500..20_000).contains(&s.points.len()), "{}: {} points", s.task, s.points.len());
            let axes = s.space.axes();
            let named = |p: &Point| p.axes().all(|(n, v)| axes.iter().any(|a| a.name == n && a.values.iter().any(|x| x == v)));
            assert!(drawn(s.points.iter(), 50).into_iter().all(named), "{}", s.task);
            format!("{} {} {} {}", s.arch, s.task.op, s.points.len(), space_hash(&*s.space))
        })
        .collect();
    // A change here makes every record of the op stale: tune again.
    let ever = [
        "sm_90a gemm 7692 b3:7c10156d50f70940",
        "sm_80 gemm 3072 b3:abff4b2dbec36cae",
        "sm_90a gemm 12456 b3:4f3ce33ad13aa05c",
        "sm_90a gemm_grouped 2904 b3:b6aa7d359d64477a",
        "sm_90a attention 4368 b3:88527412aa2bcb04",
        "sm_90a attention_decode 1104 b3:a33f8daf44a37f95",
    ];
    assert_eq!(now, ever);
}

#[test]
fn each_rule_rules_out_a_point_with_its_reason() {
    let [dense, ampere, packed, grouped, attention, decode] = &SAMPLES[..] else { panic!("six samples") };
    let says = |s: &Sample, change: &[(&str, i64)], point: &str, rule: &str, why: &str| {
        let mut task = s.task.clone();
        task.sizes.extend(change.iter().map(|(k, v)| (k.to_string(), *v)));
        let error = s.space.check(&task, &point.parse().unwrap()).unwrap_err();
        assert!(error.rule == rule && error.why.contains(why), "{point}: {error}, expected {rule}: {why}");
    };
    let wgmma = "bk=64,bm=128,bn=128,cluster=1x1,kind=wgmma,n_align=8,raster=8,schedule=coop,splits=1,stages=6,wgs=2";
    assert_eq!(dense.space.check(&dense.task, &wgmma.parse().unwrap()), Ok(()));
    let with =
        |changes: &[(&str, &str)]| changes.iter().fold(wgmma.parse::<Point>().unwrap(), |p, (a, v)| p.with(a, *v)).to_string();
    says(dense, &[], "kind=simt,bm=8", "axis", "kernels of gemm for sm_90a are kind=wgmma bk=64; kind=mma raster=8");
    says(ampere, &[], wgmma, "axis", "kernels of gemm for sm_80 are kind=mma raster=8");
    says(dense, &[], &with(&[("bn", "72")]), "axis", "bn=72: bn is one of 8, 16");
    says(dense, &[], &with(&[("colour", "red")]), "axis", "colour is no axis of kind=wgmma");
    says(dense, &[], &with(&[("stages", "4")]), "derived", "stages=4: 6 follows");
    says(dense, &[], &with(&[("splits", "2"), ("cluster", "2x1")]), "tied", "cluster=2x1 with splits");
    says(dense, &[], &with(&[("splits", "2"), ("raster", "16")]), "tied", "raster=16 with splits");
    says(dense, &[], &with(&[("splits", "2"), ("schedule", "pingpong")]), "tied", "fixed count");
    says(dense, &[("n", 4100)], wgmma, "alignment", "n_align=8: n = 4100 is no multiple");
    says(dense, &[], &with(&[("n_align", "1")]), "alignment", "allows 8, and narrower accesses are never faster");
    says(dense, &[("k", 4100)], wgmma, "alignment", "rows of 8200 bytes: TMA takes multiples of 16");
    says(dense, &[("m", 8192)], &with(&[("splits", "2")]), "parts", "2048 tiles keep 132 SMs busy");
    says(dense, &[("m", 16), ("k", 192)], &with(&[("splits", "2")]), "parts", "2 parts of 3 blocks of k");
    let spills = with(&[("bm", "256"), ("bn", "256"), ("stages", "3")]);
    says(dense, &[], &spills, "registers", "role math holds 256 registers of tiles");
    let wide = "bk=64,bm=128,bn=256,kind=mma,load_align=8,n_align=2,raster=8,splits=1,stages=4,warps=2x4";
    says(ampere, &[], wide, "shared_memory", "needs 196608 bytes of shared memory, the target has 166912");
    says(ampere, &[("k", 4099)], wide, "alignment", "load_align=8: the common divisor of n and k = 1");
    let other = Task { class: "a=f16".into(), ..ampere.task.clone() };
    assert_eq!(ampere.space.check(&other, &wide.parse().unwrap()).unwrap_err().rule, "class");
    let empty = Task { sizes: Default::default(), ..ampere.task.clone() };
    assert_eq!(ampere.space.check(&empty, &wide.parse().unwrap()).unwrap_err().rule, "sizes");
    let weight = "bk=128,bm=256,bn=192,kind=weight_wgmma,n_align=8,raster=8,stages=2,stream=0";
    says(packed, &[], weight, "config", "256 tokens with 3 warpgroups hold");
    let experts = with(&[("cluster", "2x1")]).replace("splits=1,", "");
    says(grouped, &[], &experts, "config", "may belong to two experts");
    let forward = "bm=128,bn=128,exp_fma=0,kind=wgmma,overlap=1,persistent=1,pingpong=1,stages=2,wgs=2";
    assert_eq!(attention.space.check(&attention.task, &forward.parse().unwrap()), Ok(()));
    says(attention, &[("sq", 64)], forward, "rows", "bm=128 for 64 queries");
    says(attention, &[], &forward.replace("overlap=1", "overlap=0"), "tied", "pingpong=1 without overlap");
    says(attention, &[], &forward.replace("stages=2", "stages=4"), "config", "bytes of shared memory");
    let single = "bm=64,bn=64,exp_fma=0,kind=wgmma,overlap=0,persistent=0,pingpong=0,stages=4,wgs=1";
    says(attention, &[], single, "tied", "stages=4 without overlap");
    let pages = "bn=64,box=16,ctas=1,kind=wgmma,split=1,stages=3";
    assert_eq!(decode.space.check(&decode.task, &pages.parse().unwrap()), Ok(()));
    says(decode, &[], &pages.replace("box=16", "box=8"), "page", "pages of 16 tokens allow 16");
    says(decode, &[], &pages.replace("box=16", "box=64"), "page", "a page of 16 tokens is no multiple");
    says(decode, &[("page", 4)], pages, "page", "TMA brings 8 or more");
    says(decode, &[("splits", 1)], pages, "parts", "asks for one part");
    says(decode, &[("split_size", 512)], &pages.replace("split=1", "split=0"), "parts", "asks for several");
    says(decode, &[("pages", 1 << 40)], pages, "requires", "does not hold");
    for (op, class, why) in [
        ("sparse_conv", "", "no space of configs: expected one of attention"),
        ("gemm", "a=bf16", "is no gemm class"),
        ("gemm", &*grouped.task.class, "its op is gemm_grouped"),
        ("gemm_grouped", &*dense.task.class, "groups=offsets or groups=counts"),
    ] {
        let error = of(Arch::Sm90a, op, class).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains(why), "{op} {class}: {error}");
    }
    let selected = DecodeProblem { select: Select::Heads, ..DecodeProblem::plain(DType::BF16, 128) };
    let selected =
        sample(Arch::Sm90a, "attention_decode", &selected.class(), &[("batch", 1), ("hq", 8), ("hkv", 8), ("n_select", 4)]);
    says(&selected, &[], pages, "config", "pages selected are for kind=mma");
}

#[test]
fn what_is_legal_lowers_and_what_is_not_is_refused_with_the_same_words() {
    for s in SAMPLES.iter() {
        let promising: Vec<&Point> = drawn(s.points.iter().filter(|p| s.space.promising(&s.task, p).is_ok()), 40);
        let verdicts: Vec<_> = promising.iter().map(|p| (*p, s.space.check(&s.task, p))).collect();
        for (p, _) in verdicts.iter().filter(|v| v.1.is_ok()).take(3) {
            let plan = s.space.plan(p).unwrap();
            assert_eq!((&plan.plan.op, &plan.plan.class), (&s.task.op, &s.task.class));
            for k in plan.kernels {
                lower(k.kernel).unwrap_or_else(|e| panic!("{} {p}: {e}", s.task));
            }
        }
        for (p, why) in verdicts.iter().filter_map(|(p, v)| Some((p, v.as_ref().err()?))) {
            // Rules without the compiler know what a plan requires of sizes.
            assert!(["registers", "shared_memory"].contains(&why.rule), "{} {p}: {why}", s.task);
            let kernels = s.space.plan(p).unwrap().kernels;
            let said = kernels.into_iter().find_map(|k| lower(k.kernel).err()).map(|e| e.to_string());
            assert_eq!(said.as_deref(), Some(&*why.why), "{} {p}", s.task);
        }
        assert!(verdicts.iter().filter(|v| v.1.is_ok()).count() >= 20, "{}", s.task);
    }
}

#[test]
fn neighbours_are_mutual_one_step_away_and_in_the_list() {
    for s in SAMPLES.iter() {
        let mut met = BTreeSet::new();
        let kinds: BTreeSet<&str> = s.points.iter().filter_map(|p| p.get("kind")).collect();
        for p in kinds.into_iter().flat_map(|kind| drawn(s.points.iter().filter(|p| p.get("kind") == Some(kind)), 40)) {
            let near = s.space.neighbours(p);
            assert!(!near.is_empty() && near.is_sorted(), "{} {p}", s.task);
            for q in &near {
                assert!(s.points.binary_search(q).is_ok() && q != p, "{} {p}: {q}", s.task);
                assert!(s.space.neighbours(q).contains(p), "{} {p}: {q} does not know it", s.task);
                let changed: Vec<&str> =
                    p.axes().filter(|(a, v)| q.get(a) != Some(v)).map(|(a, _)| a).filter(|a| *a != "stages").collect();
                assert!(changed.len() <= 3, "{} {p}: {q}", s.task);
                met.extend(changed.iter().map(|a| a.to_string()));
            }
        }
        // Each axis with a choice is one along which there are steps.
        let free =
            s.space.axes().into_iter().filter(|a| a.values.len() > 1 && !["kind", "bk", "stages", "unpack"].contains(&a.name));
        free.for_each(|a| assert!(met.contains(a.name), "{}: no step along {}", s.task, a.name));
    }
}

#[test]
fn odd_sizes_have_a_candidate_too() {
    let [dense, ampere, ..] = &SAMPLES[..] else { panic!("six samples") };
    for (s, sizes) in [(dense, [1, 1, 1]), (dense, [77, 33, 100]), (ampere, [5, 4098, 6])] {
        let task = task("gemm", &s.task.class, &[("m", sizes[0]), ("n", sizes[1]), ("k", sizes[2])]);
        let good: Vec<&Point> = s.points.iter().filter(|p| s.space.promising(&task, p).is_ok()).collect();
        assert!(good.iter().any(|p| s.space.check(&task, p).is_ok()), "{task}: {} promising", good.len());
    }
}
