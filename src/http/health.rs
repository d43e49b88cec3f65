//! Whether the daemon is ready: configured, its supervisor alive, its repositories loaded, and to be written, the files
//! of its keys and certificate right. Clusters that do not answer make nothing unready.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};

use crate::daemon::{Credentials, PolicyState, RepositoryState, RepositoryStatus, Status, judged};

/// The supervisor looks at its timers at least every minute.
const ALIVE_WITHIN: Duration = Duration::from_secs(150);

/// `/readyz`; with `verbose`, each check by itself, in the manner of Kubernetes, and the states of policies, which decide nothing.
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
    let of_repositories = repositories.iter().map(|repository| {
        let word = match repository.state {
            RepositoryState::Loading => "loading",
            RepositoryState::Ready => "ok",
            RepositoryState::Failed => "failed",
        };
        (format!("repository/{}", repository.repository), word)
    });
    let credentials = credentials.0.iter();
    let credentials = credentials.map(|(credential, passes)| (credential.clone(), word(*passes)));
    let checks = daemon.into_iter().chain(of_repositories);
    let checks: Vec<(String, &str)> = checks.chain(credentials).collect();
    let ready = checks.iter().all(|(_, word)| *word == "ok");
    let mut text = String::new();
    if verbose || !ready {
        for (name, word) in checks {
            write_check(&mut text, &name, word, word == "ok");
        }
    }
    if verbose {
        // A daemon whose policies fail is ready to run them.
        for policy in judged(status, repositories) {
            let state = policy.protection.state;
            let name = format!("policy/{}", policy.policy);
            write_check(
                &mut text,
                &name,
                state.phrase(),
                state == PolicyState::Protected,
            );
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

fn write_check(text: &mut String, name: &str, word: &str, passes: bool) {
    let sign = if passes { "[+]" } else { "[-]" };
    // Into a string: nothing to fail.
    writeln!(text, "{sign}{name} {word}").ok();
}

fn word(passes: bool) -> &'static str {
    if passes { "ok" } else { "failed" }
}
