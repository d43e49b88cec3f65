//! Runs that have little to do: many partitions without news, and the five hundredth small increment.

use std::ffi::OsStr;
use std::slice::from_ref;

use tempfile::TempDir;

use crate::measure::{Figures, kafkeep, measure, median};
use crate::testbed::{Broker, Client, Compression, Message};

/// Seconds that a run over a thousand partitions may take that finds nothing new.
const NOTHING_NEW: f64 = 2.0;
/// MiB that more partitions may cost: what is planned of each, not what is copied.
const MEMORY: f64 = 16.0;
/// How much more than the 5th small run the last may cost.
const INCREMENT: f64 = 1.5;

fn backup(broker: &Broker, repository: &TempDir, topic: &str) -> Figures {
    let address = broker.address();
    let arguments = [
        kafkeep().as_os_str(),
        "backup".as_ref(),
        "--repository".as_ref(),
        repository.path().as_ref(),
        "--bootstrap-servers".as_ref(),
        OsStr::new(&address),
        "--topic".as_ref(),
        topic.as_ref(),
    ];
    measure(from_ref(broker), &arguments)
}

/// A second run over topics of so many partitions; returns how many bounds were missed.
pub fn nothing_new(broker: &Broker, partitions: &[i32]) -> usize {
    println!("\na second run that finds nothing new");
    let client = Client::new(&broker.address());
    let mut missed = 0;
    let mut first_peak = None;
    for count in partitions {
        let topic = format!("quiet-{count}");
        client.create_topic(&topic, *count, &[]);
        let producer = client.producer(Compression::None);
        for partition in (0..*count).step_by((*count as usize / 50).max(1)) {
            producer.produce(&topic, partition, [Message::new("k", "v")]);
        }
        let repository = TempDir::new().unwrap();
        backup(broker, &repository, &topic);
        let runs = (0..3)
            .map(|_| backup(broker, &repository, &topic))
            .collect();
        let figures = median(runs);
        let peak = figures.peak_kib as f64 / 1024.0;
        let growth = peak - *first_peak.get_or_insert(peak);
        let kept = (*count > 1000 || figures.wall <= NOTHING_NEW) && growth <= MEMORY;
        missed += usize::from(!kept);
        println!(
            "{count:>6} partitions: {:.2} s, CPU {:.2} s, {peak:.0} MiB, {growth:+.0} MiB to the first (≤ {MEMORY}){}",
            figures.wall,
            figures.cpu,
            if kept { "" } else { " MISSED" }
        );
        client.delete_topic(&topic);
    }
    missed
}

/// Small runs one after the other, each with a few new records; returns how many bounds were missed.
pub fn small_increments(broker: &Broker, count: usize) -> usize {
    println!("\n{count} small incremental runs");
    let client = Client::new(&broker.address());
    client.create_topic("trickle", 4, &[]);
    let producer = client.producer(Compression::None);
    let repository = TempDir::new().unwrap();
    let mut runs: Vec<Figures> = Vec::new();
    for n in 0..count {
        for partition in 0..4 {
            let messages = (0..10).map(|m| Message::new(format!("{n}-{m}"), vec![b'v'; 200]));
            producer.produce("trickle", partition, messages);
        }
        runs.push(backup(broker, &repository, "trickle"));
    }
    // Around the 5th and at the end: single runs of a few milliseconds are noisy.
    let early = median(runs[2..count.min(9)].to_vec());
    let late = median(runs[count.saturating_sub(7)..].to_vec());
    let (wall, cpu) = (late.wall / early.wall, late.cpu / early.cpu);
    let kept = wall <= INCREMENT && cpu <= INCREMENT;
    println!(
        "around the 5th {:.3} s (CPU {:.3}), at the end {:.3} s (CPU {:.3}): wall {wall:.2}, CPU {cpu:.2} (≤ {INCREMENT}){}",
        early.wall,
        early.cpu,
        late.wall,
        late.cpu,
        if kept { "" } else { " MISSED" }
    );
    usize::from(!kept)
}
