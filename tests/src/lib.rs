//! Tests that concern the whole workspace: see `tests/`. This library is empty.
