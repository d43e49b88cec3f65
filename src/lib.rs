//! kafkeep keeps Kafka's logs safe: it backs topics up, verifies the backups without Kafka, and restores them.
//!
//! It moves Kafka's sealed record batches (Fetch → file → Produce) and opens one only where it must.
//!
//! # The house
//!
//! A room imports only rooms above it in this list; `tests/layering` sees to it.
//!
//! - [`words`]: closed sets of words, declared once for TOML, the command line, the API and reports
//! - [`files`]: small files that people and other programs leave for us: regular ones only, within a bound
//! - [`quote`]: what others said, within a bound and on one line before it is kept, logged or shown
//! - [`record`]: record batches, their codecs and sums; knows neither networks nor files
//! - [`repository`]: all that lies in a backup repository, and the narrow storage trait below it
//! - [`memory`]: the one budget of memory for record batches, which all runs share
//! - [`kafka`]: the wire: connections, security, metadata, fetch, produce, administration
//! - [`engine`]: the verbs (backup, restore, verify, export), each *plan, then apply*
//! - [`schedule`]: when: cron expressions, time zones, what is due and what was missed
//! - [`auth`]: who asks over HTTP, and what that one may do
//! - [`policy`]: what operators write in TOML, every error in it, and what a reload changes
//! - [`api`]: what the HTTP API is asked and answers: bodies, their bounds, what they mean to the engine
//! - [`daemon`]: policies on their schedules: what runs, when configurations change, systemd
//! - [`http`]: the daemon's port: health, metrics and status
//! - [`cli`]: one file a verb: arguments in; a table, JSON or a progress bar out; signals
//!
//! # How a backup flows through it
//!
//! `cli::backup` reads arguments and asks `engine::backup` for a plan: topics, partitions, and from where to where. Applying it,
//! a worker a leader fetches raw batches through `kafka`; their headers are walked with `record`, cut into blocks, checked and
//! compressed on threads, and appended to packs by `repository`. The index layers follow, then the manifest, which makes the backup
//! exist. `engine::restore` goes the other way; `engine::verify` and `engine::export` need `repository` and
//! `record` alone.
//!
//! There is no unsafe code here. `Cargo.toml` denies it to every target, and the tests make one exception: `tests/testbed/seccomp.rs`.

#![forbid(unsafe_code)]

pub mod api;
pub mod auth;
pub mod cli;
pub mod daemon;
pub mod engine;
pub mod expression;
pub mod files;
pub mod http;
pub mod kafka;
pub mod memory;
pub mod policy;
pub mod quote;
pub mod record;
pub mod repository;
pub mod schedule;
pub mod words;
