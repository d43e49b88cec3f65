//! Who asks, and what that one may do.

use crate::engine::topics::{Candidate, TopicPattern, TopicPatterns};
use crate::words::words;

words! {
    /// What somebody may do.
    pub enum Scope {
        /// See backups, jobs and figures.
        Read = "read",
        /// Make and validate backups.
        Backup = "backup",
        /// Restore backups.
        Restore = "restore",
        /// Copy topics between clusters.
        Migrate = "migrate",
        /// Watch groups.
        Drain = "drain",
        /// All of it, and delete backups.
        Admin = "admin",
    }
}

/// Who a token speaks for. Whoever signs by a key may say any subject, so the same subject under another key is somebody else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The key, as it is called in the configuration, that vouches for the subject. The keys of a key set share its name, so a
    /// rotation changes nobody's identity. Empty in jobs that were stored without it.
    pub key: String,
    /// The subject.
    pub subject: String,
}

impl Identity {
    /// Of the subject that this key vouches for.
    pub fn new(key: impl Into<String>, subject: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            subject: subject.into(),
        }
    }
}

/// The bearer of a token.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub identity: Identity,
    /// What that one may do.
    pub(super) scopes: Vec<Scope>,
    /// Where; everywhere when none is said.
    pub(super) clusters: Option<Patterns>,
    /// With which topics; with all when none is said.
    pub(super) topics: Option<Patterns>,
}

/// Names that a token allows. None of them allow nothing.
#[derive(Debug, Clone)]
pub(super) struct Patterns(TopicPatterns);

impl Patterns {
    /// None where one is no pattern: then the token is refused, and not read as if it said less.
    pub fn of(texts: &[String]) -> Option<Self> {
        let patterns = texts.iter().map(|text| text.parse().ok());
        let patterns = patterns.collect::<Option<Vec<_>>>()?;
        Some(Self(TopicPatterns::new(patterns)))
    }

    /// It is asked of each topic of each backup: no pattern is copied or compiled for that.
    fn allow(&self, name: &str) -> bool {
        let only_excludes = self.0.iter().all(TopicPattern::is_exclusion);
        let candidate = Candidate {
            name,
            is_internal: false,
        };
        !only_excludes && self.0.chooses(candidate)
    }
}

impl Caller {
    /// Whether the scope is held at all.
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }

    /// Whether the scope is held for a cluster, by its name in the configuration. One that has no name is nobody's who is limited.
    pub fn may_in(&self, scope: Scope, cluster: Option<&str>) -> bool {
        let where_allowed = match (&self.clusters, cluster) {
            (None, _) => true,
            (Some(allowed), Some(cluster)) => allowed.allow(cluster),
            (Some(_), None) => false,
        };
        self.has(scope) && where_allowed
    }

    /// Whether the scope is held for a topic of a cluster.
    pub fn may(&self, scope: Scope, cluster: Option<&str>, topic: &str) -> bool {
        let allowed = self
            .topics
            .as_ref()
            .is_none_or(|allowed| allowed.allow(topic));
        allowed && self.may_in(scope, cluster)
    }

    /// Whether it may do with some clusters or topics only.
    pub fn is_limited(&self) -> bool {
        self.clusters.is_some() || self.topics.is_some()
    }

    /// Whether clusters are all the same to it.
    pub fn is_everywhere(&self) -> bool {
        self.clusters.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(scopes: &[Scope], clusters: Option<&[&str]>, topics: Option<&[&str]>) -> Caller {
        let patterns = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            Patterns::of(&texts).unwrap()
        };
        Caller {
            identity: Identity::new("ops", "alice"),
            scopes: scopes.to_vec(),
            clusters: clusters.map(patterns),
            topics: topics.map(patterns),
        }
    }

    #[test]
    fn a_token_of_many_patterns_is_asked_of_many_topics_in_little_time() {
        let texts: Vec<String> = (0..200).map(|n| format!("team-{n}.*.{{a,b}}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let limited = caller(&[Scope::Read], None, Some(&texts));
        let began = std::time::Instant::now();
        let allowed = (0..1000)
            .filter(|n| limited.may(Scope::Read, None, &format!("team-{}.orders.a", n % 400)))
            .count();
        assert_eq!(allowed, 600);
        // Compiled for each question, they take minutes.
        assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    }

    #[test]
    fn scopes_hold_where_the_token_says_and_admin_is_all_of_them() {
        use Scope::{Admin, Backup, Read};
        let anywhere = caller(&[Read], None, None);
        assert!(anywhere.may(Read, None, "orders"));
        assert!(!anywhere.may(Backup, Some("prod"), "orders"));
        let admin = caller(&[Admin], Some(&["prod"]), None);
        assert!(admin.may(Backup, Some("prod"), "orders"));
        assert!(!admin.may(Backup, Some("dr"), "orders"));
        assert!(!admin.may(Backup, None, "orders"));
        let limited = caller(
            &[Backup],
            Some(&["prod*"]),
            Some(&["orders.*", "!orders.secret"]),
        );
        assert!(limited.may(Backup, Some("prod-eu"), "orders.new"));
        assert!(!limited.may(Backup, Some("prod-eu"), "orders.secret"));
        assert!(!limited.may(Backup, Some("prod-eu"), "payments"));
        // Nothing is allowed by saying nothing, or only what is not.
        assert!(!caller(&[Backup], Some(&[]), None).may_in(Backup, Some("prod")));
        assert!(!caller(&[Backup], None, Some(&["!a"])).may(Backup, None, "b"));
    }
}
