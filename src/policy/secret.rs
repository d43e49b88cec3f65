//! Secrets: never literal in a file, always by reference.

use std::path::PathBuf;

use serde::Deserialize;

use crate::kafka::Secret;

use super::PolicyError;

/// Where a secret lies: `{ file = … }`, `{ credential = … }` (systemd's LoadCredential) or `{ env = … }`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum SecretReference {
    File(PathBuf),
    Credential(String),
    Env(String),
}

impl SecretReference {
    /// Fetches the secret; one trailing line break is not part of it.
    pub fn fetch(&self, what: &str) -> Result<Secret, PolicyError> {
        let problem = |problem: String| PolicyError::Secret {
            what: what.to_owned(),
            problem,
        };
        let text = match self {
            Self::File(path) => read(path).map_err(problem)?,
            Self::Credential(name) => {
                let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    problem("CREDENTIALS_DIRECTORY is not set: start under systemd with LoadCredential=, or use { file = … }".into())
                })?;
                read(&PathBuf::from(directory).join(name)).map_err(problem)?
            }
            Self::Env(name) => std::env::var(name)
                .map_err(|error| problem(format!("environment variable {name}: {error}")))?,
        };
        let secret = text.strip_suffix('\n').map_or(text.as_str(), |line| {
            line.strip_suffix('\r').unwrap_or(line)
        });
        if secret.is_empty() {
            return Err(problem("it is empty".into()));
        }
        Ok(Secret::new(secret))
    }
}

fn read(path: &PathBuf) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}
