//! Which resource a path names.

use hyper::Method;
use percent_encoding::percent_decode_str;

/// What can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    /// `/api/openapi.json`
    Document,
    /// `/api/kafka/clusters/{cluster-id}/backup`
    Backup(String),
    /// `/api/kafka/clusters/{cluster-id}/restore`
    Restore(String),
    /// `/api/kafka/clusters/{cluster-id}/drain`
    Drain(String),
    /// `/api/kafka/migrate`
    Migrate,
    /// `/api/kafka/metrics`
    Metrics,
    /// `/api/kafka/backups`
    Backups,
    /// `/api/kafka/backups/{id}`
    OneBackup(String),
    /// `/api/kafka/backups/{id}/validate`
    Validate(String),
    /// `/api/kafka/jobs`
    Jobs,
    /// `/api/kafka/jobs/{id}`
    OneJob(String),
}

/// The resource of a path.
pub(super) fn find(path: &str) -> Option<Resource> {
    if path == "/api/openapi.json" {
        return Some(Resource::Document);
    }
    let segments: Vec<&str> = path.strip_prefix("/api/kafka/")?.split('/').collect();
    let decoded = |segment: &str| {
        percent_decode_str(segment)
            .decode_utf8()
            .ok()
            .map(|text| text.into_owned())
    };
    Some(match segments.as_slice() {
        ["clusters", id, "backup"] => Resource::Backup(decoded(id)?),
        ["clusters", id, "restore"] => Resource::Restore(decoded(id)?),
        ["clusters", id, "drain"] => Resource::Drain(decoded(id)?),
        ["migrate"] => Resource::Migrate,
        ["metrics"] => Resource::Metrics,
        ["backups"] => Resource::Backups,
        ["backups", id] => Resource::OneBackup(decoded(id)?),
        ["backups", id, "validate"] => Resource::Validate(decoded(id)?),
        ["jobs"] => Resource::Jobs,
        ["jobs", id] => Resource::OneJob(decoded(id)?),
        _ => return None,
    })
}

impl Resource {
    /// For metrics: without what varies.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Document => "api/openapi",
            Self::Backup(_) => "api/backup",
            Self::Restore(_) => "api/restore",
            Self::Drain(_) => "api/drain",
            Self::Migrate => "api/migrate",
            Self::Metrics => "api/metrics",
            Self::Backups => "api/backups",
            Self::OneBackup(_) => "api/backups/id",
            Self::Validate(_) => "api/backups/id/validate",
            Self::Jobs => "api/jobs",
            Self::OneJob(_) => "api/jobs/id",
        }
    }

    /// The methods that it knows.
    pub fn methods(&self) -> &'static [Method] {
        match self {
            Self::Backup(_)
            | Self::Restore(_)
            | Self::Drain(_)
            | Self::Migrate
            | Self::Validate(_) => &[Method::POST],
            Self::Document | Self::Metrics | Self::Backups | Self::Jobs => &[Method::GET],
            Self::OneBackup(_) | Self::OneJob(_) => &[Method::GET, Method::DELETE],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_resources_with_what_varies_decoded() {
        assert_eq!(
            find("/api/kafka/clusters/prod/backup"),
            Some(Resource::Backup("prod".to_owned()))
        );
        assert_eq!(
            find("/api/kafka/backups/a%2Fb"),
            Some(Resource::OneBackup("a/b".to_owned()))
        );
        for nothing in [
            "/api/kafka",
            "/api/kafka/",
            "/api/kafka/clusters/a",
            "/api/kafka/jobs/",
            "/api/kafka/jobs/%ff",
            "/api/other",
        ] {
            let found = find(nothing);
            let is_nothing = found.is_none() || found == Some(Resource::OneJob(String::new()));
            assert!(is_nothing, "{nothing}: {found:?}");
        }
    }
}
