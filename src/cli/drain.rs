//! `kafkeep drain`

use std::io::IsTerminal;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::engine::drain::{
    Criteria, DrainOptions, DrainReport, DrainStrategy, GroupReport, Patience, Strategy, TimeBound,
    drain,
};
use crate::engine::topics::{TopicPattern, TopicPatterns};
use crate::kafka::IsolationLevel;
use crate::memory::MemoryBudget;
use crate::record::Timestamp;

use super::connection_args::ClusterArgs;
use super::{CliError, Exit, Global, output};

/// Tell whether consumer groups have consumed all that there is, and if not, why
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "\
Without --watch and --timeout it checks as often as the verdict needs, and ends. Exit codes: 0 all groups are drained, 2 they are not.
The verdicts: drained, draining, rebalancing, stalled (members, and no progress), stopped (no members), never_committed, rewound,
unreachable_lag (deleted before it was consumed), recreated (the commits are of another log), unknown_group.
Markers of transactions and what compaction left at the end of a log are no records, and do not count. Kafka does not tell how a
group reads: without --isolation read_committed, the records of open and aborted transactions count.
No group is joined, nothing is written. ACLs: READ on the topics, DESCRIBE on the groups.

Examples:
  kafkeep drain --bootstrap-servers kafka1:9092 --group checkout
  kafkeep drain --cluster prod --group checkout --topic 'orders.*' --timeout 10m && ./cut-over.sh
  kafkeep drain --cluster prod --group 'billing-*' --max-lag 100 --stable-checks 3 --watch
  kafkeep drain --cluster prod --group audit --strategy time_based --before 2026-11-24T09:00:00Z --json"
)]
pub struct DrainArgs {
    #[command(flatten)]
    source: ClusterArgs,
    /// Consumer groups to look at; may be repeated
    #[arg(long = "group", value_name = "PATTERN", required = true)]
    groups: Vec<TopicPattern>,
    /// Topics that they must have consumed; may be repeated. By default those on which a group has committed, or that its
    /// members read
    #[arg(long = "topic", value_name = "PATTERN")]
    topics: Vec<TopicPattern>,
    /// Records that a group may have left, over all partitions
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_lag: u64,
    /// What must be consumed: all but --max-lag records, or all that is old enough
    #[arg(long, value_enum, default_value_t = DrainStrategy::LagBased)]
    strategy: DrainStrategy,
    /// With --strategy time_based: what is older than this must be consumed, e.g. 5m
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, conflicts_with = "before")]
    max_age: Option<Duration>,
    /// With --strategy time_based: what is of before this moment must be consumed (RFC 3339); by default, of before now
    #[arg(long, value_name = "TIME")]
    before: Option<DateTime<Utc>>,
    /// How the groups read: with read_committed, open and aborted transactions do not count
    #[arg(long, value_enum, default_value_t = IsolationLevel::ReadUncommitted)]
    isolation: IsolationLevel,
    /// So many checks in a row must agree that a group is drained
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    stable_checks: u32,
    /// The time from one check to the next
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// A group with members that has not moved for so long is stalled
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    stall_after: Duration,
    /// Wait until all groups are drained, but no longer than this
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// Wait until all groups are drained, and show every check
    #[arg(long)]
    watch: bool,
}

/// Brokers are not asked all the time.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

impl DrainArgs {
    fn options(&self) -> Result<DrainOptions, CliError> {
        Ok(DrainOptions {
            groups: TopicPatterns::new(self.groups.clone()),
            topics: (!self.topics.is_empty()).then(|| TopicPatterns::new(self.topics.clone())),
            criteria: Criteria {
                strategy: self.strategy()?,
                isolation: self.isolation,
                stable_checks: self.stable_checks,
                stall_after: self.stall_after,
            },
        })
    }

    fn strategy(&self) -> Result<Strategy, CliError> {
        let refused = |why: &str| Err(CliError::Usage(why.to_owned()));
        match self.strategy {
            DrainStrategy::LagBased if self.max_age.is_some() || self.before.is_some() => {
                refused("--max-age and --before belong to --strategy time_based")
            }
            DrainStrategy::TimeBased if self.max_lag > 0 => {
                refused("--max-lag belongs to --strategy lag_based")
            }
            DrainStrategy::LagBased => Ok(Strategy::Lag {
                max_lag: self.max_lag,
            }),
            DrainStrategy::TimeBased => Ok(Strategy::Time(match self.max_age {
                Some(age) => TimeBound::YoungerThan(age),
                None => {
                    let moment = self.before.unwrap_or_else(Utc::now);
                    TimeBound::ProducedBefore(Timestamp(moment.timestamp_millis()))
                }
            })),
        }
    }
}

pub async fn run(args: &DrainArgs, global: &Global) -> Result<Exit, CliError> {
    if args.interval < SHORTEST_INTERVAL {
        return Err(CliError::Usage("--interval: give 100ms or more".into()));
    }
    let options = args.options()?;
    let client = args.source.connect(global).await?;
    let patience = Patience {
        interval: args.interval,
        until_drained: args.watch || args.timeout.is_some(),
        timeout: args.timeout,
    };
    let screen = Screen::of(args, global);
    let report = drain(
        &client,
        options,
        MemoryBudget::default(),
        patience,
        |report| screen.show(report),
    )
    .await?;
    screen.clear();
    output::report(&report, global, print)?;
    Ok(match report.is_drained() {
        true => Exit::Done,
        false => Exit::Incomplete,
    })
}

/// Where each check is shown.
enum Screen {
    /// Nowhere.
    None,
    /// A line a group and check.
    Lines,
    /// A table that is drawn again and again.
    Table(ProgressBar),
}

impl Screen {
    fn of(args: &DrainArgs, global: &Global) -> Self {
        if !args.watch || global.json || global.quiet {
            return Self::None;
        }
        let style = ProgressStyle::with_template("{msg}");
        match style {
            Ok(style) if std::io::stdout().is_terminal() => {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
                Self::Table(bar.with_style(style))
            }
            _ => Self::Lines,
        }
    }

    fn show(&self, report: &DrainReport) {
        match self {
            Self::None => {}
            Self::Lines => {
                for group in &report.groups {
                    let time = report.last_check_time.format("%H:%M:%S");
                    let line = format!("{time} {}", summary(group));
                    // What nobody reads any more is no reason to stop waiting.
                    output::line(line).unwrap_or_default();
                }
            }
            Self::Table(bar) => {
                let time = output::time(report.last_check_time);
                bar.set_message(format!(
                    "{time} UTC\n{}",
                    output::plain_lines(&tables(report))
                ));
                bar.tick();
            }
        }
    }

    fn clear(&self) {
        if let Self::Table(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// So many groups and partitions fit on a screen.
const MOST_ROWS: usize = 20;

fn summary(group: &GroupReport) -> String {
    format!(
        "{}: {}, {} left: {}",
        output::plain(&group.group_id),
        status(group),
        output::count(group.total_lag),
        output::plain(&group.reason.to_string()),
    )
}

fn status(group: &GroupReport) -> String {
    let name = serde_json::to_value(group.status).unwrap_or_default();
    name.as_str().unwrap_or_default().to_owned()
}

/// The groups, and the partitions that decided about them.
fn tables(report: &DrainReport) -> String {
    let header = [
        "group",
        "status",
        "left",
        "members",
        "records/s",
        "time left",
        "why",
    ];
    let mut table = output::table(header, &[2, 3, 4, 5]);
    let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
    let mut worst: Vec<&GroupReport> = report.groups.iter().collect();
    worst.sort_by_key(|group| std::cmp::Reverse(group.status));
    for group in worst.iter().take(MOST_ROWS) {
        let left = group
            .eta_seconds
            .map(|seconds| seconds.saturating_mul(1000));
        table.add_row([
            output::plain(&group.group_id),
            status(group),
            output::count(group.total_lag),
            group.members.to_string(),
            rate(group.consumed_per_second),
            left.map_or_else(|| "-".to_owned(), output::duration),
            output::plain(&group.reason.to_string()),
        ]);
    }
    let mut text = table.trim_fmt();
    text += &more(worst.len(), "groups");
    let deciding = worst.iter().flat_map(|group| {
        let partitions = group.deciding_partitions.iter();
        partitions.map(|partition| (group.group_id.as_str(), partition))
    });
    let deciding: Vec<_> = deciding.collect();
    if deciding.is_empty() {
        return text;
    }
    let mut table = output::table(["group", "topic", "partition", "left", "why"], &[2, 3]);
    for (group, partition) in deciding.iter().take(MOST_ROWS) {
        table.add_row([
            output::plain(group),
            output::plain(&partition.topic),
            partition.partition.to_string(),
            output::count(partition.lag),
            output::plain(&partition.why),
        ]);
    }
    text += "\n\n";
    text += &table.trim_fmt();
    text += &more(deciding.len(), "partitions");
    text
}

fn more(count: usize, what: &str) -> String {
    match count.saturating_sub(MOST_ROWS) {
        0 => String::new(),
        more => format!("\n({more} more {what}: --json has all)"),
    }
}

fn print(report: &DrainReport) -> Result<(), CliError> {
    output::line(tables(report))?;
    for warning in &report.warnings {
        output::line(format_args!("warning: {}", output::plain(warning)))?;
    }
    let verdict = match (report.is_drained(), report.timed_out) {
        (true, _) => "drained",
        (false, true) => "not drained in time",
        (false, false) => "not drained",
    };
    output::line(format_args!(
        "\n{verdict}: {} left in {} partition(s) of {} group(s), after {} check(s) in {}",
        output::count(report.total_lag),
        output::count(report.partitions_checked),
        report.groups.len(),
        report.checks,
        output::duration(report.duration_ms),
    ))
}
