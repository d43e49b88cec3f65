//! OAUTHBEARER (RFC 7628, KIP-255).

use serde::Deserialize;

use super::super::Secret;

/// A conversation: the token; after a complaint, an acknowledgement, upon which the broker refuses.
pub(super) struct OauthBearer {
    message: Vec<u8>,
    complaint: Option<String>,
}

/// What a broker sends instead of letting us in (RFC 7628, section 3.2.2).
#[derive(Deserialize)]
struct Complaint {
    status: String,
    scope: Option<String>,
}

impl OauthBearer {
    /// The token's characters are those of RFC 6750: a separator among them would add fields to the message.
    pub fn new(token: &Secret) -> Result<Self, String> {
        let token = token.reveal();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
        if token.is_empty() || !token.chars().all(allowed) {
            return Err(
                "the token is empty, or holds what no bearer token holds (RFC 6750)".to_owned(),
            );
        }
        Ok(Self {
            message: format!("n,,\u{1}auth=Bearer {token}\u{1}\u{1}").into_bytes(),
            complaint: None,
        })
    }

    pub fn first_message(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.message)
    }

    pub fn answer(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, String> {
        if challenge.is_empty() {
            return Ok(None);
        }
        if self.complaint.is_some() {
            return Err("the broker goes on where OAUTHBEARER has ended".to_owned());
        }
        let complaint = match serde_json::from_slice(challenge) {
            Ok(Complaint {
                status,
                scope: Some(scope),
            }) => format!("{status}, scope {scope}"),
            Ok(Complaint { status, .. }) => status,
            Err(_) => "no reason given".to_owned(),
        };
        self.complaint = Some(complaint);
        Ok(Some(vec![1]))
    }

    /// What the broker complained of.
    pub fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_carries_the_token_between_separators() {
        let mut bearer = OauthBearer::new(&Secret::new("abc.DEF-1~2+3/4==")).unwrap();
        assert_eq!(
            bearer.first_message(),
            b"n,,\x01auth=Bearer abc.DEF-1~2+3/4==\x01\x01"
        );
        assert_eq!(bearer.answer(b"").unwrap(), None);
    }

    #[test]
    fn a_complaint_is_acknowledged_and_kept() {
        let mut bearer = OauthBearer::new(&Secret::new("t")).unwrap();
        let complaint = br#"{"status":"invalid_token","scope":"kafka","openid-configuration":"x"}"#;
        assert_eq!(bearer.answer(complaint).unwrap(), Some(vec![1]));
        assert_eq!(bearer.complaint(), Some("invalid_token, scope kafka"));
        bearer.answer(complaint).unwrap_err();
    }

    #[test]
    fn tokens_that_would_change_the_message_are_refused_without_showing_them() {
        for token in [
            "",
            "sword\u{1}fish",
            "sword fish",
            "sword\nfish",
            "swordfish\u{e9}",
        ] {
            let error = OauthBearer::new(&Secret::new(token)).err().unwrap();
            assert!(!error.contains("fish"), "{error}");
        }
    }
}
