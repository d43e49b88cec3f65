//! Bearer tokens: from a file, or from a token endpoint and kept until shortly before they expire.

use std::fmt;
use std::path::Path;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::super::cluster::read_secret;
use super::super::{ClientCredentials, KafkaError, Secret, TokenSource};
use super::token_endpoint::{self, Issued};

/// The token of a token endpoint, for all connections of a client.
#[derive(Default)]
pub(super) struct Tokens(Mutex<Option<CachedToken>>);

struct CachedToken {
    token: Secret,
    renew_at: Instant,
}

impl Tokens {
    /// A token that is good for a while. One connection at a time asks the endpoint; the others wait for what it gets.
    pub async fn token(&self, source: &TokenSource) -> Result<Secret, KafkaError> {
        let client = match source {
            TokenSource::File(path) => return from_file(path).await,
            TokenSource::ClientCredentials(client) => client,
        };
        let mut kept = self.0.lock().await;
        match &*kept {
            Some(kept) if Instant::now() < kept.renew_at => return Ok(kept.token.clone()),
            _ => {}
        }
        let client = ClientCredentials {
            client_secret: client.client_secret.renewed().await?,
            ..client.clone()
        };
        let asked = Instant::now();
        let Issued { token, lifetime } = token_endpoint::ask(&client).await?;
        // Earlier than any session that rests upon it is renewed: see `Session`.
        let renew_at = lifetime.and_then(|lifetime| asked.checked_add(lifetime.mul_f64(0.8)));
        *kept = renew_at.map(|renew_at| CachedToken {
            token: token.clone(),
            renew_at,
        });
        Ok(token)
    }

    /// Asks anew next time: the token was refused.
    pub async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<tokens>")
    }
}

async fn from_file(path: &Path) -> Result<Secret, KafkaError> {
    let text = read_secret(path).await?;
    let token = text.trim();
    if token.is_empty() {
        return Err(KafkaError::file(path, "the token file is empty"));
    }
    Ok(Secret::new(token))
}
