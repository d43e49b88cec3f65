//! The HTTP API against a real broker: what is documented, who is let in, and what is refused.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api_client::{Answer, Called};
use crate::fixture::{Fixture, assert_same_records, awkward, numbered};
use crate::testbed::group::Group;
use crate::testbed::{Compression, TransactionEnd};

#[track_caller]
fn has_fields(body: &Value, fields: &[&str]) {
    for field in fields {
        assert!(body.get(field).is_some(), "{field} is not in {body:#}");
    }
}

#[test]
fn a_topic_is_backed_up_validated_restored_and_compared_by_http_alone() {
    let scene = Fixture::shared();
    let called = Called::start(&scene);
    let topic = "api.whole";
    scene
        .client
        .create_topic(topic, 3, &[("retention.ms", "-1")]);
    for partition in 0..3 {
        scene
            .client
            .produce(topic, partition, Compression::None, awkward(200));
    }
    let order = json!({ "topic": topic, "compression": "lz4", "rate_limit_per_second": 1_000_000 });
    let backup = called.post("/api/kafka/clusters/prod/backup", &order).ok();
    has_fields(
        &backup,
        &[
            "backup_id",
            "topic",
            "cluster_id",
            "compression",
            "total_messages",
            "total_size_bytes",
            "compressed_size_bytes",
            "compression_ratio",
            "duration_ms",
            "partitions",
            "created_at",
            "status",
        ],
    );
    assert_eq!(
        (&backup["status"], &backup["cluster_id"]),
        (&json!("completed"), &json!("prod"))
    );
    assert_eq!(backup["total_messages"], 600);
    assert_eq!(
        (
            &backup["partitions"][2]["partition"],
            &backup["partitions"][2]["messages_count"]
        ),
        (&json!(2), &json!(200))
    );
    let id = backup["backup_id"].as_str().unwrap();
    let validation = called
        .post(&format!("/api/kafka/backups/{id}/validate"), &json!({}))
        .ok();
    assert_eq!(
        (&validation["status"], &validation["depth"]),
        (&json!("sound"), &json!("full"))
    );
    let order = json!({ "backup_id": id, "target_topic": "api.whole.back", "replication_factor": 1,
        "rate_limit_per_second": 1_000_000 });
    // Kafka's own id of the cluster does as well.
    let kafka = backup["kafka_cluster_id"].as_str().unwrap();
    let restored = called
        .post(&format!("/api/kafka/clusters/{kafka}/restore"), &order)
        .ok();
    has_fields(
        &restored,
        &[
            "backup_id",
            "target_topic",
            "cluster_id",
            "total_messages",
            "total_size_bytes",
            "duration_ms",
            "messages_restored",
            "partitions_created",
            "status",
            "checksum_validated",
        ],
    );
    assert_eq!(
        (&restored["status"], &restored["messages_restored"]),
        (&json!("completed"), &json!(600))
    );
    assert_eq!(restored["checksum_validated"], true);
    let read = |topic: &str| scene.client.read(topic);
    assert_same_records(&read(topic), &read("api.whole.back"), "api.whole.back");
    // The same again is in the way of itself.
    let again = called.post("/api/kafka/clusters/prod/restore", &order);
    let why = again.failed(409, "Conflict", Some("target_topic"));
    assert!(why.contains("api.whole.back"), "{why}");

    let listed = called.get("/api/kafka/backups?topic=api.whole").ok();
    assert_eq!(listed["backups"][0]["backup_id"], backup["backup_id"]);
    assert_eq!(listed["backups"][0]["cluster_id"], "prod");
    let listed = called.get("/api/kafka/backups?cluster=prod&policy=-").ok();
    assert_eq!(listed["backups"][0]["backup_id"], backup["backup_id"]);
    for (parameter, value) in [
        ("policy", "other"),
        ("cluster", "other"),
        ("topic", "other"),
    ] {
        let none = called.get(&format!("/api/kafka/backups?{parameter}={value}"));
        let why = none.failed(404, "NotFound", Some(parameter));
        assert!(
            why.contains("there are backups") || why.contains("no policy"),
            "{why}"
        );
    }
    let shown = called.get(&format!("/api/kafka/backups/{id}")).ok();
    assert_eq!(
        shown["topic_details"][0]["partitions"][1]["messages_count"],
        200
    );
    let figures = called.get("/api/kafka/metrics").ok();
    has_fields(
        &figures,
        &[
            "active_backups",
            "completed_backups_today",
            "total_backup_size_gb",
            "average_backup_duration_ms",
            "compression_savings_percent",
            "error_rate_percent",
        ],
    );
    assert_eq!(
        (
            &figures["completed_backups_today"],
            &figures["active_backups"]
        ),
        (&json!(1), &json!(0))
    );
    // The last complete one stays.
    let why = called.delete(&format!("/api/kafka/backups/{id}"));
    assert!(
        why.failed(409, "Conflict", Some("backup_id"))
            .contains("min_backups is 1"),
        "{why:?}"
    );
    called
        .post(
            "/api/kafka/clusters/prod/backup",
            &json!({ "topic": topic }),
        )
        .ok();
    assert_eq!(
        called.delete(&format!("/api/kafka/backups/{id}")).ok()["status"],
        "deleted"
    );
    called
        .get(&format!("/api/kafka/backups/{id}"))
        .failed(404, "NotFound", Some("backup_id"));
    scene.verify();
}

#[test]
fn parts_of_a_topic_are_backed_up_as_all_parameters_say() {
    let scene = Fixture::shared();
    let called = Called::start(&scene);
    let topic = "api.parts";
    scene
        .client
        .create_topic(topic, 2, &[("retention.ms", "-1")]);
    for partition in 0..2 {
        scene
            .client
            .produce(topic, partition, Compression::Gzip, awkward(100));
    }
    let order = json!({
        "topic": topic, "compression": "gzip", "max_messages": 30, "start_offset": 10, "end_offset": "latest",
        "partitions": [1], "include_headers": false, "include_keys": false, "rate_limit_per_second": 100_000,
    });
    let backup = called.post("/api/kafka/clusters/prod/backup", &order).ok();
    assert_eq!(backup["total_messages"], 30);
    assert_eq!(backup["partitions"].as_array().unwrap().len(), 1);
    assert_eq!(
        (
            &backup["partitions"][0]["start_offset"],
            &backup["partitions"][0]["end_offset"]
        ),
        (&json!(10), &json!(40))
    );
    let order = json!({ "backup_id": backup["backup_id"], "target_topic": "api.parts.back", "target_partitions": 1,
        "replication_factor": 1 });
    called.post("/api/kafka/clusters/prod/restore", &order).ok();
    let expected: Vec<_> = scene.client.read(topic)[1][10..40]
        .iter()
        .map(|record| record.value.clone())
        .collect();
    let restored = &scene.client.read("api.parts.back")[0];
    let values: Vec<_> = restored.iter().map(|record| record.value.clone()).collect();
    assert!(values == expected);
    assert!(
        restored
            .iter()
            .all(|record| record.key.is_none() && record.headers.is_empty())
    );
    // Offsets are kept, or the restore is refused: here they begin at 10.
    let order = json!({ "backup_id": backup["backup_id"], "target_topic": "api.parts.exact", "preserve_offsets": true });
    let refused = called.post("/api/kafka/clusters/prod/restore", &order);
    assert!(
        refused
            .failed(400, "InvalidRequest", Some("preserve_offsets"))
            .contains("begins at offset 10"),
        "{refused:?}"
    );
    let order = json!({ "topic": topic, "partitions": [0, 1] });
    let whole = called.post("/api/kafka/clusters/prod/backup", &order).ok();
    let order = json!({ "backup_id": whole["backup_id"], "target_topic": "api.parts.exact", "preserve_offsets": true });
    let exact = called.post("/api/kafka/clusters/prod/restore", &order).ok();
    assert_eq!(exact["offsets"], "exact");
    assert_eq!(
        scene.client.read("api.parts.exact"),
        scene.client.read(topic)
    );
}

#[test]
fn a_group_is_waited_for_until_it_has_consumed_what_there_is() {
    let scene = Fixture::shared();
    let called = Called::start(&scene);
    let (topic, group) = ("api.drain", "api.drain.g");
    scene.client.create_topic(topic, 1, &[]);
    scene
        .client
        .produce(topic, 0, Compression::None, numbered(0, 10));
    let commit = |offset| Group::new(&scene.broker.address(), group).commit(topic, 0, offset, "");
    commit(4);
    let path = "/api/kafka/clusters/prod/drain";
    let order = json!({ "group_id": group, "topics": [topic], "timeout_seconds": 0, "check_interval_ms": 100 });
    let report = called.post(path, &order).ok();
    has_fields(
        &report,
        &[
            "group_id",
            "status",
            "total_lag",
            "duration_ms",
            "partitions_checked",
            "last_check_time",
            "partition_details",
        ],
    );
    assert_eq!(
        (&report["status"], &report["timed_out"]),
        (&json!("stopped"), &json!(true))
    );
    let row = &report["partition_details"][0];
    assert_eq!(
        *row,
        json!({ "topic": topic, "partition": 0, "current_offset": 4, "latest_offset": 10, "lag": 6 })
    );
    let mut order = order;
    order["timeout_seconds"] = json!(60);
    let job = called.begin(path, &order);
    called
        .daemon
        .wait_until("it watches", |_| called.job(&job)["progress"]["total"] == 6);
    commit(10);
    let job = called.ended(&job);
    assert_eq!(
        (&job["state"], &job["result"]["status"]),
        (&json!("completed"), &json!("drained")),
        "{job}"
    );
    order["group_id"] = json!("api.drain.nobody");
    called
        .post(path, &order)
        .failed(404, "NotFound", Some("group_id"));
    order["topics"] = json!(["api.drain.nothing"]);
    called
        .post(path, &order)
        .failed(404, "NotFound", Some("topics"));
}

#[test]
fn a_topic_is_migrated_with_a_filter_and_headers_to_another_cluster() {
    let scene = Fixture::shared();
    let target = Fixture::elsewhere();
    let other = format!(
        "[clusters.dr]\nbootstrap_servers = ['{}']\n",
        target.broker.address()
    );
    let called = Called::start_with(&scene, &other, "", None);
    let topic = "api.migrate";
    scene.client.create_topic(topic, 1, &[]);
    scene
        .client
        .produce(topic, 0, Compression::Lz4, numbered(0, 100));
    let order = json!({
        "source_cluster": "prod", "source_topic": topic, "target_cluster": "dr", "target_topic": "api.migrated",
        "transformation": {
            "filter_expression": "value.contains('9')",
            "header_additions": [["migrated-from", "prod"]],
        },
        "rate_limit_per_second": 100_000,
    });
    let report = called.post("/api/kafka/migrate", &order).ok();
    has_fields(
        &report,
        &[
            "migration_id",
            "source_cluster",
            "source_topic",
            "target_cluster",
            "target_topic",
            "total_messages",
            "messages_migrated",
            "duration_ms",
            "status",
            "transformation_applied",
        ],
    );
    assert_eq!(
        (&report["total_messages"], &report["messages_migrated"]),
        (&json!(100), &json!(19))
    );
    assert_eq!(
        (&report["status"], &report["transformation_applied"]),
        (&json!("completed"), &json!(true))
    );
    let records = &target.client.read("api.migrated")[0];
    assert_eq!(records.len(), 19);
    assert!(records.iter().all(|record| {
        let header = ("migrated-from".to_owned(), Some(b"prod".to_vec()));
        record.headers.contains(&header)
    }));
    let keyed = json!({
        "source_cluster": "prod", "source_topic": topic, "target_cluster": "dr", "target_topic": "api.migrated.keyed",
        "max_messages": 42, "transformation": { "key_transformation": "'k-' + key" },
    });
    assert_eq!(
        called.post("/api/kafka/migrate", &keyed).ok()["messages_migrated"],
        42
    );
    let records = &target.client.read("api.migrated.keyed")[0];
    assert_eq!(records.len(), 42);
    assert_eq!(records[7].key.as_deref(), Some(&b"k-key-7"[..]));
    // What others wrote is not mixed with it.
    let again = called.post("/api/kafka/migrate", &order);
    again.failed(409, "Conflict", Some("target_topic"));
    let bad = json!({ "source_cluster": "prod", "source_topic": topic, "target_cluster": "nowhere", "target_topic": "x" });
    called
        .post("/api/kafka/migrate", &bad)
        .failed(404, "NotFound", Some("target_cluster"));
}

#[test]
fn who_asks_is_let_in_as_far_as_the_token_says() {
    let scene = Fixture::shared();
    let called = Called::start(&scene);
    let topic = "api.who";
    scene.client.create_topic(topic, 1, &[]);
    scene
        .client
        .produce(topic, 0, Compression::None, numbered(0, 5));
    let order = json!({ "topic": topic }).to_string();
    let path = "/api/kafka/clusters/prod/backup";
    let backup = called.call("POST", path, &[], &order).ok();
    let id = backup["backup_id"].as_str().unwrap();
    let nobody = called.call_as("", "POST", path, &[], &order);
    nobody.failed(401, "Unauthorized", None);
    assert_eq!(
        nobody.header("www-authenticate"),
        Some("Bearer realm=\"kafkeep\"")
    );
    let expired = called.token("--subject eve --scope admin --expires 0s");
    std::thread::sleep(Duration::from_millis(10));
    // Within the leeway an expired token does: another one, that somebody else signed, does not.
    let forged = format!("{}x", &expired[..expired.len() - 1]);
    let refused = called.call_as(&forged, "GET", "/api/kafka/backups", &[], "");
    refused.failed(401, "Unauthorized", None);
    assert!(
        refused
            .header("www-authenticate")
            .unwrap()
            .contains("invalid_token"),
        "{refused:?}"
    );
    // What is there is not told to who is not known: not even whether a path is one.
    for path in ["/api/kafka/nothing", "/api", "/api/kafka/jobs/x"] {
        called
            .call_as("", "GET", path, &[], "")
            .failed(401, "Unauthorized", None);
    }
    let reader = called.token("--subject bob --scope read");
    called
        .call_as(&reader, "POST", path, &[], &order)
        .failed(403, "Forbidden", None);
    called
        .call_as(&reader, "GET", "/api/kafka/backups", &[], "")
        .ok();
    called
        .call_as(
            &reader,
            "DELETE",
            &format!("/api/kafka/backups/{id}"),
            &[],
            "",
        )
        .failed(403, "Forbidden", None);
    // Clusters and topics that a token does not allow are as if they were not there, or are refused all alike.
    let limited =
        called.token("--subject carol --scope read --scope backup --cluster prod --topic orders.*");
    for (cluster, topic) in [
        ("prod", topic),
        ("prod", "api.nothing"),
        ("dr", "orders.x"),
        ("nowhere", "orders.x"),
    ] {
        let path = format!("/api/kafka/clusters/{cluster}/backup");
        let order = json!({ "topic": topic }).to_string();
        called
            .call_as(&limited, "POST", &path, &[], &order)
            .failed(403, "Forbidden", None);
    }
    let list = called
        .call_as(&limited, "GET", "/api/kafka/backups", &[], "")
        .ok();
    assert_eq!(list["backups"], json!([]));
    let one = called.call_as(
        &limited,
        "GET",
        &format!("/api/kafka/backups/{id}"),
        &[],
        "",
    );
    one.failed(404, "NotFound", Some("backup_id"));
    let jobs = called
        .call_as(&limited, "GET", "/api/kafka/jobs", &[], "")
        .ok();
    assert_eq!(jobs["jobs"], json!([]));
    // Figures of everything are for those who may see everything.
    called
        .call_as(&limited, "GET", "/api/kafka/metrics", &[], "")
        .failed(403, "Forbidden", None);
    called
        .daemon
        .wait_until("all who changed something are in the log", |daemon| {
            let log = daemon.log();
            [
                "\"alice\" called POST",
                "\"bob\" called DELETE",
                "\"carol\" called POST",
            ]
            .iter()
            .all(|line| log.contains(line))
        });
}

#[test]
fn without_a_key_there_is_no_api() {
    let scene = Fixture::shared();
    let daemon = crate::daemon_process::Daemon::start_with(&scene, "[api]\nissuer = 'x'\n", "");
    for path in ["/api/kafka/backups", "/api/openapi.json"] {
        assert_eq!(daemon.get(path).0, 404, "{path}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_in_the_documented_body() {
    let scene = Fixture::shared();
    let called = Called::start(&scene);
    let path = "/api/kafka/clusters/prod/backup";
    let post = |body: &str| called.call("POST", path, &[], body);
    post("{").failed(400, "InvalidRequest", None);
    post(r#"{"topik": "x"}"#).failed(400, "InvalidRequest", Some("topik"));
    post("").failed(400, "InvalidRequest", Some("topic"));
    let refused = post(r#"{"topic": "x", "compression": "brotli"}"#);
    refused.failed(400, "InvalidRequest", Some("compression"));
    assert_eq!(refused.body["details"]["value"], "brotli");
    let deep = "[".repeat(500_000);
    let deep = post(&format!(r#"{{"topic": {deep}}}"#));
    deep.failed(400, "InvalidRequest", Some("topic"));
    post(r#"{"topic": "api.nowhere"}"#).failed(404, "NotFound", Some("topic"));
    called
        .post("/api/kafka/clusters/nowhere/backup", &json!({}))
        .failed(404, "NotFound", Some("cluster_id"));
    let order = json!({ "topic": "x", "repository": "other" });
    called
        .post(path, &order)
        .failed(404, "NotFound", Some("repository"));
    let order = json!({ "backup_id": "backup-1234567890", "target_topic": "x" });
    called
        .post("/api/kafka/clusters/prod/restore", &order)
        .failed(404, "NotFound", Some("backup_id"));
    let text = called.call("POST", path, &["Content-Type: text/plain"], "{}");
    text.failed(415, "UnsupportedMediaType", Some("Content-Type"));
    let large = format!(r#"{{"topic": "{}"}}"#, "x".repeat(1 << 20));
    post(&large).failed(413, "PayloadTooLarge", None);
    let put = called.call("PUT", path, &[], "{}");
    put.failed(405, "MethodNotAllowed", None);
    assert_eq!(put.header("allow"), Some("POST"));
    called
        .get("/api/kafka/nothing")
        .failed(404, "NotFound", None);
    called
        .get("/api/kafka/backups?limit=0")
        .failed(400, "InvalidRequest", Some("limit"));
    called
        .get("/api/kafka/backups?colour=red")
        .failed(400, "InvalidRequest", Some("colour"));
    called
        .get("/api/kafka/jobs?state=lazy")
        .failed(400, "InvalidRequest", Some("state"));
    called
        .get("/api/kafka/jobs/x")
        .failed(404, "NotFound", Some("job_id"));
}

#[test]
fn a_job_goes_on_without_who_asked_and_is_found_cancelled_and_remembered() {
    let scene = Fixture::shared();
    let state = scene.beside("state");
    fs::create_dir(&state).unwrap();
    let called = Called::start_with(&scene, "", "", Some(&state));
    let topic = "api.jobs";
    scene.client.create_topic(topic, 1, &[]);
    scene
        .client
        .produce(topic, 0, Compression::None, numbered(0, 2000));
    let path = "/api/kafka/clusters/prod/backup";
    // Slow enough to be met while it runs.
    let slow = json!({ "topic": topic, "rate_limit_per_second": 200 });
    // Who asks for it hangs up.
    let token = called.token("--subject dave --scope backup");
    let mut stream = TcpStream::connect(("127.0.0.1", called.daemon.port)).unwrap();
    let body = slow.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Idempotency-Key: once\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    called.daemon.wait_until("the job runs", |_| {
        called.get("/api/kafka/jobs?state=running&kind=backup").ok()["jobs"][0].is_object()
    });
    drop(stream);
    let job = called.get("/api/kafka/jobs").ok()["jobs"][0].clone();
    assert_eq!(
        (&job["subject"], &job["cluster_id"]),
        (&json!("dave"), &json!("prod"))
    );
    called.daemon.wait_until("it moves", |_| {
        let progress = called.job(&job)["progress"].clone();
        progress["done"].as_u64() > Some(0)
            && progress["total"] == 2000
            && progress["seconds_left"].is_u64()
    });
    // The same call is the same job; the same key for another is refused.
    let header = ["Idempotency-Key: once", "Prefer: respond-async"];
    let same = called.call_as(&token, "POST", path, &header, &body);
    assert_eq!(
        (same.code, &same.body["job_id"]),
        (202, &job["job_id"]),
        "{same:?}"
    );
    let location = format!("/api/kafka/jobs/{}", job["job_id"].as_str().unwrap());
    assert_eq!(same.header("location"), Some(location.as_str()));
    let other = json!({ "topic": "api.other" }).to_string();
    let refused = called.call_as(&token, "POST", path, &header, &other);
    refused.failed(409, "Conflict", Some("Idempotency-Key"));
    assert_eq!(called.get("/api/kafka/metrics").ok()["active_backups"], 1);
    let cancelled = called.delete(&location);
    assert_eq!(cancelled.code, 202, "{cancelled:?}");
    assert_eq!(called.ended(&job)["state"], "cancelled");
    called
        .delete(&location)
        .failed(409, "Conflict", Some("job_id"));
    // What was cancelled is no backup.
    assert_eq!(called.get("/api/kafka/backups").ok()["backups"], json!([]));
    let done = called
        .post(
            path,
            &json!({ "topic": topic, "rate_limit_per_second": 100_000 }),
        )
        .ok();
    let running = called.begin(
        path,
        &json!({ "topic": topic, "start_offset": 1, "rate_limit_per_second": 100 }),
    );
    called.daemon.wait_until("it is written down", |_| {
        let path = state.join(format!("jobs/{}.json", running["job_id"].as_str().unwrap()));
        fs::read_to_string(path).is_ok_and(|text| text.contains("\"running\""))
    });
    // Killed at work: what ended is known as it was, what ran has failed.
    drop(called);
    let called = Called::start_with(&scene, "", "", Some(&state));
    assert_eq!(called.job(&job)["state"], "cancelled");
    let failed = called.job(&running);
    assert_eq!(failed["state"], "failed");
    assert!(
        failed["error"]["message"]
            .as_str()
            .unwrap()
            .contains("the daemon ended"),
        "{failed}"
    );
    let jobs = called.get("/api/kafka/jobs?state=completed").ok();
    let known = called.job(&jobs["jobs"][0]);
    assert_eq!(known["result"]["backup_id"], done["backup_id"]);
    let same = called.call_as(&token, "POST", path, &header, &body);
    assert_eq!(
        (same.code, &same.body["job_id"]),
        (202, &job["job_id"]),
        "{same:?}"
    );
}

#[test]
fn a_cancelled_restore_goes_on_when_it_is_asked_for_again() {
    let scene = Fixture::shared();
    let called = Called::start(&scene);
    let topic = "api.cancelled";
    scene.client.create_topic(topic, 1, &[]);
    // Batches of their own, so that there is something between none and all of them.
    for batch in 0..100 {
        let records = numbered(batch * 20, 20);
        scene.client.produce(topic, 0, Compression::None, records);
    }
    let order = json!({ "topic": topic, "rate_limit_per_second": 1_000_000 });
    let backup = called.post("/api/kafka/clusters/prod/backup", &order).ok();
    let path = "/api/kafka/clusters/prod/restore";
    let restore = |rate: u32| {
        json!({
            "backup_id": backup["backup_id"], "target_topic": "api.cancelled.back", "rate_limit_per_second": rate,
        })
    };
    let job = called.begin(path, &restore(100));
    called.daemon.wait_until("records are restored", |_| {
        called.job(&job)["progress"]["done"].as_u64() > Some(0)
    });
    let location = format!("/api/kafka/jobs/{}", job["job_id"].as_str().unwrap());
    assert_eq!(called.delete(&location).code, 202);
    let ended = called.ended(&job);
    assert_eq!(ended["state"], "cancelled", "{ended}");
    let part = scene.client.read("api.cancelled.back")[0].len();
    assert!(part < 2000, "{part} records");
    let done = called.post(path, &restore(1_000_000)).ok();
    assert_eq!(done["status"], "completed");
    let (before, after) = (
        scene.client.read(topic),
        scene.client.read("api.cancelled.back"),
    );
    assert_same_records(&before, &after, "the restored topic");
}

#[test]
fn whoever_is_turned_away_leaves_a_line_too_with_the_request_that_it_belongs_to() {
    let scene = Fixture::shared();
    let called = Called::start_with(&scene, "[limits]\ncalls_per_minute = 2\n", "", None);
    let eve = called.token("--subject eve --scope read");
    let path = "/api/kafka/clusters/prod/backup";
    let forged = called.call_as("a.b.c", "POST", path, &[], "{}");
    forged.failed(401, "Unauthorized", None);
    let put = called.call_as(&eve, "PUT", path, &[], "{}");
    put.failed(405, "MethodNotAllowed", None);
    assert_eq!(put.header("allow"), Some("POST"));
    called.call_as(&eve, "POST", path, &[], "{}");
    let third = called.call_as(&eve, "POST", path, &[], "{}");
    third.failed(429, "TooManyRequests", None);
    let line = |who: &str, what: &str, answer: &Answer| {
        let id = answer.header("x-request-id").unwrap();
        called.daemon.wait_until("the line is written", |daemon| {
            let log = daemon.log();
            let mut lines = log.lines();
            lines.any(|line| {
                line.contains(who)
                    && line.contains(what)
                    && line.contains(&format!("request_id={id}"))
            })
        });
    };
    line("nobody known called POST", "401", &forged);
    line("\"eve\" called PUT", "405", &put);
    line("\"eve\" called POST", "429", &third);
    // Who floods the port does not flood the log.
    for _ in 0..300 {
        called.call_as("", "DELETE", "/api/kafka/backups/x", &[], "");
    }
    let lines = called.daemon.log().matches("nobody known").count();
    assert!((30..150).contains(&lines), "{lines} lines");
}

#[test]
fn who_asks_for_too_much_is_told_when_to_ask_again() {
    let scene = Fixture::shared();
    let limits =
        "[limits]\ncalls_per_minute = 12\nbackups_per_cluster = 2\nmax_concurrent_backups = 1\n";
    let called = Called::start_with(&scene, limits, "backup_rate_limit = '50 records/s'", None);
    let topic = "api.limits";
    scene.client.create_topic(topic, 1, &[]);
    scene
        .client
        .produce(topic, 0, Compression::None, numbered(0, 5000));
    let path = "/api/kafka/clusters/prod/backup";
    let order = json!({ "topic": topic });
    let first = called.begin(path, &order);
    let second = called.begin(path, &order);
    let waits = called.job(&second);
    assert_eq!(
        (&waits["state"], &called.job(&first)["state"]),
        (&json!("waiting"), &json!("running"))
    );
    assert!(
        waits["waiting_for"]
            .as_str()
            .unwrap()
            .contains("max_concurrent_backups"),
        "{waits}"
    );
    let third = called.post(path, &order);
    assert!(
        third
            .failed(429, "TooManyRequests", None)
            .contains("2 backups of this cluster"),
        "{third:?}"
    );
    assert!(third.header("retry-after").is_some(), "{third:?}");
    let left = |answer: &Answer| {
        answer
            .header("ratelimit-remaining")
            .map(|left| left.parse::<u32>().unwrap())
    };
    let limited = (0..20)
        .map(|_| called.get("/api/kafka/jobs"))
        .find(|answer| answer.code == 429)
        .unwrap();
    assert_eq!(left(&limited), Some(0));
    assert_eq!(limited.header("ratelimit-limit"), Some("12"));
    let again_after: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=6).contains(&again_after), "{limited:?}");
    // Others have a share of their own.
    let bob = called.token("--subject bob --scope admin");
    for job in [second, first] {
        let path = format!("/api/kafka/jobs/{}", job["job_id"].as_str().unwrap());
        assert_eq!(called.call_as(&bob, "DELETE", &path, &[], "").code, 202);
    }
}

#[test]
fn an_uncommitted_transaction_is_no_part_of_what_is_restored_over_http() {
    let scene = Fixture::shared();
    let called = Called::start(&scene);
    let topic = "api.txn";
    scene.client.create_topic(topic, 1, &[]);
    scene
        .client
        .transaction("api.txn.1", topic, numbered(0, 5), TransactionEnd::Commit);
    scene
        .client
        .transaction("api.txn.2", topic, numbered(5, 5), TransactionEnd::Abort);
    let backup = called
        .post(
            "/api/kafka/clusters/prod/backup",
            &json!({ "topic": topic }),
        )
        .ok();
    let order = json!({ "backup_id": backup["backup_id"], "target_topic": "api.txn.back" });
    let restored = called.post("/api/kafka/clusters/prod/restore", &order).ok();
    assert_eq!(
        (
            &restored["messages_restored"],
            &restored["messages_skipped"]
        ),
        (&json!(5), &json!(5))
    );
}

#[test]
fn a_damaged_backup_is_found_before_anything_is_created() {
    let scene = Fixture::shared();
    let called = Called::start(&scene);
    let topic = "api.damaged";
    scene.client.create_topic(topic, 1, &[]);
    scene
        .client
        .produce(topic, 0, Compression::None, numbered(0, 500));
    let backup = called
        .post(
            "/api/kafka/clusters/prod/backup",
            &json!({ "topic": topic }),
        )
        .ok();
    let pack = scene.files("packs").into_iter().next().unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let id = backup["backup_id"].as_str().unwrap();
    let validation = called
        .post(&format!("/api/kafka/backups/{id}/validate"), &json!({}))
        .ok();
    assert_eq!(validation["status"], "damaged");
    assert_eq!(validation["findings"][0]["topic"], topic, "{validation}");
    let order = json!({ "backup_id": id, "target_topic": "api.damaged.back" });
    let refused = called.post("/api/kafka/clusters/prod/restore", &order);
    assert!(
        refused.failed(409, "Conflict", None).contains("damaged"),
        "{refused:?}"
    );
    assert!(
        !refused
            .body
            .to_string()
            .contains(scene.repository().to_str().unwrap()),
        "{refused:?}"
    );
    assert!(
        !scene
            .client
            .topics()
            .contains(&"api.damaged.back".to_owned())
    );
    // Without the validation it is found when the pack is opened.
    fs::remove_file(scene.files("packs").into_iter().next().unwrap()).unwrap();
    let order =
        json!({ "backup_id": id, "target_topic": "api.damaged.back", "validate_checksum": false });
    let refused = called.post("/api/kafka/clusters/prod/restore", &order);
    let why = refused.failed(409, "Conflict", None);
    assert!(why.contains("is missing"), "{why}");
    assert!(!why.contains("--") && !why.contains("kafkeep "), "{why}");
}
