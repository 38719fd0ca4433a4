//! What the model must know of a GPU.
//!
//! | file | holds |
//! |---|---|
//! | `profile` | the rates of a GPU, read from `profiles/*.toml` |
//! | `matching` | which profile is that of a device a driver describes |

mod matching;
mod profile;

pub use matching::{Capabilities, Match};
pub use profile::{DeviceProfile, ProfileError};
