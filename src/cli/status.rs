//! `kafkeep status`

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::policy::DaemonConfiguration;

use super::{CliError, Exit, Global, output};

/// What the daemon does: its policies, their last and next runs, its repositories
#[derive(Debug, Args)]
#[command(after_help = "\
Asks the daemon at [http] listen of kafkeep.toml, or at --url. Exit codes: 0 when all is well; 2 when the files are wrong, a
repository cannot be written, or a policy's last run did not succeed; 75 when no daemon answers.

Examples:
  kafkeep status
  kafkeep status --url http://127.0.0.1:9644 --json")]
pub struct StatusArgs {
    /// The daemon's port
    #[arg(long, value_name = "URL")]
    url: Option<Uri>,
}

const WITHIN: Duration = Duration::from_secs(10);
/// Thousands of policies and backups take less.
const ANSWER_LIMIT: usize = 256 << 20;

/// Of the answer, what is shown.
#[derive(Deserialize)]
struct Status {
    version: String,
    started_at: DateTime<Utc>,
    configuration: Configuration,
    policies: Vec<Policy>,
    repositories: Vec<Repository>,
}

#[derive(Deserialize)]
struct Configuration {
    last_reload_success: bool,
    errors: Vec<Value>,
}

#[derive(Deserialize)]
struct Policy {
    policy: String,
    kind: String,
    runs: bool,
    next_run_at: Option<DateTime<Utc>>,
    running: Vec<Run>,
    last_run: Option<Ended>,
    last_success_at: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct Run {
    work: String,
    state: String,
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
    result: String,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    repository: String,
    location: String,
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
                .is_some_and(|run| run.result != "success")
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
    let listen = || {
        let address = DaemonConfiguration::listen(&global.config);
        Uri::builder()
            .scheme("http")
            .authority(address.to_string())
            .path_and_query("/")
            .build()
    };
    let uri = match &args.url {
        Some(uri) => uri.clone(),
        None => listen().map_err(|error| CliError::Usage(format!("[http] listen: {error}")))?,
    };
    let body = match tokio::time::timeout(WITHIN, ask(&uri)).await {
        Ok(asked) => asked?,
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

fn no_daemon(uri: &Uri, why: impl ToString) -> CliError {
    CliError::NoDaemon {
        url: uri.to_string(),
        why: why.to_string(),
    }
}

async fn ask(uri: &Uri) -> Result<Bytes, CliError> {
    let authority = match (uri.scheme_str(), uri.authority()) {
        (Some("http"), Some(authority)) => authority,
        _ => {
            return Err(CliError::Usage(format!(
                "--url {uri}: write http://ADDRESS:PORT"
            )));
        }
    };
    let port = authority.port_u16().unwrap_or(80);
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await;
    let stream = stream.map_err(|error| no_daemon(uri, error))?;
    let request = Request::get("/status")
        .header(header::HOST, authority.as_str())
        .body(Empty::<Bytes>::new())
        .map_err(|error| CliError::Usage(format!("--url {uri}: {error}")))?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| no_daemon(uri, error))?;
    // It ends with the sender, and what goes wrong is told there.
    tokio::spawn(connection);
    let response = sender.send_request(request).await;
    let response = response.map_err(|error| no_daemon(uri, error))?;
    if response.status() != StatusCode::OK {
        return Err(no_daemon(uri, format!("it answers {}", response.status())));
    }
    let body = Limited::new(response.into_body(), ANSWER_LIMIT)
        .collect()
        .await;
    Ok(body.map_err(|error| no_daemon(uri, error))?.to_bytes())
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
    for policy in &status.policies {
        let last = policy.last_run.as_ref();
        table.add_row([
            output::plain(&policy.policy),
            output::plain(&policy.kind),
            if policy.runs {
                now(policy)
            } else {
                "not run yet".to_owned()
            },
            time(last.map(|run| run.finished_at)),
            last.map_or_else(|| "-".to_owned(), |run| output::plain(&run.result)),
            time(policy.last_success_at),
            time(policy.next_run_at),
        ]);
    }
    output::line(format_args!("\n{}", table.trim_fmt()))?;
    let mut table = output::table(
        ["repository", "location", "backups", "size", "free"],
        &[2, 3, 4],
    );
    for repository in &status.repositories {
        table.add_row([
            output::plain(&repository.repository),
            output::plain(&repository.location),
            output::count(repository.backups),
            output::bytes(repository.size_bytes),
            repository
                .free_bytes
                .map_or_else(|| "-".to_owned(), output::bytes),
        ]);
    }
    output::line(format_args!("\n{}", table.trim_fmt()))?;
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
        let work = if run.work == "backup" {
            phase
        } else {
            &run.work
        };
        let far = match (run.state.as_str(), &run.error) {
            ("waiting", Some(_)) => "to be tried again".to_owned(),
            ("waiting", None) => "waiting".to_owned(),
            (state, _) if *planned_offsets == 0 => state.to_owned(),
            (_, _) => format!("{} %", done_offsets.saturating_mul(100) / planned_offsets),
        };
        output::plain(&format!("{work} {far}"))
    });
    let runs: Vec<String> = runs.collect();
    if runs.is_empty() {
        "-".to_owned()
    } else {
        runs.join(", ")
    }
}
