//! What a check says of a group.

use serde::Serialize;

/// What a check says of a group, the least worrying first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// What is to be consumed is consumed.
    Drained,
    /// It is being consumed, or was not watched for long enough to say more.
    Draining,
    /// Its members are finding out who reads what.
    Rebalancing,
    /// It has members, and nothing moves.
    Stalled,
    /// Nobody reads.
    Stopped,
    /// All that is left lies in partitions on which it has not committed anything.
    NeverCommitted,
    /// Its commits went back: it will read again what it has read.
    Rewound,
    /// It stands below the start of a log: records were deleted before it read them.
    UnreachableLag,
    /// The log is not the one that it committed on: the topic was created anew, or the log was cut off.
    Recreated,
    /// There is no such group, or it may not be described.
    UnknownGroup,
}

/// The verdict as metrics tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainState {
    /// All is consumed.
    Drained,
    /// It goes on by itself.
    Draining,
    /// There are members, but it does not go on by itself.
    Stalled,
    /// There are no members, and something is left.
    Stopped,
    /// There was nothing to consume.
    Empty,
    /// There is no such group.
    Unknown,
}

impl DrainState {
    /// All there are.
    pub const ALL: [Self; 6] = [
        Self::Drained,
        Self::Draining,
        Self::Stalled,
        Self::Stopped,
        Self::Empty,
        Self::Unknown,
    ];

    /// As metrics label it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Draining => "draining",
            Self::Stalled => "stalled",
            Self::Stopped => "stopped",
            Self::Empty => "empty",
            Self::Unknown => "unknown",
        }
    }
}
