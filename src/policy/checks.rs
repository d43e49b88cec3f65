//! What no table alone can tell: names given twice, places written twice.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::engine::topics::Candidate;

use super::daemon_configuration::Policies;
use super::kafkeep_file::RepositoryFile;
use super::kinds::{Entry, Named};
use super::mirror_policy::MirrorPolicy;
use super::reader::{At, Reader};
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

/// Two mirrors that write one topic would mix their records. Told where names and patterns show it: what regular
/// expressions choose shows only when they meet a name.
pub(super) fn mirror_targets(mirrors: &Named<MirrorPolicy>, reader: &mut Reader) {
    let mirrors: Vec<(Place, &MirrorPolicy)> = mirrors
        .0
        .iter()
        .filter_map(|entry| Some((entry.name.place, entry.value.as_ref()?)))
        .collect();
    let mut written: BTreeMap<(&str, String), usize> = BTreeMap::new();
    let mut literals: BTreeMap<(&str, &str), Vec<(usize, &str)>> = BTreeMap::new();
    let mut clashes: BTreeMap<usize, (usize, String)> = BTreeMap::new();
    for (index, (_, mirror)) in mirrors.iter().enumerate() {
        for pattern in mirror
            .topics
            .iter()
            .filter(|pattern| !pattern.is_exclusion())
        {
            let name = mirror.rename.apply(&pattern.to_string());
            let earlier = *written
                .entry((&mirror.target, name.clone()))
                .or_insert(index);
            if earlier != index {
                clashes.entry(index).or_insert((earlier, name));
            }
            if let Some(literal) = pattern.literal() {
                let key = (mirror.target.as_str(), literal);
                literals.entry(key).or_default().push((index, literal));
            }
        }
    }
    for (index, (_, mirror)) in mirrors.iter().enumerate() {
        for ((target, _), writers) in literals.range((mirror.target.as_str(), "")..) {
            if *target != mirror.target {
                break;
            }
            for (other, literal) in writers.iter().filter(|(other, _)| *other != index) {
                let written = mirrors
                    .get(*other)
                    .map(|(_, other)| other.rename.apply(literal));
                let candidate = Candidate {
                    name: literal,
                    is_internal: false,
                };
                let same = written.is_some_and(|name| name == mirror.rename.apply(literal));
                if same && mirror.topics.chooses(candidate) {
                    let (first, second) = (index.min(*other), index.max(*other));
                    let name = mirror.rename.apply(literal);
                    clashes.entry(second).or_insert((first, name));
                }
            }
        }
    }
    for (index, (earlier, name)) in clashes {
        let (Some((place, mirror)), Some((other, _))) = (mirrors.get(index), mirrors.get(earlier))
        else {
            continue;
        };
        reader.conflict(
            *place,
            format!(
                "this mirror writes `{name}` in `{}`, as another one does",
                mirror.target
            ),
            "give one of them other topics, another target or another rename",
            (*other, "the other one"),
        );
    }
}
