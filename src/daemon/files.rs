//! Notices that the configuration's files changed.
//!
//! Events only say that it is time to look: what is there is hashed, and the hash decides. So a rename over a file, an editor's
//! temporary file or a mount that swaps a whole directory are all the same, and events that are lost are made up for by looking
//! now and then.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::engine::{EngineError, blocking};
use crate::files;
use crate::policy::LARGEST_FILE;
use crate::repository::Sha256;

/// Editors write a file in several steps: none is looked at before the last.
const QUIET: Duration = Duration::from_millis(200);
/// Network file systems tell of nothing.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The files of a configuration, and what they held when they were last looked at.
pub(super) struct Files {
    directory: PathBuf,
    seen: Sha256,
    events: mpsc::Receiver<()>,
    /// Watching ends when this is dropped; none where the system cannot watch.
    watcher: Option<RecommendedWatcher>,
}

impl Files {
    /// Begins to watch.
    pub fn watch(directory: &Path) -> Self {
        let (sender, events) = mpsc::channel(1);
        let watcher = watcher(sender).and_then(|mut watcher| {
            watcher.watch(directory, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        let watcher = watcher.map_err(|error| {
            let seconds = LOOK_EVERY.as_secs();
            tracing::warn!("changes of files are found by looking every {seconds} s: {error}");
        });
        let mut files = Self {
            directory: directory.to_owned(),
            seen: content(directory),
            events,
            watcher: watcher.ok(),
        };
        files.watch_policies();
        files
    }

    /// The directory of policies may come, go, or be another one than before: a watch is on what bore the name when it began.
    fn watch_policies(&mut self) {
        let policies = self.directory.join("policies.d");
        if let Some(watcher) = &mut self.watcher {
            watcher.unwatch(&policies).ok();
            // One that is not there, or cannot be watched, is looked at now and then.
            watcher.watch(&policies, RecursiveMode::NonRecursive).ok();
        }
    }

    /// Waits until the files hold something else than when they were last looked at.
    pub async fn changed(&mut self) {
        loop {
            // A closed channel means that nothing is watched: only the time is left.
            match timeout(LOOK_EVERY, self.events.recv()).await {
                Ok(None) => sleep(LOOK_EVERY).await,
                Ok(Some(())) => {
                    while let Ok(Some(())) = timeout(QUIET, self.events.recv()).await {}
                }
                Err(_) => {}
            }
            self.watch_policies();
            let now = self.content().await;
            if now != self.seen {
                self.seen = now;
                return;
            }
        }
    }

    /// They are being read for another reason.
    pub async fn look(&mut self) {
        self.seen = self.content().await;
    }

    /// What they hold; as before when that cannot be read.
    async fn content(&self) -> Sha256 {
        let directory = self.directory.clone();
        let reading = blocking(
            "the thread that looks at the configuration's files",
            move || Ok::<_, EngineError>(content(&directory)),
        );
        reading.await.unwrap_or(self.seen)
    }
}

fn watcher(sender: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // To read a file is an event too, and would lead to reading it again.
        let is_read = |kind: &EventKind| matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write));
        if !event.is_ok_and(|event| is_read(&event.kind)) {
            // One that waits says all.
            sender.try_send(()).ok();
        }
    })
}

/// A digest of names and contents of all that is read as configuration. What cannot be read counts as empty: reading it
/// tells.
fn content(directory: &Path) -> Sha256 {
    let mut files = vec![directory.join("kafkeep.toml")];
    let listed = std::fs::read_dir(directory.join("policies.d"));
    files.extend(
        listed
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path()),
    );
    files.sort();
    let mut all = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|end| end == "toml"))
    {
        let text = files::read(file, LARGEST_FILE).unwrap_or_default();
        all.extend(Sha256::of(file.as_os_str().as_encoded_bytes()).0);
        all.extend(Sha256::of(&text).0);
    }
    Sha256::of(&all)
}
