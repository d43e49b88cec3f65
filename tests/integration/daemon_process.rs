//! A daemon at work, and what it tells.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixture::Fixture;
use crate::testbed::{WrongClock, free_port};

/// A daemon at work, with a configuration directory of its own; killed when the test ends.
pub struct Daemon<'a> {
    scene: &'a Fixture<'a>,
    pub directory: PathBuf,
    pub port: u16,
    pub process: Child,
    /// What systemd is told.
    told: Arc<Mutex<String>>,
    /// Where nobody reads what systemd is told.
    _unheard: Option<UnixDatagram>,
}

/// How a daemon is started.
#[derive(Default)]
struct Launch<'a> {
    http: &'a str,
    more: &'a str,
    policies: &'a str,
    arguments: &'a [&'a str],
    is_unheard: bool,
    is_encrypted: bool,
    hangs: Option<&'a Path>,
    clock: Option<&'a WrongClock>,
}

/// Mounts a file system that answers nothing, as NFS does whose server is gone, and becomes the command given.
const HANG: &str = r#"
import ctypes, os, sys
fuse = os.open("/dev/fuse", os.O_RDWR)
os.set_inheritable(fuse, True)
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"hangs", sys.argv[1].encode(), b"fuse", 0, options) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
os.execv(sys.argv[2], sys.argv[2:])
"#;

impl<'a> Daemon<'a> {
    /// Started with these policies.
    pub fn start(scene: &'a Fixture<'a>, policies: &str) -> Self {
        Self::start_with(scene, "", policies)
    }

    /// The same with more in `kafkeep.toml`.
    pub fn start_with(scene: &'a Fixture<'a>, more: &str, policies: &str) -> Self {
        let launch = Launch {
            more,
            policies,
            ..Launch::default()
        };
        Self::launch(scene, &launch)
    }

    /// The same with a directory for its state.
    pub fn start_remembering(scene: &'a Fixture<'a>, policies: &str, state: &Path) -> Self {
        Self::start_remembering_with(scene, "", policies, state)
    }

    /// The same with more in `kafkeep.toml`.
    pub fn start_remembering_with(
        scene: &'a Fixture<'a>,
        more: &str,
        policies: &str,
        state: &Path,
    ) -> Self {
        let launch = Launch {
            more,
            policies,
            arguments: &["--state-directory", state.to_str().unwrap()],
            ..Launch::default()
        };
        Self::launch(scene, &launch)
    }

    /// The same under a systemd that reads nothing of what it is told.
    pub fn start_unheard(scene: &'a Fixture<'a>, policies: &str) -> Self {
        let launch = Launch {
            policies,
            is_unheard: true,
            ..Launch::default()
        };
        Self::launch(scene, &launch)
    }

    /// The same with more in `[http]` and in the rest of `kafkeep.toml`; its port speaks TLS alone.
    pub fn start_encrypted(scene: &'a Fixture<'a>, http: &str, more: &str) -> Self {
        let launch = Launch {
            http,
            more,
            is_encrypted: true,
            ..Launch::default()
        };
        Self::launch(scene, &launch)
    }

    /// The same with more in `kafkeep.toml`, and a directory in which every call hangs for this daemon; it is ready, but not
    /// all of it is loaded.
    pub fn start_with_a_hang(
        scene: &'a Fixture<'a>,
        more: &str,
        policies: &str,
        hangs: &Path,
    ) -> Self {
        let launch = Launch {
            more,
            policies,
            hangs: Some(hangs),
            ..Launch::default()
        };
        Self::launch(scene, &launch)
    }

    /// The same with a directory for its state, and a wall clock of its own.
    pub fn start_with_clock(
        scene: &'a Fixture<'a>,
        policies: &str,
        state: &Path,
        clock: &WrongClock,
    ) -> Self {
        let launch = Launch {
            policies,
            arguments: &["--state-directory", state.to_str().unwrap()],
            clock: Some(clock),
            ..Launch::default()
        };
        Self::launch(scene, &launch)
    }

    fn launch(scene: &'a Fixture<'a>, launch: &Launch<'_>) -> Self {
        let directory = scene.beside("etc");
        fs::create_dir_all(directory.join("policies.d")).unwrap();
        let port = free_port();
        let kafkeep = format!(
            "[http]\nlisten = '127.0.0.1:{port}'\n{}\n[clusters.prod]\nbootstrap_servers = ['{}']\n[repositories.main]\npath = '{}'\n{}",
            launch.http,
            scene.broker.address(),
            scene.repository().display(),
            launch.more,
        );
        fs::write(directory.join("kafkeep.toml"), kafkeep).unwrap();
        fs::write(directory.join("policies.d/test.toml"), launch.policies).unwrap();
        let socket = scene.beside("notify");
        // Of a daemon before this one.
        fs::remove_file(&socket).ok();
        let socket_of_systemd = UnixDatagram::bind(&socket).unwrap();
        let (told, unheard) = match launch.is_unheard {
            true => (Arc::default(), Some(socket_of_systemd)),
            false => (listen(socket_of_systemd), None),
        };
        let mut command = command(launch.hangs);
        if let Some(clock) = launch.clock {
            clock.put_on(&mut command);
        }
        let process = command
            .args(["run", "--config", directory.to_str().unwrap()])
            .args(launch.arguments)
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stderr(fs::File::create(scene.beside("log")).unwrap())
            .spawn()
            .unwrap();
        let daemon = Self {
            scene,
            directory,
            port,
            process,
            told,
            _unheard: unheard,
        };
        let is_told = launch.is_encrypted || launch.hangs.is_some();
        daemon.wait_until("it is ready", |daemon| match is_told {
            true => daemon.told.lock().unwrap().contains("READY=1"),
            false => {
                TcpStream::connect(("127.0.0.1", daemon.port)).is_ok()
                    && daemon.get("/readyz").0 == 200
            }
        });
        daemon
    }

    pub fn write_policies(&self, policies: &str) {
        // As editors do: a new file takes the old one's name.
        let new = self.directory.join("policies.d/.test.toml.new");
        fs::write(&new, policies).unwrap();
        fs::rename(new, self.directory.join("policies.d/test.toml")).unwrap();
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        ))
    }

    pub fn ask(&self, request: &str) -> (u16, String) {
        ask(self.port, request)
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status").1).unwrap()
    }

    /// A metric's value; none where there is no such series.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics");
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, happened: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !happened(self) {
            assert!(Instant::now() < deadline, "never: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.scene.beside("log")).unwrap()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Waits until systemd was told all this since the last wait.
    #[track_caller]
    pub fn wait_until_told(&self, what: &[&str]) {
        self.wait_until(&format!("systemd is told {what:?}"), |daemon| {
            let told = daemon.told.lock().unwrap();
            what.iter().all(|line| told.contains(line))
        });
        self.told.lock().unwrap().clear();
    }
}

/// The built command, in a mount namespace of its own where something is to hang.
fn command(hangs: Option<&Path>) -> Command {
    let kafkeep = env!("CARGO_BIN_EXE_kafkeep");
    let Some(place) = hangs else {
        return Command::new(kafkeep);
    };
    fs::create_dir_all(place).unwrap();
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut command = Command::new("unshare");
    command
        .args(if is_root { &["-m"][..] } else { &["-r", "-m"] })
        .args(["python3", "-c", HANG])
        .args([place.as_os_str(), kafkeep.as_ref()]);
    command
}

/// Reads all that is sent, as systemd does: who tells would wait else.
fn listen(socket: UnixDatagram) -> Arc<Mutex<String>> {
    let told = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&told);
    std::thread::spawn(move || {
        let mut message = [0; 4096];
        while let Ok(length) = socket.recv(&mut message) {
            let message = std::str::from_utf8(&message[..length]).unwrap();
            let mut heard = heard.lock().unwrap();
            heard.push_str(message);
            heard.push('\n');
        }
    });
    told
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Sends a whole request to a port of this machine: the answer's code and body.
pub fn ask(port: u16, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let code = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (code, body)
}

/// A backup policy of `topic`.
pub fn policy(name: &str, topic: &str, every: &str, more: &str) -> String {
    format!(
        "[backup.{name}]\ncluster = 'prod'\nrepository = 'main'\ntopics = ['{topic}']\nevery = '{every}'\nmax_age = '1h'\n{more}\n"
    )
}
