//! Why a problem of an op is done as it is.
//!
//! | file | holds |
//! |---|---|
//! | `work` | what a problem asks for, whoever does it |
//! | `explanation` | the choice, what bounds it, its neighbours and the other families |
//! | `text` | an explanation in words |

mod explanation;
mod text;
mod work;

pub use explanation::{Explanation, IllegalNeighbour, LibraryPlan, Other, Part};
pub use work::Work;
