//! From lines of PTX to lines of the template that wrote them.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// A line of a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceLoc {
    /// The file, as its `.file` directive names it: `templates/src/gemm/sm90.rs`.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
}

impl std::fmt::Display for SourceLoc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// The lines of one PTX module that matter for blame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PtxLines {
    files: HashMap<u32, String>,
    /// PTX line of each `.loc`, its file and line; in order.
    locs: Vec<(u32, u32, u32)>,
    /// PTX line and name of each function or entry; in order.
    functions: Vec<(u32, String)>,
    entries: Vec<String>,
    /// PTX line of each `wgmma.mma_async`.
    wgmmas: Vec<u32>,
    /// First and last line of each backward branch's range.
    loops: Vec<(u32, u32)>,
}

impl PtxLines {
    /// Scans PTX text. Understands what LLVM and nvcc write, one statement a line; anything else is passed over.
    pub fn scan(ptx: &str) -> Self {
        let mut lines = PtxLines::default();
        let mut labels: HashMap<&str, u32> = HashMap::new();
        for (number, text) in (1u32..).zip(ptx.lines()) {
            let text = text.split("//").next().unwrap_or("").trim();
            if let Some(rest) = text.strip_prefix(".file") {
                lines.file(rest);
            } else if let Some(rest) = text.strip_prefix(".loc") {
                let mut numbers = rest.split_whitespace().map(|w| w.trim_end_matches(',').parse().ok());
                if let (Some(Some(file)), Some(Some(line))) = (numbers.next(), numbers.next()) {
                    lines.locs.push((number, file, line));
                }
            } else if let Some((name, entry)) = function_name(text) {
                labels.clear();
                lines.functions.push((number, name.to_owned()));
                if entry {
                    lines.entries.push(name.to_owned());
                }
            } else if let Some(label) = text.split(':').next().filter(|l| l.starts_with('$') && text.contains(':')) {
                labels.insert(label, number);
            }
            if text.contains("wgmma.mma_async") {
                lines.wgmmas.push(number);
            }
            if let Some(start) = branch_target(text).and_then(|label| labels.get(label)) {
                lines.loops.push((*start, number));
            }
        }
        lines
    }

    fn file(&mut self, rest: &str) {
        let mut parts = rest.splitn(2, '"');
        let number = parts.next().and_then(|n| n.trim().parse().ok());
        let name = parts.next().and_then(|n| n.split('"').next());
        if let (Some(number), Some(name)) = (number, name) {
            self.files.insert(number, name.to_owned());
        }
    }

    /// Names of the module's entries.
    pub fn entries(&self) -> &[String] {
        &self.entries
    }

    /// The template line of a line of PTX: its nearest preceding `.loc` in the same function. Line 0 marks what the
    /// compiler made up, and is passed over.
    pub fn source(&self, ptx_line: u32) -> Option<SourceLoc> {
        let start = self.functions.iter().rev().find(|(line, _)| *line <= ptx_line).map_or(0, |(line, _)| *line);
        let before = self.locs.partition_point(|(at, ..)| *at <= ptx_line);
        let (_, file, line) =
            self.locs[..before].iter().rev().take_while(|(at, ..)| *at >= start).find(|(_, _, line)| *line > 0)?;
        Some(SourceLoc { file: self.files.get(file)?.clone(), line: *line })
    }

    /// The PTX line of the first wgmma in the function's loop that has the most of them, or else of its first wgmma, or
    /// the module's (it may be in a called function): where to point when ptxas names a function but no line.
    pub fn main_wgmma(&self, function: &str) -> Option<u32> {
        let at = self.functions.iter().position(|(_, name)| name == function)?;
        let start = self.functions[at].0;
        let end = self.functions.get(at + 1).map_or(u32::MAX, |(line, _)| *line);
        let within = |from: u32, to: u32| self.wgmmas.iter().copied().filter(move |line| (from..=to).contains(line));
        let loops = self.loops.iter().filter(|(from, to)| *from >= start && *to < end);
        let busiest = loops.max_by_key(|(from, to)| (within(*from, *to).count(), std::cmp::Reverse(to - from)));
        busiest
            .and_then(|(from, to)| within(*from, *to).next())
            .or_else(|| within(start, end).next())
            .or(self.wgmmas.first().copied())
    }
}

/// The name in `.visible .entry k(` or `.func (.param ..) f(`, and whether it is an entry.
fn function_name(text: &str) -> Option<(&str, bool)> {
    if !text.starts_with('.') {
        return None;
    }
    let (rest, entry) = match (text.split_once(".entry"), text.split_once(".func")) {
        (Some((_, rest)), _) => (rest, true),
        (None, Some((_, rest))) => (rest, false),
        (None, None) => return None,
    };
    let rest = rest.trim_start();
    // A function's results stand in parentheses before its name.
    let rest = if rest.starts_with('(') { rest.split_once(')')?.1.trim_start() } else { rest };
    let name = rest.split(|c: char| c == '(' || c.is_whitespace()).next()?;
    (!name.is_empty()).then_some((name, entry))
}

/// The label of a `bra` statement, predicated or not.
fn branch_target(text: &str) -> Option<&str> {
    let at = text.find("bra")?;
    let before = text[..at].trim_end();
    if !(before.is_empty() || before.starts_with('@')) {
        return None;
    }
    text[at..].split_whitespace().nth(1).map(|label| label.trim_end_matches(';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTX: &str = r#"
.version 8.0
.func (.param .align 4 .b8 r[4]) helper(.param .b32 x)
{
	.loc	1 7 0
	wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {a}, b, c, 1, 1, 1, 0, 0;
}
.visible .entry k(
	.param .u64 p
)
{
	wgmma.mma_async.a;
	.loc	2 42 9                          // b.rs:42:9
$L__BB0_1: // %loop
	wgmma.mma_async.b;
	.loc	2 0 9
	@%p1 bra 	$L__BB0_1;
	.loc 1 50 5, function_name $L__info_string0, inlined_at 1 60 3
	bra.uni $L__BB0_3;
$L__BB0_3:
	ret;
}
	.file	1 "templates/src/gemm/mod.rs"
	.file	2 "templates/src/gemm/b.rs"
"#;

    #[test]
    fn nearest_loc_in_the_same_function() {
        let lines = PtxLines::scan(PTX);
        let at = |line| lines.source(line).map(|s| s.to_string());
        assert_eq!(at(6).as_deref(), Some("templates/src/gemm/mod.rs:7"));
        assert_eq!(at(12), None);
        assert_eq!(at(15).as_deref(), Some("templates/src/gemm/b.rs:42"));
        assert_eq!(at(17).as_deref(), Some("templates/src/gemm/b.rs:42"));
        assert_eq!(at(19).as_deref(), Some("templates/src/gemm/mod.rs:50"));
        assert_eq!(lines.entries(), ["k"]);
    }

    #[test]
    fn main_wgmma_is_in_the_loop() {
        let lines = PtxLines::scan(PTX);
        assert_eq!(lines.main_wgmma("k"), Some(15));
        assert_eq!(lines.main_wgmma("helper"), Some(6));
        assert_eq!(lines.main_wgmma("other"), None);
    }
}
