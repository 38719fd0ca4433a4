//! What `cargo xtask binary-size` weighs `size_runtime` against: a program that reads a file and says so.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: size_base FILE")?;
    println!("{} bytes", std::fs::read(path)?.len());
    Ok(())
}
