//! How many jobs of a kind are accepted and run, and how much of that is one caller's.

use crate::api::{Order, OrderKind};
use crate::policy::Limits;

/// A bound on jobs of one kind.
pub(super) struct JobLimit {
    /// How many there may be.
    pub limit: usize,
    /// Whether jobs of each cluster are counted for themselves.
    pub is_per_cluster: bool,
}

impl JobLimit {
    /// Of those that are accepted: they wait or run.
    pub fn accepted(kind: OrderKind, limits: &Limits) -> Self {
        let (limit, is_per_cluster) = match kind {
            OrderKind::Backup => (limits.backups_per_cluster, true),
            OrderKind::Restore => (limits.restores_per_cluster, true),
            OrderKind::Migrate => (limits.migrations, false),
            OrderKind::Drain => (limits.drains, false),
            OrderKind::Validate => (limits.validations, false),
        };
        Self {
            limit: limit as usize,
            is_per_cluster,
        }
    }

    /// Of those that run.
    pub fn running(kind: OrderKind, limits: &Limits) -> Self {
        match kind {
            OrderKind::Backup => Self {
                limit: limits.max_concurrent_backups as usize,
                is_per_cluster: false,
            },
            kind => Self::accepted(kind, limits),
        }
    }

    /// Of those that run, one caller has half at most: a job can take a day, so who comes second would wait that long.
    pub fn share(&self) -> usize {
        self.limit.div_ceil(2)
    }

    /// All that are accepted, when each caller may have one beyond the limit: so nobody is turned away for what others hold.
    pub fn with_newcomers(&self) -> usize {
        self.limit.saturating_mul(2)
    }

    /// Whether a job of the same kind in `cluster` counts for `order`.
    pub fn counts(&self, order: &Order, cluster: &str) -> bool {
        !self.is_per_cluster || order.cluster() == cluster
    }
}
