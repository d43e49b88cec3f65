//! A TCP proxy that makes the network between a client and a broker fail as a test says.
//!
//! Clients of Kafka connect to the addresses that brokers advertise. So the broker gets a listener whose advertised address is the
//! proxy's, and a client that begins at the proxy never gets around it:
//!
//! ```text
//! let proxy = FaultProxy::start();
//! let properties = Properties::default().listener_behind("PROXIED", &proxy.address());
//! let broker = Broker::start(Release::V4_1, properties);
//! proxy.lead_to(&broker.listener("PROXIED"));
//! proxy.set(Fault::ResetEvery(2));
//! ```
//!
//! The broker's other listeners stay untouched: the test looks at it there.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::free_port;

/// What the network does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: all is passed on.
    #[default]
    None,
    /// Every n-th connection is reset when its first request has come, which nobody answers. Counted from [`FaultProxy::set`] on.
    ResetEvery(u64),
    /// So many connections live, counted as above; all others are reset as above.
    ResetBeyond(u64),
    /// Nobody listens. Connections that are there stay.
    Refuse,
    /// Connections are accepted, and nothing is ever answered: what a frozen host or a firewall without a word does.
    HalfOpen,
    /// Every piece of data comes so much later.
    Delay(Duration),
    /// So many bytes come at a time, with such a pause behind them.
    Trickle {
        /// At least 1.
        bytes: usize,
        /// The pause.
        every: Duration,
    },
    /// What goes this way is lost, and connections stay open.
    Drop(Way),
    /// So many answers come, counted from [`FaultProxy::set`] on, each of them small; later ones are lost.
    DropAnswersBeyond(u64),
}

/// Which way data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Requests.
    ToBroker,
    /// Answers.
    ToClient,
}

/// The proxy: gone with its value.
pub struct FaultProxy {
    port: u16,
    shared: Arc<Shared>,
    /// None once it is dropped.
    runtime: Option<Runtime>,
}

struct Shared {
    broker: Mutex<Option<String>>,
    fault: watch::Sender<Fault>,
    /// Counts the calls of [`FaultProxy::reset_all`].
    resets: watch::Sender<u64>,
    accepted: AtomicU64,
    /// Connections since the fault was set.
    since_set: AtomicU64,
    /// Answers since the fault was set.
    answers: AtomicU64,
}

impl FaultProxy {
    /// Listens on a port of its own; connections are closed until it is told where they lead to.
    pub fn start() -> Self {
        let shared = Arc::new(Shared {
            broker: Mutex::default(),
            fault: watch::Sender::new(Fault::None),
            resets: watch::Sender::new(0),
            accepted: AtomicU64::new(0),
            since_set: AtomicU64::new(0),
            answers: AtomicU64::new(0),
        });
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let port = free_port();
        let listener = runtime.block_on(listen(port)).unwrap();
        runtime.spawn(accept(listener, port, Arc::clone(&shared)));
        Self {
            port,
            shared,
            runtime: Some(runtime),
        }
    }

    /// `host:port` of the proxy: what the broker advertises, and where clients begin.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Connections lead to the broker at `address` from now on.
    pub fn lead_to(&self, address: &str) {
        *self.shared.broker() = Some(address.to_owned());
    }

    /// From now on, for connections that are there too.
    pub fn set(&self, fault: Fault) {
        self.shared.since_set.store(0, Ordering::SeqCst);
        self.shared.answers.store(0, Ordering::SeqCst);
        self.shared.fault.send_replace(fault);
    }

    /// Resets all connections that are there.
    pub fn reset_all(&self) {
        self.shared.resets.send_modify(|resets| *resets += 1);
    }

    /// How many connections were accepted, whatever became of them.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn broker(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self) -> Fault {
        *self.fault.borrow()
    }
}

async fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).await
}

async fn accept(listener: TcpListener, port: u16, shared: Arc<Shared>) {
    let mut faults = shared.fault.subscribe();
    let mut listener = Some(listener);
    loop {
        match (shared.fault(), &listener) {
            (Fault::Refuse, _) => listener = None,
            // The port may be in use for a moment more.
            (_, None) => listener = listen(port).await.ok(),
            _ => {}
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None if shared.fault() == Fault::Refuse => std::future::pending().await,
                None => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    Err(io::ErrorKind::AddrInUse.into())
                }
            }
        };
        tokio::select! {
            changed = faults.changed() => if changed.is_err() { return },
            accepted = accepted => if let Ok((client, _)) = accepted {
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                let number = shared.since_set.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::spawn(serve(client, number, Arc::clone(&shared)));
            },
        }
    }
}

/// One connection, the `number`-th since the fault was set.
async fn serve(mut client: TcpStream, number: u64, shared: Arc<Shared>) {
    let mut resets = shared.resets.subscribe();
    let served = async {
        let is_reset = match shared.fault() {
            Fault::ResetEvery(n) => number.is_multiple_of(n),
            Fault::ResetBeyond(n) => number > n,
            _ => false,
        };
        match is_reset {
            true => drop(client.read(&mut [0; 1024]).await),
            false => drop(pass_on(&mut client, &shared).await),
        }
        is_reset
    };
    let is_reset = tokio::select! {
        is_reset = served => is_reset,
        _ = resets.changed() => true,
    };
    if is_reset {
        // Closed without a lingering goodbye: the other side gets RST.
        client.set_zero_linger().ok();
    }
}

/// Passes data on in both ways, until either side closes.
async fn pass_on(client: &mut TcpStream, shared: &Shared) -> io::Result<()> {
    let broker = shared.broker().clone().ok_or(io::ErrorKind::NotConnected)?;
    let mut broker = TcpStream::connect(broker).await?;
    let (client_reads, client_writes) = client.split();
    let (broker_reads, broker_writes) = broker.split();
    tokio::select! {
        ended = pump(client_reads, broker_writes, Way::ToBroker, shared) => ended,
        ended = pump(broker_reads, client_writes, Way::ToClient, shared) => ended,
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: Way,
    shared: &Shared,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let mut left = &buffer[..read];
        while !left.is_empty() {
            let (now, pause) = match shared.fault() {
                Fault::HalfOpen => (0, None),
                Fault::Drop(lost) if lost == way => (0, None),
                Fault::DropAnswersBeyond(most) if way == Way::ToClient => {
                    let answers = shared.answers.fetch_add(1, Ordering::SeqCst) + 1;
                    (if answers > most { 0 } else { left.len() }, None)
                }
                Fault::Trickle { bytes, every } => (bytes.max(1), Some(every)),
                Fault::Delay(delay) => {
                    tokio::time::sleep(delay).await;
                    (left.len(), None)
                }
                Fault::None
                | Fault::ResetEvery(_)
                | Fault::ResetBeyond(_)
                | Fault::Refuse
                | Fault::DropAnswersBeyond(_)
                | Fault::Drop(_) => (left.len(), None),
            };
            if now == 0 {
                break;
            }
            let (first, rest) = left.split_at(now.min(left.len()));
            to.write_all(first).await?;
            left = rest;
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
    }
}
