//! `kafkeep mirror` into topics that are deleted, created again or cut short: what is missing is mirrored again, or said.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::cluster::during;
use crate::daemon_process::{Daemon, policy};
use crate::fixture::{Fixture, entry, numbered, values};
use crate::mirror::Mirrored;
use crate::testbed::{
    Broker, Client, Cluster, Compression, Message, Properties, Release, wait_for,
};

/// Ended with the test.
struct Running(Child);

impl Running {
    fn start(mirrored: &Mirrored<'_>, arguments: &str) -> Self {
        Self(mirrored.start(arguments))
    }

    #[track_caller]
    fn goes_on(&mut self) {
        assert!(self.0.try_wait().unwrap().is_none(), "it ended");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn holds(client: &Client, topic: &str, count: usize) -> bool {
    client.topics().contains(&topic.to_owned())
        && client.read(topic).iter().map(Vec::len).sum::<usize>() >= count
}

#[test]
fn a_target_topic_that_was_created_again_is_mirrored_again_by_the_next_run() {
    let mirrored = Mirrored::new("again");
    let (client, target) = (&mirrored.source.client, &mirrored.target.client);
    for topic in ["again.empty", "again.gone"] {
        client.create_topic(topic, 1, &[]);
        client.produce(topic, 0, Compression::None, numbered(0, 300));
    }
    let run = || mirrored.done("--topic again.*");
    assert_eq!(run()["records"], 600);
    target.delete_topic("again.empty");
    target.create_topic("again.empty", 1, &[]);
    target.delete_topic("again.gone");
    for topic in ["again.empty", "again.gone"] {
        client.produce(topic, 0, Compression::None, numbered(300, 50));
    }
    assert_eq!(run()["records"], 700);
    for topic in ["again.empty", "again.gone"] {
        mirrored.is_same(topic, topic);
    }
    assert_eq!(run()["records"], 0);
}

#[test]
fn a_busy_mirror_copies_a_target_topic_again_that_was_deleted_and_created_under_it() {
    let mirrored = Mirrored::new("under");
    let (client, target) = (&mirrored.source.client, &mirrored.target.client);
    client.create_topic("under", 1, &[]);
    client.produce("under", 0, Compression::None, numbered(0, 300));
    let mut run = Running::start(&mirrored, "--topic under --continuous");
    target.wait_until("the first are there", |target| holds(target, "under", 300));
    target.delete_topic("under");
    target.create_topic("under", 1, &[]);
    client.produce("under", 0, Compression::None, numbered(300, 50));
    target.wait_until("all are there", |target| holds(target, "under", 350));
    run.goes_on();
    mirrored.is_same("under", "under");
}

#[test]
fn an_idle_mirror_notices_within_half_a_minute_that_its_target_topic_is_gone() {
    let mirrored = Mirrored::new("idle");
    let (client, target) = (&mirrored.source.client, &mirrored.target.client);
    for topic in ["idle.created", "idle.deleted"] {
        client.create_topic(topic, 2, &[]);
        for partition in 0..2 {
            client.produce(topic, partition, Compression::None, numbered(0, 100));
        }
    }
    let mut run = Running::start(&mirrored, "--topic idle.* --continuous --from latest");
    target.wait_until("its topics are there", |target| {
        let topics: BTreeSet<String> = target.topics().into_iter().collect();
        ["idle.created", "idle.deleted"]
            .map(str::to_owned)
            .iter()
            .all(|topic| topics.contains(topic))
    });
    // Only what comes now: it begins at the end, and is not to begin there again.
    for topic in ["idle.created", "idle.deleted"] {
        wait_for("the beginning is committed", || {
            crate::testbed::group::Group::new(&mirrored.target.servers, "kafkeep.idle")
                .committed(topic, 1)
                .is_some()
        });
        for partition in 0..2 {
            client.produce(topic, partition, Compression::None, numbered(100, 100));
        }
        target.wait_until("it is copied", |target| holds(target, topic, 200));
        target.delete_topic(topic);
    }
    target.create_topic("idle.created", 2, &[]);
    for topic in ["idle.created", "idle.deleted"] {
        target.wait_until("it is copied again", |target| holds(target, topic, 200));
        for partition in target.read(topic) {
            let values = partition.into_iter().map(|record| record.value);
            let wanted = numbered(100, 100).map(|message| message.value);
            assert!(values.eq(wanted), "{topic} begins where it began");
        }
    }
    run.goes_on();
}

#[test]
fn a_target_cluster_that_was_made_new_under_a_daemon_is_mirrored_again() {
    let target = Broker::start(Release::V4_1, Properties::default());
    let mirrored = Mirrored {
        source: Fixture::shared(),
        target: Fixture::on(&target),
        name: "rebuilt",
    };
    let client = &mirrored.source.client;
    client.create_topic("rebuilt", 1, &[]);
    client.produce("rebuilt", 0, Compression::None, numbered(0, 500));
    let dr = format!(
        "[clusters.dr]\nbootstrap_servers = ['{}']\n",
        target.address()
    );
    let policy = "[mirror.rebuilt]\nsource = 'prod'\ntarget = 'dr'\ntopics = ['rebuilt']\n";
    let daemon = Daemon::start_with(&mirrored.source, &dr, policy);
    let there = &mirrored.target.client;
    there.wait_until("the first are there", |there| holds(there, "rebuilt", 500));
    target.kill();
    target.start_from_nothing();
    there.wait_until("they are there again", |there| holds(there, "rebuilt", 500));
    client.produce("rebuilt", 0, Compression::None, numbered(500, 10));
    there.wait_until("what comes is there", |there| holds(there, "rebuilt", 510));
    mirrored.is_same("rebuilt", "rebuilt");
    drop(daemon);
}

/// What the new cluster holds is another history: it is backed up from its start, and not mixed with what was mirrored.
#[test]
fn a_source_cluster_that_was_made_new_under_a_daemon_is_backed_up_anew_and_its_mirror_stands_still()
{
    let source = Broker::start(Release::V4_1, Properties::default());
    let mirrored = Mirrored {
        source: Fixture::on(&source),
        target: Fixture::shared(),
        name: "reborn",
    };
    let (client, target) = (&mirrored.source.client, &mirrored.target.client);
    client.create_topic("reborn", 1, &[]);
    client.produce("reborn", 0, Compression::None, numbered(0, 300));
    let dr = format!(
        "[clusters.dr]\nbootstrap_servers = ['{}']\n",
        mirrored.target.broker.address()
    );
    let mirror = "[mirror.reborn]\nsource = 'prod'\ntarget = 'dr'\ntopics = ['reborn']\nrename = 'dr.{topic}'\n";
    let policies = policy("often", "reborn", "1s", "") + mirror;
    let daemon = Daemon::start_with(&mirrored.source, &dr, &policies);
    target.wait_until("the first are there", |target| {
        holds(target, "dr.reborn", 300)
    });
    // `latest` could mean either of two clusters later on.
    let newest = || {
        let list = mirrored.source.run("list", "--json").done();
        let backups = list["backups"].as_array().unwrap();
        let id = backups
            .iter()
            .map(|backup| &backup["backup_id"])
            .max_by_key(|id| id.as_str())?;
        Some(
            mirrored
                .source
                .run("show", &format!("{} --json", id.as_str()?))
                .done(),
        )
    };
    daemon.wait_until("there is a backup", |_| newest().is_some());
    let before = newest().unwrap();
    source.kill();
    source.start_from_nothing();
    client.create_topic("reborn", 1, &[]);
    client.produce("reborn", 0, Compression::None, numbered(1_000, 100));
    daemon.wait_until("the new cluster is backed up", |_| {
        let now = newest().unwrap();
        now["cluster_id"] != before["cluster_id"] && now["totals"]["records"] == 100
    });
    daemon.wait_until("the mirror stands still", |daemon| {
        let status = daemon.status();
        let told = entry(&status["policies"], "policy", "reborn");
        told["mirror"]["partitions"][0]["problem"].is_string()
    });
    daemon.wait_until("it says so", |daemon| {
        let log = daemon.log();
        let line = log
            .lines()
            .find(|line| line.contains("reborn-0 has permanently stopped"));
        line.is_some_and(|line| line.contains("ERROR"))
    });
    let state = "kafkeep_policy_state{policy=\"reborn\",state=\"unprotected\"}";
    assert_eq!(daemon.metric(state), Some(1.0));
    drop(daemon);
    let scene = &mirrored.source;
    scene.verify();
    let restored = |backup: &str, name: &str| {
        scene.restore(&format!("{backup} --rename *={name}"));
        values(&client.read(name)[0])
    };
    let now = newest().unwrap();
    let id = |backup: &Value| backup["backup_id"].as_str().unwrap().to_owned();
    let texts = |range: std::ops::Range<i64>| range.map(|n| format!("value-{n}"));
    assert_eq!(
        restored(&id(&now), "reborn.new"),
        texts(1_000..1_100).collect::<Vec<_>>()
    );
    assert_eq!(
        restored(&id(&before), "reborn.old"),
        texts(0..300).collect::<Vec<_>>()
    );
    let there = values(&target.read("dr.reborn")[0]);
    assert_eq!(there, texts(0..300).collect::<Vec<_>>(), "nothing is mixed");
}

#[test]
fn a_comparison_is_not_equal_where_one_side_alone_has_records() {
    let mirrored = Mirrored::new("oneside");
    let (client, target) = (&mirrored.source.client, &mirrored.target.client);
    for topic in ["oneside.again", "oneside.never", "oneside.late"] {
        client.create_topic(topic, 1, &[]);
        client.produce(topic, 0, Compression::None, numbered(0, 500));
    }
    let compare = |topic: &str, code: i32| -> Value {
        let compared = mirrored.run(&format!("--json --topic {topic} --compare"));
        assert_eq!(compared.code, code, "{compared}");
        compared.json()
    };
    mirrored.done("--topic oneside.again");
    assert_eq!(compare("oneside.again", 0)["status"], "equal");
    target.delete_topic("oneside.again");
    target.create_topic("oneside.again", 1, &[]);
    for topic in ["oneside.again", "oneside.never"] {
        let compared = compare(topic, 2);
        assert_eq!(compared["status"], "partial", "{compared}");
        assert_eq!(
            compared["partitions"][0]["only_in_source"], 500,
            "{compared}"
        );
    }
    // What the mirror was not to copy is no difference.
    mirrored.done("--topic oneside.late --from 400");
    let compared = compare("oneside.late", 0);
    assert_eq!(
        (&compared["status"], &compared["records"]),
        (&"equal".into(), &100.into())
    );
}

/// An unclean election in the target: records that it had acknowledged are gone, and what is left is not to be copied twice.
#[test]
fn a_target_that_lost_what_it_had_stands_still_and_says_so() {
    let three = Cluster::taken();
    let mirrored = Mirrored {
        source: Fixture::shared(),
        target: Fixture::across(&three),
        name: "cutoff",
    };
    let (client, target) = (&mirrored.source.client, &mirrored.target.client);
    client.create_topic("cutoff", 1, &[]);
    client.produce("cutoff", 0, Compression::None, numbered(0, 50));
    let settings = [
        ("unclean.leader.election.enable", "true"),
        ("min.insync.replicas", "1"),
    ];
    target.create_on("cutoff", &[&[1, 2]], &settings);
    mirrored.done("--topic cutoff");
    wait_for("the follower has everything", || {
        target.placement("cutoff")[0].in_sync.len() == 2
    });
    three.broker(2).stop();
    client.produce("cutoff", 0, Compression::None, numbered(50, 50));
    mirrored.done("--topic cutoff");
    three.broker(1).kill();
    three.broker(2).start_again();
    wait_for("an unclean election", || {
        target.placement("cutoff")[0].leader == 2
    });
    let run = mirrored.run("--json --topic cutoff");
    assert_eq!(run.code, 2, "{run}");
    let told = &run.json()["partitions"][0];
    assert_eq!(told["state"], "target_truncated", "{run}");
    assert!(
        told["problem"]
            .as_str()
            .unwrap()
            .contains("delete the topic in the target"),
        "{run}"
    );
    target.delete_topic("cutoff");
    assert_eq!(mirrored.done("--topic cutoff")["records"], 100);
    mirrored.is_same("cutoff", "cutoff");
}

/// Kafka takes `a_b` and `a.b` for one name in its metrics, and refuses the second of them.
#[test]
fn a_topic_that_the_target_refuses_keeps_no_other_from_being_mirrored() {
    let mirrored = Mirrored::new("refused");
    let (client, target) = (&mirrored.source.client, &mirrored.target.client);
    for topic in ["mrefused.a", "mrefused.b"] {
        client.create_topic(topic, 1, &[]);
        client.produce(topic, 0, Compression::None, numbered(0, 5));
    }
    target.create_topic("mrefused_a", 1, &[]);
    let said = mirrored.run("--json --topic mrefused.*");
    assert_eq!(said.code, 2, "{said}");
    let report = said.json();
    assert_eq!(report["records"], 5, "{report}");
    let told = &report["partitions"][0];
    assert_eq!(
        (&told["topic"], &told["state"]),
        (&"mrefused.a".into(), &"refused".into()),
        "{report}"
    );
    let problem = told["problem"].as_str().unwrap();
    assert!(
        problem.contains("cannot be created in the target"),
        "{report}"
    );
    mirrored.is_same("mrefused.b", "mrefused.b");
    // A mirror that goes on tries again.
    let mut run = mirrored.start("--topic mrefused.* --continuous");
    client.produce("mrefused.b", 0, Compression::None, numbered(5, 5));
    target.wait_until("the other topic is mirrored", |target| {
        target.watermarks("mrefused.b", 0).1 >= 10
    });
    assert!(!target.topics().contains(&"mrefused.a".to_owned()));
    target.delete_topic("mrefused_a");
    target.wait_until("the topic is taken now", |target| {
        target.topics().contains(&"mrefused.a".to_owned())
            && target.read("mrefused.a")[0].len() == 5
    });
    assert!(run.try_wait().unwrap().is_none(), "it goes on");
    run.kill().unwrap();
    run.wait().unwrap();
}

#[test]
fn what_the_target_deletes_during_a_mirror_is_no_success() {
    let mirrored = Mirrored::new("vanishing");
    let (client, target) = (&mirrored.source.client, &mirrored.target.client);
    client.create_topic("mvanishing", 1, &[]);
    for n in 0..20 {
        let messages = (0..50).map(|_| Message::new(n.to_string(), vec![b'x'; 1000]));
        client.produce("mvanishing", 0, Compression::None, messages);
    }
    let run = || mirrored.run("--json --topic mvanishing --rate-limit 200KiB/s");
    let begun = || {
        target.topics().contains(&"mvanishing".to_owned())
            && target.watermarks("mvanishing", 0).1 >= 100
    };
    let said = during(
        run,
        begun,
        || target.delete_records("mvanishing", 0, 75),
        || {},
    );
    assert_eq!(said.code, 2, "{said}");
    let report = said.json();
    assert_eq!(report["status"], "incomplete", "{report}");
    let warnings = report["warnings"].to_string();
    let told = "mvanishing-0 begins at 75 in the target, so that 75 of the offsets";
    assert!(warnings.contains(told), "{report}");
    // What comes later is not concerned.
    client.produce("mvanishing", 0, Compression::None, numbered(0, 5));
    assert_eq!(mirrored.done("--topic mvanishing")["status"], "completed");
}

/// Some of it is in `target` while `run` goes on, which must take half a minute then.
#[track_caller]
fn begins(client: &Client, run: &mut Child, target: &str) {
    client.wait_until("it began", |client| holds(client, target, 20));
    assert!(run.try_wait().unwrap().is_none(), "it ended too soon");
}

#[track_caller]
fn ends_for_another(run: Child, topic: &str) {
    let ended = run.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    let reason = format!("another kafkeep began to write to topic {topic} of the target");
    assert!(said.contains(&reason), "{said}");
    assert!(!said.contains("begun anew"), "{said}");
}

#[test]
fn of_a_restore_and_a_mirror_that_begin_one_topic_the_older_ends_with_the_reason() {
    let mirrored = Mirrored {
        source: Fixture::shared(),
        target: Fixture::shared(),
        name: "rival",
    };
    let scene = &mirrored.source;
    scene.client.create_topic("rival", 1, &[]);
    let values = (0..400).map(|n| Message::new(format!("key-{n}"), "v".repeat(4096)));
    let client = Client::new(&scene.broker.address()).with("batch.num.messages", "4");
    client.produce("rival", 0, Compression::None, values);
    scene.backup("--topic rival");

    let slowly = "latest --rename rival=one.rival --rate-limit 32KiB/s";
    let mut older = scene.command("restore", slowly);
    let older = older.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut older = older.spawn().unwrap();
    begins(&scene.client, &mut older, "one.rival");
    let report = mirrored.done("--topic rival --rename one.{topic} --if-exists append");
    assert_eq!(report["records"], 400, "{report}");
    ends_for_another(older, "one.rival");

    let mut older = mirrored.start_piped("--topic rival --rename two.{topic} --rate-limit 32KiB/s");
    begins(&scene.client, &mut older, "two.rival");
    let appended = "latest --if-exists append --rename rival=two.rival";
    let newer = scene.run("restore", appended);
    assert_eq!(newer.code, 0, "{newer}");
    ends_for_another(older, "two.rival");
}
