use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::super::super::TokenSource;
use super::super::super::testing::Authority;
use super::super::token::Tokens;
use super::*;

/// An endpoint that answers so to each request, and keeps the requests.
struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(tls: Option<Arc<ServerConfig>>, answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let request = match &tls {
                    None => serve(stream, &answer).await,
                    Some(config) => {
                        match TlsAcceptor::from(Arc::clone(config)).accept(stream).await {
                            Ok(stream) => serve(stream, &answer).await,
                            Err(_) => continue,
                        }
                    }
                };
                kept.lock().unwrap().push(request);
            }
        });
        Self { port, requests }
    }

    fn client(&self, scheme: &str) -> ClientCredentials {
        ClientCredentials {
            token_endpoint: format!("{scheme}://localhost:{}/oauth/token?tenant=1", self.port),
            client_id: "kaf keep".into(),
            client_secret: Secret::new("sword:fish&"),
            scope: Some("kafka read".into()),
            ca_file: None,
        }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, answer: &str) -> String {
    let mut request = Vec::new();
    let mut read = [0; 1024];
    loop {
        let count = stream.read(&mut read).await.unwrap();
        request.extend_from_slice(&read[..count]);
        let text = String::from_utf8(request.clone()).unwrap();
        if count == 0 || text.contains("\r\n\r\ngrant_type=") && text.ends_with("read") {
            break;
        }
    }
    stream.write_all(answer.as_bytes()).await.ok();
    stream.flush().await.ok();
    String::from_utf8(request).unwrap()
}

fn http(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn token(lifetime: &str) -> String {
    http(
        "200 OK",
        &format!(r#"{{"access_token":"abc.def","token_type":"Bearer","expires_in":{lifetime}}}"#),
    )
}

#[tokio::test]
async fn the_request_is_that_of_rfc_6749() {
    let server = Server::start(None, token("300")).await;
    let issued = ask(&server.client("http")).await.unwrap();
    assert_eq!(issued.token.reveal(), "abc.def");
    assert_eq!(issued.lifetime, Some(Duration::from_secs(300)));
    let request = server.requests().remove(0);
    assert!(
        request.starts_with("POST /oauth/token?tenant=1 HTTP/1.1\r\n"),
        "{request}"
    );
    // `kaf+keep:sword%3Afish%26` in base64.
    let credentials = "authorization: Basic a2FmK2tlZXA6c3dvcmQlM0FmaXNoJTI2\r\n";
    assert!(request.contains(credentials), "{request}");
    assert!(
        request.ends_with("\r\n\r\ngrant_type=client_credentials&scope=kafka+read"),
        "{request}"
    );
}

#[tokio::test]
async fn https_is_trusted_by_the_given_authority_only() {
    let authority = Authority::new();
    let identity = authority.issue("endpoint", &["localhost"]);
    let config = Authority::server(&identity, None);
    let server = Server::start(Some(config), token("\"300\"")).await;
    let mut client = server.client("https");
    client.ca_file = Some(authority.ca_file());
    let issued = ask(&client).await.unwrap();
    assert_eq!(issued.lifetime, Some(Duration::from_secs(300)));

    client.ca_file = Some(Authority::new().ca_file());
    let error = ask(&client).await.map(drop).unwrap_err();
    assert!(!error.is_transient());
    assert!(error.to_string().contains("ca.pem"), "{error}");

    let stranger = Authority::new();
    client.ca_file = Some(stranger.ca_file());
    let error = ask(&client).await.map(drop).unwrap_err();
    assert!(!error.is_transient());
    let said = error.to_string();
    assert!(
        said.starts_with("token endpoint https://localhost:")
            && said.contains("nobody whom we trust"),
        "{said}"
    );
}

#[tokio::test]
async fn a_token_is_kept_until_shortly_before_it_expires() {
    let server = Server::start(None, token("3600")).await;
    let source = TokenSource::ClientCredentials(server.client("http"));
    let tokens = Tokens::default();
    let (one, two) = tokio::join!(tokens.token(&source), tokens.token(&source));
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(server.requests().len(), 1);
    // With a fifth of its life left it is not used any more.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(2_890)).await;
    tokio::time::resume();
    tokens.token(&source).await.unwrap();
    assert_eq!(server.requests().len(), 2);
    tokens.forget().await;
    tokens.token(&source).await.unwrap();
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_token_of_unknown_lifetime_is_used_once() {
    let server = Server::start(None, token("null")).await;
    let source = TokenSource::ClientCredentials(server.client("http"));
    let tokens = Tokens::default();
    tokens.token(&source).await.unwrap();
    tokens.token(&source).await.unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn refusals_are_lasting_and_outages_are_not() {
    let denied = r#"{"error":"invalid_client","error_description":"no such client"}"#;
    for (answer, transient, words) in [
        (
            http("401 Unauthorized", denied),
            false,
            "401 Unauthorized: invalid_client no such client; look at client_id",
        ),
        (
            http("400 Bad Request", "<html>"),
            false,
            "400 Bad Request; look at",
        ),
        (http("404 Not Found", ""), false, "is this the URL"),
        (http("503 Service Unavailable", ""), true, "503"),
        (http("429 Too Many Requests", ""), true, "429"),
        (http("302 Found", ""), false, "302"),
        (http("200 OK", "{}"), false, "no token answer"),
        (
            http("200 OK", r#"{"access_token":"a","token_type":"mac"}"#),
            false,
            "no bearer token",
        ),
        ("SMTP".to_owned(), true, ""),
        (
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{}",
                "x".repeat(1_000_000)
            ),
            true,
            "length limit exceeded",
        ),
    ] {
        let server = Server::start(None, answer).await;
        let error = ask(&server.client("http")).await.map(drop).unwrap_err();
        let said = error.to_string();
        assert_eq!(error.is_transient(), transient, "{said}");
        assert!(
            said.starts_with("token endpoint http://localhost:"),
            "{said}"
        );
        assert!(said.contains(words), "{said}");
        assert!(!format!("{error:?} {said}").contains("fish"), "{said}");
    }
}

#[test]
fn the_secret_is_sent_in_plain_text_only_within_this_machine() {
    for url in [
        "http://localhost/t",
        "http://127.0.0.1:80/t",
        "http://[::1]/t",
    ] {
        assert!(!Endpoint::parse(url).ok().unwrap().encrypted, "{url}");
    }
    assert_eq!(
        Endpoint::parse("https://[::1]/t").ok().unwrap().address,
        Address {
            host: "::1".into(),
            port: 443
        }
    );
    for url in [
        "http://idp.example/t",
        "http://localhost.example/t",
        "ftp://localhost/t",
        "idp.example/t",
        "https://user:password@idp.example/t",
        "",
    ] {
        assert!(Endpoint::parse(url).is_err(), "{url}");
    }
}
