//! Groups of Kafka's own Java client, by both protocols: alive, paused, killed, rebalancing.

use std::sync::OnceLock;

use serde_json::Value;

use crate::drain::{Watching, check, expect};
use crate::fixture::numbered;
use crate::testbed::group::{Group, transaction};
use crate::testbed::java_member::{JavaMember, Protocol};
use crate::testbed::{Broker, Client, Compression, Properties, Release, wait_for};

const BOTH: [Protocol; 2] = [Protocol::Classic, Protocol::Consumer];

/// A broker that soon takes silent members for dead.
fn hasty() -> &'static Broker {
    static HASTY: OnceLock<Broker> = OnceLock::new();
    HASTY.get_or_init(|| {
        let properties = Properties::default()
            .set("group.min.session.timeout.ms", 500)
            .set("group.consumer.min.session.timeout.ms", 500)
            .set("group.consumer.session.timeout.ms", 2_000)
            .set("group.consumer.min.heartbeat.interval.ms", 200)
            .set("group.consumer.heartbeat.interval.ms", 500);
        Broker::start(Release::V4_1, properties)
    })
}

/// A group, its topic of the same name, and what is asked about them.
struct Play {
    protocol: Protocol,
    name: String,
    client: Client,
}

impl Play {
    fn new(protocol: Protocol, what: &str, partitions: i32, records: i64) -> Self {
        let play = Self {
            protocol,
            name: format!("{what}.{}", protocol.name()),
            client: Client::new(&hasty().address()),
        };
        play.client.create_topic(&play.name, partitions, &[]);
        for partition in 0..partitions {
            play.client.produce(
                &play.name,
                partition,
                Compression::None,
                numbered(0, records),
            );
        }
        play
    }

    fn settings(&self) -> &'static [(&'static str, &'static str)] {
        match self.protocol {
            Protocol::Classic => &[
                ("client.id", "till"),
                ("session.timeout.ms", "2000"),
                ("heartbeat.interval.ms", "500"),
            ],
            // The broker says when a member is dead.
            Protocol::Consumer => &[("client.id", "till")],
        }
    }

    fn join(&self) -> JavaMember {
        let address = hasty().address();
        JavaMember::join(
            &address,
            self.protocol,
            &self.name,
            &self.name,
            self.settings(),
        )
    }

    fn check(&self, arguments: &str) -> Value {
        let group = &self.name;
        check(
            &hasty().address(),
            &format!("--group {group} --topic {group} {arguments}"),
        )
    }
}

/// Both protocols at the same time: members spend their time waiting.
fn by_both(play: impl Fn(Protocol) + Sync) {
    std::thread::scope(|scope| {
        for protocol in BOTH {
            let play = &play;
            scope.spawn(move || play(protocol));
        }
    });
}

#[test]
fn a_group_of_the_java_client_is_followed_from_its_first_to_its_last_record() {
    by_both(|protocol| {
        let play = Play::new(protocol, "followed", 2, 10);
        expect(&play.check(""), "unknown_group", &[]);
        let mut member = play.join();
        expect(&play.check(""), "never_committed", &[0, 1]);
        member.read(13);
        let report = play.check("");
        assert_eq!(report["status"], "draining", "{report:#}");
        assert_eq!(report["total_lag"], 7);
        let group = &report["groups"][0];
        assert_eq!(group["type"], protocol.name());
        assert_eq!(
            (&group["group_state"], &group["members"]),
            (&"Stable".into(), &1.into())
        );
        let member_of = &report["partition_details"][0]["member"];
        assert_eq!(*member_of, "till at 127.0.0.1");
        member.read(7);
        expect(&play.check(""), "drained", &[]);
        expect(
            &play.check("--stable-checks 3 --interval 200ms"),
            "drained",
            &[],
        );
        member.leave();
        expect(&play.check(""), "drained", &[]);
        play.client
            .produce(&play.name, 1, Compression::None, numbered(10, 1));
        expect(&play.check(""), "stopped", &[1]);
    });
}

#[test]
fn a_member_that_is_alive_and_reads_nothing_is_a_stall() {
    by_both(|protocol| {
        let play = Play::new(protocol, "paused", 1, 10);
        let mut member = play.join();
        member.read(4);
        let report = play.check("--stable-checks 4 --interval 200ms --stall-after 500ms");
        expect(&report, "stalled", &[0]);
        let group = &report["groups"][0];
        assert_eq!(
            (&group["state"], &group["total_lag"]),
            (&"stalled".into(), &6.into())
        );
        let why = group["deciding_partitions"][0]["why"].as_str().unwrap();
        assert!(
            why.contains("committed 4 of 10; read by till at 127.0.0.1"),
            "{why}"
        );
    });
}

#[test]
fn a_member_that_was_killed_leaves_a_group_that_is_stopped() {
    by_both(|protocol| {
        let play = Play::new(protocol, "killed", 1, 10);
        let mut member = play.join();
        member.read(4);
        member.kill();
        wait_for("the member's death to be noticed", || {
            play.check("")["status"] == "stopped"
        });
        let report = play.check("");
        expect(&report, "stopped", &[0]);
        assert_eq!(report["groups"][0]["group_state"], "Empty");
    });
}

#[test]
fn a_group_that_waits_for_a_member_that_does_not_answer_is_rebalancing() {
    by_both(|protocol| {
        let play = Play::new(protocol, "rebalancing", 2, 10);
        let mut busy = play.join();
        busy.read(20);
        expect(&play.check(""), "drained", &[]);
        busy.block();
        let address = hasty().address();
        let other = JavaMember::start(&address, protocol, &play.name, &play.name, play.settings());
        wait_for("a rebalance", || play.check("")["status"] == "rebalancing");
        // Nothing is left, and yet it is not drained while nobody knows who reads what.
        let report = play.check("");
        assert_eq!(report["total_lag"], 0);
        drop((busy, other));
    });
}

#[test]
fn offsets_that_are_reset_are_seen_by_who_watches() {
    by_both(|protocol| {
        let play = Play::new(protocol, "reset", 1, 10);
        let mut member = play.join();
        member.read(9);
        member.leave();
        let address = hasty().address();
        let mut watching = Watching::start(&address, &format!("--group {}", play.name));
        watching.shows("stopped, 1 left");
        Group::new(&address, &play.name).commit(&play.name, 0, 3, "");
        watching.shows("rewound, 7 left");
        let mut member = play.join();
        member.read(7);
        watching.shows("drained: 0 left");
        assert_eq!(watching.ends(), 0);
    });
}

#[test]
fn a_reader_of_committed_records_has_drained_a_log_that_ends_with_markers() {
    by_both(|protocol| {
        let play = Play::new(protocol, "transactional", 1, 0);
        let values: Vec<String> = (0..5).map(|n| n.to_string()).collect();
        let address = hasty().address();
        for (number, commit) in [(0, true), (1, false), (2, true), (3, false)] {
            let id = format!("{}-{number}", play.name);
            transaction(&address, &id, &play.name, &values, commit);
        }
        let settings = [play.settings(), &[("isolation.level", "read_committed")]].concat();
        let name = &play.name;
        let mut member = JavaMember::join(&address, protocol, name, name, &settings);
        member.read(10);
        // It has committed the last record plus one: 17 of 24. A marker, five aborted records and a marker follow.
        let report = play.check("--isolation read_committed");
        expect(&report, "drained", &[]);
        let row = &report["partition_details"][0];
        assert_eq!(
            (&row["current_offset"], &row["latest_offset"]),
            (&17.into(), &24.into())
        );
        assert_eq!(row["offsets_without_records"], 7);
        // Kafka's own tool, which looks at offsets alone, takes them for lag.
        let described = hasty().tool(
            "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
            &[
                "--bootstrap-server",
                &address,
                "--describe",
                "--group",
                name,
            ],
        );
        let table = String::from_utf8(described.stdout).unwrap();
        assert!(
            table
                .lines()
                .any(|line| line.split_whitespace().nth(5) == Some("7")),
            "{table}"
        );
        // Nor are aborted records left for a group of which is not known how it reads.
        expect(&play.check(""), "drained", &[]);
        // Its own position is behind the markers.
        member.commit();
        expect(&play.check(""), "drained", &[]);
    });
}
