//! Where a repository lies: the one door to it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rustix::fs::{Access, access};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{DirectoryStorage, Repository, RepositoryError};

/// Where a repository lies. A kind of storage is a variant here, and its scheme below.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Location {
    /// A directory of a local or mounted file system.
    Directory(PathBuf),
}

impl Location {
    /// Opens a repository that was begun before.
    pub fn open(&self) -> Result<Repository, RepositoryError> {
        match self {
            Self::Directory(path) => Repository::open(Arc::new(DirectoryStorage::open(path)?)),
        }
    }

    /// Opens a repository, or begins one where nothing is.
    pub fn open_or_init(&self) -> Result<Repository, RepositoryError> {
        match self {
            Self::Directory(path) => {
                Repository::open_or_init(Arc::new(DirectoryStorage::create(path)?))
            }
        }
    }

    /// Opens a repository; none where nothing was begun.
    pub fn open_existing(&self) -> Result<Option<Repository>, RepositoryError> {
        match self {
            Self::Directory(path) if !path.exists() => return Ok(None),
            Self::Directory(_) => {}
        }
        match self.open() {
            Ok(repository) => Ok(Some(repository)),
            Err(RepositoryError::NotARepository { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a repository could be begun here, where nothing is yet.
    ///
    /// # Errors
    ///
    /// What the system says of the directory in which it would be made.
    pub fn can_be_made(&self) -> Result<(), RepositoryError> {
        let Self::Directory(path) = self;
        let above = path.ancestors().find(|above| above.exists());
        let above = above
            .filter(|above| !above.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let made = match above.is_dir() {
            true => access(above, Access::WRITE_OK | Access::EXEC_OK),
            false => Err(Errno::NOTDIR),
        };
        let place = above.display().to_string();
        made.map_err(|errno| RepositoryError::system("make a directory in", &place, errno))
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        Self::Directory(path.to_owned())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
        }
    }
}

/// Text that names no place where this kafkeep can keep a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLocation {
    /// The text is empty.
    #[error("it is empty")]
    Empty,
    /// No path of a file system has it.
    #[error("no path has a NUL in it")]
    Nul,
    /// `file:` without an absolute path.
    #[error("`{0}` names no directory: write file:///a/directory")]
    NoDirectory(String),
    /// A URL of another scheme.
    #[error("{scheme} is not built yet: this kafkeep knows directories only; give a path")]
    UnknownScheme {
        /// What stands before `://`.
        scheme: String,
    },
}

impl FromStr for Location {
    type Err = InvalidLocation;

    /// Reads a path, or a URL such as `file:///var/lib/kafkeep`.
    fn from_str(text: &str) -> Result<Self, InvalidLocation> {
        if text.is_empty() {
            return Err(InvalidLocation::Empty);
        }
        if text.contains('\0') {
            return Err(InvalidLocation::Nul);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            let is_url = text
                .get(..5)
                .is_some_and(|begin| begin.eq_ignore_ascii_case("file:"));
            return match is_url {
                true => Err(InvalidLocation::NoDirectory(text.to_owned())),
                false => Ok(Self::Directory(text.into())),
            };
        };
        if !scheme.eq_ignore_ascii_case("file") {
            let scheme = scheme.chars().take(20).collect();
            return Err(InvalidLocation::UnknownScheme { scheme });
        }
        let path = percent_encoding::percent_decode_str(rest).decode_utf8();
        match path {
            Ok(path) if path.starts_with('/') && !path.contains('\0') => {
                Ok(Self::Directory(path.as_ref().into()))
            }
            _ => Err(InvalidLocation::NoDirectory(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_file_urls_name_directories() {
        for (text, path) in [
            ("/var/lib/kafkeep", "/var/lib/kafkeep"),
            ("./here", "./here"),
            ("file:///var/lib/my%20backups", "/var/lib/my backups"),
            ("FILE:///a", "/a"),
        ] {
            assert_eq!(
                text.parse::<Location>().unwrap(),
                Location::Directory(path.into()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_names_no_directory_is_refused() {
        for (text, said) in [
            ("", "it is empty"),
            ("a\0b", "NUL"),
            ("file://host/path", "file:///a/directory"),
            ("file:/path", "file:///a/directory"),
            ("file:///a%00", "file:///a/directory"),
            ("s3://bucket/prefix", "directories only"),
        ] {
            let error = text.parse::<Location>().unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_repository_is_begun_once_and_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let location = Location::from(directory.path().join("a/b").as_path());
        assert!(location.open_existing().unwrap().is_none());
        let begun = location.open_or_init().unwrap().id();
        assert_eq!(location.open_or_init().unwrap().id(), begun);
        assert_eq!(location.open().unwrap().id(), begun);
        assert_eq!(location.open_existing().unwrap().unwrap().id(), begun);
        assert_eq!(location.to_string(), begun_at(&location));
    }

    #[test]
    fn where_nothing_can_be_made_the_system_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let below = Location::from(file.join("repository").as_path());
        let why = below.can_be_made().unwrap_err().to_string();
        assert!(why.contains("Not a directory (os error 20)"), "{why}");
        let beside = Location::from(directory.path().join("repository").as_path());
        assert!(beside.can_be_made().is_ok());
    }

    fn begun_at(location: &Location) -> String {
        location.open().unwrap().location()
    }
}
