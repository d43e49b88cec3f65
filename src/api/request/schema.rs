//! Shapes of values that JSON Schema can bound further than their Rust types do.
#![allow(dead_code, reason = "only the schemas are used")]

use utoipa::ToSchema;

/// The legal name of a topic.
#[derive(ToSchema)]
#[schema(
    min_length = 1,
    max_length = 249,
    pattern = "^[a-zA-Z0-9_-][a-zA-Z0-9._-]*$",
    example = "events"
)]
pub(super) struct TopicName(String);

/// The number of a partition.
#[derive(ToSchema)]
#[schema(minimum = 0)]
pub(super) struct PartitionNumber(i32);

/// The name and the value of a header.
#[derive(ToSchema)]
pub(super) struct HeaderAddition(String, String);
