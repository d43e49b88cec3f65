//! Names of objects.

use std::fmt;

use super::RepositoryError;

/// A relative path of segments made of `a-z A-Z 0-9 . _ -` that begin with no dot: safe on every file system and in every
/// object store, and never the name of anything unfinished.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

const NAME_LIMIT: usize = 512;
const SEGMENT_LIMIT: usize = 200;

impl ObjectName {
    /// Checks and takes a name.
    pub fn new(name: impl Into<String>) -> Result<Self, RepositoryError> {
        let name = name.into();
        if name.len() <= NAME_LIMIT && name.split('/').all(is_segment) {
            Ok(Self(name))
        } else {
            Err(RepositoryError::InvalidName {
                name: name.chars().take(NAME_LIMIT).collect(),
            })
        }
    }

    /// The name with all its segments, as in `backups/…json`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directories, from the outermost, and the last segment.
    pub fn split(&self) -> (impl Iterator<Item = &str>, &str) {
        let (directories, last) = self.0.rsplit_once('/').unwrap_or(("", &self.0));
        (
            directories.split('/').filter(|segment| !segment.is_empty()),
            last,
        )
    }
}

/// Whether `text` may stand between two slashes of an [`ObjectName`].
pub(super) fn is_segment(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !text.is_empty()
        && text.len() <= SEGMENT_LIMIT
        && !text.starts_with('.')
        && text.bytes().all(allowed)
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_but_down() {
        for name in ["kafkeep.json", "packs/3f/0190.pack", "a_b-C/1"] {
            assert_eq!(ObjectName::new(name).unwrap().as_str(), name);
        }
        let long = "a".repeat(SEGMENT_LIMIT + 1);
        for name in [
            "",
            "/",
            "/etc/passwd",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            ".tmp/a",
            "a/.b",
            "a b",
            "a\0",
            "ä",
            &long,
        ] {
            assert!(ObjectName::new(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn names_split_into_directories_and_a_last_segment() {
        let name = ObjectName::new("packs/3f/x.pack").unwrap();
        let (directories, last) = name.split();
        assert_eq!(
            (directories.collect::<Vec<_>>(), last),
            (vec!["packs", "3f"], "x.pack")
        );
        let name = ObjectName::new("kafkeep.json").unwrap();
        let (directories, last) = name.split();
        assert_eq!((directories.count(), last), (0, "kafkeep.json"));
    }
}
