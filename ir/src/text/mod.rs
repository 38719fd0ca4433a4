//! What both IRs' text forms share: a cursor over the input with good errors.

mod cursor;

pub use cursor::{Cursor, ParseError};
