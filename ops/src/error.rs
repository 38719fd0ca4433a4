//! The two ways a command ends badly, and their exit codes.

use std::fmt;
use std::process::ExitCode;

/// Why a command failed, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fail {
    /// Wrong usage or bad input: exit status 2.
    Usage(String),
    /// A kernel failed to build, verify or run: exit status 1.
    Failed(String),
}

/// What commands return.
pub type Res<T> = Result<T, Fail>;

impl Fail {
    /// The exit status.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Fail::Usage(_) => 2,
            Fail::Failed(_) => 1,
        })
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Fail::Usage(text) | Fail::Failed(text)) = self;
        // One line, whatever a library below had to say.
        f.write_str(&text.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

/// Bad input.
pub fn usage<T>(text: impl Into<String>) -> Res<T> {
    Err(Fail::Usage(text.into()))
}

/// A failure.
pub fn failed<T>(text: impl Into<String>) -> Res<T> {
    Err(Fail::Failed(text.into()))
}

/// Turns any error into bad input.
pub fn bad_input(e: impl fmt::Display) -> Fail {
    Fail::Usage(e.to_string())
}

/// Turns any error into a failure.
pub fn failure(e: impl fmt::Display) -> Fail {
    Fail::Failed(e.to_string())
}
