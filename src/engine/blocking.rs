//! The one door from async code to calls that block: repositories, files, and whatever else may hang with its storage.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::RwLock;

use crate::repository::{LockGuard, Repository, RepositoryError};

use super::EngineError;

/// Runs `work` on a thread that may block, under the caller's span. `what` names the thread's work, as in `the verifying
/// thread`.
///
/// The caller may stop waiting; `work` then goes on until it ends by itself.
///
/// # Errors
///
/// Those of `work`; [`EngineError::Lost`] when it panics, or the process is about to end.
pub async fn blocking<T, E>(
    what: &'static str,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, EngineError>
where
    T: Send + 'static,
    E: Into<EngineError> + Send + 'static,
{
    let span = tracing::Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(EngineError::Lost(what)),
    }
}

/// The threads of one run. Clones are of the same run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Threads(Arc<RwLock<()>>);

/// Tells a thread when nobody waits for it any more.
#[derive(Default)]
struct Waiter(Arc<AtomicBool>);

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Threads {
    /// As [`blocking`]; `work` gets a flag that is set when the caller stops waiting, and should end soon then.
    ///
    /// # Errors
    ///
    /// As [`blocking`].
    pub async fn blocking<T, E>(
        &self,
        what: &'static str,
        work: impl FnOnce(&AtomicBool) -> Result<T, E> + Send + 'static,
    ) -> Result<T, EngineError>
    where
        T: Send + 'static,
        E: Into<EngineError> + Send + 'static,
    {
        let alive = Arc::clone(&self.0).read_owned().await;
        let waiter = Waiter::default();
        let abandoned = Arc::clone(&waiter.0);
        let work = move || {
            let _alive = alive;
            work(&abandoned)
        };
        blocking(what, work).await
    }

    /// Waits until all have ended. None may begin any more.
    pub async fn ended(&self) {
        drop(self.0.write().await);
    }
}

/// Calls a repository by [`blocking`].
pub(crate) async fn in_repository<T, E>(
    repository: &Arc<Repository>,
    what: &'static str,
    work: impl FnOnce(&Repository) -> Result<T, E> + Send + 'static,
) -> Result<T, EngineError>
where
    T: Send + 'static,
    E: Into<EngineError> + Send + 'static,
{
    let repository = Arc::clone(repository);
    blocking(what, move || work(&repository)).await
}

/// Releases a lock, and waits until it is gone.
pub(crate) async fn release(lock: LockGuard) {
    let released = blocking("the thread that releases a lock", move || {
        lock.release();
        Ok::<_, RepositoryError>(())
    });
    if let Err(error) = released.await {
        tracing::warn!("a lock may be left in the repository: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};
    use std::thread::ThreadId;

    use tracing::span::Id;
    use tracing::{Instrument, Subscriber};
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt};

    use super::*;

    #[tokio::test]
    async fn other_tasks_go_on_while_a_call_hangs() {
        let (answer, hangs) = mpsc::channel();
        let call = tokio::spawn(blocking("the hanging thread", move || {
            hangs.recv().map_err(|_| EngineError::Lost("the test"))
        }));
        // The only thread of this runtime comes here.
        tokio::task::yield_now().await;
        assert!(!call.is_finished());
        answer.send(7).unwrap();
        assert_eq!(call.await.unwrap().unwrap(), 7);
    }

    #[tokio::test]
    async fn a_run_ends_after_its_threads_which_are_told_that_nobody_waits() {
        let threads = Threads::default();
        let (begins, begun) = tokio::sync::oneshot::channel();
        let ended = Arc::new(AtomicBool::new(false));
        let is_ended = Arc::clone(&ended);
        let work = move |abandoned: &AtomicBool| {
            begins.send(()).ok();
            while !abandoned.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            is_ended.store(true, Ordering::Relaxed);
            Ok::<_, EngineError>(())
        };
        tokio::select! {
            _ = threads.blocking("the thread", work) => panic!("it ended by itself"),
            begun = begun => begun.unwrap(),
        }
        assert!(!ended.load(Ordering::Relaxed));
        threads.ended().await;
        assert!(ended.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_panic_is_a_lost_thread_that_is_named() {
        let lost = blocking::<(), EngineError>("the failing thread", || panic!("as it is to"));
        let error = lost.await.unwrap_err();
        assert!(matches!(error, EngineError::Lost("the failing thread")));
    }

    /// The threads that entered a span.
    #[derive(Clone, Default)]
    struct Entered(Arc<Mutex<Vec<ThreadId>>>);

    impl<S: Subscriber> Layer<S> for Entered {
        fn on_enter(&self, _: &Id, _: Context<'_, S>) {
            self.0.lock().unwrap().push(std::thread::current().id());
        }
    }

    #[tokio::test]
    async fn work_carries_the_span_of_its_caller() {
        let entered = Entered::default();
        let subscriber = tracing_subscriber::registry().with(entered.clone());
        let _default = tracing::subscriber::set_default(subscriber);
        let called = blocking("the thread", || {
            Ok::<_, EngineError>(std::thread::current().id())
        });
        let span = tracing::info_span!("run");
        let thread = called.instrument(span).await.unwrap();
        assert!(entered.0.lock().unwrap().contains(&thread));
    }
}
