//! Tests of the built command, on real brokers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod access;
mod api;
mod api_abuse;
mod api_client;
mod api_contract;
mod api_documentation;
mod backup;
mod backup_and_restore;
mod bad_input;
mod broker_failures;
mod byte_for_byte;
mod check;
mod claims;
mod clock;
mod cluster;
mod compaction;
mod daemon;
mod daemon_process;
mod daemon_runs;
mod demo;
mod documentation;
mod documented_access;
mod documented_sessions;
mod drain;
mod drain_members;
mod drain_scale;
mod expire;
mod export_jsonl;
mod export_log;
mod fault_proxy;
mod fixture;
mod golden_batches;
mod groups;
mod hanging_storage;
mod hostile_repository;
mod https;
mod incremental;
mod interrupted;
mod interrupted_restore;
mod large_batches;
mod lost_backups;
mod many_leaders;
mod mirror;
mod mirror_faults;
mod mirror_forks;
mod mirror_records;
mod mirror_sources;
mod mirror_targets;
mod model;
mod observability;
mod own_groups;
mod ownership;
mod policy_states;
mod rebuilt_batches;
mod record_formats;
mod restore;
mod restore_plan;
mod seams;
mod security;
mod sessions;
mod show_and_list;
mod side_by_side;
mod storage;
mod storage_faults;
mod system_faults;
#[path = "../testbed/mod.rs"]
mod testbed;
mod token;
mod topic_settings;
mod transactions;
mod verify;

/// Runs the built command.
fn kafkeep<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> testbed::Outcome {
    testbed::kafkeep(
        std::path::Path::new(env!("CARGO_BIN_EXE_kafkeep")),
        arguments,
    )
}

/// Runs the built command; the test fails when it has not ended within `limit`.
#[track_caller]
fn kafkeep_within(arguments: Vec<String>, limit: std::time::Duration) -> testbed::Outcome {
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_kafkeep"));
    testbed::kafkeep_within(binary, arguments, limit)
}
