//! `/`: the status, for somebody with a browser. No script, and nothing from elsewhere.

use std::fmt::Write;

use chrono::{DateTime, TimeDelta, Utc};

use crate::daemon::{
    JudgedPolicy, PolicyState, RepositoryState, RepositoryStatus, RunState, Status, judged,
};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1c2326}\
h1{font-size:1.4rem}h2{font-size:1.05rem;margin-top:2rem}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.35rem .8rem .35rem 0;border-bottom:1px solid #dde3e6;vertical-align:top}th{font-weight:600}\
.bad{color:#a3210f}.good{color:#1d6b3a}pre{white-space:pre-wrap;background:#f5f7f8;padding:.8rem}\
@media(prefers-color-scheme:dark){body{background:#14191b;color:#dfe5e7}th,td{border-color:#333c40}pre{background:#1d2427}\
.bad{color:#ff8f7d}.good{color:#7fd39f}a{color:#8cc4e8}}";

/// The page.
pub(super) fn page(status: &Status, repositories: &[RepositoryStatus]) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>kafkeep</title><style>{STYLE}</style><h1>kafkeep {}</h1><p>{}{}</p>",
        status.version,
        state(status),
        links(),
    );
    // Into a string: nothing to fail.
    for error in &status.configuration.errors {
        write!(
            page,
            "<pre class=\"bad\">{}</pre>",
            escape(&error.to_string())
        )
        .ok();
    }
    page.push_str("<h2>Policies</h2><table><tr><th>policy<th>state<th>now<th>next run<th>last run<th>last success</tr>");
    for policy in &judged(status, repositories) {
        page.push_str(&policy_row(policy));
    }
    page.push_str("</table><h2>Repositories</h2><table><tr><th>repository<th>location<th>backups<th>size<th>free</tr>");
    for repository in repositories {
        page.push_str(&repository_row(repository));
    }
    page.push_str("</table></html>\n");
    page
}

fn state(status: &Status) -> String {
    let since = status.configuration.loaded_at.format("%F %T UTC");
    match (status.stopping, status.configuration.last_reload_success) {
        (true, _) => "It is stopping. ".to_owned(),
        (false, true) => format!("The configuration in force was read at {since}. "),
        (false, false) => format!(
            "<strong class=\"bad\">The files are wrong since {}</strong>, and the configuration of {since} stays in force. ",
            status.configuration.reloaded_at.format("%F %T UTC"),
        ),
    }
}

fn links() -> String {
    ["/readyz?verbose", "/metrics", "/status"]
        .map(|path| format!("<a href=\"{path}\">{path}</a>"))
        .join(" ")
}

fn policy_row(policy: &JudgedPolicy<'_>) -> String {
    let now = policy.running.iter().map(|run| {
        let state = match run.state {
            RunState::Waiting => "waits",
            RunState::Running => "runs",
            RunState::Stopping => "stops",
        };
        let error = run.error.as_ref();
        let error = error.map_or(String::new(), |error| format!(": {error}"));
        escape(&format!("{} {state}{error}", run.work.name()))
    });
    let group = policy.drain.as_ref().and_then(|drain| drain.group());
    let group = group.map(|group| format!("{}, {} left", group.state, group.total_lag));
    let now = now.chain(group).collect::<Vec<_>>().join("<br>");
    let last_run = policy.last_run.as_ref().map_or("-".to_owned(), |run| {
        let class = match run.outcome.error {
            None => "good",
            Some(_) => "bad",
        };
        format!(
            "<span class=\"{class}\">{}</span> {}<br>{}",
            run.outcome.result.name(),
            moment(Some(run.finished_at)),
            escape(run.outcome.error.as_deref().unwrap_or_default()),
        )
    });
    let state = policy.protection.state;
    format!(
        "<tr><td>{} ({})<td><span class=\"{}\">{}</span><br>{}<td>{now}<td>{}<td>{last_run}<td>{}</tr>",
        escape(&policy.policy),
        policy.kind.name(),
        if state == PolicyState::Protected {
            "good"
        } else {
            "bad"
        },
        state.phrase(),
        escape(&policy.protection.reason),
        match (policy.runs, policy.loading) {
            (true, true) => "when its repository is loaded".to_owned(),
            (true, false) => moment(policy.next_run_at),
            (false, _) => "not run yet".to_owned(),
        },
        moment(policy.last_success_at),
    )
}

/// Everything that is wrong with a repository.
fn problems(repository: &RepositoryStatus) -> Vec<String> {
    let backups = repository.lost_backups.iter();
    let backups = backups.map(|lost| format!("backup {lost} is gone, and nothing expired it"));
    let packs = repository.lost_packs.iter().cloned();
    let error = repository.error.iter().cloned();
    error.chain(backups).chain(packs).collect()
}

fn repository_row(repository: &RepositoryStatus) -> String {
    let mut location = escape(&repository.location);
    for problem in problems(repository) {
        location.push_str("<br><span class=\"bad\">");
        location.push_str(&escape(&problem));
        location.push_str("</span>");
    }
    let name = escape(&repository.repository);
    if repository.state == RepositoryState::Loading {
        return format!("<tr><td>{name}<td>{location}<td>loading<td>-<td>-</tr>");
    }
    let free = repository.free_bytes.map_or("-".to_owned(), gibibytes);
    format!(
        "<tr><td>{name}<td>{location}<td>{}<td>{}<td>{free}</tr>",
        repository
            .backups
            .map_or("-".to_owned(), |count| count.to_string()),
        repository.size_bytes.map_or("-".to_owned(), gibibytes),
    )
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// A moment, and how far it is from now.
fn moment(at: Option<DateTime<Utc>>) -> String {
    let Some(at) = at else {
        return "-".to_owned();
    };
    let distance = at - Utc::now();
    let seconds = distance.num_seconds().unsigned_abs();
    let rough = humantime::format_duration(std::time::Duration::from_secs(match seconds {
        0..120 => seconds,
        120..7200 => seconds / 60 * 60,
        _ => seconds / 3600 * 3600,
    }));
    let words = if distance > TimeDelta::zero() {
        format!("in {rough}")
    } else {
        format!("{rough} ago")
    };
    format!("{}<br>{words}", at.format("%F %T UTC"))
}

/// Names and errors may hold anything.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
