//! Apache Kafka on this machine: one broker a value, gone with it, or with the test process, however that ends.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A release of Apache Kafka, pinned in `tests/kafka/pom.xml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The oldest that is supported: with ZooKeeper, and Fetch without topic ids.
    V2_8,
    /// What most tests run on, with Kafka's own tools.
    V4_1,
    /// The newest that is supported.
    V4_4,
}

impl Release {
    fn version(self) -> &'static str {
        match self {
            Self::V2_8 => "2.8.2",
            Self::V4_1 => "4.1.0",
            Self::V4_4 => "4.4.0",
        }
    }

    /// Where `tests/setup.sh` put its jars.
    pub fn class_path(self) -> String {
        jars(&format!("kafka-{}", self.version()))
    }
}

/// The class path of what `tests/setup.sh` put into its cache under this name.
pub fn jars(name: &str) -> String {
    let cache = std::env::var_os("KAFKEEP_TEST_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| {
        let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache");
        let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
        cache.join("kafkeep-tests")
    });
    let jars = cache.join(name);
    assert!(
        jars.join(".complete").exists(),
        "no Apache Kafka in {}: run `bash tests/setup.sh`",
        jars.display()
    );
    format!("{}/*", jars.display())
}

/// Lines of a `server.properties` beyond those that every broker of the tests has; they win over them.
#[derive(Debug, Clone, Default)]
pub struct Properties {
    lines: Vec<(String, String)>,
    /// Listeners beyond PLAINTEXT: name and security protocol; see [`Broker::listener`].
    listeners: Vec<(String, String)>,
    /// `host:port` that a listener advertises, where that is not its own; by the listener's name.
    advertised: BTreeMap<String, String>,
    /// `--add-scram` arguments of the storage tool.
    scram: Vec<String>,
    heap: Option<String>,
    optimised: bool,
}

impl Properties {
    /// Sets one line.
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.lines.push((name.to_owned(), value.to_string()));
        self
    }

    pub(super) fn lines(&self) -> &[(String, String)] {
        &self.lines
    }

    /// Adds a listener on a port of its own.
    pub fn listener(mut self, name: &str, protocol: &str) -> Self {
        self.listeners.push((name.to_owned(), protocol.to_owned()));
        self
    }

    /// Adds a plaintext listener on a port of its own that advertises `address`, such as a proxy's.
    pub fn listener_behind(mut self, name: &str, address: &str) -> Self {
        self.advertised.insert(name.to_owned(), address.to_owned());
        self.listener(name, "PLAINTEXT")
    }

    /// Adds a SCRAM user, as `SCRAM-SHA-512=[name=alice,password=alice-pw]`.
    pub fn scram(mut self, user: &str) -> Self {
        self.scram.push(user.to_owned());
        self
    }

    /// Java's heap, where the usual one is not needed.
    pub fn heap_size(mut self, heap: &str) -> Self {
        self.heap = Some(heap.to_owned());
        self
    }

    /// With a small heap, and with thousands of logs that are seldom looked through, which would take CPU from other tests.
    pub(super) fn small(self) -> Self {
        self.heap_size("192m")
            .set("log.cleaner.dedupe.buffer.size", 4 << 20)
            .set("log.cleaner.backoff.ms", 15_000)
            .set("log.retention.check.interval.ms", 300_000)
            .set("log.segment.delete.delay.ms", 1_000)
    }

    /// Java's heap, for measuring: with the optimising compiler, which tests do without.
    pub fn heap(mut self, heap: &str) -> Self {
        self.heap = Some(heap.to_owned());
        self.optimised = true;
        self
    }
}

/// A running broker.
pub struct Broker {
    release: Release,
    port: u16,
    listeners: Vec<(String, u16)>,
    process: Mutex<Process>,
    /// How its process is started: Java's options, the class and its arguments.
    java: Vec<String>,
    main: Vec<String>,
    _zookeeper: Option<Process>,
    directory: TempDir,
}

impl Broker {
    /// The broker that tests share which need nothing special: each uses topics of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Release::V4_1, Properties::default()))
    }

    /// Starts one and waits until it answers.
    pub fn start(release: Release, properties: Properties) -> Self {
        let controller = free_port();
        let member = Member::alone(controller);
        let directory = directory();
        let zookeeper =
            (release == Release::V2_8).then(|| start_zookeeper(directory.path(), controller));
        let mut broker = Self::launch(release, &properties, &member, directory);
        broker._zookeeper = zookeeper;
        broker.wait_until_ready(1);
        broker
    }

    /// Starts a member of a cluster, without waiting.
    pub(super) fn launch(
        release: Release,
        properties: &Properties,
        member: &Member,
        directory: TempDir,
    ) -> Self {
        let port = free_port();
        let listeners: Vec<(String, u16)> = properties
            .listeners
            .iter()
            .map(|(name, _)| (name.clone(), free_port()))
            .collect();
        let file = directory.path().join("server.properties");
        let lines = lines(
            release,
            directory.path(),
            port,
            member,
            &listeners,
            properties,
        );
        fs::write(&file, lines).unwrap();
        if release != Release::V2_8 {
            format_storage(release, &file, &member.cluster_id, properties);
        }
        let heap = format!("-Xmx{}", properties.heap.as_deref().unwrap_or("512m"));
        let mut java = vec![heap];
        if !properties.optimised {
            java.extend(FAST.map(str::to_owned));
        }
        let main = vec!["kafka.Kafka".to_owned(), file.display().to_string()];
        let process = Process::start(release, directory.path(), "broker", &java, &main);
        Self {
            release,
            port,
            listeners,
            process: Mutex::new(process),
            java,
            main,
            _zookeeper: None,
            directory,
        }
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Process> {
        self.process
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Stops it as an operator would, and waits until it is gone: what lies in its directory may then be changed.
    pub fn stop(&self) {
        self.signal("TERM");
        self.wait_until_gone();
    }

    /// Ends it as a power cut would.
    pub fn kill(&self) {
        self.signal("KILL");
        self.wait_until_gone();
    }

    /// It keeps its connections, and does nothing any more, until [`Broker::thaw`].
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Ends [`Broker::freeze`].
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill")
            .args([format!("-{name}"), pid])
            .status();
        assert!(sent.unwrap().success(), "the broker is not running");
    }

    fn wait_until_gone(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.is_running() {
            assert!(Instant::now() < deadline, "the broker does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether its process lives, be it frozen.
    pub fn is_running(&self) -> bool {
        self.process().is_running()
    }

    /// Starts it again after [`Broker::stop`] or [`Broker::kill`], on the same directory and ports.
    pub fn start_again(&self) {
        let directory = self.directory.path();
        *self.process() = Process::start(self.release, directory, "broker", &self.java, &self.main);
        self.wait_until_ready(1);
    }

    /// Starts it again after [`Broker::stop`] or [`Broker::kill`], on the same ports, as a cluster that was made new: with another
    /// id, and with nothing in it.
    pub fn start_from_nothing(&self) {
        assert!(self.release != Release::V2_8, "ZooKeeper keeps its cluster");
        let directory = self.directory.path();
        fs::remove_dir_all(directory.join("log")).unwrap();
        let file = directory.join("server.properties");
        format_storage(self.release, &file, &cluster_id(), &Properties::default());
        self.start_again();
    }

    /// What it has logged since it was started.
    pub fn log(&self) -> String {
        fs::read_to_string(self.process().log()).unwrap()
    }

    /// `host:port` of its plaintext listener.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `host:port` of a listener of [`Properties::listener`].
    pub fn listener(&self, name: &str) -> String {
        let (_, port) = self
            .listeners
            .iter()
            .find(|(known, _)| known == name)
            .expect("a known listener");
        format!("localhost:{port}")
    }

    /// Where the log segments of a partition lie.
    pub fn log_directory(&self, topic: &str, partition: u32) -> PathBuf {
        self.directory
            .path()
            .join("log")
            .join(format!("{topic}-{partition}"))
    }

    /// The broker's Java process.
    pub fn pid(&self) -> u32 {
        self.process().pid
    }

    /// Runs one of Kafka's tools to its end; only 4.1 has them.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> Output {
        Command::new("java")
            .args(FAST)
            .args(["-cp", &Release::V4_1.class_path(), class])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// A listening port alone does not tell: a stranger may hold it. So the process must live and its log say it.
    pub(super) fn wait_until_ready(&self, brokers: usize) {
        let deadline = Instant::now() + Duration::from_secs(90);
        let ports = std::iter::once(self.port).chain(self.listeners.iter().map(|(_, port)| *port));
        for port in ports {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                let log = || self.log();
                assert!(self.is_running(), "the broker ended: {}", log());
                assert!(
                    Instant::now() < deadline,
                    "the broker does not listen: {}",
                    log()
                );
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        super::Client::new(&self.address()).wait_for_brokers(brokers, deadline);
        assert!(
            self.is_running(),
            "somebody else listens on port {}",
            self.port
        );
    }
}

/// Halves the CPU of a start.
pub(super) const FAST: [&str; 2] = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];

fn lines(
    release: Release,
    directory: &Path,
    port: u16,
    member: &Member,
    listeners: &[(String, u16)],
    properties: &Properties,
) -> String {
    let listening: String = listeners
        .iter()
        .map(|(name, port)| format!(",{name}://127.0.0.1:{port}"))
        .collect();
    let advertised = listeners.iter().map(|(name, port)| {
        let own = || format!("localhost:{port}");
        let address = properties.advertised.get(name).cloned();
        format!(",{name}://{}", address.unwrap_or_else(own))
    });
    let advertised: String = advertised.collect();
    let protocols: String = properties
        .listeners
        .iter()
        .map(|(name, protocol)| format!(",{name}:{protocol}"))
        .collect();
    let (id, (voter, at)) = (member.id, member.controller);
    let mode = match release {
        Release::V2_8 => format!("broker.id={id}\nzookeeper.connect=127.0.0.1:{at}"),
        _ => format!(
            "process.roles={}\nnode.id={id}\ncontroller.listener.names=CONTROLLER\n\
             controller.quorum.voters={voter}@127.0.0.1:{at}",
            if voter == id {
                "broker,controller"
            } else {
                "broker"
            }
        ),
    };
    let controller_listener = match release {
        Release::V2_8 => String::new(),
        _ if voter != id => String::new(),
        _ => format!(",CONTROLLER://127.0.0.1:{at}"),
    };
    let mut text = format!(
        "{mode}
listeners=PLAINTEXT://127.0.0.1:{port}{controller_listener}{}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}
inter.broker.listener.name=PLAINTEXT
log.dirs={}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.backoff.ms=200
log.retention.check.interval.ms=3000
auto.create.topics.enable=false
",
        listening,
        advertised,
        directory.join("log").display(),
    );
    if release != Release::V2_8 {
        text += "share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
                 log.initial.task.delay.ms=100\n";
    }
    for (name, value) in &properties.lines {
        text += &format!("{name}={value}\n");
    }
    text
}

pub(super) fn format_storage(
    release: Release,
    file: &Path,
    cluster_id: &str,
    properties: &Properties,
) {
    let output = Command::new("java")
        .args(FAST)
        .args([
            "-cp",
            &release.class_path(),
            "kafka.tools.StorageTool",
            "format",
        ])
        .args([&format!("--cluster-id={cluster_id}"), "-c"])
        .arg(file)
        .args(
            properties
                .scram
                .iter()
                .flat_map(|user| ["--add-scram", user]),
        )
        .output()
        .expect("java is needed: run `bash tests/setup.sh`");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A broker's place in a cluster.
pub(super) struct Member {
    pub id: u16,
    pub cluster_id: String,
    /// Id and port of the one controller, or the port of ZooKeeper.
    pub controller: (u16, u16),
}

impl Member {
    /// The only one, which is its own controller.
    fn alone(controller: u16) -> Self {
        Self {
            id: 1,
            cluster_id: cluster_id(),
            controller: (1, controller),
        }
    }
}

/// A directory for one node.
pub(super) fn directory() -> TempDir {
    let mut directory = tempfile::Builder::new();
    directory.prefix("kafkeep-broker-").tempdir().unwrap()
}

/// Kafka's ids are a UUID's 16 bytes in URL-safe base64; its tools take one that begins with a dash for an option.
pub(super) fn cluster_id() -> String {
    use base64::Engine;
    loop {
        let id = uuid::Uuid::new_v4().into_bytes();
        let id = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(id);
        if !id.starts_with('-') {
            return id;
        }
    }
}

fn start_zookeeper(directory: &Path, port: u16) -> Process {
    let file = directory.join("zookeeper.properties");
    let data = directory.join("zookeeper");
    fs::write(
        &file,
        format!(
            "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n",
            data.display()
        ),
    )
    .unwrap();
    let main = [
        "org.apache.zookeeper.server.quorum.QuorumPeerMain".to_owned(),
        file.display().to_string(),
    ];
    let java: Vec<String> = FAST.map(str::to_owned).into();
    let process = Process::start(Release::V2_8, directory, "zookeeper", &java, &main);
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(
            process.is_running() && Instant::now() < deadline,
            "ZooKeeper does not start"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    process
}

/// A port that nobody listens on, outside the range that outgoing connections take theirs from.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let seed = u16::try_from(std::process::id() % 5_000).unwrap();
    loop {
        let port = 20_000 + (seed * 2 + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A Java process that ends when its value, or the whole test process, is gone: a shell holds a pipe from us, and
/// kills it when that closes.
pub(super) struct Process {
    pid: u32,
    shell: Child,
    leash: Option<ChildStdin>,
    log: PathBuf,
}

const SHELL: &str = r#"log=$1; shift; "$@" >"$log" 2>&1 </dev/null & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null; wait"#;

impl Process {
    pub fn start(
        release: Release,
        directory: &Path,
        name: &str,
        java: &[String],
        main: &[String],
    ) -> Self {
        let log = directory.join(format!("{name}.log"));
        File::create(&log).unwrap();
        let log4j = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/log4j2.xml");
        let mut shell = Command::new("sh")
            .args(["-c", SHELL, "sh"])
            .arg(&log)
            .arg("java")
            .args(java)
            .arg(format!("-Dlog4j2.configurationFile={}", log4j.display()))
            .args(["-cp", &release.class_path()])
            .args(main)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pid = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut pid)
            .unwrap();
        let leash = shell.stdin.take();
        Self {
            pid: pid.trim().parse().unwrap(),
            shell,
            leash,
            log,
        }
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    pub fn is_running(&self) -> bool {
        let state = fs::read_to_string(format!("/proc/{}/stat", self.pid));
        state.is_ok_and(|stat| !stat.contains(") Z "))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.leash.take());
        self.shell.wait().ok();
    }
}
