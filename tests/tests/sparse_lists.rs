//! Lists of sparse convolution on the emulator against plain loops: prefix sums, pairs and their tiles, transposed maps, sorted
//! rows and the tiles of implicit GEMM.

#[path = "common/sparse_lists.rs"]
mod common;

use common::{Made, plan};
use tilewright_ir::Arch;
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::plan::Role;
use tilewright_templates::sparse_conv::lists::{
    Grouping, PairLists, TileConfig, pair_tiles, pair_tiles_grouped, pairs, scan, tiles, transpose,
};
use tilewright_templates::sparse_conv::{HostTiles, MapStats, PlanBuilder, RowOrder, TileStats};
use tilewright_tests::Runner;
use tilewright_tests::numbers::{Random, i32s};

#[test]
fn prefix_sums_of_any_length() {
    let mut pb = PlanBuilder::new(Arch::Sm90a, "scan", "scan", "");
    let flags = pb.tensor("list", Dtype::I32, &["a*b"], Role::Input).unwrap();
    let pos = pb.tensor("before", Dtype::I32, &["a*b"], Role::Output).unwrap();
    let total = pb.tensor("all", Dtype::I32, &["1"], Role::Output).unwrap();
    scan(&mut pb, &flags, "a*b", &pos, &total).unwrap();
    let op = pb.finish().unwrap();
    let kernels = op.kernels.iter().map(|k| (k.id.as_str(), &k.kernel));
    let built = Runner::new(env!("CARGO_BIN_EXE_tilewright-tests-worker")).build_plan(&op.plan, kernels).unwrap();
    for (len, seed) in [(0, 0), (1, 1), (31, 2), (511, 0), (512, 1), (513, 2), (5000, 3), (512 * 513 + 1, 1)] {
        let mut random = Random::new(len);
        let list: Vec<i32> = (0..len).map(|_| (random.bits() % 1000) as i32 - 300).collect();
        let ran = built.run(&[("a", len as i64), ("b", 1)], &[], &[("list", &i32s(&list))], seed).unwrap();
        let found = ran.errors.first().or(ran.lints.first());
        assert!(found.is_none(), "{len}: {}", found.unwrap());
        let mut sum = 0i32;
        let mut before: Vec<i32> = Vec::new();
        for v in list {
            before.push(sum);
            sum = sum.wrapping_add(v);
        }
        assert!(ran.tensors["before"] == i32s(&before), "{len}");
        assert_eq!(ran.tensors["all"], i32s(&[sum]), "{len}");
    }
}

/// Sizes around tiles and blocks of rows, at every number of taps that words of a mask make different.
fn maps() -> Vec<(Made, u64)> {
    let sizes = [(1, 257, 300), (8, 0, 0), (8, 0, 40), (27, 1, 1), (27, 130, 200), (31, 63, 64), (32, 64, 300), (33, 65, 70)];
    let more = [(125, 129, 129), (343, 33, 40), (27, 390, 400)];
    sizes.into_iter().chain(more).enumerate().map(|(i, (k, m, rows))| (Made::new(k, m, rows, i as u64), i as u64 % 4)).collect()
}

/// Output row, tap and input of each pair, tap by tap.
fn pairs_of(m: &Made) -> Vec<[i32; 3]> {
    let all = (0..m.taps).flat_map(|k| (0..m.count).map(move |row| (row, k)));
    all.filter(|(row, k)| m.entry(*row, *k) >= 0).map(|(row, k)| [row as i32, k as i32, m.entry(row, k)]).collect()
}

#[test]
fn pairs_and_their_tiles() {
    let eps = [0, 150, 1000];
    let listed = plan(Arch::Sm80, |pb, map| {
        let p = pairs(pb, "p", map, "pairs", PairLists::ALL)?;
        let one = pair_tiles(pb, "one", &p, 16)?;
        let mut two = Vec::new();
        for e in eps {
            two.push(pair_tiles_grouped(pb, &format!("two{e}"), &p, Grouping { tall: 64, short: 16, eps_thousandths: e })?);
        }
        Ok((p, one, two))
    });
    let (p, one, two) = &listed.made;
    for (m, seed) in maps() {
        let want = pairs_of(&m);
        // Room for more than there are, and for fewer.
        for capacity in [m.rows * m.taps, want.len() / 2] {
            let mut lists: Vec<&str> = vec![&p.pair_in, &p.pair_out, &one.tiles];
            lists.extend(two.iter().flatten().map(|t| t.tiles.as_str()));
            let got = listed.run(&m, capacity, seed, &lists);
            let kept = want.len().min(capacity);
            for (at, [row, _, input]) in want[..kept].iter().enumerate() {
                assert_eq!([got[&p.pair_out][at], got[&p.pair_in][at]], [*row, *input], "pair {at}");
            }
            let mut at = vec![-1; m.rows * m.taps];
            for (i, [row, k, _]) in want[..kept].iter().enumerate() {
                at[*row as usize * m.taps + *k as usize] = i as i32;
            }
            assert_eq!(got[&p.pair_at], at);
            let starts: Vec<i32> = (0..=m.taps).map(|k| want.iter().filter(|w| w[1] < k as i32).count() as i32).collect();
            assert_eq!(got[&p.tap_start], starts);
            let spans: Vec<[usize; 2]> = starts.windows(2).map(|s| [s[0], s[1]].map(|v| (v as usize).min(capacity))).collect();
            let tiles = |bm: usize, pick: &dyn Fn(usize) -> bool| -> Vec<i32> {
                let taken = spans.iter().enumerate().filter(|(_, s)| pick(s[1] - s[0]));
                let cut = |(k, s): (usize, &[usize; 2])| {
                    let (k, [from, to]) = (k, *s);
                    (from..to).step_by(bm).flat_map(move |at| [k as i32, at as i32, (to - at).min(bm) as i32]).collect::<Vec<_>>()
                };
                taken.flat_map(cut).collect()
            };
            let check = |t: &tilewright_templates::sparse_conv::PairTiles, want: Vec<i32>| {
                assert_eq!(got[&t.count], [want.len() as i32 / 3], "{}", t.tiles);
                assert_eq!(got[&t.tiles][..want.len()], want, "{}", t.tiles);
            };
            check(one, tiles(16, &|_| true));
            for (e, [tall, short]) in eps.into_iter().zip(two) {
                let little = |n: usize| (n.next_multiple_of(64) - n) * 1000 <= e as usize * n;
                check(tall, tiles(64, &little));
                check(short, tiles(16, &|n| !little(n)));
            }
            if capacity >= want.len() {
                let rows = |t: &tilewright_templates::sparse_conv::PairTiles| got[&t.count][0] as u64 * u64::from(t.bm);
                let stats = MapStats::new(&m.host());
                assert_eq!((stats.pairs(), stats.pair_rows(16)), (want.len() as u64, rows(one)));
                for (eps_thousandths, [tall, short]) in eps.into_iter().zip(two) {
                    let g = Grouping { tall: 64, short: 16, eps_thousandths };
                    assert_eq!(stats.grouped_pair_rows(g), rows(tall) + rows(short));
                }
            }
        }
    }
}

#[test]
fn maps_the_other_way() {
    let listed = plan(Arch::Sm90a, |pb, map| transpose(pb, "inverse", map, "inputs", "m_count"));
    for (m, seed) in maps() {
        let got = listed.run(&m, 0, seed, &[]);
        let mut want = vec![-1; m.inputs * m.taps];
        for [row, k, input] in pairs_of(&m) {
            want[input as usize * m.taps + k as usize] = row;
        }
        assert_eq!(got["inverse"], want);
    }
}

/// Every list against the host's, and what they amount to against the statistics.
fn check_tiles(arch: Arch, most_taps: u32, ways: &[(Option<RowOrder>, u32, u32)], maps: Vec<(Made, u64)>) {
    let configs: Vec<TileConfig> =
        ways.iter().map(|(order, splits, bm)| TileConfig { order: *order, splits: *splits, bm: *bm, most_taps }).collect();
    let listed = plan(arch, |pb, map| {
        configs.iter().enumerate().map(|(i, c)| tiles(pb, &format!("t{i}"), map, *c)).collect::<Result<Vec<_>, _>>()
    });
    for (m, seed) in maps {
        // Behind the count there is no order, behind a tile's last tap there is nothing.
        let loose: Vec<String> = (0..configs.len())
            .flat_map(|i| ["taps", "rows", "below", "order0", "order1"].map(|part| format!("t{i}_{part}")))
            .collect();
        let got = listed.run(&m, 0, seed, &loose.iter().map(String::as_str).collect::<Vec<_>>());
        for (c, t) in configs.iter().zip(&listed.made) {
            let what = format!("{c:?} of {} of {} rows, {} taps", m.count, m.rows, m.taps);
            let map = m.host();
            let want = HostTiles::new(&map, c, m.rows).unwrap();
            assert_eq!(got[&t.tile_out], want.tile_out, "{what}");
            let length = m.taps.div_ceil(c.splits as usize);
            let defined = |item: usize, slot: usize| slot <= want.tile_taps[item * (length + 1)] as usize;
            let taps = got[&t.tile_taps]
                .iter()
                .enumerate()
                .map(|(at, k)| if defined(at / (length + 1), at % (length + 1)) { *k } else { -1 });
            assert_eq!(taps.collect::<Vec<_>>(), want.tile_taps, "{what}");
            let bm = c.bm as usize;
            let rows = got[&t.tile_rows]
                .iter()
                .enumerate()
                .map(|(at, j)| if defined(at / bm / length, at / bm % length + 1) { *j } else { -1 });
            assert!(rows.eq(want.tile_rows.iter().copied()), "{what}");
            let executed: i32 = got[&t.tile_taps].iter().step_by(length + 1).sum();
            assert_eq!(TileStats::new(&map, c).unwrap().executed(), executed as u64 * u64::from(c.bm), "{what}");
        }
    }
}

#[test]
fn tiles_of_rows_in_each_order() {
    use RowOrder::{GrayRare, Plain, Rare};
    let ways = [(None, 1, 64), (Some(Plain), 3, 32), (Some(Rare), 2, 128), (Some(GrayRare), 1, 64)];
    check_tiles(Arch::Sm90a, 33, &ways, maps().into_iter().filter(|(m, _)| m.taps <= 33 && m.count < 300).collect());
}

#[test]
fn tiles_of_masks_of_many_words() {
    // Two ranges of up to seven words.
    check_tiles(Arch::Sm80, 343, &[(Some(RowOrder::GrayRare), 2, 64)], maps().into_iter().filter(|(m, _)| m.taps > 33).collect());
}
