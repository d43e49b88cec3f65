//! Members of consumer groups that are Kafka's own Java client: `tests/kafka/Member.java`, compiled once.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::Release;
use super::kafka::FAST;

/// How the members of a group agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Classic,
    /// KIP-848.
    Consumer,
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

/// A member. It is killed with its value.
pub struct JavaMember {
    process: Child,
    said: Receiver<String>,
}

const PATIENCE: Duration = Duration::from_secs(60);

impl JavaMember {
    /// Joins a group that reads `topic`, and waits until it is given a partition.
    pub fn join(
        address: &str,
        protocol: Protocol,
        group: &str,
        topic: &str,
        settings: &[(&str, &str)],
    ) -> Self {
        let member = Self::start(address, protocol, group, topic, settings);
        // It may be given nothing at first.
        let given = format!("assigned [{topic}-");
        member.wait_for(&given).expect("it is given a partition");
        member
    }

    /// The same without waiting.
    pub fn start(
        address: &str,
        protocol: Protocol,
        group: &str,
        topic: &str,
        settings: &[(&str, &str)],
    ) -> Self {
        let path = format!("{}:{}", Release::V4_1.class_path(), classes().display());
        let log4j = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/log4j2.xml");
        let mut arguments = vec![
            topic.to_owned(),
            format!("bootstrap.servers={address}"),
            format!("group.id={group}"),
            format!("group.protocol={}", protocol.name()),
        ];
        let more = settings
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        arguments.extend(more);
        let mut process = Command::new("java")
            .args(FAST)
            .arg("-Xmx128m")
            .arg(format!("-Dlog4j2.configurationFile={}", log4j.display()))
            .args(["-cp", &path, "Member"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, said) = channel();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                match line.strip_prefix("> ") {
                    Some(said) => sender.send(said.to_owned()).unwrap_or_default(),
                    None => eprintln!("member: {line}"),
                }
            }
        });
        Self { process, said }
    }

    /// Reads so many records, and commits behind the last.
    pub fn read(&mut self, count: usize) {
        self.tell(&format!("read {count}"), "read");
    }

    /// Commits its positions.
    pub fn commit(&mut self) {
        self.tell("commit", "committed");
    }

    /// Does nothing any more, but is alive.
    pub fn block(&mut self) {
        self.tell("block", "blocked");
    }

    /// Leaves the group.
    pub fn leave(mut self) {
        self.tell("leave", "left");
    }

    /// Ends without leaving.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    #[track_caller]
    fn tell(&mut self, command: &str, answer: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{command}").unwrap();
        let answered = self.wait_for(answer);
        assert!(
            answered.is_some(),
            "it was told to {command}, and said nothing"
        );
    }

    /// What it says next that begins so.
    fn wait_for(&self, beginning: &str) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let said = self.said.recv_timeout(left).ok()?;
            if said.starts_with(beginning) {
                return Some(said);
            }
        }
    }
}

impl Drop for JavaMember {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Where the compiled class lies.
fn classes() -> &'static Path {
    static CLASSES: OnceLock<TempDir> = OnceLock::new();
    let directory = CLASSES.get_or_init(|| {
        let directory = TempDir::new().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/Member.java");
        let compiled = Command::new("javac")
            .args(["-cp", &Release::V4_1.class_path(), "-d"])
            .arg(directory.path())
            .arg(source)
            .output()
            .expect("javac is needed: run `bash tests/setup.sh`");
        let said = String::from_utf8_lossy(&compiled.stderr);
        assert!(compiled.status.success(), "{said}");
        directory
    });
    directory.path()
}
