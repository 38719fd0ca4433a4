//! Tables: what the builder makes of rankings, and what is refused when one is read.

use tilewright_runtime::dispatch::{
    BuildError, CellIndex, ChosenBy, Dispatch, Exact, Known, MAX_DEPTH, MAX_NODES, Node, PlanIndex, TableBuilder,
};

use crate::fixture::{CLASS, manifest};

/// Numbers that look random, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn bucket(bounds: &[i64], value: i64) -> usize {
    bounds.iter().filter(|&&bound| bound < value).count()
}

fn known(key: &[i64], bounds: &[i64], plans: &[u32]) -> Known {
    Known {
        key: key.to_vec(),
        bounds: bounds.to_vec(),
        ranked: plans.iter().map(|&plan| vec![PlanIndex(plan)]).collect(),
        chosen_by: ChosenBy::Tuned,
        regret_percent: Some(0.5),
    }
}

/// Fewest leaves of a tree over `cells[from.0..to.0][from.1..to.1]`, by trying all.
fn fewest(cells: &[[u32; 4]; 4], from: (usize, usize), to: (usize, usize)) -> usize {
    let mut inside = (from.0..to.0).flat_map(|i| (from.1..to.1).map(move |j| cells[i][j]));
    let first = inside.next().unwrap();
    if inside.all(|cell| cell == first) {
        return 1;
    }
    let rows = (from.0 + 1..to.0).map(|i| fewest(cells, from, (i, to.1)) + fewest(cells, (i, from.1), to));
    let columns = (from.1 + 1..to.1).map(|j| fewest(cells, from, (to.0, j)) + fewest(cells, (from.0, j), to));
    rows.chain(columns).min().unwrap()
}

#[test]
fn a_tree_answers_as_its_grid_and_none_is_smaller() {
    let mut random = Random(7);
    let bounds = [[8, 64, 512], [16, 128, 1024]];
    for round in 0..60 {
        let choices = 2 + round % 3;
        let cells: [[u32; 4]; 4] = std::array::from_fn(|_| std::array::from_fn(|_| random.below(choices) as u32));
        let at = |s: &[i64]| PlanIndex(cells[bucket(&bounds[0], s[0])][bucket(&bounds[1], s[1])]);
        let builder = TableBuilder::new("gemm", CLASS).axis("m", &bounds[0]).axis("n", &bounds[1]);
        let table = builder.clone().build(ChosenBy::Model, |s| vec![at(s)]).unwrap();
        for m in [1, 8, 9, 64, 65, 512, 513, i64::MAX] {
            for n in [1, 16, 17, 128, 129, 1024, 1025, i64::MAX] {
                assert_eq!(table.plans(&[m, n]), [at(&[m, n])], "m {m} n {n} in {cells:?}");
            }
        }
        let leaves = table.tree.nodes.iter().filter(|node| matches!(node, Node::Leaf(_))).count();
        assert_eq!(leaves, fewest(&cells, (0, 0), (4, 4)), "{cells:?}");
        assert_eq!(table.tree.nodes.len(), 2 * leaves - 1);
        assert_eq!(table, builder.build(ChosenBy::Model, |s| vec![at(s)]).unwrap(), "deterministic");
    }
}

#[test]
fn a_batch_invariant_walk_meets_the_buckets_of_the_first_axis_from_its_end() {
    let mut random = Random(99);
    let (m, n, k) = ([1, 8, 64, 512], [256], [128, 1024]);
    for _ in 0..20 {
        let cells: Vec<u32> = (0..5 * 2 * 3).map(|_| random.below(3) as u32).collect();
        let at = |s: &[i64]| cells[(bucket(&m, s[0]) * 2 + bucket(&n, s[1])) * 3 + bucket(&k, s[2])];
        let builder = TableBuilder::new("gemm", CLASS).axis("m", &m).axis("n", &n).axis("k", &k);
        let entry = known(&[300, 300], &[8, 512], &[0, 1, 0]);
        let table = builder.known(entry).build(ChosenBy::Model, |s| vec![PlanIndex(at(s))]).unwrap();
        for [n, k] in [[1, 1], [1, 2048], [300, 1], [300, 500], [300, 300]] {
            let mut met: Vec<u32> = Vec::new();
            let visit = |cell: CellIndex| {
                met.push(table.cells[cell.0 as usize][0].0);
                Ok::<_, ()>(None::<()>)
            };
            assert_eq!(table.from_largest(&[-5, n, k], visit), Ok(None));
            met.dedup();
            let mut expected: Vec<u32> = [1000, 512, 64, 8, 1].map(|m| table.plans(&[m, n, k])[0].0).to_vec();
            expected.dedup();
            assert_eq!(met, expected, "n {n} k {k}");
        }
    }
}

#[test]
fn neighbouring_buckets_of_a_known_problem_with_the_same_plans_are_one() {
    let builder = TableBuilder::new("gemm", CLASS).axis("m", &[]).axis("n", &[]).axis("k", &[]);
    let builder = builder.known(known(&[8, 8], &[1], &[0, 0])).known(known(&[4, 9], &[1, 2, 4, 8], &[1, 1, 2, 2, 1]));
    let table = builder.regret_percent(2.0).build(ChosenBy::Model, |_| vec![PlanIndex(2)]).unwrap();
    let bounds: Vec<&[i64]> = table.exact.iter().map(|entry| entry.bounds.as_slice()).collect();
    assert_eq!(bounds, [&[2, 8][..], &[]]);
    assert_eq!([1, 2, 3, 8, 9].map(|m| table.plans(&[m, 4, 9])[0].0), [1, 1, 2, 2, 1]);
    assert_eq!(table.tree.regret_percent, Some(2.0));
    assert_eq!(table.cells.len(), 3, "each list once");
    // And as text.
    let text = serde_json::to_string(&table).unwrap();
    assert!(text.contains(r#""tree":{"nodes":[1],"chosen_by":"model","regret_percent":2.0}"#), "{text}");
    assert_eq!(serde_json::from_str::<Dispatch>(&text).unwrap(), table);
}

#[test]
fn what_makes_no_table_is_refused() {
    let build = |builder: TableBuilder| builder.build(ChosenBy::Model, |_| Vec::new()).unwrap_err().to_string();
    let builder = TableBuilder::new("gemm", CLASS);
    assert_eq!(build(builder.clone()), "a table of gemm has 0 axes, must have 1 to 8");
    assert_eq!(build(builder.clone().axis("m", &[8, 8])), "axis m: bounds [8, 8] must ascend");
    let m = builder.axis("m", &[64]);
    let twice = m.clone().axis("n", &[]).known(known(&[1], &[], &[0])).known(known(&[1], &[2], &[0, 1]));
    assert_eq!(build(twice), "key [1]: known twice");
    assert_eq!(build(m.clone().known(known(&[1], &[], &[0]))), "key [1]: needs 0 values, one for each axis after the first");
    assert_eq!(build(m.clone().known(known(&[], &[2], &[0]))), "key []: 1 lists of plans for 2 buckets");
    let fine: Vec<i64> = (1..2000).collect();
    assert!(matches!(
        m.axis("n", &fine).build(ChosenBy::Model, |_| unreachable!("too fine to rank")),
        Err(BuildError::Grid(buckets)) if buckets == [2, 2000]
    ));
}

#[test]
fn tables_that_choosing_could_not_trust_are_refused() {
    type Change = fn(&mut Dispatch);
    fn chain(splits: usize) -> Vec<Node> {
        let split = |at: usize| [Node::Split(0, at as i64, 2 * at as u32 + 1, 2 * at as u32 + 2), Node::Leaf(CellIndex(0))];
        (0..splits).flat_map(split).chain([Node::Leaf(CellIndex(0))]).collect()
    }
    let cases: &[(Change, &str)] = &[
        (|d| d.axes.clear(), "axes: 0 of them, must be 1 to 8"),
        (|d| d.axes = vec!["m".into(); 9], "axes: 9 of them"),
        (|d| d.axes[1] = "m".into(), "axes: \"m\" must be a variable, named once"),
        (|d| d.axes[1] = String::new(), "axes: \"\" must be"),
        (|d| d.exact[0].key.push(1), "exact[[768, 2048, 1]]: the key needs 2 values"),
        (|d| d.exact[0].bounds = vec![8, 8], "exact[[768, 2048]]: bounds [8, 8] must ascend"),
        (|d| d.exact[0].cells.truncate(1), "exact[[768, 2048]]: 1 cells for 2 buckets"),
        (|d| d.exact[0].cells[1] = CellIndex(3), "exact[[768, 2048]]: cell 3 of 3"),
        (|d| d.exact[0].regret_percent = Some(-1.0), "exact[[768, 2048]]: regret of -1 %"),
        (|d| d.exact[0].regret_percent = Some(f64::NAN), "exact[[768, 2048]]: regret of NaN %"),
        (|d| d.exact.push(d.exact[0].clone()), "exact: key [768, 2048] must come before [768, 2048], once"),
        (|d| d.exact.insert(0, Exact { key: vec![768, 2049], ..d.exact[0].clone() }), "exact: key [768, 2048] must come before"),
        (|d| d.tree.regret_percent = Some(f64::INFINITY), "tree: regret of inf %"),
        (|d| d.tree.nodes.clear(), "tree: 0 nodes, must be 1 to 8192"),
        (|d| d.tree.nodes = vec![Node::Leaf(CellIndex(0)); MAX_NODES + 1], "tree: 8193 nodes"),
        (|d| d.tree.nodes[4] = Node::Leaf(CellIndex(3)), "tree: node 4: cell 3 of 3"),
        (|d| d.tree.nodes[1] = Node::Split(3, 1, 2, 3), "tree: node 1: axis 3 of 3"),
        (|d| d.tree.nodes[1] = Node::Split(0, 1, 0, 3), "tree: node 1: child 0 must stand after it, among 5"),
        (|d| d.tree.nodes[1] = Node::Split(0, 1, 2, 1), "tree: node 1: child 1 must stand after it"),
        (|d| d.tree.nodes[1] = Node::Split(0, 1, 2, 5), "tree: node 1: child 5 must stand after it"),
        (|d| d.tree.nodes[1] = Node::Split(0, 1, 2, 4), "tree: node 4 is the child of two nodes"),
        (|d| d.tree.nodes[1] = Node::Split(0, 1, 2, 2), "tree: node 2 is the child of two nodes"),
        (|d| d.tree.nodes.push(Node::Leaf(CellIndex(0))), "tree: node 5 is no child of an earlier one"),
        (|d| d.tree.nodes = chain(MAX_DEPTH + 1), "tree: node 96 is deeper than 48 splits"),
    ];
    for (change, expected) in cases {
        let mut manifest = manifest();
        change(&mut manifest.dispatch[0]);
        let error = manifest.validate("m").unwrap_err().to_string();
        assert_eq!(error.find(expected), Some(format!("m: dispatch[gemm {CLASS}].").len()), "{error}\nexpected {expected}");
    }
    let mut manifest = manifest();
    manifest.dispatch[0].tree.nodes = chain(MAX_DEPTH);
    manifest.validate("m").unwrap();
}
