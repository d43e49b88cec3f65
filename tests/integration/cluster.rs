//! Several brokers: leaders that move, brokers that die or freeze under a run.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixture::{Fixture, awkward, entry, numbered, values};
use crate::testbed::{Broker, Cluster, Compression, Message, Outcome, wait_for};

/// Each broker leads two of six partitions.
const EVERYWHERE: [&[i32]; 6] = [
    &[1, 2, 3],
    &[2, 3, 1],
    &[3, 1, 2],
    &[1, 3, 2],
    &[2, 1, 3],
    &[3, 2, 1],
];
const SAFE: [(&str, &str); 2] = [("min.insync.replicas", "2"), ("retention.ms", "-1")];

/// A topic on all brokers, and what a run of several seconds makes of it.
struct Play<'a> {
    scene: Fixture<'a>,
    topic: &'static str,
}

/// What a run of this kind takes seconds for: 12 MB.
const RECORDS: i64 = 2_000;
const SLOWLY: &str = "--rate-limit 3MiB/s";

impl<'a> Play<'a> {
    fn new(cluster: &'a Cluster, topic: &'static str) -> Self {
        let scene = Fixture::across(cluster);
        scene.client.create_on(topic, &EVERYWHERE, &SAFE);
        let play = Self { scene, topic };
        play.produce(0);
        play
    }

    fn produce(&self, first: i64) {
        let producer = self.scene.client.producer(Compression::None);
        for partition in 0..6 {
            let record = |n: i64| {
                let mut value = format!("{partition}/{n}").into_bytes();
                value.resize(1_000, b'.');
                Message::new(n.to_string(), value)
            };
            producer.produce(self.topic, partition, (first..first + RECORDS).map(record));
        }
    }

    fn restored(&self) -> String {
        format!("{}.restored", self.topic)
    }

    fn start_backup(&self, more: &str) -> Outcome {
        let what = format!("--json --topic {} --compression none", self.topic);
        self.scene
            .run("backup", &format!("{what} --pack-size 1MiB {more}"))
    }

    fn start_restore(&self, more: &str) -> Outcome {
        self.scene.run(
            "restore",
            &format!("--json latest --rename *={{topic}}.restored {more}"),
        )
    }

    /// A slow backup under which something happens, and is mended.
    fn backup_while(&self, more: &str, happens: impl FnOnce(), mended: impl FnOnce()) -> Outcome {
        let begun = || !self.scene.files("runs").is_empty();
        let run = || self.start_backup(&format!("{SLOWLY} {more}"));
        during(run, begun, happens, mended)
    }

    /// A slow restore under which something happens, and is mended.
    fn restore_while(&self, more: &str, happens: impl FnOnce(), mended: impl FnOnce()) -> Outcome {
        let restored = self.restored();
        let client = &self.scene.client;
        let begun = || {
            client.topics().contains(&restored)
                && (0..6).all(|partition| client.watermarks(&restored, partition).1 > 0)
        };
        let run = || self.start_restore(&format!("{SLOWLY} {more}"));
        during(run, begun, happens, mended)
    }

    /// All records are in the backup once.
    #[track_caller]
    fn is_whole(&self, report: &Value) {
        assert_eq!(report["status"], "completed", "{report}");
        assert_eq!(report["total_messages"], 6 * RECORDS, "{report}");
        self.scene.verify();
    }

    /// The restored topic equals the source, offset by offset.
    #[track_caller]
    fn is_the_same(&self) {
        let client = &self.scene.client;
        let source = client.read(self.topic);
        assert_eq!(
            source.iter().map(Vec::len).sum::<usize>() as i64,
            6 * RECORDS
        );
        assert!(source == client.read(&self.restored()), "they differ");
    }

    /// Waits until a broker leads nothing of a topic.
    fn deposed(&self, topic: &str, broker: i32) {
        wait_for("other leaders", || {
            let placement = self.scene.client.placement(topic);
            placement
                .iter()
                .all(|placed| ![broker, -1].contains(&placed.leader))
        });
    }
}

/// Runs something; when it has begun, something `happens` under its hands, and is `mended`.
pub fn during(
    run: impl FnOnce() -> Outcome + Send,
    begun: impl FnMut() -> bool,
    happens: impl FnOnce(),
    mended: impl FnOnce(),
) -> Outcome {
    thread::scope(|scope| {
        let running = scope.spawn(run);
        wait_for("the run begins", begun);
        happens();
        assert!(
            !running.is_finished(),
            "it ended too early: {}",
            running.join().unwrap()
        );
        mended();
        running.join().unwrap()
    })
}

#[test]
fn a_replicated_topic_comes_back_replicated() {
    let cluster = Cluster::taken();
    let scene = Fixture::across(&cluster);
    let client = &scene.client;
    client.create_on("replicated", &EVERYWHERE, &SAFE);
    for partition in 0..6 {
        client.produce("replicated", partition, Compression::Zstd, awkward(300));
    }
    let report = scene.backup("--topic replicated");
    assert_eq!(report["total_messages"], 1_800);
    scene.verify();
    scene.restore("latest --rename *={topic}.restored");
    assert_eq!(
        client.read("replicated"),
        client.read("replicated.restored")
    );
    for placed in client.placement("replicated.restored") {
        assert_eq!(placed.replicas.len(), 3, "{placed:?}");
    }
    let safe = client.setting("replicated.restored", "min.insync.replicas");
    assert_eq!(safe.as_deref(), Some("2"));
}

#[test]
fn leaders_may_move_while_a_backup_or_a_restore_runs() {
    let cluster = Cluster::taken();
    let play = Play::new(&cluster, "moving");
    let report = play.backup_while("", || cluster.lead(play.topic, &[2, 3, 1, 3, 1, 2]), || {});
    play.is_whole(&report.done());
    let restored = play.restored();
    play.restore_while(
        "",
        || {
            let leaders = |of: &str| {
                let placement = play.scene.client.placement(of);
                placement
                    .iter()
                    .map(|placed| placed.leader % 3 + 1)
                    .collect::<Vec<_>>()
            };
            cluster.lead(&restored, &leaders(&restored));
        },
        || {},
    )
    .done();
    play.is_the_same();
}

#[test]
fn a_broker_may_die_and_come_back_while_a_backup_or_a_restore_runs() {
    let cluster = Cluster::taken();
    let play = Play::new(&cluster, "mortal");
    let report = play.backup_while(
        "",
        || cluster.broker(2).kill(),
        || cluster.broker(2).start_again(),
    );
    play.is_whole(&report.done());
    play.restore_while(
        "",
        || cluster.broker(1).kill(),
        || cluster.broker(1).start_again(),
    )
    .done();
    play.is_the_same();
}

#[test]
fn a_broker_may_freeze_and_thaw_while_a_backup_or_a_restore_runs() {
    let cluster = Cluster::taken();
    let play = Play::new(&cluster, "frozen");
    // The first that the run asks: what it knows of the cluster comes from this one.
    let report = play.backup_while(
        "--deadline 20",
        || cluster.broker(1).freeze(),
        || {
            play.deposed(play.topic, 1);
            cluster.broker(1).thaw();
        },
    );
    play.is_whole(&report.done());
    let restored = play.restored();
    play.restore_while(
        "--deadline 20",
        || cluster.broker(1).freeze(),
        || {
            play.deposed(&restored, 1);
            cluster.broker(1).thaw();
        },
    )
    .done();
    play.is_the_same();
}

#[test]
fn a_run_goes_on_without_a_broker_that_stays_frozen() {
    let cluster = Cluster::taken();
    let play = Play::new(&cluster, "without");
    let began = Instant::now();
    let report = play.backup_while("--deadline 20", || cluster.broker(1).freeze(), || {});
    play.is_whole(&report.done());
    play.start_restore("--deadline 20 --replication-factor 2")
        .done();
    assert!(
        began.elapsed() < Duration::from_secs(40),
        "{:?}",
        began.elapsed()
    );
    cluster.broker(1).thaw();
    play.is_the_same();
}

fn vanishes(cluster: &Cluster) {
    cluster.brokers().iter().for_each(Broker::freeze);
}

fn comes_back(cluster: &Cluster) {
    cluster.brokers().iter().for_each(Broker::thaw);
}

#[test]
fn a_cluster_that_vanishes_for_less_than_the_deadline_is_waited_for() {
    let cluster = Cluster::taken();
    let play = Play::new(&cluster, "patient");
    // In proportion, the default of 120 s outlasts more than a minute.
    let (deadline, absence) = ("--deadline 9", Duration::from_secs(5));
    let report = play.backup_while(
        deadline,
        || vanishes(&cluster),
        || {
            thread::sleep(absence);
            comes_back(&cluster);
        },
    );
    play.is_whole(&report.done());
    play.restore_while(
        deadline,
        || vanishes(&cluster),
        || {
            thread::sleep(absence);
            comes_back(&cluster);
        },
    )
    .done();
    play.is_the_same();
}

#[test]
fn a_cluster_that_vanishes_for_longer_than_the_deadline_fails_the_run_which_can_be_repeated() {
    let cluster = Cluster::taken();
    let play = Play::new(&cluster, "vanished");
    let began = Instant::now();
    let failed = play.backup_while("--deadline 4", || vanishes(&cluster), || {});
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    failed.refused(75, &["vanished-", "no progress for", "did not answer"]);
    comes_back(&cluster);
    play.is_whole(&play.start_backup("").done());

    let failed = play.restore_while("--deadline 4", || vanishes(&cluster), || {});
    failed.refused(
        75,
        &[
            "vanished.restored",
            "no progress for",
            "run the same restore again",
        ],
    );
    comes_back(&cluster);
    // What the brokers still had from it when they froze may come in only now.
    play.start_restore("").done();
    play.is_the_same();
}

/// What an unclean election leaves of a log: 50 records that all had, then others than were acknowledged before.
#[test]
fn a_log_that_an_unclean_election_rewrote_is_copied_anew_and_older_backups_stay_what_they_were() {
    let cluster = Cluster::taken();
    let scene = Fixture::across(&cluster);
    let client = &scene.client;
    // The log ends below what was backed up, at the same offset, and beyond it.
    let topics = [
        ("forked.shorter", 20),
        ("forked.equal", 50),
        ("forked.longer", 80),
    ];
    for (topic, _) in topics {
        let settings = [
            ("unclean.leader.election.enable", "true"),
            ("min.insync.replicas", "1"),
        ];
        client.create_on(topic, &[&[1, 2]], &settings);
        client.produce(topic, 0, Compression::None, numbered(0, 50));
    }
    wait_for("the follower has everything", || {
        let placed = |topic: &(&str, i64)| client.placement(topic.0)[0].in_sync.len() == 2;
        topics.iter().all(placed)
    });
    cluster.broker(2).stop();
    for (topic, _) in topics {
        client.produce(topic, 0, Compression::None, numbered(50, 50));
    }
    let before = scene.backup("--topic forked.*");
    assert_eq!(before["total_messages"], 300);
    let before = before["backup_id"].as_str().unwrap();

    cluster.broker(1).kill();
    cluster.broker(2).start_again();
    let is_led = |topic: &str, by: i32| client.placement(topic)[0].leader == by;
    for (topic, count) in topics {
        wait_for("an unclean election", || is_led(topic, 2));
        client.produce(topic, 0, Compression::None, numbered(1_000, count));
        let rewritten = 50 + count;
        assert_eq!(client.watermarks(topic, 0), (0, rewritten));
    }
    let after = scene.backup("--topic forked.*");
    assert_eq!(after["reused_bytes"], 0, "{after:#}");
    assert_eq!(after["total_messages"], 300, "{after:#}");
    let shown = scene.run("show", "latest --json").done();
    for (topic, _) in topics {
        let warning = format!("topic {topic} is copied anew");
        assert!(
            after["warnings"].to_string().contains(&warning),
            "{after:#}"
        );
        let reason = entry(&shown["topics"], "topic", topic)["chain_restarted"].as_str();
        assert!(reason.is_some(), "{shown:#}");
    }
    // The old leader comes back and takes over the new history: nothing more to tell.
    cluster.broker(1).start_again();
    wait_for("both have everything", || {
        let placed = |topic: &(&str, i64)| client.placement(topic.0)[0].in_sync.len() == 2;
        topics.iter().all(placed)
    });
    let again = scene.backup("--topic forked.*");
    assert_eq!(
        (&again["new_messages"], &again["warnings"]),
        (&0.into(), &serde_json::json!([]))
    );
    scene.verify();

    scene.restore(&format!("{before} --rename *={{topic}}.before"));
    scene.restore("latest --rename *={topic}.after");
    for (topic, _) in topics {
        let restored = |when: &str| client.read(&format!("{topic}.{when}"));
        let lost = (0..100).map(|n| format!("value-{n}")).collect::<Vec<_>>();
        assert_eq!(values(&restored("before")[0]), lost);
        assert_eq!(restored("after"), client.read(topic));
    }
}

/// A fork is found in the same answer that brings other partitions' records: these are sealed when the backup begins again.
#[test]
fn what_was_sealed_before_a_fork_was_found_is_not_in_the_way_of_the_backup_that_begins_again() {
    let cluster = Cluster::taken();
    let scene = Fixture::across(&cluster);
    let client = &scene.client;
    let topic = "forked.beside";
    let settings = [
        ("unclean.leader.election.enable", "true"),
        ("min.insync.replicas", "1"),
    ];
    client.create_on(topic, &[&[1, 2], &[1, 2], &[1, 2]], &settings);
    for partition in 0..3 {
        client.produce(topic, partition, Compression::None, numbered(0, 50));
    }
    wait_for("the follower has everything", || {
        let placed = client.placement(topic);
        placed.iter().all(|partition| partition.in_sync.len() == 2)
    });
    cluster.broker(2).stop();
    client.produce(topic, 0, Compression::None, numbered(50, 50));
    scene.backup("--topic forked.beside");

    cluster.broker(1).kill();
    cluster.broker(2).start_again();
    wait_for("an unclean election", || {
        let placed = client.placement(topic);
        placed.iter().all(|partition| partition.leader == 2)
    });
    // Beyond what the chain holds: only the leader knows that it is another history.
    client.produce(topic, 0, Compression::None, numbered(1_000, 80));
    let large = (0..600_u32).map(|n| {
        let noise = (0..10_000_u32).map(|i| ((i ^ n).wrapping_mul(2_654_435_761) >> 24) as u8);
        Message::new("k", noise.collect::<Vec<u8>>())
    });
    client.produce(topic, 1, Compression::None, large);
    let after = scene.backup("--topic forked.beside --compression none --pack-size 1MiB");
    assert_eq!(after["total_messages"], 130 + 650 + 50, "{after:#}");
    assert!(
        after["warnings"].to_string().contains("is copied anew"),
        "{after:#}"
    );
    assert_eq!(scene.files("runs"), [""; 0].map(std::path::PathBuf::from));
    cluster.broker(1).start_again();
    scene.verify();
    scene.restore("latest --rename *={topic}.back");
    assert_eq!(client.read("forked.beside.back"), client.read(topic));
}
