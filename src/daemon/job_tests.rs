//! Jobs beside each other, in paused time.

use std::time::Duration;

use super::remembered::Remembered;
use super::supervisor::Request;
use super::supervisor_tests::Play;
use super::*;

use crate::api::{BackupOrder, DrainRequest, MigrateOrder, Order};
use crate::auth::Identity;
use crate::engine::backup::BackupOptions;
use crate::engine::mirror::MirrorOptions;
use crate::engine::topics::TopicPatterns;
use crate::policy::Limits;

const AN_HOUR: Duration = Duration::from_secs(3600);

pub(super) fn backup_of(cluster: &str) -> Order {
    Order::Backup(BackupOrder {
        cluster: cluster.to_owned(),
        repository: "main".to_owned(),
        topic: "events".to_owned(),
        options: BackupOptions::new(TopicPatterns::literal("events")),
    })
}

pub(super) fn drain() -> Order {
    let body = br#"{"group_id": "g", "topics": ["events"]}"#;
    let request: DrainRequest = crate::api::read(body).unwrap();
    Order::Drain(request.order("prod", chrono::Utc::now()).unwrap())
}

fn alice() -> Identity {
    Identity::new("ops", "alice")
}

fn migration_into(topic: &str) -> Order {
    Order::Migrate(MigrateOrder {
        source: "prod".to_owned(),
        target: "dr".to_owned(),
        source_topic: "events".to_owned(),
        target_topic: topic.to_owned(),
        options: MirrorOptions::new("copy", TopicPatterns::literal("events")),
    })
}

fn play(limits: Limits) -> Play {
    let configuration = DaemonConfiguration {
        limits,
        ..DaemonConfiguration::default()
    };
    Play::new(AN_HOUR, configuration, &Remembered::default())
}

impl Play {
    pub async fn submit(
        &self,
        order: Order,
        key: Option<(&str, &str)>,
    ) -> Result<Arc<Job>, Problem> {
        self.submit_as(alice(), order, key).await
    }

    async fn submit_as(
        &self,
        identity: Identity,
        order: Order,
        key: Option<(&str, &str)>,
    ) -> Result<Arc<Job>, Problem> {
        let (answer, answered) = oneshot::channel();
        let submission = Submission {
            order,
            identity,
            idempotency: key.map(|(key, digest)| Idempotency {
                key: key.to_owned(),
                digest: digest.to_owned(),
            }),
        };
        let request = Request::Submit(Box::new(submission), answer);
        self.requests.send(request).await.ok().unwrap();
        let accepted = answered.await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        accepted
    }

    fn job(&self, job_id: RunId) -> Arc<Job> {
        Arc::clone(&self.jobs.borrow()[&job_id])
    }

    fn states(&self) -> Vec<JobState> {
        self.jobs.borrow().values().map(|job| job.state).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn backups_that_are_accepted_wait_for_a_place_and_say_so() {
    let play = play(Limits {
        max_concurrent_backups: 4,
        ..Limits::default()
    });
    for _ in 0..3 {
        play.submit(backup_of("prod"), None).await.unwrap();
    }
    use JobState::{Failed, Running, Waiting};
    assert_eq!(play.states(), [Running, Running, Waiting]);
    let last = Arc::clone(play.jobs.borrow().values().last().unwrap());
    assert!(
        last.waiting_for
            .as_ref()
            .unwrap()
            .contains("max_concurrent_backups")
    );
    // What needs no place is not kept waiting.
    play.submit(drain(), None).await.unwrap();
    assert_eq!(play.states(), [Running, Running, Waiting, Running]);
    tokio::time::sleep(AN_HOUR).await;
    assert_eq!(play.states(), [Failed, Failed, Running, Failed]);
    assert_eq!(play.job(last.job_id).waiting_for, None);
}

#[tokio::test(start_paused = true)]
async fn more_than_are_accepted_are_refused_cluster_by_cluster() {
    let play = play(Limits {
        backups_per_cluster: 2,
        ..Limits::default()
    });
    let mut accepted = Vec::new();
    for _ in 0..2 {
        accepted.push(play.submit(backup_of("prod"), None).await.unwrap());
    }
    let refused = play.submit(backup_of("prod"), None).await.unwrap_err();
    assert_eq!(
        (refused.kind, refused.retry_after),
        (ProblemKind::TooManyRequests, Some(5))
    );
    play.submit(backup_of("dr"), None).await.unwrap();
    let (answer, answered) = oneshot::channel();
    let cancel = Request::Cancel(accepted[0].job_id, answer);
    play.requests.send(cancel).await.ok().unwrap();
    assert!(answered.await.unwrap());
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(play.job(accepted[0].job_id).state, JobState::Cancelled);
    play.submit(backup_of("prod"), None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_same_call_gives_the_same_job_and_its_key_no_other() {
    let play = play(Limits::default());
    let first = play.submit(drain(), Some(("k", "1"))).await.unwrap();
    let again = play.submit(drain(), Some(("k", "1"))).await.unwrap();
    assert_eq!(first.job_id, again.job_id);
    let other = play.submit(drain(), Some(("k", "2"))).await.unwrap_err();
    assert_eq!(other.kind, ProblemKind::Conflict);
    // It fails with a 500, which may pass: the same call runs again.
    tokio::time::sleep(AN_HOUR).await;
    assert_eq!(play.job(first.job_id).state, JobState::Failed);
    let second = play.submit(drain(), Some(("k", "1"))).await.unwrap();
    assert_ne!(second.job_id, first.job_id);
}

#[test]
fn a_failure_that_may_pass_is_not_the_answer_to_the_same_call() {
    let now = Utc::now();
    for (kind, is_kept) in [
        (ProblemKind::InvalidRequest, true),
        (ProblemKind::NotFound, true),
        (ProblemKind::Conflict, true),
        (ProblemKind::TooManyRequests, false),
        (ProblemKind::InternalError, false),
        (ProblemKind::ServiceUnavailable, false),
    ] {
        let mut jobs = Jobs::new(Vec::new(), watch::Sender::default());
        let submission = Submission {
            order: drain(),
            identity: alice(),
            idempotency: Some(Idempotency {
                key: "k".to_owned(),
                digest: "1".to_owned(),
            }),
        };
        let job_id = RunId::now();
        let progress = Arc::new(RunProgress::of(Work::Drain));
        jobs.accept(job_id, &submission, progress, now);
        let failed = Err(Problem::new(kind, "why"));
        jobs.ended(job_id, JobState::Failed, failed, now);
        let same = jobs.same(&submission).unwrap();
        assert_eq!(same.is_some(), is_kept, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_user_neither_runs_all_nor_keeps_others_out() {
    let play = play(Limits {
        drains: 4,
        longest_job: Duration::from_secs(24 * 3600),
        ..Limits::default()
    });
    use JobState::{Running, Waiting};
    for _ in 0..4 {
        play.submit(drain(), None).await.unwrap();
    }
    assert_eq!(play.states(), [Running, Running, Waiting, Waiting]);
    play.submit(drain(), None).await.unwrap_err();
    // Somebody else has one beyond the limit, and it runs at once; a second one is refused.
    for (key, subject) in [("ops", "bob"), ("sso", "alice")] {
        let other = Identity::new(key, subject);
        let job = play.submit_as(other.clone(), drain(), None).await.unwrap();
        assert_eq!(play.job(job.job_id).state, Running, "{key} {subject}");
        play.submit_as(other, drain(), None).await.unwrap_err();
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_the_same_place_take_turns() {
    let play = play(Limits {
        max_concurrent_backups: 1,
        ..Limits::default()
    });
    let bob = Identity::new("ops", "bob");
    let mut of = Vec::new();
    for identity in [alice(), alice(), alice(), bob.clone(), bob.clone()] {
        let job = play.submit_as(identity.clone(), backup_of("prod"), None);
        of.push(job.await.unwrap().job_id);
    }
    tokio::time::sleep(AN_HOUR * 6).await;
    let mut started: Vec<_> = of
        .iter()
        .map(|job_id| play.job(*job_id).started_at.unwrap())
        .zip(["a1", "a2", "a3", "b1", "b2"])
        .collect();
    started.sort();
    let order: Vec<&str> = started.into_iter().map(|(_, name)| name).collect();
    assert_eq!(order, ["a1", "b1", "a2", "b2", "a3"]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_runs_for_too_long_fails_and_a_drain_may_not_ask_to() {
    let longest_job = Duration::from_secs(60);
    let play = play(Limits {
        longest_job,
        ..Limits::default()
    });
    let job = play.submit(backup_of("prod"), None).await.unwrap();
    tokio::time::sleep(longest_job * 2).await;
    let ended = play.job(job.job_id);
    assert_eq!(ended.state, JobState::Failed);
    let error = ended.error.as_ref().unwrap();
    assert!(error.message.contains("ended after 60 s"), "{error:?}");
    let refused = play.submit(drain(), None).await.unwrap_err();
    assert_eq!(refused.details.field.as_deref(), Some("timeout_seconds"));
}

#[tokio::test(start_paused = true)]
async fn of_a_drain_of_topics_that_are_not_there_little_is_kept() {
    let play = play(Limits::default());
    let names = (0..999).map(|n| format!("no-topic-{n}"));
    let names: Vec<String> = names.chain(["missing".to_owned()]).collect();
    let body = serde_json::json!({ "group_id": "g", "topics": names });
    let request: DrainRequest = crate::api::read(body.to_string().as_bytes()).unwrap();
    let order = Order::Drain(request.order("prod", chrono::Utc::now()).unwrap());
    let job = play.submit(order, None).await.unwrap();
    assert_eq!(job.topics.len(), 1000);
    tokio::time::sleep(2 * AN_HOUR).await;
    let job = play.job(job.job_id);
    assert_eq!(job.error.as_ref().unwrap().kind, ProblemKind::NotFound);
    assert_eq!((job.topics.len(), job.topics_count), (10, 1000));
    assert!(job.size() < 4096, "{}", job.size());
}

/// The lines that are logged.
#[derive(Clone, Default)]
struct Logged(Arc<std::sync::Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Logged {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let mut line = event.metadata().level().to_string();
        event.record(
            &mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
                line += &format!(" {field}={value:?}");
            },
        );
        self.0.lock().unwrap().push(line);
    }
}

#[tokio::test(start_paused = true)]
async fn a_migration_that_ends_early_is_a_failed_job_and_logged_as_failed() {
    use tracing_subscriber::layer::SubscriberExt;
    let logged = Logged::default();
    let subscriber = tracing_subscriber::registry().with(logged.clone());
    let _default = tracing::subscriber::set_default(subscriber);
    let play = play(Limits::default());
    let job = play.submit(migration_into("b"), None).await.unwrap();
    tokio::time::sleep(2 * AN_HOUR).await;
    let job = play.job(job.job_id);
    assert_eq!(job.state, JobState::Failed);
    assert_eq!(job.error.as_ref().unwrap().kind.status(), 500);
    let logged = logged.0.lock().unwrap();
    let ended = format!("job {}: migrate failed", job.job_id);
    let line = logged.iter().find(|line| line.contains(&ended)).unwrap();
    assert!(
        line.starts_with("ERROR") && line.contains("failed"),
        "{line}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_stops_cancels_jobs_and_accepts_none() {
    let play = play(Limits::default());
    let job = play.submit(drain(), None).await.unwrap();
    let (answer, stopped) = oneshot::channel();
    play.requests
        .send(Request::Stop(answer))
        .await
        .ok()
        .unwrap();
    stopped.await.unwrap();
    assert_eq!(play.job(job.job_id).state, JobState::Cancelled);
}

#[test]
fn jobs_are_found_again_after_a_restart_and_those_that_ran_have_failed() {
    let directory = tempfile::tempdir().unwrap();
    let files = JobFiles::below(directory.path());
    assert!(files.read(Utc::now()).is_empty());
    let told = watch::Sender::default();
    let list = told.subscribe();
    let mut jobs = Jobs::new(Vec::new(), told);
    let submission = |key: &str| Submission {
        order: drain(),
        identity: alice(),
        idempotency: Some(Idempotency {
            key: key.to_owned(),
            digest: "1".to_owned(),
        }),
    };
    let now = Utc::now();
    let progress = || Arc::new(RunProgress::of(Work::Drain));
    let (done, running) = (RunId::now(), RunId::now());
    jobs.accept(done, &submission("a"), progress(), now);
    jobs.accept(running, &submission("b"), progress(), now);
    jobs.began(running, now);
    let answer = crate::api::Answer::Validate(crate::api::ValidationAnswer {
        backup_id: "b".to_owned(),
        repository: "main".to_owned(),
        status: crate::engine::verify::Soundness::Sound,
        depth: crate::engine::verify::Depth::Full,
        packs: 1,
        blocks: 2,
        batches: 3,
        bytes: 4,
        findings: Vec::new(),
        findings_count: 0,
    });
    jobs.ended(done, JobState::Completed, Ok(answer), now);
    let empty = JobList::default();
    files.update(&empty, &list.borrow()).unwrap();
    let told = watch::Sender::default();
    let again = told.subscribe();
    let jobs = Jobs::new(files.read(now), told);
    let (before, after) = (list.borrow(), again.borrow());
    let result = |job: &Job| job.result.as_ref().unwrap().get().to_owned();
    assert_eq!(result(&after[&done]), result(&before[&done]));
    assert_eq!(after[&done].state, JobState::Completed);
    assert_eq!(after[&running].state, JobState::Failed);
    assert!(
        after[&running]
            .error
            .as_ref()
            .unwrap()
            .message
            .contains("the daemon ended")
    );
    assert_eq!(jobs.same(&submission("a")).unwrap().unwrap().job_id, done);
    let of_another_key = Submission {
        identity: Identity::new("sso", "alice"),
        ..submission("a")
    };
    assert!(jobs.same(&of_another_key).unwrap().is_none());
    // One that is forgotten leaves no file.
    files.update(&before, &empty).unwrap();
    assert!(files.read(now).is_empty());
}

#[test]
fn files_of_jobs_that_are_forgotten_do_not_stay() {
    let directory = tempfile::tempdir().unwrap();
    let files = JobFiles::below(directory.path());
    let told = watch::Sender::default();
    let list = told.subscribe();
    let mut jobs = Jobs::new(Vec::new(), told);
    let submission = Submission {
        order: drain(),
        identity: alice(),
        idempotency: None,
    };
    let ids = [RunId::now(), RunId::now()];
    for job_id in ids {
        let progress = Arc::new(RunProgress::of(Work::Drain));
        jobs.accept(job_id, &submission, progress, Utc::now());
    }
    files.update(&JobList::default(), &list.borrow()).unwrap();
    // The newest come first.
    let read: Vec<RunId> = files
        .read(Utc::now())
        .iter()
        .map(|job| job.job_id)
        .collect();
    assert_eq!(read, [ids[1], ids[0]]);
    let mut newest = list.borrow().as_ref().clone();
    newest.remove(&ids[0]);
    files.keep_only(&Arc::new(newest)).unwrap();
    let left: Vec<RunId> = files
        .read(Utc::now())
        .iter()
        .map(|job| job.job_id)
        .collect();
    assert_eq!(left, [ids[1]]);
}

#[test]
fn jobs_are_forgotten_by_the_bytes_of_their_topics_too() {
    let told = watch::Sender::default();
    let list = told.subscribe();
    let mut jobs = Jobs::new(Vec::new(), told);
    let topics: Vec<String> = (0..1000).map(|n| format!("{n:0>249}")).collect();
    let body = serde_json::json!({ "group_id": "g", "topics": topics });
    let request: DrainRequest = crate::api::read(body.to_string().as_bytes()).unwrap();
    let submission = Submission {
        order: Order::Drain(request.order("prod", Utc::now()).unwrap()),
        identity: alice(),
        idempotency: None,
    };
    for _ in 0..250 {
        let job_id = RunId::now();
        let progress = Arc::new(RunProgress::of(Work::Drain));
        jobs.accept(job_id, &submission, progress, Utc::now());
        let failed = Err(Problem::internal());
        jobs.ended(job_id, JobState::Failed, failed, Utc::now());
    }
    let kept: usize = list.borrow().values().map(|job| job.size()).sum();
    assert!(kept <= 17 << 20, "{kept} bytes are kept");
    assert!(list.borrow().len() > 10);
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_wrongly_is_no_failed_backup() {
    let play = play(Limits::default());
    let missing = Order::Backup(BackupOrder {
        topic: "missing".to_owned(),
        ..match backup_of("prod") {
            Order::Backup(order) => order,
            other => panic!("{other:?}"),
        }
    });
    let failed_today = || {
        let status = play.status.borrow();
        status.failed_backups.today(status.looked_at)
    };
    let job = play.submit(missing, None).await.unwrap();
    tokio::time::sleep(2 * AN_HOUR).await;
    assert_eq!(play.job(job.job_id).state, JobState::Failed);
    assert_eq!(failed_today(), 0);
    play.submit(backup_of("prod"), None).await.unwrap();
    tokio::time::sleep(2 * AN_HOUR).await;
    assert_eq!(failed_today(), 1);
}

#[test]
fn a_job_that_was_stored_without_its_key_is_given_to_no_key() {
    let directory = tempfile::tempdir().unwrap();
    let files = JobFiles::below(directory.path());
    let mut jobs = Jobs::new(Vec::new(), watch::Sender::default());
    let submission = Submission {
        order: drain(),
        identity: alice(),
        idempotency: None,
    };
    let progress = Arc::new(RunProgress::of(Work::Drain));
    let job = jobs.accept(RunId::now(), &submission, progress, Utc::now());
    let list: JobList = Arc::new([(job.job_id, Arc::clone(&job))].into());
    files.update(&JobList::default(), &list).unwrap();
    let path = directory.path().join(format!("jobs/{}.json", job.job_id));
    let written = std::fs::read_to_string(&path).unwrap();
    let without_key = written.replace(r#""key":"ops","#, "");
    assert_ne!(without_key, written);
    std::fs::write(&path, without_key).unwrap();
    let read = files.read(Utc::now());
    assert_eq!(read[0].identity, Identity::new("", "alice"));
    assert_ne!(read[0].identity, alice());
}

#[tokio::test(start_paused = true)]
async fn of_two_jobs_into_one_topic_the_later_is_refused_and_told_of_the_first() {
    let play = play(Limits::default());
    let first = play.submit(migration_into("copy"), None).await.unwrap();
    let refused = play.submit(migration_into("copy"), None).await.unwrap_err();
    assert_eq!(refused.kind, ProblemKind::Conflict);
    assert!(
        refused.message.contains(&first.job_id.to_string()),
        "{}",
        refused.message
    );
    play.submit(migration_into("another"), None).await.unwrap();
    tokio::time::sleep(2 * AN_HOUR).await;
    play.submit(migration_into("copy"), None).await.unwrap();
}
