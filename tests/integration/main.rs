//! Tests of the built command, on real brokers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod backup_and_restore;
mod demo;
mod golden_batches;
mod rebuilt_batches;
mod record_formats;
mod security;
#[path = "../testbed/mod.rs"]
mod testbed;

/// Runs the built command.
fn kafkeep<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> testbed::Outcome {
    testbed::kafkeep(
        std::path::Path::new(env!("CARGO_BIN_EXE_kafkeep")),
        arguments,
    )
}
