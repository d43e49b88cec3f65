//! The whole configuration of the daemon: `kafkeep.toml` and `policies.d/*.toml`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::engine::size::Size;
use crate::kafka::Cluster;
use crate::repository::Location;

use super::api_file::Api;
use super::backup_policy::BackupPolicy;
use super::checks;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::drain_policy::DrainPolicy;
use super::kafkeep_file::{Http, KafkeepFile, Limits, RepositoryFile};
use super::kinds::Named;
use super::mirror_policy::MirrorPolicy;
use super::mirror_targets;
use super::policy_file::{Policies, PolicyFile};
use super::reader::{Known, Reader};

/// The daemon's own file in the configuration directory.
pub(super) const KAFKEEP_TOML: &str = "kafkeep.toml";
/// The directory of policies in the configuration directory.
const POLICIES: &str = "policies.d";

/// All that the operator wants, checked: the policies name clusters and repositories that are there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DaemonConfiguration {
    /// The daemon's port.
    pub http: Http,
    /// The API on it; none where no key is configured.
    pub api: Option<Api>,
    /// Clusters by name, with their secrets fetched.
    pub clusters: BTreeMap<String, Cluster>,
    /// Repositories by name.
    pub repositories: BTreeMap<String, RepositoryLocation>,
    /// How much at once.
    pub limits: Limits,
    /// Backups, in the order of files and lines.
    pub backups: Vec<BackupPolicy>,
    /// Mirrors, in the same order.
    pub mirrors: Vec<MirrorPolicy>,
    /// Drains, in the same order.
    pub drains: Vec<DrainPolicy>,
}

/// Where a repository lies, and how large it may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryLocation {
    /// Where it lies.
    pub at: Location,
    /// What all backups in it may take together.
    pub max_size: Option<Size>,
    /// What must stay free on its file system.
    pub min_free: Option<Size>,
}

impl RepositoryFile {
    pub fn location(&self) -> RepositoryLocation {
        RepositoryLocation {
            at: self.at.value.clone(),
            max_size: self.max_size,
            min_free: self.min_free,
        }
    }
}

/// A configuration that is right, as far as can be told from outside of the service.
#[derive(Debug)]
pub struct Checked {
    /// The configuration; clusters and keys whose credentials only the service has are not in it.
    pub configuration: DaemonConfiguration,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// Clusters whose credentials only the service has.
    pub clusters_out_of_reach: Vec<String>,
    /// Keys of the API of which the same is true.
    pub keys_out_of_reach: Vec<String>,
    /// What should be looked at.
    pub warnings: Vec<Diagnostic>,
}

impl DaemonConfiguration {
    /// The daemon's port by the files in `directory`, be they wrong otherwise.
    pub fn http(directory: &Path) -> Http {
        let file: Option<KafkeepFile> = Reader::default().read(&directory.join(KAFKEEP_TOML));
        file.unwrap_or_default().http
    }

    /// The API's keys, for someone outside of the service: `kafkeep.toml` must be right, whatever is wrong with policies.
    pub fn keys(directory: &Path) -> Result<Keys, Diagnostics> {
        let mut reader = Reader::default();
        reader.looks_at_files = true;
        let file: Option<KafkeepFile> = reader.read(&directory.join(KAFKEEP_TOML));
        let mut keys = Keys::default();
        if let Some(file) = file.and_then(|file| file.api) {
            keys.api = file.api(&mut reader, true, &mut keys.out_of_reach);
        }
        reader.finish()?;
        Ok(keys)
    }

    /// How many policies there are, of all kinds.
    pub fn policies(&self) -> usize {
        self.backups.len() + self.mirrors.len() + self.drains.len()
    }

    /// Whether a policy of any kind has this name.
    pub fn has_policy(&self, name: &str) -> bool {
        let backups = self.backups.iter().map(|policy| &policy.name);
        let mirrors = self.mirrors.iter().map(|policy| &policy.name);
        let drains = self.drains.iter().map(|policy| &policy.name);
        backups
            .chain(mirrors)
            .chain(drains)
            .any(|known| known == name)
    }

    /// Reads and checks the files in `directory`. Fails with all that is wrong.
    pub fn load(directory: &Path) -> Result<Self, Diagnostics> {
        read(directory, false).map(|checked| checked.configuration)
    }

    /// The same for someone who looks at the files from outside of the service: there, systemd's credentials are
    /// not to be had, and nothing is wrong with that.
    pub fn check(directory: &Path) -> Result<Checked, Diagnostics> {
        read(directory, true)
    }
}

/// The API, and which of its keys are not to be had from outside of the service.
#[derive(Debug, Default)]
pub struct Keys {
    /// The API; none where no key is configured.
    pub api: Option<Api>,
    /// Keys whose secret is a credential of the service.
    pub out_of_reach: Vec<String>,
}

fn read(directory: &Path, from_outside: bool) -> Result<Checked, Diagnostics> {
    let mut reader = Reader::default();
    reader.looks_at_files = true;
    reader.warns = from_outside;
    let kafkeep: Option<KafkeepFile> = reader.read(&directory.join(KAFKEEP_TOML));
    reader.known = kafkeep.as_ref().map(|file| Known {
        clusters: file.clusters.names().map(str::to_owned).collect(),
        repositories: file.repositories.names().map(str::to_owned).collect(),
    });
    let kafkeep = kafkeep.unwrap_or_default();
    let (mut clusters_out_of_reach, mut keys_out_of_reach) = (Vec::new(), Vec::new());
    let mut clusters = BTreeMap::new();
    for entry in &kafkeep.clusters.0 {
        let Some(file) = &entry.value else { continue };
        let name = &entry.name.value;
        if from_outside && file.secrets().any(|secret| secret.value.is_out_of_reach()) {
            clusters_out_of_reach.push(name.clone());
        } else if let Some(cluster) = file.cluster(&mut reader) {
            clusters.insert(name.clone(), cluster);
        }
    }
    let file = kafkeep.api.as_ref();
    let api = file.and_then(|file| file.api(&mut reader, from_outside, &mut keys_out_of_reach));
    checks::repositories(&kafkeep.repositories, &mut reader);
    let policies = read_policies(directory, &mut reader);
    checks::names(&policies, &mut reader);
    mirror_targets::check(&policies.mirrors, &mut reader);
    reader.finish()?;
    Ok(Checked {
        configuration: DaemonConfiguration {
            http: kafkeep.http,
            api,
            clusters,
            repositories: values(kafkeep.repositories)
                .map(|(name, repository)| (name, repository.location()))
                .collect(),
            limits: kafkeep.limits,
            backups: values(policies.backups).map(|(_, policy)| policy).collect(),
            mirrors: values(policies.mirrors).map(|(_, policy)| policy).collect(),
            drains: values(policies.drains).map(|(_, policy)| policy).collect(),
        },
        files: reader.paths().map(Path::to_owned).collect(),
        clusters_out_of_reach,
        keys_out_of_reach,
        warnings: reader.take_warnings(),
    })
}

/// What is right; when all is, that is all.
fn values<T>(named: Named<T>) -> impl Iterator<Item = (String, T)> {
    let entries = named.0.into_iter();
    entries.filter_map(|entry| Some((entry.name.value, entry.value?)))
}

fn read_policies(directory: &Path, reader: &mut Reader) -> Policies {
    let mut policies = Policies::default();
    for path in policy_files(&directory.join(POLICIES), reader) {
        let file: Option<PolicyFile> = reader.read(&path);
        let file = file.unwrap_or_default();
        policies.backups.0.extend(file.backups.0);
        policies.mirrors.0.extend(file.mirrors.0);
        policies.drains.0.extend(file.drains.0);
    }
    policies
}

/// The files of policies in lexical order. Hidden ones are editors' or a mount's own; no directory, no policies.
fn policy_files(directory: &Path, reader: &mut Reader) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(directory).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>, _>>()
    });
    let mut paths = match listed {
        Ok(paths) => paths,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            reader.unreadable(directory, &format!("cannot be read: {error}"));
            Vec::new()
        }
    };
    let is_hidden = |path: &Path| {
        let name = path.file_name().map(OsStr::as_encoded_bytes);
        name.is_none_or(|name| name.starts_with(b"."))
    };
    paths.retain(|path| path.extension() == Some(OsStr::new("toml")) && !is_hidden(path));
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::time::Instant;

    use super::*;

    /// `cargo test --release --lib -- --ignored --nocapture many_policies`
    #[test]
    #[ignore = "prints how long it takes"]
    fn many_policies_are_loaded_in_a_fraction_of_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::create_dir(path.join("policies.d")).unwrap();
        let kafkeep =
            "[clusters.prod]\nbootstrap_servers = ['k:9092']\n[repositories.main]\npath = '/r'\n";
        std::fs::write(path.join(KAFKEEP_TOML), kafkeep).unwrap();
        let mut parsed = std::time::Duration::ZERO;
        for policy in 0..500 {
            let mut text = format!(
                "[backup.p{policy}]\ncluster = 'prod'\nrepository = 'main'\nschedule = '15 2 * * *'\n\
                 timezone = 'Europe/Berlin'\ntopics = ["
            );
            for topic in 0..100 {
                let pattern = if topic % 2 == 0 { ".*" } else { "" };
                write!(text, "'topic-{policy}-{topic}{pattern}', ").unwrap();
            }
            text.push_str("]\n");
            let start = Instant::now();
            text.parse::<toml::Table>().unwrap();
            parsed += start.elapsed();
            std::fs::write(path.join(format!("policies.d/{policy}.toml")), text).unwrap();
        }
        let start = Instant::now();
        let configuration = DaemonConfiguration::load(path).unwrap();
        let loaded = start.elapsed();
        assert_eq!(configuration.backups.len(), 500);
        let start = Instant::now();
        let same = super::super::Difference::between(&configuration, &configuration).is_empty();
        assert!(same);
        let compared = start.elapsed();
        let ratio = loaded.as_secs_f64() / parsed.as_secs_f64();
        eprintln!("load {loaded:?}, {ratio:.1} times the parsing alone; difference {compared:?}");
    }
}
