//! Three or eight brokers and a controller. Each broker can be stopped, killed and frozen.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, ElectLeadersRequest, RequestHeader,
    ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tempfile::TempDir;

use super::kafka::{FAST, Member, Process, cluster_id, directory, format_storage, free_port};
use super::{Broker, Client, Properties, Release};

/// A controller of its own, so that the cluster keeps its memory whatever happens to its brokers.
pub struct Cluster {
    brokers: Vec<Broker>,
    _controller: Controller,
}

struct Controller {
    _process: Process,
    _directory: TempDir,
}

/// A broker that says nothing for so long has lost its leaderships: time enough for a slow machine, not much to wait for.
const SESSION: Duration = Duration::from_millis(2_500);
const CONTROLLER: u16 = 100;

/// A cluster that tests share: started for the first test that needs it, and used by one test at a time.
struct Shared {
    cluster: OnceLock<Cluster>,
    turn: Mutex<()>,
}

impl Shared {
    const fn new() -> Self {
        Self {
            cluster: OnceLock::new(),
            turn: Mutex::new(()),
        }
    }

    fn taken(&'static self, start: fn() -> Cluster) -> Taken {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster = self.cluster.get_or_init(start);
        cluster.heal();
        Taken {
            cluster,
            _turn: turn,
        }
    }
}

impl Cluster {
    /// The three brokers of all tests that need several, one test at a time, all running.
    pub fn taken() -> Taken {
        static THREE: Shared = Shared::new();
        THREE.taken(|| Self::start(3, Properties::default().heap_size("256m")))
    }

    /// The eight brokers of all tests that need many leaders, one test at a time, all running.
    pub fn of_eight() -> Taken {
        static EIGHT: Shared = Shared::new();
        EIGHT.taken(|| Self::start(8, Properties::default().small()))
    }

    /// Starts a controller and this many brokers, and waits until all brokers answer.
    pub fn start(count: u16, properties: Properties) -> Self {
        let (cluster_id, port) = (cluster_id(), free_port());
        let properties = properties
            .set("broker.session.timeout.ms", SESSION.as_millis())
            .set("broker.heartbeat.interval.ms", 400)
            .set("auto.leader.rebalance.enable", false)
            .set("replica.lag.time.max.ms", 5_000)
            .set("replica.fetch.wait.max.ms", 200)
            .set("offsets.topic.replication.factor", 3)
            .set("transaction.state.log.replication.factor", 3)
            .set("num.network.threads", 2)
            .set("num.io.threads", 3)
            .set("background.threads", 2);
        let controller = Controller::start(&cluster_id, port, &properties);
        let brokers: Vec<Broker> = std::thread::scope(|scope| {
            let starting: Vec<_> = (1..=count)
                .map(|id| {
                    let member = Member {
                        id,
                        cluster_id: cluster_id.clone(),
                        controller: (CONTROLLER, port),
                    };
                    let properties = &properties;
                    scope.spawn(move || {
                        Broker::launch(Release::V4_1, properties, &member, directory())
                    })
                })
                .collect();
            starting
                .into_iter()
                .map(|broker| broker.join().unwrap())
                .collect()
        });
        for broker in &brokers {
            broker.wait_until_ready(brokers.len());
        }
        Self {
            brokers,
            _controller: controller,
        }
    }

    /// What a test that failed has left behind: brokers that are frozen or gone.
    fn heal(&self) {
        for broker in &self.brokers {
            if broker.is_running() {
                broker.thaw();
            } else {
                broker.start_again();
            }
        }
        for broker in &self.brokers {
            broker.wait_until_ready(self.brokers.len());
        }
    }

    /// All brokers, by their ids from 1 on.
    pub fn brokers(&self) -> &[Broker] {
        &self.brokers
    }

    /// The broker of this id.
    pub fn broker(&self, id: i32) -> &Broker {
        &self.brokers[usize::try_from(id).unwrap() - 1]
    }

    /// `host:port,…` of all.
    pub fn addresses(&self) -> String {
        let addresses: Vec<String> = self.brokers.iter().map(Broker::address).collect();
        addresses.join(",")
    }

    /// Makes these brokers the leaders of a topic's partitions, each of which must have a copy there.
    pub fn lead(&self, topic: &str, leaders: &[i32]) {
        let placement = self.client().placement(topic);
        let name = || TopicName(StrBytes::from_string(topic.to_owned()));
        let partitions = || (0_i32..).zip(placement.iter().zip(leaders));
        let reassigned = partitions().map(|(number, (placed, leader))| {
            let mut replicas = placed.replicas.clone();
            replicas.sort_by_key(|replica| replica != leader);
            let replicas = replicas.into_iter().map(BrokerId).collect();
            ReassignablePartition::default()
                .with_partition_index(number)
                .with_replicas(Some(replicas))
        });
        let reassign = AlterPartitionReassignmentsRequest::default()
            .with_timeout_ms(10_000)
            .with_topics(vec![
                ReassignableTopic::default()
                    .with_name(name())
                    .with_partitions(reassigned.collect()),
            ]);
        let elect = ElectLeadersRequest::default()
            .with_timeout_ms(10_000)
            .with_topic_partitions(Some(vec![
                TopicPartitions::default()
                    .with_topic(name())
                    .with_partitions(partitions().map(|(number, _)| number).collect()),
            ]));
        let address = self.brokers[0].address();
        let reassigned = ask(&address, &reassign, 0);
        assert_eq!(reassigned.error_code, 0, "{reassigned:?}");
        wait_for("other leaders", || {
            // The order of replicas is known to all a little later.
            ask(&address, &elect, 2);
            let placed = self.client().placement(topic);
            placed
                .iter()
                .map(|placed| placed.leader)
                .eq(leaders.iter().copied())
        });
    }

    /// A client of all.
    pub fn client(&self) -> Client {
        Client::new(&self.addresses()).with("topic.metadata.refresh.interval.ms", "500")
    }
}

/// The cluster as long as it is one test's.
pub struct Taken {
    cluster: &'static Cluster,
    _turn: MutexGuard<'static, ()>,
}

impl Deref for Taken {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.cluster
    }
}

impl Controller {
    fn start(cluster_id: &str, port: u16, properties: &Properties) -> Self {
        let directory = directory();
        let file = directory.path().join("server.properties");
        let mut lines = format!(
            "process.roles=controller\nnode.id={CONTROLLER}\ncontroller.listener.names=CONTROLLER\n\
             controller.quorum.voters={CONTROLLER}@127.0.0.1:{port}\nlisteners=CONTROLLER://127.0.0.1:{port}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\nlog.dirs={}\n",
            directory.path().join("log").display()
        );
        for (name, value) in properties.lines() {
            lines += &format!("{name}={value}\n");
        }
        fs::write(&file, lines).unwrap();
        format_storage(Release::V4_1, &file, cluster_id, &Properties::default());
        let mut java = vec!["-Xmx256m".to_owned()];
        java.extend(FAST.map(str::to_owned));
        let main = ["kafka.Kafka".to_owned(), file.display().to_string()];
        let process = Process::start(Release::V4_1, directory.path(), "controller", &java, &main);
        Self {
            _process: process,
            _directory: directory,
        }
    }
}

/// Asks a broker, as Kafka's own tools do.
pub fn ask<R: Request>(address: &str, request: &R, version: i16) -> R::Response {
    let mut bytes = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .encode(&mut bytes, R::header_version(version))
        .unwrap();
    request.encode(&mut bytes, version).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    stream.write_all(&length).unwrap();
    stream.write_all(&bytes).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).unwrap();
    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, R::Response::header_version(version)).unwrap();
    R::Response::decode(&mut answer, version).unwrap()
}

/// Waits for what must come soon; says what when it does not.
#[track_caller]
pub fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !there() {
        assert!(Instant::now() < deadline, "not within 60 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
