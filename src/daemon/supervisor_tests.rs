//! Days of schedule in moments of paused time, with runs of the test's own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use super::remembered::{Remembered, RememberedPolicy};
use super::status::FailedBackups;
use super::supervisor::*;
use super::work::PolicyWork;
use super::*;

use crate::api::RestoreAnswer;
use crate::engine::expire::Retention;
use crate::engine::mirror::{PartitionState, PartitionStatus};
use crate::engine::topics::TopicPatterns;
use crate::kafka::Cluster;
use crate::policy::{BackupPolicy, Limits, RepositoryLocation, Verification, WhenRemoved};
use crate::record::{Compression, Offset, PartitionId};
use crate::repository::BackupId;
use crate::schedule::{Concurrency, Schedule, Timetable};
use chrono::{DateTime, TimeDelta};

/// What runs do here.
#[derive(Clone)]
struct Pretended {
    takes: Duration,
    started: Arc<Mutex<Vec<String>>>,
    expired: Arc<Mutex<Vec<String>>>,
    now: Arc<Mutex<Vec<BackupPolicy>>>,
    most: Arc<AtomicUsize>,
}

impl Execute for Pretended {
    async fn execute(&self, job: PolicyJob) -> TryResult {
        let name = job.policy.name.clone();
        if job.work == PolicyWork::Expire {
            assert_eq!(
                self.now_in(&job.policy.repository),
                0,
                "it shares its repository"
            );
            self.expired.lock().unwrap().push(name.clone());
            return match first_word(&name) {
                "hoarding" => TryResult::Failed("as it is meant to".to_owned()),
                "moving" => TryResult::Expired(Expired {
                    removed_backups: 2,
                    ..Expired::default()
                }),
                _ => TryResult::Expired(Expired::default()),
            };
        }
        self.started.lock().unwrap().push(name.clone());
        let _leaving = Entered::new(self, &job.policy);
        let most = self.now.lock().unwrap().len();
        self.most.fetch_max(most, Ordering::SeqCst);
        if job
            .stop
            .run_until_cancelled(tokio::time::sleep(self.takes))
            .await
            .is_none()
        {
            return TryResult::Stopped;
        }
        assert!(!name.starts_with("panicking"), "as it is meant to");
        match first_word(&name) {
            "failing" => TryResult::Failed("as it is meant to".to_owned()),
            "unlucky" => TryResult::Again("as it is meant to".to_owned()),
            "moving" => TryResult::BackedUp(moving(RunResult::Success, Some(0))),
            "incomplete" => TryResult::BackedUp(moving(RunResult::Incomplete, Some(3))),
            "unverified" => TryResult::BackedUp(moving(RunResult::Success, None)),
            _ => TryResult::BackedUp(Outcome {
                result: RunResult::Success,
                backup_id: None,
                error: None,
                figures: Figures::default(),
            }),
        }
    }

    async fn execute_order(&self, job: OrderJob) -> Result<Answer, Problem> {
        let kind = job.order.kind().name();
        self.started.lock().unwrap().push(kind.to_owned());
        let work = tokio::time::sleep(self.takes);
        match job.stop.run_until_cancelled(work).await {
            Some(()) if kind == "restore" => Ok(restored()),
            Some(()) if job.order.touches().contains(&("prod", "missing")) => Err(
                Problem::not_found("topic", "missing", "there is no such topic"),
            ),
            Some(()) => Err(Problem::internal()),
            None => Err(Problem::new(ProblemKind::Conflict, "cancelled")),
        }
    }

    async fn mirror(&self, job: MirrorJob) -> Result<MirrorReport, EngineError> {
        let name = &job.options.name;
        self.started.lock().unwrap().push(name.clone());
        if ["copying", "once"].contains(&first_word(name)) {
            job.state.begin(partitions(self.started(name) as u64));
        }
        match first_word(name) {
            "failing" => Err(EngineError::refused("as it is meant to".to_owned())),
            "once" => {
                tokio::time::sleep(self.takes).await;
                Ok(mirrored())
            }
            _ => {
                job.options.stop.cancelled().await;
                Err(EngineError::Stopped)
            }
        }
    }
}

fn first_word(name: &str) -> &str {
    name.split('-').next().unwrap()
}

/// A run that made a backup.
fn moving(result: RunResult, verify_findings: Option<u64>) -> Outcome {
    Outcome {
        result,
        backup_id: Some(BackupId::new(at("2026-03-01T00:00:00Z"))),
        error: None,
        figures: Figures {
            new_messages: 1_000,
            new_bytes: 50_000,
            new_stored_bytes: 20_000,
            stored_bytes: 90_000,
            partitions: 12,
            gap_offsets: 7,
            verify_findings,
        },
    }
}

/// Those of the run of a mirror with this number: every second one is without a partition that the others have.
fn partitions(run: u64) -> Vec<PartitionStatus> {
    let mut copied = PartitionStatus::new("orders", PartitionId(0), "dr.orders");
    copied.next_offset = Offset(90);
    copied.end_offset = Offset(100);
    copied.held_back = 5;
    copied.records = 100 / run;
    copied.aborted_records = 10 * run * run;
    copied.returning_records = 1;
    copied.filtered_records = 2;
    copied.error_records = 3;
    copied.dead_letter_records = 4;
    let mut stopped = copied.clone();
    stopped.partition = PartitionId(1);
    stopped.state = PartitionState::Recreated;
    match run % 2 {
        1 => vec![copied, stopped],
        _ => vec![copied],
    }
}

fn mirrored() -> MirrorReport {
    MirrorReport {
        status: crate::repository::Completion::Completed,
        source_cluster_id: "prod".to_owned(),
        target_cluster_id: "dr".to_owned(),
        started_at: at("2026-03-01T00:00:00Z"),
        duration_ms: 1,
        records: 100,
        bytes: 1_000,
        partitions: Vec::new(),
        groups: Vec::new(),
        warnings: Vec::new(),
    }
}

fn restored() -> Answer {
    Answer::Restore(RestoreAnswer {
        backup_id: "b".to_owned(),
        topic: "events".to_owned(),
        target_topic: "events-restored".to_owned(),
        cluster_id: "prod".to_owned(),
        kafka_cluster_id: "k".to_owned(),
        total_messages: 300,
        total_size_bytes: 4_000,
        duration_ms: 1,
        messages_restored: 300,
        partitions_created: Vec::new(),
        status: crate::repository::Completion::Completed,
        checksum_validated: true,
        offsets: crate::engine::restore::Offsets::Mapped,
        messages_skipped: 0,
        notes: Vec::new(),
    })
}

impl Pretended {
    fn started(&self, name: &str) -> usize {
        let started = self.started.lock().unwrap();
        started.iter().filter(|policy| *policy == name).count()
    }

    fn now_in(&self, repository: &str) -> usize {
        let now = self.now.lock().unwrap();
        now.iter()
            .filter(|policy| policy.repository == repository)
            .count()
    }
}

/// Leaves however a run ends.
struct Entered(Arc<Mutex<Vec<BackupPolicy>>>, String);

impl Entered {
    fn new(executor: &Pretended, policy: &BackupPolicy) -> Self {
        executor.now.lock().unwrap().push(policy.clone());
        Self(Arc::clone(&executor.now), policy.name.clone())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut now = self.0.lock().unwrap();
        let own = now.iter().position(|policy| policy.name == self.1);
        now.swap_remove(own.unwrap());
    }
}

/// A supervisor at work, in paused time.
pub(super) struct Play {
    executor: Pretended,
    pub requests: mpsc::Sender<Request>,
    pub status: watch::Receiver<Arc<Status>>,
    pub jobs: watch::Receiver<JobList>,
    pub metrics: Arc<Metrics>,
    /// By how many seconds the wall clock was put forward.
    put_forward: Arc<AtomicI64>,
}

impl Play {
    pub fn new(
        takes: Duration,
        configuration: DaemonConfiguration,
        remembered: &Remembered,
    ) -> Self {
        Self::loading(takes, configuration, remembered, &[])
    }

    /// The same while these repositories are being loaded.
    fn loading(
        takes: Duration,
        configuration: DaemonConfiguration,
        remembered: &Remembered,
        repositories: &[&str],
    ) -> Self {
        let executor = Pretended {
            takes,
            expired: Arc::default(),
            started: Arc::default(),
            now: Arc::default(),
            most: Arc::default(),
        };
        let (base, began) = (at("2026-03-01T00:00:00Z"), tokio::time::Instant::now());
        let put_forward = Arc::new(AtomicI64::new(0));
        let wrong = Arc::clone(&put_forward);
        let wall: WallClock = Arc::new(move || {
            let wrong = TimeDelta::seconds(wrong.load(Ordering::SeqCst));
            base + wrong + TimeDelta::from_std(began.elapsed()).unwrap()
        });
        let (requests, incoming) = mpsc::channel(16);
        let (sender, status) = watch::channel(Arc::new(Status::starting(wall())));
        let told = watch::Sender::default();
        let jobs = told.subscribe();
        let mut supervisor = Supervisor::new(
            executor.clone(),
            wall,
            incoming,
            sender,
            Jobs::new(Vec::new(), told),
        );
        let repositories = repositories.iter().map(|name| (*name).to_owned());
        supervisor.wait_for(repositories.collect());
        supervisor.begin(configuration, remembered);
        tokio::spawn(supervisor.supervise());
        Self {
            executor,
            requests,
            status,
            jobs,
            metrics: Arc::default(),
            put_forward,
        }
    }

    /// Sets the wall clock.
    fn put_clock_forward(&self, seconds: i64) {
        self.put_forward.store(seconds, Ordering::SeqCst);
    }

    pub async fn reload(&self, configuration: DaemonConfiguration) {
        let request = Request::Configuration(Ok(Box::new(configuration)));
        self.requests.send(request).await.ok().unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    /// A repository was loaded.
    async fn loaded(&self, repository: &str, past: Remembered) {
        let request = Request::Loaded(repository.to_owned(), past);
        self.requests.send(request).await.ok().unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    fn started(&self, name: &str) -> usize {
        self.executor.started(name)
    }

    pub fn policy(&self, name: &str) -> PolicyStatus {
        let status = self.status.borrow();
        let found = status.policies.iter().find(|policy| policy.policy == name);
        found.unwrap().clone()
    }

    fn metrics(&self) -> String {
        let status = Arc::clone(&self.status.borrow());
        String::from_utf8(self.metrics.render(&status, &[], &Credentials::default())).unwrap()
    }
}

pub(super) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

const HOUR: Duration = Duration::from_secs(3600);

fn policy(name: &str, every: Duration) -> BackupPolicy {
    BackupPolicy {
        name: name.to_owned(),
        cluster: "prod".to_owned(),
        repository: "main".to_owned(),
        topics: TopicPatterns::new(vec!["orders".parse().unwrap()]),
        allow_empty: false,
        timetable: Timetable::new(Schedule::every(every).unwrap()),
        time_zone: chrono_tz::UTC,
        compression: Compression::Gzip,
        rate_limit: None,
        groups: Default::default(),
        verify: Verification::Quick,
        retention: Retention::default(),
        max_age: Some(2 * every),
        deadline: Duration::from_secs(60),
        expire_timetable: Timetable::new(Schedule::every(24 * HOUR).unwrap()),
        when_removed: WhenRemoved::Finish,
    }
}

fn configuration(backups: Vec<BackupPolicy>) -> DaemonConfiguration {
    let location = RepositoryLocation {
        at: crate::repository::Location::Directory("/nowhere".into()),
        max_size: None,
        min_free: None,
    };
    DaemonConfiguration {
        clusters: [(
            "prod".to_owned(),
            Cluster::new(vec!["nowhere:9092".to_owned()]),
        )]
        .into(),
        repositories: [("main".to_owned(), location)].into(),
        backups,
        ..DaemonConfiguration::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_day_of_500_policies_loses_no_run_doubles_none_and_keeps_the_limit() {
    let policies = (0..500).map(|n| policy(&format!("p{n}"), HOUR)).collect();
    let play = Play::new(
        Duration::from_secs(2),
        configuration(policies),
        &Remembered::default(),
    );
    tokio::time::sleep(24 * HOUR + Duration::from_secs(600)).await;
    for n in 0..500 {
        assert_eq!(play.started(&format!("p{n}")), 24, "p{n}");
    }
    assert_eq!(play.executor.most.load(Ordering::SeqCst), 3);
    assert_eq!(play.policy("p0").missed_runs, 0);
    assert!(play.policy("p7").last_success_at > Some(at("2026-03-02T00:00:00Z")));
}

/// What the kernel says that this process holds, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_day_of_500_policies_takes_no_more_memory_at_its_end_than_at_its_beginning() {
    const ALONE: &str = "KAFKEEP_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        // Other tests hold memory of this process too.
        let name = "daemon::supervisor_tests::a_day_of_500_policies_takes_no_more_memory_at_its_end_than_at_its_beginning";
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let ran = alone
            .args(["--exact", name])
            .env(ALONE, "1")
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&ran.stdout);
        assert!(
            ran.status.success() && printed.contains("1 passed"),
            "{printed}"
        );
        return;
    }
    let policies = (0..500).map(|n| policy(&format!("p{n}"), HOUR)).collect();
    let configuration = configuration(policies);
    let play = Play::new(
        Duration::from_secs(2),
        configuration,
        &Remembered::default(),
    );
    tokio::time::sleep(4 * HOUR).await;
    let early = resident_kib();
    tokio::time::sleep(20 * HOUR).await;
    let late = resident_kib();
    assert!(
        late < early + 4096,
        "{early} KiB after 4 hours, {late} KiB after 24"
    );
    drop(play);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_outlasts_its_period_is_not_joined_by_another_unless_the_policy_says_so() {
    let with = |name: &str, concurrency| {
        let mut policy = policy(name, HOUR);
        policy.timetable.concurrency = concurrency;
        policy
    };
    let policies = vec![
        with("forbidding", Concurrency::Forbid),
        with("allowing", Concurrency::Allow),
        with("replacing", Concurrency::Replace),
    ];
    let mut all = configuration(policies);
    all.limits = Limits {
        max_concurrent_backups: 20,
        ..Limits::default()
    };
    let play = Play::new(HOUR * 5 / 2, all, &Remembered::default());
    tokio::time::sleep(6 * HOUR + Duration::from_secs(60)).await;
    assert_eq!(play.started("forbidding"), 2);
    assert_eq!(play.policy("forbidding").missed_runs, 4);
    assert_eq!(play.started("allowing"), 6);
    let backups = |name: &str| {
        let running = play.policy(name).running;
        running
            .iter()
            .filter(|run| run.work == Work::Backup)
            .count()
    };
    assert_eq!(backups("allowing"), 3);
    assert_eq!(play.started("replacing"), 6);
    assert_eq!(backups("replacing"), 1);
    let replaced = play.policy("replacing").last_run.unwrap();
    assert_eq!(replaced.outcome.result, RunResult::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn jobs_that_fill_every_slot_keep_no_policy_waiting() {
    let second = Duration::from_secs(1);
    for slots in [1, 3] {
        let mut policies = configuration(vec![policy("every-second", second)]);
        policies.limits.max_concurrent_backups = slots;
        // The jobs take an hour, and so would each run: what counts is when it starts.
        let play = Play::new(HOUR, policies.clone(), &Remembered::default());
        for _ in 0..3 {
            let backup = super::job_tests::backup_of("prod");
            play.submit(backup, None).await.unwrap();
        }
        policies.backups[0].timetable.concurrency = Concurrency::Replace;
        play.reload(policies).await;
        tokio::time::sleep(60 * second).await;
        let started = play.started("every-second");
        assert!((59..=61).contains(&started), "{slots}: {started} runs");
        assert_eq!(play.policy("every-second").missed_runs, 0, "{slots}");
        assert_eq!(play.started("backup"), slots.div_ceil(2) as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_or_failure_of_one_run_is_no_other_runs() {
    let names = ["panicking", "failing", "well"];
    let policies = names.map(|name| policy(name, HOUR)).to_vec();
    let play = Play::new(
        Duration::from_secs(1),
        configuration(policies),
        &Remembered::default(),
    );
    tokio::time::sleep(2 * HOUR + Duration::from_secs(60)).await;
    for name in names {
        assert_eq!(play.started(name), 2, "{name}");
    }
    let result = |name: &str| play.policy(name).last_run.unwrap().outcome.result;
    assert_eq!(result("panicking"), RunResult::Failed);
    assert_eq!(result("failing"), RunResult::Failed);
    assert_eq!(result("well"), RunResult::Success);
    let metrics = play.metrics();
    for line in [
        "kafkeep_policy_runs_total{policy=\"panicking\",result=\"failed\"} 2",
        "kafkeep_policy_runs_total{policy=\"well\",result=\"success\"} 2",
        "kafkeep_policy_last_run_status{policy=\"failing\",status=\"failed\"} 1",
        "kafkeep_policy_last_run_status{policy=\"failing\",status=\"success\"} 0",
        "kafkeep_policy_max_age_seconds{policy=\"well\"} 7200",
        "kafkeep_config_last_reload_success 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn downtime_is_made_up_for_once() {
    let remembered = RememberedPolicy {
        settled_at: Some(at("2026-02-26T00:00:00Z")),
        last_success_at: Some(at("2026-02-26T00:00:10Z")),
        ..RememberedPolicy::default()
    };
    let last_success_at = remembered.last_success_at;
    let remembered = Remembered {
        policies: [("daily".to_owned(), remembered)].into(),
        repositories: Default::default(),
        failed_backups: FailedBackups::default(),
    };
    let policies = vec![policy("daily", 24 * HOUR)];
    let play = Play::new(Duration::from_secs(1), configuration(policies), &remembered);
    assert_eq!(play.policy("daily").last_success_at, last_success_at);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(play.started("daily"), 1);
    assert_eq!(play.policy("daily").missed_runs, 2);
}

#[tokio::test(start_paused = true)]
async fn a_period_goes_on_and_a_success_ages_whatever_becomes_of_the_clock() {
    let every = Duration::from_secs(10);
    let play = Play::new(
        Duration::from_secs(1),
        configuration(vec![policy("steady", every)]),
        &Remembered::default(),
    );
    const YEAR: i64 = 365 * 86_400;
    for put_forward in [0, -3600, 0, YEAR, 0, -10_800, 0] {
        play.put_clock_forward(put_forward);
        // A look at the clock, which is at most a minute away.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let before = play.started("steady");
        tokio::time::sleep(60 * every).await;
        let runs = play.started("steady") - before;
        assert!((59..=61).contains(&runs), "{runs} under {put_forward}");
    }
    // The clock is put back, and nothing succeeds any more.
    play.put_clock_forward(YEAR);
    tokio::time::sleep(Duration::from_secs(120)).await;
    play.reload(configuration(vec![BackupPolicy {
        timetable: Timetable {
            suspend: true,
            ..Timetable::new(Schedule::every(every).unwrap())
        },
        ..policy("steady", every)
    }]))
    .await;
    play.put_clock_forward(0);
    tokio::time::sleep(2 * HOUR).await;
    let now = play.status.borrow().looked_at;
    let age = now - play.policy("steady").last_success_at.unwrap();
    // It is told at each look, which may be a minute ago.
    let about_two_hours = TimeDelta::minutes(118)..TimeDelta::minutes(123);
    assert!(about_two_hours.contains(&age), "{age}");
}

#[tokio::test(start_paused = true)]
async fn a_reload_disturbs_nothing_that_did_not_change() {
    let before = vec![
        policy("same", HOUR),
        policy("changed", HOUR),
        policy("gone", HOUR),
    ];
    let play = Play::new(
        Duration::from_secs(600),
        configuration(before),
        &Remembered::default(),
    );
    tokio::time::sleep(HOUR + Duration::from_secs(60)).await;
    for name in ["same", "changed", "gone"] {
        assert_eq!(play.policy(name).running.len(), 1, "{name}");
    }
    let mut changed = policy("changed", HOUR);
    changed.compression = Compression::Zstd;
    play.reload(configuration(vec![
        policy("same", HOUR),
        changed,
        policy("new", 2 * HOUR),
    ]))
    .await;
    assert_eq!(play.policy("same").running.len(), 1);
    assert_eq!(play.policy("changed").running.len(), 1);
    let metrics = play.metrics();
    assert!(!metrics.contains("\"gone\""), "{metrics}");
    assert!(
        metrics.contains("kafkeep_policy_info{kind=\"backup\",policy=\"new\"} 1"),
        "{metrics}"
    );
    // The run of the policy that is gone ends by itself, and leaves no series.
    tokio::time::sleep(Duration::from_secs(900)).await;
    assert_eq!(play.executor.now.lock().unwrap().len(), 0);
    assert!(!play.metrics().contains("\"gone\""));
    assert_eq!(
        play.policy("same").last_run.unwrap().outcome.result,
        RunResult::Success
    );
    tokio::time::sleep(HOUR).await;
    let started = ["same", "changed", "gone", "new"].map(|name| play.started(name));
    assert_eq!(started, [2, 2, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_configuration_changes_nothing_and_is_told() {
    let policies = vec![policy("kept", HOUR)];
    let play = Play::new(
        Duration::from_secs(1),
        configuration(policies),
        &Remembered::default(),
    );
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("kafkeep.toml"), "[http\n").unwrap();
    let wrong = DaemonConfiguration::load(directory.path()).unwrap_err();
    play.requests
        .send(Request::Configuration(Err(wrong)))
        .await
        .ok()
        .unwrap();
    tokio::time::sleep(HOUR + Duration::from_secs(60)).await;
    assert_eq!(play.started("kept"), 1);
    let told = play.status.borrow().configuration.clone();
    assert!(
        !told.last_reload_success && told.errors.len() == 1,
        "{told:?}"
    );
    assert!(
        play.metrics()
            .contains("kafkeep_config_last_reload_success 0")
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_what_runs_and_starts_nothing_more() {
    let policies = vec![policy("stopped", HOUR)];
    let play = Play::new(24 * HOUR, configuration(policies), &Remembered::default());
    tokio::time::sleep(HOUR + Duration::from_secs(60)).await;
    assert_eq!(play.executor.now.lock().unwrap().len(), 1);
    let (stopped, wait) = oneshot::channel();
    play.requests
        .send(Request::Stop(stopped))
        .await
        .ok()
        .unwrap();
    wait.await.unwrap();
    assert_eq!(play.executor.now.lock().unwrap().len(), 0);
    let last = play.policy("stopped").last_run.unwrap();
    assert_eq!(last.outcome.result, RunResult::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn what_fails_in_passing_is_tried_again_and_keeps_no_place_meanwhile() {
    let mut all = configuration(vec![policy("unlucky", HOUR), policy("well", HOUR)]);
    all.limits.max_concurrent_backups = 1;
    let play = Play::new(Duration::from_secs(1), all, &Remembered::default());
    tokio::time::sleep(HOUR + Duration::from_secs(10)).await;
    assert_eq!(play.started("well"), 1);
    let waiting = play.policy("unlucky").running;
    assert_eq!(waiting[0].state, RunState::Waiting);
    assert_eq!(waiting[0].error.as_deref(), Some("as it is meant to"));
    // Pauses of 5, 10, 20, 40, 80, 160 and 300 seconds fit into a quarter of an hour.
    tokio::time::sleep(HOUR / 2).await;
    assert_eq!(play.started("unlucky"), 8);
    let last = play.policy("unlucky").last_run.unwrap().outcome;
    assert_eq!(last.result, RunResult::Failed);
    assert_eq!(last.error.as_deref(), Some("as it is meant to"));
}

#[tokio::test(start_paused = true)]
async fn a_cluster_with_many_policies_keeps_no_other_one_waiting() {
    let mut policies: Vec<_> = (0..50)
        .map(|n| policy(&format!("crowd-{n}"), HOUR))
        .collect();
    let mut small = policy("small", HOUR);
    small.cluster = "small".to_owned();
    policies.push(small);
    let mut all = configuration(policies);
    let cluster = all.clusters["prod"].clone();
    all.clusters.insert("small".to_owned(), cluster);
    let play = Play::new(Duration::from_secs(60), all, &Remembered::default());
    tokio::time::sleep(HOUR + Duration::from_secs(90)).await;
    let running = play.policy("small").running;
    assert!(play.started("small") == 1, "{running:?}");
    assert!(play.executor.started.lock().unwrap().len() <= 6);
}

#[tokio::test(start_paused = true)]
async fn no_more_of_one_cluster_run_than_its_limit() {
    let policies = (0..9).map(|n| policy(&format!("p{n}"), HOUR)).collect();
    let mut all = configuration(policies);
    all.limits.backups_per_cluster = 2;
    let play = Play::new(Duration::from_secs(60), all, &Remembered::default());
    tokio::time::sleep(2 * HOUR - Duration::from_secs(1)).await;
    assert_eq!(play.executor.most.load(Ordering::SeqCst), 2);
    assert_eq!(play.executor.started.lock().unwrap().len(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_finds_no_place_before_its_start_deadline_is_left_out() {
    let mut late = policy("late", HOUR);
    late.timetable.start_deadline = Some(Duration::from_secs(600));
    let mut all = configuration(vec![policy("early", HOUR), late]);
    all.limits.max_concurrent_backups = 1;
    let play = Play::new(HOUR / 2, all, &Remembered::default());
    tokio::time::sleep(HOUR + Duration::from_secs(660)).await;
    assert_eq!((play.started("early"), play.started("late")), (1, 0));
    let late = play.policy("late");
    assert!(late.running.is_empty());
    assert_eq!(late.missed_runs, 1);
}

#[tokio::test(start_paused = true)]
async fn retention_is_applied_after_each_success_and_on_its_schedule_while_nothing_uses_the_repository()
 {
    let play = Play::new(
        Duration::from_secs(60),
        configuration(vec![
            policy("well", 10 * HOUR),
            policy("failing", 10 * HOUR),
        ]),
        &Remembered::default(),
    );
    let expired = |name: &str| {
        let expired = play.executor.expired.lock().unwrap();
        expired.iter().filter(|policy| *policy == name).count()
    };
    tokio::time::sleep(11 * HOUR).await;
    assert_eq!((expired("well"), expired("failing")), (1, 0));
    tokio::time::sleep(14 * HOUR).await;
    assert_eq!((expired("well"), expired("failing")), (3, 1));
    let metrics = play.metrics();
    let line = "kafkeep_expire_runs_total{policy=\"failing\",result=\"success\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn a_busy_repository_starves_no_scheduled_expiry() {
    // Thirty minutes each, three at once, ten an hour: there are always some that wait.
    let policies = (0..10)
        .map(|n| policy(&format!("failing-{n}"), HOUR))
        .collect();
    let play = Play::new(HOUR / 2, configuration(policies), &Remembered::default());
    tokio::time::sleep(30 * HOUR).await;
    assert_eq!(play.executor.expired.lock().unwrap().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_run_of_a_policy_that_is_taken_away_ends_as_the_policy_said() {
    let mut cancelled = policy("cancelled", HOUR);
    cancelled.when_removed = WhenRemoved::Cancel;
    let policies = vec![policy("finished", HOUR), cancelled];
    let play = Play::new(HOUR / 2, configuration(policies), &Remembered::default());
    tokio::time::sleep(HOUR + Duration::from_secs(60)).await;
    assert_eq!(play.executor.now.lock().unwrap().len(), 2);
    play.reload(configuration(Vec::new())).await;
    let now: Vec<String> = {
        let now = play.executor.now.lock().unwrap();
        now.iter().map(|policy| policy.name.clone()).collect()
    };
    assert_eq!(now, ["finished"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_cancelled_by_its_id_alone() {
    let policies = vec![policy("one", HOUR), policy("other", HOUR)];
    let play = Play::new(HOUR / 2, configuration(policies), &Remembered::default());
    tokio::time::sleep(HOUR + Duration::from_secs(60)).await;
    let run_id = play.policy("one").running[0].run_id;
    for is_there in [true, false] {
        let (answer, answered) = oneshot::channel();
        let request = Request::Cancel(run_id, answer);
        play.requests.send(request).await.ok().unwrap();
        assert_eq!(answered.await.unwrap(), is_there);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let last = play.policy("one").last_run.unwrap();
    assert_eq!(
        (last.run_id, last.outcome.result),
        (run_id, RunResult::Cancelled)
    );
    assert_eq!(play.policy("other").running.len(), 1);
}

/// Policies `hung` and `well` of two repositories.
fn of_two_repositories() -> DaemonConfiguration {
    let mut hung = policy("hung", HOUR);
    hung.repository = "hung".to_owned();
    let mut all = configuration(vec![hung, policy("well", HOUR)]);
    let location = all.repositories["main"].clone();
    all.repositories.insert("hung".to_owned(), location);
    all
}

/// What is known of `name`: its last backup began, and ended, then.
fn past(name: &str, backup: Option<&str>) -> Remembered {
    let mut past = Remembered::default();
    if let Some(moment) = backup.map(at) {
        past.backup(name, moment, moment);
    }
    past
}

#[tokio::test(start_paused = true)]
async fn policies_wait_for_their_repository_to_be_loaded_and_others_run() {
    let play = Play::loading(
        Duration::from_secs(1),
        of_two_repositories(),
        &Remembered::default(),
        &["hung"],
    );
    tokio::time::sleep(3 * HOUR + Duration::from_secs(60)).await;
    assert_eq!((play.started("hung"), play.started("well")), (0, 3));
    let waiting = play.policy("hung");
    assert!(waiting.loading && !play.policy("well").loading);
    assert_eq!((waiting.next_run_at, waiting.settled_at), (None, None));
    assert_eq!(
        play.executor.expired.lock().unwrap().len(),
        3,
        "of the other"
    );
    play.loaded("hung", past("hung", None)).await;
    // Due since the daemon started, and made up for by one run.
    assert_eq!(play.started("hung"), 1);
    let loaded = play.policy("hung");
    assert!(!loaded.loading);
    assert_eq!(loaded.missed_runs, 2);
    assert!(loaded.settled_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn what_a_repository_tells_is_what_a_run_is_made_up_for() {
    let never_run = [
        past("hung", Some("2026-02-28T23:30:00Z")),
        past("hung", Some("2026-03-01T00:20:00Z")),
    ];
    let [old, new] = never_run;
    for (known, expected) in [(old, 1), (new, 0)] {
        let last_success_at = known.policies["hung"].last_success_at;
        let play = Play::loading(
            Duration::from_secs(1),
            of_two_repositories(),
            &Remembered::default(),
            &["hung"],
        );
        tokio::time::sleep(HOUR / 2 + Duration::from_secs(60)).await;
        play.loaded("hung", known).await;
        assert_eq!(play.started("hung"), expected);
        if expected == 0 {
            assert_eq!(play.policy("hung").last_success_at, last_success_at);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_while_a_repository_is_loaded_forgets_nothing_and_guesses_nothing() {
    let known = past("hung", Some("2026-02-27T00:00:00Z"));
    let configuration = of_two_repositories();
    let play = Play::loading(Duration::from_secs(1), configuration, &known, &["hung"]);
    tokio::time::sleep(HOUR / 2).await;
    let waiting = play.policy("hung");
    let before = &known.policies["hung"];
    assert_eq!(waiting.settled_at, before.settled_at);
    assert_eq!(waiting.last_success_at, before.last_success_at);
}

#[tokio::test(start_paused = true)]
async fn a_reload_does_not_run_a_policy_whose_repository_is_being_loaded() {
    let play = Play::loading(
        Duration::from_secs(1),
        of_two_repositories(),
        &Remembered::default(),
        &["hung"],
    );
    tokio::time::sleep(HOUR / 2).await;
    let mut changed = of_two_repositories();
    changed.backups[0].compression = Compression::Zstd;
    play.reload(changed).await;
    tokio::time::sleep(2 * HOUR).await;
    assert!(play.policy("hung").loading);
    assert_eq!(play.started("hung"), 0);
    play.loaded("hung", past("hung", Some("2026-03-01T02:10:00Z")))
        .await;
    assert_eq!(play.started("hung"), 0, "nothing was due since");
    tokio::time::sleep(HOUR).await;
    assert_eq!(play.started("hung"), 1);
}
