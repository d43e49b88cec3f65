//! The story that the demonstration tells, step by step; every line it prints is measured.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rdkafka::ClientContext;
use rdkafka::mocking::MockCluster;

use crate::engine::backup::{BackupOptions, BackupReport, backup};
use crate::engine::renames::Renames;
use crate::engine::restore::{self, IfExists, RestoreOptions};
use crate::engine::topics::TopicPatterns;
use crate::engine::verify::{VerifyOptions, VerifyReport, verify};
use crate::engine::{self, EngineError, NoProgress};
use crate::kafka::{Client, Cluster, Retry};
use crate::record::Compression;
use crate::repository::{Location, Repository};

use super::compare::compare;
use super::traffic::{SHAPES, produce};
use super::{CliError, DemoError, Exit, Global};
use crate::cli::{output, signals};

/// The temporary place of the demonstration, removed with it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the demonstration's directory stays behind");
        }
    }
}

impl Scratch {
    fn create() -> Result<Self, DemoError> {
        let path = std::env::temp_dir().join(format!("kafkeep-demo-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

/// What the demonstration showed.
#[derive(Debug, serde::Serialize)]
struct Summary {
    status: &'static str,
    records_backed_up: u64,
    bytes_backed_up: u64,
    bytes_stored: u64,
    incremental_records: u64,
    damage_found: bool,
    records_compared: u64,
    duration_ms: u64,
}

pub async fn tell(keep_running: bool, global: &Global) -> Result<Exit, CliError> {
    let clock = Instant::now();
    let say = |text: String| {
        if global.json {
            Ok(())
        } else {
            output::line(text)
        }
    };
    let cluster = MockCluster::new(1).map_err(DemoError::from)?;
    create_topics(&cluster)?;
    let servers = cluster.bootstrap_servers();
    let scratch = Scratch::create()?;
    let path = scratch.0.join("repository");
    say(format!(
        "A broker listens on {servers} in this process; the repository is {}.\n",
        path.display()
    ))?;

    let produced = first_traffic(&servers, &say).await?;
    let repository = Arc::new(make_repository(&path).await?);
    let brokers = servers.split(',').map(str::to_owned).collect();
    let client = Client::connect(Cluster::new(brokers), Retry::default()).await?;
    full_backup(&client, &repository, &say).await?;
    let more = traffic(&servers, 80, 100).await?;
    let second = incremental_backup(&client, &repository, more, &say).await?;
    let damage_found = show_damage(&repository, &path, &say).await?;
    restore_renamed(&client, &repository, &second, &say).await?;
    let compared = compare_all(&servers, &say).await?;

    let complete = compared == produced + more && second.total_messages == compared && damage_found;
    let summary = Summary {
        status: if complete { "completed" } else { "failed" },
        records_backed_up: second.total_messages,
        bytes_backed_up: second.total_size_bytes,
        bytes_stored: second.compressed_size_bytes,
        incremental_records: second.new_messages,
        damage_found,
        records_compared: compared,
        duration_ms: u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    conclude(&summary, global, &say)?;
    if keep_running {
        keep(&servers, &path, &say).await?;
    }
    Ok(if complete { Exit::Done } else { Exit::Failed })
}

/// The topics to back up, and those to restore them into.
fn create_topics(cluster: &MockCluster<'_, impl ClientContext>) -> Result<(), DemoError> {
    for shape in SHAPES {
        let restored = format!("restored.{}", shape.topic);
        cluster.create_topic(shape.topic, shape.partitions, 1)?;
        cluster.create_topic(&restored, shape.partitions, 1)?;
    }
    Ok(())
}

async fn first_traffic(
    servers: &str,
    say: &impl Fn(String) -> Result<(), CliError>,
) -> Result<u64, CliError> {
    let produced = traffic(servers, 0, 80).await?;
    say(format!(
        "1. Traffic: {} records by an ordinary producer",
        output::count(produced)
    ))?;
    for shape in SHAPES {
        say(format!(
            "     {:<10} {} partition(s): {}",
            shape.topic, shape.partitions, shape.what
        ))?;
    }
    Ok(produced)
}

async fn make_repository(path: &Path) -> Result<Repository, CliError> {
    let location = Location::from(path);
    let made = engine::blocking("the thread that makes the repository", move || {
        location.open_or_init()
    });
    Ok(made.await?)
}

async fn full_backup(
    client: &Client,
    repository: &Arc<Repository>,
    say: &impl Fn(String) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let report = back_up(client, repository).await?;
    say(format!(
        "2. Backup {}: {} records, {} of record batches, {} stored, in {}",
        report.backup_id,
        output::count(report.total_messages),
        output::bytes(report.total_size_bytes),
        output::bytes(report.compressed_size_bytes),
        output::duration(report.duration_ms)
    ))
}

/// A backup after `more` records.
async fn incremental_backup(
    client: &Client,
    repository: &Arc<Repository>,
    more: u64,
    say: &impl Fn(String) -> Result<(), CliError>,
) -> Result<BackupReport, CliError> {
    let report = back_up(client, repository).await?;
    say(format!(
        "3. {} more records, and backup {}: it copied {} and holds all {}; {} were reused",
        output::count(more),
        report.backup_id,
        output::count(report.new_messages),
        output::count(report.total_messages),
        output::bytes(report.reused_bytes)
    ))?;
    Ok(report)
}

fn conclude(
    summary: &Summary,
    global: &Global,
    say: &impl Fn(String) -> Result<(), CliError>,
) -> Result<(), CliError> {
    if global.json {
        return output::json(summary);
    }
    say(format!(
        "\nAll of it in {}. kafkeep moved the producers' sealed record batches and opened none of them: what came back\nis what the producers wrote. Next: README.md, or kafkeep backup --help.",
        output::duration(summary.duration_ms)
    ))
}

async fn keep(
    servers: &str,
    path: &Path,
    say: &impl Fn(String) -> Result<(), CliError>,
) -> Result<(), CliError> {
    say(format!(
        "\nStill running; Ctrl-C ends it. In another terminal:\n  kafkeep list   --repository {0}\n  kafkeep verify --repository {0}\n  kafkeep backup --repository {0} --bootstrap-servers {servers} --topic orders",
        path.display()
    ))?;
    signals::stop()?.cancelled().await;
    Ok(())
}

async fn traffic(servers: &str, first: u64, last: u64) -> Result<u64, CliError> {
    let servers = servers.to_owned();
    blocking("the producer", move || produce(&servers, first, last)).await
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T, DemoError> + Send + 'static,
) -> Result<T, CliError> {
    let done = engine::blocking(what, move || Ok::<_, EngineError>(work()));
    Ok(done.await??)
}

async fn back_up(client: &Client, repository: &Arc<Repository>) -> Result<BackupReport, CliError> {
    let topics = SHAPES
        .iter()
        .map(|shape| shape.topic.parse())
        .collect::<Result<_, _>>()?;
    let options = BackupOptions {
        compression: Compression::Zstd,
        ..BackupOptions::new(TopicPatterns::new(topics))
    };
    Ok(backup(
        client,
        Arc::clone(repository),
        &options,
        Arc::new(NoProgress),
    )
    .await?)
}

/// Flips one bit in the middle of a pack, lets `verify` find it, and flips it back.
async fn show_damage(
    repository: &Arc<Repository>,
    path: &Path,
    say: &impl Fn(String) -> Result<(), CliError>,
) -> Result<bool, CliError> {
    let sound = check(repository).await?;
    let packs = path.join("packs");
    let pack = blocking("the thread that damages a pack", move || {
        let pack = a_pack(&packs)?;
        flip_bit(&pack)?;
        Ok(pack)
    });
    let pack = pack.await?;
    let damaged = check(repository).await?;
    blocking("the thread that mends a pack", move || flip_bit(&pack)).await?;
    let healed = check(repository).await?;
    say(format!(
        "4. Verify: {} batches, {}. One bit is flipped in a pack, and verify says:",
        output::count(sound.batches),
        sound.status
    ))?;
    for finding in &damaged.findings {
        say(format!("     {}", finding.problem))?;
        if let (Some(topic), Some(partition), Some(first), Some(last)) = (
            &finding.topic,
            finding.partition,
            finding.first_offset,
            finding.last_offset,
        ) {
            say(format!(
                "     in {topic}-{partition}, offsets {first} to {last}, touching {} backups",
                finding.backups.len()
            ))?;
        }
    }
    say(format!("   The bit is flipped back: {}.", healed.status))?;
    Ok(sound.findings.is_empty() && damaged.findings.len() == 1 && healed.findings.is_empty())
}

async fn check(repository: &Arc<Repository>) -> Result<VerifyReport, CliError> {
    let repository = Arc::clone(repository);
    let checked = engine::blocking("the verifying thread", move || {
        verify(&repository, &VerifyOptions::default(), &NoProgress)
    });
    Ok(checked.await?)
}

/// The largest pack below `packs`.
fn a_pack(packs: &Path) -> Result<PathBuf, DemoError> {
    let mut largest: Option<(u64, PathBuf)> = None;
    for folder in std::fs::read_dir(packs)? {
        for pack in std::fs::read_dir(folder?.path())? {
            let pack = pack?;
            let size = pack.metadata()?.len();
            if largest.as_ref().is_none_or(|(known, _)| size > *known) {
                largest = Some((size, pack.path()));
            }
        }
    }
    largest
        .map(|(_, path)| path)
        .ok_or_else(|| DemoError::Wrong("the backup wrote no pack".to_owned()))
}

fn flip_bit(pack: &Path) -> Result<(), DemoError> {
    let mut bytes = std::fs::read(pack)?;
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 0x10;
    }
    Ok(std::fs::write(pack, bytes)?)
}

/// The mock cluster cannot create topics over the wire, so the targets are there, and are appended to.
async fn restore_renamed(
    client: &Client,
    repository: &Arc<Repository>,
    backup: &BackupReport,
    say: &impl Fn(String) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let options = RestoreOptions {
        renames: Renames::new(vec!["*=restored.{topic}".parse()?]),
        if_exists: IfExists::Append,
        ..RestoreOptions::default()
    };
    let plan = restore::plan(client, Arc::clone(repository), &backup.backup_id, &options).await?;
    let report = restore::apply(
        client,
        Arc::clone(repository),
        plan,
        &options,
        Arc::new(NoProgress),
    )
    .await?;
    say(format!(
        "5. Restore into topics restored.*: {} records in {}",
        output::count(report.messages_restored),
        output::duration(report.duration_ms)
    ))
}

async fn compare_all(
    servers: &str,
    say: &impl Fn(String) -> Result<(), CliError>,
) -> Result<u64, CliError> {
    let mut compared = 0;
    for shape in SHAPES {
        let (servers, restored) = (servers.to_owned(), format!("restored.{}", shape.topic));
        compared += blocking("the consumer", move || {
            compare(&servers, shape.topic, &restored, shape.partitions)
        })
        .await?;
    }
    say(format!(
        "6. Proof: an ordinary consumer read source and restored topics: {} records, and every key, value,\n   header, timestamp and offset is equal",
        output::count(compared)
    ))?;
    Ok(compared)
}
