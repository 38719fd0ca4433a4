//! The mbarrier state machine (PTX ISA 9.7.13.15).

use thiserror::Error;

/// Limits of the counts an mbarrier holds.
pub const MAX_COUNT: u32 = (1 << 20) - 1;

/// An mbarrier object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MBarrier {
    /// Phases completed so far.
    pub phase: u64,
    /// Arrivals the current phase still waits for.
    pub pending: u32,
    /// Arrivals each phase expects.
    pub expected: u32,
    /// Transaction bytes the current phase still waits for; negative when they came before they were expected.
    pub tx: i64,
    /// Completed phases when a wait last succeeded.
    pub seen: u64,
}

/// Misuse of an mbarrier.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Misuse {
    #[error("{given} arrivals, but the phase expects only {pending} more")]
    Underflow { given: u32, pending: u32 },
    #[error("the transaction count {tx} is beyond the limit of {MAX_COUNT} bytes")]
    TxRange { tx: i64 },
    #[error("count {count} is not between 1 and {MAX_COUNT}")]
    Count { count: u32 },
    #[error("arrive.noComplete would complete the phase")]
    NoComplete,
}

impl MBarrier {
    pub fn new(count: u32) -> Result<Self, Misuse> {
        if count == 0 || count > MAX_COUNT {
            return Err(Misuse::Count { count });
        }
        Ok(MBarrier { phase: 0, pending: count, expected: count, tx: 0, seen: 0 })
    }

    /// The opaque state token: the phase it belongs to above the pending count.
    pub fn state(&self) -> u64 {
        (self.phase << 20) | u64::from(self.pending)
    }

    pub fn pending_of_state(state: u64) -> u32 {
        (state & u64::from(MAX_COUNT)) as u32
    }

    fn settle(&mut self) -> bool {
        let complete = self.pending == 0 && self.tx == 0;
        if complete {
            self.phase += 1;
            self.pending = self.expected;
        }
        complete
    }

    /// Whether the phase completed.
    pub fn arrive(&mut self, count: u32) -> Result<bool, Misuse> {
        if count == 0 || count > MAX_COUNT {
            return Err(Misuse::Count { count });
        }
        if count > self.pending {
            return Err(Misuse::Underflow { given: count, pending: self.pending });
        }
        self.pending -= count;
        Ok(self.settle())
    }

    pub fn arrive_no_complete(&mut self, count: u32) -> Result<(), Misuse> {
        if count == 0 || count >= self.pending && self.tx == 0 {
            return Err(Misuse::NoComplete);
        }
        self.arrive(count).map(|_| ())
    }

    /// [`MBarrier::arrive_drop`] that must not complete the phase.
    pub fn arrive_drop_no_complete(&mut self, count: u32) -> Result<(), Misuse> {
        if count == 0 || count >= self.pending && self.tx == 0 {
            return Err(Misuse::NoComplete);
        }
        self.arrive_drop(count).map(|_| ())
    }

    /// Arrives, and expects fewer arrivals from the next phase on.
    pub fn arrive_drop(&mut self, count: u32) -> Result<bool, Misuse> {
        if count > self.pending || count > self.expected {
            return Err(Misuse::Underflow { given: count, pending: self.pending });
        }
        self.expected -= count;
        self.arrive(count)
    }

    pub fn expect_tx(&mut self, bytes: u32) -> Result<(), Misuse> {
        self.move_tx(i64::from(bytes))
    }

    /// Whether the phase completed.
    pub fn complete_tx(&mut self, bytes: u32) -> Result<bool, Misuse> {
        self.move_tx(-i64::from(bytes))?;
        Ok(self.settle())
    }

    /// One more arrival is expected in this phase, as `cp.async.mbarrier.arrive` without `.noinc` asks.
    pub fn expect_arrival(&mut self, count: u32) -> Result<(), Misuse> {
        if self.pending + count > MAX_COUNT {
            return Err(Misuse::Count { count: self.pending + count });
        }
        self.pending += count;
        Ok(())
    }

    fn move_tx(&mut self, by: i64) -> Result<(), Misuse> {
        let tx = self.tx + by;
        if tx.abs() > i64::from(MAX_COUNT) {
            return Err(Misuse::TxRange { tx });
        }
        self.tx = tx;
        Ok(())
    }

    /// Whether the phase with this parity, the current one or the one before, has completed.
    pub fn parity_done(&self, parity: u32) -> bool {
        self.phase & 1 != u64::from(parity & 1)
    }

    /// Whether the phase of a state token has completed.
    pub fn state_done(&self, state: u64) -> bool {
        self.phase > state >> 20
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_barrier_has_only_the_previous_phase_behind_it() -> Result<(), Misuse> {
        let barrier = MBarrier::new(1)?;
        assert!(barrier.parity_done(1));
        assert!(!barrier.parity_done(0));
        Ok(())
    }

    #[test]
    fn a_phase_needs_arrivals_and_bytes() -> Result<(), Misuse> {
        let mut barrier = MBarrier::new(2)?;
        barrier.expect_tx(96)?;
        assert!(!barrier.arrive(1)?);
        assert!(!barrier.complete_tx(96)?);
        assert!(barrier.arrive(1)?);
        assert!(barrier.parity_done(0));
        assert_eq!(barrier.pending, 2);
        Ok(())
    }

    #[test]
    fn bytes_may_come_before_they_are_expected() -> Result<(), Misuse> {
        let mut barrier = MBarrier::new(1)?;
        assert!(!barrier.complete_tx(32)?);
        assert_eq!(barrier.tx, -32);
        barrier.expect_tx(32)?;
        assert!(barrier.arrive(1)?);
        Ok(())
    }

    #[test]
    fn misuse_is_named() -> Result<(), Misuse> {
        let mut barrier = MBarrier::new(1)?;
        assert_eq!(barrier.arrive(2), Err(Misuse::Underflow { given: 2, pending: 1 }));
        assert_eq!(barrier.arrive_no_complete(1), Err(Misuse::NoComplete));
        assert!(matches!(barrier.expect_tx(1 << 20), Err(Misuse::TxRange { .. })));
        assert_eq!(MBarrier::new(0), Err(Misuse::Count { count: 0 }));
        Ok(())
    }

    #[test]
    fn dropping_shrinks_later_phases() -> Result<(), Misuse> {
        let mut barrier = MBarrier::new(2)?;
        assert!(!barrier.arrive_drop(1)?);
        assert!(barrier.arrive(1)?);
        assert_eq!(barrier.pending, 1);
        Ok(())
    }

    #[test]
    fn tokens_name_their_phase() -> Result<(), Misuse> {
        let mut barrier = MBarrier::new(1)?;
        let state = barrier.state();
        assert!(!barrier.state_done(state));
        barrier.arrive(1)?;
        assert!(barrier.state_done(state));
        assert_eq!(MBarrier::pending_of_state(state), 1);
        Ok(())
    }
}
