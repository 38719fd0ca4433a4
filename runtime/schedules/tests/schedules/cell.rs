//! The cell of kernels and recipes.

use std::sync::{Arc, PoisonError};

use shuttle::sync::Mutex;
use shuttle::thread;

#[path = "../../../src/engine/once.rs"]
mod once;

use once::Once;

/// So many threads ask; the first `failures` makers fail.
fn ask(threads: usize, failures: usize) {
    let cell = Arc::new(Once::new());
    let tries = Arc::new(Mutex::new(0));
    let asker = |name: usize| {
        let (cell, tries) = (Arc::clone(&cell), Arc::clone(&tries));
        move || {
            let make = || {
                let mut tries = tries.lock().unwrap_or_else(PoisonError::into_inner);
                *tries += 1;
                if *tries <= failures { Err("refused") } else { Ok((name, *tries)) }
            };
            cell.get_or_try(make).copied()
        }
    };
    let threads: Vec<_> = (0..threads).map(|name| thread::spawn(asker(name))).collect();
    let answers: Vec<Result<(usize, usize), &str>> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    let refused = answers.iter().filter(|answer| answer.is_err()).count();
    assert_eq!(refused, failures, "a failure is one asker's: {answers:?}");
    let made: Vec<_> = answers.iter().flatten().collect();
    assert!(made.iter().all(|value| *value == made[0]), "{answers:?}");
    assert_eq!(*tries.lock().unwrap(), failures + 1, "made once: {answers:?}");
}

#[test]
fn every_order_of_two_threads() {
    shuttle::check_dfs(|| ask(2, 0), None);
    shuttle::check_dfs(|| ask(2, 1), None);
}

#[test]
fn failures_are_not_kept() {
    shuttle::check_random(|| ask(3, 0), 2000);
    shuttle::check_random(|| ask(3, 1), 2000);
    shuttle::check_pct(|| ask(3, 2), 2000, 3);
}
