use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::ValidateOrder;
use crate::engine::verify::Depth;
use crate::repository::BackupId;

/// `POST /api/kafka/backups/{id}/validate`; the body may be left out.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValidateRequest {
    /// Whether only what lies where is verified, and not every byte.
    #[schema(default = false)]
    pub quick: Option<bool>,
}

impl ValidateRequest {
    /// Of this backup.
    pub fn order(
        &self,
        cluster: &str,
        repository: &str,
        backup_id: BackupId,
        topics: &[String],
    ) -> ValidateOrder {
        ValidateOrder {
            cluster: cluster.to_owned(),
            repository: repository.to_owned(),
            backup_id,
            topics: topics.to_vec(),
            depth: Depth::new(self.quick.unwrap_or(false)),
        }
    }
}
