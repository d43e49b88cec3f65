//! What is said in an authentication, whatever the mechanism.

use super::super::{KafkaError, Sasl, Secret};
use super::oauth_bearer::OauthBearer;
use super::plain;
use super::scram::{Hash, Scram};
use super::token::Tokens;

/// An authentication in progress.
pub(super) enum Conversation {
    Plain { message: Vec<u8> },
    Scram(Scram),
    OauthBearer(OauthBearer),
}

impl Conversation {
    /// Fetches what is needed; nothing is said yet.
    pub async fn begin(sasl: &Sasl, tokens: &Tokens) -> Result<Self, KafkaError> {
        let scram = |hash, username: &str, password: &Secret| {
            Scram::new(hash, username, password).map(Self::Scram)
        };
        let conversation = match sasl {
            Sasl::Plain { username, password } => {
                plain::message(username, &password.renewed().await?)
                    .map(|message| Self::Plain { message })
            }
            Sasl::ScramSha256 { username, password } => {
                scram(Hash::Sha256, username, &password.renewed().await?)
            }
            Sasl::ScramSha512 { username, password } => {
                scram(Hash::Sha512, username, &password.renewed().await?)
            }
            Sasl::OauthBearer(source) => {
                OauthBearer::new(&tokens.token(source).await?).map(Self::OauthBearer)
            }
        };
        conversation.map_err(|problem| KafkaError::Configuration(format!("sasl: {problem}")))
    }

    /// The mechanism's name in IANA's registry.
    pub fn mechanism(&self) -> &'static str {
        match self {
            Self::Plain { .. } => "PLAIN",
            Self::Scram(scram) => scram.mechanism(),
            Self::OauthBearer(_) => "OAUTHBEARER",
        }
    }

    /// What to say first.
    pub fn first_message(&mut self) -> Vec<u8> {
        match self {
            Self::Plain { message } => std::mem::take(message),
            Self::Scram(scram) => scram.first_message(),
            Self::OauthBearer(bearer) => bearer.first_message(),
        }
    }

    /// What to say to a challenge; nothing when both sides are convinced. The error is for the operator.
    pub async fn answer(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, String> {
        match self {
            Self::Plain { .. } => Ok(None),
            Self::Scram(scram) => scram.answer(challenge).await,
            Self::OauthBearer(bearer) => bearer.answer(challenge),
        }
    }

    /// What the broker complained of before it refused.
    pub fn complaint(&self) -> Option<&str> {
        match self {
            Self::OauthBearer(bearer) => bearer.complaint(),
            _ => None,
        }
    }
}
