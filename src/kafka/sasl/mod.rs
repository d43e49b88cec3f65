//! SASL: proving who we are (KIP-43, KIP-152), and proving it again before the session ends (KIP-368).

mod conversation;
mod oauth_bearer;
mod plain;
mod scram;
mod token;
mod token_endpoint;

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
};
use kafka_protocol::protocol::StrBytes;
use rand::RngExt;
use tokio::time::Instant;

use crate::quote::quote;

use super::connection::{RequestWriter, Versions};
use super::{ErrorCode, KafkaError, Sasl};
use conversation::Conversation;
use token::Tokens;

/// Lets connections in. Shared by those of a client, so that they share a token, too.
#[derive(Debug)]
pub(super) struct Authenticator {
    sasl: Sasl,
    tokens: Tokens,
}

/// How long requests may be under way at the end of a session.
const MARGIN: Duration = Duration::from_secs(10);
const SOONEST: Duration = Duration::from_millis(1_050);

/// How long a connection is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Session {
    renew_at: Option<Instant>,
}

impl Session {
    /// One that does not end.
    pub const ENDLESS: Self = Self { renew_at: None };

    /// A session of so many milliseconds is renewed when 85 to 95 % of them have passed, as by Kafka's own client, and a
    /// margin before its end: what is sent before may have to wait in the broker behind another request. Brokers take an
    /// authentication once a second. 0 is endless.
    fn of(began: Instant, lifetime_ms: i64) -> Self {
        let lifetime = u64::try_from(lifetime_ms)
            .ok()
            .filter(|lifetime| *lifetime > 0);
        let renew_at = lifetime.and_then(|lifetime| {
            let share = rand::rng().random_range(0.85..0.95);
            let lifetime = Duration::from_millis(lifetime);
            let after = lifetime.mul_f64(share).min(lifetime.saturating_sub(MARGIN));
            began.checked_add(after.max(SOONEST))
        });
        Self { renew_at }
    }

    /// Whether to authenticate before anything else is sent. It is never too late: after the end of a session, brokers
    /// still take an authentication.
    pub fn is_over(&self) -> bool {
        self.renew_at.is_some_and(|at| Instant::now() >= at)
    }
}

impl Authenticator {
    pub fn new(sasl: Sasl) -> Self {
        Self {
            sasl,
            tokens: Tokens::default(),
        }
    }

    /// Authenticates on a connection that is idle on our side; answers to earlier requests may still be on their way.
    pub async fn authenticate(
        &self,
        writer: &mut RequestWriter,
        versions: &Versions,
    ) -> Result<Session, KafkaError> {
        let mut conversation = Conversation::begin(&self.sasl, &self.tokens).await?;
        handshake(writer, conversation.mechanism()).await?;
        let version = versions.newest::<SaslAuthenticateRequest>(writer.address(), i16::MAX)?;
        let began = Instant::now();
        let mut message = conversation.first_message();
        loop {
            let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(message));
            let response = writer.ask(&request, version).await?;
            if let Some(code) = response.error_code.err() {
                self.tokens.forget().await;
                return Err(self.refused(writer.address(), code, &response, &conversation));
            }
            let next = conversation
                .answer(&response.auth_bytes)
                .await
                .map_err(|problem| KafkaError::Sasl {
                    address: writer.address().to_owned(),
                    problem,
                })?;
            match next {
                Some(next) => message = next,
                None => return Ok(Session::of(began, response.session_lifetime_ms)),
            }
        }
    }

    fn refused(
        &self,
        address: &str,
        code: ErrorCode,
        response: &SaslAuthenticateResponse,
        conversation: &Conversation,
    ) -> KafkaError {
        let said = response
            .error_message
            .as_deref()
            .filter(|message| !message.is_empty());
        let said = said.map_or_else(|| code.to_string(), quote);
        let detail = match conversation.complaint() {
            // Kafka's own broker repeats the complaint's JSON.
            Some(complaint) if said.starts_with('{') => complaint.to_owned(),
            Some(complaint) => format!("{said} ({complaint})"),
            None => said,
        };
        if code != ErrorCode::SaslAuthenticationFailed {
            return KafkaError::Broker {
                code,
                context: format!("authenticating at {address}: {detail}"),
            };
        }
        KafkaError::Authentication {
            address: address.to_owned(),
            detail,
            advice: match &self.sasl {
                Sasl::OauthBearer(_) => "look at the token's issuer, audience and expiry",
                _ => "look at sasl.username, sasl.password and sasl.mechanism",
            },
        }
    }
}

/// Chooses the mechanism. Version 1 says that SaslAuthenticate will follow (KIP-152).
async fn handshake(writer: &mut RequestWriter, mechanism: &'static str) -> Result<(), KafkaError> {
    let request =
        SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
    let response = writer.ask(&request, 1).await?;
    let problem = match response.error_code.err() {
        None => return Ok(()),
        Some(ErrorCode::UnsupportedSaslMechanism) => {
            let offered = offered(&response.mechanisms);
            format!("{mechanism} is not enabled on this listener, which offers {offered}: set sasl.mechanism")
        }
        Some(ErrorCode::IllegalSaslState) => {
            "this listener wants no SASL: name a SASL_SSL or SASL_PLAINTEXT listener, or leave out `sasl`".to_owned()
        }
        Some(code) => {
            return Err(KafkaError::Broker {
                code,
                context: format!("authenticating at {}", writer.address()),
            });
        }
    };
    Err(KafkaError::Sasl {
        address: writer.address().to_owned(),
        problem,
    })
}

/// The mechanisms of a listener, if it is one that wants SASL: for telling one who came without.
pub(super) async fn wanted(writer: &mut RequestWriter) -> Option<String> {
    let response = writer.ask(&SaslHandshakeRequest::default(), 1).await.ok()?;
    (response.error_code == ErrorCode::UnsupportedSaslMechanism.code())
        .then(|| offered(&response.mechanisms))
}

fn offered(mechanisms: &[StrBytes]) -> String {
    if mechanisms.is_empty() {
        "none".to_owned()
    } else {
        let names: Vec<&str> = mechanisms.iter().map(StrBytes::as_str).collect();
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_is_renewed_shortly_before_it_ends() {
        for (lifetime, not_before, not_after) in [(1_000, 849, 951), (60, 49, 51), (5, 1, 2)] {
            let session = Session::of(Instant::now(), lifetime * 1_000);
            tokio::time::advance(Duration::from_secs(not_before)).await;
            assert!(!session.is_over(), "{lifetime}");
            tokio::time::advance(Duration::from_secs(not_after - not_before)).await;
            assert!(session.is_over(), "{lifetime}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_session_is_renewed_twice_within_a_second() {
        let session = Session::of(Instant::now(), 10);
        tokio::time::advance(Duration::from_millis(1_000)).await;
        assert!(!session.is_over());
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(session.is_over());
    }

    #[test]
    fn lifetimes_that_are_none_or_absurd_are_endless() {
        for lifetime in [0, -1, i64::MIN, i64::MAX] {
            assert!(!Session::of(Instant::now(), lifetime).is_over());
        }
        assert_eq!(Session::of(Instant::now(), 0), Session::ENDLESS);
    }
}
