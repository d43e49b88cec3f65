//! Backups that are killed, and the runs after them.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::kafkeep;
use crate::testbed::{Broker, Client, Compression, Message};

struct Interrupted {
    broker: &'static Broker,
    client: Client,
    topic: String,
    directory: TempDir,
}

impl Interrupted {
    fn new(topic: &str, partitions: i32) -> Self {
        let broker = Broker::shared();
        let client = Client::new(&broker.address());
        client.create_topic(topic, partitions, &[("retention.ms", "-1")]);
        Self {
            broker,
            client,
            topic: topic.to_owned(),
            directory: TempDir::new().unwrap(),
        }
    }

    fn repository(&self) -> String {
        self.directory
            .path()
            .join("repository")
            .display()
            .to_string()
    }

    fn backup_arguments(&self, more: &[&str]) -> Vec<String> {
        let address = self.broker.address();
        let repository = self.repository();
        let fixed = [
            "backup",
            "--json",
            "--repository",
            &repository,
            "--bootstrap-servers",
            &address,
            "--topic",
            &self.topic,
            "--compression",
            "none",
            "--pack-size",
            "1MiB",
        ];
        fixed
            .iter()
            .chain(more)
            .map(|text| (*text).to_owned())
            .collect()
    }

    fn start(&self, more: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_kafkeep"))
            .args(self.backup_arguments(more))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn files(&self, directory: &str) -> Vec<u64> {
        let place = Path::new(&self.repository()).join(directory);
        let mut sizes = Vec::new();
        let mut places = vec![place];
        while let Some(place) = places.pop() {
            for entry in std::fs::read_dir(place).into_iter().flatten() {
                let entry = entry.unwrap();
                match entry.file_type().unwrap().is_dir() {
                    true => places.push(entry.path()),
                    false => sizes.push(entry.metadata().unwrap().len()),
                }
            }
        }
        sizes
    }

    /// A backup that completes, a sound repository, and a topic restored from it that equals the source.
    fn proves_itself(&self) -> serde_json::Value {
        let report = kafkeep(self.backup_arguments(&[])).done();
        let repository = self.repository();
        kafkeep(["verify", "--json", "--repository", &repository]).done();
        let (address, rename) = (self.broker.address(), "*={topic}.restored".to_owned());
        kafkeep([
            "restore",
            "--json",
            "--repository",
            &repository,
            "latest",
            "--bootstrap-servers",
            &address,
            "--rename",
            &rename,
        ])
        .done();
        let restored = format!("{}.restored", self.topic);
        assert_eq!(self.client.read(&self.topic), self.client.read(&restored));
        report
    }
}

fn records(from: u32, count: u32, size: usize) -> impl Iterator<Item = Message> {
    (from..from + count).map(move |n| Message::new(n.to_be_bytes(), vec![n as u8; size]))
}

#[test]
fn what_an_interrupted_backup_sealed_is_adopted_and_not_copied_again() {
    let scene = Interrupted::new("interrupted.adopted", 2);
    for partition in 0..2 {
        scene.client.produce(
            &scene.topic,
            partition,
            Compression::None,
            records(0, 8000, 1000),
        );
    }
    let mut run = scene.start(&["--rate-limit", "8MiB/s"]);
    while scene.files("runs").len() < 3 {
        assert!(
            run.try_wait().unwrap().is_none(),
            "the run ended before it could be interrupted"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    let sealed: u64 = scene.files("packs").iter().sum();
    assert!(scene.files("backups").is_empty());
    // A plain consumer's view of what came in meanwhile must be in it as well.
    scene
        .client
        .produce(&scene.topic, 1, Compression::None, records(8000, 100, 1000));
    let report = scene.proves_itself();
    assert_eq!(report["total_messages"], 16_100);
    assert!(
        report["warnings"][0]
            .as_str()
            .unwrap()
            .contains("taken over"),
        "{report}"
    );
    let all: u64 = scene.files("packs").iter().sum();
    let raw = report["total_size_bytes"].as_u64().unwrap();
    assert!(
        sealed > 2 << 20 && all < raw + raw / 50,
        "{sealed} sealed, {all} of {raw} in packs"
    );
    assert!(
        scene.files("runs").is_empty(),
        "records of runs are forgotten"
    );
}

/// How often a backup is killed; `KAFKEEP_KILLS` for more.
fn kills() -> u32 {
    std::env::var("KAFKEEP_KILLS").map_or(200, |count| count.parse().unwrap())
}

#[test]
fn killed_at_any_moment_a_backup_leaves_a_sound_repository_and_the_next_goes_on() {
    let scene = Interrupted::new("interrupted.killed", 3);
    let producer = scene.client.producer(Compression::None);
    let (mut made, mut random) = (0_u32, std::process::id());
    eprintln!("seed {random}");
    for round in 0..kills() {
        if round % 4 == 0 {
            for partition in 0..3 {
                producer.produce(&scene.topic, partition, records(made, 200, 4000));
            }
            made += 200;
        }
        let mut run = scene.start(&[]);
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        std::thread::sleep(Duration::from_micros(u64::from(random >> 16) % 60_000));
        run.kill().unwrap();
        run.wait().unwrap();
        if round % 20 == 19 {
            kafkeep(["verify", "--json", "--repository", &scene.repository()]).done();
        }
    }
    let report = scene.proves_itself();
    assert_eq!(report["total_messages"], made * 3);
}
