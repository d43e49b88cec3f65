//! `[api]`: whose tokens the HTTP API takes, and what holds for its calls.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::auth::{Authority, Key as AuthKey, KeyAlgorithm, KeyError};
use crate::engine::rate::RateLimit;

use super::key::{At, Key, Keys, Kind, Node};
use super::kinds::{Named, Text};
use super::reader::Reader;
use super::schema;
use super::secret::{SecretReference, fetched};
use super::section::Section;
use super::source::Place;

/// The HTTP API, where there are keys: without any, there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Api {
    /// Whose tokens are taken.
    pub authority: Authority,
    /// The repository of backups that name none.
    pub repository: Option<String>,
    /// How fast a backup reads that does not say.
    pub backup_rate_limit: RateLimit,
    /// How fast a restore writes that does not say.
    pub restore_rate_limit: RateLimit,
}

/// The keys of `[api]`; secrets are not fetched yet.
#[derive(Debug)]
pub(super) struct ApiFile {
    issuer: Option<At<Text>>,
    audience: Option<At<Text>>,
    leeway: Duration,
    repository: Option<At<Text>>,
    backup_rate_limit: RateLimit,
    restore_rate_limit: RateLimit,
    keys: Named<KeyFile>,
    place: Place,
}

#[derive(Debug)]
struct KeyFile {
    place: Place,
    algorithm: At<KeyAlgorithm>,
    secret: Option<At<SecretReference>>,
    public_key_file: Option<At<PathBuf>>,
    jwks_file: Option<At<PathBuf>>,
    keep_for: Option<At<Duration>>,
}

const ISSUER: Key<Text> = Key::optional("issuer", "what `iss` of a token must be");
const AUDIENCE: Key<Text> = Key::optional("audience", "what `aud` of a token must be, or hold");
const LEEWAY: Key<Duration> = Key::optional(
    "leeway",
    "how far the clocks of who makes tokens may be apart; 30s by default, at most 5m",
);
const REPOSITORY: Key<Text> = Key::optional(
    "repository",
    "the repository of backups that name none; needless where there is one",
);
const BACKUP_RATE_LIMIT: Key<RateLimit> = Key::optional(
    "backup_rate_limit",
    "how fast a backup reads that does not say; \"10000 records/s\" by default",
);
const RESTORE_RATE_LIMIT: Key<RateLimit> = Key::optional(
    "restore_rate_limit",
    "how fast a restore writes that does not say; \"5000 records/s\" by default",
);
const KEYS_KEY: Key<Named<KeyFile>> = Key::optional(
    "keys",
    "keys of tokens, by the name (`kid`) that tokens give them; without any the API is off",
);
const API_KEYS: Keys = &[
    &ISSUER,
    &AUDIENCE,
    &LEEWAY,
    &REPOSITORY,
    &BACKUP_RATE_LIMIT,
    &RESTORE_RATE_LIMIT,
    &KEYS_KEY,
];

const ALGORITHM: Key<KeyAlgorithm> = Key::required(
    "algorithm",
    "the one under which the key is used, whatever a token says",
);
const SECRET: Key<SecretReference> =
    Key::optional("secret", "for HS256: a shared secret of 32 bytes or more");
const PUBLIC_KEY_FILE: Key<PathBuf> = Key::optional(
    "public_key_file",
    "for RS256, ES256 and EdDSA: a public key in PEM",
);
const JWKS_FILE: Key<PathBuf> = Key::optional(
    "jwks_file",
    "for RS256, ES256 and EdDSA: a key set (RFC 7517), read again when it changes; its keys have names of their own",
);
const KEEP_FOR: Key<Duration> = Key::optional(
    "keep_for",
    "how long keys are used after their file has become unreadable or wrong; 1h by default, at most 24h",
);
const KEY_KEYS: Keys = &[&ALGORITHM, &SECRET, &PUBLIC_KEY_FILE, &JWKS_FILE, &KEEP_FOR];

/// Long enough for somebody to be called, and short enough that a key that leaked is not used for another day.
const KEPT_FOR: Duration = Duration::from_secs(3600);
const LONGEST_KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

const LONGEST_LEEWAY: Duration = Duration::from_secs(300);

impl Kind for ApiFile {
    const WANTS: &'static str = "a table such as { issuer = …, audience = …, keys = … }";

    fn schema() -> Value {
        schema::table(API_KEYS)
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let section = Section::open::<Self>(node, API_KEYS, reader)?;
        let leeway = section.get(&LEEWAY, reader);
        if let Some(At { value, place }) = &leeway
            && *value > LONGEST_LEEWAY
        {
            let help = "give 5m or less: tokens are short-lived by that much";
            reader.problem(*place, "clocks are not that far apart", help);
        }
        let repository = section.get(&REPOSITORY, reader);
        let records = RateLimit::Records;
        Some(Self {
            issuer: section.get(&ISSUER, reader),
            audience: section.get(&AUDIENCE, reader),
            leeway: leeway.map_or(Duration::from_secs(30), |leeway| leeway.value),
            repository,
            backup_rate_limit: section
                .value(&BACKUP_RATE_LIMIT, reader)
                .unwrap_or(records(10_000)),
            restore_rate_limit: section
                .value(&RESTORE_RATE_LIMIT, reader)
                .unwrap_or(records(5_000)),
            keys: section.value(&KEYS_KEY, reader).unwrap_or_default(),
            place: section.place,
        })
    }
}

impl Kind for KeyFile {
    const WANTS: &'static str = "a table such as { algorithm = \"HS256\", secret = { file = … } }";

    fn schema() -> Value {
        schema::table(KEY_KEYS)
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let section = Section::open::<Self>(node, KEY_KEYS, reader)?;
        let algorithm = section.get(&ALGORITHM, reader);
        let secret = section.get(&SECRET, reader);
        let public_key_file = section.get(&PUBLIC_KEY_FILE, reader);
        let jwks_file = section.get(&JWKS_FILE, reader);
        let keep_for = section.get(&KEEP_FOR, reader);
        if let Some(At { value, place }) = &keep_for {
            if *value > LONGEST_KEPT_FOR {
                let help = "give 24h or less: a key that was taken back is used for that long";
                reader.problem(*place, "this is too long", help);
            } else if secret.is_some() {
                let help = "leave it out: it is for public_key_file and jwks_file";
                reader.problem(*place, "a secret is not read again", help);
            }
        }
        Some(Self {
            place: section.place,
            algorithm: algorithm?,
            secret,
            public_key_file,
            jwks_file,
            keep_for,
        })
    }
}

impl ApiFile {
    /// The API, with its keys; none where there are none. Keys whose secrets only the service has are named in `out_of_reach`.
    pub fn api(
        &self,
        reader: &mut Reader,
        from_outside: bool,
        out_of_reach: &mut Vec<String>,
    ) -> Option<Api> {
        if self.keys.0.is_empty() {
            return None;
        }
        for (key, name) in [(&self.issuer, "issuer"), (&self.audience, "audience")] {
            if key.is_none() {
                let message = format!("`{name}` is missing");
                let help =
                    "tokens of others, or for others, would be taken: say whose are, and for what";
                reader.problem(self.place, message, help);
            }
        }
        if let Some(At { value, place }) = &self.repository {
            reader.known_at("repository", *place, &value.0, |known| &known.repositories);
        }
        let mut keys = Vec::new();
        for entry in &self.keys.0 {
            let Some(file) = &entry.value else { continue };
            let secret = file.secret.as_ref();
            if from_outside && secret.is_some_and(|secret| secret.value.is_out_of_reach()) {
                out_of_reach.push(entry.name.value.clone());
            } else {
                keys.extend(file.key(&entry.name.value, reader));
            }
        }
        let Text(issuer) = self.issuer.as_ref()?.value.clone();
        let Text(audience) = self.audience.as_ref()?.value.clone();
        Some(Api {
            authority: Authority {
                issuer,
                audience,
                leeway: self.leeway,
                keys,
            },
            repository: self.repository.as_ref().map(|name| name.value.0.clone()),
            backup_rate_limit: self.backup_rate_limit,
            restore_rate_limit: self.restore_rate_limit,
        })
    }
}

impl KeyFile {
    fn key(&self, name: &str, reader: &mut Reader) -> Option<AuthKey> {
        let algorithm = self.algorithm.value;
        let keep_for = self.keep_for.as_ref().map_or(KEPT_FOR, |kept| kept.value);
        let (place, made) = match (&self.secret, &self.public_key_file, &self.jwks_file) {
            (Some(secret), None, None) if algorithm == KeyAlgorithm::Hs256 => (
                secret.place,
                AuthKey::shared(name, fetched(secret, reader)?),
            ),
            (None, Some(file), None) if algorithm != KeyAlgorithm::Hs256 => (
                file.place,
                AuthKey::public(name, algorithm, &file.value, keep_for),
            ),
            (None, None, Some(file)) if algorithm != KeyAlgorithm::Hs256 => (
                file.place,
                AuthKey::set(name, algorithm, &file.value, keep_for),
            ),
            _ => {
                let message = match algorithm {
                    KeyAlgorithm::Hs256 => "HS256 goes by a secret, and by that alone",
                    _ => "this algorithm goes by either public_key_file or jwks_file",
                };
                reader.problem(self.place, message, "");
                return None;
            }
        };
        made.map_err(|error| {
            let help = match &error {
                KeyError::Unreadable { .. } => "let kafkeep's user read it",
                KeyError::Unusable(_) if algorithm == KeyAlgorithm::Hs256 => {
                    "make one: openssl rand -hex 32"
                }
                KeyError::Unusable(_) => "",
            };
            reader.problem(place, error.to_string(), help);
        })
        .ok()
    }
}
