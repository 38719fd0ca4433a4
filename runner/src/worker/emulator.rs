//! The emulator: its verdict is real, its times are the model's.

use super::{Bench, Found};
use crate::verify::verify;
use crate::wire::Ready;
use tilewright_autotune::search::{Failure, Sample};
use tilewright_ops::level::Level;

pub(super) struct Emulator;

impl Bench for Emulator {
    fn ready(&self) -> Ready {
        let notes = vec!["times are the model's: the emulator measures nothing".to_string()];
        Ready { name: "emulator".into(), capabilities: None, notes }
    }

    fn check(&mut self, found: &Found<'_>) -> Result<(), Failure> {
        verify(found.pack.folder(), found.entry.plan, Level::Quick).map(drop).map_err(|e| Failure::Wrong(e.to_string()))
    }

    fn time(&mut self, found: &Found<'_>, _: u32, count: u32) -> Result<Vec<Sample>, Failure> {
        Ok(vec![Sample::of(found.entry.model_seconds); count as usize])
    }
}
