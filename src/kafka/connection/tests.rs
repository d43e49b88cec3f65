use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, MetadataRequest, SaslAuthenticateRequest,
    SaslAuthenticateResponse, SaslHandshakeResponse,
};
use kafka_protocol::protocol::Encodable;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};

use super::super::testing::{Asked, Peer, every_version, metadata, metadata_without_brokers};
use super::super::{Client, ErrorCode, Retry, Sasl, Secret, Topics};
use super::*;

const NAME: &str = "broker-1:9092";

/// Both ends of a connection in memory, where time can be wound on.
fn connected() -> (BrokerStream, Peer<DuplexStream>) {
    let (ours, theirs) = tokio::io::duplex(1 << 10);
    let (reading, writing) = tokio::io::split(ours);
    let stream = BrokerStream {
        reading: Box::new(reading),
        writing: Box::new(writing),
    };
    (stream, Peer(theirs))
}

fn access(sasl: Option<Sasl>) -> Arc<Access> {
    let mut cluster = Cluster::new(Vec::new());
    cluster.sasl = sasl;
    Arc::new(Access::new(&cluster, Retry::default().patience()))
}

async fn begin(stream: BrokerStream, sasl: Option<Sasl>) -> Result<Connection, KafkaError> {
    Connection::begin(&access(sasl), BrokerId(1), NAME.into(), stream).await
}

/// A connection to a broker that greets, then follows the script.
async fn opened<F: Future<Output = ()> + Send + 'static>(
    script: impl FnOnce(Peer<DuplexStream>) -> F + Send + 'static,
) -> Connection {
    let (stream, mut peer) = connected();
    let greeted = tokio::spawn(async move {
        let asked = peer.asked().await.unwrap();
        peer.answer(&asked, &every_version()).await;
        script(peer).await;
    });
    let connection = begin(stream, None).await.unwrap();
    drop(greeted);
    connection
}

async fn ask(connection: &Connection) -> Result<(), KafkaError> {
    connection.call(MetadataRequest::default()).await.map(drop)
}

#[track_caller]
fn assert_says(error: &KafkaError, transient: bool, words: &[&str]) {
    let said = error.to_string();
    assert_eq!(error.is_transient(), transient, "{said}");
    for word in words {
        assert!(said.contains(word), "{said}");
    }
    assert!(said.contains(NAME) || said.contains("127.0.0.1:"), "{said}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let connection = opened(|mut peer| async move {
        let mut asked = Vec::new();
        for _ in 0..5 {
            asked.push(peer.asked().await.unwrap());
        }
        for asked in &asked {
            let answer = metadata().with_controller_id(asked.correlation_id.into());
            peer.answer(asked, &answer).await;
        }
    })
    .await;
    let version = connection.version::<MetadataRequest>(12).unwrap();
    let mut pending = Vec::new();
    for _ in 0..5 {
        let request = MetadataRequest::default();
        pending.push(connection.send(&request, version).await.unwrap());
    }
    for (number, pending) in pending.into_iter().enumerate() {
        let bytes = pending.receive().await.unwrap();
        let answer: kafka_protocol::messages::MetadataResponse =
            connection.decode("Metadata", bytes, version).unwrap();
        // The first request was ApiVersions.
        assert_eq!(answer.controller_id.0, number as i32 + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_falls_behind_is_asked_no_more_until_it_answers() {
    let connection = opened(|mut peer| async move {
        let mut unanswered = Vec::new();
        let silence = Duration::from_secs(1);
        while let Ok(Some(asked)) = tokio::time::timeout(silence, peer.asked()).await {
            unanswered.push(asked);
        }
        assert_eq!(unanswered.len(), exchange::UNANSWERED + 1);
        for asked in &unanswered {
            peer.answer(asked, &metadata()).await;
        }
        while let Some(asked) = peer.asked().await {
            peer.answer(&asked, &metadata()).await;
        }
    })
    .await;
    let asking = (0..3 * exchange::UNANSWERED).map(|_| ask(&connection));
    for answered in futures_util::future::join_all(asking).await {
        answered.unwrap();
    }
}

#[tokio::test]
async fn an_answer_to_another_request_ends_the_connection() {
    let connection = opened(|mut peer| async move {
        let mut asked = peer.asked().await.unwrap();
        asked.correlation_id += 1;
        peer.answer(&asked, &metadata()).await;
        assert!(peer.asked().await.is_none());
    })
    .await;
    let error = ask(&connection).await.unwrap_err();
    assert_says(
        &error,
        false,
        &["Metadata", "answers request 2 where 1 is due"],
    );
    connection.requests.closed().await;
    let error = ask(&connection).await.unwrap_err();
    assert_says(&error, true, &["connection ended"]);
}

#[tokio::test]
async fn half_an_answer_is_a_broken_connection() {
    let connection = opened(|mut peer| async move {
        peer.asked().await.unwrap();
        peer.0
            .write_all(&[0, 0, 0, 100, 0, 0, 0, 1, 7])
            .await
            .unwrap();
    })
    .await;
    let error = ask(&connection).await.unwrap_err();
    assert_says(&error, true, &["connection ended during Metadata"]);
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn a_broker_that_hangs_up_fails_all_that_wait_and_is_not_asked_again() {
    let connection = opened(|mut peer| async move {
        peer.asked().await.unwrap();
        peer.asked().await.unwrap();
    })
    .await;
    let (first, second) = tokio::join!(ask(&connection), ask(&connection));
    assert_says(&first.unwrap_err(), true, &["connection ended"]);
    assert_says(&second.unwrap_err(), true, &["connection ended"]);
    connection.requests.closed().await;
    assert!(!connection.is_open());
}

#[tokio::test]
async fn a_broker_that_hangs_up_in_between_is_noticed() {
    let connection = opened(|_| async {}).await;
    connection.requests.closed().await;
    assert!(!connection.is_open());
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_ends_the_connection() {
    let connection = opened(|mut peer| async move {
        peer.send(&[0, 0, 0, 9]).await;
        assert!(peer.asked().await.is_none());
    })
    .await;
    connection.requests.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_never_answers_is_given_up() {
    let connection = opened(|mut peer| async move { while peer.asked().await.is_some() {} }).await;
    let error = ask(&connection).await.unwrap_err();
    assert_says(&error, true, &["did not answer within 20 s"]);
    connection.requests.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_read_is_given_up() {
    let (hold, released) = tokio::sync::oneshot::channel::<()>();
    let connection = opened(|peer| async move {
        released.await.ok();
        drop(peer);
    })
    .await;
    let request = MetadataRequest::default();
    let version = connection.version::<MetadataRequest>(12).unwrap();
    let large = Bytes::from(vec![0; 1 << 16]);
    let bytes = message::encode(NAME, &connection.client_id, &request, version).unwrap();
    let pending = connection
        .send_chunks::<MetadataRequest>(vec![bytes, large], None)
        .await
        .unwrap();
    let error = pending.receive().await.unwrap_err();
    assert_says(&error, true, &["did not answer within 20 s"]);
    connection.requests.closed().await;
    drop(hold);
}

#[tokio::test]
async fn whoever_speaks_another_protocol_is_told_apart() {
    for (bytes, words) in [
        (&[0x15_u8, 3, 3, 0, 2, 2, 80][..], "this port speaks TLS"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "this port speaks HTTP"),
        (&[0x7f, 0xff, 0xff, 0xff], "its length would be 2147483647"),
    ] {
        let (stream, mut peer) = connected();
        peer.0.write_all(bytes).await.unwrap();
        let error = begin(stream, None).await.unwrap_err();
        assert_says(&error, false, &[words]);
    }
}

#[tokio::test]
async fn bytes_that_are_no_answer_name_the_api() {
    let connection = opened(|mut peer| async move {
        let asked = peer.asked().await.unwrap();
        let mut frame = asked.correlation_id.to_be_bytes().to_vec();
        frame.extend([0xff; 9]);
        peer.send(&frame).await;
    })
    .await;
    let error = ask(&connection).await.unwrap_err();
    assert_says(&error, false, &["no Metadata answer"]);
}

#[tokio::test]
async fn an_old_broker_is_asked_in_the_version_that_it_knows() {
    let (stream, mut peer) = connected();
    let broker = tokio::spawn(async move {
        let asked = peer.asked().await.unwrap();
        assert_eq!((asked.api, asked.version), (ApiKey::ApiVersions, 3));
        let unknown =
            ApiVersionsResponse::default().with_error_code(ErrorCode::UnsupportedVersion.code());
        peer.answer_in(&asked, &unknown, 0).await;
        let asked = peer.asked().await.unwrap();
        assert_eq!((asked.api, asked.version), (ApiKey::ApiVersions, 0));
        peer.answer(&asked, &every_version()).await;
        peer.asked().await
    });
    let connection = begin(stream, None).await.unwrap();
    assert!(connection.version::<MetadataRequest>(i16::MAX).is_ok());
    drop(connection);
    assert!(broker.await.unwrap().is_none());
}

#[tokio::test]
async fn payloads_are_written_whole_behind_their_header() {
    let (sender, received) = tokio::sync::oneshot::channel();
    let connection = opened(|mut peer| async move {
        let asked = peer.asked().await.unwrap();
        sender.send(asked.body.clone()).unwrap();
        peer.answer(&asked, &metadata()).await;
    })
    .await;
    let mut head = BytesMut::new();
    let header = connection.header::<MetadataRequest>(12);
    header.encode(&mut head, 2).unwrap();
    let chunks = vec![
        head.freeze(),
        Bytes::from_static(b"one"),
        Bytes::new(),
        Bytes::from(vec![b'2'; 5_000]),
        Bytes::from_static(b"three"),
    ];
    let expected = [b"one".as_slice(), &[b'2'; 5_000], b"three"].concat();
    let pending = connection
        .send_chunks::<MetadataRequest>(chunks, None)
        .await;
    pending.unwrap().receive().await.unwrap();
    assert_eq!(received.await.unwrap(), expected);
}

// Authentication.

fn plain() -> Option<Sasl> {
    Some(Sasl::Plain {
        username: "alice".into(),
        password: Secret::new("swordfish"),
    })
}

#[tokio::test]
async fn a_refusal_shows_what_the_broker_says_and_never_the_password() {
    let (stream, mut peer) = connected();
    let broker = tokio::spawn(async move {
        let asked = peer.greet_with_sasl("PLAIN").await.unwrap();
        let message: SaslAuthenticateRequest = asked.message();
        assert_eq!(&message.auth_bytes[..], b"\0alice\0swordfish");
        let refusal = SaslAuthenticateResponse::default()
            .with_error_code(ErrorCode::SaslAuthenticationFailed.code())
            .with_error_message(Some(StrBytes::from_static_str(
                "Authentication failed: Invalid username or password",
            )));
        peer.answer(&asked, &refusal).await;
    });
    let error = begin(stream, plain()).await.unwrap_err();
    assert_says(
        &error,
        false,
        &["Invalid username or password", "sasl.password"],
    );
    assert!(!format!("{error} {error:?}").contains("swordfish"));
    broker.await.unwrap();
}

#[tokio::test]
async fn a_mechanism_that_is_not_enabled_is_told_with_those_that_are() {
    let (stream, mut peer) = connected();
    tokio::spawn(async move {
        let asked = peer.greet().await.unwrap();
        let offered = ["SCRAM-SHA-512", "OAUTHBEARER"].map(StrBytes::from_static_str);
        let answer = SaslHandshakeResponse::default()
            .with_error_code(ErrorCode::UnsupportedSaslMechanism.code())
            .with_mechanisms(offered.into());
        peer.answer(&asked, &answer).await;
    });
    let error = begin(stream, plain()).await.unwrap_err();
    assert_says(
        &error,
        false,
        &["PLAIN", "SCRAM-SHA-512, OAUTHBEARER", "sasl.mechanism"],
    );
}

#[tokio::test]
async fn a_listener_without_sasl_is_told() {
    let (stream, mut peer) = connected();
    tokio::spawn(async move {
        let asked = peer.greet().await.unwrap();
        let answer =
            SaslHandshakeResponse::default().with_error_code(ErrorCode::IllegalSaslState.code());
        peer.answer(&asked, &answer).await;
    });
    let error = begin(stream, plain()).await.unwrap_err();
    assert_says(&error, false, &["wants no SASL"]);
}

/// Lets the client in for twenty seconds: less than it waits for an answer.
async fn let_in(peer: &mut Peer<DuplexStream>, asked: &Asked) {
    let answer = SaslAuthenticateResponse::default().with_session_lifetime_ms(20_000);
    peer.answer(asked, &answer).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_is_renewed_between_requests_while_answers_are_on_their_way() {
    let (stream, mut peer) = connected();
    let broker = tokio::spawn(async move {
        let asked = peer.greet_with_sasl("PLAIN").await.unwrap();
        let_in(&mut peer, &asked).await;
        let first = peer.asked().await.unwrap();
        assert_eq!(first.api, ApiKey::Metadata);
        // The first request is still unanswered when the session ends.
        let handshake = peer.asked().await.unwrap();
        assert_eq!(handshake.api, ApiKey::SaslHandshake);
        peer.answer(&first, &metadata().with_controller_id(1.into()))
            .await;
        peer.answer(&handshake, &SaslHandshakeResponse::default())
            .await;
        let asked = peer.asked().await.unwrap();
        assert_eq!(asked.api, ApiKey::SaslAuthenticate);
        let_in(&mut peer, &asked).await;
        for number in [2, 3] {
            let asked = peer.asked().await.unwrap();
            assert_eq!(asked.api, ApiKey::Metadata);
            peer.answer(&asked, &metadata().with_controller_id(number.into()))
                .await;
        }
        assert!(peer.asked().await.is_none());
    });
    let connection = begin(stream, plain()).await.unwrap();
    let version = connection.version::<MetadataRequest>(12).unwrap();
    let request = MetadataRequest::default();
    let first = connection.send(&request, version).await.unwrap();
    tokio::time::sleep(Duration::from_millis(19_500)).await;
    let second = connection.send(&request, version).await.unwrap();
    let third = connection.send(&request, version).await.unwrap();
    for (number, pending) in [first, second, third].into_iter().enumerate() {
        let bytes = pending.receive().await.unwrap();
        let answer: kafka_protocol::messages::MetadataResponse =
            connection.decode("Metadata", bytes, version).unwrap();
        assert_eq!(answer.controller_id.0, number as i32 + 1);
    }
    drop(connection);
    broker.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_session_that_cannot_be_renewed_tells_the_request_that_waited() {
    let (stream, mut peer) = connected();
    tokio::spawn(async move {
        let asked = peer.greet_with_sasl("PLAIN").await.unwrap();
        let_in(&mut peer, &asked).await;
        let asked = peer.greet_with_sasl("PLAIN").await.unwrap();
        let refusal = SaslAuthenticateResponse::default()
            .with_error_code(ErrorCode::SaslAuthenticationFailed.code());
        peer.answer(&asked, &refusal).await;
    });
    let connection = begin(stream, plain()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(19_500)).await;
    let error = ask(&connection).await.unwrap_err();
    assert_says(&error, false, &["refused the credentials"]);
    connection.requests.closed().await;
}

// What a listener wants that hangs up without a word: over TCP, since it takes a second connection to find out.

async fn listening<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(Peer<TcpStream>) -> F + Send + 'static,
) -> Cluster {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(Peer(stream)));
        }
    });
    Cluster::new(vec![address])
}

#[tokio::test]
async fn one_without_credentials_is_told_which_mechanisms_there_are() {
    let cluster = listening(|mut peer| async move {
        while let Some(asked) = peer.asked().await {
            match asked.api {
                ApiKey::ApiVersions => peer.answer(&asked, &every_version()).await,
                ApiKey::SaslHandshake => {
                    let offered = vec![StrBytes::from_static_str("SCRAM-SHA-256")];
                    let answer = SaslHandshakeResponse::default()
                        .with_error_code(ErrorCode::UnsupportedSaslMechanism.code())
                        .with_mechanisms(offered);
                    peer.answer(&asked, &answer).await;
                }
                _ => return,
            }
        }
    })
    .await;
    let error = Client::connect(cluster, Retry::default())
        .await
        .unwrap_err();
    assert_says(&error, false, &["wants credentials", "(SCRAM-SHA-256)"]);
}

#[tokio::test]
async fn tls_with_a_listener_in_plain_text_is_told() {
    let mut cluster = listening(|mut peer| async move {
        // Too long a request, as brokers see it: they hang up.
        let mut first = [0; 1];
        if peer.0.peek(&mut first).await.is_ok() && first[0] == 0x16 {
            return;
        }
        peer.greet().await;
    })
    .await;
    let authority = super::super::testing::Authority::new();
    cluster.tls = Some(Tls {
        ca_file: Some(authority.ca_file()),
        ..Tls::default()
    });
    let error = Client::connect(cluster, Retry::default())
        .await
        .unwrap_err();
    assert_says(&error, false, &["this port speaks plain text"]);
}

#[tokio::test]
async fn a_client_learns_the_cluster_from_the_first_server_that_answers() {
    let unreachable = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = unreachable.local_addr().unwrap().to_string();
    drop(unreachable);
    let mut cluster = listening(|mut peer| async move {
        peer.greet().await;
    })
    .await;
    cluster.bootstrap_servers.insert(0, nobody);
    let client = Client::connect(cluster, Retry::default()).await.unwrap();
    assert_eq!(client.cluster_id(), "test");
}

#[tokio::test]
async fn a_broker_that_knows_of_no_broker_yet_is_asked_again() {
    let asked_for_metadata = Arc::new(AtomicU32::new(0));
    let asked = Arc::clone(&asked_for_metadata);
    let cluster = listening(move |mut peer| {
        let count = Arc::clone(&asked);
        async move {
            while let Some(asked) = peer.asked().await {
                match asked.api {
                    ApiKey::ApiVersions => peer.answer(&asked, &every_version()).await,
                    _ if count.fetch_add(1, Ordering::Relaxed) == 0 => {
                        peer.answer(&asked, &metadata_without_brokers()).await;
                    }
                    _ => peer.answer(&asked, &metadata()).await,
                }
            }
        }
    })
    .await;
    let client = Client::connect(cluster, Retry::default()).await.unwrap();
    assert_eq!(asked_for_metadata.load(Ordering::Relaxed), 2);
    let known = client.metadata(Topics::Named(&[])).await.unwrap();
    assert_eq!(known.brokers.len(), 1);
}

#[tokio::test]
async fn a_broker_that_hangs_up_at_once_may_be_a_tls_listener() {
    let cluster = listening(|mut peer| async move {
        let mut some = [0; 8];
        peer.0.read_exact(&mut some).await.unwrap();
    })
    .await;
    let retry = Retry {
        initial: Duration::from_secs(60),
        max: Duration::from_secs(60),
        deadline: Duration::from_secs(10),
    };
    let error = Client::connect(cluster, retry).await.unwrap_err();
    assert_says(&error, true, &["is this a TLS listener"]);
}
