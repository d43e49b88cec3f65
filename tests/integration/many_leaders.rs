//! Many leaders: eight brokers, and a backlog on each that is larger than its part of the memory budget.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::{Fixture, entry};
use crate::mirror::Mirrored;
use crate::testbed::group::Group;
use crate::testbed::{Client, Cluster, Message, Outcome, wait_for};

/// Each command ends within this, or it is killed and its test fails.
pub const LIMIT: Duration = Duration::from_secs(120);
/// The default budget: 64 MiB.
pub const DEFAULT: &str = "";
/// The smallest budget that is accepted.
pub const SMALLEST: &str = "--memory 4MiB";
pub const BROKERS: i32 = 8;
/// Bytes of a record's value.
const VALUE: usize = 1_000;

/// A topic whose partitions the eight brokers lead in turn.
pub struct Backlog {
    pub topic: &'static str,
    pub partitions: i32,
    /// Records of each partition.
    pub records: i64,
    /// Copies of each partition.
    pub replicas: i32,
}

/// 48 MB on each leader: nearly as much as the default budget is for all.
const WIDE: Backlog = Backlog {
    topic: "many.32",
    partitions: 32,
    records: 12_000,
    replicas: 1,
};
const THOUSAND: Backlog = Backlog {
    topic: "many.1000",
    partitions: 1_000,
    records: 384,
    replicas: 1,
};
/// 4 MB on each leader: as much as the smallest budget is for all.
pub const SMALL_WIDE: Backlog = Backlog {
    topic: "many.small.32",
    records: 1_000,
    ..WIDE
};
const SMALL_THOUSAND: Backlog = Backlog {
    topic: "many.small.1000",
    records: 32,
    ..THOUSAND
};

impl Backlog {
    pub fn total(&self) -> i64 {
        i64::from(self.partitions) * self.records
    }

    /// Creates and fills the topic, unless an earlier test did, and waits until all of it can be read.
    fn ready(&self, cluster: &Cluster) {
        let client = cluster.client();
        if !client.topics().iter().any(|topic| topic == self.topic) {
            self.fill(cluster);
        }
        wait_for("leaders of all partitions", || {
            let placement = client.placement(self.topic);
            placement.iter().all(|placed| placed.leader > 0)
        });
        if self.replicas > 1 {
            self.wait_until_visible(&client, self.topic);
        }
    }

    fn fill(&self, cluster: &Cluster) {
        let client = cluster
            .client()
            .with("batch.size", "131072")
            .with("linger.ms", "50")
            .with("enable.idempotence", "true");
        let replicas: Vec<Vec<i32>> = (0..self.partitions).map(|at| self.brokers(at)).collect();
        let replicas: Vec<&[i32]> = replicas.iter().map(Vec::as_slice).collect();
        let in_sync = if self.replicas > 1 { "2" } else { "1" };
        let settings = [("retention.ms", "-1"), ("min.insync.replicas", in_sync)];
        client.create_on(self.topic, &replicas, &settings);
        let records = (0..self.partitions).flat_map(|partition| {
            let sent = move |n| (partition, record(partition, n));
            (0..self.records).map(sent)
        });
        client.produce_to_each(self.topic, records);
    }

    /// Waits until consumers see what a topic holds: after a change of leaders that may take a moment.
    pub fn wait_until_visible(&self, client: &Client, topic: &str) {
        let is_seen = |partition| client.watermarks(topic, partition).1 >= self.records;
        wait_for("the high watermarks", || (0..self.partitions).all(is_seen));
    }

    /// The brokers of a partition, its first leader in front.
    fn brokers(&self, partition: i32) -> Vec<i32> {
        let brokers = partition..partition + self.replicas;
        brokers.map(|at| at % BROKERS + 1).collect()
    }

    /// A topic holds the records of this one in their order, as librdkafka reads them.
    #[track_caller]
    fn is_in(&self, client: &Client, topic: &str) {
        let mut counts = vec![0; self.partitions as usize];
        client.for_each(topic, |partition, found| {
            let n = &mut counts[partition as usize];
            let sent = record(partition, *n);
            let time = found.timestamp.to_millis();
            let is_same = (&found.key, &found.value) == (&sent.key, &sent.value);
            assert!(
                is_same && time == sent.timestamp,
                "record {n} of {topic}-{partition}: {found:?}"
            );
            *n += 1;
        });
        let wanted = vec![self.records; self.partitions as usize];
        assert_eq!(counts, wanted, "records of {topic} by partition");
    }
}

/// Record `n` of a partition: no other has its key, value and time.
fn record(partition: i32, n: i64) -> Message {
    let mut value = format!("{partition}/{n}").into_bytes();
    value.resize(VALUE, b'.');
    Message::new(n.to_string(), value).at(1_700_000_000_000 + n)
}

/// A backlog on eight brokers, and a repository.
pub struct Stage<'a> {
    pub cluster: &'a Cluster,
    pub scene: Fixture<'a>,
    pub backlog: &'a Backlog,
    /// Where restores put it: no two tests use the same topic.
    pub target: String,
}

impl<'a> Stage<'a> {
    pub fn new(cluster: &'a Cluster, backlog: &'a Backlog) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        backlog.ready(cluster);
        Self {
            cluster,
            scene: Fixture::across(cluster).within(LIMIT),
            backlog,
            target: format!("{}.restored.{number}", backlog.topic),
        }
    }

    pub fn start_backup(&self, options: &str) -> Outcome {
        let what = format!("--json --topic {} --compression none", self.backlog.topic);
        self.scene.run("backup", &format!("{what} {options}"))
    }

    pub fn back_up(&self, options: &str) {
        self.is_whole(&self.start_backup(options).done());
    }

    /// All records are in the backup once, and every block is sound.
    #[track_caller]
    pub fn is_whole(&self, report: &Value) {
        assert_eq!(report["status"], "completed", "{report}");
        assert_eq!(report["total_messages"], self.backlog.total(), "{report}");
        self.scene.verify();
    }

    pub fn restore_options(&self, more: &str) -> String {
        format!("latest --json --rename *={} {more}", self.target)
    }

    pub fn start_restore(&self, options: &str) -> Outcome {
        self.scene.run("restore", &self.restore_options(options))
    }

    fn restore(&self, options: &str) -> Value {
        let report = self.start_restore(options).done();
        self.is_restored(&report);
        report
    }

    /// The target has what the source has, and is deleted.
    #[track_caller]
    pub fn is_restored(&self, report: &Value) {
        assert_eq!(
            report["messages_restored"],
            self.backlog.total(),
            "{report}"
        );
        self.backlog.is_in(&self.scene.client, &self.target);
        self.scene.client.delete_topic(&self.target);
    }

    pub fn mirrored(&self, name: &'static str) -> Mirrored<'a> {
        Mirrored {
            source: Fixture::across(self.cluster).within(LIMIT),
            target: Fixture::across(self.cluster),
            name,
        }
    }

    pub fn start_mirror(&self, name: &'static str, options: &str) -> Outcome {
        self.mirrored(name).run(&self.mirror_options(name, options))
    }

    pub fn mirror_options(&self, name: &str, more: &str) -> String {
        let topic = self.backlog.topic;
        format!("--json --topic {topic} --rename {topic}.{name} {more}")
    }

    /// The mirror's topic has what the source has, a comparison says the same, and it is deleted.
    #[track_caller]
    pub fn is_mirrored(&self, name: &'static str, report: &Value, options: &str) {
        let total = Value::from(self.backlog.total());
        let found = |report: &Value| [report["status"].clone(), report["records"].clone()];
        assert_eq!(
            found(report),
            ["completed".into(), total.clone()],
            "{report}"
        );
        let target = format!("{}.{name}", self.backlog.topic);
        self.backlog.is_in(&self.scene.client, &target);
        let compared = self.start_mirror(name, &format!("--compare {options}"));
        let compared = compared.done();
        assert_eq!(found(&compared), ["equal".into(), total], "{compared}");
        self.scene.client.delete_topic(&target);
    }

    fn mirror_and_compare(&self, name: &'static str, options: &str) {
        let report = self.start_mirror(name, options).done();
        self.is_mirrored(name, &report, options);
    }

    /// Groups that stand at the start, a record before the end, and at the end of every partition.
    pub fn commit_groups(&self) {
        let (topic, servers) = (self.backlog.topic, &self.scene.servers);
        let (partitions, records) = (self.backlog.partitions, self.backlog.records);
        for (group, offset) in [("far", 0), ("near", records - 1), ("done", records)] {
            let group = Group::new(servers, &format!("{topic}.{group}"));
            let offsets = (0..partitions).map(|partition| (partition, offset));
            group.commit_each(topic, offsets);
        }
    }

    /// One check of them. It allows the lag that the near group has, so that all partitions are looked at.
    pub fn check_groups_arguments(&self) -> String {
        let (topic, servers) = (self.backlog.topic, &self.scene.servers);
        let most = self.backlog.partitions;
        format!(
            "--bootstrap-servers {servers} --json --stable-checks 1 --group {topic}.* --max-lag {most}"
        )
    }

    /// What such a check must find.
    #[track_caller]
    pub fn groups_are_checked(&self, outcome: &Outcome) {
        let (topic, partitions) = (self.backlog.topic, self.backlog.partitions);
        assert_eq!(outcome.code, 2, "{outcome}");
        let report = outcome.json();
        let found = |group: &str| {
            let group = entry(&report["groups"], "group_id", format!("{topic}.{group}"));
            json!([group["status"], group["total_lag"]])
        };
        assert_eq!(found("done"), json!(["drained", 0]));
        assert_eq!(found("near"), json!(["stopped", partitions]));
        assert_eq!(found("far"), json!(["stopped", self.backlog.total()]));
    }
}

#[test]
fn a_backup_of_32_partitions_on_eight_brokers_comes_back() {
    let cluster = Cluster::of_eight();
    let stage = Stage::new(&cluster, &WIDE);
    stage.back_up(DEFAULT);
    stage.restore(DEFAULT);
}

#[test]
fn a_backup_of_1000_partitions_on_eight_brokers_comes_back() {
    let cluster = Cluster::of_eight();
    let stage = Stage::new(&cluster, &THOUSAND);
    stage.back_up(DEFAULT);
    stage.restore(DEFAULT);
}

#[test]
fn a_restore_over_eight_brokers_is_read_back() {
    let cluster = Cluster::of_eight();
    for backlog in [&WIDE, &THOUSAND] {
        let stage = Stage::new(&cluster, backlog);
        stage.back_up(DEFAULT);
        let report = stage.restore("--check");
        assert_eq!(report["read_back"], true, "{report}");
    }
}

#[test]
fn a_backup_and_a_restore_over_eight_brokers_need_only_the_smallest_budget() {
    let cluster = Cluster::of_eight();
    for backlog in [&SMALL_WIDE, &SMALL_THOUSAND] {
        let stage = Stage::new(&cluster, backlog);
        stage.back_up(SMALLEST);
        stage.restore(SMALLEST);
        stage.restore(&format!("--check {SMALLEST}"));
    }
}

#[test]
fn eight_brokers_are_mirrored_and_compared() {
    let cluster = Cluster::of_eight();
    for backlog in [&WIDE, &THOUSAND] {
        Stage::new(&cluster, backlog).mirror_and_compare("mirrored", DEFAULT);
    }
}

#[test]
fn a_mirror_and_a_comparison_of_eight_brokers_need_only_the_smallest_budget() {
    let cluster = Cluster::of_eight();
    for backlog in [&SMALL_WIDE, &SMALL_THOUSAND] {
        Stage::new(&cluster, backlog).mirror_and_compare("mirrored", SMALLEST);
    }
}

#[test]
fn groups_on_eight_brokers_are_checked() {
    let cluster = Cluster::of_eight();
    for backlog in [&WIDE, &THOUSAND] {
        let stage = Stage::new(&cluster, backlog);
        stage.commit_groups();
        let arguments = stage.check_groups_arguments();
        stage.groups_are_checked(&stage.scene.run("drain", &arguments));
    }
}
