//! Whether the daemon is ready: configured, its supervisor alive, its repositories loaded, and to be written, the files
//! of its keys and certificate right. Clusters that do not answer make nothing unready.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};

use crate::daemon::{Credentials, RepositoryState, RepositoryStatus, Status};

/// The supervisor looks at its timers at least every minute.
const ALIVE_WITHIN: Duration = Duration::from_secs(150);

/// `/readyz`; with `verbose`, each check by itself, in the manner of Kubernetes.
pub(super) fn readiness(
    status: &Status,
    repositories: &[RepositoryStatus],
    credentials: &Credentials,
    verbose: bool,
) -> Response<Full<Bytes>> {
    let daemon = [
        // A daemon does not start without one.
        ("configuration".to_owned(), true),
        (
            "supervisor".to_owned(),
            status.looked.elapsed() < ALIVE_WITHIN,
        ),
        ("not-stopping".to_owned(), !status.stopping),
    ];
    let daemon = daemon.map(|(name, passes)| (name, word(passes)));
    let repositories = repositories.iter().map(|repository| {
        let word = match repository.state {
            RepositoryState::Loading => "loading",
            RepositoryState::Ready => "ok",
            RepositoryState::Failed => "failed",
        };
        (format!("repository/{}", repository.repository), word)
    });
    let credentials = credentials.0.iter();
    let credentials = credentials.map(|(credential, passes)| (credential.clone(), word(*passes)));
    let checks = daemon.into_iter().chain(repositories);
    let checks: Vec<(String, &str)> = checks.chain(credentials).collect();
    let ready = checks.iter().all(|(_, word)| *word == "ok");
    let mut text = String::new();
    if verbose || !ready {
        for (name, word) in checks {
            let sign = if word == "ok" { "[+]" } else { "[-]" };
            // Into a string: nothing to fail.
            writeln!(text, "{sign}{name} {word}").ok();
        }
    }
    text.push_str(if ready { "ok\n" } else { "not ready\n" });
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    super::response::text(code, text)
}

fn word(passes: bool) -> &'static str {
    if passes { "ok" } else { "failed" }
}
