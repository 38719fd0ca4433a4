//! What `runtime/src/sync.rs` gives, seen by shuttle's scheduler.

use shuttle::sync::atomic::{AtomicBool, Ordering};

pub use shuttle::sync::Mutex;

/// The standard library's, with a point before each access at which another thread may go on. Shuttle has none of its own.
pub struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    touched: AtomicBool,
}

impl<T> OnceLock<T> {
    /// Without a value.
    #[allow(clippy::new_without_default)] // as the standard library's is used
    pub fn new() -> Self {
        OnceLock { value: std::sync::OnceLock::new(), touched: AtomicBool::new(false) }
    }

    /// The value, if there is one.
    pub fn get(&self) -> Option<&T> {
        self.touched.load(Ordering::SeqCst);
        self.value.get()
    }

    /// The value, made where there is none. `make` must not wait for another thread.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        self.touched.store(true, Ordering::SeqCst);
        self.value.get_or_init(make)
    }
}
