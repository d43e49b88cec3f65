//! One topic: read by the limits and by `kafkeep backup`, verified, written by the limit and by `kafkeep restore`.

use std::ffi::OsStr;
use std::path::Path;
use std::slice::from_ref;

use tempfile::TempDir;

use crate::Arguments;
use crate::measure::{Figures, kafkeep, measure as run, median};
use crate::table::{Bound, Row, print};
use crate::testbed::{Broker, Client};
use crate::traffic::{PARTITIONS, Shape, fill};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// MiB that neither a backup nor a restore may exceed.
pub const PEAK: f64 = 160.0;
/// Times the limit's CPU that a backup may take which stores batches as they are.
const CPU: f64 = 1.35;

/// Fills the topic and prints the table of its works; returns how many bounds were missed.
pub fn measure(broker: &Broker, shape: &Shape, arguments: &Arguments) -> usize {
    let bytes = (arguments.size as f64 * 1_048_576.0 * shape.share) as u64;
    println!(
        "\n{}: {} MiB, {} partitions",
        shape.what,
        bytes >> 20,
        PARTITIONS
    );
    fill(broker, shape, bytes, arguments.batch);
    let bench = Bench {
        broker,
        topic: shape.topic,
        directory: TempDir::new().unwrap(),
    };
    for _ in 0..2 {
        bench.fetch(None); // warms the broker up, and fills its page cache
    }
    let works = works(shape.codec != "none");
    let mut figures: Vec<Vec<Figures>> = works.iter().map(|_| Vec::new()).collect();
    for _ in 0..arguments.runs {
        for (work, figures) in works.iter().zip(&mut figures) {
            figures.push((work.run)(&bench));
        }
    }
    let rows: Vec<Row> = works
        .into_iter()
        .zip(figures)
        .map(|(work, runs)| Row {
            work: work.name,
            figures: median(runs),
            bound: work.bound,
        })
        .collect();
    print(&rows, bytes)
}

struct Bench<'a> {
    broker: &'a Broker,
    topic: &'a str,
    directory: TempDir,
}

struct Work {
    name: String,
    bound: Option<Bound>,
    run: Box<dyn Fn(&Bench<'_>) -> Figures>,
}

impl Work {
    fn new(name: impl Into<String>, run: impl Fn(&Bench<'_>) -> Figures + 'static) -> Self {
        Self {
            name: name.into(),
            bound: None,
            run: Box::new(run),
        }
    }

    fn bound(
        mut self,
        against: &'static [usize],
        wall: Option<f64>,
        cpu: Option<f64>,
        peak: Option<f64>,
    ) -> Self {
        self.bound = Some(Bound {
            against,
            wall,
            cpu,
            peak,
            ..Bound::default()
        });
        self
    }
}

const DURABLE: &[usize] = &[1];
const BACKUP_NONE: &[usize] = &[3];
const PRODUCE: &[usize] = &[10];
const FETCH_THEN_PRODUCE: &[usize] = &[0, 10];
/// MiB that a mirror may not exceed.
const MIRROR_PEAK: f64 = 200.0;

/// All works, in the order of the table; `compressed` says that the producer did so already.
fn works(compressed: bool) -> Vec<Work> {
    let mut works = vec![
        Work::new("raw fetch to nowhere", |bench| bench.fetch(None)),
        Work::new("raw fetch to disk (limit)", |bench| {
            bench.fetch(Some(&bench.fresh("raw")))
        }),
        Work::new("rdkafka to nowhere", |bench| bench.rdkafka()),
    ];
    works.extend(CODECS.map(|codec| {
        // Batches that the producer compressed are stored as they are, whatever the codec.
        let as_is = codec == "none" || compressed;
        let (wall, cpu) = (as_is.then_some(1.25), as_is.then_some(CPU));
        let backup = move |bench: &Bench<'_>| {
            bench.fresh(codec);
            bench.backup(codec)
        };
        Work::new(format!("kafkeep backup, {codec}"), backup).bound(DURABLE, wall, cpu, Some(PEAK))
    }));
    works.extend([
        Work::new("kafkeep backup, nothing new", |bench| bench.backup("none")),
        Work::new("kafkeep verify", |bench| {
            bench.kafkeep(&["verify"], "none", false)
        })
        .bound(BACKUP_NONE, Some(1.0), None, None),
        Work::new("raw produce (limit)", |bench| bench.produce()),
        Work::new("kafkeep restore", |bench| bench.restore()).bound(
            PRODUCE,
            Some(1.25),
            None,
            Some(PEAK),
        ),
        // 0.8 times the speed of both after each other.
        Work::new("kafkeep mirror", |bench| bench.mirror("mirror", &[])).bound(
            FETCH_THEN_PRODUCE,
            Some(1.25),
            None,
            Some(MIRROR_PEAK),
        ),
        Work::new("kafkeep mirror, filtered", |bench| {
            bench.mirror("filtered", &["--filter", "value.contains('e')"])
        })
        .bound(PRODUCE, None, None, Some(MIRROR_PEAK)),
    ]);
    works
}

impl Bench<'_> {
    /// An empty place of this name.
    fn fresh(&self, name: &str) -> std::path::PathBuf {
        let place = self.place(name);
        if place.exists() {
            std::fs::remove_dir_all(&place).unwrap();
        }
        place
    }

    fn place(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn limit(&self, name: &str, topic: &str, directory: Option<&Path>) -> Figures {
        let this = std::env::current_exe().unwrap();
        let address = self.broker.address();
        let mut arguments: Vec<&OsStr> = vec![
            this.as_ref(),
            name.as_ref(),
            address.as_ref(),
            topic.as_ref(),
        ];
        arguments.extend(directory.map(OsStr::new));
        run(from_ref(self.broker), &arguments)
    }

    fn fetch(&self, directory: Option<&Path>) -> Figures {
        self.limit("fetch", self.topic, directory)
    }

    fn rdkafka(&self) -> Figures {
        self.limit("rdkafka", self.topic, None)
    }

    fn produce(&self) -> Figures {
        let client = Client::new(&self.broker.address());
        let target = format!("{}.produced", self.topic);
        client.create_topic(&target, PARTITIONS, &[("retention.ms", "-1")]);
        let figures = self.limit("produce", &target, Some(&self.place("raw")));
        client.delete_topic(&target);
        figures
    }

    fn kafkeep(&self, arguments: &[&str], repository: &str, on_cluster: bool) -> Figures {
        let (place, address) = (self.place(repository), self.broker.address());
        let mut all: Vec<&OsStr> = vec![kafkeep().as_ref()];
        all.extend(arguments.iter().map(OsStr::new));
        all.extend(["--repository".as_ref(), place.as_os_str()]);
        if on_cluster {
            all.extend([OsStr::new("--bootstrap-servers"), address.as_ref()]);
        }
        run(from_ref(self.broker), &all)
    }

    fn backup(&self, codec: &str) -> Figures {
        self.kafkeep(
            &["backup", "--topic", self.topic, "--compression", codec],
            codec,
            true,
        )
    }

    fn mirror(&self, name: &str, more: &[&str]) -> Figures {
        mirror(self.broker, self.topic, name, more)
    }

    fn restore(&self) -> Figures {
        let figures = self.kafkeep(
            &["restore", "latest", "--rename", "*={topic}.restored"],
            "none",
            true,
        );
        Client::new(&self.broker.address()).delete_topic(&format!("{}.restored", self.topic));
        figures
    }
}

/// Mirrors a topic within the broker; `name` has no progress there.
pub fn mirror(broker: &Broker, topic: &str, name: &str, more: &[&str]) -> Figures {
    let (address, target) = (broker.address(), format!("{topic}.{name}"));
    let mut all: Vec<&OsStr> = vec![kafkeep().as_ref()];
    let arguments = [
        "mirror", "--name", name, "--topic", topic, "--rename", &target,
    ];
    all.extend(arguments.iter().chain(more).map(OsStr::new));
    for option in ["--bootstrap-servers", "--to-bootstrap-servers"] {
        all.extend([OsStr::new(option), address.as_ref()]);
    }
    let figures = run(from_ref(broker), &all);
    // The group's offsets go with the topic.
    Client::new(&address).delete_topic(&target);
    figures
}
