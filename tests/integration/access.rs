//! A right that is missing is named.

use crate::fixture::{Fixture, numbered};
use crate::testbed::Compression;
use crate::testbed::acl::{self, Acl};

/// Lets everybody do only this on these topics.
fn allow_only(scene: &Fixture<'_>, topics: &[&str], operations: &[&str]) {
    for topic in topics {
        allow(scene, operations, "topic", topic);
    }
}

fn allow(scene: &Fixture<'_>, operations: &[&str], resource: &str, name: &str) {
    let acls: Vec<Acl> = operations
        .iter()
        .map(|operation| Acl::allow("ANONYMOUS", operation, resource, name))
        .collect();
    acl::add(&scene.broker.address(), &acls);
}

#[test]
fn a_backup_names_the_right_that_it_lacks_and_makes_no_backup() {
    let scene = Fixture::elsewhere();
    for topic in ["secret.unseen", "secret.unread", "secret.unconfigured"] {
        scene.client.create_topic(topic, 1, &[]);
        scene
            .client
            .produce(topic, 0, Compression::None, numbered(0, 3));
    }
    allow_only(&scene, &["secret.unseen"], &["Write"]);
    allow_only(&scene, &["secret.unread"], &["Describe", "DescribeConfigs"]);
    allow_only(&scene, &["secret.unconfigured"], &["Read"]);
    // Write implies Describe: a right to nothing of use hides the topic altogether.
    allow_only(&scene, &["secret.hidden"], &["Delete"]);
    let lacks = |topic: &str, operation: &str| {
        scene.run("backup", &format!("--topic {topic}")).refused(
            1,
            &[&format!(
                "not allowed: grant ACL {operation} on topic {topic}"
            )],
        );
    };
    lacks("secret.unseen", "DESCRIBE_CONFIGS");
    lacks("secret.unread", "READ");
    lacks("secret.unconfigured", "DESCRIBE_CONFIGS");
    assert_eq!(scene.files("backups").len(), 0);
    assert_eq!(scene.files("locks").len(), 0);
    assert_eq!(scene.files(".tmp").len(), 0);
}

#[test]
fn a_topic_that_may_not_even_be_seen_is_told_from_one_that_does_not_exist() {
    let scene = Fixture::elsewhere();
    scene.client.create_topic("veiled", 1, &[]);
    allow_only(&scene, &["veiled"], &["AlterConfigs"]);
    // To alter settings implies to describe them, not the topic.
    scene
        .run("backup", "--topic veiled")
        .refused(1, &["not allowed: grant ACL READ on topic veiled"]);
    scene
        .run("backup", "--topic veiled*")
        .refused(1, &["pattern `veiled*` matches no topic", "--allow-empty"]);
}

#[test]
fn a_restore_names_the_right_that_it_lacks_and_what_it_leaves_behind() {
    let scene = Fixture::elsewhere();
    scene.client.create_topic("owned", 1, &[]);
    scene
        .client
        .produce("owned", 0, Compression::None, numbered(0, 3));
    scene.backup("--topic owned");
    // Everything on the cluster but to create any topic there.
    let most = [
        "ClusterAction",
        "Alter",
        "AlterConfigs",
        "Describe",
        "DescribeConfigs",
        "IdempotentWrite",
    ];
    allow(&scene, &most, "cluster", "");
    allow_only(&scene, &["forbidden"], &["Describe"]);
    scene
        .run("restore", "latest --rename owned=forbidden")
        .refused(
            1,
            &[
                "topic forbidden cannot be created",
                "grant ACL CREATE on topic forbidden",
            ],
        );

    allow_only(
        &scene,
        &["unwritten"],
        &["Create", "AlterConfigs", "Describe"],
    );
    scene
        .run("restore", "latest --rename owned=unwritten")
        .refused(
            1,
            &[
                "grant ACL WRITE on topic unwritten",
                "this restore created unwritten; run the same restore again to go on with it",
            ],
        );
    allow_only(
        &scene,
        &["unaltered"],
        &["Create", "Write", "DescribeConfigs"],
    );
    scene
        .run("restore", "latest --rename owned=unaltered")
        .refused(
            1,
            &[
                "grant ACL ALTER_CONFIGS on topic unaltered",
                "this restore created unaltered; run the same restore again to go on with it",
            ],
        );
    assert_eq!(
        scene.client.watermarks("unaltered", 0),
        (0, 0),
        "nothing was written yet"
    );
}
