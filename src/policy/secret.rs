//! Secrets: never literal in a file, always by reference.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::kafka::Secret;

use super::PolicyError;

/// Where a secret lies: `{ file = … }`, `{ credential = … }` (systemd's LoadCredential) or `{ env = … }`.
#[derive(Debug, Clone)]
pub(super) enum SecretReference {
    At(Place),
    /// The secret itself: refused, without keeping it.
    Literal,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Place {
    File(PathBuf),
    Credential(String),
    Env(String),
}

impl SecretReference {
    /// Fetches the secret; one trailing line break is not part of it. One in a file stays the file's: see [`Secret`].
    pub fn fetch(&self, what: &str) -> Result<Secret, PolicyError> {
        self.fetch_in(what, |name| std::env::var_os(name))
    }

    fn fetch_in(
        &self,
        what: &str,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Secret, PolicyError> {
        let secret = match self {
            Self::At(place) => place.read(environment),
            Self::Literal => Err(
                "it does not belong into this file: write { file = … }, { credential = … } or { env = … }".to_owned(),
            ),
        };
        let secret = secret.and_then(|secret| match secret.reveal() {
            "" => Err("it is empty".to_owned()),
            _ => Ok(secret),
        });
        secret.map_err(|problem| PolicyError::Secret {
            what: what.to_owned(),
            problem,
        })
    }
}

impl Place {
    fn read(&self, environment: impl Fn(&str) -> Option<OsString>) -> Result<Secret, String> {
        match self {
            Self::File(path) => read(path),
            Self::Credential(name) if name.is_empty() || name.contains('/') => Err(format!(
                "credential `{name}` is no name: it is the ID of LoadCredential=ID:PATH"
            )),
            Self::Credential(name) => match environment("CREDENTIALS_DIRECTORY") {
                Some(directory) => read(&Path::new(&directory).join(name)),
                None => Err("CREDENTIALS_DIRECTORY is not set: start under systemd with LoadCredential=, or use { file = … }".to_owned()),
            },
            Self::Env(name) => environment(name)
                .ok_or_else(|| format!("environment variable {name} is not set"))?
                .into_string()
                .map(Secret::of_line)
                .map_err(|_| format!("environment variable {name} is not UTF-8")),
        }
    }
}

fn read(path: &Path) -> Result<Secret, String> {
    Secret::in_file(path).map_err(|error| format!("{}: {error}", path.display()))
}

impl<'de> Deserialize<'de> for SecretReference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReferenceVisitor)
    }
}

/// Takes what is no table for a literal secret, which no error may show.
struct ReferenceVisitor;

impl<'de> Visitor<'de> for ReferenceVisitor {
    type Value = SecretReference;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ file = … }, { credential = … } or { env = … }")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Place::deserialize(MapAccessDeserializer::new(map)).map(SecretReference::At)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(SecretReference::Literal)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(SecretReference::Literal)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(SecretReference::Literal)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(SecretReference::Literal)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(SecretReference::Literal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct File {
        password: SecretReference,
    }

    fn fetch(text: &str, environment: &[(&str, &str)]) -> Result<Secret, PolicyError> {
        let file: File = super::super::toml_file::parse(Path::new("a.toml"), text)?;
        file.password.fetch_in("sasl.password", |name| {
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
            std::fs::write(directory.path().join("password"), content).unwrap();
            let file = format!("password = {{ file = '{at}/password' }}");
            assert_eq!(fetch(&file, &[]).unwrap().reveal(), secret);
            let credential = "password = { credential = 'password' }";
            let fetched = fetch(credential, &[("CREDENTIALS_DIRECTORY", at)]);
            assert_eq!(fetched.unwrap().reveal(), secret);
            let fetched = fetch("password = { env = 'PW' }", &[("PW", content)]);
            assert_eq!(fetched.unwrap().reveal(), secret);
        }
    }

    #[test]
    fn a_literal_secret_is_refused_and_not_shown() {
        for literal in ["'swordfish'", "4711", "47.11", "true", "['swordfish']"] {
            let error = fetch(&format!("password = {literal}"), &[]).unwrap_err();
            let said = error.to_string();
            assert!(
                said.starts_with("secret for sasl.password: it does not belong"),
                "{said}"
            );
            assert!(
                !format!("{said} {error:?}").contains(literal.trim_matches(['\'', '[', ']'])),
                "{said}"
            );
        }
        let error = fetch("password = { value = 'swordfish' }", &[]).unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(said.contains("`file`, `credential`, `env`"), "{said}");
        assert!(!said.contains("swordfish"), "{said}");
    }

    #[test]
    fn a_secret_that_cannot_be_had_is_told_with_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let empty = directory.path().join("empty");
        std::fs::write(&empty, "\n").unwrap();
        for (text, words) in [
            (
                "password = { file = '/nowhere/pw' }".to_owned(),
                "/nowhere/pw: ",
            ),
            (
                format!("password = {{ file = '{}' }}", empty.display()),
                "it is empty",
            ),
            (
                "password = { credential = 'pw' }".to_owned(),
                "LoadCredential=",
            ),
            (
                "password = { credential = '../pw' }".to_owned(),
                "is no name",
            ),
            (
                "password = { env = 'NO_SUCH' }".to_owned(),
                "NO_SUCH is not set",
            ),
        ] {
            let said = fetch(&text, &[]).unwrap_err().to_string();
            assert!(said.starts_with("secret for sasl.password: "), "{said}");
            assert!(said.contains(words), "{said}");
        }
        for text in ["password = {}", "password = { file = 'a', env = 'B' }"] {
            fetch(text, &[]).unwrap_err();
        }
    }
}
