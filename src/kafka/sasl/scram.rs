//! SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677): the password never crosses the wire, and the broker proves that
//! it knows it, too.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};

use super::super::Secret;

/// From what RFC 7677 asks for to what a hostile broker may cost us: below a second. Kafka's own limit is 16,384 (KIP-554).
const ITERATIONS: std::ops::RangeInclusive<u32> = 4_096..=500_000;

/// We bind to no channel: the base64 of `n,,`.
const NO_CHANNEL_BINDING: &str = "biws";

/// The hash function of the mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        #[expect(clippy::expect_used, reason = "an HMAC takes keys of any length")]
        fn hmac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
            let mut mac = <M as KeyInit>::new_from_slice(key).expect("a key of any length");
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        }
        match self {
            Self::Sha256 => hmac::<Hmac<Sha256>>(key, message),
            Self::Sha512 => hmac::<Hmac<Sha512>>(key, message),
        }
    }

    fn salted_password(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        match self {
            Self::Sha256 => {
                pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password, salt, iterations).to_vec()
            }
            Self::Sha512 => {
                pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(password, salt, iterations).to_vec()
            }
        }
    }
}

/// One SCRAM conversation, from the client's first message to the broker's proof.
pub(super) struct Scram {
    hash: Hash,
    password: Secret,
    nonce: String,
    /// The client's first message without its header: `n=user,r=nonce`. It goes into the proof.
    first_bare: String,
    state: State,
}

enum State {
    /// The broker's salt and nonce are due.
    Challenge,
    /// The broker's signature is due: this one.
    Signature(Vec<u8>),
    Done,
}

impl Scram {
    pub fn new(hash: Hash, username: &str, password: &Secret) -> Result<Self, String> {
        let nonce: [u8; 24] = rand::random();
        Self::with_nonce(hash, username, password, BASE64.encode(nonce))
    }

    fn with_nonce(
        hash: Hash,
        username: &str,
        password: &Secret,
        nonce: String,
    ) -> Result<Self, String> {
        prepare("username", username)?;
        prepare("password", password.reveal())?;
        let escaped = username.replace('=', "=3D").replace(',', "=2C");
        Ok(Self {
            hash,
            password: password.clone(),
            first_bare: format!("n={escaped},r={nonce}"),
            nonce,
            state: State::Challenge,
        })
    }

    pub fn mechanism(&self) -> &'static str {
        match self.hash {
            Hash::Sha256 => "SCRAM-SHA-256",
            Hash::Sha512 => "SCRAM-SHA-512",
        }
    }

    pub fn first_message(&self) -> Vec<u8> {
        format!("n,,{}", self.first_bare).into_bytes()
    }

    pub async fn answer(&mut self, message: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let message = std::str::from_utf8(message)
            .map_err(|_| "the broker's SCRAM message is no text".to_owned())?;
        match std::mem::replace(&mut self.state, State::Done) {
            State::Challenge => self.prove(message).await.map(Some),
            State::Signature(expected) => verify(message, &expected).map(|()| None),
            State::Done => Err("the broker goes on where SCRAM has ended".to_owned()),
        }
    }

    /// Answers salt, nonce and iteration count with the proof.
    async fn prove(&mut self, server_first: &str) -> Result<Vec<u8>, String> {
        let Challenge {
            nonce,
            salt,
            iterations,
        } = Challenge::parse(server_first)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("the broker's SCRAM nonce does not continue ours: somebody may be replaying an old answer".to_owned());
        }
        let (hash, password) = (self.hash, self.password.clone());
        let salted = tokio::task::spawn_blocking(move || {
            hash.salted_password(password.reveal().as_bytes(), &salt, iterations)
        });
        let salted = salted.await.map_err(|error| error.to_string())?;
        let without_proof = format!("c={NO_CHANNEL_BINDING},r={nonce}");
        let auth_message = format!("{},{server_first},{without_proof}", self.first_bare);
        let client_key = hash.hmac(&salted, b"Client Key");
        let client_signature = hash.hmac(&hash.hash(&client_key), auth_message.as_bytes());
        let proof: Vec<u8> = client_key
            .iter()
            .zip(&client_signature)
            .map(|(key, signature)| key ^ signature)
            .collect();
        let server_key = hash.hmac(&salted, b"Server Key");
        self.state = State::Signature(hash.hmac(&server_key, auth_message.as_bytes()));
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)).into_bytes())
    }
}

/// Kafka's brokers store and compare the UTF-8 bytes as they are (`ScramFormatter.normalize`), so SASLprep would lock out
/// those whose name or password it changes. What it prohibits altogether is refused.
fn prepare(what: &str, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("{what} is empty"));
    }
    if text.contains(char::is_control) {
        return Err(format!(
            "{what} holds a control character (a line break?), which SCRAM does not allow"
        ));
    }
    Ok(())
}

/// The broker's first message: `r=nonce,s=salt,i=iterations`, and extensions that may be ignored.
struct Challenge<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: u32,
}

impl<'a> Challenge<'a> {
    fn parse(message: &'a str) -> Result<Self, String> {
        let wrong = |what: &str| format!("the broker's SCRAM challenge has {what}");
        let mut attributes = message.split(',');
        let mut attribute = |name: &str| {
            let found = attributes
                .next()
                .and_then(|attribute| attribute.strip_prefix(name));
            found.ok_or_else(|| wrong(&format!("no `{name}` where it belongs")))
        };
        let nonce = attribute("r=")?;
        let salt = BASE64
            .decode(attribute("s=")?)
            .map_err(|_| wrong("a salt that is not base64"))?;
        let iterations = attribute("i=")?;
        if salt.is_empty() {
            return Err(wrong("no salt"));
        }
        let iterations = iterations
            .parse()
            .ok()
            .filter(|iterations| ITERATIONS.contains(iterations));
        let iterations = iterations.ok_or_else(|| {
            wrong(&format!(
                "an iteration count that is not from {} to {}: set the user's credentials anew",
                ITERATIONS.start(),
                ITERATIONS.end()
            ))
        })?;
        Ok(Self {
            nonce,
            salt,
            iterations,
        })
    }
}

/// The broker's last message: `v=signature`, or `e=error`.
fn verify(message: &str, expected: &[u8]) -> Result<(), String> {
    let first = message.split(',').next().unwrap_or_default();
    if let Some(error) = first.strip_prefix("e=") {
        return Err(format!("the broker refused the SCRAM proof: {error}"));
    }
    let signature = first
        .strip_prefix("v=")
        .and_then(|signature| BASE64.decode(signature).ok());
    // Nothing is gained by guessing: there is one try for each nonce.
    if signature.is_some_and(|signature| signature == expected) {
        Ok(())
    } else {
        Err("the broker cannot prove that it knows the password: it may be a stranger; check the address and TLS".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of RFC 7677, section 3.
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn pencil(nonce: &str) -> Scram {
        let password = Secret::new("pencil");
        Scram::with_nonce(Hash::Sha256, "user", &password, nonce.to_owned()).unwrap()
    }

    #[tokio::test]
    async fn the_conversation_is_that_of_rfc_7677() {
        let mut scram = pencil(NONCE);
        assert_eq!(scram.first_message(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let proof = scram
            .answer(SERVER_FIRST.as_bytes())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            String::from_utf8(proof).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        let last = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(scram.answer(last).await.unwrap(), None);
        scram.answer(last).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_broker_that_does_not_know_the_password_is_not_believed() {
        for last in [
            "v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            "v=",
            "v=?",
            "",
        ] {
            let mut scram = pencil(NONCE);
            scram.answer(SERVER_FIRST.as_bytes()).await.unwrap();
            let error = scram.answer(last.as_bytes()).await.unwrap_err();
            assert!(error.contains("cannot prove"), "{error}");
        }
    }

    #[tokio::test]
    async fn an_error_of_the_broker_is_shown() {
        let mut scram = pencil(NONCE);
        scram.answer(SERVER_FIRST.as_bytes()).await.unwrap();
        let error = scram.answer(b"e=invalid-proof").await.unwrap_err();
        assert!(error.contains("invalid-proof"), "{error}");
    }

    #[tokio::test]
    async fn challenges_that_are_replayed_broken_or_too_costly_are_refused() {
        for (challenge, problem) in [
            ("r=another,s=AAAA,i=4096", "replaying"),
            ("r=rOprNGfwEbeRWgbNEkqO,s=AAAA,i=4096", "replaying"),
            ("r=rOprNGfwEbeRWgbNEkqO1,s=,i=4096", "no salt"),
            ("r=rOprNGfwEbeRWgbNEkqO1,s=?,i=4096", "not base64"),
            ("r=rOprNGfwEbeRWgbNEkqO1,s=AAAA,i=4095", "iteration count"),
            (
                "r=rOprNGfwEbeRWgbNEkqO1,s=AAAA,i=4294967295",
                "iteration count",
            ),
            ("r=rOprNGfwEbeRWgbNEkqO1,s=AAAA,i=-1", "iteration count"),
            ("m=ext,r=rOprNGfwEbeRWgbNEkqO1,s=AAAA,i=4096", "no `r=`"),
            ("", "no `r=`"),
            ("r=rOprNGfwEbeRWgbNEkqO1", "no `s=`"),
        ] {
            let error = pencil(NONCE)
                .answer(challenge.as_bytes())
                .await
                .unwrap_err();
            assert!(error.contains(problem), "{challenge}: {error}");
        }
    }

    #[test]
    fn commas_and_equals_signs_in_names_are_escaped() {
        let scram = Scram::with_nonce(Hash::Sha512, "a=b,c=2Cé", &Secret::new("p"), "x".to_owned());
        let first = String::from_utf8(scram.unwrap().first_message()).unwrap();
        assert_eq!(first, "n,,n=a=3Db=2Cc=3D2Cé,r=x");
    }

    #[test]
    fn what_cannot_be_prepared_is_refused_without_showing_it() {
        for (username, password) in [("", "p"), ("u\n", "p"), ("u", ""), ("u", "sword\nfish")] {
            let error = Scram::new(Hash::Sha512, username, &Secret::new(password))
                .err()
                .unwrap();
            assert!(!error.contains("fish"), "{error}");
        }
    }

    #[test]
    fn nonces_do_not_come_twice() {
        let nonce = || {
            Scram::new(Hash::Sha256, "u", &Secret::new("p"))
                .unwrap()
                .nonce
        };
        assert_ne!(nonce(), nonce());
        assert!(!nonce().contains(','));
    }

    proptest! {
        #[test]
        fn no_challenge_and_no_signature_panics(message in ".{0,80}") {
            if let Ok(challenge) = Challenge::parse(&message) {
                prop_assert!(ITERATIONS.contains(&challenge.iterations));
            }
            verify(&message, &[1]).unwrap_err();
        }
    }
}
