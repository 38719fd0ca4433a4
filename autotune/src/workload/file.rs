//! The form of a workload's file.
//!
//! A file is TOML:
//!
//! | key | says |
//! |---|---|
//! | `name`, `source` | what it is called, and where its numbers are from |
//! | `tp` | into how many parts the sizes that tasks `split` are cut, one a GPU; 1 where absent |
//! | `lists` | lists of sizes with names, for use in tasks |
//! | `[[task]]` | one or several problems of a layer |
//!
//! and each task
//!
//! | key | says |
//! |---|---|
//! | `layer` | what the layer is called |
//! | `op`, `class` | as plans spell them |
//! | `sizes` | for each size a number, a list, or the name of a list; lists make a problem of every combination |
//! | `split` | sizes that `tp` divides |
//! | `weight` | calls in one forward step of the model |
//!
//! Sizes are m, n, k and perhaps batch of `gemm`; tokens (rows of all experts), e, n, k of `gemm_grouped`; batch, sq, hq, hkv and
//! perhaps sk of `attention`; batch, sq, hq, hkv, page, max_pages of `attention_decode`; window_left, window_right and chunk of both
//! where the class has them; none of `sparse_network`.

use super::sizes::{MAX_SIZE, TaskError, task};
use crate::task::Task;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Most problems of one task: a slip in a list shall not become a week of tuning.
const MAX_PROBLEMS: usize = 10_000;

/// The problems of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// What it is called.
    pub name: String,
    /// Where its numbers are from.
    pub source: String,
    items: Vec<Item>,
}

/// A problem of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The layer.
    pub layer: String,
    /// The problem.
    pub task: Task,
    /// Calls in one forward step.
    pub weight: f64,
}

/// A file that is no workload.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WorkloadError {
    /// Neither a name nor a file.
    #[error("workload `{name}`: expected one of {known}, or a TOML file")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A file that cannot be read.
    #[error("{file}: {why}")]
    Read {
        /// The file.
        file: String,
        /// What the system says.
        why: String,
    },
    /// Not the form.
    #[error("{file}:{line}: {message}")]
    Form {
        /// The file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A task that is none.
    #[error("{file}: task {number} ({layer}): {what}")]
    Task {
        /// The file.
        file: String,
        /// Which task, from 1.
        number: usize,
        /// Its layer.
        layer: String,
        /// The key, and what is wrong with it.
        what: TaskError,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    source: String,
    #[serde(default = "one")]
    tp: i64,
    #[serde(default)]
    lists: BTreeMap<String, Vec<i64>>,
    task: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    layer: String,
    op: String,
    class: String,
    #[serde(default)]
    sizes: BTreeMap<String, Size>,
    #[serde(default)]
    split: Vec<String>,
    weight: f64,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number, a list of numbers or the name of a list")]
enum Size {
    One(i64),
    Some(Vec<i64>),
    List(String),
}

fn one() -> i64 {
    1
}

impl Workload {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is no workload: file, task and key are named.
    pub fn load(path: &Path) -> Result<Workload, WorkloadError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| WorkloadError::Read { file: file.clone(), why: e.to_string() })?;
        Workload::parse(&file, &text)
    }

    /// Reads the text of a file; `file` is its name in errors.
    ///
    /// # Errors
    /// It is no workload: file, task and key are named.
    pub fn parse(file: &str, text: &str) -> Result<Workload, WorkloadError> {
        let read: File = toml::from_str(text).map_err(|e| WorkloadError::Form {
            file: file.into(),
            line: e.span().map_or(1, |s| text[..s.start.min(text.len())].matches('\n').count() + 1),
            message: e.message().replace('\n', " "),
        })?;
        let mut items = Vec::new();
        for (i, entry) in read.task.iter().enumerate() {
            let problems = problems(&read, entry).map_err(|what| WorkloadError::Task {
                file: file.into(),
                number: i + 1,
                layer: entry.layer.clone(),
                what,
            })?;
            let item = |task| Item { layer: entry.layer.clone(), task, weight: entry.weight };
            items.extend(problems.into_iter().map(item));
        }
        Ok(Workload { name: read.name, source: read.source, items })
    }

    /// Every problem, layer by layer in the order of the file.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// What there is to tune, each problem once, in ascending order, with its calls in one forward step.
    pub fn tasks(&self) -> Vec<(Task, f64)> {
        let mut calls: BTreeMap<&Task, f64> = BTreeMap::new();
        for item in &self.items {
            *calls.entry(&item.task).or_default() += item.weight;
        }
        calls.into_iter().map(|(task, weight)| (task.clone(), weight)).collect()
    }
}

/// The problems of a task.
fn problems(file: &File, entry: &Entry) -> Result<Vec<Task>, TaskError> {
    if !(entry.weight.is_finite() && entry.weight > 0.0) {
        return Err(TaskError::new("weight", format!("{}: expected a number of calls above 0", entry.weight)));
    }
    if file.tp < 1 {
        return Err(TaskError::new("tp", format!("{}: expected a number of GPUs from 1", file.tp)));
    }
    if let Some(stranger) = entry.split.iter().find(|name| !entry.sizes.contains_key(*name)) {
        return Err(TaskError::new("split", format!("`{stranger}` is none of the task's sizes")));
    }
    let mut list = vec![BTreeMap::new()];
    for (name, size) in &entry.sizes {
        let values = values(file, entry, name, size).map_err(|why| TaskError::new(name, why))?;
        if list.len().saturating_mul(values.len()) > MAX_PROBLEMS {
            return Err(TaskError::new(name, format!("more than {MAX_PROBLEMS} problems in one task")));
        }
        let with = |sizes: &BTreeMap<String, i64>, value: i64| {
            let mut sizes = sizes.clone();
            sizes.insert(name.clone(), value);
            sizes
        };
        list = list.iter().flat_map(|sizes| values.iter().map(move |value| with(sizes, *value))).collect();
    }
    list.into_iter().map(|sizes| task(&entry.op, &entry.class, sizes)).collect()
}

/// The values of a size, cut where the task says so.
fn values(file: &File, entry: &Entry, name: &str, size: &Size) -> Result<Vec<i64>, String> {
    let given = match size {
        Size::One(value) => std::slice::from_ref(value),
        Size::Some(values) => values,
        Size::List(list) => file.lists.get(list).ok_or_else(|| {
            let known: Vec<&str> = file.lists.keys().map(String::as_str).collect();
            format!("`{list}` is no list of the file: expected one of {}", known.join(", "))
        })?,
    };
    if given.is_empty() {
        return Err("an empty list makes no problem".into());
    }
    if let Some(bad) = given.iter().find(|v| !(1..=MAX_SIZE).contains(*v)) {
        return Err(format!("{bad}: expected 1 to {MAX_SIZE}"));
    }
    if !entry.split.iter().any(|s| s == name) {
        return Ok(given.to_vec());
    }
    match given.iter().find(|v| *v % file.tp != 0) {
        Some(odd) => Err(format!("{odd} is not divided by tp = {}: leave it out of split", file.tp)),
        None => Ok(given.iter().map(|v| v / file.tp).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
name = "two"
source = "made up"
tp = 2
[lists]
rows = [1, 16]
[[task]]
layer = "up"
op = "gemm"
class = "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0"
sizes = { m = "rows", n = [512, 1024], k = 64 }
split = ["n"]
weight = 3
[[task]]
layer = "again"
op = "gemm"
class = "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0"
sizes = { m = 16, n = 256, k = 64 }
weight = 2
"#;

    #[test]
    fn lists_make_a_problem_of_every_combination_and_equal_ones_are_tuned_once() {
        let w = Workload::parse("two.toml", TEXT).unwrap();
        assert_eq!(w.items().len(), 5);
        let told: Vec<String> = w
            .tasks()
            .iter()
            .map(|(t, calls)| format!("{calls} x{}", t.to_string().split_once("residual=0").unwrap().1))
            .collect();
        assert_eq!(told, ["3 x k=64 m=1 n=256", "3 x k=64 m=1 n=512", "5 x k=64 m=16 n=256", "3 x k=64 m=16 n=512"]);
    }

    #[test]
    fn what_is_wrong_is_named_with_file_task_and_key() {
        for (from, to, says) in [
            ("tp = 2", "tp = 3", "two.toml: task 1 (up): n: 512 is not divided by tp = 3"),
            ("tp = 2", "tp = 0", "two.toml: task 1 (up): tp: 0: expected a number of GPUs"),
            ("tp = 2", "tpp = 2", "two.toml:4: unknown field `tpp`"),
            ("\"rows\"", "\"cols\"", "task 1 (up): m: `cols` is no list of the file: expected one of rows"),
            ("[1, 16]", "[]", "task 1 (up): m: an empty list"),
            ("[1, 16]", "[0]", "task 1 (up): m: 0: expected 1 to"),
            ("[512, 1024]", "true", "two.toml:11: expected a number, a list of numbers or the name of a list"),
            ("k = 64 }\nsplit", "x = 64 }\nsplit", "task 1 (up): k: missing: gemm needs m, n, k"),
            ("k = 64 }\nsplit", "k = 64, x = 1 }\nsplit", "task 1 (up): x: no size of gemm: expected m, n, k, batch"),
            ("split = [\"n\"]", "split = [\"e\"]", "task 1 (up): split: `e` is none"),
            ("op = \"gemm\"", "op = \"gem\"", "task 1 (up): op: `gem`: expected one of gemm, gemm_grouped"),
            ("act=none", "act=tanh", "task 1 (up): class: act = `tanh`"),
            ("weight = 3", "weight = -3", "task 1 (up): weight: -3"),
            ("layer = \"up\"", "layer = 7", "two.toml:8: invalid type"),
        ] {
            assert!(TEXT.contains(from), "{from}");
            let error = Workload::parse("two.toml", &TEXT.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(says), "{error}, expected {says}");
        }
        let gone = Workload::load(Path::new("/nowhere/x.toml")).unwrap_err().to_string();
        assert!(gone.starts_with("/nowhere/x.toml: "), "{gone}");
    }
}
