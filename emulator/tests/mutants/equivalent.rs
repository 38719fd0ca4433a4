//! The reviewed list of mutants that no run can tell from their kernel.
//!
//! A line of `equivalent.txt`: `kernel | operator | part of the line | why the PTX ISA makes them the same`. A `*` ends
//! a kernel or operator that only has to start like this. An entry must match a mutant that survives, and none that
//! does not.

use crate::score::Mutant;

#[derive(Clone, Debug)]
pub struct Equivalent {
    /// In the file.
    pub line: usize,
    kernel: String,
    operator: String,
    part: String,
}

const FILE: &str = include_str!("equivalent.txt");

pub fn list() -> Vec<Equivalent> {
    let entry = |(at, line): (usize, &str)| {
        let fields: Vec<&str> = line.split(" | ").map(str::trim).collect();
        assert!(fields.len() == 4 && fields[3].len() > 20, "line {}: kernel | operator | part | why", at + 1);
        Equivalent { line: at + 1, kernel: fields[0].into(), operator: fields[1].into(), part: fields[2].into() }
    };
    FILE.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#')).map(entry).collect()
}

fn fits(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

impl Equivalent {
    pub fn names_kernel(&self, kernel: &str) -> bool {
        fits(&self.kernel, kernel)
    }

    pub fn matches(&self, mutant: &Mutant) -> bool {
        self.names_kernel(&mutant.kernel) && fits(&self.operator, &mutant.operator) && mutant.was.contains(&self.part)
    }
}
