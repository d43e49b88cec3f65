//! `kafkeep show`

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::groups::GroupsState;
use crate::engine::held_backups::{find_backup, keep_topics};
use crate::engine::topic_configuration::TopicConfiguration;
use crate::engine::topics::TopicPattern;
use crate::kafka::ConfigSource;
use crate::repository::{Manifest, Repository, Sha256, TopicEntry};

use super::backup_args::FilterArgs;
use super::connection_args::RepositoryArgs;
use super::{CliError, Exit, Global, output};

/// Show what one backup holds: topics, settings, partitions, bounds, gaps, consumer groups
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kafkeep show --repository /var/lib/kafkeep latest
  kafkeep show --repository main 20261124T021500Z-3f9a1c --json")]
pub struct ShowArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// The backup's id, the start of it, or `latest`
    backup: String,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only these topics of the backup; may be repeated
    #[arg(long = "topic", value_name = "PATTERN")]
    topics: Vec<TopicPattern>,
}

/// A manifest, with what it only references.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    manifest: Manifest,
    /// By topic.
    configurations: BTreeMap<String, TopicConfiguration>,
    consumer_groups: Option<GroupsState>,
    /// What it references and cannot be read.
    damaged: Vec<DamagedState>,
}

/// A state that cannot be read.
#[derive(Debug, Serialize)]
struct DamagedState {
    /// The topic whose configuration it holds; none for that of the consumer groups.
    topic: Option<String>,
    state: Sha256,
    error: String,
}

pub fn run(args: &ShowArgs, global: &Global) -> Result<Exit, CliError> {
    let repository = args.repository.open_blocking(global)?;
    let filter = args.filter.with(&args.topics);
    let id = find_backup(&repository, &args.backup, &filter)?;
    let mut manifest = repository.manifest(&id)?;
    keep_topics(&repository, &mut manifest, &filter.topics)?;
    let mut damaged = Vec::new();
    let mut configurations = BTreeMap::new();
    for topic in &manifest.topics {
        let name = Some(topic.topic.as_str());
        let read = state(&repository, &topic.configuration, name, &mut damaged)?;
        configurations.extend(read.map(|read| (topic.topic.clone(), read)));
    }
    let consumer_groups = match &manifest.groups {
        Some(groups) => state(&repository, groups, None, &mut damaged)?,
        None => None,
    };
    let shown = Shown {
        manifest,
        configurations,
        consumer_groups,
        damaged,
    };
    output::report(&shown, global, |shown| {
        print(shown)?;
        shown
            .consumer_groups
            .as_ref()
            .map_or(Ok(()), print_groups)?;
        print_damaged(&shown.damaged)
    })?;
    Ok(if shown.damaged.is_empty() {
        Exit::Done
    } else {
        Exit::Incomplete
    })
}

/// A state, or none and a line in `damaged`: the rest of the backup is shown all the same.
fn state<T: DeserializeOwned>(
    repository: &Repository,
    digest: &Sha256,
    topic: Option<&str>,
    damaged: &mut Vec<DamagedState>,
) -> Result<Option<T>, CliError> {
    match repository.state(digest) {
        Ok(state) => Ok(Some(state)),
        Err(error) if error.is_damage() => {
            damaged.push(DamagedState {
                topic: topic.map(str::to_owned),
                state: *digest,
                error: error.to_string(),
            });
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn print_damaged(damaged: &[DamagedState]) -> Result<(), CliError> {
    for state in damaged {
        let what = match &state.topic {
            Some(topic) => format!("the settings of topic {topic}"),
            None => "the consumer groups".to_owned(),
        };
        output::line(format_args!(
            "damaged: {what}: {}",
            output::plain(&state.error)
        ))?;
    }
    Ok(())
}

fn print_groups(groups: &GroupsState) -> Result<(), CliError> {
    if groups.groups.is_empty() && groups.unread.is_empty() {
        return output::line("\nno consumer group had committed offsets");
    }
    let mut table = output::table(
        ["group", "type", "state", "topic", "partition", "offset"],
        &[4, 5],
    );
    for group in &groups.groups {
        for topic in &group.topics {
            for committed in &topic.partitions {
                let beyond = if committed.is_beyond_end {
                    " (beyond the end)"
                } else {
                    ""
                };
                table.add_row([
                    output::plain(&group.group),
                    group.group_type.to_string(),
                    output::plain(group.state.as_deref().unwrap_or_default()),
                    output::plain(&topic.topic),
                    committed.partition.to_string(),
                    format!("{}{beyond}", committed.offset),
                ]);
            }
        }
    }
    output::line(format_args!("\n{table}"))?;
    for unread in &groups.unread {
        output::line(format_args!(
            "group {} is not in it: {}",
            output::plain(&unread.group),
            output::plain(&unread.reason)
        ))?;
    }
    Ok(())
}

fn print(shown: &Shown) -> Result<(), CliError> {
    print_head(&shown.manifest)?;
    print_partitions(&shown.manifest.topics)?;
    for (topic, configuration) in &shown.configurations {
        print_settings(topic, configuration)?;
    }
    for topic in &shown.manifest.topics {
        if let Some(reason) = &topic.chain_restarted {
            output::line(format_args!("{}: copied anew, since {reason}", topic.topic))?;
        }
        for partition in &topic.partitions {
            for gap in &partition.gaps {
                output::gap(&topic.topic, partition.partition, gap)?;
            }
        }
    }
    Ok(())
}

/// What backup it is, when it was taken, and how much it holds.
fn print_head(manifest: &Manifest) -> Result<(), CliError> {
    output::line(format_args!(
        "backup      {} ({})",
        manifest.backup_id, manifest.status
    ))?;
    output::line(match &manifest.cluster_name {
        Some(name) => format!(
            "cluster     {} ({})",
            output::plain(name),
            manifest.cluster_id
        ),
        None => format!("cluster     {}", manifest.cluster_id),
    })?;
    if let Some(policy) = &manifest.policy {
        output::line(format_args!("policy      {}", output::plain(policy)))?;
    }
    if let Some(previous) = &manifest.previous {
        output::line(format_args!("follows     {}", previous.backup_id))?;
    }
    output::line(format_args!(
        "taken       {} to {} UTC, by kafkeep {}",
        output::time(manifest.started_at),
        output::time(manifest.finished_at),
        manifest.kafkeep_version
    ))?;
    let totals = &manifest.totals;
    output::line(format_args!(
        "holds       {} records, {}, stored in {}; {} were new",
        output::count(totals.records),
        output::bytes(totals.bytes),
        output::bytes(totals.stored_bytes),
        output::bytes(totals.new_bytes)
    ))?;
    if manifest.selection.is_some() {
        output::line("one-off     a part that was asked for; later backups do not build on it")?;
    }
    Ok(())
}

fn print_partitions(topics: &[TopicEntry]) -> Result<(), CliError> {
    let header = [
        "topic",
        "partition",
        "start",
        "end",
        "last stable",
        "records",
        "bytes",
        "new",
    ];
    let mut table = output::table(header, &[1, 2, 3, 4, 5, 6, 7]);
    for topic in topics {
        for partition in &topic.partitions {
            table.add_row([
                topic.topic.clone(),
                partition.partition.to_string(),
                partition.start_offset.to_string(),
                partition.end_offset.to_string(),
                partition.last_stable_offset.to_string(),
                output::count(partition.records),
                output::bytes(partition.bytes),
                output::count(partition.new_records),
            ]);
        }
    }
    output::line(format_args!("\n{}", table.trim_fmt()))
}

/// What was set for the topic itself; where brokers' settings applied is in the JSON.
fn print_settings(topic: &str, configuration: &TopicConfiguration) -> Result<(), CliError> {
    for entry in &configuration.entries {
        if entry.source == ConfigSource::DynamicTopicConfig {
            let value = entry.value.as_deref().unwrap_or("(not told by the broker)");
            output::line(format_args!(
                "{topic}: {}={}",
                output::plain(&entry.name),
                output::plain(value)
            ))?;
        }
    }
    Ok(())
}
