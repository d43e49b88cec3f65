//! `kafkeep expire`

use std::time::Duration;

use chrono::Utc;
use clap::Args;
use serde::Serialize;

use crate::engine::backup_filter::Configured;
use crate::engine::expire::{self, Decision, ExpireOptions, ExpirePlan, Retention, Times};
use crate::engine::size::Size;
use crate::engine::topics::TopicPattern;
use crate::repository::BackupId;

use super::backup_args::FilterArgs;
use super::connection_args::RepositoryArgs;
use super::{CliError, Exit, Global, output};

/// Take away backups that no rule keeps, and what nothing references any more
#[derive(Debug, Args)]
#[command(after_help = "\
A backup stays when any rule wants it. Rules count within the backups of one policy and cluster; those that an operator made \
without a policy are one such group. The order of backups is that in which they were made, and ages count from the newest: a wrong \
clock expires nothing. Days, weeks, months and years are those of UTC. Incomplete backups take no complete one's \
place. The exit code is 2 where --max-size cannot be reached. While anything else uses the repository, nothing is removed: exit code 75.

Examples:
  kafkeep expire --repository main --keep-daily 7 --keep-weekly 4 --dry-run
  kafkeep expire --repository main --policy orders --retention-days 30 --min-backups 2
  kafkeep expire --repository /var/lib/kafkeep --keep-last 10 --max-size 100GiB
  kafkeep expire --repository main --forget-lost 20261124T114000123Z-3f9a1c   when verify says that it is lost, and it is meant to be")]
pub struct ExpireArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only backups that hold such a topic; may be repeated. A backup goes as a whole, with its other topics
    #[arg(long = "topic", value_name = "PATTERN")]
    topics: Vec<TopicPattern>,
    /// Keep the newest N
    #[arg(long, value_name = "N")]
    keep_last: Option<u32>,
    /// Keep the newest of each of the last N hours that have any
    #[arg(long, value_name = "N")]
    keep_hourly: Option<u32>,
    /// Keep the newest of each of the last N days that have any
    #[arg(long, value_name = "N")]
    keep_daily: Option<u32>,
    /// Keep the newest of each of the last N weeks that have any
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u32>,
    /// Keep the newest of each of the last N months that have any
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u32>,
    /// Keep the newest of each of the last N years that have any
    #[arg(long, value_name = "N")]
    keep_yearly: Option<u32>,
    /// Keep all that began less than this before the newest of them, e.g. 36h or '2weeks'
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    keep_within: Option<Duration>,
    /// Keep all that began less than N days before the newest of them
    #[arg(long, value_name = "N")]
    retention_days: Option<u32>,
    /// Give up the oldest until what is kept fits into this, e.g. 100GiB
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Size>,
    /// No clock was wrong: expire also what is old only by a step in time that is much longer than the others, or by a newest
    /// backup that lies in the future
    #[arg(long)]
    trust_times: bool,
    /// Record that this backup is gone and will not come back: it is no longer told as lost, and nothing is removed; may be repeated
    #[arg(long, value_name = "BACKUP", conflicts_with = "dry_run")]
    forget_lost: Vec<BackupId>,
    /// Keep so many complete ones whatever the rules say
    #[arg(long, value_name = "N", default_value_t = 1)]
    min_backups: u32,
    /// Print what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl ExpireArgs {
    fn options(&self) -> ExpireOptions {
        ExpireOptions {
            retention: Retention {
                keep_last: self.keep_last,
                keep_hourly: self.keep_hourly,
                keep_daily: self.keep_daily,
                keep_weekly: self.keep_weekly,
                keep_monthly: self.keep_monthly,
                keep_yearly: self.keep_yearly,
                keep_within: self.keep_within,
                retention_days: self.retention_days,
                max_size: self.max_size,
                min_backups: self.min_backups,
            },
            times: match self.trust_times {
                true => Times::Trusted,
                false => Times::InDoubt,
            },
            filter: self.filter.with(&self.topics),
            configured: Configured::default(),
        }
    }
}

pub fn run(args: &ExpireArgs, global: &Global) -> Result<Exit, CliError> {
    if !args.forget_lost.is_empty() {
        return forget_lost(&args.forget_lost, args, global);
    }
    let options = args.options();
    if let Err(error) = options.retention.check() {
        return Err(CliError::Usage(error.to_string()));
    }
    let repository = args.repository.open_blocking(global)?;
    let plan = if args.dry_run {
        expire::plan(&repository, &options, &Utc::now())?
    } else {
        expire::apply(&repository, &options, &Utc::now())?
    };
    output::report(&plan, global, |plan| print(plan, args.dry_run))?;
    Ok(match plan.is_over_max_size() {
        true => Exit::Incomplete,
        false => Exit::Done,
    })
}

/// What was recorded.
#[derive(Debug, Serialize)]
struct Forgotten<'a> {
    forgotten_backups: &'a [BackupId],
}

fn forget_lost(lost: &[BackupId], args: &ExpireArgs, global: &Global) -> Result<Exit, CliError> {
    let repository = args.repository.open_blocking(global)?;
    expire::forget_lost(&repository, lost, Utc::now())?;
    let forgotten = Forgotten {
        forgotten_backups: lost,
    };
    output::report(&forgotten, global, |forgotten| {
        let count = forgotten.forgotten_backups.len();
        output::line(format_args!("recorded that {count} backup(s) are gone"))
    })?;
    Ok(Exit::Done)
}

fn print(plan: &ExpirePlan, dry_run: bool) -> Result<(), CliError> {
    let mut table = output::table(
        [
            "policy",
            "backup",
            "status",
            "started (UTC)",
            "stays",
            "why",
        ],
        &[],
    );
    for group in &plan.groups {
        for backup in &group.backups {
            table.add_row([
                group.policy.clone().unwrap_or_else(|| "-".to_owned()),
                backup.backup_id.to_string(),
                backup.status.to_string(),
                output::time(backup.started_at),
                if backup.kept { "yes" } else { "no" }.to_owned(),
                why(backup),
            ]);
        }
    }
    output::line(table.trim_fmt())?;
    for warning in &plan.warnings {
        output::line(format_args!("warning: {}", output::plain(warning)))?;
    }
    output::line(format_args!(
        "\n{} {} backup(s) and {} pack(s): {}",
        if dry_run { "would remove" } else { "removed" },
        plan.removed_backups,
        plan.removed_packs,
        output::bytes(plan.freed_bytes)
    ))
}

fn why(backup: &Decision) -> String {
    if backup.over_max_size {
        return "over --max-size".to_owned();
    }
    if !backup.kept {
        return "no rule keeps it".to_owned();
    }
    let reasons: Vec<String> = backup.reasons.iter().map(ToString::to_string).collect();
    reasons.join(", ")
}
