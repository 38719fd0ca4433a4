//! What parent and worker say to each other: one JSON object a line.

use crate::ptx::{PtxOutput, Want};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Compile one kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Comes back in the response.
    pub id: u64,
    /// The kernel, in the text form of Lane IR.
    pub lane_text: String,
    /// Which texts to return.
    pub want: Want,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Response {
    /// The request's.
    pub id: u64,
    /// The result.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// How a request ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// PTX.
    Ok(PtxOutput),
    /// A reason.
    Error(Refusal),
}

/// Why a kernel was refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// The step.
    pub stage: Stage,
    /// `file:line` of the template, or the line of the Lane IR text.
    pub at: String,
    /// The reason.
    pub what: String,
}

/// A step of the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Reading the Lane IR text.
    Parse,
    /// Checking it.
    Verify,
    /// LLVM.
    Llvm,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Parse => "parsing Lane IR",
            Stage::Verify => "verifying Lane IR",
            Stage::Llvm => "LLVM",
        })
    }
}
