//! TLS and SASL against a real broker with every kind of listener.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use kafkeep::kafka::{
    self, FetchPartition, FetchRequest, IsolationLevel, Retry, TopicPartition, Topics,
};
use kafkeep::memory::MemoryBudget;
use kafkeep::policy::load_cluster;
use kafkeep::record::{Offset, PartitionId};
use tempfile::TempDir;

use crate::kafkeep;
use crate::testbed::{
    Authority, Broker, Client, Compression, Message, Outcome, Properties, Release, wait_for,
};

const TOPIC: &str = "secured";

/// A broker, those who may vouch for it, and somebody else.
struct Secured {
    broker: Broker,
    authority: Authority,
    stranger: Authority,
}

/// Sessions of the listener REAUTH last so long.
const SESSION: Duration = Duration::from_millis(2_500);

fn login(module: &str) -> String {
    format!("org.apache.kafka.common.security.{module} required")
}

fn plain_users() -> String {
    format!(
        "{} user_alice=\"alice-pw\";",
        login("plain.PlainLoginModule")
    )
}

fn properties(authority: &Authority) -> Properties {
    let scram = format!("{};", login("scram.ScramLoginModule"));
    let oauth = format!(
        "{} unsecuredLoginStringClaim_sub=\"broker\";",
        login("oauthbearer.OAuthBearerLoginModule")
    );
    let keystore = |name: &str| {
        authority
            .file(&format!("{name}.keystore"))
            .display()
            .to_string()
    };
    let max_reauth = SESSION.as_millis();
    Properties::default()
        .set("ssl.keystore.type", "PEM")
        .set("ssl.keystore.location", keystore("broker"))
        .set("ssl.truststore.type", "PEM")
        .set("ssl.truststore.location", authority.ca_file().display())
        .listener("MUTUAL", "SSL")
        .set("listener.name.mutual.ssl.client.auth", "required")
        .listener("MISNAMED", "SSL")
        .set("listener.name.misnamed.ssl.keystore.type", "PEM")
        .set(
            "listener.name.misnamed.ssl.keystore.location",
            keystore("misnamed"),
        )
        .listener("EXPIRED", "SSL")
        .set("listener.name.expired.ssl.keystore.type", "PEM")
        .set(
            "listener.name.expired.ssl.keystore.location",
            keystore("expired"),
        )
        .listener("SCRAM", "SASL_SSL")
        .set(
            "listener.name.scram.sasl.enabled.mechanisms",
            "SCRAM-SHA-256,SCRAM-SHA-512",
        )
        .set("listener.name.scram.scram-sha-256.sasl.jaas.config", &scram)
        .set("listener.name.scram.scram-sha-512.sasl.jaas.config", &scram)
        .scram("SCRAM-SHA-256=[name=al=ice,password=alice-pw]")
        .scram("SCRAM-SHA-512=[name=alice,password=alice-pw]")
        .set(
            "listener.name.scram.scram-sha-512.connections.max.reauth.ms",
            max_reauth,
        )
        .scram("SCRAM-SHA-512=[name=rotating,password=before]")
        .listener("PLAIN", "SASL_PLAINTEXT")
        .set("listener.name.plain.sasl.enabled.mechanisms", "PLAIN")
        .set("listener.name.plain.plain.sasl.jaas.config", plain_users())
        .listener("REAUTH", "SASL_PLAINTEXT")
        .set(
            "listener.name.reauth.sasl.enabled.mechanisms",
            "PLAIN,OAUTHBEARER",
        )
        .set("listener.name.reauth.plain.sasl.jaas.config", plain_users())
        .set("listener.name.reauth.oauthbearer.sasl.jaas.config", &oauth)
        .set(
            "listener.name.reauth.plain.connections.max.reauth.ms",
            max_reauth,
        )
        .set(
            "listener.name.reauth.oauthbearer.connections.max.reauth.ms",
            max_reauth,
        )
}

fn issue_for_brokers(authority: &Authority) {
    authority.issue("broker", &["localhost", "127.0.0.1"], 2096);
    authority.issue("misnamed", &["kafka1.example", "10.0.0.1"], 2096);
    authority.issue("expired", &["localhost"], 2020);
    authority.issue("client", &[], 2096);
}

/// The one broker of this module.
fn secured() -> &'static Secured {
    static SECURED: OnceLock<Secured> = OnceLock::new();
    SECURED.get_or_init(|| {
        let (authority, stranger) = (Authority::new(), Authority::new());
        issue_for_brokers(&authority);
        let broker = Broker::start(Release::V4_1, properties(&authority));
        fill(&broker);
        Secured {
            broker,
            authority,
            stranger,
        }
    })
}

/// A topic whose backup takes a while.
const LARGE: &str = "secured.large";

fn fill(broker: &Broker) {
    let client = Client::new(&broker.address());
    client.create_topic(LARGE, 1, &[]);
    let messages = (0..8_000).map(|n| Message::new(format!("{n}"), vec![b'.'; 1_000]));
    client.produce(LARGE, 0, Compression::None, messages);
    client.create_topic(TOPIC, 1, &[]);
    let messages = (0..20).map(|n| Message::new(format!("{n}"), "value"));
    client.produce(TOPIC, 0, Compression::None, messages);
}

/// A cluster file, with the files it names.
struct ClusterFile {
    directory: TempDir,
    text: String,
}

impl ClusterFile {
    fn new(address: &str) -> Self {
        Self {
            directory: TempDir::new().unwrap(),
            text: format!("bootstrap_servers = ['{address}']\n"),
        }
    }

    fn at(listener: &str) -> Self {
        Self::new(&secured().broker.listener(listener))
    }

    fn with(mut self, line: &str) -> Self {
        self.text += line;
        self.text.push('\n');
        self
    }

    fn trusting(self, authority: &Authority) -> Self {
        let line = format!("tls.ca_file = '{}'", authority.ca_file().display());
        self.with(&line)
    }

    fn certified_as(self, authority: &Authority, name: &str) -> Self {
        let file = |kind: &str| {
            authority
                .file(&format!("{name}.{kind}"))
                .display()
                .to_string()
        };
        let line = format!(
            "tls.cert_file = '{}'\ntls.key_file = '{}'",
            file("pem"),
            file("key")
        );
        self.with(&line)
    }

    fn secret(&self, name: &str, content: &str) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn signed_in_as(self, mechanism: &str, username: &str, password: &str) -> Self {
        let file = self.secret("password", password);
        self.with(&format!(
            "sasl = {{ mechanism = '{mechanism}', username = '{username}', password = {{ file = '{file}' }} }}"
        ))
    }

    fn with_token(self, token: &str) -> Self {
        let file = self.secret("token", token);
        self.with(&format!(
            "sasl = {{ mechanism = 'OAUTHBEARER', token_file = '{file}' }}"
        ))
    }

    fn path(&self) -> String {
        self.secret("cluster.toml", &self.text)
    }

    fn repository(&self) -> PathBuf {
        self.directory.path().join("repository")
    }

    /// Backs the topic up.
    fn backup(&self) -> Outcome {
        self.backup_of(TOPIC, &[])
    }

    fn backup_of(&self, topic: &str, more: &[&str]) -> Outcome {
        let (file, repository) = (self.path(), self.repository());
        let places = [
            "backup",
            "--json",
            "--kafka-config",
            &file,
            "--repository",
            repository.to_str().unwrap(),
            "--topic",
            topic,
        ];
        kafkeep([&places, more].concat())
    }

    /// What was let in stays so through several sessions, though its secret is `changed` meanwhile.
    fn survives(&self, changed: impl FnOnce()) {
        let slowly = [
            "--compression",
            "none",
            "--pack-size",
            "1MiB",
            "--rate-limit",
            "800KiB/s",
        ];
        let sealed = self.repository().join("runs");
        let begun = || fs::read_dir(&sealed).is_ok_and(|mut runs| runs.next().is_some());
        std::thread::scope(|scope| {
            let running = scope.spawn(|| self.backup_of(LARGE, &slowly));
            wait_for("the run begins", begun);
            changed();
            let changed = Instant::now();
            let report = running.join().unwrap().done();
            assert_eq!(report["total_messages"], 8_000);
            let rest = changed.elapsed();
            assert!(
                rest > 3 * SESSION / 2,
                "only {rest:?} were left for new sessions"
            );
        });
    }

    #[track_caller]
    fn is_let_in(&self) {
        let report = self.backup().done();
        assert_eq!(report["total_messages"], 20, "{report}");
    }

    /// It is told at once and for good, by a message that says so much and no secret.
    #[track_caller]
    fn is_refused(&self, said: &[&str]) {
        self.is_refused_with(1, said);
    }

    #[track_caller]
    fn is_refused_with(&self, code: i32, said: &[&str]) {
        let began = Instant::now();
        let outcome = self.backup();
        outcome.refused(code, said);
        assert!(began.elapsed() < Duration::from_secs(30), "{outcome}");
        for secret in ["alice-pw", "sesame"] {
            assert!(!outcome.stderr.contains(secret), "{outcome}");
        }
    }
}

#[test]
fn a_client_certificate_opens_a_listener_that_wants_one() {
    let Secured { authority, .. } = secured();
    ClusterFile::at("MUTUAL")
        .trusting(authority)
        .certified_as(authority, "client")
        .is_let_in();
}

#[test]
fn without_a_client_certificate_the_operator_learns_that_one_is_wanted() {
    ClusterFile::at("MUTUAL")
        .trusting(&secured().authority)
        .is_refused(&["client certificate", "tls.cert_file"]);
}

#[test]
fn a_client_certificate_of_another_authority_is_refused() {
    let Secured {
        authority,
        stranger,
        ..
    } = secured();
    stranger.issue("client", &[], 2096);
    ClusterFile::at("MUTUAL")
        .trusting(authority)
        .certified_as(stranger, "client")
        .is_refused(&["client certificate"]);
}

#[test]
fn a_broker_of_another_authority_is_not_trusted() {
    let Secured { stranger, .. } = secured();
    let file = ClusterFile::at("SCRAM").trusting(stranger);
    file.signed_in_as("SCRAM-SHA-512", "alice", "alice-pw")
        .is_refused(&["nobody whom we trust has signed", "ca_file"]);
}

#[test]
fn a_broker_under_a_name_that_its_certificate_lacks_is_not_trusted() {
    ClusterFile::at("MISNAMED")
        .trusting(&secured().authority)
        .is_refused(&["is for kafka1.example, 10.0.0.1, not for localhost"]);
}

#[test]
fn a_broker_whose_certificate_has_expired_is_not_trusted() {
    ClusterFile::at("EXPIRED")
        .trusting(&secured().authority)
        .is_refused(&["has expired on 2020-12-31"]);
}

#[test]
fn files_that_are_no_certificates_are_named() {
    let Secured { authority, .. } = secured();
    let file = ClusterFile::at("MUTUAL");
    let empty = file.secret("empty.pem", "");
    file.with(&format!("tls.ca_file = '{empty}'"))
        .is_refused_with(78, &["empty.pem: the file is empty"]);
    ClusterFile::at("MUTUAL")
        .with("tls.ca_file = '/nowhere/ca.pem'")
        .is_refused_with(78, &["/nowhere/ca.pem: "]);
    let key = authority.file("client.key");
    ClusterFile::at("MUTUAL")
        .with(&format!("tls.ca_file = '{}'", key.display()))
        .is_refused_with(78, &["client.key: no certificate in PEM form"]);
}

#[test]
fn a_certificate_that_was_renewed_is_taken_up_by_the_next_connection() {
    let Secured { authority, .. } = secured();
    authority.issue("renewed", &[], 2020);
    let file = ClusterFile::at("MUTUAL")
        .trusting(authority)
        .certified_as(authority, "renewed");
    file.is_refused(&["client certificate"]);
    authority.issue("renewed", &[], 2096);
    let cluster = load_cluster(&[], Some(file.path().as_ref())).unwrap();
    block_on(async {
        let client = connect(cluster).await;
        // The same client, whose first connection was made with the files before.
        let broker = *metadata(&client).await.brokers.keys().next().unwrap();
        client.connection(broker).await.unwrap();
        authority.issue("renewed", &[], 2020);
        client.connection(broker).await.unwrap_err();
        authority.issue("renewed", &[], 2097);
        client.connection(broker).await.unwrap();
    });
}

#[test]
fn the_wrong_kind_of_listener_is_told() {
    let Secured {
        broker, authority, ..
    } = secured();
    ClusterFile::new(&broker.address())
        .trusting(authority)
        .is_refused(&["this port speaks plain text"]);
    ClusterFile::at("MUTUAL").is_refused(&["this port speaks TLS"]);
    ClusterFile::at("PLAIN").is_refused(&["wants credentials", "(PLAIN)"]);
    ClusterFile::at("SCRAM")
        .trusting(authority)
        .is_refused(&["wants credentials", "SCRAM-SHA-256"]);
    ClusterFile::new(&broker.address())
        .signed_in_as("PLAIN", "alice", "alice-pw")
        .is_refused(&["wants no SASL"]);
}

#[test]
fn scram_users_are_let_in_by_either_hash() {
    let Secured { authority, .. } = secured();
    for (mechanism, user) in [("SCRAM-SHA-256", "al=ice"), ("SCRAM-SHA-512", "alice")] {
        ClusterFile::at("SCRAM")
            .trusting(authority)
            .signed_in_as(mechanism, user, "alice-pw")
            .is_let_in();
    }
}

#[test]
fn a_wrong_password_and_an_unknown_user_are_told_as_the_broker_tells_them() {
    let Secured { authority, .. } = secured();
    for (mechanism, user) in [("SCRAM-SHA-256", "al=ice"), ("SCRAM-SHA-512", "alice")] {
        for (user, password) in [(user, "sesame"), ("mallory", "alice-pw")] {
            ClusterFile::at("SCRAM")
                .trusting(authority)
                .signed_in_as(mechanism, user, password)
                .is_refused(&[
                    "refused the credentials",
                    "invalid credentials",
                    "sasl.password",
                ]);
        }
    }
    for (user, password) in [("alice", "sesame"), ("mallory", "alice-pw")] {
        ClusterFile::at("PLAIN")
            .signed_in_as("PLAIN", user, password)
            .is_refused(&["refused the credentials", "Invalid username or password"]);
    }
}

#[test]
fn plain_users_are_let_in() {
    ClusterFile::at("PLAIN")
        .signed_in_as("PLAIN", "alice", "alice-pw")
        .is_let_in();
}

#[test]
fn a_mechanism_that_is_not_enabled_is_told_with_those_that_are() {
    ClusterFile::at("SCRAM")
        .trusting(&secured().authority)
        .signed_in_as("PLAIN", "alice", "alice-pw")
        .is_refused(&["PLAIN is not enabled", "SCRAM-SHA-256", "SCRAM-SHA-512"]);
}

/// A token that the broker's development validator believes: unsigned, valid for so long.
fn token(lifetime: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = now.as_secs() as i64;
    let claims = format!(
        r#"{{"sub":"alice","iat":{},"exp":{}}}"#,
        now.min(now + lifetime) - 60,
        now + lifetime
    );
    format!(
        "{}.{}.",
        BASE64.encode(r#"{"alg":"none"}"#),
        BASE64.encode(claims)
    )
}

#[test]
fn a_token_from_a_file_lets_in_and_an_expired_one_does_not() {
    ClusterFile::at("REAUTH")
        .with_token(&format!("{}\n", token(3_600)))
        .is_let_in();
    ClusterFile::at("REAUTH")
        .with_token(&token(-3_600))
        .is_refused(&["refused the credentials", "invalid_token", "expiry"]);
    ClusterFile::at("REAUTH")
        .with_token("")
        .is_refused_with(78, &["token: the token file is empty"]);
}

/// A token endpoint that knows one secret; it lives as long as the test process.
fn token_endpoint() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut read = [0; 1024];
            while !String::from_utf8_lossy(&request).contains("grant_type=client_credentials") {
                let count = stream.read(&mut read).unwrap();
                request.extend_from_slice(&read[..count]);
            }
            // `kafkeep:open+sesame` in base64.
            let known = "Basic a2Fma2VlcDpvcGVuK3Nlc2FtZQ==";
            let (status, body) = if String::from_utf8_lossy(&request).contains(known) {
                let token = token(3_600);
                let body = format!(
                    r#"{{"access_token":"{token}","token_type":"bearer","expires_in":3600}}"#
                );
                ("200 OK", body)
            } else {
                let body = r#"{"error":"invalid_client","error_description":"who?"}"#;
                ("401 Unauthorized", body.to_owned())
            };
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    port
}

#[test]
fn client_credentials_become_a_token() {
    let port = token_endpoint();
    let file = |secret: &str| {
        let file = ClusterFile::at("REAUTH");
        let secret = file.secret("secret", secret);
        file.with(&format!(
            "[sasl]\nmechanism = 'OAUTHBEARER'\ntoken_endpoint = 'http://localhost:{port}/token'\nclient_id = 'kafkeep'\n\
             client_secret = {{ file = '{secret}' }}"
        ))
    };
    file("open sesame").is_let_in();
    file("close sesame").is_refused(&[
        "token endpoint http://localhost",
        "401 Unauthorized: invalid_client who?",
    ]);
}

// Sessions that end (KIP-368).

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

async fn connect(cluster: kafka::Cluster) -> kafka::Client {
    kafka::Client::connect(cluster, Retry::default())
        .await
        .unwrap()
}

async fn metadata(client: &kafka::Client) -> kafka::Metadata {
    client.metadata(Topics::All).await.unwrap()
}

/// Fetches over one connection, with two requests in flight, for the time of three sessions.
async fn fetch_through_sessions(cluster: kafka::Cluster) {
    let client = connect(cluster).await;
    let metadata = metadata(&client).await;
    let topic = &metadata.topics[TOPIC];
    let leader = topic.partitions[&PartitionId(0)].leader.unwrap();
    let connection = client.connection(leader).await.unwrap();
    let key = Arc::new(TopicPartition {
        topic: TOPIC.to_owned(),
        partition: PartitionId(0),
    });
    let request = || FetchRequest {
        max_wait: Duration::from_millis(100),
        min_bytes: 1 << 20,
        max_bytes: 1 << 20,
        isolation: IsolationLevel::ReadUncommitted,
        partitions: vec![FetchPartition {
            key: Arc::clone(&key),
            topic_id: topic.topic_id,
            offset: Offset(0),
            leader_epoch: None,
            last_fetched_epoch: None,
            max_bytes: 1 << 20,
        }],
    };
    let memory = MemoryBudget::default().run();
    let start = async || {
        let memory = memory.reserve(2 << 20).await;
        connection.start_fetch(request(), memory).await.unwrap()
    };
    let began = Instant::now();
    let mut pending = start().await;
    while began.elapsed() < 3 * SESSION {
        let next = start().await;
        let fetched = pending.receive().await.unwrap();
        assert_eq!(fetched[0].high_watermark, Offset(20));
        pending = next;
    }
    // Idle beyond the end of the session, it is still good.
    tokio::time::sleep(SESSION + SESSION / 5).await;
    pending.receive().await.unwrap();
    let last = start().await;
    assert_eq!(last.receive().await.unwrap().len(), 1);
}

#[test]
fn a_password_may_be_changed_while_a_run_goes_on() {
    let Secured {
        broker, authority, ..
    } = secured();
    let file = ClusterFile::at("SCRAM").trusting(authority).signed_in_as(
        "SCRAM-SHA-512",
        "rotating",
        "before",
    );
    file.survives(|| {
        // For a moment, the broker knows the new one and we do not.
        let change = [
            "--bootstrap-server",
            &broker.address(),
            "--alter",
            "--add-config",
            "SCRAM-SHA-512=[iterations=4096,password=after]",
            "--entity-type",
            "users",
            "--entity-name",
            "rotating",
        ];
        let changed = broker.tool("kafka.admin.ConfigCommand", &change);
        assert!(changed.status.success(), "{changed:?}");
        file.secret("password", "after\n");
    });
    ClusterFile::at("SCRAM")
        .trusting(authority)
        .signed_in_as("SCRAM-SHA-512", "rotating", "before")
        .is_refused(&["refused the credentials"]);
}

#[test]
fn a_token_may_be_renewed_while_a_run_goes_on() {
    let file = ClusterFile::at("REAUTH").with_token(&token(5));
    file.survives(|| drop(file.secret("token", &token(3_600))));
}

#[test]
fn a_connection_outlives_its_sessions() {
    let file = ClusterFile::at("REAUTH").signed_in_as("PLAIN", "alice", "alice-pw");
    let by_password = load_cluster(&[], Some(file.path().as_ref())).unwrap();
    let file = ClusterFile::at("REAUTH").with_token(&token(3_600));
    let by_token = load_cluster(&[], Some(file.path().as_ref())).unwrap();
    block_on(async {
        tokio::join!(
            fetch_through_sessions(by_password),
            fetch_through_sessions(by_token)
        )
    });
}

#[test]
fn the_oldest_supported_broker_speaks_tls_and_sasl_too() {
    let authority = Authority::new();
    issue_for_brokers(&authority);
    // In a file, this release takes an encrypted key only.
    let inline = |name: &str| {
        let pem = fs::read_to_string(authority.file(name)).unwrap();
        pem.replace('\n', "\\n")
    };
    let properties = Properties::default()
        .set("ssl.keystore.type", "PEM")
        .set("ssl.keystore.key", inline("broker.key"))
        .set("ssl.keystore.certificate.chain", inline("broker.pem"))
        .listener("SECURED", "SASL_SSL")
        .set("listener.name.secured.sasl.enabled.mechanisms", "PLAIN")
        .set(
            "listener.name.secured.plain.sasl.jaas.config",
            plain_users(),
        )
        .set(
            "listener.name.secured.plain.connections.max.reauth.ms",
            SESSION.as_millis(),
        );
    let broker = Broker::start(Release::V2_8, properties);
    fill(&broker);
    let file = |password: &str| {
        ClusterFile::new(&broker.listener("SECURED"))
            .trusting(&authority)
            .signed_in_as("PLAIN", "alice", password)
    };
    file("alice-pw").is_let_in();
    file("sesame").is_refused(&["Invalid username or password"]);
    let file = file("alice-pw");
    let cluster = load_cluster(&[], Some(file.path().as_ref()));
    block_on(fetch_through_sessions(cluster.unwrap()));
}
