//! How much is tried.

/// How a task is searched. The budgets are a task's own, so that a task ends the same whichever tasks are searched beside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// What is drawn beside the model's best follows from it.
    pub seed: u64,
    /// Points that the model ranks first, at least. The first of each kind of kernel and those drawn come on top.
    pub shortlist: usize,
    /// The same at most, where the model sees little between them.
    pub widest: usize,
    /// Points are within the shortlist up to this part above the model's best: how far off the model may be.
    pub margin: f64,
    /// Points drawn from the others.
    pub drawn: usize,
    /// How often neighbours of the best three are tried, at most: while there are new ones.
    pub steps: usize,
    /// Finalists, at most.
    pub finalists: usize,
    /// Rounds in which finalists take turns.
    pub rounds: u32,
    /// Most trials of a task, those of the log counted.
    pub trials: usize,
    /// Most seconds of runs of a task, those of the log counted and without what is around them: the runs decide, not the clock.
    pub seconds: Option<f64>,
}

/// Raised when a search of the same settings makes other trials.
const REVISION: u32 = 1;
/// Samples after each heat of a race.
pub(super) const HEATS: [u32; 3] = [1, 3, 9];
/// Medians that differ by less than this part are ties, which the smaller id wins: repeats agree.
pub(super) const TIE: f64 = 0.01;
/// Candidates within this part of the best are finalists.
pub(super) const NEAR: f64 = 0.03;
/// Candidates whose neighbours are tried.
pub(super) const PARENTS: usize = 3;

/// Sized on the simulated device (`search/tests.rs`), whose model is off by 15 % a point and whose runs are by 1 %: 199 of 200
/// seeds end within 2 % of the best where the model tells points apart (m = 512 on sm80), 166 where it calls nearly all 368 legal
/// points equal (m = 16, bound by memory), since a quarter of them is tried. There `widest` is what buys more.
impl Default for Settings {
    fn default() -> Self {
        Settings {
            seed: 0,
            shortlist: 32,
            widest: 192,
            margin: 0.5,
            drawn: 4,
            steps: 8,
            finalists: 8,
            rounds: 15,
            trials: 2_000,
            seconds: None,
        }
    }
}

impl Settings {
    /// What logs are headed by: all that decides which trials are made, without the budgets, so that a search can go on with a
    /// larger one.
    pub fn fingerprint(&self) -> String {
        let Settings { seed, shortlist, widest, margin, drawn, steps, finalists, rounds, trials: _, seconds: _ } = *self;
        format!(
            "revision={REVISION} seed={seed} shortlist={shortlist} widest={widest} margin={margin} drawn={drawn} steps={steps} \
             finalists={finalists} rounds={rounds}"
        )
    }
}
