//! The last runs of policies as a restart finds them: a file for each policy, below the state directory. They may be lost
//! without harm.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::engine::{EngineError, blocking};
use crate::files;

use super::history::{PastRun, RunHistories, RunHistory};
use super::state_file;
use super::status::Status;

const FORMAT: u32 = 1;
const DIRECTORY: &str = "runs";
const EXTENSION: &str = "json";
/// Many runs that end at once are written down together.
const PAUSE: Duration = Duration::from_secs(1);

/// What a file holds.
#[derive(Serialize, Deserialize)]
struct Content {
    format: u32,
    runs: Vec<PastRun>,
}

/// The histories that are in the files, by policy.
type Written = BTreeMap<String, RunHistory>;

/// The directory of the files.
#[derive(Debug, Clone)]
pub(super) struct HistoryFiles {
    directory: PathBuf,
}

impl HistoryFiles {
    pub fn below(state_directory: &Path) -> Self {
        Self {
            directory: state_directory.join(DIRECTORY),
        }
    }

    /// What can be understood of what is there. Others can no longer read it.
    pub fn read(&self) -> RunHistories {
        state_file::close_to_others(&self.directory);
        let histories = self.policies().unwrap_or_else(|error| {
            let directory = self.directory.display();
            tracing::warn!("past runs cannot be read from {directory}: {error}");
            Vec::new()
        });
        let histories = histories.into_iter().filter_map(|policy| {
            let path = self.path(&policy);
            match read_one(&path) {
                Ok(history) => Some((policy, history)),
                Err(error) => {
                    tracing::warn!("past runs cannot be read from {}: {error}", path.display());
                    None
                }
            }
        });
        RunHistories::new(histories.collect())
    }

    /// The policies that have a file.
    fn policies(&self) -> io::Result<Vec<String>> {
        let mut policies = Vec::new();
        for entry in self.directory.read_dir()? {
            let path = entry?.path();
            let name = path.file_stem().and_then(OsStr::to_str);
            if let (Some(name), Some(EXTENSION)) = (name, path.extension().and_then(OsStr::to_str))
            {
                policies.push(name.to_owned());
            }
        }
        Ok(policies)
    }

    /// The names of policies are letters, digits, `.`, `_` and `-`.
    fn path(&self, policy: &str) -> PathBuf {
        self.directory.join(format!("{policy}.{EXTENSION}"))
    }

    fn write(&self, policy: &str, history: &RunHistory) -> io::Result<()> {
        let content = Content {
            format: FORMAT,
            runs: history.runs().to_vec(),
        };
        files::replace(&self.path(policy), &serde_json::to_vec(&content)?)
    }

    /// Makes the files be what `now` is. What could be written is noted in `written`, also when something else could not.
    fn update(&self, written: &mut Written, now: &Written) -> io::Result<()> {
        for (policy, history) in now {
            let known = written.get(policy);
            if !history.runs().is_empty() && !known.is_some_and(|known| known.is(history)) {
                self.write(policy, history)?;
                written.insert(policy.clone(), history.clone());
            }
        }
        let gone: Vec<String> = written
            .keys()
            .filter(|policy| !now.contains_key(*policy))
            .cloned()
            .collect();
        for policy in gone {
            match std::fs::remove_file(self.path(&policy)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => written.remove(&policy),
            };
        }
        Ok(())
    }

    /// Keeps them up to date until there is no more to come.
    pub async fn follow(self, mut status: watch::Receiver<Arc<Status>>) {
        // Files of policies that are gone, or that nobody can read, go too.
        let there = self.policies().unwrap_or_default().into_iter();
        let mut written: Written = there
            .map(|policy| (policy, RunHistory::default()))
            .collect();
        let mut failing = false;
        loop {
            let policies = Arc::clone(&status.borrow_and_update());
            let now = policies.policies.iter();
            let now: Written = now
                .map(|policy| (policy.policy.clone(), policy.history.clone()))
                .collect();
            let files = self.clone();
            let mut known = std::mem::take(&mut written);
            let writing = blocking("the thread that writes past runs", move || {
                let wrote = files.update(&mut known, &now);
                Ok::<_, EngineError>((known, wrote))
            });
            match writing.await {
                Ok((known, Ok(()))) => (written, failing) = (known, false),
                Ok((known, Err(error))) => {
                    written = known;
                    // Once, until they can be written again.
                    if !std::mem::replace(&mut failing, true) {
                        let directory = self.directory.display();
                        tracing::warn!("past runs cannot be written to {directory}: {error}");
                    }
                }
                Err(error) => tracing::error!("{error}"),
            }
            if status.changed().await.is_err() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn read_one(path: &Path) -> io::Result<RunHistory> {
    let content: Content = state_file::read(path)?;
    match content.format {
        FORMAT => Ok(RunHistory::of(content.runs)),
        other => Err(io::Error::other(format!("it has format {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use chrono::Utc;

    use super::super::ended_run::{EndedRun, Outcome, RunId, RunResult};
    use super::*;

    fn histories(policies: &[&str]) -> (RunHistories, Written) {
        let mut histories = RunHistories::default();
        for policy in policies {
            let run = EndedRun {
                run_id: RunId::now(),
                scheduled_at: None,
                started_at: Utc::now(),
                finished_at: Utc::now(),
                outcome: Outcome::without_backup(RunResult::Failed, "connection refused"),
            };
            histories.add(policy, &run);
        }
        let written = policies
            .iter()
            .map(|policy| ((*policy).to_owned(), histories.of(policy)));
        let written = written.collect();
        (histories, written)
    }

    #[test]
    fn past_runs_are_read_as_they_were_written_and_those_of_policies_that_are_gone_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let files = HistoryFiles::below(directory.path());
        assert_eq!(files.read(), RunHistories::default());
        let (histories, now) = histories(&["orders", "a.b-c_d"]);
        let mut written = Written::new();
        files.update(&mut written, &now).unwrap();
        assert_eq!(files.read(), histories);
        let mode = files
            .path("orders")
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);

        // What is written already is not written again.
        std::fs::write(files.path("orders"), "{").unwrap();
        files.update(&mut written, &now).unwrap();
        assert_eq!(std::fs::read(files.path("orders")).unwrap(), b"{");
        assert_eq!(files.read().of("orders"), RunHistory::default());
        assert_eq!(files.read().of("a.b-c_d"), histories.of("a.b-c_d"));

        files.update(&mut written, &Written::new()).unwrap();
        assert_eq!(files.policies().unwrap(), Vec::<String>::new());
    }
}
