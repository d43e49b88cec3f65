//! The one door from async code to calls that block: repositories, files, and whatever else may hang with its storage.

use std::sync::Arc;

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
