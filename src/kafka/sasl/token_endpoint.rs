//! OAuth 2.0 client credentials (RFC 6749, section 4.4): a POST to a token endpoint.

use std::error::Error;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::quote::quote;

use super::super::{Address, ClientCredentials, KafkaError, Secret, Tls, tls};

/// How long the whole conversation may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Tokens are at most a few KiB.
const LARGEST_ANSWER: usize = 256 << 10;

type Source = Box<dyn Error + Send + Sync>;

/// A token, and how long it is good for, if its issuer says so.
pub(super) struct Issued {
    pub token: Secret,
    pub lifetime: Option<Duration>,
}

/// Asks the endpoint for a token by client credentials.
pub(super) async fn ask(client: &ClientCredentials) -> Result<Issued, KafkaError> {
    let endpoint = Endpoint::parse(&client.token_endpoint)
        .map_err(|problem| KafkaError::Configuration(format!("sasl.token_endpoint: {problem}")))?;
    let answer = tokio::time::timeout(TIMEOUT, post(client, &endpoint)).await;
    let problem = |problem: String, transient, source| KafkaError::Token {
        endpoint: endpoint.shown.clone(),
        problem: quote(problem),
        transient,
        source,
    };
    let (status, body) = match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(Failure::Lasting(error))) => return Err(error),
        Ok(Err(Failure::Passing(source))) => {
            return Err(problem(source.to_string(), true, Some(source)));
        }
        Err(_) => {
            let said = format!("no answer within {} s", TIMEOUT.as_secs());
            return Err(problem(said, true, None));
        }
    };
    read(status, &body).map_err(|said| {
        let busy = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        problem(said, busy, None)
    })
}

/// Where to ask.
struct Endpoint {
    uri: Uri,
    address: Address,
    encrypted: bool,
    /// The URL for messages: without its query, which may hold what is nobody's business.
    shown: String,
}

impl Endpoint {
    /// The secret goes to this place: in plain text only within this machine.
    fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let loopback = host == "localhost"
            || host
                .parse()
                .is_ok_and(|address: IpAddr| address.is_loopback());
        let encrypted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if loopback => false,
            Some("http") => return Err("the secret would travel in plain text: use https".into()),
            _ => return Err("no https:// URL".into()),
        };
        if uri
            .authority()
            .is_some_and(|part| part.as_str().contains('@'))
        {
            return Err("leave the user out of the URL: give client_id and client_secret".into());
        }
        let default = if encrypted { 443 } else { 80 };
        let address = Address {
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(default),
        };
        let shown = text.split('?').next().unwrap_or_default().to_owned();
        Ok(Self {
            uri,
            address,
            encrypted,
            shown,
        })
    }
}

enum Failure {
    Passing(Source),
    Lasting(KafkaError),
}

fn passing(error: impl Into<Source>) -> Failure {
    Failure::Passing(error.into())
}

async fn post(
    client: &ClientCredentials,
    endpoint: &Endpoint,
) -> Result<(StatusCode, Bytes), Failure> {
    let Address { host, port } = &endpoint.address;
    let request = request(client, endpoint).map_err(passing)?;
    let stream = TcpStream::connect((host.as_str(), *port))
        .await
        .map_err(passing)?;
    if !endpoint.encrypted {
        return exchange(stream, request).await;
    }
    let tls = Tls {
        ca_file: client.ca_file.clone(),
        ..Tls::default()
    };
    let config = tls::client_config(&tls).await.map_err(Failure::Lasting)?;
    let address = endpoint.address.to_string();
    match tls::connect(config, host, &address, stream).await {
        Ok(stream) => exchange(stream, request).await,
        Err(error) if error.is_transient() => Err(passing(error)),
        Err(KafkaError::Tls {
            problem, source, ..
        }) => Err(Failure::Lasting(KafkaError::Token {
            endpoint: endpoint.shown.clone(),
            problem: format!("TLS: {problem}"),
            transient: false,
            source: Some(source.into()),
        })),
        Err(error) => Err(Failure::Lasting(error)),
    }
}

fn request(
    client: &ClientCredentials,
    endpoint: &Endpoint,
) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let mut form = "grant_type=client_credentials".to_owned();
    if let Some(scope) = &client.scope {
        form += &format!("&scope={}", form_encoded(scope));
    }
    let credentials = BASE64.encode(format!(
        "{}:{}",
        form_encoded(&client.client_id),
        form_encoded(client.client_secret.reveal())
    ));
    let path = endpoint
        .uri
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let host = endpoint
        .uri
        .authority()
        .map_or("", |authority| authority.as_str());
    Request::post(path)
        .header(header::HOST, host)
        .header(header::AUTHORIZATION, format!("Basic {credentials}"))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "application/json")
        .body(Full::new(Bytes::from(form)))
}

/// `application/x-www-form-urlencoded`, as RFC 6749, section 2.3.1, wants it even within the Basic scheme.
fn form_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => {
                encoded.push(byte.into());
            }
            b' ' => encoded.push('+'),
            byte => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

async fn exchange<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Failure> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(passing)?;
    // It ends with the sender.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the token endpoint's connection ended");
        }
    });
    let response = sender.send_request(request).await.map_err(passing)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LARGEST_ANSWER)
        .collect()
        .await
        .map_err(passing)?;
    Ok((status, body.to_bytes()))
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    token_type: String,
    /// Seconds; some servers send them as text.
    #[serde(default)]
    expires_in: serde_json::Value,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error: String,
    #[serde(default)]
    error_description: String,
}

/// The token, or what is wrong.
fn read(status: StatusCode, body: &[u8]) -> Result<Issued, String> {
    if !status.is_success() {
        let said = serde_json::from_slice(body).map_or_else(
            |_| String::new(),
            |answer: ErrorAnswer| format!(": {} {}", answer.error, answer.error_description),
        );
        let advice = match status.as_u16() {
            400 | 401 | 403 => "; look at client_id, client_secret and scope",
            404 | 405 => "; is this the URL of the token endpoint?",
            _ => "",
        };
        return Err(format!("it answers {status}{}{advice}", said.trim_end()));
    }
    let answer: TokenAnswer = serde_json::from_slice(body)
        .map_err(|_| "its answer is no token answer in JSON (RFC 6749, section 5.1)".to_owned())?;
    if !answer.token_type.eq_ignore_ascii_case("bearer") {
        return Err("its token is no bearer token".to_owned());
    }
    let seconds = match &answer.expires_in {
        serde_json::Value::String(text) => text.parse().ok(),
        value => value.as_u64(),
    };
    Ok(Issued {
        token: Secret::new(answer.access_token),
        lifetime: seconds.map(Duration::from_secs),
    })
}

#[cfg(test)]
mod tests;
