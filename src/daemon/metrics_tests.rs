//! All that Prometheus is told, word for word, while policies run, change, go and come back.

use std::time::Duration;

use super::job_tests::{backup_of, drain};
use super::remembered::Remembered;
use super::supervisor::Request;
use super::supervisor_tests::{Play, at};
use super::*;

use crate::api::{Order, RestoreOrder};
use crate::engine::drain::{DrainReport, DrainState, GroupReport, Verdict};
use crate::engine::restore::RestoreOptions;
use crate::policy::{PolicyKind, RepositoryLocation};
use crate::repository::BackupId;

const KAFKEEP: &str = "
    [clusters.prod]
    bootstrap_servers = ['kafka1:9092']
    [clusters.dr]
    bootstrap_servers = ['dr1:9092']
    [repositories.main]
    path = '/nowhere/main'
    [repositories.other]
    path = '/nowhere/other'
    [repositories.busy]
    path = '/nowhere/busy'
    [repositories.loading]
    path = '/nowhere/loading'
    [limits]
    max_concurrent_backups = 50
    backups_per_cluster = 50
";

/// Not there later.
const BUSY: &str = "[repositories.busy]
    path = '/nowhere/busy'
";

const POLICIES: [&str; 15] = [
    "[backup.moving-orders]
    repository = 'main'
    every = '1h'
    max_age = '2h'",
    "[backup.incomplete]
    repository = 'main'
    every = '1h'
    max_age = '7200500ms'",
    "[backup.unverified]
    repository = 'main'
    every = '2h'",
    "[backup.hoarding]
    repository = 'main'
    every = '1h'",
    "[backup.failing]
    repository = 'other'
    every = '1h'",
    "[backup.unlucky]
    repository = 'other'
    every = '1h'",
    "[backup.cancelled]
    repository = 'other'
    every = '1h'",
    "[backup.crowded]
    repository = 'busy'
    every = '5m'",
    "[backup.resting]
    repository = 'other'
    every = '1h'
    suspend = true",
    "[backup.leaving]
    repository = 'other'
    every = '1h'",
    "[backup.turning]
    repository = 'other'
    every = '1h'",
    "[mirror.copying]
    topics = ['a']",
    "[mirror.once]
    topics = ['b']
    mode = '0 */2 * * *'",
    "[mirror.once-changed]
    topics = ['c']
    mode = '30 2 * * *'",
    "[mirror.failing-mirror]
    topics = ['d']",
];

/// What is gone, new, renamed, of another kind, or has another text.
const POLICIES_LATER: [&str; 14] = [
    "[backup.moving-orders]
    repository = 'main'
    every = '1h'
    compression = 'zstd'",
    POLICIES[1],
    POLICIES[2],
    POLICIES[3],
    POLICIES[4],
    POLICIES[5],
    POLICIES[6],
    POLICIES[8],
    "[backup.arrived]
    repository = 'other'
    every = '1h'",
    "[mirror.turning]
    topics = ['e']",
    "[mirror.copying]
    topics = ['a']
    rate_limit = '1MiB/s'",
    POLICIES[12],
    "[mirror.once-changed]
    topics = ['c']
    mode = '30 2 * * *'
    rate_limit = '1MiB/s'",
    POLICIES[14],
];

fn read(kafkeep: &str, policies: &[&str]) -> Result<DaemonConfiguration, Diagnostics> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("policies.d")).unwrap();
    std::fs::write(directory.path().join("kafkeep.toml"), kafkeep).unwrap();
    let of_mirrors = "source = 'prod'\ntarget = 'dr'\ntopics =";
    let of_backups = "cluster = 'prod'\ntopics = ['orders']\nrepository =";
    let policies = policies.join("\n").replace("topics =", of_mirrors);
    let policies = policies.replace("repository =", of_backups);
    std::fs::write(directory.path().join("policies.d/a.toml"), policies).unwrap();
    DaemonConfiguration::load(directory.path())
}

/// Drain policies: one whose group was looked at, and one whose group cannot be.
fn drains() -> Vec<PolicyStatus> {
    let now = at("2026-03-01T00:00:00Z");
    let group = GroupReport {
        group_id: "checkout".to_owned(),
        status: Verdict::Draining,
        state: DrainState::Draining,
        reason: "as it is meant to".into(),
        since: now,
        group_type: None,
        group_state: None,
        members: 1,
        total_lag: 120,
        partitions_checked: 1,
        stable_checks: 0,
        consumed_per_second: Some(2.0),
        arriving_per_second: Some(0.0),
        eta_seconds: Some(60),
        stuck_partitions: 0,
        still_seconds: None,
        deciding_partitions: Vec::new(),
    };
    let report = DrainReport {
        cluster_id: "prod".to_owned(),
        group_id: None,
        status: Verdict::Draining,
        timed_out: false,
        total_lag: 120,
        duration_ms: 1,
        checks: 1,
        partitions_checked: 1,
        last_check_time: now,
        groups: vec![group],
        partition_details: Vec::new(),
        warnings: Vec::new(),
    };
    let watched = DrainWatch::default();
    watched.saw(Ok(report));
    let drain = |name: &str, watch: DrainWatch| PolicyStatus {
        runs: true,
        drain: Some(Arc::new(watch)),
        ..PolicyStatus::new(name, PolicyKind::Drain)
    };
    vec![
        drain("watched", watched),
        drain("unknown", DrainWatch::default()),
    ]
}

/// Repositories as they were looked at; `loading` was not.
fn repositories(configuration: &DaemonConfiguration) -> Vec<RepositoryStatus> {
    let looked_at = |(name, location): (&String, &RepositoryLocation)| {
        let unknown = RepositoryStatus::loading(name, location);
        let now = at("2026-03-01T00:00:00Z");
        match name.as_str() {
            "loading" => unknown,
            "main" => RepositoryStatus {
                state: RepositoryState::Ready,
                looked_at: Some(now),
                readable: true,
                writable: true,
                size_bytes: Some(123_456),
                objects: Some(30),
                free_bytes: Some(1_000_000_000),
                backups: Some(7),
                ..unknown
            },
            "busy" => RepositoryStatus {
                state: RepositoryState::Failed,
                looked_at: Some(now),
                ..unknown
            },
            _ => RepositoryStatus {
                state: RepositoryState::Ready,
                looked_at: Some(now),
                readable: true,
                writable: true,
                size_bytes: Some(0),
                objects: Some(0),
                backups: Some(0),
                lost_backups: vec![BackupId::new(now)],
                lost_packs: vec!["one".to_owned(), "two".to_owned()],
                ..unknown
            },
        }
    };
    configuration.repositories.iter().map(looked_at).collect()
}

/// What Prometheus is told now, without what differs from process to process.
fn told(play: &Play, configuration: &DaemonConfiguration) -> String {
    let mut status = Status::clone(&play.status.borrow());
    status.policies.extend(drains());
    let credentials = [("api-key/sso", false), ("certificate", true)];
    let credentials = credentials.map(|(name, is_readable)| (name.to_owned(), is_readable));
    let credentials = Credentials(credentials.into());
    let text = play
        .metrics
        .render(&status, &repositories(configuration), &credentials);
    let told = String::from_utf8(text).unwrap();
    let told = told.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let lines = told.lines().map(|line| match line.split_once(' ') {
        Some((name, _)) if name.starts_with("process_") => format!("{name} VALUE\n"),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

fn restore(target_topic: &str) -> Order {
    Order::Restore(RestoreOrder {
        cluster: "prod".to_owned(),
        repository: "main".to_owned(),
        backup_id: BackupId::new(at("2026-03-01T00:00:00Z")),
        topic: "events".to_owned(),
        target_topic: target_topic.to_owned(),
        validate: false,
        options: RestoreOptions::default(),
    })
}

async fn cancel(play: &Play, run_id: RunId) {
    let (answer, answered) = oneshot::channel();
    let request = Request::Cancel(run_id, answer);
    play.requests.send(request).await.ok().unwrap();
    assert!(answered.await.unwrap());
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn prometheus_is_told_word_for_word_what_the_golden_file_says() {
    let first = read(KAFKEEP, &POLICIES).unwrap();
    let later = read(&KAFKEEP.replace(BUSY, ""), &POLICIES_LATER).unwrap();
    let play = Play::new(10 * MINUTE, first.clone(), &Remembered::default());
    let mut text = String::new();
    let mut tell = |moment: &str, configuration| {
        text.push_str(&format!("#### {moment}\n{}\n", told(&play, configuration)));
    };
    tell("at the beginning", &first);

    for order in [drain(), backup_of("prod"), restore("one"), restore("other")] {
        play.submit(order, None).await.unwrap();
    }
    let given_up = play.submit(drain(), None).await.unwrap();
    cancel(&play, given_up.job_id).await;
    for (route, code, milliseconds) in [
        ("/metrics", 200, 3),
        ("/metrics", 200, 250),
        ("/metrics", 405, 0),
        ("api/backups", 404, 90_000),
    ] {
        let took = Duration::from_millis(milliseconds);
        play.metrics.http_answered(route, code, took);
    }
    tokio::time::sleep(61 * MINUTE).await;
    cancel(&play, play.policy("cancelled").running[0].run_id).await;
    tokio::time::sleep(120 * MINUTE).await;
    tell("after three hours", &first);

    play.reload(later.clone()).await;
    tell("at another configuration", &later);
    tokio::time::sleep(120 * MINUTE).await;
    let wrong = read(KAFKEEP, &["[backup.wrong]"]).unwrap_err();
    let request = Request::Configuration(Err(wrong));
    play.requests.send(request).await.ok().unwrap();
    tokio::time::sleep(MINUTE).await;
    tell("two hours later, and a configuration that is wrong", &later);

    play.reload(first.clone()).await;
    tokio::time::sleep(120 * MINUTE).await;
    tell("two hours after the first configuration came back", &first);

    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metrics.txt");
    if std::env::var_os("KAFKEEP_WRITE_GOLDEN").is_some() {
        std::fs::write(&golden, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap();
    for (told, expected) in text.lines().zip(expected.lines()) {
        assert_eq!(told, expected);
    }
    assert_eq!(text, expected);
}
