//! What no table alone can tell: names given twice, places written twice.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::kafkeep_file::RepositoryFile;
use super::key::At;
use super::kinds::{Entry, Named};
use super::policy_file::Policies;
use super::reader::Reader;
use super::source::Place;
use crate::repository::Location;

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
        let Some(RepositoryFile { at, .. }) = value else {
            continue;
        };
        let Location::Directory(path) = &at.value;
        if path.is_relative() {
            let help =
                "a service has no directory of its own to start from: write an absolute path";
            reader.problem(at.place, format!("{} is relative", path.display()), help);
            continue;
        }
        let own = plain(path);
        for (other, place) in &seen {
            let relation = match (own.starts_with(other), other.starts_with(&own)) {
                (true, true) => "is another repository's too",
                (true, false) => "lies inside another repository",
                (false, true) => "has another repository inside",
                (false, false) => continue,
            };
            reader.conflict(
                at.place,
                format!("{} {relation}", path.display()),
                "give each repository a directory of its own, beside the others",
                (*place, "the other one"),
            );
            break;
        }
        seen.push((own, at.place));
    }
}

/// What a storage that hangs is waited for, before paths on it are compared as they are written.
const RESOLVE_WITHIN: Duration = Duration::from_secs(2);

/// A path without `.`, `..` and repeated slashes; symbolic links are followed as far as it exists, and its storage answers.
fn plain(path: &Path) -> PathBuf {
    let plain = without_dots(path);
    let resolving = plain.clone();
    within(RESOLVE_WITHIN, move || resolved(&resolving))
        .flatten()
        .unwrap_or(plain)
}

/// What `work` gives, if that is in time.
fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, result) = mpsc::channel();
    let thread = std::thread::Builder::new().name("path".to_owned());
    // Nobody may wait for it any more.
    thread.spawn(move || done.send(work()).ok()).ok()?;
    result.recv_timeout(limit).ok()
}

fn without_dots(path: &Path) -> PathBuf {
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
    plain
}

fn resolved(plain: &Path) -> Option<PathBuf> {
    plain.ancestors().find_map(|ancestor| {
        let real = ancestor.canonicalize().ok()?;
        Some(real.join(plain.strip_prefix(ancestor).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storage_that_hangs_is_not_waited_for() {
        let (_sender, never) = mpsc::channel::<()>();
        assert_eq!(
            within(Duration::from_millis(10), move || never.recv()),
            None
        );
        assert_eq!(within(Duration::from_secs(20), || 7), Some(7));
    }

    #[test]
    fn links_are_followed_and_what_is_not_there_is_taken_as_written() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&real, real.join("link")).unwrap();
        assert_eq!(plain(&real.join("link/./new/../other")), real.join("other"));
    }
}
