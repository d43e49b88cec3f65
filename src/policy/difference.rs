//! What a reload changes.

use crate::words::words;
use std::collections::BTreeMap;
use std::fmt;

use super::DaemonConfiguration;

words! {
    /// The kinds of policies.
    pub enum PolicyKind {
        /// `[backup.NAME]`
        Backup = "backup",
        /// `[mirror.NAME]`
        Mirror = "mirror",
        /// `[drain.NAME]`
        Drain = "drain",
    }
}

/// Which policy. Within one configuration, no two have the same name, whatever their kinds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId {
    /// Its kind.
    pub kind: PolicyKind,
    /// Its name.
    pub name: String,
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What differs between two configurations; policies in the order of their kinds and names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Policies that are new.
    pub added: Vec<PolicyId>,
    /// Policies that are there still, but with another text, cluster or repository.
    pub changed: Vec<PolicyId>,
    /// Policies that are gone.
    pub removed: Vec<PolicyId>,
    /// Whether `[http]` differs.
    pub http: bool,
    /// Whether `[limits]` differ.
    pub limits: bool,
}

impl Difference {
    /// From `old` to `new`; a start is the difference from the default configuration, which has no policies.
    pub fn between(old: &DaemonConfiguration, new: &DaemonConfiguration) -> Self {
        let before = policies(old);
        let after = policies(new);
        let mut difference = Self {
            http: old.http != new.http,
            limits: old.limits != new.limits,
            ..Self::default()
        };
        for (id, policy) in &after {
            match before.get(id) {
                None => difference.added.push(id.clone()),
                Some(earlier) if !earlier.is_same(policy) => difference.changed.push(id.clone()),
                Some(_) => {}
            }
        }
        let gone = before.into_keys().filter(|id| !after.contains_key(id));
        difference.removed = gone.collect();
        difference
    }

    /// Whether nothing differs that the daemon goes by.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A policy in its configuration, to be compared with itself in another one.
struct Placed<'a> {
    configuration: &'a DaemonConfiguration,
    index: usize,
    kind: PolicyKind,
}

fn policies(configuration: &DaemonConfiguration) -> BTreeMap<PolicyId, Placed<'_>> {
    let backups = configuration.backups.iter().map(|policy| &policy.name);
    let mirrors = configuration.mirrors.iter().map(|policy| &policy.name);
    let drains = configuration.drains.iter().map(|policy| &policy.name);
    let backups = backups.enumerate().map(|named| (PolicyKind::Backup, named));
    let mirrors = mirrors.enumerate().map(|named| (PolicyKind::Mirror, named));
    let drains = drains.enumerate().map(|named| (PolicyKind::Drain, named));
    let place = |(kind, (index, name)): (PolicyKind, (usize, &String))| {
        let name = name.clone();
        let placed = Placed {
            configuration,
            index,
            kind,
        };
        (PolicyId { kind, name }, placed)
    };
    backups.chain(mirrors).chain(drains).map(place).collect()
}

impl Placed<'_> {
    fn is_same(&self, other: &Self) -> bool {
        let (a, b) = (self.configuration, other.configuration);
        let same_cluster = |name: &String| a.clusters.get(name) == b.clusters.get(name);
        match self.kind {
            PolicyKind::Backup => match (a.backups.get(self.index), b.backups.get(other.index)) {
                (Some(one), Some(two)) => {
                    one == two
                        && same_cluster(&one.cluster)
                        && a.repositories.get(&one.repository)
                            == b.repositories.get(&one.repository)
                }
                _ => false,
            },
            PolicyKind::Mirror => match (a.mirrors.get(self.index), b.mirrors.get(other.index)) {
                (Some(one), Some(two)) => {
                    one == two && same_cluster(&one.source) && same_cluster(&one.target)
                }
                _ => false,
            },
            PolicyKind::Drain => match (a.drains.get(self.index), b.drains.get(other.index)) {
                (Some(one), Some(two)) => one == two && same_cluster(&one.cluster),
                _ => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KAFKEEP: &str = "
        [clusters.prod]
        bootstrap_servers = ['kafka1:9092']
        [clusters.dr]
        bootstrap_servers = ['dr1:9092']
        [repositories.main]
        path = '/var/lib/kafkeep'
        [repositories.other]
        path = '/srv/kafkeep'
    ";
    const POLICIES: &str = "
        [backup.orders]
        cluster = 'prod'
        repository = 'main'
        topics = ['orders.*']
        every = '1h'
        [backup.payments]
        cluster = 'dr'
        repository = 'other'
        topics = ['payments']
        schedule = '@daily'
        [mirror.all]
        source = 'prod'
        target = 'dr'
        topics = ['*']
        [drain.checkout]
        cluster = 'prod'
        group = 'checkout'
        topics = ['orders.*']
    ";

    fn load(kafkeep: &str, policies: &str) -> DaemonConfiguration {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("policies.d")).unwrap();
        std::fs::write(directory.path().join("kafkeep.toml"), kafkeep).unwrap();
        std::fs::write(directory.path().join("policies.d/a.toml"), policies).unwrap();
        DaemonConfiguration::load(directory.path()).unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    fn changed(kafkeep: &str, policies: &str) -> Vec<String> {
        let difference = Difference::between(&load(KAFKEEP, POLICIES), &load(kafkeep, policies));
        assert!(difference.added.is_empty() && difference.removed.is_empty());
        difference.changed.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_start_adds_everything_and_the_same_text_nothing() {
        let configuration = load(KAFKEEP, POLICIES);
        let start = Difference::between(&DaemonConfiguration::default(), &configuration);
        let added: Vec<String> = start.added.iter().map(ToString::to_string).collect();
        assert_eq!(
            added,
            [
                "backup orders",
                "backup payments",
                "mirror all",
                "drain checkout"
            ]
        );
        let commented = format!("# moved\n\n{POLICIES}");
        let same = Difference::between(&configuration, &load(KAFKEEP, &commented));
        assert!(same.is_empty(), "{same:?}");
    }

    #[test]
    fn a_policy_that_is_gone_is_removed_and_one_of_another_kind_is_another() {
        let old = load(KAFKEEP, POLICIES);
        let new = POLICIES.replace("[drain.checkout]", "[drain.till]");
        let difference = Difference::between(&old, &load(KAFKEEP, &new));
        assert_eq!(difference.added[0].to_string(), "drain till");
        assert_eq!(difference.removed[0].to_string(), "drain checkout");
        assert!(difference.changed.is_empty());
    }

    #[test]
    fn every_key_of_a_policy_changes_it_alone() {
        for (from, to) in [
            ("every = '1h'", "every = '2h'"),
            ("every = '1h'", "every = '1h'\njitter = '5m'"),
            ("every = '1h'", "every = '1h'\nsuspend = true"),
            ("every = '1h'", "every = '1h'\ngroups = ['billing']"),
            (
                "every = '1h'",
                "every = '1h'\nretention = { keep_last = 3 }",
            ),
            ("every = '1h'", "every = '1h'\ntimezone = 'Europe/Berlin'"),
            (
                "['orders.*']\n        every",
                "['orders.*', '!orders.tmp']\n        every",
            ),
        ] {
            assert_ne!(POLICIES.replace(from, to), POLICIES);
            assert_eq!(
                changed(KAFKEEP, &POLICIES.replace(from, to)),
                ["backup orders"],
                "{to}"
            );
        }
    }

    #[test]
    fn a_policy_changes_with_its_cluster_and_its_repository() {
        let cluster = KAFKEEP.replace("dr1", "dr2");
        assert_eq!(
            changed(&cluster, POLICIES),
            ["backup payments", "mirror all"]
        );
        let repository = KAFKEEP.replace(
            "'/var/lib/kafkeep'",
            "'/var/lib/kafkeep'\nmin_free = '1GiB'",
        );
        assert_eq!(changed(&repository, POLICIES), ["backup orders"]);
    }

    #[test]
    fn the_port_and_the_limits_change_no_policy() {
        let old = load(KAFKEEP, POLICIES);
        let new = format!("{KAFKEEP}\n[limits]\nmigrations = 1\n[http]\nlisten = '[::1]:9644'");
        let difference = Difference::between(&old, &load(&new, POLICIES));
        assert!(difference.limits && difference.http && difference.changed.is_empty());
    }
}
