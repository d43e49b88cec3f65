//! What one process took.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::testbed::Broker;

/// What one process took.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Figures {
    /// Seconds.
    pub wall: f64,
    /// Seconds of all its threads, the kernel's work for it included.
    pub cpu: f64,
    /// Of resident memory.
    pub peak_kib: u64,
    /// Seconds that the brokers worked meanwhile.
    #[serde(default)]
    pub broker_cpu: f64,
}

/// The built command.
pub fn kafkeep() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_kafkeep"))
}

/// Seconds after which a command is killed: no work takes so long.
const LIMIT: &str = "600";

/// Runs a command to its end; one that fails, or takes too long, ends the benchmark.
pub fn measure(brokers: &[Broker], arguments: &[&OsStr]) -> Figures {
    // What earlier works left for the disk is not this one's.
    assert!(Command::new("sync").status().unwrap().success());
    let worked = || -> f64 { brokers.iter().map(|broker| cpu_seconds(broker.pid())).sum() };
    let before = worked();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/ratios/measure.py");
    let output = Command::new("timeout")
        .args([LIMIT, "python3"])
        .arg(script)
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut figures: Figures = serde_json::from_slice(&output.stdout).unwrap();
    figures.broker_cpu = worked() - before;
    figures
}

/// Seconds that a process has worked so far.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

/// The run in the middle, by wall time.
pub fn median(mut runs: Vec<Figures>) -> Figures {
    runs.sort_by(|a, b| a.wall.total_cmp(&b.wall));
    runs[runs.len() / 2]
}
