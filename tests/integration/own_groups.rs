//! What kafkeep keeps for itself in a cluster is no user's: the progress of mirrors in backups, restores, drains and mirrors.

use serde_json::Value;

use crate::drain::drain;
use crate::fixture::numbered;
use crate::mirror::Mirrored;
use crate::testbed::Compression;
use crate::testbed::group::Group;

fn names(groups: &Value) -> Vec<&str> {
    let groups = groups.as_array().unwrap().iter();
    groups
        .map(|group| group["group"].as_str().unwrap())
        .collect()
}

#[test]
fn a_backup_and_a_restore_of_a_mirrors_target_leave_its_progress_alone() {
    let mirrored = Mirrored::new("mg3");
    let (client, target) = (&mirrored.source.client, &mirrored.target);
    client.create_topic("own.s3", 1, &[]);
    client.produce("own.s3", 0, Compression::None, numbered(0, 100));
    let mirror = || mirrored.done("--topic own.s3 --rename dr.{topic}");
    assert_eq!(mirror()["records"], 100);
    let of = |name: &str| Group::new(&target.servers, name);
    of("own.reader").commit("dr.own.s3", 0, 40, "");
    // Of a user, whatever its name is.
    of("kafkeep.reader").commit("dr.own.s3", 0, 50, "{\"v\":1}");
    let progress = of("kafkeep.mg3").committed("dr.own.s3", 0);

    target.backup("--topic dr.own.s3 --groups all");
    let plan = target.plan("latest --groups all --if-exists append");
    assert_eq!(names(&plan["groups"]), ["kafkeep.reader", "own.reader"]);
    target.restore("latest --groups all --if-exists append");
    assert_eq!(of("kafkeep.mg3").committed("dr.own.s3", 0), progress);
    target
        .run("backup", "--topic dr.own.s3 --groups kafkeep.mg3")
        .refused(1, &["kafkeep.mg3", "the progress of a mirror"]);

    client.produce("own.s3", 0, Compression::None, numbered(100, 200));
    assert_eq!(mirror()["records"], 200);
    let values: Vec<_> = target.client.read("dr.own.s3")[0]
        .iter()
        .map(|record| record.value.clone())
        .collect();
    // What was mirrored, the same restored, and what came.
    let wanted = numbered(0, 100).chain(numbered(0, 300));
    assert_eq!(
        values,
        wanted.map(|message| message.value).collect::<Vec<_>>()
    );
}

#[test]
fn drain_leaves_the_progress_of_mirrors_out_and_refuses_it_by_name() {
    let mirrored = Mirrored::new("mg4");
    let (client, target) = (&mirrored.source.client, &mirrored.target);
    client.create_topic("own.drained", 1, &[]);
    client.produce("own.drained", 0, Compression::None, numbered(0, 100));
    mirrored.done("--topic own.drained");
    Group::new(&target.servers, "own.drained.reader").commit("own.drained", 0, 20, "");
    let every = "--topic own.drained --group own.drained.* --group kafkeep.mg4* --stable-checks 1";
    let report = drain(&target.servers, &format!("--json {every}")).json();
    let groups = report["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 1, "{report:#}");
    assert_eq!(groups[0]["group_id"], "own.drained.reader", "{report:#}");
    drain(&target.servers, "--group kafkeep.mg4 --stable-checks 1")
        .refused(1, &["kafkeep.mg4", "the progress of a mirror"]);
}

#[test]
fn a_mirror_with_groups_follows_a_user_whose_group_begins_like_its_own() {
    let mirrored = Mirrored::new("mg5");
    let client = &mirrored.source.client;
    client.create_topic("own.followed", 1, &[]);
    client.produce("own.followed", 0, Compression::None, numbered(0, 100));
    let user = |servers: &str| Group::new(servers, "kafkeep.own.user");
    user(&mirrored.source.servers).commit("own.followed", 0, 30, "");
    // Another mirror's progress on the topic, in its source.
    let back = Mirrored {
        source: crate::fixture::Fixture::elsewhere(),
        target: crate::fixture::Fixture::shared(),
        name: "mg5.back",
    };
    back.source.client.create_topic("own.followed.back", 1, &[]);
    back.done("--topic own.followed.back");
    let report = mirrored.done("--topic own.followed --topic own.followed.back --groups kafkeep.*");
    assert_eq!(names(&report["groups"]), ["kafkeep.own.user"], "{report:#}");
    let there = user(&mirrored.target.servers).committed("own.followed", 0);
    assert_eq!(there.unwrap().0, 30);
}
