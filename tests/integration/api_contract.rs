//! The documented API, section by section and in the order of its document, with the document's own requests and answers. What
//! kafkeep decides where the document is silent is in `docs/api.md`, and in `api.rs`.

use serde_json::{Value, json};

use crate::api_client::{Answer, Called};
use crate::fixture::Fixture;
use crate::testbed::group::Group;
use crate::testbed::{Broker, Client, Cluster, Compression, Message};

const BACKUP: &str = "/api/kafka/clusters/prod-cluster/backup";
const RESTORE: &str = "/api/kafka/clusters/prod-cluster/restore";
const MIGRATE: &str = "/api/kafka/migrate";
const DRAIN: &str = "/api/kafka/clusters/prod-cluster/drain";

/// Records of each of the three partitions of `events`. Every third of them is important.
const RECORDS: i64 = 30;

#[test]
fn the_documented_api_is_answered_section_by_section() {
    let cluster = Cluster::taken();
    let scene = Fixture::across(&cluster);
    let dr = Client::new(&Broker::shared().address());
    for topic in ["events", "logs"] {
        scene
            .client
            .create_on(topic, &[&[1, 2], &[2, 3], &[3, 1]], &[]);
        for partition in 0..3 {
            let records = records();
            scene
                .client
                .produce(topic, partition, Compression::None, records);
        }
    }
    let called = Called::start_with(&scene, &clusters(&scene), "", None);

    authentication(&called);
    let backup = backup_topic_messages(&called);
    parameters_of_a_backup(&called);
    errors_of_a_backup(&called);
    restore_topic_messages(&called, &scene.client, &backup);
    parameters_of_a_restore(&called, &scene.client);
    errors_of_a_restore(&called, &backup);
    migrate_topic_messages(&called, &dr);
    parameters_of_a_migration(&called);
    errors_of_a_migration(&called);
    monitor_queue_drain(&called, &scene.servers);
    parameters_of_a_drain(&called);
    errors_of_a_drain(&called);
    data_types(&called);
    error_handling(&called);
    metrics(&called);
}

fn records() -> impl Iterator<Item = Message> {
    (0..RECORDS).map(|n| {
        let what = match n % 3 {
            0 => "important ",
            _ => "ordinary ",
        };
        Message::new(format!("key-{n}"), what.repeat(40))
    })
}

/// The clusters of the document.
fn clusters(scene: &Fixture<'_>) -> String {
    format!(
        "[clusters.prod-cluster]\nbootstrap_servers = ['{}']\n[clusters.dr-cluster]\nbootstrap_servers = ['{}']\n\
         [limits]\ncalls_per_minute = 10000\n",
        scene.broker.address(),
        Broker::shared().address()
    )
}

/// The document's answer, field by field: each is there, and of the same type. An entry of a list stands for all of them.
#[track_caller]
fn is_like(answer: &Value, documented: &Value) {
    match documented {
        Value::Object(fields) => {
            for (name, documented) in fields {
                let field = answer.get(name);
                let field = field.unwrap_or_else(|| panic!("{name} is not in {answer:#}"));
                is_like(field, documented);
            }
        }
        Value::Array(entries) => {
            let found = answer.as_array().unwrap_or_else(|| panic!("{answer}"));
            assert!(!found.is_empty());
            for entry in found {
                is_like(entry, &entries[0]);
            }
        }
        Value::Number(number) if number.is_f64() => assert!(answer.is_number(), "{answer}"),
        Value::Number(_) => assert!(answer.is_u64(), "{answer} is not like {documented}"),
        Value::String(_) => assert!(answer.is_string(), "{answer} is not like {documented}"),
        Value::Bool(_) => assert!(answer.is_boolean(), "{answer} is not like {documented}"),
        Value::Null => panic!("the document has no nulls"),
    }
}

/// A request with some fields set.
fn with(request: &Value, fields: Value) -> Value {
    let mut request = request.clone();
    for (name, value) in fields.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

/// The field at fault, and what stood there.
#[track_caller]
fn is_refused(answer: &Answer, code: u16, error: &str, field: &str, value: &str) {
    let message = answer.failed(code, error, Some(field));
    let names_a_flag = message.contains("--") || message.contains("kafkeep ");
    assert!(!names_a_flag, "{message}");
    assert_eq!(answer.body["details"]["value"], value, "{answer:?}");
}

/// "All endpoints require JWT authentication."
fn authentication(called: &Called<'_>) {
    let anonymous = |method: &str, path: &str| called.call_as("", method, path, &[], "{}");
    for path in [BACKUP, RESTORE, MIGRATE, DRAIN] {
        anonymous("POST", path).failed(401, "Unauthorized", None);
    }
    anonymous("GET", "/api/kafka/metrics").failed(401, "Unauthorized", None);
}

/// "1. Backup Topic Messages": the request and the response.
fn backup_topic_messages(called: &Called<'_>) -> Value {
    let request = json!({
        "topic": "events",
        "compression": "gzip",
        "max_messages": 1000000,
        "start_offset": "earliest",
        "end_offset": "latest",
        "partitions": [0, 1, 2],
        "include_headers": true,
        "include_keys": true,
        "rate_limit_per_second": 10000
    });
    let documented = json!({
        "backup_id": "backup-1234567890",
        "topic": "events",
        "cluster_id": "prod-cluster",
        "compression": "gzip",
        "total_messages": 50000,
        "total_size_bytes": 10485760,
        "compressed_size_bytes": 3145728,
        "compression_ratio": 0.3,
        "duration_ms": 45230,
        "partitions": [
            { "partition": 0, "messages_count": 16666, "start_offset": 1000, "end_offset": 17666 }
        ],
        "created_at": "2025-09-02T10:30:00Z",
        "status": "completed"
    });
    let answer = called.post(BACKUP, &request).ok();
    is_like(&answer, &documented);
    for field in ["topic", "cluster_id", "compression", "status"] {
        assert_eq!(answer[field], documented[field], "{field}");
    }
    assert_eq!(answer["total_messages"], 3 * RECORDS);
    let sizes = ["compressed_size_bytes", "total_size_bytes"].map(|field| answer[field].as_f64());
    let ratio = sizes[0].unwrap() / sizes[1].unwrap();
    assert!((answer["compression_ratio"].as_f64().unwrap() - ratio).abs() < 1e-6);
    assert!(ratio < 1.0, "{ratio}");
    assert_eq!(answer["partitions"].as_array().unwrap().len(), 3);
    for partition in answer["partitions"].as_array().unwrap() {
        assert_eq!(partition["messages_count"], RECORDS);
        assert_eq!(partition["start_offset"], 0);
        assert_eq!(partition["end_offset"], RECORDS);
    }
    let created_at = answer["created_at"].as_str().unwrap();
    chrono::DateTime::parse_from_rfc3339(created_at).unwrap();
    assert!(created_at.ends_with('Z'), "{created_at}");
    answer
}

/// "1. Backup Topic Messages": the parameters, one after the other.
fn parameters_of_a_backup(called: &Called<'_>) {
    let request = json!({ "topic": "events" });
    let total = |fields: Value| {
        let answer = called.post(BACKUP, &with(&request, fields)).ok();
        answer["total_messages"].as_i64().unwrap()
    };
    // topic: required; all else has a default.
    is_refused_without(called, BACKUP, &request, "topic");
    let default = called.post(BACKUP, &request).ok();
    assert_eq!(default["total_messages"], 3 * RECORDS);
    // compression: "none", "gzip", "snappy", "lz4" (default: "gzip"). One-off backups copy all of it, each with its own.
    assert_eq!(default["compression"], "gzip");
    for codec in ["none", "gzip", "snappy", "lz4"] {
        let fields = json!({ "compression": codec, "start_offset": 1 });
        let answer = called.post(BACKUP, &with(&request, fields)).ok();
        assert_eq!(answer["compression"], codec);
    }
    // A backup that builds on another one answers what is stored.
    let later = with(&request, json!({ "compression": "lz4" }));
    let later = called.post(BACKUP, &later).ok();
    assert_eq!(
        (&later["compression"], &later["new_messages"]),
        (&json!("gzip"), &json!(0))
    );
    // max_messages (default: unlimited)
    assert_eq!(total(json!({ "max_messages": 9 })), 9);
    // start_offset: "earliest", "latest", or specific offset (default: "earliest")
    assert_eq!(total(json!({ "start_offset": "earliest" })), 3 * RECORDS);
    assert_eq!(total(json!({ "start_offset": 20 })), 3 * (RECORDS - 20));
    assert_eq!(total(json!({ "start_offset": "20" })), 3 * (RECORDS - 20));
    assert_eq!(total(json!({ "start_offset": "latest" })), 0);
    // end_offset: "latest" or specific offset (default: "latest")
    assert_eq!(total(json!({ "end_offset": "latest" })), 3 * RECORDS);
    assert_eq!(total(json!({ "end_offset": 20 })), 3 * 20);
    // partitions (default: all partitions)
    assert_eq!(total(json!({ "partitions": [1] })), RECORDS);
    // include_headers, include_keys (default: true)
    for field in ["include_headers", "include_keys"] {
        for value in [json!(true), json!(false), Value::Null] {
            assert_eq!(total(json!({ (field): value })), 3 * RECORDS);
        }
    }
    // rate_limit_per_second (default: 10000)
    assert_eq!(
        total(json!({ "rate_limit_per_second": 10000 })),
        3 * RECORDS
    );
}

/// A request without a required field.
#[track_caller]
fn is_refused_without(called: &Called<'_>, path: &str, request: &Value, field: &str) {
    let mut request = request.clone();
    request.as_object_mut().unwrap().remove(field);
    let answer = called.post(path, &request);
    answer.failed(400, "InvalidRequest", Some(field));
}

/// "1. Backup Topic Messages": the error responses.
fn errors_of_a_backup(called: &Called<'_>) {
    let post = |body: Value| called.post(BACKUP, &body);
    // 400 Bad Request: Invalid request parameters
    for (field, value, shown) in [
        ("compression", json!("brotli"), "brotli"),
        ("max_messages", json!(0), "0"),
        ("start_offset", json!("yesterday"), "yesterday"),
        ("end_offset", json!("earliest"), "earliest"),
        ("partitions", json!([3]), "3"),
        ("include_headers", json!("yes"), "yes"),
        ("include_keys", json!(1), "1"),
        ("rate_limit_per_second", json!(-1), "-1"),
    ] {
        let answer = post(json!({ "topic": "events", (field): value }));
        is_refused(&answer, 400, "InvalidRequest", field, shown);
    }
    // 404 Not Found: Topic or cluster not found
    let answer = post(json!({ "topic": "no-events" }));
    is_refused(&answer, 404, "NotFound", "topic", "no-events");
    let path = "/api/kafka/clusters/no-cluster/backup";
    let answer = called.post(path, &json!({ "topic": "events" }));
    is_refused(&answer, 404, "NotFound", "cluster_id", "no-cluster");
}

/// "2. Restore Topic Messages": the request and the response.
fn restore_topic_messages(called: &Called<'_>, client: &Client, backup: &Value) {
    let request = json!({
        "backup_id": backup["backup_id"],
        "target_topic": "events-restored",
        "target_partitions": 3,
        "replication_factor": 2,
        "preserve_offsets": false,
        "rate_limit_per_second": 5000,
        "validate_checksum": true
    });
    let documented = json!({
        "backup_id": "backup-1234567890",
        "target_topic": "events-restored",
        "cluster_id": "prod-cluster",
        "total_messages": 50000,
        "total_size_bytes": 10485760,
        "duration_ms": 38750,
        "messages_restored": 50000,
        "partitions_created": [
            { "partition": 0, "messages_count": 16666, "start_offset": 0, "end_offset": 16666 }
        ],
        "status": "completed",
        "checksum_validated": true
    });
    let answer = called.post(RESTORE, &request).ok();
    is_like(&answer, &documented);
    assert_eq!(answer["backup_id"], backup["backup_id"]);
    for field in ["target_topic", "cluster_id", "status", "checksum_validated"] {
        assert_eq!(answer[field], documented[field], "{field}");
    }
    assert_eq!(answer["total_messages"], 3 * RECORDS);
    assert_eq!(answer["messages_restored"], 3 * RECORDS);
    assert_eq!(answer["partitions_created"].as_array().unwrap().len(), 3);
    for partition in answer["partitions_created"].as_array().unwrap() {
        assert_eq!(partition["messages_count"], RECORDS);
        assert_eq!(partition["start_offset"], 0);
        assert_eq!(partition["end_offset"], RECORDS);
    }
    assert_eq!(replicas(client, "events-restored"), [2, 2, 2]);
    let (source, target) = (client.read("events"), client.read("events-restored"));
    crate::fixture::assert_same_records(&source, &target, "events-restored");
}

/// How many each partition has.
fn replicas(client: &Client, topic: &str) -> Vec<usize> {
    let placed = client.placement(topic).into_iter();
    placed.map(|partition| partition.replicas.len()).collect()
}

/// "2. Restore Topic Messages": the parameters.
fn parameters_of_a_restore(called: &Called<'_>, client: &Client) {
    let backup = called.post(BACKUP, &json!({ "topic": "events" })).ok();
    let backup = &backup["backup_id"];
    let restore = |target: &str, fields: Value| {
        let request = json!({ "backup_id": backup, "target_topic": target });
        called.post(RESTORE, &with(&request, fields)).ok()
    };
    // backup_id, target_topic: required
    let request = json!({ "backup_id": backup, "target_topic": "events-none" });
    is_refused_without(called, RESTORE, &request, "backup_id");
    is_refused_without(called, RESTORE, &request, "target_topic");
    // target_partitions, replication_factor (default: same as source), validate_checksum (default: true)
    let default = restore("events-default", json!({}));
    assert_eq!(replicas(client, "events-default"), [2, 2, 2]);
    assert_eq!(default["checksum_validated"], true);
    let five = restore(
        "events-five",
        json!({ "target_partitions": 5, "replication_factor": 1 }),
    );
    assert_eq!(five["messages_restored"], 3 * RECORDS);
    assert_eq!(replicas(client, "events-five"), [1; 5]);
    // preserve_offsets (default: false)
    restore("events-exact", json!({ "preserve_offsets": true }));
    assert_eq!(client.read("events-exact"), client.read("events"));
    // rate_limit_per_second (default: 5000)
    restore("events-limited", json!({ "rate_limit_per_second": 5000 }));
    // validate_checksum: what is read is validated in any case.
    let fields = json!({ "validate_checksum": false });
    let unvalidated = restore("events-unvalidated", fields);
    assert_eq!(unvalidated["checksum_validated"], true);
}

/// "2. Restore Topic Messages": the errors that "Error Handling" lists.
fn errors_of_a_restore(called: &Called<'_>, backup: &Value) {
    let request = json!({ "backup_id": backup["backup_id"], "target_topic": "events-refused" });
    let post = |fields: Value| called.post(RESTORE, &with(&request, fields));
    for (field, value, shown) in [
        ("target_topic", json!("a/b"), "a/b"),
        (
            "target_topic",
            json!("__consumer_offsets"),
            "__consumer_offsets",
        ),
        (
            "target_topic",
            json!("__share_group_state"),
            "__share_group_state",
        ),
        ("target_partitions", json!(0), "0"),
        ("replication_factor", json!(4), "4"),
        ("preserve_offsets", json!("no"), "no"),
        ("rate_limit_per_second", json!(0), "0"),
        ("validate_checksum", json!("no"), "no"),
    ] {
        let answer = post(json!({ (field): value }));
        is_refused(&answer, 400, "InvalidRequest", field, shown);
    }
    // Offsets that begin at 1 cannot be those of a new topic.
    let part = json!({ "topic": "events", "start_offset": 1 });
    let part = called.post(BACKUP, &part).ok();
    let answer = post(json!({ "backup_id": part["backup_id"], "preserve_offsets": true }));
    is_refused(&answer, 400, "InvalidRequest", "preserve_offsets", "true");
    let answer = post(json!({ "backup_id": "backup-1234567890" }));
    is_refused(&answer, 404, "NotFound", "backup_id", "backup-1234567890");
    let answer = post(json!({ "target_topic": "events" }));
    is_refused(&answer, 409, "Conflict", "target_topic", "events");
}

/// "3. Migrate Topic Messages": the request and the response.
fn migrate_topic_messages(called: &Called<'_>, dr: &Client) {
    let request = json!({
        "source_cluster": "prod-cluster",
        "source_topic": "events",
        "target_cluster": "dr-cluster",
        "target_topic": "events-dr",
        "max_messages": 100000,
        "transformation": {
            "filter_expression": "value.contains('important')",
            "header_additions": [
                ["migrated-from", "prod-cluster"],
                ["migration-timestamp", "2025-09-02T10:30:00Z"]
            ]
        },
        "rate_limit_per_second": 8000
    });
    let documented = json!({
        "migration_id": "migration-1234567890",
        "source_cluster": "prod-cluster",
        "source_topic": "events",
        "target_cluster": "dr-cluster",
        "target_topic": "events-dr",
        "total_messages": 75000,
        "messages_migrated": 75000,
        "duration_ms": 89200,
        "status": "completed",
        "transformation_applied": true
    });
    let answer = called.post(MIGRATE, &request).ok();
    is_like(&answer, &documented);
    for field in [
        "source_cluster",
        "source_topic",
        "target_cluster",
        "target_topic",
        "status",
        "transformation_applied",
    ] {
        assert_eq!(answer[field], documented[field], "{field}");
    }
    assert_eq!(answer["total_messages"], 3 * RECORDS);
    assert_eq!(answer["messages_migrated"], RECORDS);
    let id = answer["migration_id"].as_str().unwrap();
    assert!(id.starts_with("migration-"), "{id}");
    let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
    let added = [
        header("migrated-from", "prod-cluster"),
        header("migration-timestamp", "2025-09-02T10:30:00Z"),
    ];
    let migrated = dr.read("events-dr").concat();
    assert_eq!(migrated.len() as i64, RECORDS);
    for record in migrated {
        let value = String::from_utf8(record.value.unwrap()).unwrap();
        assert!(value.contains("important"), "{value}");
        assert!(record.headers.starts_with(&added), "{:?}", record.headers);
    }
}

/// "3. Migrate Topic Messages": the parameters.
fn parameters_of_a_migration(called: &Called<'_>) {
    let request = json!({
        "source_cluster": "prod-cluster",
        "source_topic": "events",
        "target_cluster": "dr-cluster",
        "target_topic": "events-dr-whole",
    });
    // The clusters and topics are required.
    for field in [
        "source_cluster",
        "source_topic",
        "target_cluster",
        "target_topic",
    ] {
        is_refused_without(called, MIGRATE, &request, field);
    }
    // max_messages, transformation, rate_limit_per_second: optional
    let whole = called.post(MIGRATE, &request).ok();
    assert_eq!(whole["messages_migrated"], 3 * RECORDS);
    assert_eq!(whole["transformation_applied"], false);
    let fields =
        json!({ "target_topic": "events-dr-nine", "max_messages": 9, "transformation": null });
    let nine = called.post(MIGRATE, &with(&request, fields)).ok();
    assert_eq!(nine["messages_migrated"], 9);
    // Within a cluster, with a key.
    let fields = json!({
        "target_cluster": "prod-cluster",
        "target_topic": "events-keyed",
        "transformation": { "key_transformation": "'k-' + key" },
    });
    let keyed = called.post(MIGRATE, &with(&request, fields)).ok();
    assert_eq!(keyed["messages_migrated"], 3 * RECORDS);
    assert_eq!(keyed["transformation_applied"], true);
}

/// "3. Migrate Topic Messages": the errors that "Error Handling" lists.
fn errors_of_a_migration(called: &Called<'_>) {
    let request = json!({
        "source_cluster": "prod-cluster",
        "source_topic": "events",
        "target_cluster": "dr-cluster",
        "target_topic": "events-dr-refused",
    });
    let post = |fields: Value| called.post(MIGRATE, &with(&request, fields));
    let answer = post(json!({ "target_topic": "__transaction_state" }));
    is_refused(
        &answer,
        400,
        "InvalidRequest",
        "target_topic",
        "__transaction_state",
    );
    let additions = json!([["a", "b", "c"]]);
    let answer = post(json!({ "transformation": { "header_additions": additions } }));
    let message = answer.failed(
        400,
        "InvalidRequest",
        Some("transformation.header_additions"),
    );
    assert!(
        message.contains("a pair of a name and a value"),
        "{message}"
    );
    let answer = post(json!({ "transformation": { "filter_expression": "value.(" } }));
    answer.failed(
        400,
        "InvalidRequest",
        Some("transformation.filter_expression"),
    );
    for field in ["source_cluster", "target_cluster"] {
        let answer = post(json!({ (field): "no-cluster" }));
        is_refused(&answer, 404, "NotFound", field, "no-cluster");
    }
    let answer = post(json!({ "source_topic": "no-events" }));
    is_refused(&answer, 404, "NotFound", "source_topic", "no-events");
    let answer = post(json!({ "target_topic": "events-dr" }));
    is_refused(&answer, 409, "Conflict", "target_topic", "events-dr");
}

/// "4. Monitor Queue Drain": the request and the response.
fn monitor_queue_drain(called: &Called<'_>, servers: &str) {
    let group = Group::new(servers, "consumer-group-1");
    for topic in ["events", "logs"] {
        group.commit_each(topic, (0..3).map(|partition| (partition, RECORDS)));
    }
    let request = json!({
        "group_id": "consumer-group-1",
        "topics": ["events", "logs"],
        "max_lag": 100,
        "timeout_seconds": 300,
        "check_interval_ms": 5000,
        "strategy": "lag_based"
    });
    let documented = json!({
        "group_id": "consumer-group-1",
        "status": "drained",
        "total_lag": 0,
        "duration_ms": 45200,
        "partitions_checked": 6,
        "last_check_time": "2025-09-02T10:35:00Z",
        "partition_details": [
            { "topic": "events", "partition": 0, "current_offset": 10000, "latest_offset": 10000, "lag": 0 }
        ]
    });
    let answer = called.post(DRAIN, &request).ok();
    is_like(&answer, &documented);
    for field in ["group_id", "status", "total_lag", "partitions_checked"] {
        assert_eq!(answer[field], documented[field], "{field}");
    }
    let time = answer["last_check_time"].as_str().unwrap();
    chrono::DateTime::parse_from_rfc3339(time).unwrap();
    let details = answer["partition_details"].as_array().unwrap();
    assert_eq!(details.len(), 6);
    for partition in details {
        assert_eq!(partition["current_offset"], RECORDS);
        assert_eq!(partition["latest_offset"], RECORDS);
        assert_eq!(partition["lag"], 0);
    }
}

/// "4. Monitor Queue Drain": the parameters.
fn parameters_of_a_drain(called: &Called<'_>) {
    let request =
        json!({ "group_id": "consumer-group-1", "topics": ["events"], "check_interval_ms": 100 });
    // group_id, topics: required
    is_refused_without(called, DRAIN, &request, "group_id");
    is_refused_without(called, DRAIN, &request, "topics");
    // max_lag (default: 0), timeout_seconds (default: 300), strategy (default: "lag_based")
    let default = called.post(DRAIN, &request).ok();
    assert_eq!(default["status"], "drained");
    // strategy: "lag_based" or "time_based"
    for strategy in ["lag_based", "time_based"] {
        let fields = json!({ "strategy": strategy });
        let answer = called.post(DRAIN, &with(&request, fields)).ok();
        assert_eq!(answer["status"], "drained", "{strategy}");
    }
    // The defaults as numbers, from the document that the daemon serves.
    let document = called.get("/api/openapi.json").ok();
    let default = |request: &str, field: &str| {
        let schema = &document["components"]["schemas"][request];
        schema["properties"][field]["default"].clone()
    };
    assert_eq!(default("DrainRequest", "max_lag"), 0);
    assert_eq!(default("DrainRequest", "timeout_seconds"), 300);
    assert_eq!(default("DrainRequest", "check_interval_ms"), 5000);
    assert_eq!(default("DrainRequest", "strategy"), "lag_based");
}

/// "4. Monitor Queue Drain": the errors that "Error Handling" lists.
fn errors_of_a_drain(called: &Called<'_>) {
    let request = json!({ "group_id": "consumer-group-1", "topics": ["events"] });
    let post = |fields: Value| called.post(DRAIN, &with(&request, fields));
    for (field, value, shown) in [
        ("max_lag", json!(-1), "-1"),
        ("timeout_seconds", json!("300"), "300"),
        ("check_interval_ms", json!(0), "0"),
        ("strategy", json!("patience"), "patience"),
    ] {
        let answer = post(json!({ (field): value }));
        is_refused(&answer, 400, "InvalidRequest", field, shown);
    }
    let answer = post(json!({ "group_id": "no-group" }));
    is_refused(&answer, 404, "NotFound", "group_id", "no-group");
    let answer = post(json!({ "topics": ["no-events"] }));
    is_refused(&answer, 404, "NotFound", "topics", "no-events");
}

/// "Data Types".
fn data_types(called: &Called<'_>) {
    // CompressionType is a closed set; zstd is kafkeep's addition.
    let request = json!({ "topic": "events", "start_offset": 1, "compression": "zstd" });
    assert_eq!(called.post(BACKUP, &request).ok()["compression"], "zstd");
    // Offset is a word or a number, which may be written as 3.0.
    let body = r#"{"topic": "events", "max_messages": 3.0}"#;
    let answer = called.call("POST", BACKUP, &[], body).ok();
    assert_eq!(answer["total_messages"], 3);
    // MessageTransformation has three fields, all optional.
    let request = json!({
        "source_cluster": "prod-cluster",
        "source_topic": "events",
        "target_cluster": "dr-cluster",
        "target_topic": "events-dr-untransformed",
        "transformation": {},
    });
    let answer = called.post(MIGRATE, &request).ok();
    assert_eq!(answer["transformation_applied"], false);
}

/// "Error Handling": each status, in the documented body.
fn error_handling(called: &Called<'_>) {
    let request = json!({ "topic": "events" }).to_string();
    let documented = json!({
        "error": "ErrorType",
        "message": "Human-readable error message",
        "details": {
            "field": "specific field that caused the error",
            "value": "invalid value provided"
        }
    });
    let unknown = r#"{"topic": "events", "colour": "red"}"#;
    let answer = called.call("POST", BACKUP, &[], unknown);
    is_like(&answer.body, &documented);
    is_refused(&answer, 400, "InvalidRequest", "colour", "red");
    let answer = called.call_as("", "POST", BACKUP, &[], &request);
    answer.failed(401, "Unauthorized", None);
    let reader = called.token("--subject bob --scope read");
    let answer = called.call_as(&reader, "POST", BACKUP, &[], &request);
    answer.failed(403, "Forbidden", None);
    called
        .get("/api/kafka/nothing")
        .failed(404, "NotFound", None);
}

/// "Monitoring": the metrics endpoint.
fn metrics(called: &Called<'_>) {
    let documented = json!({
        "active_backups": 2,
        "completed_backups_today": 15,
        "total_backup_size_gb": 125.5,
        "average_backup_duration_ms": 45230,
        "compression_savings_percent": 70.2,
        "error_rate_percent": 0.5
    });
    let answer = called.get("/api/kafka/metrics").ok();
    is_like(&answer, &documented);
    assert_eq!(answer["active_backups"], 0);
    // Callers' mistakes are no failures of backups.
    assert_eq!(answer["error_rate_percent"], 0.0);
}

/// "Rate Limiting": what is accepted at once, with the limits that hold where none are configured.
#[test]
fn the_documented_limits_hold_without_any_configuration() {
    let scene = Fixture::shared();
    let topic = "contract.limits";
    scene.client.create_topic(topic, 1, &[]);
    // Batches of their own, so that a slow job stays slow.
    for batch in 0..50 {
        let records = crate::fixture::numbered(batch * 20, 20);
        scene.client.produce(topic, 0, Compression::None, records);
    }
    let called = Called::start_with(&scene, "", "", None);
    let backup = called
        .post(
            "/api/kafka/clusters/prod/backup",
            &json!({ "topic": topic }),
        )
        .ok();
    let users =
        ["alice", "bob"].map(|user| called.token(&format!("--subject {user} --scope admin")));
    let begin = |number: usize, path: &str, body: &Value| {
        let prefer = ["Prefer: respond-async"];
        called.call_as(&users[number % 2], "POST", path, &prefer, &body.to_string())
    };
    // Backup operations: 10 concurrent operations per cluster
    let slow = json!({ "topic": topic, "start_offset": 1, "rate_limit_per_second": 5 });
    accepts(10, |number| {
        begin(number, "/api/kafka/clusters/prod/backup", &slow)
    });
    // Restore operations: 5 concurrent operations per cluster
    accepts(5, |number| {
        let body = json!({
            "backup_id": backup["backup_id"],
            "target_topic": format!("{topic}.restored.{number}"),
            "rate_limit_per_second": 5,
        });
        begin(number, "/api/kafka/clusters/prod/restore", &body)
    });
    // Migration operations: 3 concurrent operations globally
    accepts(3, |number| {
        let body = json!({
            "source_cluster": "prod",
            "source_topic": topic,
            "target_cluster": "prod",
            "target_topic": format!("{topic}.migrated.{number}"),
            "rate_limit_per_second": 5,
        });
        begin(number, "/api/kafka/migrate", &body)
    });
    // API calls: 100 requests per minute per user
    let carol = called.token("--subject carol --scope read");
    let call = || called.call_as(&carol, "GET", "/api/kafka/metrics", &[], "");
    for number in 0..100 {
        assert_eq!(call().code, 200, "call {number}");
    }
    let limited = (0..100).map(|_| call()).find(|answer| answer.code != 200);
    let limited = limited.expect("more than 100 calls a minute are not answered");
    limited.failed(429, "TooManyRequests", None);
    assert_eq!(limited.header("ratelimit-limit"), Some("100"));
    assert!(limited.header("retry-after").is_some(), "{limited:?}");
}

/// So many jobs are accepted, and the next one is not.
fn accepts(limit: usize, begin: impl Fn(usize) -> Answer) {
    for number in 0..limit {
        let answer = begin(number);
        assert_eq!(answer.code, 202, "job {number}: {answer:?}");
    }
    let refused = begin(limit);
    refused.failed(429, "TooManyRequests", None);
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
}
