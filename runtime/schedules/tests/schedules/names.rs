//! Names of variables as numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use shuttle::{sync, thread};

#[path = "../../../src/expr/interner.rs"]
mod interner;

use interner::Interner;

#[test]
fn threads_that_meet_new_names_agree_on_their_numbers() {
    let work = || {
        let names = Arc::new(Interner::new(&["m", "n"]));
        let orders = [["x", "m", "y"], ["y", "x", "n"], ["z", "y", "x"]];
        let threads = orders.map(|order| {
            let names = Arc::clone(&names);
            thread::spawn(move || {
                order.map(|name| {
                    let number = names.number(name);
                    assert_eq!(names.name(number), name);
                    (name, number)
                })
            })
        });
        let mut known = BTreeMap::from([("m", 0), ("n", 1)]);
        for (name, number) in threads.into_iter().flat_map(|t| t.join().unwrap()) {
            assert_eq!(*known.entry(name).or_insert(number), number, "{name}");
        }
        let mut numbers: Vec<u32> = known.values().copied().collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
    };
    shuttle::check_random(work, 2000);
    shuttle::check_pct(work, 1000, 3);
}
