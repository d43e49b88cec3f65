//! `kafkeep mirror`

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::engine::mirror::{
    self, Comparison, Expression, From, GroupStatus, IfExists, InvalidExpression, Likeness,
    MirrorOptions, MirrorPlan, MirrorReport, MirrorState, OnError, PartitionStatus, Transform,
    Until,
};
use crate::engine::rate::RateLimit;
use crate::engine::renames::{Rename, Renames};
use crate::engine::topics::{TopicPattern, TopicPatterns};
use crate::kafka::{Client, Cluster, Retry};
use crate::policy::{Configuration, DaemonConfiguration, MirrorMode, MirrorPolicy, load_cluster};

use super::groups::{GroupPatterns, selection};
use super::memory::MemoryArgs;
use super::topic_settings::TopicSettingsArgs;
use super::{CliError, Exit, Global, output, signals};
use crate::engine::settings::ExistingConfig;

/// Copy topics from one cluster to another, every record once
#[derive(Debug, Args)]
#[command(after_help = "\
Record batches go as they lie in the source; what was aborted there is left out. Progress lies in the target, in the same \
transactions as the records, so a mirror that is stopped or killed goes on with the same command: the group and the transactional id \
are kafkeep.NAME, and of two mirrors with one name the older one is fenced. Topics are created with the source's settings and follow \
them. Offsets in the target are others than in the source. ACLs: READ and DESCRIBE_CONFIGS on the source's topics; CREATE, WRITE, \
ALTER, ALTER_CONFIGS and DESCRIBE_CONFIGS on the target's, READ on the group, WRITE on the transactional id.

Exit codes: 0 all is there, 2 when partitions stand still for good, 75 try again.

Examples:
  kafkeep mirror orders-to-dr
  kafkeep mirror --name to-dr --cluster prod --to dr --topic 'orders.*' --rename 'dr.{topic}' --dry-run
  kafkeep mirror --name big --cluster prod --to dr --topic payments --filter 'json(value).amount > 1000' --header migrated-from=prod
  kafkeep mirror --name to-dr --bootstrap-servers kafka1:9092 --to-bootstrap-servers dr1:9092 --topic payments --continuous")]
pub struct MirrorArgs {
    /// A mirror policy of the configuration, as it is written there
    #[arg(conflicts_with_all = ["name", "topics", "renames", "cluster", "bootstrap_servers", "kafka_config", "to", "to_bootstrap_servers", "to_kafka_config",
        "config_overrides", "unsupported_config", "existing_topic_config"])]
    policy: Option<String>,
    /// Names the mirror in the target
    #[arg(long, required_unless_present = "policy")]
    name: Option<String>,
    /// The source: a cluster of kafkeep.toml
    #[arg(long, value_name = "NAME", conflicts_with_all = ["bootstrap_servers", "kafka_config"])]
    cluster: Option<String>,
    /// The source: brokers to ask first, as HOST:PORT,…
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',')]
    bootstrap_servers: Vec<String>,
    /// The source's TLS and SASL: a TOML file with the keys of [clusters.NAME]
    #[arg(long, value_name = "FILE")]
    kafka_config: Option<PathBuf>,
    /// The target: a cluster of kafkeep.toml
    #[arg(long, value_name = "NAME", conflicts_with_all = ["to_bootstrap_servers", "to_kafka_config"])]
    to: Option<String>,
    /// The target: brokers to ask first, as HOST:PORT,…
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',')]
    to_bootstrap_servers: Vec<String>,
    /// The target's TLS and SASL: a TOML file with the keys of [clusters.NAME]
    #[arg(long, value_name = "FILE")]
    to_kafka_config: Option<PathBuf>,
    /// Topics to copy; may be repeated
    #[arg(long = "topic", value_name = "PATTERN")]
    topics: Vec<TopicPattern>,
    /// Give topics another name in the target, in which {topic} stands for the old one; may be repeated
    #[arg(long = "rename", value_name = "[PATTERN=]TEMPLATE")]
    renames: Vec<Rename>,
    /// A pattern that matches nothing is fine
    #[arg(long)]
    allow_empty: bool,
    /// Go on until stopped, with topics and partitions that come; without it, to where the logs end now
    #[arg(long)]
    continuous: bool,
    /// Where partitions begin that were not mirrored before: earliest (the default), latest, an offset or a time
    #[arg(long, value_name = "earliest|latest|OFFSET|TIME")]
    from: Option<From>,
    /// Where partitions end: latest, which is where their logs end now (the default), or before that an offset or the first record
    /// of a time, which is not copied any more
    #[arg(long, value_name = "latest|OFFSET|TIME", conflicts_with = "continuous")]
    until: Option<Until>,
    /// End when so many records came into the target, all partitions together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_messages: Option<u64>,
    /// What to do where a partition of the target holds records, and no progress of this mirror is known
    #[arg(long, value_enum, default_value_t = IfExists::Fail)]
    if_exists: IfExists,
    #[command(flatten)]
    settings: TopicSettingsArgs,
    /// What to do where a topic of the target exists and has other settings than the source's
    #[arg(long, value_enum, default_value_t = ExistingConfig::Apply)]
    existing_topic_config: ExistingConfig,
    /// Read no faster than this, e.g. 50MiB/s or '10000 records/s'
    #[arg(long, value_name = "RATE")]
    rate_limit: Option<RateLimit>,
    #[command(flatten)]
    memory: MemoryArgs,
    /// Copy only records that satisfy this CEL expression over key, value, headers, timestamp, partition, offset and topic
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "policy")]
    filter: Option<Expression>,
    /// A header that every record gets; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header, conflicts_with = "policy")]
    headers: Vec<(String, String)>,
    /// A header whose value is what this CEL expression comes to over the record; null is no header; may be repeated
    #[arg(long = "header-cel", value_name = "NAME=EXPRESSION", value_parser = computed_header, conflicts_with = "policy")]
    computed_headers: Vec<(String, Expression)>,
    /// The new key is what this CEL expression comes to over the record, text, bytes, or null for none; the record goes to the
    /// partition of that key
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "policy")]
    key_transformation: Option<Expression>,
    /// What becomes of a record over which an expression fails
    #[arg(long, value_enum, default_value_t = OnError::Fail, conflicts_with = "policy")]
    on_error: OnError,
    /// The topic of the target for records over which an expression fails
    #[arg(
        long,
        value_name = "TOPIC",
        required_if_eq_any([("on_error", "dead_letter"), ("on_error", "dead-letter")]),
        conflicts_with = "policy"
    )]
    dead_letter_topic: Option<String>,
    /// Consumer groups whose offsets follow, translated to where their next records went: all, none or a pattern; may be
    /// repeated
    #[arg(long, value_name = "all|none|PATTERN", default_value = "none")]
    groups: Vec<GroupPatterns>,
    /// Copy nothing, and compare what was mirrored, record by record: the first difference of each partition
    #[arg(long, conflicts_with = "dry_run")]
    compare: bool,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Give up when nothing has moved for so many seconds, unless it goes on until stopped
    #[arg(long, value_name = "SECONDS", default_value_t = Retry::DEADLINE.as_secs())]
    deadline: u64,
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

fn computed_header(text: &str) -> Result<(String, Expression), String> {
    let (name, source) = header(text).map_err(|_| "write NAME=EXPRESSION".to_owned())?;
    let expression: Result<Expression, InvalidExpression> = source.parse();
    let expression = expression.map_err(|wrong| format!("{wrong}; {}", wrong.help))?;
    Ok((name, expression))
}

impl MirrorArgs {
    fn transform(&self) -> Option<Transform> {
        let transform = Transform {
            filter: self.filter.clone(),
            headers: self.headers.clone(),
            header_expressions: self.computed_headers.clone(),
            key_transformation: self.key_transformation.clone(),
            on_error: self.on_error,
            dead_letter_topic: self.dead_letter_topic.clone(),
        };
        Some(transform).filter(|transform| !transform.is_identity())
    }
}

/// From where to where, and how.
struct Chosen {
    source: Cluster,
    target: Cluster,
    options: MirrorOptions,
}

pub async fn run(args: &MirrorArgs, global: &Global) -> Result<Exit, CliError> {
    let mut chosen = match &args.policy {
        Some(name) => of_policy(args, name, global)?,
        None => of_arguments(args, global)?,
    };
    chosen.options.stop = signals::stop_after("committing what was copied")?;
    let retry = Retry {
        deadline: Duration::from_secs(args.deadline.max(1)),
        ..Retry::default()
    };
    let source = Client::connect(chosen.source, retry).await?;
    let target = Client::connect(chosen.target, retry).await?;
    if args.dry_run {
        let plan = mirror::plan(&source, &target, &chosen.options).await?;
        output::report(&plan, global, print_plan)?;
        return Ok(Exit::Done);
    }
    if args.compare && chosen.options.transform.is_some() {
        return Err(CliError::Usage(
            "--compare: a mirror that changes records is not the same on both sides".into(),
        ));
    }
    if args.compare {
        let compared = mirror::compare(&source, &target, &chosen.options).await?;
        output::report(&compared, global, print_comparison)?;
        return Ok(match compared.status {
            Likeness::Equal => Exit::Done,
            Likeness::Partial | Likeness::Different => Exit::Incomplete,
        });
    }
    let state = Arc::new(MirrorState::default());
    let shown = show(Arc::clone(&state), global);
    let mirrored = mirror::mirror(&source, &target, &chosen.options, &state).await;
    drop(shown);
    let report = mirrored?;
    output::report(&report, global, print)?;
    Ok(report.status.into())
}

fn of_arguments(args: &MirrorArgs, global: &Global) -> Result<Chosen, CliError> {
    let usage = |why: &str| CliError::Usage(why.to_owned());
    let named = |name: &String| -> Result<Cluster, CliError> {
        Ok(Configuration::load(&global.config)?.cluster(name)?)
    };
    let source = match &args.cluster {
        Some(name) => named(name)?,
        None if args.bootstrap_servers.is_empty() && args.kafka_config.is_none() => {
            return Err(usage(
                "no source: give --cluster, or --bootstrap-servers HOST:PORT",
            ));
        }
        None => load_cluster(&args.bootstrap_servers, args.kafka_config.as_deref())?,
    };
    let target = match &args.to {
        Some(name) => named(name)?,
        None if args.to_bootstrap_servers.is_empty() && args.to_kafka_config.is_none() => {
            return Err(usage(
                "no target: give --to, or --to-bootstrap-servers HOST:PORT",
            ));
        }
        None => load_cluster(&args.to_bootstrap_servers, args.to_kafka_config.as_deref())?,
    };
    if args.topics.is_empty() {
        return Err(usage(
            "no topics: give --topic, for all of them --topic '*'",
        ));
    }
    let name = args.name.as_deref().unwrap_or_default();
    let patterns = TopicPatterns::new(args.topics.clone());
    let options = MirrorOptions {
        renames: Renames::new(args.renames.clone()),
        transform: args.transform(),
        groups: selection(&args.groups)?,
        settings: args.settings.choice(args.existing_topic_config),
        ..with_choices(args, MirrorOptions::new(name, patterns))?
    };
    Ok(Chosen {
        source,
        target,
        options,
    })
}

fn of_policy(args: &MirrorArgs, name: &str, global: &Global) -> Result<Chosen, CliError> {
    let mut configuration = DaemonConfiguration::load(&global.config)
        .map_err(|wrong| CliError::Daemon(crate::daemon::DaemonError::Configuration(wrong)))?;
    let named = |policy: &&MirrorPolicy| policy.name == name;
    let Some(policy) = configuration.mirrors.iter().find(named) else {
        let known: Vec<&str> = configuration
            .mirrors
            .iter()
            .map(|policy| policy.name.as_str())
            .collect();
        let known = match known.is_empty() {
            true => "there are none".to_owned(),
            false => format!("there are {}", known.join(", ")),
        };
        return Err(CliError::Usage(format!("no mirror policy {name}: {known}")));
    };
    let mut options = policy.options();
    if policy.mode == MirrorMode::Continuous {
        options.until = Until::Stopped;
    }
    let options = with_choices(args, options)?;
    let (source, target) = (policy.source.clone(), policy.target.clone());
    let missing = || CliError::Usage(format!("a cluster of policy {name} is not configured"));
    Ok(Chosen {
        source: configuration.clusters.remove(&source).ok_or_else(missing)?,
        target: configuration.clusters.remove(&target).ok_or_else(missing)?,
        options,
    })
}

/// What the command line says beside the topics.
fn with_choices(args: &MirrorArgs, options: MirrorOptions) -> Result<MirrorOptions, CliError> {
    let memory = args.memory.budget()?;
    Ok(MirrorOptions {
        allow_empty: args.allow_empty || options.allow_empty,
        until: match args.continuous {
            true => Until::Stopped,
            false => args.until.unwrap_or(options.until),
        },
        from: args.from.unwrap_or(options.from),
        max_messages: args.max_messages.or(options.max_messages),
        if_exists: match args.if_exists {
            IfExists::Append => IfExists::Append,
            IfExists::Fail => options.if_exists,
        },
        rate_limit: args.rate_limit.or(options.rate_limit),
        memory,
        ..options
    })
}

/// Shows how far it is, on a terminal; ends when it is dropped.
struct Shown(Option<(ProgressBar, tokio::task::JoinHandle<()>)>);

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some((bar, task)) = self.0.take() {
            task.abort();
            bar.finish_and_clear();
        }
    }
}

fn show(state: Arc<MirrorState>, global: &Global) -> Shown {
    if global.quiet || global.json || !std::io::stderr().is_terminal() {
        return Shown(None);
    }
    let style = ProgressStyle::with_template("mirror {spinner} {msg}");
    let bar = ProgressBar::new_spinner()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let shown = bar.clone();
    let task = tokio::spawn(async move {
        loop {
            let partitions = state.partitions();
            let sum = |of: fn(&PartitionStatus) -> u64| partitions.iter().map(of).sum::<u64>();
            let problem = state.problem().map(|problem| format!("; {problem}"));
            shown.set_message(format!(
                "{} records, {}, {} behind{}",
                output::count(sum(|partition| partition.records)),
                output::bytes(sum(|partition| partition.bytes)),
                output::count(sum(|partition| partition.lag_records)),
                problem.unwrap_or_default(),
            ));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    Shown(Some((bar, task)))
}

fn print_plan(plan: &MirrorPlan) -> Result<(), CliError> {
    output::line(format_args!(
        "from cluster {} to {}: {}\n",
        plan.source_cluster_id,
        plan.target_cluster_id,
        match plan.path {
            "batches" => "batches as they are",
            _ => "record by record, since they change on their way",
        }
    ))?;
    if let Some(topic) = &plan.dead_letter_topic {
        output::line(format_args!("dead letters go to {topic}\n"))?;
    }
    let mut table = output::table(
        ["topic", "becomes", "partitions", "offsets", "target"],
        &[2, 3],
    );
    for topic in &plan.topics {
        let ahead = topic
            .partitions
            .iter()
            .filter(|partition| !partition.state.is_stopped());
        let ahead = ahead.map(|partition| {
            partition
                .end_offset
                .0
                .saturating_sub(partition.start_offset.0)
        });
        let target = match (topic.create, topic.add_partitions, topic.settings.len()) {
            (true, ..) => "created".to_owned(),
            (false, 0, 0) => "there".to_owned(),
            (false, partitions, settings) => {
                format!("{partitions} partitions added, {settings} settings changed")
            }
        };
        table.add_row([
            topic.topic.clone(),
            topic.target_topic.clone(),
            topic.partitions.len().to_string(),
            output::count(
                ahead
                    .map(|offsets| u64::try_from(offsets).unwrap_or(0))
                    .sum(),
            ),
            target,
        ]);
    }
    output::line(table.trim_fmt())?;
    warn(&plan.warnings)
}

fn print(report: &MirrorReport) -> Result<(), CliError> {
    print_topics(&report.partitions)?;
    for group in &report.groups {
        print_group(group)?;
    }
    for partition in &report.partitions {
        print_unfinished(partition)?;
    }
    warn(&report.warnings)?;
    output::line(format_args!(
        "\nmirror {}: {} records, {}, in {}",
        report.status,
        output::count(report.records),
        output::bytes(report.bytes),
        output::duration(report.duration_ms),
    ))
}

/// A row for each topic; partitions of one topic are neighbours.
fn print_topics(partitions: &[PartitionStatus]) -> Result<(), CliError> {
    let mut table = output::table(
        [
            "topic",
            "becomes",
            "partitions",
            "records",
            "bytes",
            "behind",
        ],
        &[2, 3, 4, 5],
    );
    let of_topic = |a: &PartitionStatus, b: &PartitionStatus| a.topic == b.topic;
    for partitions in partitions.chunk_by(of_topic) {
        let sum = |of: fn(&PartitionStatus) -> u64| partitions.iter().map(of).sum::<u64>();
        let Some(first) = partitions.first() else {
            continue;
        };
        table.add_row([
            first.topic.clone(),
            first.target_topic.clone(),
            partitions.len().to_string(),
            output::count(sum(|partition| partition.records)),
            output::bytes(sum(|partition| partition.bytes)),
            output::count(sum(|partition| partition.lag_records)),
        ]);
    }
    output::line(table.trim_fmt())
}

fn print_group(group: &GroupStatus) -> Result<(), CliError> {
    let waits = group.waits.as_ref().map(|waits| format!(": {waits}"));
    let refused = group
        .refused
        .as_ref()
        .map(|refused| format!("; refused: {refused}"));
    output::line(format_args!(
        "group {}: {} offsets follow, {} wait{}{}",
        output::plain(&group.group),
        group.offsets,
        group.waiting,
        output::plain(&waits.unwrap_or_default()),
        output::plain(&refused.unwrap_or_default()),
    ))
}

/// What of a partition is not copied, and why.
fn print_unfinished(partition: &PartitionStatus) -> Result<(), CliError> {
    if partition.held_back > 0 {
        output::line(format_args!(
            "{}-{}: {} offsets lie behind a transaction that is open in the source, and are not copied until it ends",
            partition.topic,
            partition.partition,
            output::count(partition.held_back),
        ))?;
    }
    if let Some(problem) = &partition.problem {
        output::line(format_args!(
            "{}-{} stands still: {}",
            partition.topic,
            partition.partition,
            output::plain(&problem.to_string())
        ))?;
    }
    Ok(())
}

fn print_comparison(comparison: &Comparison) -> Result<(), CliError> {
    let header = [
        "topic",
        "becomes",
        "partition",
        "equal records",
        "only in source",
        "only in target",
    ];
    let mut table = output::table(header, &[2, 3, 4, 5]);
    for compared in &comparison.partitions {
        table.add_row([
            compared.topic.clone(),
            compared.target_topic.clone(),
            compared.partition.to_string(),
            output::count(compared.records),
            output::count(compared.only_in_source),
            output::count(compared.only_in_target),
        ]);
    }
    output::line(table.trim_fmt())?;
    let place = |offset: Option<crate::record::Offset>| {
        offset.map_or_else(
            || "has no more records".to_owned(),
            |offset| format!("at offset {offset}"),
        )
    };
    for compared in &comparison.partitions {
        if let Some(difference) = &compared.difference {
            output::line(format_args!(
                "{}-{} differs ({}): the source {}, the target {}",
                compared.topic,
                compared.partition,
                difference.differs.join(", "),
                place(difference.source_offset),
                place(difference.target_offset),
            ))?;
        }
    }
    output::line(format_args!(
        "\n{}: {} records compared",
        comparison.status,
        output::count(comparison.records)
    ))?;
    if comparison.status == Likeness::Partial {
        output::line(format_args!(
            "these are equal; the others are on one side only: retention or DeleteRecords took them away on the other side, or they were never mirrored"
        ))?;
    }
    Ok(())
}

fn warn(warnings: &[String]) -> Result<(), CliError> {
    for warning in warnings {
        output::line(format_args!("warning: {}", output::plain(warning)))?;
    }
    Ok(())
}
