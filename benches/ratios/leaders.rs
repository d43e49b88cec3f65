//! Eight leaders beside one: the same bytes, backed up from partitions that eight brokers lead, and from as many that one leads.

use std::ffi::OsStr;

use tempfile::TempDir;

use crate::Arguments;
use crate::measure::{Figures, kafkeep, measure as run, median};
use crate::table::{Bound, Row, print};
use crate::testbed::{Cluster, Properties};
use crate::topics::PEAK;
use crate::traffic::{SHAPES, produce};

const BROKERS: u16 = 8;
const PARTITIONS: usize = 32;
/// How much more of its own CPU a backup may take from eight leaders than from one. The wall time is not bounded: the eight
/// brokers share the machine with it, and take more than twice the CPU of one.
const MORE: f64 = 1.35;
const ONE_LEADER: &[usize] = &[0];

/// Fills both topics and has both backed up in turn; returns how many bounds were missed.
pub fn measure(arguments: &Arguments) -> usize {
    let shape = &SHAPES[0];
    let bytes = arguments.size << 19;
    println!(
        "\n{BROKERS} leaders beside 1: {} MiB of {}, {PARTITIONS} partitions",
        bytes >> 20,
        shape.what
    );
    let cluster = Cluster::start(BROKERS, Properties::default().heap("384m"));
    let topics = [("one", 1), ("eight", i32::from(BROKERS))];
    for (topic, leaders) in topics {
        let replicas: Vec<[i32; 1]> = (1..=leaders)
            .cycle()
            .take(PARTITIONS)
            .map(|id| [id])
            .collect();
        let replicas: Vec<&[i32]> = replicas.iter().map(<[i32; 1]>::as_slice).collect();
        cluster
            .client()
            .create_on(topic, &replicas, &[("retention.ms", "-1")]);
        let servers = cluster.addresses();
        produce(&servers, topic, PARTITIONS, shape, bytes, arguments.batch);
    }
    let mut runs = topics.map(|_| Vec::new());
    // One more, which warms the brokers up.
    for round in 0..=arguments.runs {
        for ((topic, _), runs) in topics.iter().zip(&mut runs) {
            let figures = backup(&cluster, topic);
            if round > 0 {
                runs.push(figures);
            }
        }
    }
    print(&rows(runs), bytes)
}

fn backup(cluster: &Cluster, topic: &str) -> Figures {
    let (repository, servers) = (TempDir::new().unwrap(), cluster.addresses());
    let mut all: Vec<&OsStr> = vec![kafkeep().as_ref()];
    let arguments = ["backup", "--topic", topic, "--compression", "none"];
    all.extend(arguments.iter().map(OsStr::new));
    all.extend([OsStr::new("--bootstrap-servers"), servers.as_ref()]);
    all.extend([OsStr::new("--repository"), repository.path().as_ref()]);
    run(cluster.brokers(), &all)
}

fn rows([one, eight]: [Vec<Figures>; 2]) -> [Row; 2] {
    let bound = Bound {
        against: ONE_LEADER,
        wall: None,
        cpu: Some(MORE),
        memory: None,
        peak: Some(PEAK),
    };
    [
        Row {
            work: "kafkeep backup, 1 leader".to_owned(),
            figures: median(one),
            bound: None,
        },
        Row {
            work: format!("kafkeep backup, {BROKERS} leaders"),
            figures: median(eight),
            bound: Some(bound),
        },
    ]
}
