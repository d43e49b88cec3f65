//! Tokens of an independent maker (`tests/golden/tokens/make.py`), and what becomes of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use proptest::prelude::*;

use crate::kafka::Secret;

use super::*;

/// How long keys are used whose file has become unusable.
const KEPT: Duration = Duration::from_secs(3600);
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/tokens")
        .join(name)
}

fn authority() -> Authority {
    let public = |name: &str, algorithm| {
        Key::public(name, algorithm, &golden(&format!("{name}.pem")), KEPT).unwrap()
    };
    let set =
        |name: &str, algorithm| Key::set(name, algorithm, &golden("jwks.json"), KEPT).unwrap();
    use KeyAlgorithm::{EdDsa, Es256, Rs256};
    Authority {
        issuer: "https://sso.example".to_owned(),
        audience: "kafkeep".to_owned(),
        leeway: Duration::from_secs(30),
        keys: vec![
            Key::shared("hs", Secret::new(SECRET)).unwrap(),
            public("rsa", Rs256),
            public("ec", Es256),
            public("ed", EdDsa),
            set("sets-rsa", Rs256),
            set("sets-ec", Es256),
            set("sets-ed", EdDsa),
        ],
    }
}

fn tokens() -> BTreeMap<String, (String, String)> {
    serde_json::from_slice(&std::fs::read(golden("tokens.json")).unwrap()).unwrap()
}

fn bearing(token: &str) -> Result<Caller, AuthError> {
    authority().verify(Some(&format!("Bearer {token}")))
}

#[test]
fn tokens_of_another_maker_are_taken_or_refused_each_for_its_reason() {
    let tokens = tokens();
    assert!(tokens.len() > 25);
    for (name, (token, expected)) in tokens {
        match (bearing(&token), expected.as_str()) {
            (Ok(caller), "ok") => {
                assert_eq!(caller.identity.subject, "alice", "{name}");
                let of_set = caller.identity.key.strip_prefix("sets-");
                let kid = of_set.map_or(caller.identity.key.clone(), |key| format!("set-{key}"));
                assert!(
                    kid == name || caller.identity.key == "hs",
                    "{name} by {kid}"
                );
                assert!(
                    caller.has(Scope::Read) && caller.has(Scope::Backup),
                    "{name}"
                );
                assert!(
                    !caller.has(Scope::Restore) && !caller.has(Scope::Admin),
                    "{name}"
                );
            }
            (Err(AuthError::Refused(why)), expected) => {
                assert!(
                    why.starts_with(expected),
                    "{name}: {why}, and not {expected}"
                );
            }
            (other, expected) => panic!("{name}: {other:?}, and not {expected}"),
        }
    }
}

#[test]
fn without_a_bearer_token_nobody_is_asked_for_what_is_wrong_with_it() {
    let authority = authority();
    for missing in [
        None,
        Some(""),
        Some("Bearer"),
        Some("Bearer "),
        Some("Basic YTpi"),
        Some("x"),
    ] {
        assert_eq!(
            authority.verify(missing).unwrap_err(),
            AuthError::Missing,
            "{missing:?}"
        );
    }
    let challenge = AuthError::Refused("it has expired").challenge();
    assert!(
        challenge.contains(r#"error="invalid_token""#),
        "{challenge}"
    );
    let endless = format!("Bearer {}", "x".repeat(9000));
    assert_eq!(
        authority.verify(Some(&endless)).unwrap_err(),
        AuthError::Refused("it is too long")
    );
}

#[test]
fn a_minted_token_allows_what_was_granted_until_it_expires() {
    let now = Utc::now();
    let grant = |lasts: TimeDelta| Grant {
        subject: "bob".to_owned(),
        scopes: vec![Scope::Backup],
        clusters: vec!["prod".to_owned()],
        topics: vec!["orders.*".to_owned()],
        expires_at: now + lasts,
    };
    let authority = authority();
    let caller = bearing(
        &authority
            .mint("hs", &grant(TimeDelta::hours(1)), now)
            .unwrap(),
    )
    .unwrap();
    assert!(caller.may(Scope::Backup, Some("prod"), "orders.new"));
    assert!(!caller.may(Scope::Backup, Some("dr"), "orders.new"));
    assert!(!caller.may(Scope::Backup, Some("prod"), "payments"));
    assert!(!caller.has(Scope::Read));
    // Within the leeway, and beyond it.
    bearing(
        &authority
            .mint("hs", &grant(TimeDelta::seconds(-20)), now)
            .unwrap(),
    )
    .unwrap();
    let old = authority
        .mint("hs", &grant(TimeDelta::seconds(-40)), now)
        .unwrap();
    assert_eq!(
        bearing(&old).unwrap_err(),
        AuthError::Refused("it has expired")
    );
    for (key, says) in [("rsa", "verifies only"), ("nobody", "there are hs")] {
        let error = authority
            .mint(key, &grant(TimeDelta::hours(1)), now)
            .unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

/// A token that is signed by the shared secret, with these claims beside those that are required.
fn signed_with(more: &serde_json::Value) -> String {
    let mut claims = serde_json::json!({
        "iss": "https://sso.example", "aud": "kafkeep", "sub": "alice", "scope": "read",
        "exp": Utc::now().timestamp() + 60,
    });
    claims
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    crypto::install();
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    header.kid = Some("hs".to_owned());
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&header, &claims, &key).unwrap()
}

#[test]
fn a_claim_of_null_is_refused_and_does_not_mean_everything() {
    bearing(&signed_with(&serde_json::json!({}))).unwrap();
    bearing(&signed_with(&serde_json::json!({ "topics": ["a"] }))).unwrap();
    for claim in ["clusters", "topics"] {
        for value in [
            serde_json::Value::Null,
            serde_json::json!("orders"),
            serde_json::json!([null]),
        ] {
            let more = serde_json::json!({ claim: value });
            let Err(AuthError::Refused(why)) = bearing(&signed_with(&more)) else {
                panic!("{more} is taken");
            };
            assert!(
                why.contains("clusters and topics must be lists"),
                "{more}: {why}"
            );
        }
    }
}

#[test]
fn a_token_that_lasts_for_longer_than_a_year_is_not_minted() {
    let now = Utc::now();
    let mint = |lasts: TimeDelta| {
        let grant = Grant {
            subject: "bob".to_owned(),
            scopes: vec![Scope::Read],
            clusters: Vec::new(),
            topics: Vec::new(),
            expires_at: now + lasts,
        };
        authority().mint("hs", &grant, now)
    };
    mint(TimeDelta::days(366)).unwrap();
    let refused = mint(TimeDelta::days(367)).unwrap_err().to_string();
    assert!(refused.contains("366 days at most"), "{refused}");
}

#[test]
fn the_only_key_needs_no_name() {
    let mut authority = authority();
    authority.keys.truncate(1);
    let (token, _) = &tokens()["no-key"];
    authority.verify(Some(&format!("bearer {token}"))).unwrap();
}

#[test]
fn keys_that_are_too_small_or_of_another_kind_are_refused() {
    let refused = |key: Result<Key, KeyError>| key.unwrap_err().to_string();
    assert!(refused(Key::shared("x", Secret::new("short"))).contains("32 or more"));
    for (file, algorithm) in [
        ("ec.pem", KeyAlgorithm::Rs256),
        ("rsa.pem", KeyAlgorithm::Es256),
        ("ec.pem", KeyAlgorithm::EdDsa),
        ("ed.pem", KeyAlgorithm::Es256),
        ("p384.pem", KeyAlgorithm::Es256),
        ("small.pem", KeyAlgorithm::Rs256),
        ("jwks.json", KeyAlgorithm::Rs256),
    ] {
        let refused = refused(Key::public("x", algorithm, &golden(file), KEPT));
        assert!(refused.contains("holds no public key"), "{file}: {refused}");
    }
    // Who verifies needs no private key, and has none lie about.
    let directory = tempfile::tempdir().unwrap();
    let private = directory.path().join("private.pem");
    let pem = std::fs::read_to_string(golden("rsa.pem")).unwrap();
    for kind in ["PRIVATE KEY", "RSA PRIVATE KEY"] {
        std::fs::write(&private, pem.replace("PUBLIC KEY", kind)).unwrap();
        let refused = refused(Key::public("x", KeyAlgorithm::Rs256, &private, KEPT));
        assert!(refused.contains("holds a private key"), "{refused}");
    }
    assert!(
        refused(Key::set("x", KeyAlgorithm::Rs256, &golden("rsa.pem"), KEPT))
            .contains("no key set")
    );
    assert!(
        refused(Key::set(
            "x",
            KeyAlgorithm::Rs256,
            &golden("none.json"),
            KEPT
        ))
        .contains("cannot be read")
    );
}

/// A file with a key set or a key, of which an authority makes its only key.
struct FileOfKeys {
    directory: tempfile::TempDir,
    authority: Authority,
    token: String,
}

impl FileOfKeys {
    /// The set with the key `set-ec`.
    fn set(kept: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        put(&directory.path().join("keys"), &ec_set("set-ec"));
        let key = Key::set(
            "sso",
            KeyAlgorithm::Es256,
            &directory.path().join("keys"),
            kept,
        );
        Self::of(directory, key.unwrap(), "set-ec")
    }

    fn of(directory: tempfile::TempDir, key: Key, token: &str) -> Self {
        let mut authority = authority();
        authority.keys = vec![key];
        Self {
            directory,
            authority,
            token: tokens()[token].0.clone(),
        }
    }

    /// The file is looked at again.
    fn becomes(&self, content: Option<&str>) {
        let path = self.directory.path().join("keys");
        match content {
            Some(content) => put(&path, content),
            None => std::fs::remove_file(path).unwrap(),
        }
        std::thread::sleep(Duration::from_millis(1100));
        assert!(self.authority.is_due());
        self.authority.renew();
    }

    fn is_taken(&self) -> bool {
        let verified = self
            .authority
            .verify(Some(&format!("Bearer {}", self.token)));
        match verified {
            Ok(_) => true,
            Err(why) => {
                assert_eq!(why, AuthError::Refused("its key is not known here"));
                false
            }
        }
    }

    fn is_readable(&self) -> bool {
        self.authority.keys[0].is_readable()
    }
}

fn put(path: &Path, content: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(&new, path).unwrap();
}

fn ec_set(kid: &str) -> String {
    let all = std::fs::read(golden("jwks.json")).unwrap();
    let all: serde_json::Value = serde_json::from_slice(&all).unwrap();
    let mut key = all["keys"][1].clone();
    key["kid"] = kid.into();
    serde_json::json!({ "keys": [key] }).to_string()
}

#[test]
fn a_key_set_is_read_again_when_it_changes_and_an_empty_one_takes_all_keys_back() {
    let file = FileOfKeys::set(KEPT);
    assert!(file.is_taken());
    let rsa_alone = std::fs::read_to_string(golden("jwks.json")).unwrap();
    let rsa_alone = rsa_alone.replace("\"EC\"", "\"unknown\"");
    for without in [&ec_set("renewed"), r#"{"keys": []}"#, &rsa_alone] {
        file.becomes(Some(without));
        assert!(!file.is_taken() && file.is_readable(), "{without}");
        file.becomes(Some(&ec_set("set-ec")));
        assert!(file.is_taken());
    }
    // What is there says which keys there are from the beginning, too.
    put(&file.directory.path().join("keys"), r#"{"keys": []}"#);
    let path = file.directory.path().join("keys");
    Key::set("sso", KeyAlgorithm::Es256, &path, KEPT).unwrap();
}

#[test]
fn keys_of_a_file_that_is_broken_or_gone_are_used_for_a_bounded_time() {
    for (kept, is_taken) in [(KEPT, true), (Duration::ZERO, false)] {
        let file = FileOfKeys::set(kept);
        for broken in [Some(""), Some("{"), Some(r#"{"keys": 7}"#), None] {
            file.becomes(broken);
            assert!(!file.is_readable(), "{broken:?}");
            assert_eq!(file.is_taken(), is_taken, "{broken:?}, kept for {kept:?}");
        }
        file.becomes(Some(&ec_set("set-ec")));
        assert!(file.is_readable() && file.is_taken());
    }
}

#[test]
fn a_public_key_follows_its_file_in_the_same_way() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let pem = |name: &str| std::fs::read_to_string(golden(name)).unwrap();
    put(&path, &pem("ec.pem"));
    let key = Key::public("ec", KeyAlgorithm::Es256, &path, Duration::ZERO).unwrap();
    let file = FileOfKeys::of(directory, key, "ec");
    assert!(file.is_taken());
    for broken in [Some(pem("rsa.pem")), None] {
        file.becomes(broken.as_deref());
        assert!(!file.is_readable() && !file.is_taken());
    }
    file.becomes(Some(&pem("ec.pem")));
    assert!(file.is_readable() && file.is_taken());
}

#[test]
fn a_key_set_may_hold_keys_that_are_not_known_here() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwks.json");
    let mut all: serde_json::Value =
        serde_json::from_slice(&std::fs::read(golden("jwks.json")).unwrap()).unwrap();
    let known = all["keys"].as_array_mut().unwrap();
    let mut for_encryption = known[0].clone();
    for_encryption["use"] = "enc".into();
    for_encryption["alg"] = "RSA-OAEP-512".into();
    let others = [
        for_encryption,
        serde_json::json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA", "kid": "set-rsa" }),
        serde_json::json!({ "kty": "OKP", "crv": "X25519", "x": "AAAA", "kid": "set-rsa", "use": "enc" }),
        serde_json::json!({ "kty": "EC", "crv": "secp256k1", "x": "AAAA", "y": "AAAA", "kid": "set-rsa" }),
        // Symmetric keys do not belong into a set, and are none here.
        serde_json::json!({ "kty": "oct", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY", "kid": "hs", "alg": "HS256" }),
    ];
    known.extend(others);
    std::fs::write(&path, all.to_string()).unwrap();
    let mut authority = authority();
    authority.keys = vec![Key::set("sso", KeyAlgorithm::Rs256, &path, KEPT).unwrap()];
    let bearing = |name: &str| authority.verify(Some(&format!("Bearer {}", tokens()[name].0)));
    assert_eq!(bearing("set-rsa").unwrap().identity.key, "sso");
    for other in ["set-ec", "set-ed", "hs", "rsa"] {
        assert!(bearing(other).is_err(), "{other}");
    }
}

#[test]
fn the_parts_of_different_tokens_make_no_other() {
    let (authority, tokens) = (authority(), tokens());
    let made: Vec<&str> = tokens.values().map(|(token, _)| token.as_str()).collect();
    let parts: Vec<Vec<&str>> = made
        .iter()
        .map(|token| token.split('.').collect())
        .collect();
    for header in &parts {
        for claims in &parts {
            for signature in &parts {
                let token = [header[0], claims[1], signature[2]].join(".");
                let verified = authority.verify(Some(&format!("Bearer {token}")));
                assert!(
                    verified.is_err() || made.contains(&token.as_str()),
                    "{token}"
                );
            }
        }
    }
}

/// A letter exchanged, put in, or taken out; two exchanged for each other; the rest cut off.
fn changed(token: &str, how: usize, at: usize, letter: char) -> String {
    let mut letters: Vec<char> = token.chars().collect();
    match how {
        0 => letters[at] = letter,
        1 => letters.insert(at, letter),
        2 => drop(letters.remove(at)),
        3 => letters.swap(at, (at + 1) % token.len()),
        _ => letters.truncate(at),
    }
    letters.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn a_token_with_anything_changed_is_refused(
        name in prop::sample::select(vec!["hs", "rsa", "ec", "ed", "set-rsa", "set-ec", "set-ed"]),
        how in 0..5_usize,
        at in any::<prop::sample::Index>(),
        letter in "[!-~]|[A-Za-z0-9_.-]",
    ) {
        let (token, _) = &tokens()[name];
        let other = changed(token, how, at.index(token.len()), letter.chars().next().unwrap());
        prop_assume!(other != *token);
        prop_assert!(bearing(&other).is_err(), "{other}");
    }
}
