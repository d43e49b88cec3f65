//! The tests' world: real brokers, clients that are not ours, and the built command.

#![allow(dead_code, reason = "tests and benchmarks each use a part of it")]

mod client;
mod command;
mod kafka;

pub use client::{Client, Compression, Message, Record};
pub use command::{Outcome, kafkeep};
pub use kafka::{Broker, Release};
