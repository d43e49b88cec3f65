//! The shapes of the answers that we decode.

use kafka_protocol::messages::{
    AddOffsetsToTxnResponse, AddPartitionsToTxnResponse, ApiVersionsResponse,
    ConsumerGroupDescribeResponse, CreatePartitionsResponse, CreateTopicsResponse,
    DeleteTopicsResponse, DescribeConfigsResponse, DescribeGroupsResponse, DescribeLogDirsResponse,
    DescribeProducersResponse, EndTxnResponse, FetchResponse, FindCoordinatorResponse,
    IncrementalAlterConfigsResponse, InitProducerIdResponse, ListGroupsResponse,
    ListOffsetsResponse, MetadataResponse, OffsetCommitResponse, OffsetFetchResponse,
    ProduceResponse, SaslAuthenticateResponse, SaslHandshakeResponse, TxnOffsetCommitResponse,
};

use super::GuardedResponse;
use super::definition::{Field, Kind, Shape};

/// For messages that have none.
const NEVER: i16 = i16::MAX;

macro_rules! shaped {
    ($answer:ty, flexible: $flexible:expr, [$($field:expr),* $(,)?]) => {
        impl GuardedResponse for $answer {
            const SHAPE: Shape = Shape {
                flexible: $flexible,
                fields: &[$($field),*],
            };
        }
    };
}

const fn int8(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(1))
}

const fn bool(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(1))
}

const fn int16(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(2))
}

const fn int32(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(4))
}

const fn int64(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(8))
}

const fn uuid(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(16))
}

const fn string(name: &'static str) -> Field {
    Field::new(name, Kind::Text)
}

const fn bytes(name: &'static str) -> Field {
    Field::new(name, Kind::Bytes)
}

const fn structure(name: &'static str, fields: &'static [Field]) -> Field {
    Field::new(name, Kind::Struct(fields))
}

const fn array(name: &'static str, element: &'static Kind) -> Field {
    Field::new(name, Kind::Array(element))
}

const INT32: Kind = Kind::Fixed(4);

shaped!(ApiVersionsResponse, flexible: 3, [
    int16("error_code"),
    array("api_keys", &Kind::Struct(&[
        int16("api_key"),
        int16("min_version"),
        int16("max_version"),
    ])),
    int32("throttle_time_ms").since(1),
    array("supported_features", &Kind::Struct(&[
        string("name"),
        int16("min_version"),
        int16("max_version"),
    ])).tagged(0),
    int64("finalized_features_epoch").tagged(1),
    array("finalized_features", &Kind::Struct(&[
        string("name"),
        int16("max_version_level"),
        int16("min_version_level"),
    ])).tagged(2),
    bool("zk_migration_ready").tagged(3),
]);

shaped!(SaslHandshakeResponse, flexible: NEVER, [
    int16("error_code"),
    array("mechanisms", &Kind::Text),
]);

shaped!(SaslAuthenticateResponse, flexible: 2, [
    int16("error_code"),
    string("error_message"),
    bytes("auth_bytes"),
    int64("session_lifetime_ms").since(1),
]);

shaped!(MetadataResponse, flexible: 9, [
    int32("throttle_time_ms").since(3),
    array("brokers", &Kind::Struct(&[
        int32("node_id"),
        string("host"),
        int32("port"),
        string("rack").since(1),
    ])),
    string("cluster_id").since(2),
    int32("controller_id").since(1),
    array("topics", &Kind::Struct(&[
        int16("error_code"),
        string("name"),
        uuid("topic_id").since(10),
        bool("is_internal").since(1),
        array("partitions", &Kind::Struct(&[
            int16("error_code"),
            int32("partition_index"),
            int32("leader_id"),
            int32("leader_epoch").since(7),
            array("replica_nodes", &INT32),
            array("isr_nodes", &INT32),
            array("offline_replicas", &INT32).since(5),
        ])),
        int32("topic_authorized_operations").since(8),
    ])),
    int32("cluster_authorized_operations").since(8).until(10),
    int16("error_code").since(13),
]);

/// Where leaders are, for those who asked others (KIP-951).
const NODE_ENDPOINT: Kind = Kind::Struct(&[
    int32("node_id"),
    string("host"),
    int32("port"),
    string("rack"),
]);

const LEADER: &[Field] = &[int32("leader_id"), int32("leader_epoch")];

shaped!(FetchResponse, flexible: 12, [
    int32("throttle_time_ms"),
    int16("error_code").since(7),
    int32("session_id").since(7),
    array("responses", &Kind::Struct(&[
        string("topic").until(12),
        uuid("topic_id").since(13),
        array("partitions", &Kind::Struct(&[
            int32("partition_index"),
            int16("error_code"),
            int64("high_watermark"),
            int64("last_stable_offset"),
            int64("log_start_offset").since(5),
            array("aborted_transactions", &Kind::Struct(&[
                int64("producer_id"),
                int64("first_offset"),
            ])),
            int32("preferred_read_replica").since(11),
            bytes("records"),
            structure("diverging_epoch", &[int32("epoch"), int64("end_offset")]).tagged(0),
            structure("current_leader", LEADER).tagged(1),
            structure("snapshot_id", &[int64("end_offset"), int32("epoch")]).tagged(2),
        ])),
    ])),
    array("node_endpoints", &NODE_ENDPOINT).since(16).tagged(0),
]);

shaped!(CreatePartitionsResponse, flexible: 2, [
    int32("throttle_time_ms"),
    array("results", &Kind::Struct(&[
        string("name"),
        int16("error_code"),
        string("error_message"),
    ])),
]);

shaped!(DescribeProducersResponse, flexible: 0, [
    int32("throttle_time_ms"),
    array("topics", &Kind::Struct(&[
        string("name"),
        array("partitions", &Kind::Struct(&[
            int32("partition_index"),
            int16("error_code"),
            string("error_message"),
            array("active_producers", &Kind::Struct(&[
                int64("producer_id"),
                int32("producer_epoch"),
                int32("last_sequence"),
                int64("last_timestamp"),
                int32("coordinator_epoch"),
                int64("current_txn_start_offset"),
            ])),
        ])),
    ])),
]);

shaped!(DescribeLogDirsResponse, flexible: 2, [
    int32("throttle_time_ms"),
    int16("error_code").since(3),
    array("results", &Kind::Struct(&[
        int16("error_code"),
        string("log_dir"),
        array("topics", &Kind::Struct(&[
            string("name"),
            array("partitions", &Kind::Struct(&[
                int32("partition_index"),
                int64("partition_size"),
                int64("offset_lag"),
                bool("is_future_key"),
            ])),
        ])),
        int64("total_bytes").since(4),
        int64("usable_bytes").since(4),
    ])),
]);

shaped!(ListOffsetsResponse, flexible: 6, [
    int32("throttle_time_ms").since(2),
    array("topics", &Kind::Struct(&[
        string("name"),
        array("partitions", &Kind::Struct(&[
            int32("partition_index"),
            int16("error_code"),
            int64("timestamp"),
            int64("offset"),
            int32("leader_epoch").since(4),
        ])),
    ])),
]);

shaped!(ProduceResponse, flexible: 9, [
    array("responses", &Kind::Struct(&[
        string("name").until(12),
        uuid("topic_id").since(13),
        array("partition_responses", &Kind::Struct(&[
            int32("index"),
            int16("error_code"),
            int64("base_offset"),
            int64("log_append_time_ms"),
            int64("log_start_offset").since(5),
            array("record_errors", &Kind::Struct(&[
                int32("batch_index"),
                string("batch_index_error_message"),
            ])).since(8),
            string("error_message").since(8),
            structure("current_leader", LEADER).since(10).tagged(0),
        ])),
    ])),
    int32("throttle_time_ms"),
    array("node_endpoints", &NODE_ENDPOINT).since(10).tagged(0),
]);

shaped!(AddPartitionsToTxnResponse, flexible: 3, [
    int32("throttle_time_ms"),
    int16("error_code").since(4),
    array("results_by_transaction", &Kind::Struct(&[
        string("transactional_id"),
        array("topic_results", &ADDED_TOPIC),
    ])).since(4),
    array("results_by_topic_v3_and_below", &ADDED_TOPIC).until(3),
]);

const ADDED_TOPIC: Kind = Kind::Struct(&[
    string("name"),
    array(
        "results_by_partition",
        &Kind::Struct(&[int32("partition_index"), int16("partition_error_code")]),
    ),
]);

shaped!(AddOffsetsToTxnResponse, flexible: 3, [
    int32("throttle_time_ms"),
    int16("error_code"),
]);

shaped!(TxnOffsetCommitResponse, flexible: 3, [
    int32("throttle_time_ms"),
    array("topics", &Kind::Struct(&[
        string("name"),
        array("partitions", &Kind::Struct(&[
            int32("partition_index"),
            int16("error_code"),
        ])),
    ])),
]);

shaped!(EndTxnResponse, flexible: 3, [
    int32("throttle_time_ms"),
    int16("error_code"),
    int64("producer_id").since(5),
    int16("producer_epoch").since(5),
]);

shaped!(InitProducerIdResponse, flexible: 2, [
    int32("throttle_time_ms"),
    int16("error_code"),
    int64("producer_id"),
    int16("producer_epoch"),
    int64("ongoing_txn_producer_id").since(6),
    int16("ongoing_txn_producer_epoch").since(6),
]);

shaped!(DescribeConfigsResponse, flexible: 4, [
    int32("throttle_time_ms"),
    array("results", &Kind::Struct(&[
        int16("error_code"),
        string("error_message"),
        int8("resource_type"),
        string("resource_name"),
        array("configs", &Kind::Struct(&[
            string("name"),
            string("value"),
            bool("read_only"),
            int8("config_source"),
            bool("is_sensitive"),
            array("synonyms", &Kind::Struct(&[
                string("name"),
                string("value"),
                int8("source"),
            ])),
            int8("config_type").since(3),
            string("documentation").since(3),
        ])),
    ])),
]);

shaped!(IncrementalAlterConfigsResponse, flexible: 1, [
    int32("throttle_time_ms"),
    array("responses", &Kind::Struct(&[
        int16("error_code"),
        string("error_message"),
        int8("resource_type"),
        string("resource_name"),
    ])),
]);

shaped!(CreateTopicsResponse, flexible: 5, [
    int32("throttle_time_ms"),
    array("topics", &Kind::Struct(&[
        string("name"),
        uuid("topic_id").since(7),
        int16("error_code"),
        string("error_message"),
        int32("num_partitions").since(5),
        int16("replication_factor").since(5),
        array("configs", &Kind::Struct(&[
            string("name"),
            string("value"),
            bool("read_only"),
            int8("config_source"),
            bool("is_sensitive"),
        ])).since(5),
        int16("topic_config_error_code").tagged(0),
    ])),
]);

shaped!(DeleteTopicsResponse, flexible: 4, [
    int32("throttle_time_ms"),
    array("responses", &Kind::Struct(&[
        string("name"),
        uuid("topic_id").since(6),
        int16("error_code"),
        string("error_message").since(5),
    ])),
]);

shaped!(FindCoordinatorResponse, flexible: 3, [
    int32("throttle_time_ms").since(1),
    int16("error_code").until(3),
    string("error_message").since(1).until(3),
    int32("node_id").until(3),
    string("host").until(3),
    int32("port").until(3),
    array("coordinators", &Kind::Struct(&[
        string("key"),
        int32("node_id"),
        string("host"),
        int32("port"),
        int16("error_code"),
        string("error_message"),
    ])).since(4),
]);

shaped!(ListGroupsResponse, flexible: 3, [
    int32("throttle_time_ms").since(1),
    int16("error_code"),
    array("groups", &Kind::Struct(&[
        string("group_id"),
        string("protocol_type"),
        string("group_state").since(4),
        string("group_type").since(5),
    ])),
]);

shaped!(DescribeGroupsResponse, flexible: 5, [
    int32("throttle_time_ms").since(1),
    array("groups", &Kind::Struct(&[
        int16("error_code"),
        string("error_message").since(6),
        string("group_id"),
        string("group_state"),
        string("protocol_type"),
        string("protocol_data"),
        array("members", &Kind::Struct(&[
            string("member_id"),
            string("group_instance_id").since(4),
            string("client_id"),
            string("client_host"),
            bytes("member_metadata"),
            bytes("member_assignment"),
        ])),
        int32("authorized_operations").since(3),
    ])),
]);

const ASSIGNMENT: &[Field] = &[array(
    "topic_partitions",
    &Kind::Struct(&[
        uuid("topic_id"),
        string("topic_name"),
        array("partitions", &INT32),
    ]),
)];

shaped!(ConsumerGroupDescribeResponse, flexible: 0, [
    int32("throttle_time_ms"),
    array("groups", &Kind::Struct(&[
        int16("error_code"),
        string("error_message"),
        string("group_id"),
        string("group_state"),
        int32("group_epoch"),
        int32("assignment_epoch"),
        string("assignor_name"),
        array("members", &Kind::Struct(&[
            string("member_id"),
            string("instance_id"),
            string("rack_id"),
            int32("member_epoch"),
            string("client_id"),
            string("client_host"),
            array("subscribed_topic_names", &Kind::Text),
            string("subscribed_topic_regex"),
            structure("assignment", ASSIGNMENT),
            structure("target_assignment", ASSIGNMENT),
            int8("member_type").since(1),
        ])),
        int32("authorized_operations"),
    ])),
]);

const COMMITTED: Kind = Kind::Struct(&[
    int32("partition_index"),
    int64("committed_offset"),
    int32("committed_leader_epoch").since(5),
    string("metadata"),
    int16("error_code"),
]);

shaped!(OffsetFetchResponse, flexible: 6, [
    int32("throttle_time_ms").since(3),
    array("topics", &Kind::Struct(&[
        string("name"),
        array("partitions", &COMMITTED),
    ])).until(7),
    int16("error_code").since(2).until(7),
    array("groups", &Kind::Struct(&[
        string("group_id"),
        array("topics", &Kind::Struct(&[
            string("name").until(9),
            uuid("topic_id").since(10),
            array("partitions", &COMMITTED),
        ])),
        int16("error_code"),
    ])).since(8),
]);

shaped!(OffsetCommitResponse, flexible: 8, [
    int32("throttle_time_ms").since(3),
    array("topics", &Kind::Struct(&[
        string("name").until(9),
        uuid("topic_id").since(10),
        array("partitions", &Kind::Struct(&[
            int32("partition_index"),
            int16("error_code"),
        ])),
    ])),
]);
