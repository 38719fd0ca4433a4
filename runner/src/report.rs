//! Results in words.

use tilewright_autotune::search::{End, Found};
use tilewright_autotune::task::Task;

/// A task's result, or why it has none, as one line.
pub fn line(task: &Task, result: Result<&Found, &str>) -> String {
    match result {
        Err(why) if why.starts_with(&task.to_string()) => why.to_string(),
        Err(why) => format!("{task}: {why}"),
        Ok(f) => {
            let (point, times) = &f.best;
            let second = f
                .runner_up
                .as_ref()
                .map_or_else(|| "nothing else was timed".to_string(), |(p, t)| format!("then {p} with {}", micros(t.median)));
            let end = if f.end == End::Budget { ", cut short" } else { "" };
            format!(
                "{task}: {point} {} (model {}), {second}; {} trials, {} failed{end}",
                micros(times.median),
                micros(f.modelled),
                f.trials,
                f.failed.len(),
            )
        }
    }
}

fn micros(seconds: f64) -> String {
    format!("{:.2} us", seconds * 1e6)
}
