//! The `kafkeep` command.
fn main() {}
