//! The tests' world: real brokers, clients that are not ours, and the built command.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(
    dead_code,
    unused_imports,
    reason = "tests and benchmarks each use a part of it"
)]

pub mod acl;
mod certificates;
mod client;
mod cluster;
mod command;
mod fault_proxy;
pub mod faulty_storage;
pub mod group;
pub mod java_member;
mod kafka;
mod seccomp;
pub mod system_calls;
mod wrong_clock;

pub use certificates::Authority;
pub use client::{Client, Compression, Message, Placement, Record, TestProducer, TransactionEnd};
pub use cluster::{Cluster, Taken, ask, wait_for};
pub use command::{Outcome, ended_within, kafkeep, kafkeep_within};
pub use fault_proxy::{Fault, FaultProxy, Way};
pub use kafka::{Broker, Properties, Release, free_port, jars};
pub use wrong_clock::WrongClock;
