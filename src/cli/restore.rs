//! `kafkeep restore`

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use clap::Args;

use crate::engine::rate::RateLimit;
use crate::engine::renames::{Rename, Renames};
use crate::engine::restore::{
    self, IfExists, Offsets, RestoreOptions, RestorePlan, RestoreReport, RestoredTopic, SetAside,
    TopicAction, TopicConfigSource,
};
use crate::engine::topics::{TopicPattern, TopicPatterns};
use crate::record::PartitionId;

use super::backup_args::{FilterArgs, find};
use super::connection_args::{RepositoryArgs, TargetArgs};
use super::memory::MemoryArgs;
use super::topic_settings::TopicSettingsArgs;
use super::{CliError, Exit, Global, groups, output, progress};
use crate::engine::settings::ExistingConfig;

/// Restore topics of a backup into a cluster
#[derive(Debug, Args)]
#[command(after_help = "\
A TEMPLATE is a name in which {topic} stands for the old one; without a PATTERN it is for all topics. The first --rename that \
matches counts. \
Records of aborted and of unfinished transactions are left out. Topics are created so that nothing deletes old \
records: retention stays off unless --apply-retention is given, and the report shows the command that puts it back. \
A restore that was interrupted goes on when the same command is given again. \
No consumer group is touched without --groups. A group that has members in the target is refused, the others go on, and the \
exit code is 2: everything is restored, save what the report calls refused. A partition that is damaged is restored up to there, \
the others are restored whole, and the exit code is 2: the same command goes on when what is damaged is there again, and finishes \
without it with --allow-damage. ACLs for groups: READ on the groups and on \
their topics.

Examples:
  kafkeep restore --repository /var/lib/kafkeep latest --bootstrap-servers dr1:9092 --dry-run
  kafkeep restore --repository main 20261124T021500Z-3f9a1c --to dr --topic 'orders.*' --rename 'orders.*=dr.{topic}'
  kafkeep restore --repository main latest --cluster prod --topic payments --to prod --rename 'payments=payments.0900' --until 2026-11-24T09:00:00Z
  kafkeep restore --repository main latest --policy orders --to dr --groups billing --groups audit
  kafkeep restore --repository main latest --to dr --check")]
pub struct RestoreArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// The backup's id, the start of it, or `latest`
    backup: String,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Only these topics of the backup; may be repeated
    #[arg(long = "topic", value_name = "PATTERN")]
    topics: Vec<TopicPattern>,
    /// Give topics another name in the target, in which {topic} stands for the old one; may be repeated
    #[arg(long = "rename", value_name = "[PATTERN=]TEMPLATE")]
    renames: Vec<Rename>,
    /// Only this source partition; may be repeated
    #[arg(long = "partition", value_name = "N")]
    partitions: Vec<i32>,
    /// Only records with an earlier timestamp (RFC 3339)
    #[arg(long, value_name = "TIME")]
    until: Option<DateTime<Utc>>,
    /// Only records with this timestamp or a later one (RFC 3339)
    #[arg(long, value_name = "TIME")]
    from: Option<DateTime<Utc>>,
    /// Create topics with another number of partitions: records go where their key's hash puts them
    #[arg(long = "partitions", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    partition_count: Option<u32>,
    /// Create topics with another replication factor than the source's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..=100))]
    replication_factor: Option<i16>,
    /// How the target's offsets relate to the source's
    #[arg(long, value_enum, default_value_t = Offsets::Mapped)]
    offsets: Offsets,
    /// Consumer groups whose offsets to set, translated to where their records went: none, all that the backup holds, or a
    /// name; may be repeated
    #[arg(long, value_name = "none|all|NAME", default_value = "none")]
    groups: Vec<String>,
    /// Where the settings of created topics come from
    #[arg(long, value_enum, default_value_t = TopicConfigSource::Source)]
    topic_config: TopicConfigSource,
    /// Set the source's retention again at the end, though it may delete old records at once
    #[arg(long)]
    apply_retention: bool,
    #[command(flatten)]
    settings: TopicSettingsArgs,
    /// What to do where a target topic exists and has other settings
    #[arg(long, value_enum, default_value_t = ExistingConfig::Keep)]
    existing_topic_config: ExistingConfig,
    /// What to do where a target topic exists
    #[arg(long, value_enum, default_value_t = IfExists::Fail)]
    if_exists: IfExists,
    /// Restore what is sound, and finish the restore, though a part of the backup is damaged or missing
    #[arg(long)]
    allow_damage: bool,
    /// Read everything back afterwards, and compare it with what was sent
    #[arg(long)]
    check: bool,
    /// Do not go on with a restore that was interrupted: take what it left in the target for somebody else's
    #[arg(long)]
    forget_unfinished: bool,
    /// Write no faster than this, e.g. 50MiB/s or '10000 records/s'
    #[arg(long, value_name = "RATE")]
    rate_limit: Option<RateLimit>,
    #[command(flatten)]
    memory: MemoryArgs,
    /// Print the plan and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl RestoreArgs {
    fn options(&self) -> Result<RestoreOptions, CliError> {
        if let (Some(from), Some(until)) = (self.from, self.until)
            && from >= until
        {
            return Err(CliError::Usage(
                "--from must be earlier than --until".into(),
            ));
        }
        Ok(RestoreOptions {
            topics: TopicPatterns::new(self.topics.clone()),
            renames: Renames::new(self.renames.clone()),
            partitions: (!self.partitions.is_empty())
                .then(|| self.partitions.iter().copied().map(PartitionId).collect()),
            from: self.from,
            until: self.until,
            partition_count: self.partition_count,
            replication_factor: self.replication_factor,
            offsets: self.offsets,
            topic_config: self.topic_config,
            settings: self.settings.choice(self.existing_topic_config),
            retention: self.apply_retention,
            if_exists: self.if_exists,
            forget_unfinished: self.forget_unfinished,
            allow_damage: self.allow_damage,
            check: self.check,
            groups: groups::choice(&self.groups)?,
            rate_limit: self.rate_limit,
            memory: self.memory.budget()?,
        })
    }
}

pub async fn run(args: &RestoreArgs, global: &Global) -> Result<Exit, CliError> {
    args.target.check()?;
    let options = args.options()?;
    let repository = args.repository.open(global).await?;
    let filter = args.filter.with(&args.topics);
    let backup_id = find(&repository, &args.backup, filter).await?;
    let client = args.target.connect(global).await?;
    let plan = restore::plan(&client, repository.clone(), &backup_id, &options).await?;
    if args.dry_run {
        output::report(&plan, global, print_plan)?;
        return Ok(match Exit::of_plan(&plan.refused) {
            Exit::Done if plan.is_incomplete() => Exit::Incomplete,
            exit => exit,
        });
    }
    let report = restore::apply(
        &client,
        repository,
        plan,
        &options,
        progress::progress("restore", global),
    )
    .await?;
    output::report(&report, global, print_report)?;
    Ok(report.status.into())
}

fn print_plan(plan: &RestorePlan) -> Result<(), CliError> {
    output::line(format_args!(
        "plan: restore backup {} into cluster {}\n",
        plan.backup_id, plan.cluster_id
    ))?;
    let mut table = output::table(
        ["topic", "into", "action", "partitions", "records", "bytes"],
        &[3, 4, 5],
    );
    for topic in &plan.topics {
        table.add_row([
            topic.topic.clone(),
            topic.target_topic.clone(),
            action(topic),
            topic.target_partitions.to_string(),
            output::count(
                topic
                    .partitions
                    .iter()
                    .map(|partition| partition.records)
                    .sum(),
            ),
            output::bytes(
                topic
                    .partitions
                    .iter()
                    .map(|partition| partition.bytes)
                    .sum(),
            ),
        ]);
    }
    output::line(table.trim_fmt())?;
    if let Some(from) = plan.from {
        output::line(format_args!("\nskip records before {from}"))?;
    }
    if let Some(until) = plan.until {
        output::line(format_args!("\nskip records from {until} on"))?;
    }
    for topic in &plan.topics {
        print_topic_plan(topic)?;
    }
    print_finished(&plan.finished)?;
    groups::print_plan(&plan.groups)?;
    print_refusals(plan)?;
    output::line(format_args!(
        "\n{}{} records, {}; nothing was changed",
        if plan.from.or(plan.until).is_some() {
            "up to "
        } else {
            ""
        },
        output::count(plan.records()),
        output::bytes(plan.bytes())
    ))
}

fn print_refusals(plan: &RestorePlan) -> Result<(), CliError> {
    for refusal in &plan.refused {
        output::line(format_args!(
            "\nrefused: {}",
            output::plain(&refusal.to_string())
        ))?;
    }
    if plan.is_incomplete() {
        output::line(
            "\nthis restore would be incomplete (exit code 2): what is refused or damaged is left out",
        )?;
    }
    Ok(())
}

fn action(topic: &restore::TopicRestore) -> String {
    match &topic.action {
        _ if topic.interrupted.is_some() => "go on".to_owned(),
        TopicAction::Create {
            replication_factor, ..
        } => format!("create, {replication_factor} replica(s)"),
        TopicAction::Append => "append".to_owned(),
    }
}

fn print_topic_plan(topic: &restore::TopicRestore) -> Result<(), CliError> {
    output::line(format_args!("\n{}:", topic.target_topic))?;
    if let Some(interrupted) = &topic.interrupted {
        output::line(format_args!(
            "  go on with the restore that began at {}: what it wrote is compared, and not written again",
            output::time(interrupted.started_at)
        ))?;
    }
    if let TopicAction::Create {
        configuration,
        afterwards,
        ..
    } = &topic.action
    {
        for (name, value) in configuration {
            let later = match afterwards.get(name) {
                Some(Some(later)) if later == value => continue,
                Some(Some(later)) => format!(", then {later}"),
                Some(None) => ", then the default".to_owned(),
                None => String::new(),
            };
            output::line(format_args!(
                "  set {}",
                output::plain(&format!("{name}={value}{later}"))
            ))?;
        }
    }
    let control: u64 = topic
        .partitions
        .iter()
        .map(|partition| partition.control_records)
        .sum();
    let open: u64 = topic
        .partitions
        .iter()
        .map(|partition| partition.open_transactions)
        .sum();
    if control > 0 {
        output::line(format_args!(
            "  skip {control} transaction markers, and the records of aborted transactions"
        ))?;
    }
    if open > 0 {
        output::line(format_args!(
            "  skip the records of {open} transaction(s) that were still open"
        ))?;
    }
    for note in &topic.notes {
        output::line(format_args!("  note: {}", output::plain(note)))?;
    }
    Ok(())
}

fn print_finished(topics: &[String]) -> Result<(), CliError> {
    topics.iter().try_for_each(|topic| {
        output::line(format_args!(
            "\n{topic}: the restore that was interrupted had finished it"
        ))
    })
}

fn print_restored(topics: &[RestoredTopic]) -> Result<(), CliError> {
    let mut table = output::table(
        ["topic", "into", "partition", "records", "start", "end"],
        &[2, 3, 4, 5],
    );
    for topic in topics {
        for partition in &topic.partitions {
            table.add_row([
                topic.topic.clone(),
                topic.target_topic.clone(),
                partition.partition.to_string(),
                output::count(partition.records),
                partition.start_offset.to_string(),
                partition.end_offset.to_string(),
            ]);
        }
    }
    output::line(table.trim_fmt())?;
    for topic in topics {
        let skipped = topic.skipped;
        if skipped != restore::Skipped::default() {
            output::line(format_args!(
                "{}: left out {} records of aborted and {} of open transactions, {} transaction markers, {} outside the times asked for",
                topic.topic, skipped.aborted, skipped.open, skipped.control, skipped.cut
            ))?;
        }
        for note in &topic.notes {
            output::line(format_args!(
                "{}: {}",
                topic.target_topic,
                output::plain(note)
            ))?;
        }
    }
    Ok(())
}

fn print_set_aside(all: &[SetAside]) -> Result<(), CliError> {
    for aside in all {
        let settings: Vec<&str> = aside.settings.keys().map(String::as_str).collect();
        output::line(format_args!(
            "set aside: {} = -1 in {} topic(s), so that no restored record is deleted for its age. When that is no longer wanted, put back \
             what the source has (add --command-config FILE where the cluster wants TLS or SASL):\n  {}",
            settings.join(" and "),
            aside.topics.len(),
            aside.put_back
        ))?;
    }
    Ok(())
}

fn print_report(report: &RestoreReport) -> Result<(), CliError> {
    print_restored(&report.topics)?;
    for refused in &report.refused_settings {
        output::line(format_args!("{}", output::plain(&refused.to_string())))?;
    }
    print_finished(&report.finished)?;
    for damaged in &report.damaged {
        let told = damaged.to_string();
        output::line(format_args!("damaged: {}", output::plain(&told)))?;
    }
    groups::print_report(&report.groups)?;
    if report.is_unfinished {
        let topics: BTreeSet<&str> = report.damaged.iter().map(|it| it.topic.as_str()).collect();
        let topics: Vec<&str> = topics.into_iter().collect();
        output::line(format_args!(
            "the restore is not finished, since the backup of {} is damaged: to finish it without what is damaged, run the same command \
             with --allow-damage. Topics do not have their final settings yet, and no group's offsets are set. Without --allow-damage the \
             same command goes on only once the repository holds what is missing, from a copy say",
            topics.join(", ")
        ))?;
    }
    print_set_aside(&report.set_aside)?;
    if report.messages_found > 0 {
        output::line(format_args!(
            "{} of the records were there already, written by the restore that was interrupted",
            output::count(report.messages_found)
        ))?;
    }
    output::line(format_args!(
        "\nrestored backup {} into cluster {}: {} records, {}, in {}; {}{}",
        report.backup_id,
        report.cluster_id,
        output::count(report.messages_restored),
        output::bytes(report.total_size_bytes),
        output::duration(report.duration_ms),
        match report.damaged.is_empty() {
            true => "every checksum was right",
            false => "what is damaged is left out",
        },
        if report.read_back {
            ", and what was read back is what was sent"
        } else {
            ""
        }
    ))
}
