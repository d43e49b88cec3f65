//! Whose tokens are taken, and what they say.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Deserializer, Serialize};

use super::caller::{Caller, Identity, Patterns, Scope};
use super::crypto;
use super::error::{AuthError, KeyError};
use super::key::{Key, Material};
use super::key_file::KeyFile;

/// Longer tokens are not looked at.
const TOKEN_LIMIT: usize = 8 << 10;
/// What a minted token may last: it cannot be taken back, other than with its key.
const LONGEST_LIFE: TimeDelta = TimeDelta::days(366);
/// Longer subjects are no names.
const SUBJECT_LIMIT: usize = 256;

/// Whose tokens are taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Authority {
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must be, or hold.
    pub audience: String,
    /// How far clocks may be apart.
    pub leeway: Duration,
    /// The keys.
    pub keys: Vec<Key>,
}

/// What a token is to allow.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Whom.
    pub subject: String,
    /// What.
    pub scopes: Vec<Scope>,
    /// Where; empty for everywhere.
    pub clusters: Vec<String>,
    /// With which topics; empty for all.
    pub topics: Vec<String>,
    /// Until when.
    pub expires_at: DateTime<Utc>,
}

/// What is read of a token; `exp`, `nbf`, `iss` and `aud` are judged by the library.
#[derive(Debug, Deserialize)]
struct Claims {
    sub: Option<String>,
    #[serde(default)]
    scope: Words,
    #[serde(default)]
    scopes: Words,
    #[serde(default, deserialize_with = "not_null")]
    clusters: Option<Vec<String>>,
    #[serde(default, deserialize_with = "not_null")]
    topics: Option<Vec<String>>,
}

/// A claim that is there is a list. `null` is refused: whoever made it may have meant nothing, and not everything.
fn not_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    Vec::deserialize(deserializer).map(Some)
}

/// Words in one text (RFC 8693), or in a list.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Words {
    Text(String),
    List(Vec<String>),
}

impl Default for Words {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Words {
    fn iter(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Text(text) => Box::new(text.split_ascii_whitespace()),
            Self::List(list) => Box::new(list.iter().map(String::as_str)),
        }
    }
}

impl Authority {
    /// Whether it is time to [renew](Self::renew) its keys.
    pub fn is_due(&self) -> bool {
        self.files().any(KeyFile::is_due)
    }

    /// Reads key files again that have changed, which may take as long as their storage does.
    pub fn renew(&self) {
        self.files().for_each(KeyFile::look);
    }

    fn files(&self) -> impl Iterator<Item = &KeyFile> {
        self.keys.iter().filter_map(|key| match &key.material {
            Material::Secret(_) => None,
            Material::File(file) => Some(file.as_ref()),
        })
    }

    /// Who bears the token of an `Authorization` header, by the keys as they were [renewed](Self::renew) last.
    ///
    /// # Errors
    ///
    /// When there is no token, or it is refused: for its form, algorithm, key, signature, issuer, audience, or time.
    pub fn verify(&self, authorization: Option<&str>) -> Result<Caller, AuthError> {
        let token = authorization.and_then(|value| {
            let (kind, token) = value.split_once(' ')?;
            kind.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let token = token
            .filter(|token| !token.is_empty())
            .ok_or(AuthError::Missing)?;
        if token.len() > TOKEN_LIMIT {
            return Err(AuthError::Refused("it is too long"));
        }
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| AuthError::Refused("it is no token that is known here"))?;
        if header.crit.is_some() {
            return Err(AuthError::Refused(
                "it demands an extension that is not known here",
            ));
        }
        let (key, decoding) = self.key(header.kid.as_deref())?;
        crypto::install();
        let decoded = jsonwebtoken::decode::<Claims>(token, &decoding, &self.validation(key));
        let claims = decoded
            .map_err(|error| AuthError::Refused(reason(error.kind())))?
            .claims;
        caller(key, &claims)
    }

    fn validation(&self, key: &Key) -> Validation {
        let mut validation = Validation::new(key.algorithm.of_tokens());
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.validate_nbf = true;
        validation.leeway = self.leeway.as_secs();
        validation
    }

    /// The key that a token names; the only one there is where it names none.
    fn key(&self, kid: Option<&str>) -> Result<(&Key, DecodingKey), AuthError> {
        let mut found = Vec::new();
        for key in &self.keys {
            let candidates = match &key.material {
                Material::Secret(secret) => {
                    let decoding = DecodingKey::from_secret(secret.reveal().as_bytes());
                    vec![(Some(key.name.clone()), decoding)]
                }
                Material::File(file) => file.keys(),
            };
            let chosen = candidates
                .into_iter()
                .filter(|(name, _)| kid.is_none() || name.as_deref() == kid);
            found.extend(chosen.map(|(_, decoding)| (key, decoding)));
        }
        match (found.len(), kid) {
            (1, _) => found.pop().ok_or(AuthError::Missing),
            (0, _) => Err(AuthError::Refused("its key is not known here")),
            (_, None) => Err(AuthError::Refused("it names no key, and there are several")),
            (_, Some(_)) => Err(AuthError::Refused("several keys have the name of its key")),
        }
    }

    /// Makes a token by a shared secret.
    ///
    /// # Errors
    ///
    /// When there is no such key, or it is none that signs; when the token is to last for more than 366 days.
    pub fn mint(&self, key: &str, grant: &Grant, now: DateTime<Utc>) -> Result<String, KeyError> {
        if grant.expires_at - now > LONGEST_LIFE {
            let message = format!(
                "a token lasts for {} days at most: give a shorter --expires, and mint another one later",
                LONGEST_LIFE.num_days()
            );
            return Err(KeyError::Unusable(message));
        }
        let found = self.keys.iter().find(|known| known.name == key);
        let Some(Key {
            material: Material::Secret(secret),
            ..
        }) = found
        else {
            let known = self
                .keys
                .iter()
                .filter(|key| matches!(key.material, Material::Secret(_)));
            let known: Vec<&str> = known.map(|key| key.name.as_str()).collect();
            let message = match (found, known.as_slice()) {
                (Some(_), _) => {
                    format!("key {key} verifies only: tokens are made by keys with algorithm HS256")
                }
                (None, []) => {
                    "no key with algorithm HS256 is configured under [api.keys]".to_owned()
                }
                (None, known) => {
                    format!("no key {key} is configured; there are {}", known.join(", "))
                }
            };
            return Err(KeyError::Unusable(message));
        };
        crypto::install();
        let mut header = Header::new(jsonwebtoken::Algorithm::HS256);
        header.kid = Some(key.to_owned());
        let scopes: Vec<&str> = grant.scopes.iter().map(|scope| scope.name()).collect();
        let some = |texts: &[String]| (!texts.is_empty()).then(|| texts.to_vec());
        let claims = Minted {
            iss: &self.issuer,
            aud: &self.audience,
            sub: &grant.subject,
            iat: now.timestamp(),
            exp: grant.expires_at.timestamp(),
            scope: scopes.join(" "),
            clusters: some(&grant.clusters),
            topics: some(&grant.topics),
        };
        let encoding = EncodingKey::from_secret(secret.reveal().as_bytes());
        jsonwebtoken::encode(&header, &claims, &encoding)
            .map_err(|error| KeyError::Unusable(error.to_string()))
    }
}

#[derive(Serialize)]
struct Minted<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    iat: i64,
    exp: i64,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    clusters: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topics: Option<Vec<String>>,
}

fn caller(key: &Key, claims: &Claims) -> Result<Caller, AuthError> {
    let subject = claims.sub.as_deref().unwrap_or_default();
    if subject.is_empty() || subject.len() > SUBJECT_LIMIT {
        return Err(AuthError::Refused("its subject is no name"));
    }
    let patterns = |texts: &Option<Vec<String>>| match texts {
        None => Ok(None),
        Some(texts) => Patterns::of(texts)
            .map(Some)
            .ok_or(AuthError::Refused("its clusters or topics are no patterns")),
    };
    let words = claims.scope.iter().chain(claims.scopes.iter());
    let scopes = words.filter_map(|word| Scope::ALL.into_iter().find(|scope| scope.name() == word));
    Ok(Caller {
        identity: Identity::new(&key.name, subject),
        scopes: scopes.collect(),
        clusters: patterns(&claims.clusters)?,
        topics: patterns(&claims.topics)?,
    })
}

/// Why a token is refused, in words that tell its bearer what to do, and nobody else anything.
fn reason(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "it has expired",
        ErrorKind::ImmatureSignature => "it is not valid yet",
        ErrorKind::InvalidIssuer => "its issuer is another",
        ErrorKind::InvalidAudience => "its audience is another",
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => {
            "it lacks exp, iss, aud or sub"
        }
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            "its algorithm is not that of its key"
        }
        ErrorKind::InvalidSignature => "its signature is wrong",
        ErrorKind::Json(error) if error.is_data() => {
            "it is no token that is known here: its clusters and topics must be lists, its sub a text"
        }
        _ => "it is no token that is known here",
    }
}
