//! How much of a plan is tried before it is believed.

/// How much to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Nothing.
    Off,
    /// A few ragged shapes.
    Quick,
    /// 1, S-1, S, S+1 and 2S+1 iterations of the main loop, ragged edges, four schedules.
    Full,
}
