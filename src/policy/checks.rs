//! What no table alone can tell: names given twice, places written twice.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::daemon_configuration::Policies;
use super::kafkeep_file::RepositoryFile;
use super::key::At;
use super::kinds::{Entry, Named};
use super::reader::Reader;
use super::source::Place;

/// A name belongs to one policy, of whatever kind: metrics and backups go by it.
pub(super) fn names(policies: &Policies, reader: &mut Reader) {
    fn all<T>(named: &Named<T>) -> impl Iterator<Item = &At<String>> {
        named.0.iter().map(|entry| &entry.name)
    }
    let mut names: Vec<_> = all(&policies.backups)
        .chain(all(&policies.mirrors))
        .chain(all(&policies.drains))
        .collect();
    names.sort_by_key(|name| name.place);
    let mut first: BTreeMap<&str, Place> = BTreeMap::new();
    for name in names {
        if let Some(earlier) = first.get(name.value.as_str()) {
            reader.conflict(
                name.place,
                format!("a policy `{}` is there already", name.value),
                "give one of them another name",
                (*earlier, "first given here"),
            );
        } else {
            first.insert(&name.value, name.place);
        }
    }
}

/// A directory belongs to one repository, and so does all below it.
pub(super) fn repositories(repositories: &Named<RepositoryFile>, reader: &mut Reader) {
    let mut seen: Vec<(PathBuf, Place)> = Vec::new();
    for Entry { value, .. } in &repositories.0 {
        let Some(RepositoryFile { path, .. }) = value else {
            continue;
        };
        if path.value.is_relative() {
            let help =
                "a service has no directory of its own to start from: write an absolute path";
            reader.problem(
                path.place,
                format!("{} is relative", path.value.display()),
                help,
            );
            continue;
        }
        let own = plain(&path.value);
        for (other, place) in &seen {
            let relation = match (own.starts_with(other), other.starts_with(&own)) {
                (true, true) => "is another repository's too",
                (true, false) => "lies inside another repository",
                (false, true) => "has another repository inside",
                (false, false) => continue,
            };
            reader.conflict(
                path.place,
                format!("{} {relation}", path.value.display()),
                "give each repository a directory of its own, beside the others",
                (*place, "the other one"),
            );
            break;
        }
        seen.push((own, path.place));
    }
}

/// A path without `.`, `..` and repeated slashes; symbolic links are followed as far as it exists.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    let existing = plain.ancestors().find_map(|ancestor| {
        let real = ancestor.canonicalize().ok()?;
        Some(real.join(plain.strip_prefix(ancestor).ok()?))
    });
    existing.unwrap_or(plain)
}
