//! Secrets: never literal in a file, always by reference.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::files;
use crate::kafka::Secret;

use super::key::{AnyKey, At, Key, Keys, Kind, Node};
use super::kinds::Text;
use super::reader::{LARGEST_FILE, Reader};
use super::section::Section;

/// Where a secret lies: `{ file = … }`, `{ credential = … }` (systemd's LoadCredential) or `{ env = … }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SecretReference {
    File(PathBuf),
    Credential(String),
    Env(String),
}

const FILE: Key<PathBuf> = Key::optional("file", "a file that holds nothing else; chmod 0600");
const CREDENTIAL: Key<Text> = Key::optional(
    "credential",
    "the ID of LoadCredential=ID:PATH in the systemd unit",
);
const ENV: Key<Text> = Key::optional("env", "an environment variable");
const KEYS: Keys = &[&FILE, &CREDENTIAL, &ENV];

impl Kind for SecretReference {
    const WANTS: &'static str = "{ file = … }, { credential = … } or { env = … }";

    fn schema() -> Value {
        let one = |key: &dyn AnyKey| {
            json!({
                "type": "object",
                "properties": { key.name(): key.schema() },
                "required": [key.name()],
                "additionalProperties": false,
            })
        };
        json!({ "oneOf": KEYS.iter().map(|key| one(*key)).collect::<Vec<_>>() })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let place = reader.place(node.span());
        if !node.get_ref().is_table() {
            reader.hide_values(node);
            let help = format!("write {}", Self::WANTS);
            reader.problem(place, "a secret does not belong into this file", help);
            return None;
        }
        let section = Section::open::<Self>(node, KEYS, reader)?;
        let file = section.value(&FILE, reader);
        let credential = section.value(&CREDENTIAL, reader);
        let env = section.value(&ENV, reader);
        let found = match (file, credential, env) {
            (Some(file), None, None) => Self::File(file),
            (None, Some(Text(name)), None) => Self::Credential(name),
            (None, None, Some(Text(name))) => Self::Env(name),
            _ => {
                let help = format!("write {}", Self::WANTS);
                reader.problem(place, "a secret comes from one place", help);
                return None;
            }
        };
        Some(found)
    }
}

/// Why a secret cannot be had, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoSecret {
    pub problem: String,
    pub help: &'static str,
}

impl SecretReference {
    /// Fetches the secret; one trailing line break is not part of it. One in a file stays the file's: see [`Secret`].
    pub fn fetch(&self) -> Result<Secret, NoSecret> {
        self.fetch_in(|name| std::env::var_os(name))
    }

    /// Whether only the service's main process can have it, and this one is another: outside of the service none is named, and
    /// systemd 252 names them to a command of `ExecReload=`, but does not let it read them.
    pub fn is_out_of_reach(&self) -> bool {
        let Self::Credential(name) = self else {
            return false;
        };
        let Some(directory) = std::env::var_os(CREDENTIALS) else {
            return true;
        };
        let opened = files::read(&Path::new(&directory).join(name), Secret::LARGEST);
        opened.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    }

    fn fetch_in(&self, environment: impl Fn(&str) -> Option<OsString>) -> Result<Secret, NoSecret> {
        let secret = self.read_in(environment)?;
        match secret.reveal() {
            "" => Err(NoSecret {
                problem: "the secret is empty".to_owned(),
                help: "",
            }),
            _ => Ok(secret),
        }
    }

    fn read_in(&self, environment: impl Fn(&str) -> Option<OsString>) -> Result<Secret, NoSecret> {
        let refuse = |problem: String, help| Err(NoSecret { problem, help });
        match self {
            Self::File(path) => read(path),
            Self::Credential(name) if name.contains('/') => refuse(
                format!("credential `{name}` is no name"),
                "it is the ID of LoadCredential=ID:PATH",
            ),
            Self::Credential(name) => match environment(CREDENTIALS) {
                Some(directory) => read(&Path::new(&directory).join(name)),
                None => refuse(
                    format!(
                        "credential `{name}` is unavailable: {CREDENTIALS} is not set, as it is in the service alone"
                    ),
                    BY_HAND,
                ),
            },
            Self::Env(name) => match environment(name).map(OsString::into_string) {
                Some(Ok(text)) => Ok(Secret::of_line(text)),
                Some(Err(_)) => refuse(format!("environment variable {name} is not UTF-8"), ""),
                None => refuse(format!("environment variable {name} is not set"), ""),
            },
        }
    }

    /// What others may do with its file, if they may do anything. Of systemd's credentials, systemd takes care.
    pub fn exposed(&self) -> Option<NoSecret> {
        let Self::File(path) = self else { return None };
        exposed_file(path)
    }
}

/// What others may do with a file that holds a secret, if they may do anything.
fn exposed_file(path: &Path) -> Option<NoSecret> {
    let mode = path.metadata().ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| NoSecret {
        problem: format!("{} can be read by others (mode {mode:04o})", path.display()),
        help: "chmod 0600, and give it to the user that kafkeep runs as",
    })
}

/// Tells of a private key that others can read, where that is looked at. Of systemd's credentials, systemd takes care.
pub(super) fn refuse_exposed_key(key_file: &At<PathBuf>, reader: &mut Reader) {
    if !reader.looks_at_files || is_of_systemd(&key_file.value) {
        return;
    }
    if let Some(exposed) = exposed_file(&key_file.value) {
        reader.problem(key_file.place, exposed.problem, exposed.help);
    }
}

/// Tells of a file of certificates or of a key that cannot be read, where that is looked at. Only the service sees systemd's
/// credentials.
pub(super) fn refuse_unreadable(file: &At<PathBuf>, reader: &mut Reader) {
    if !reader.looks_at_files || is_of_systemd(&file.value) {
        return;
    }
    if let Err(error) = files::read(&file.value, LARGEST_FILE) {
        let problem = format!("{}: {error}", file.value.display());
        let help = "give a PEM file that the user that kafkeep runs as can read";
        reader.problem(file.place, problem, help);
    }
}

fn is_of_systemd(path: &Path) -> bool {
    let credentials = std::env::var_os(CREDENTIALS).map(PathBuf::from);
    let of_systemd = [Some(PathBuf::from("/run/credentials")), credentials];
    of_systemd.iter().flatten().any(|at| path.starts_with(at))
}

/// How a command by hand gets what the service has.
const BY_HAND: &str = "for a command by hand: systemd-run --pipe --wait -p User=kafkeep -p LoadCredential=ID:FILE kafkeep …; or, as a user who \
                       may read the file, CREDENTIALS_DIRECTORY=DIR kafkeep … where the file is DIR/ID";

/// Where systemd puts what LoadCredential= names.
pub(super) const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

fn read(path: &Path) -> Result<Secret, NoSecret> {
    let refuse = |problem: String| NoSecret {
        problem: format!("{}: {problem}", path.display()),
        help: "",
    };
    Secret::in_file(path).map_err(|error| refuse(error.to_string()))
}

/// Fetches a secret. What others can read is none, where that is looked at.
pub(super) fn fetched(reference: &At<SecretReference>, reader: &mut Reader) -> Option<Secret> {
    let exposed = reader
        .looks_at_files
        .then(|| reference.value.exposed())
        .flatten();
    match exposed.map_or_else(|| reference.value.fetch(), Err) {
        Ok(secret) => Some(secret),
        Err(refused) => {
            reader.problem(reference.place, refused.problem, refused.help);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(
        reference: &SecretReference,
        environment: &[(&str, &str)],
    ) -> Result<Secret, NoSecret> {
        reference.fetch_in(|name| {
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.into())
        })
    }

    #[test]
    fn a_secret_comes_from_a_file_a_credential_or_the_environment() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().to_str().unwrap();
        for (content, secret) in [
            ("swordfish", "swordfish"),
            ("swordfish\n", "swordfish"),
            ("swordfish\r\n", "swordfish"),
            (" sword fish \n\n", " sword fish \n"),
        ] {
            let path = directory.path().join("password");
            std::fs::write(&path, content).unwrap();
            for (reference, environment) in [
                (SecretReference::File(path), None),
                (
                    SecretReference::Credential("password".into()),
                    Some(("CREDENTIALS_DIRECTORY", at)),
                ),
                (SecretReference::Env("PW".into()), Some(("PW", content))),
            ] {
                let environment: Vec<_> = environment.into_iter().collect();
                let fetched = fetch(&reference, &environment).unwrap();
                assert_eq!(fetched.reveal(), secret);
            }
        }
    }

    #[test]
    fn a_secret_that_cannot_be_had_is_told_with_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let empty = directory.path().join("empty");
        std::fs::write(&empty, "\n").unwrap();
        for (reference, problem) in [
            (SecretReference::File("/nowhere/pw".into()), "/nowhere/pw: "),
            (SecretReference::File(empty), "is empty"),
            (
                SecretReference::Credential("pw".into()),
                "CREDENTIALS_DIRECTORY is not set",
            ),
            (SecretReference::Credential("../pw".into()), "is no name"),
            (SecretReference::Env("NO_SUCH".into()), "NO_SUCH is not set"),
        ] {
            let refused = fetch(&reference, &[]).unwrap_err();
            assert!(refused.problem.contains(problem), "{refused:?}");
        }
        let by_hand = fetch(&SecretReference::Credential("pw".into()), &[]).unwrap_err();
        assert!(by_hand.help.contains("systemd-run"), "{by_hand:?}");
    }

    #[test]
    fn a_file_that_others_can_read_is_exposed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let reference = SecretReference::File(file.path().to_owned());
        for (mode, exposed) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(file.path(), permissions).unwrap();
            assert_eq!(reference.exposed().is_some(), exposed, "{mode:o}");
        }
    }
}
