//! The reviewed list of mutants that no run can tell from their kernel.
//!
//! A line of `equivalent.txt`: `kernel | operator | part of the instruction | why the PTX ISA makes them the same`. A `*`
//! ends a kernel that only has to start like this; ` #2,3` after the part means the second and third of the kernel's
//! instructions that read the same. An entry must match a mutant that survives, and none that does not.

use crate::score::Mutant;

#[derive(Clone, Debug)]
pub struct Equivalent {
    /// In the file.
    pub line: usize,
    kernel: String,
    operator: String,
    part: String,
    /// Which of the instructions that read the same; all if empty.
    which: Vec<usize>,
}

const FILE: &str = include_str!("equivalent.txt");

pub fn list() -> Vec<Equivalent> {
    let entry = |(at, line): (usize, &str)| {
        let fields: Vec<&str> = line.split(" | ").map(str::trim).collect();
        assert!(fields.len() == 4 && fields[3].len() > 20, "line {}: kernel | operator | part | why", at + 1);
        let (part, which) = fields[2].split_once(" #").unwrap_or((fields[2], ""));
        Equivalent {
            line: at + 1,
            kernel: fields[0].into(),
            operator: fields[1].into(),
            part: part.into(),
            which: which.split(',').filter_map(|number| number.parse().ok()).collect(),
        }
    };
    FILE.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#')).map(entry).collect()
}

impl Equivalent {
    pub fn names_kernel(&self, kernel: &str) -> bool {
        self.kernel.strip_suffix('*').map_or(self.kernel == kernel, |start| kernel.starts_with(start))
    }

    pub fn matches(&self, mutant: &Mutant) -> bool {
        self.names_kernel(&mutant.kernel)
            && self.operator == mutant.operator
            && mutant.was.contains(&self.part)
            && (self.which.is_empty() || self.which.contains(&mutant.nth))
    }
}
