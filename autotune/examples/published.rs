//! Prints published times beside the model's: the table of `docs/model.md`.

use tilewright_autotune::published::{groups, table};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", table(&groups()?)?);
    Ok(())
}
