//! What a check says of a group.

use crate::words::words;

words! {
    /// What a check says of a group, the least worrying first.
    pub enum Verdict {
        /// What is to be consumed is consumed.
        Drained = "drained",
        /// It is being consumed, or was not watched for long enough to say more.
        Draining = "draining",
        /// Its members are finding out who reads what.
        Rebalancing = "rebalancing",
        /// It has members, and nothing moves.
        Stalled = "stalled",
        /// Nobody reads.
        Stopped = "stopped",
        /// All that is left lies in partitions on which it has not committed anything.
        NeverCommitted = "never_committed",
        /// Its commits went back: it will read again what it has read.
        Rewound = "rewound",
        /// It stands below the start of a log: records were deleted before it read them.
        UnreachableLag = "unreachable_lag",
        /// The log is not the one that it committed on: the topic was created anew, or the log was cut off.
        Recreated = "recreated",
        /// There is no such group, or it may not be described.
        UnknownGroup = "unknown_group",
    }
}

words! {
    /// The verdict as metrics tell it.
    pub enum DrainState {
        /// All is consumed.
        Drained = "drained",
        /// It goes on by itself.
        Draining = "draining",
        /// There are members, but it does not go on by itself.
        Stalled = "stalled",
        /// There are no members, and something is left.
        Stopped = "stopped",
        /// There was nothing to consume.
        Empty = "empty",
        /// There is no such group.
        Unknown = "unknown",
    }
}
