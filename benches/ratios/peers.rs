//! `make bench-peers`: `kafkeep mirror` beside MirrorMaker 2 on the same topic, in the same run.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Arguments;
use crate::measure::{Figures, cpu_seconds, median};
use crate::table::{Bound, Row, print};
use crate::testbed::{Broker, Client, jars};
use crate::topics::mirror;
use crate::traffic::{PARTITIONS, SHAPES, fill};

const MIRROR_MAKER: &[usize] = &[0];
/// As `bin/connect-mirror-maker.sh` starts it.
const HEAP: [&str; 2] = ["-Xms256M", "-Xmx2G"];
const WITHIN: Duration = Duration::from_secs(600);

/// Fills a topic, and has both copy it; returns how many bounds were missed.
pub fn measure(broker: &Broker, arguments: &Arguments) -> usize {
    let shape = &SHAPES[0];
    let bytes = arguments.size << 20;
    println!(
        "\nmirrors of {}: {} MiB, {PARTITIONS} partitions",
        shape.what,
        bytes >> 20
    );
    fill(broker, shape, bytes, arguments.batch);
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for run in 0..arguments.runs {
        theirs.push(mirror_maker(broker, shape.topic, run));
        ours.push(mirror(broker, shape.topic, "peer", &[]));
    }
    let bound = Bound {
        against: MIRROR_MAKER,
        wall: Some(1.0),
        cpu: Some(1.0),
        ..Bound::default()
    };
    let rows = [
        Row {
            work: "MirrorMaker 2, from its 1st record".to_owned(),
            figures: median(theirs),
            bound: None,
        },
        Row {
            work: "kafkeep mirror".to_owned(),
            figures: median(ours),
            bound: Some(bound),
        },
    ];
    print(&rows, bytes)
}

/// Has MirrorMaker copy a topic within the broker. Its time is that from the first record on, since it takes long to begin; its CPU
/// and memory are those of the whole process.
fn mirror_maker(broker: &Broker, topic: &str, run: usize) -> Figures {
    assert!(Command::new("sync").status().unwrap().success());
    let client = Client::new(&broker.address());
    let directory = TempDir::new().unwrap();
    let (from, to) = (format!("from{run}"), format!("to{run}"));
    let file = directory.path().join("mm2.properties");
    std::fs::write(&file, properties(&broker.address(), topic, &from, &to)).unwrap();
    let before = cpu_seconds(broker.pid());
    let mut process = start(&file);
    let target = format!("{from}.{topic}");
    let count = |topic: &str| -> i64 {
        let partitions = 0..PARTITIONS;
        partitions
            .map(|partition| client.watermarks(topic, partition).1)
            .sum()
    };
    let wanted = count(topic);
    let began = wait_for(&mut process, || {
        client.topics().contains(&target)
            && client.partitions(&target) == PARTITIONS
            && count(&target) > 0
    });
    let ended = wait_for(&mut process, || count(&target) >= wanted);
    let figures = Figures {
        wall: (ended - began).as_secs_f64(),
        cpu: cpu_seconds(process.id()),
        peak_kib: peak(process.id()),
        broker_cpu: cpu_seconds(broker.pid()) - before,
    };
    process.kill().unwrap();
    process.wait().unwrap();
    client.delete_topic(&target);
    figures
}

fn properties(address: &str, topic: &str, from: &str, to: &str) -> String {
    let replicated = [
        "",
        "offset-syncs.topic.",
        "config.storage.",
        "offset.storage.",
        "status.storage.",
    ];
    let replicated: String = replicated
        .map(|what| format!("{what}replication.factor = 1\n"))
        .concat();
    format!(
        "clusters = {from}, {to}\n\
         {from}.bootstrap.servers = {address}\n\
         {to}.bootstrap.servers = {address}\n\
         {from}->{to}.enabled = true\n\
         {from}->{to}.topics = {topic}\n\
         {to}->{from}.enabled = false\n\
         emit.heartbeats.enabled = false\n\
         emit.checkpoints.enabled = false\n\
         sync.topic.acls.enabled = false\n\
         tasks.max = 2\n\
         {replicated}"
    )
}

fn start(file: &Path) -> Child {
    let log4j = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/log4j2.xml");
    Command::new("java")
        .args(HEAP)
        .arg(format!("-Dlog4j2.configurationFile={}", log4j.display()))
        .args(["-cp", &jars("mirror-maker-4.1.0")])
        .arg("org.apache.kafka.connect.mirror.MirrorMaker")
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn wait_for(process: &mut Child, happened: impl Fn() -> bool) -> Instant {
    let deadline = Instant::now() + WITHIN;
    while !happened() {
        assert!(
            Instant::now() < deadline,
            "MirrorMaker does not come to its end"
        );
        assert!(
            process.try_wait().unwrap().is_none(),
            "MirrorMaker has ended"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    Instant::now()
}

/// KiB of resident memory at most, so far.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}
