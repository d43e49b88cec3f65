//! Tests of the built command, on real brokers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod backup;
mod backup_and_restore;
mod byte_for_byte;
mod demo;
mod incremental;
mod scene;
#[path = "../testbed/mod.rs"]
mod testbed;

/// Runs the built command.
fn kafkeep<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> testbed::Outcome {
    testbed::kafkeep(
        std::path::Path::new(env!("CARGO_BIN_EXE_kafkeep")),
        arguments,
    )
}
