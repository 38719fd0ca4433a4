//! The tasks that are asked for.

use crate::cli::TuneArgs;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tilewright_autotune::task::Task;
use tilewright_autotune::workload::{self, Workload};
use tilewright_ops as ops;
use tilewright_ops::error::{Res, bad_input, usage};

/// Most tasks of one command: a slip in a list shall not become a week of tuning.
const MOST: usize = 10_000;

/// Those of a workload, or of an op at sizes; by ascending id.
pub fn tasks(args: &TuneArgs) -> Res<Vec<Task>> {
    let mut tasks: Vec<Task> = match (&args.workload, &args.op) {
        (Some(name), op) => {
            let path = Path::new(name);
            let loaded = if path.extension().is_some_and(|e| e == "toml") { Workload::load(path) } else { Workload::named(name) };
            let all = loaded.map_err(bad_input)?.tasks();
            let (tuned, others): (Vec<Task>, Vec<Task>) = all
                .into_iter()
                .map(|t| t.0)
                .filter(|t| op.as_ref().is_none_or(|o| *o == t.op))
                .partition(|t| t.op != "sparse_network");
            if !others.is_empty() {
                eprintln!(
                    "note: {} sparse networks are left out: `gen explain sparse_network` says what is chosen for one",
                    others.len()
                );
            }
            tuned
        }
        (None, Some(op)) => sized(op, args)?,
        (None, None) => return usage("what to tune is missing: an op with --set sizes, or --workload NAME"),
    };
    tasks.sort_by_cached_key(Task::to_string);
    tasks.dedup();
    if tasks.is_empty() {
        return usage("no task is asked for");
    }
    Ok(tasks)
}

/// An op at every combination of sizes.
fn sized(op: &str, args: &TuneArgs) -> Res<Vec<Task>> {
    let family = ops::find(op)?;
    let class = args.class.as_deref().unwrap_or(family.class);
    let mut all = vec![BTreeMap::new()];
    let mut seen = BTreeSet::new();
    // `--set m=16,64 n=4096` and `--set m=16,64 --set n=4096` are the same.
    for text in &args.set {
        let (name, list) = text.split_once('=').ok_or_else(|| bad_input(format!("--set {text}: expected size=number,number")))?;
        if !seen.insert(name) {
            return usage(format!("--set {name} is given twice: sizes of one kind are a list, {name}=1,2"));
        }
        let mut more = Vec::new();
        for value in list.split(',') {
            let value: i64 = value.trim().parse().map_err(|_| bad_input(format!("--set {text}: `{value}` is no number")))?;
            more.extend(all.iter().map(|sizes: &BTreeMap<String, i64>| {
                let mut sizes = sizes.clone();
                sizes.insert(name.to_string(), value);
                sizes
            }));
        }
        if more.len() > MOST {
            return usage(format!("--set {text}: more than {MOST} tasks"));
        }
        all = more;
    }
    all.into_iter().map(|sizes| workload::task(op, class, sizes).map_err(|e| bad_input(format!("{op}: {e}")))).collect()
}
