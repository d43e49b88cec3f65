//! PLAIN (RFC 4616).

use super::super::Secret;

/// The only message: no identity to act as, who, and the password; NUL between them.
pub(super) fn message(username: &str, password: &Secret) -> Result<Vec<u8>, String> {
    let password = password.reveal();
    if username.is_empty() || username.contains('\0') {
        return Err("username is empty or holds a NUL".to_owned());
    }
    if password.is_empty() || password.contains('\0') {
        return Err("password is empty or holds a NUL".to_owned());
    }
    Ok(format!("\0{username}\0{password}").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_that_of_rfc_4616() {
        let message = message("tim", &Secret::new("tanstaaftanstaaf")).unwrap();
        assert_eq!(message, b"\0tim\0tanstaaftanstaaf");
    }

    #[test]
    fn a_nul_cannot_smuggle_another_identity_in() {
        for (username, password) in [("a\0b", "p"), ("a", "p\0q"), ("", "p"), ("a", "")] {
            let error = message(username, &Secret::new(password)).unwrap_err();
            assert!(!error.contains("p\0q"), "{error}");
        }
    }
}
