//! Batches that are larger than the memory budget are let through one by one, and the process stays small.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::mirror::Mirrored;
use crate::testbed::{Client, Compression, Message};

const MIB: u64 = 1 << 20;
const LARGEST: u64 = 16 * MIB;
const BUDGET: u64 = 4 * MIB;

/// The budget, twice the largest batch, and what the process needs for itself.
fn peak(largest: u64) -> u64 {
    BUDGET + 2 * largest + 60 * MIB
}

/// Runs a command, which must succeed; prints its peak of memory in KiB behind its report.
const MEASURE: &str = "
import resource, subprocess, sys
ran = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE)
sys.stdout.buffer.write(ran.stdout)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(ran.returncode)
";

/// The report of a command, whose memory must stay below the peak of a run with batches up to this size.
fn measured(command: &Command, largest: u64) -> Value {
    let output = Command::new("python3")
        .args(["-c", MEASURE])
        .arg(command.get_program())
        .args(command.get_args())
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}");
    let (report, peak) = printed.trim_end().rsplit_once('\n').unwrap();
    let (taken, most) = (peak.parse::<u64>().unwrap() << 10, self::peak(largest));
    assert!(
        taken <= most,
        "{} MiB of {} MiB: {command:?}",
        taken >> 20,
        most >> 20
    );
    serde_json::from_str(report).unwrap()
}

#[test]
fn batches_beyond_the_budget_take_twice_their_size_and_no_more() {
    let most = (LARGEST + MIB).to_string();
    let mirrored = Mirrored::new("huge");
    let scene = &mirrored.source;
    let settings = [("max.message.bytes", most.as_str())];
    scene.client.create_topic("huge", 4, &settings);
    let client = Client::new(&scene.servers).with("message.max.bytes", &most);
    let value: Vec<u8> = (0..u32::try_from(LARGEST - 1024).unwrap())
        .map(|n| (n.wrapping_mul(n) >> 7) as u8)
        .collect();
    for partition in 0..4 {
        for n in 0..3 {
            let message = Message::new(n.to_string(), value.clone());
            client.produce("huge", partition, Compression::None, [message]);
        }
    }
    let budget = "--json --memory 4MiB";
    let backup = format!("{budget} --topic huge --compression none");
    assert_eq!(
        measured(&scene.command("backup", &backup), LARGEST)["total_messages"],
        12
    );
    assert_eq!(
        measured(&scene.command("verify", budget), LARGEST)["status"],
        "sound"
    );
    let restore = format!("{budget} latest --check --rename *=huge.restored");
    let report = measured(&scene.command("restore", &restore), LARGEST);
    assert_eq!(report["messages_restored"], 12);
    let mut mirror = Command::new(env!("CARGO_BIN_EXE_kafkeep"));
    mirror.args(mirrored.arguments(&format!("{budget} --topic huge")));
    assert_eq!(measured(&mirror, LARGEST)["records"], 12);
}

#[test]
fn small_batches_that_open_to_large_ones_are_opened_one_at_a_time() {
    const OPENED: u64 = 40 * MIB;
    let mirrored = Mirrored::new("bomb");
    let scene = &mirrored.source;
    scene.client.create_topic("bomb", 4, &[]);
    let client = Client::new(&scene.servers).with("message.max.bytes", &(64 * MIB).to_string());
    let value = vec![b'x'; usize::try_from(OPENED).unwrap()];
    for partition in 0..4 {
        for n in 0..3 {
            let message = Message::new(n.to_string(), value.clone());
            client.produce("bomb", partition, Compression::Gzip, [message]);
        }
    }
    let budget = "--json --memory 4MiB";
    let backup = format!("{budget} --topic bomb");
    let report = measured(&scene.command("backup", &backup), MIB);
    assert_eq!(report["total_messages"], 12);
    let restore = format!("{budget} latest --rename *=bomb.restored --partitions 3");
    let report = measured(&scene.command("restore", &restore), OPENED);
    assert_eq!(report["messages_restored"], 12);
    let lines = scene.beside("lines").display().to_string();
    let export = format!("{budget} latest --topic bomb --format jsonl --out {lines}");
    let report = measured(&scene.command("export", &export), OPENED);
    assert_eq!(report["total_messages"], 12);
    let mut mirror = Command::new(env!("CARGO_BIN_EXE_kafkeep"));
    let mirroring = format!("{budget} --topic bomb --filter size(value)>0");
    mirror.args(mirrored.arguments(&mirroring));
    assert_eq!(measured(&mirror, OPENED)["records"], 12);
}
