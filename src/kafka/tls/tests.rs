use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::super::testing::{Authority, Identity, Peer};
use super::super::{Client, Cluster, Retry};
use super::*;

/// A broker that greets over TLS; what it is configured with is asked for at each connection.
async fn broker(config: impl Fn() -> Arc<ServerConfig> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = TlsAcceptor::from(config());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let mut peer = Peer(stream);
                    peer.greet().await;
                    peer.0.shutdown().await.ok();
                }
            });
        }
    });
    port
}

async fn connect(host: &str, port: u16, tls: Tls) -> Result<Client, KafkaError> {
    let mut cluster = Cluster::new(vec![format!("{host}:{port}")]);
    cluster.tls = Some(tls);
    // A pause beyond the deadline: what is transient is not tried again here.
    let retry = Retry {
        initial: Duration::from_secs(60),
        max: Duration::from_secs(60),
        deadline: Duration::from_secs(10),
    };
    Client::connect(cluster, retry).await
}

fn trusting(authority: &Authority) -> Tls {
    Tls {
        ca_file: Some(authority.ca_file()),
        ..Tls::default()
    }
}

fn as_client(authority: &Authority, client: &Identity) -> Tls {
    Tls {
        cert_file: Some(client.cert_file.clone()),
        key_file: Some(client.key_file.clone()),
        ..trusting(authority)
    }
}

#[track_caller]
fn assert_lasting(outcome: Result<Client, KafkaError>, words: &[&str]) {
    let error = outcome.map(drop).unwrap_err();
    let said = error.to_string();
    assert!(!error.is_transient(), "{said}");
    for word in words {
        assert!(said.contains(word), "{said}");
    }
}

#[tokio::test]
async fn a_broker_is_trusted_by_dns_name_and_by_ip_address() {
    let authority = Authority::new();
    let identity = authority.issue("broker", &["localhost", "127.0.0.1"]);
    let config = Authority::server(&identity, None);
    let port = broker(move || Arc::clone(&config)).await;
    for host in ["localhost", "127.0.0.1"] {
        let client = connect(host, port, trusting(&authority)).await.unwrap();
        assert_eq!(client.cluster_id(), "test");
    }
}

#[tokio::test]
async fn a_broker_whom_nobody_vouches_for_is_refused() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let identity = stranger.issue("broker", &["localhost"]);
    let config = Authority::server(&identity, None);
    let port = broker(move || Arc::clone(&config)).await;
    let outcome = connect("localhost", port, trusting(&authority)).await;
    assert_lasting(outcome, &["localhost:", "nobody whom we trust", "ca_file"]);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let identity = authority.issue("broker", &["kafka1", "10.0.0.1"]);
    let config = Authority::server(&identity, None);
    let port = broker(move || Arc::clone(&config)).await;
    for host in ["localhost", "127.0.0.1"] {
        let outcome = connect(host, port, trusting(&authority)).await;
        assert_lasting(outcome, &["is for kafka1, 10.0.0.1, not for", host]);
    }
}

#[tokio::test]
async fn an_expired_certificate_is_refused_with_its_date() {
    let authority = Authority::new();
    let identity = authority.issue_until("broker", &["localhost"], 2020);
    let config = Authority::server(&identity, None);
    let port = broker(move || Arc::clone(&config)).await;
    let outcome = connect("localhost", port, trusting(&authority)).await;
    assert_lasting(outcome, &["has expired on 2020-12-31"]);
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_one_is_wanted() {
    let authority = Arc::new(Authority::new());
    let identity = authority.issue("broker", &["localhost"]);
    let config = Authority::server(&identity, Some(&authority));
    let port = broker(move || Arc::clone(&config)).await;

    let client = authority.issue("client", &["kafkeep"]);
    connect("localhost", port, as_client(&authority, &client))
        .await
        .unwrap();

    let outcome = connect("localhost", port, trusting(&authority)).await;
    assert_lasting(outcome, &["client certificate", "tls.cert_file"]);

    let elsewhere = Authority::new();
    let stranger = elsewhere.issue("stranger", &["kafkeep"]);
    let outcome = connect("localhost", port, as_client(&authority, &stranger)).await;
    assert_lasting(outcome, &["refused our client certificate"]);

    let expired = authority.issue_until("expired", &["kafkeep"], 2020);
    let outcome = connect("localhost", port, as_client(&authority, &expired)).await;
    assert_lasting(outcome, &["our client certificate has expired"]);
}

#[tokio::test]
async fn renewed_files_are_taken_up_by_the_next_connection() {
    let authority = Arc::new(Authority::new());
    let identity = authority.issue("broker", &["localhost"]);
    let config = Authority::server(&identity, Some(&authority));
    let port = broker(move || Arc::clone(&config)).await;
    let client = authority.issue_until("client", &["kafkeep"], 2020);
    let tls = as_client(&authority, &client);
    connect("localhost", port, tls.clone())
        .await
        .map(drop)
        .unwrap_err();
    authority.issue("client", &["kafkeep"]);
    connect("localhost", port, tls).await.unwrap();
}

#[tokio::test]
async fn a_key_of_another_certificate_is_told_with_both_files() {
    let authority = Authority::new();
    let mut tls = as_client(&authority, &authority.issue("one", &["kafkeep"]));
    tls.key_file = Some(authority.issue("two", &["kafkeep"]).key_file);
    let outcome = client_config(&tls).await;
    let said = outcome.map(drop).unwrap_err().to_string();
    assert!(
        said.contains("one.pem") && said.contains("two.key"),
        "{said}"
    );
}
