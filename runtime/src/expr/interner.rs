//! Names as small numbers, the same for every thread.

use std::collections::HashMap;
use std::sync::PoisonError;

// The parent's, so that a test can put a scheduler of its own behind it (`runtime/schedules/`).
use super::sync::RwLock;

/// Names by number and numbers by name. Only ever grows.
pub(super) struct Interner {
    names: RwLock<Names>,
}

#[derive(Default)]
struct Names {
    by_number: Vec<&'static str>,
    numbers: HashMap<&'static str, u32>,
}

impl Interner {
    /// With these names as 0, 1, ...
    pub(super) fn new(first: &[&'static str]) -> Self {
        let mut names = Names::default();
        for name in first {
            names.add(name);
        }
        Interner { names: RwLock::new(names) }
    }

    /// The number of a name, made on first sight. A new name lives as long as the process.
    pub(super) fn number(&self, name: &str) -> u32 {
        if let Some(&number) = self.names.read().unwrap_or_else(PoisonError::into_inner).numbers.get(name) {
            return number;
        }
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been first.
        if let Some(&number) = names.numbers.get(name) {
            return number;
        }
        names.add(name.to_owned().leak())
    }

    /// The name of a number that [`Interner::number`] gave.
    pub(super) fn name(&self, number: u32) -> &'static str {
        self.names.read().unwrap_or_else(PoisonError::into_inner).by_number[number as usize]
    }
}

impl Names {
    fn add(&mut self, name: &'static str) -> u32 {
        let number = self.by_number.len() as u32;
        self.by_number.push(name);
        self.numbers.insert(name, number);
        number
    }
}
