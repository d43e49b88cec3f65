//! `kafkeep status`

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use hyper::Uri;
use serde::Deserialize;
use serde_json::Value;

use crate::daemon::{PolicyState, RepositoryState, RunState, Work, rough};
use crate::engine::drain::DrainState;
use crate::http::{AskError, Trust, ask};
use crate::policy::{DaemonConfiguration, PolicyKind};

use super::{CliError, Exit, Global, output};

/// What the daemon does: its policies, their last and next runs, its repositories
#[derive(Debug, Args)]
#[command(after_help = "\
Asks the daemon at [http] listen of kafkeep.toml, or at --url; with [http] tls, the one that shows that certificate. \
Exit codes: 0 when every policy is protected; 2 when one is not (unknown, at risk or unprotected), a repository cannot be written \
or is still being loaded, or the latest configuration is invalid; 75 when no daemon answers.

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
    state: Said<PolicyState>,
    reason: String,
    runs: bool,
    #[serde(default)]
    loading: bool,
    next_run_at: Option<DateTime<Utc>>,
    running: Vec<Run>,
    last_success_at: Option<DateTime<Utc>>,
    drain: Option<Drain>,
}

/// What a drain policy saw last.
#[derive(Deserialize)]
struct Drain {
    group: Option<Group>,
}

#[derive(Deserialize)]
struct Group {
    state: Said<DrainState>,
    total_lag: u64,
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
struct Repository {
    repository: String,
    location: String,
    #[serde(default)]
    state: Option<Said<RepositoryState>>,
    writable: bool,
    error: Option<String>,
    size_bytes: Option<u64>,
    free_bytes: Option<u64>,
    backups: Option<u64>,
}

impl Status {
    fn is_well(&self) -> bool {
        let mut repositories = self.repositories.iter();
        let mut policies = self.policies.iter();
        self.configuration.last_reload_success
            && repositories.all(|repository| repository.writable)
            && policies.all(|policy| policy.state.is(PolicyState::Protected))
    }

    /// `2 of 5 policies are unprotected, 1 is at risk`, the worst first.
    fn summary(&self) -> String {
        let of = self.policies.len();
        let counted = PolicyState::ALL.into_iter().rev().filter_map(|state| {
            let policies = self.policies.iter();
            let count = policies.filter(|policy| policy.state.is(state)).count();
            (count > 0).then_some((state, count))
        });
        let mut counted = counted.map(|(state, count)| {
            let verb = if count == 1 { "is" } else { "are" };
            (count, format!("{verb} {}", state.phrase()))
        });
        let Some((count, first)) = counted.next() else {
            return "no policies are configured".to_owned();
        };
        let first = format!("{count} of {of} policies {first}");
        let rest = counted.map(|(count, said)| format!("{count} {said}"));
        [first]
            .into_iter()
            .chain(rest)
            .collect::<Vec<_>>()
            .join(", ")
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
        "kafkeep {}, up since {} UTC: {}",
        output::plain(&status.version),
        output::time(status.started_at),
        status.summary()
    ))?;
    if !status.configuration.last_reload_success {
        let errors = status.configuration.errors.len();
        output::line(format_args!(
            "the latest configuration is invalid ({errors} errors), the previous one is active: run kafkeep check"
        ))?;
    }
    print_policies(&status.policies)?;
    print_repositories(&status.repositories)?;
    print_errors(status)
}

fn print_policies(policies: &[Policy]) -> Result<(), CliError> {
    let header = ["policy", "kind", "state", "now", "last success", "next run"];
    let mut table = output::table(header, &[]);
    for policy in policies {
        table.add_row([
            output::plain(&policy.policy),
            output::plain(&policy.kind.to_string()),
            output::plain(&policy.state.to_string().replace('_', " ")),
            now(policy),
            distance(policy.last_success_at),
            distance(policy.next_run_at),
        ]);
    }
    output::line(format_args!("\n{}", table.trim_fmt()))
}

/// How far a moment is from now.
fn distance(at: Option<DateTime<Utc>>) -> String {
    let Some(at) = at else {
        return "-".to_owned();
    };
    let ahead = at - Utc::now();
    match ahead > TimeDelta::zero() {
        true => format!("in {}", rough(ahead)),
        false => format!("{} ago", rough(-ahead)),
    }
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
        let none = || "-".to_owned();
        table.add_row([
            output::plain(&repository.repository),
            output::plain(&repository.location),
            if is_loading {
                "loading".to_owned()
            } else {
                repository.backups.map_or_else(none, output::count)
            },
            repository.size_bytes.map_or_else(none, output::bytes),
            repository.free_bytes.map_or_else(none, output::bytes),
        ]);
    }
    output::line(format_args!("\n{}", table.trim_fmt()))
}

/// Why policies are not protected, and what is wrong with repositories.
fn print_errors(status: &Status) -> Result<(), CliError> {
    let mut reasons = Vec::new();
    for policy in &status.policies {
        if !policy.state.is(PolicyState::Protected) {
            reasons.push((&policy.policy, &policy.reason));
        }
    }
    for repository in &status.repositories {
        if let Some(error) = &repository.error {
            reasons.push((&repository.repository, error));
        }
    }
    if !reasons.is_empty() {
        output::line("")?;
    }
    for (of, reason) in reasons {
        output::line(format_args!(
            "{}: {}",
            output::plain(of),
            output::plain(reason)
        ))?;
    }
    Ok(())
}

/// How a drain policy's group is, in a few words.
fn drained(drain: &Drain) -> String {
    let Some(group) = &drain.group else {
        return DrainState::Unknown.to_string();
    };
    let state = output::plain(&group.state.to_string());
    match group.total_lag {
        0 => state,
        left => format!("{state}, {} left", output::count(left)),
    }
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
    if !policy.runs {
        "not run yet".to_owned()
    } else if let Some(drain) = &policy.drain {
        drained(drain)
    } else if runs.is_empty() && policy.loading {
        "waits for its repository".to_owned()
    } else if runs.is_empty() {
        "-".to_owned()
    } else {
        runs.join(", ")
    }
}
