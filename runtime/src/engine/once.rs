//! Something made when it is first wanted.

use std::sync::PoisonError;

use crate::sync::{Mutex, OnceLock};

/// A value that is made once, by the first thread that wants it; others wait for that one only. A failure is the asker's and
/// is not kept, so the next asker tries again. Reading a value that is there takes no lock.
pub(crate) struct Once<T> {
    value: OnceLock<T>,
    making: Mutex<()>,
}

impl<T> Once<T> {
    pub(crate) fn new() -> Self {
        Once { value: OnceLock::new(), making: Mutex::new(()) }
    }

    pub(crate) fn get_or_try<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        if let Some(value) = self.value.get() {
            return Ok(value);
        }
        // A maker that panicked left nothing behind: what it guards is whose turn it is.
        let _turn = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = self.value.get() {
            return Ok(value);
        }
        let made = make()?;
        Ok(self.value.get_or_init(|| made))
    }
}
