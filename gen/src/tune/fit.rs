//! `gen tune --fit`: coefficients of the model from logs.

use super::told;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tilewright_autotune::DeviceProfile;
use tilewright_autotune::log::{self, Outcome, Source, Trial};
use tilewright_autotune::model::fit;
use tilewright_autotune::search::{Sample, Times};
use tilewright_autotune::space::Point;
use tilewright_autotune::task::Task;
use tilewright_ops::error::{Res, bad_input, failure};
use tilewright_runner::tune::{self, Spaces};

/// Prints the table for the device's profile, and says how good it is. Nothing is written: the profile is a file to edit.
pub fn fit(logs: &[PathBuf]) -> Res<()> {
    let merged = log::merge(logs).map_err(bad_input)?;
    if merged.identity.source != Source::Measured {
        eprintln!("note: the times of these logs are {}: what is fitted to them says nothing of a GPU", merged.identity.source);
    }
    let profile = tune::profile(&merged.identity).map_err(told)?;
    let mut samples: BTreeMap<(Task, Point), Vec<Sample>> = BTreeMap::new();
    for entry in merged.entries {
        let task = entry.trial.task().clone();
        match (entry.trial, entry.outcome) {
            (Trial::Times { point, .. }, Outcome::Samples(list)) => samples.entry((task, point)).or_default().extend(list),
            (Trial::Interleaved { points, .. }, Outcome::Turns(turns)) => {
                for (point, list) in points.into_iter().zip(turns) {
                    samples.entry((task.clone(), point)).or_default().extend(list.unwrap_or_default());
                }
            }
            _ => {}
        }
    }
    let arch = merged.identity.target.parse().map_err(bad_input)?;
    let mut spaces = Spaces::new(arch);
    for (task, _) in samples.keys() {
        spaces.of(task).map_err(failure)?;
    }
    let trials: Vec<fit::Trial> = samples
        .iter()
        .filter_map(|((task, point), list)| {
            let seconds = Times::of(list)?.median;
            Some(fit::Trial { task: task.clone(), point: point.clone(), seconds, device: profile.name.clone() })
        })
        .collect();
    let model = |device: &DeviceProfile, t: &fit::Trial| {
        spaces.get(&t.task).map_or(f64::NAN, |space| space.estimate(device, &t.task, &t.point, None).seconds)
    };
    let report = fit::run(profile, &trials, &model).map_err(failure)?;
    eprint!("{report}");
    print!("{}", report.toml());
    Ok(())
}
