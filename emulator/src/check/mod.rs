//! What orders accesses to memory, and which are not in order: races and missing proxy fences.
//!
//! The [`Checker`] of a cluster keeps, for each warp and each asynchronous operation, a clock of what happened before
//! it ([`clock`]), moves clocks along with every barrier, fence, wait and strong access, and looks at every access with
//! the last ones to the same bytes ([`shadow`], [`history`]) beside it. A pair that conflicts and is not in order is a
//! race in every schedule, also in one in which the values come out right ([`rules`]). Clusters on different threads
//! never synchronise, so there only what they both touched counts ([`across`]).
//!
//! Lanes of a warp share a clock; what they do to each other in shared memory is looked at apart ([`lanes`]).

mod across;
mod checker;
mod clock;
mod history;
mod lanes;
mod places;
mod rules;
mod shadow;

pub use across::{Across, Crossing, Mark};
pub use checker::{Act, Actor, Checker, GroupKind, Hazard, Part, Place, Token, World};
pub use clock::Fenced;
pub use history::{Entry, How, Strength};
pub use lanes::{LaneClash, Spell};
pub use rules::{Conflict, Touch};
