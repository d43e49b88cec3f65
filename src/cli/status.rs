//! `kafkeep status`

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use hyper::Uri;
use serde::Deserialize;
use serde_json::Value;

use crate::daemon::{RepositoryState, RunResult, RunState, Work};
use crate::http::{AskError, Trust, ask};
use crate::policy::{DaemonConfiguration, PolicyKind};

use super::{CliError, Exit, Global, output};

/// What the daemon does: its policies, their last and next runs, its repositories
#[derive(Debug, Args)]
#[command(after_help = "\
Asks the daemon at [http] listen of kafkeep.toml, or at --url; with [http] tls, the one that shows that certificate. \
Exit codes: 0 when all is well; 2 when the files are wrong, a repository cannot be written or is still being loaded, or a policy's last run did not succeed; 75 when no daemon answers.

Examples:
  kafkeep status
  kafkeep status --url http://127.0.0.1:9644 --json
  kafkeep status --url https://backup1.example:9644 --ca-file /etc/ssl/our-ca.pem")]
pub struct StatusArgs {
    /// The daemon's port
    #[arg(long, value_name = "URL")]
    url: Option<Uri>,
    /// PEM file with authorities that vouch for the daemon at an https URL, instead of this system's
    #[arg(long, value_name = "FILE", requires = "url")]
    ca_file: Option<PathBuf>,
}

const WITHIN: Duration = Duration::from_secs(10);

/// Of the answer, what is shown.
#[derive(Deserialize)]
struct Status {
    version: String,
    started_at: DateTime<Utc>,
    configuration: Configuration,
    policies: Vec<Policy>,
    repositories: Vec<Repository>,
}

/// A word of the daemon, which may be of a later version and have more of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Said<W> {
    Known(W),
    Other(String),
}

impl<W: PartialEq> Said<W> {
    fn is(&self, word: W) -> bool {
        matches!(self, Self::Known(known) if *known == word)
    }
}

impl<W: fmt::Display> fmt::Display for Said<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(word) => word.fmt(f),
            Self::Other(word) => f.write_str(word),
        }
    }
}

#[derive(Deserialize)]
struct Configuration {
    last_reload_success: bool,
    errors: Vec<Value>,
}

#[derive(Deserialize)]
struct Policy {
    policy: String,
    kind: Said<PolicyKind>,
    runs: bool,
    #[serde(default)]
    loading: bool,
    next_run_at: Option<DateTime<Utc>>,
    running: Vec<Run>,
    last_run: Option<Ended>,
    last_success_at: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct Run {
    work: Said<Work>,
    state: Said<RunState>,
    error: Option<String>,
    progress: Progress,
}

#[derive(Deserialize)]
struct Progress {
    phase: String,
    planned_offsets: u64,
    done_offsets: u64,
}

#[derive(Deserialize)]
struct Ended {
    finished_at: DateTime<Utc>,
    result: Said<RunResult>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    repository: String,
    location: String,
    #[serde(default)]
    state: Option<Said<RepositoryState>>,
    writable: bool,
    error: Option<String>,
    size_bytes: u64,
    free_bytes: Option<u64>,
    backups: u64,
}

impl Status {
    fn is_well(&self) -> bool {
        let failed = |policy: &Policy| {
            policy
                .last_run
                .as_ref()
                .is_some_and(|run| !run.result.is(RunResult::Success))
        };
        self.configuration.last_reload_success
            && self
                .repositories
                .iter()
                .all(|repository| repository.writable)
            && !self.policies.iter().any(failed)
    }
}

pub async fn run(args: &StatusArgs, global: &Global) -> Result<Exit, CliError> {
    let (uri, trust) = match &args.url {
        Some(uri) => (uri.clone(), Trust::System),
        None => configured(global)?,
    };
    let trust = args.ca_file.clone().map_or(trust, Trust::Authorities);
    let body = match tokio::time::timeout(WITHIN, ask(&uri, "/status", &trust)).await {
        Ok(Ok(body)) => body,
        Ok(Err(AskError::Usage(message))) => return Err(CliError::Usage(message)),
        Ok(Err(AskError::NoDaemon(why))) => return Err(no_daemon(&uri, why)),
        Err(_) => return Err(no_daemon(&uri, "it does not answer")),
    };
    let unlike = |error| no_daemon(&uri, format!("its answer is no kafkeep's: {error}"));
    let status: Status = serde_json::from_slice(&body).map_err(unlike)?;
    if global.json {
        output::json(&serde_json::from_slice::<Value>(&body).map_err(unlike)?)?;
    } else {
        print(&status)?;
    }
    Ok(if status.is_well() {
        Exit::Done
    } else {
        Exit::Incomplete
    })
}

/// Where the files say that the daemon is. With TLS, it is who shows the configured certificate.
fn configured(global: &Global) -> Result<(Uri, Trust), CliError> {
    let http = DaemonConfiguration::http(&global.config);
    let (scheme, trust) = match http.tls {
        Some(tls) => ("https", Trust::Certificate(tls.cert_file)),
        None => ("http", Trust::System),
    };
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(http.listen.to_string())
        .path_and_query("/")
        .build();
    let uri = uri.map_err(|error| CliError::Usage(format!("[http] listen: {error}")))?;
    Ok((uri, trust))
}

fn no_daemon(uri: &Uri, why: impl ToString) -> CliError {
    CliError::NoDaemon {
        url: uri.to_string(),
        why: why.to_string(),
    }
}

fn print(status: &Status) -> Result<(), CliError> {
    output::line(format_args!(
        "kafkeep {}, up since {} UTC",
        output::plain(&status.version),
        output::time(status.started_at)
    ))?;
    if !status.configuration.last_reload_success {
        let errors = status.configuration.errors.len();
        output::line(format_args!(
            "the files read last are wrong ({errors} errors), and not in force: kafkeep check tells what"
        ))?;
    }
    print_policies(&status.policies)?;
    print_repositories(&status.repositories)?;
    print_errors(status)
}

fn print_policies(policies: &[Policy]) -> Result<(), CliError> {
    let mut table = output::table(
        [
            "policy",
            "kind",
            "now",
            "last run (UTC)",
            "result",
            "last success (UTC)",
            "next run (UTC)",
        ],
        &[],
    );
    let time = |at: Option<DateTime<Utc>>| at.map_or_else(|| "-".to_owned(), output::time);
    for policy in policies {
        let last = policy.last_run.as_ref();
        table.add_row([
            output::plain(&policy.policy),
            output::plain(&policy.kind.to_string()),
            if policy.runs {
                now(policy)
            } else {
                "not run yet".to_owned()
            },
            time(last.map(|run| run.finished_at)),
            last.map_or_else(
                || "-".to_owned(),
                |run| output::plain(&run.result.to_string()),
            ),
            time(policy.last_success_at),
            time(policy.next_run_at),
        ]);
    }
    output::line(format_args!("\n{}", table.trim_fmt()))
}

fn print_repositories(repositories: &[Repository]) -> Result<(), CliError> {
    let mut table = output::table(
        ["repository", "location", "backups", "size", "free"],
        &[2, 3, 4],
    );
    for repository in repositories {
        let is_loading = repository
            .state
            .as_ref()
            .is_some_and(|state| state.is(RepositoryState::Loading));
        let known = |text: String| if is_loading { "-".to_owned() } else { text };
        table.add_row([
            output::plain(&repository.repository),
            output::plain(&repository.location),
            if is_loading {
                "loading".to_owned()
            } else {
                output::count(repository.backups)
            },
            known(output::bytes(repository.size_bytes)),
            repository
                .free_bytes
                .map_or_else(|| "-".to_owned(), output::bytes),
        ]);
    }
    output::line(format_args!("\n{}", table.trim_fmt()))
}

/// Why last runs failed, and what is wrong with repositories.
fn print_errors(status: &Status) -> Result<(), CliError> {
    for policy in &status.policies {
        if let Some(error) = policy.last_run.as_ref().and_then(|run| run.error.as_ref()) {
            output::line(format_args!("{}: {}", policy.policy, output::plain(error)))?;
        }
    }
    for repository in &status.repositories {
        if let Some(error) = &repository.error {
            output::line(format_args!(
                "{}: {}",
                repository.repository,
                output::plain(error)
            ))?;
        }
    }
    Ok(())
}

/// What a policy does now, in a few words.
fn now(policy: &Policy) -> String {
    let runs = policy.running.iter().map(|run| {
        let Progress {
            phase,
            planned_offsets,
            done_offsets,
        } = &run.progress;
        let work = match run.work.is(Work::Backup) {
            true => phase.clone(),
            false => run.work.to_string(),
        };
        let far = match (run.state.is(RunState::Waiting), &run.error) {
            (true, Some(_)) => "to be tried again".to_owned(),
            (true, None) => "waiting".to_owned(),
            (false, _) if *planned_offsets == 0 => run.state.to_string(),
            (_, _) => format!("{} %", done_offsets.saturating_mul(100) / planned_offsets),
        };
        output::plain(&format!("{work} {far}"))
    });
    let runs: Vec<String> = runs.collect();
    if runs.is_empty() && policy.loading {
        "waits for its repository".to_owned()
    } else if runs.is_empty() {
        "-".to_owned()
    } else {
        runs.join(", ")
    }
}
