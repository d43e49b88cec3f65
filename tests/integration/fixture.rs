//! Where a test plays: a broker, a repository of its own, and the command between them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::testbed::{Broker, Client, Cluster, Message, Outcome, Properties, Record, Release};
use crate::{kafkeep, kafkeep_within};

/// A repository of its own, and the cluster that commands are given.
pub struct Fixture<'a> {
    pub broker: &'a Broker,
    pub client: Client,
    pub servers: String,
    directory: TempDir,
    /// How long a command may run before it is killed and the test fails.
    limit: Option<Duration>,
}

impl<'a> Fixture<'a> {
    /// On `broker`, with a repository that does not exist yet.
    pub fn on(broker: &'a Broker) -> Self {
        Self {
            broker,
            client: Client::new(&broker.address()),
            servers: broker.address(),
            directory: TempDir::new().unwrap(),
            limit: None,
        }
    }

    /// On the broker that tests share.
    pub fn shared() -> Fixture<'static> {
        Fixture::on(Broker::shared())
    }

    /// On a cluster of several brokers.
    pub fn across(cluster: &'a Cluster) -> Self {
        Self {
            broker: cluster.broker(1),
            client: cluster.client(),
            servers: cluster.addresses(),
            directory: TempDir::new().unwrap(),
            limit: None,
        }
    }

    /// On another broker, which has an authorizer: what no ACL speaks of is for everybody.
    pub fn elsewhere() -> Fixture<'static> {
        static ELSEWHERE: OnceLock<Broker> = OnceLock::new();
        Fixture::on(ELSEWHERE.get_or_init(|| {
            let properties = Properties::default()
                .set(
                    "authorizer.class.name",
                    "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                )
                .set("allow.everyone.if.no.acl.found", "true");
            Broker::start(Release::V4_1, properties)
        }))
    }

    /// The same, where a command that runs longer than this is killed and the test fails.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The repository's directory.
    pub fn repository(&self) -> PathBuf {
        self.directory.path().join("repository")
    }

    /// A path beside the repository.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `kafkeep VERB --repository … ARGUMENTS`, with the repository and the cluster where the verb takes one; words are
    /// separated by spaces.
    #[track_caller]
    pub fn run(&self, verb: &str, arguments: &str) -> Outcome {
        self.kafkeep(self.command_line(verb, arguments))
    }

    /// Runs the built command, no longer than this scene allows.
    #[track_caller]
    pub fn kafkeep(&self, arguments: Vec<String>) -> Outcome {
        match self.limit {
            Some(limit) => kafkeep_within(arguments, limit),
            None => kafkeep(arguments),
        }
    }

    /// The same, to be killed.
    pub fn start(&self, verb: &str, arguments: &str) -> Child {
        self.command(verb, arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// The same, not started yet.
    pub fn command(&self, verb: &str, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kafkeep"));
        command.args(self.command_line(verb, arguments));
        command
    }

    fn command_line(&self, verb: &str, arguments: &str) -> Vec<String> {
        let mut all = vec![verb.to_owned()];
        if verb != "drain" {
            all.extend([
                "--repository".to_owned(),
                self.repository().display().to_string(),
            ]);
        }
        if ["backup", "restore"].contains(&verb) && !arguments.contains("--bootstrap-servers") {
            all.extend(["--bootstrap-servers".to_owned(), self.servers.clone()]);
        }
        all.extend(arguments.split_whitespace().map(str::to_owned));
        all
    }

    /// The report of a backup that must succeed.
    #[track_caller]
    pub fn backup(&self, arguments: &str) -> Value {
        self.run("backup", &format!("--json {arguments}")).done()
    }

    /// The report of a restore that must succeed.
    #[track_caller]
    pub fn restore(&self, arguments: &str) -> Value {
        self.run("restore", &format!("--json {arguments}")).done()
    }

    /// The plan of a restore that could be carried out.
    #[track_caller]
    pub fn plan(&self, arguments: &str) -> Value {
        self.run("restore", &format!("--json --dry-run {arguments}"))
            .done()
    }

    /// Every block of every backup is sound.
    #[track_caller]
    pub fn verify(&self) -> Value {
        self.run("verify", "--json").done()
    }

    /// The files of the repository below `part`, sorted.
    pub fn files(&self, part: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(&self.repository().join(part), &mut found);
        found.sort();
        found
    }
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// A segment is closed after 200 ms, and cleaned when anything in it is outdated.
pub const EAGER: [(&str, &str); 5] = [
    ("cleanup.policy", "compact"),
    ("segment.ms", "200"),
    ("min.cleanable.dirty.ratio", "0.001"),
    ("delete.retention.ms", "86400000"),
    ("max.compaction.lag.ms", "300"),
];

/// Records with everything that must not get lost, `count` of them, a second apart.
pub fn awkward(count: i64) -> impl Iterator<Item = Message> {
    (0..count).map(|n| Message {
        key: match n % 4 {
            0 => None,
            1 => Some(Vec::new()),
            _ => Some(format!("key-{}", n % 97).into_bytes()),
        },
        value: match n % 5 {
            0 => None,
            1 => Some(Vec::new()),
            _ => Some(
                format!("{n} {:040x} {}", n * 7919, "abc ".repeat((n % 60) as usize)).into_bytes(),
            ),
        },
        headers: match n % 3 {
            0 => Vec::new(),
            1 => vec![
                ("trace".into(), Some(n.to_be_bytes().to_vec())),
                ("trace".into(), None),
            ],
            _ => vec![("".into(), Some(Vec::new()))],
        },
        timestamp: Some(1_700_000_000_000 + n * 1000),
    })
}

/// `count` plain records whose keys and values tell their number, from `first` on.
pub fn numbered(first: i64, count: i64) -> impl Iterator<Item = Message> {
    (first..first + count).map(|n| Message::new(format!("key-{n}"), format!("value-{n}")))
}

/// The same records as if all lay at offset 0: for comparing topics whose offsets differ.
pub fn without_offsets(partitions: Vec<Vec<Record>>) -> Vec<Vec<Record>> {
    let strip = |records: Vec<Record>| records.into_iter().map(Record::without_offset).collect();
    partitions.into_iter().map(strip).collect()
}

/// Both topics hold the same records in the same order, whatever their offsets; else tells the first that differs.
#[track_caller]
pub fn assert_same_records(source: &[Vec<Record>], target: &[Vec<Record>], what: &str) {
    let counts = |topic: &[Vec<Record>]| topic.iter().map(Vec::len).collect::<Vec<_>>();
    for (partition, (source, target)) in source.iter().zip(target).enumerate() {
        for (number, (sent, found)) in source.iter().zip(target).enumerate() {
            assert_eq!(
                sent.clone().without_offset(),
                found.clone().without_offset(),
                "{what}: record {number} of partition {partition}"
            );
        }
    }
    assert_eq!(
        counts(source),
        counts(target),
        "{what}: records by partition"
    );
}

/// The values of one partition's records, as text.
pub fn values(records: &[Record]) -> Vec<String> {
    records
        .iter()
        .map(|record| {
            String::from_utf8(record.value.clone().unwrap_or_else(|| b"null".to_vec())).unwrap()
        })
        .collect()
}

/// The entry of a JSON list whose `name` is `value`.
#[track_caller]
pub fn entry<'v>(list: &'v Value, name: &str, value: impl Into<Value>) -> &'v Value {
    let value = value.into();
    let found = list
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry[name] == value);
    found.unwrap_or_else(|| panic!("no entry with {name} {value} in {list:#}"))
}

/// As `sha256sum` writes it.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How often something is killed: enough for each change; `KAFKEEP_KILLS=200` to be surer. A mirror is killed ten times, or so often over two million records.
pub fn kills() -> u32 {
    std::env::var("KAFKEEP_KILLS").map_or(20, |count| count.parse().unwrap())
}

/// Numbers that a test can do again: it prints the seed, and takes another from `KAFKEEP_SEED`.
pub struct Random(u64);

impl Random {
    pub fn seeded() -> Self {
        let seed = std::env::var("KAFKEEP_SEED").map_or_else(
            |_| u64::from(std::process::id()),
            |seed| seed.parse().unwrap(),
        );
        eprintln!("KAFKEEP_SEED={seed} does the same again");
        Self(seed)
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Knuth's MMIX.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
