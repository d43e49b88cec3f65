//! Watches the repositories, each by a task of its own: one that is large, slow or hangs keeps no other waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

use crate::engine::{EngineError, blocking};
use crate::policy::{DaemonConfiguration, RepositoryLocation};
use crate::quote::quote;

use super::remembered::{Remembered, RememberedRepository};
use super::repositories::{Observer, RepositoryState, RepositoryStatus, past};
use super::status::Status;
use super::supervisor::Request;

/// A repository is looked at so often, besides after each run that used it.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// A repository that does not answer for so long is said to.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the repositories are, for all to see.
#[derive(Debug, Clone, Default)]
pub(super) struct Board(watch::Sender<Arc<Vec<RepositoryStatus>>>);

impl Board {
    /// With all of them still to be loaded.
    pub fn new(configuration: &DaemonConfiguration) -> Self {
        let board = Self::default();
        board.keep(configuration);
        board
    }

    pub fn subscribe(&self) -> watch::Receiver<Arc<Vec<RepositoryStatus>>> {
        self.0.subscribe()
    }

    /// Shows what is configured, and where: what is new is still to be loaded.
    fn keep(&self, configuration: &DaemonConfiguration) {
        let locations = &configuration.repositories;
        self.0.send_modify(|board| {
            let shown = locations.iter().map(|(name, location)| {
                let new = RepositoryStatus::loading(name, location);
                let known = board.iter().find(|known| {
                    (&known.repository, &known.location) == (&new.repository, &new.location)
                });
                known.cloned().unwrap_or(new)
            });
            *board = Arc::new(shown.collect());
        });
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut RepositoryStatus)) {
        self.0.send_modify(|board| {
            let board = Arc::make_mut(board);
            if let Some(shown) = board.iter_mut().find(|shown| shown.repository == name) {
                change(shown);
            }
        });
    }
}

/// What the watching of all repositories shares.
#[derive(Clone)]
pub(super) struct Watching {
    pub board: Board,
    pub configuration: watch::Receiver<Arc<DaemonConfiguration>>,
    pub status: watch::Receiver<Arc<Status>>,
    pub requests: mpsc::Sender<Request>,
    /// What was known of repositories before the daemon started, by name.
    pub remembered: Arc<BTreeMap<String, RememberedRepository>>,
}

impl Watching {
    /// Watches what is configured, for as long as there is a configuration.
    pub async fn watch(mut self) {
        let mut tasks = JoinSet::new();
        let mut watched: BTreeMap<String, (RepositoryLocation, AbortHandle)> = BTreeMap::new();
        loop {
            let configuration = self.configuration.borrow_and_update().clone();
            let locations = &configuration.repositories;
            watched.retain(|name, (location, task)| {
                let stays = locations.get(name) == Some(location);
                if !stays {
                    task.abort();
                }
                stays
            });
            // Those that were aborted.
            while tasks.try_join_next().is_some() {}
            self.board.keep(&configuration);
            for (name, location) in locations {
                watched.entry(name.clone()).or_insert_with(|| {
                    let repository = Watched {
                        name: name.clone(),
                        location: location.clone(),
                        watching: self.clone(),
                    };
                    (location.clone(), tasks.spawn(repository.watch()))
                });
            }
            if self.configuration.changed().await.is_err() {
                return;
            }
        }
    }
}

/// One repository that is watched.
struct Watched {
    name: String,
    location: RepositoryLocation,
    watching: Watching,
}

impl Watched {
    async fn watch(mut self) {
        self.load_past().await;
        let mut observer = self.observer();
        let mut ended = self.ended();
        loop {
            observer = self.look(observer).await;
            self.wait_for_a_reason(&mut ended).await;
        }
    }

    /// Tells the supervisor what the repository knows of its policies. One that cannot be read is logged: its policies
    /// then count from what else is remembered, or from the daemon's start.
    async fn load_past(&self) {
        let (name, location) = (self.name.clone(), self.location.clone());
        let configuration = self.watching.configuration.borrow().clone();
        let loading = blocking("the thread that loads a repository", move || {
            past(&name, &location, &configuration)
        });
        let past = self.patiently(loading).await.unwrap_or_else(|error| {
            let name = &self.name;
            tracing::warn!(repository = %name, "repository {name}: its backups are not known: {}", quote(error));
            Remembered::default()
        });
        let loaded = Request::Loaded(self.name.clone(), past);
        // The supervisor ends with the daemon.
        self.watching.requests.send(loaded).await.ok();
    }

    /// A new one, which remembers what is known of the repository.
    fn observer(&self) -> Observer {
        let shown = self.watching.board.0.borrow();
        let shown = shown.iter().find(|shown| shown.repository == self.name);
        let known = shown.and_then(|shown| shown.memory.clone());
        let known = known.or_else(|| self.watching.remembered.get(&self.name).cloned());
        Observer::remembering(known, &self.location)
    }

    async fn look(&mut self, mut observer: Observer) -> Observer {
        let (name, location) = (self.name.clone(), self.location.clone());
        // What changes from here on is a reason to look again.
        let configuration = self.watching.configuration.borrow_and_update().clone();
        let looking = blocking("the thread that looks at a repository", move || {
            let status = observer.look(&name, &location, &configuration);
            Ok::<_, EngineError>((status, observer))
        });
        match self.patiently(looking).await {
            Ok((status, observer)) => {
                self.show(status);
                observer
            }
            Err(error) => {
                tracing::error!("{error}");
                self.observer()
            }
        }
    }

    fn show(&self, status: RepositoryStatus) {
        let name = &self.name;
        self.log_losses(&status);
        if let Some(error) = &status.error {
            tracing::warn!(repository = %name, "repository {name} cannot be used as it is: {error}");
        }
        self.watching.board.change(name, |shown| *shown = status);
    }

    /// Logs what is lost when it is found.
    fn log_losses(&self, status: &RepositoryStatus) {
        let name = &self.name;
        let board = self.watching.board.0.borrow();
        let known = board.iter().find(|shown| shown.repository == *name);
        for lost in &status.lost_backups {
            if !known.is_some_and(|known| known.lost_backups.contains(lost)) {
                tracing::error!(repository = %name, "repository {name}: backup {lost} is gone, and nothing expired it: the repository was rolled back, or somebody removed it. If it was removed on purpose, or cannot be brought back: kafkeep expire --repository {name} --forget-lost {lost}");
            }
        }
        for lost in &status.lost_packs {
            if !known.is_some_and(|known| known.lost_packs.contains(lost)) {
                tracing::error!(repository = %name, "repository {name}: {lost}: backups are damaged; kafkeep verify tells which");
            }
        }
    }

    /// Waits for as long as it takes, and says so when that is long.
    async fn patiently<T>(&self, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let mut work = pin!(work);
        loop {
            match timeout(PATIENCE, &mut work).await {
                Ok(done) => return done,
                Err(_) => self.show_silence(began.elapsed()),
            }
        }
    }

    fn show_silence(&self, lasted: Duration) {
        let (name, seconds) = (&self.name, lasted.as_secs());
        let silence = format!("its storage has not answered for {seconds} s");
        tracing::warn!(repository = %name, "repository {name}: {silence}");
        self.watching.board.change(name, |shown| {
            (shown.readable, shown.writable) = (false, false);
            shown.error = Some(silence);
            if shown.state != RepositoryState::Loading {
                shown.state = RepositoryState::Failed;
            }
        });
    }

    /// Until some time has passed, a run of one of its policies has ended, or the configuration changed.
    async fn wait_for_a_reason(&mut self, known: &mut Vec<Ended>) {
        let mut status = self.watching.status.clone();
        let mut configuration = self.watching.configuration.clone();
        let ended = async {
            while self.ended() == *known {
                if status.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            () = ended => *known = self.ended(),
            _ = configuration.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }

    /// When its policies' last runs and expiries ended.
    fn ended(&self) -> Vec<Ended> {
        let configuration = self.watching.configuration.borrow().clone();
        let status = self.watching.status.borrow().clone();
        let backups = configuration.backups.iter();
        let own: BTreeSet<&str> = backups
            .filter(|policy| policy.repository == self.name)
            .map(|policy| policy.name.as_str())
            .collect();
        let policies = status.policies.iter();
        policies
            .filter(|policy| own.contains(policy.policy.as_str()))
            .map(|policy| {
                let run = policy.last_run.as_ref();
                let expired = policy.last_expire.as_ref();
                (
                    run.map(|run| run.finished_at),
                    expired.map(|expired| expired.finished_at),
                )
            })
            .collect()
    }
}

type Ended = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::repository::Location;

    use super::super::credentials::Credentials;
    use super::super::metrics::Metrics;
    use super::*;

    fn configuration(names: &[&str], directory: &Path) -> Arc<DaemonConfiguration> {
        let location = |name: &str| RepositoryLocation {
            at: Location::Directory(directory.join(name)),
            max_size: None,
            min_free: None,
        };
        let repositories = names
            .iter()
            .map(|name| ((*name).to_owned(), location(name)));
        Arc::new(DaemonConfiguration {
            repositories: repositories.collect(),
            ..DaemonConfiguration::default()
        })
    }

    fn init(path: &Path) {
        Location::from(path).open_or_init().unwrap();
    }

    /// How often the board changes until it has been quiet for a while.
    async fn changes(board: &mut watch::Receiver<Arc<Vec<RepositoryStatus>>>) -> usize {
        let mut count = 0;
        while let Ok(Ok(())) = timeout(Duration::from_millis(500), board.changed()).await {
            count += 1;
            assert!(count < 50, "it does not stop looking");
        }
        count
    }

    #[tokio::test]
    async fn repositories_are_loaded_and_looked_at_again_only_for_a_reason() {
        let directory = tempfile::tempdir().unwrap();
        init(&directory.path().join("main"));
        let first = configuration(&["main"], directory.path());
        let board = Board::new(&first);
        let mut shown = board.subscribe();
        assert_eq!(shown.borrow_and_update()[0].state, RepositoryState::Loading);
        let (configured, in_force) = watch::channel(first);
        let (_status, status) = watch::channel(Arc::new(Status::starting(Utc::now())));
        let (requests, mut asked) = mpsc::channel(16);
        let watching = Watching {
            board,
            configuration: in_force,
            status,
            requests,
            remembered: Arc::default(),
        };
        let watching = tokio::spawn(watching.watch());
        let loaded = asked.recv().await;
        assert!(matches!(loaded, Some(Request::Loaded(name, _)) if name == "main"));
        changes(&mut shown).await;
        assert_eq!(shown.borrow()[0].state, RepositoryState::Ready);

        init(&directory.path().join("new"));
        configured.send_replace(configuration(&["main", "new"], directory.path()));
        let loaded = asked.recv().await;
        assert!(matches!(loaded, Some(Request::Loaded(name, _)) if name == "new"));
        // It is shown as loading, then both are looked at.
        assert!(changes(&mut shown).await <= 4);
        let states: Vec<_> = shown.borrow().iter().map(|shown| shown.state).collect();
        assert_eq!(states, [RepositoryState::Ready; 2]);

        configured.send_replace(configuration(&["new"], directory.path()));
        changes(&mut shown).await;
        assert_eq!(shown.borrow().len(), 1);
        let status = Status::starting(Utc::now());
        let metrics = Metrics::default().render(&status, &shown.borrow(), &Credentials::default());
        let metrics = String::from_utf8(metrics).unwrap();
        assert!(metrics.contains(r#"kafkeep_repository_backups{repository="new"} 0"#));
        assert!(!metrics.contains(r#"repository="main""#), "{metrics}");
        watching.abort();
    }
}
