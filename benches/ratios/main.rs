//! `make bench`: kafkeep beside the limits of what it does, in one run on one machine, as ratios.
//!
//! Every figure is of a process of its own: wall time, CPU seconds and peak memory as the kernel accounts them. Each
//! work runs several times, the works taking turns; the table shows medians.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for measuring"
)]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a program for measuring"
)]

mod calls;
mod leaders;
mod limits;
mod measure;
mod peers;
mod table;
#[path = "../../tests/testbed/mod.rs"]
mod testbed;
mod topics;
mod traffic;
mod upkeep;

use clap::{Parser, Subcommand};
use testbed::{Broker, Properties, Release};

/// Measures kafkeep beside the limits of what it does.
#[derive(Debug, Parser)]
pub struct Arguments {
    #[command(subcommand)]
    limit: Option<Limit>,
    /// MiB of the topic of 1 KiB records; that of compressed ones gets twice, that of 100 B ones half of it
    #[arg(long, default_value_t = 1024)]
    size: u64,
    /// Bytes of the producer's batches
    #[arg(long, default_value_t = 128 << 10)]
    batch: usize,
    /// How often each work is measured
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Partitions of the incremental run that finds nothing new; more than one number compares their memory
    #[arg(long, value_delimiter = ',', default_value = "1000")]
    partitions: Vec<i32>,
    /// How many small incremental runs are made one after the other, to compare the last with the 5th
    #[arg(long, default_value_t = 60)]
    increments: usize,
    /// Measure only these: large, compressed, small, leaders, partitions, increments, calls; peers, which is MirrorMaker 2, only when it is named
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// A limit, as a process of its own.
#[derive(Debug, Clone, Subcommand)]
pub enum Limit {
    /// Raw fetch to nowhere, or into one O_DIRECT file with fdatasync
    Fetch {
        servers: String,
        topic: String,
        directory: Option<std::path::PathBuf>,
    },
    /// librdkafka's consumer to nowhere
    Rdkafka { servers: String, topic: String },
    /// Raw produce of the batches that `fetch` has written
    Produce {
        servers: String,
        topic: String,
        directory: std::path::PathBuf,
    },
}

impl Arguments {
    fn wants(&self, what: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == what)
    }
}

fn main() {
    let arguments = Arguments::parse();
    if let Some(limit) = arguments.limit {
        return limits::run(limit);
    }
    let broker = Broker::start(Release::V4_1, Properties::default().heap("1g"));
    let mut missed = 0;
    for shape in traffic::SHAPES {
        if arguments.wants(shape.topic) {
            missed += topics::measure(&broker, &shape, &arguments);
        }
    }
    if arguments.wants("leaders") {
        missed += leaders::measure(&arguments);
    }
    if arguments.wants("partitions") {
        missed += upkeep::nothing_new(&broker, &arguments.partitions);
    }
    if arguments.wants("increments") {
        missed += upkeep::small_increments(&broker, arguments.increments);
    }
    if arguments.wants("calls") {
        missed += calls::measure(&broker, &arguments);
    }
    if arguments.only.iter().any(|only| only == "peers") {
        missed += peers::measure(&broker, &arguments);
    }
    println!(
        "\n{}",
        if missed == 0 {
            "every bound is kept"
        } else {
            "bounds missed, see above"
        }
    );
}
