//! `kafkeep check`

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use clap::Args;
use serde::Serialize;

use crate::policy::{Checked, DaemonConfiguration, Diagnostic, MirrorMode, PolicyKind};
use crate::schedule::Timetable;

use super::{CliError, Exit, Global, output};

/// Check the configuration: every error in all files, with its place and what to do
#[derive(Debug, Args)]
#[command(after_help = "\
Reads kafkeep.toml and policies.d/*.toml in the directory of --config. Clusters are not asked whether they are there. \
Exit codes: 0 when nothing is wrong, else 78.

Examples:
  kafkeep check
  kafkeep check --config ./etc --json")]
pub struct CheckArgs {}

#[derive(Serialize)]
struct Report<'a> {
    status: &'static str,
    files: Vec<String>,
    policies: Vec<Row>,
    diagnostics: &'a [Diagnostic],
}

/// One policy.
#[derive(Serialize)]
struct Row {
    policy: String,
    kind: PolicyKind,
    from: String,
    to: String,
    runs: String,
    next_run: Option<DateTime<Utc>>,
    #[serde(skip)]
    next_shown: String,
}

pub fn run(_: &CheckArgs, global: &Global) -> Result<Exit, CliError> {
    let checked = match DaemonConfiguration::check(&global.config) {
        Ok(checked) => checked,
        Err(wrong) => {
            if global.json {
                output::json(&Report {
                    status: "failed",
                    files: Vec::new(),
                    policies: Vec::new(),
                    diagnostics: &wrong.told,
                })?;
            }
            output::complaint(&wrong);
            return Ok(Exit::Configuration);
        }
    };
    let files = checked.files.iter().map(|path| path.display().to_string());
    let report = Report {
        status: "ok",
        files: files.collect(),
        policies: rows(&checked.configuration, Utc::now()),
        diagnostics: &checked.warnings,
    };
    output::report(&report, global, |report| print(report, &checked))?;
    for warning in &checked.warnings {
        output::complaint(format_args!("\n{warning}"));
    }
    Ok(Exit::Done)
}

fn rows(configuration: &DaemonConfiguration, now: DateTime<Utc>) -> Vec<Row> {
    let backups = configuration.backups.iter().map(|policy| Row {
        policy: policy.name.clone(),
        from: policy.cluster.clone(),
        to: policy.repository.clone(),
        ..Row::timed(PolicyKind::Backup, &policy.timetable, policy.time_zone, now)
    });
    let mirrors = configuration.mirrors.iter().map(|policy| Row {
        policy: policy.name.clone(),
        from: policy.source.clone(),
        to: policy.target.clone(),
        ..match &policy.mode {
            MirrorMode::Continuous => Row::untimed(PolicyKind::Mirror, "continuous".to_owned()),
            MirrorMode::Scheduled(timetable, time_zone) => {
                Row::timed(PolicyKind::Mirror, timetable, *time_zone, now)
            }
        }
    });
    let drains = configuration.drains.iter().map(|policy| Row {
        policy: policy.name.clone(),
        from: policy.cluster.clone(),
        to: format!("group {}", policy.group),
        ..Row::untimed(
            PolicyKind::Drain,
            format!("every {}", humantime::format_duration(policy.every)),
        )
    });
    backups.chain(mirrors).chain(drains).collect()
}

impl Row {
    fn untimed(kind: PolicyKind, runs: String) -> Self {
        Self {
            policy: String::new(),
            kind,
            from: String::new(),
            to: String::new(),
            runs,
            next_run: None,
            next_shown: "-".to_owned(),
        }
    }

    fn timed(kind: PolicyKind, timetable: &Timetable, time_zone: Tz, now: DateTime<Utc>) -> Self {
        let runs = timetable.schedule.to_string();
        if timetable.suspend {
            let next_shown = "suspended".to_owned();
            return Self {
                next_shown,
                ..Self::untimed(kind, runs)
            };
        }
        let next_run = timetable.schedule.next_after(now);
        let shown = next_run.map(|due| {
            let local = due.with_timezone(&time_zone);
            format!("{} {time_zone}", local.format("%Y-%m-%d %H:%M:%S"))
        });
        Self {
            next_run,
            next_shown: shown.unwrap_or_else(|| "never".to_owned()),
            ..Self::untimed(kind, runs)
        }
    }
}

fn print(report: &Report<'_>, checked: &Checked) -> Result<(), CliError> {
    if !report.policies.is_empty() {
        let mut table = output::table(["policy", "kind", "from", "to", "runs", "next run"], &[]);
        for row in &report.policies {
            table.add_row([
                row.policy.clone(),
                row.kind.to_string(),
                row.from.clone(),
                output::plain(&row.to),
                row.runs.clone(),
                row.next_shown.clone(),
            ]);
        }
        output::line(format_args!("{}\n", table.trim_fmt()))?;
    }
    let clusters = checked.clusters_out_of_reach.iter();
    let keys = checked.keys_out_of_reach.iter();
    for place in clusters
        .map(|name| format!("cluster {name}"))
        .chain(keys.map(|name| format!("key {name} of the API")))
    {
        output::line(format_args!(
            "{place}: its credential is there for the service alone, and was not looked at"
        ))?;
    }
    let configuration = &checked.configuration;
    output::line(format_args!(
        "nothing is wrong: {} file(s), {} cluster(s), {} repositories, {} policies",
        report.files.len(),
        configuration.clusters.len() + checked.clusters_out_of_reach.len(),
        configuration.repositories.len(),
        report.policies.len()
    ))
}
