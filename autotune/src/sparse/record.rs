//! What was chosen for a network on a device: a JSON file to commit.

use super::candidate::Candidate;
use super::search::{Found, Search};
use super::space::Space;
use super::work::{GroupStats, NetworkWork, Precision};
use crate::device::DeviceProfile;
use serde::{Deserialize, Serialize};

/// Version of the form.
const SCHEMA: u32 = 1;
/// How much larger or smaller a scene may be than the one of a record.
const DRIFT: f64 = 2.0;
/// Runners-up of a group that are kept.
const KEPT: usize = 3;

/// A choice, and all that was timed with the seconds of the whole network, best first.
type Timed = (Candidate, Vec<(Candidate, f64)>);

/// Where times come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The model: unfitted.
    Model,
    /// A device.
    Measured,
    /// The simulated device, which is good for tests only.
    Simulated,
}

/// The plan of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of the form.
    pub schema: u32,
    /// Network.
    pub network: String,
    /// What its features are multiplied as.
    pub precision: Precision,
    /// Fingerprint of its layers.
    pub shape: String,
    /// Device profile.
    pub device: String,
    /// Where times come from.
    pub source: Source,
    /// Fingerprint of the statistics of the scene.
    pub scene: String,
    /// Time of the whole network, microseconds.
    pub microseconds: f64,
    /// Group by group.
    pub groups: Vec<GroupRecord>,
}

/// The choice of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRecord {
    /// Group.
    pub group: String,
    /// Rows read, rows written, pairs of the scene.
    pub size: [u64; 3],
    /// The candidate.
    pub choice: String,
    /// Time of the whole network when the group was decided, microseconds; none where it was not timed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub microseconds: Option<f64>,
    /// What came next.
    pub runners_up: Vec<RunnerUp>,
}

/// A candidate that was not chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunnerUp {
    /// The candidate.
    pub id: String,
    /// Time of the whole network with it, microseconds.
    pub microseconds: f64,
}

/// How a record fits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fit {
    /// The scene it was made with.
    Same,
    /// Another scene, whose sizes differ at most by this factor.
    Near(f64),
}

/// A record that does not serve.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// No record.
    #[error("not a tuning record: {0}")]
    Form(String),
    /// Of another version.
    #[error("a record of version {found}, this is version {expected}: tune again")]
    Version {
        /// In the file.
        found: u32,
        /// Here.
        expected: u32,
    },
    /// Of something else.
    #[error("the record is of another {what}: {found}, not {expected}")]
    Foreign {
        /// What differs.
        what: &'static str,
        /// In the record.
        found: String,
        /// Now.
        expected: String,
    },
    /// Of the same network as it was.
    #[error("the record is of {network} as it was ({found}): its layers or maps have changed since ({expected}); tune again")]
    Changed {
        /// Network.
        network: String,
        /// Fingerprint in the record.
        found: String,
        /// Fingerprint now.
        expected: String,
    },
    /// A choice that is none any more.
    #[error("the record is stale: {id} of group {group}: {why}; tune again")]
    Choice {
        /// Group.
        group: String,
        /// Candidate.
        id: String,
        /// Why.
        why: String,
    },
    /// A scene of another size.
    #[error(
        "the record is stale: group {group} was tuned at {what} = {found}, now it is {now}, beyond a factor of {DRIFT}; tune again"
    )]
    Drift {
        /// Group.
        group: String,
        /// n, m or pairs.
        what: &'static str,
        /// In the record.
        found: u64,
        /// Now.
        now: u64,
    },
}

impl Record {
    /// The record of a search.
    pub fn found(search: &Search, found: &Found, source: Source) -> Record {
        let choice: Vec<Candidate> = found.groups.iter().map(|g| g.choice).collect();
        let seconds = found.seconds.unwrap_or_else(|| search.model.network(search.work, &choice));
        let timed = found.groups.iter().map(|g| (g.choice, g.timed.clone())).collect::<Vec<_>>();
        Record::new(search, source, seconds, &timed)
    }

    /// The record of what the model chooses.
    pub fn modelled(search: &Search) -> Record {
        let (work, choice) = (search.work, search.modelled());
        let seconds = search.model.network(work, &choice);
        let timed = |g: usize| {
            let chosen = search.model.group(work, g, &choice[g]).chosen_seconds();
            let whole = |c: &(Candidate, f64)| (c.0, seconds - chosen + c.1);
            (choice[g], search.ranked(g).iter().map(whole).collect())
        };
        Record::new(search, Source::Model, seconds, &(0..choice.len()).map(timed).collect::<Vec<_>>())
    }

    fn new(search: &Search, source: Source, seconds: f64, timed: &[Timed]) -> Record {
        let work = search.work;
        let group = |(g, (choice, timed)): (&GroupStats, &Timed)| GroupRecord {
            group: g.name.clone(),
            size: size(g),
            choice: choice.to_string(),
            microseconds: timed.iter().find(|t| t.0 == *choice).map(|t| micros(t.1)),
            runners_up: {
                let others = timed.iter().filter(|t| t.0 != *choice).take(KEPT);
                others.map(|t| RunnerUp { id: t.0.to_string(), microseconds: micros(t.1) }).collect()
            },
        };
        Record {
            schema: SCHEMA,
            network: work.network.clone(),
            precision: work.precision,
            shape: work.shape_fingerprint(),
            device: search.model.device.name.clone(),
            source,
            scene: work.stats_fingerprint(),
            microseconds: micros(seconds),
            groups: work.groups.iter().zip(timed).map(group).collect(),
        }
    }

    /// Its text: JSON, a line for each number, always the same.
    pub fn to_json(&self) -> String {
        // Numbers, strings and lists: there is nothing that cannot be written.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Reads a record; what it is of is looked at by [`Record::choices`].
    pub fn from_json(text: &str) -> Result<Record, RecordError> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let form = |e: serde_json::Error| RecordError::Form(e.to_string());
        let Version { schema } = serde_json::from_str(text).map_err(form)?;
        if schema != SCHEMA {
            return Err(RecordError::Version { found: schema, expected: SCHEMA });
        }
        serde_json::from_str(text).map_err(form)
    }

    /// The candidates of a network's groups, where the record is of this network, device and a scene of about this size.
    pub fn choices(
        &self,
        work: &NetworkWork,
        device: &DeviceProfile,
        space: &Space,
    ) -> Result<(Vec<Candidate>, Fit), RecordError> {
        let names = [
            ("network", self.network.clone(), work.network.clone()),
            ("precision", self.precision.name().into(), work.precision.name().into()),
            ("device", self.device.clone(), device.name.clone()),
        ];
        for (what, found, expected) in names {
            if found != expected {
                return Err(RecordError::Foreign { what, found, expected });
            }
        }
        let expected = work.shape_fingerprint();
        if self.shape != expected || self.groups.len() != work.groups.len() {
            return Err(RecordError::Changed { network: work.network.clone(), found: self.shape.clone(), expected });
        }
        let (mut choice, mut apart) = (Vec::new(), 1.0f64);
        for (i, (r, g)) in self.groups.iter().zip(&work.groups).enumerate() {
            if r.group != g.name {
                return Err(RecordError::Foreign { what: "group", found: r.group.clone(), expected: g.name.clone() });
            }
            for (what, (found, now)) in ["n", "m", "pairs"].into_iter().zip(r.size.into_iter().zip(size(g))) {
                let ratio = (now.max(found) as f64 + 1.0) / (now.min(found) as f64 + 1.0);
                if ratio > DRIFT {
                    return Err(RecordError::Drift { group: g.name.clone(), what, found, now });
                }
                apart = apart.max(ratio);
            }
            let (legal, illegal) = space.candidates(work, i);
            let Some(c) = legal.into_iter().find(|c| c.to_string() == r.choice) else {
                let why = illegal.into_iter().find(|(c, _)| c.to_string() == r.choice);
                let why = why.map_or_else(|| "there is no such candidate".into(), |(_, why)| why.to_string());
                return Err(RecordError::Choice { group: g.name.clone(), id: r.choice.clone(), why });
            };
            choice.push(c);
        }
        let same = self.scene == work.stats_fingerprint();
        Ok((choice, if same { Fit::Same } else { Fit::Near(apart) }))
    }
}

fn size(g: &GroupStats) -> [u64; 3] {
    [g.forward.n, g.forward.m, g.pairs()]
}

/// To a tenth of a microsecond: less is noise, and makes differences nobody reads.
fn micros(seconds: f64) -> f64 {
    (seconds * 1e7).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::cost::Model;
    use crate::sparse::log::TrialLog;
    use crate::sparse::samples::{KITTI, minkunet, small};
    use crate::sparse::search::Settings;
    use crate::sparse::simulate::{Hidden, Simulated};

    fn search(work: &NetworkWork) -> Search<'_> {
        let device = &DeviceProfile::all()[0];
        Search::new(work, Model { device }, Space::new(device.arch), Settings::default()).unwrap()
    }

    #[test]
    fn a_record_is_the_same_text_every_time_and_reads_back() {
        let work = minkunet(&KITTI, 1.0, Precision::F16);
        let s = search(&work);
        let record = Record::modelled(&s);
        let text = record.to_json();
        assert_eq!(text, Record::modelled(&s).to_json());
        assert_eq!(Record::from_json(&text).unwrap(), record);
        assert_eq!(record.choices(&work, s.model.device, &s.space).unwrap(), (s.modelled(), Fit::Same));
        assert!(record.groups.iter().all(|g| g.runners_up.len() == 3 && g.microseconds.is_some()));
        let small = small();
        let s = search(&small);
        let found = s.run(&mut Simulated::new(s.model, &small, 1, Hidden::default()), &mut TrialLog::in_memory()).unwrap();
        let record = Record::found(&s, &found, Source::Simulated);
        assert_eq!(Record::from_json(&record.to_json()).unwrap(), record);
        let chosen: Vec<_> = found.groups.iter().map(|g| g.choice).collect();
        assert_eq!(record.choices(&small, s.model.device, &s.space).unwrap(), (chosen, Fit::Same));
    }

    #[test]
    fn foreign_and_stale_records_are_refused_with_the_reason() {
        let work = small();
        let s = search(&work);
        let record = Record::modelled(&s);
        let says = |record: &Record, work: &NetworkWork, why: &str| {
            let error = record.choices(work, s.model.device, &s.space).unwrap_err().to_string();
            assert!(error.contains(why), "{error}, expected {why}");
        };
        let of = |change: &dyn Fn(&mut Record)| {
            let mut r = record.clone();
            change(&mut r);
            r
        };
        let now = |change: &dyn Fn(&mut NetworkWork)| {
            let mut w = work.clone();
            change(&mut w);
            w
        };
        says(&of(&|r| r.network = "other".into()), &work, "of another network: other, not small");
        says(&of(&|r| r.device = "A100".into()), &work, "of another device: A100, not H200");
        says(&record, &now(&|w| w.precision = Precision::Bf16), "of another precision: f16, not bf16");
        says(&record, &now(&|w| w.layers[1].cin = 48), "its layers or maps have changed since");
        says(&of(&|r| r.groups[0].choice = "implicit/mma_1x1x1_s1".into()), &work, "there is no such candidate");
        let fused = |r: &mut Record| r.groups[0].choice = "gather_scatter_e50_t32/mma_32x64x32_s3".into();
        says(&of(&fused), &work, "no shorter than those of 32; tune again");
        says(&of(&|r| r.groups[2].size[1] *= 3), &work, "group strided k2 s2 at 1 was tuned at m = 180648, now it is 60216");
        // A scene a little larger is served, and said to be another.
        let larger = now(&|w| {
            let g = &mut w.groups[0];
            (g.forward.n, g.forward.m) = (g.forward.n + 9_000, g.forward.m + 9_000);
        });
        let (choice, fit) = record.choices(&larger, s.model.device, &s.space).unwrap();
        assert!(choice == s.modelled() && matches!(fit, Fit::Near(f) if (1.09..1.11).contains(&f)));
        let text = record.to_json();
        let error = |t: &str| Record::from_json(t).unwrap_err().to_string();
        assert!(error(&text.replace("\"schema\": 1", "\"schema\": 7")).contains("version 7"));
        assert!(error(&text.replace("\"device\"", "\"gpu\"")).contains("unknown field `gpu`"));
        assert!(error("[]").contains("not a tuning record"));
    }
}
