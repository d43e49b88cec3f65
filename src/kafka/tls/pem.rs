//! Certificates and keys from PEM files.

use std::path::Path;

use tokio_rustls::rustls::pki_types::pem::{Error, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::files;

use super::super::KafkaError;

/// All certificates of a file; at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, KafkaError> {
    let pem = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| KafkaError::file(path, broken(&error)))?;
    if certificates.is_empty() {
        return Err(KafkaError::file(
            path,
            "no certificate in PEM form (-----BEGIN CERTIFICATE-----)",
        ));
    }
    Ok(certificates)
}

/// The private key of a file.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, KafkaError> {
    const ENCRYPTED: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];
    let pem = read(path)?;
    let holds = |mark: &[u8]| pem.windows(mark.len()).any(|window| window == mark);
    if ENCRYPTED.into_iter().any(holds) {
        return Err(KafkaError::file(
            path,
            "the private key is encrypted: give one that is not (`openssl pkey -in … -out …`), readable by us only",
        ));
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        Error::NoItemsFound => KafkaError::file(
            path,
            "no private key in PEM form (-----BEGIN PRIVATE KEY-----)",
        ),
        error => KafkaError::file(path, broken(&error)),
    })
}

/// A bundle of all authorities of the world has less.
const LARGEST_FILE: u64 = 16 << 20;

fn read(path: &Path) -> Result<Vec<u8>, KafkaError> {
    let pem =
        files::read(path, LARGEST_FILE).map_err(|source| KafkaError::unreadable(path, source))?;
    if pem.is_empty() {
        return Err(KafkaError::file(path, "the file is empty"));
    }
    Ok(pem)
}

/// Says what is wrong without showing a line of the file, which may be a part of a key.
fn broken(error: &Error) -> &'static str {
    match error {
        Error::MissingSectionEnd { .. } => "cut off: a PEM section has no END line",
        Error::IllegalSectionStart { .. } => "a BEGIN line is not PEM",
        Error::Base64Decode(_) => "a PEM section is not base64",
        _ => "not PEM",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(content: &str) -> (String, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        (
            certificates(file.path()).unwrap_err().to_string(),
            private_key(file.path()).unwrap_err().to_string(),
        )
    }

    #[test]
    fn files_without_what_is_needed_say_what_is_missing() {
        let key = rcgen::KeyPair::generate().unwrap();
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        for (content, certificate, private_key) in [
            ("", "the file is empty", "the file is empty"),
            (
                "hello",
                "no certificate in PEM form",
                "no private key in PEM form",
            ),
            (
                encrypted,
                "no certificate in PEM form",
                "the private key is encrypted",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n",
                "has no END line",
                "has no END line",
            ),
            (
                "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
                "not base64",
                "not base64",
            ),
        ] {
            let (first, second) = said(content);
            assert!(first.contains(certificate), "{first}");
            assert!(second.contains(private_key), "{second}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), key.serialize_pem()).unwrap();
        let error = certificates(file.path()).unwrap_err().to_string();
        assert!(error.contains("no certificate in PEM form"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named_with_the_systems_reason() {
        let error = certificates(Path::new("/nowhere/ca.pem")).unwrap_err();
        assert!(
            error.to_string().starts_with("/nowhere/ca.pem: "),
            "{error}"
        );
        assert!(std::error::Error::source(&error).is_some());
        assert!(!error.is_transient());
    }

    #[test]
    fn a_broken_key_is_not_shown() {
        let secret = "c3dvcmRmaXNo";
        let content =
            format!("-----BEGIN PRIVATE KEY {secret}\n{secret}\n-----END PRIVATE KEY-----\n");
        let (_, error) = said(&content);
        assert!(!error.contains(secret), "{error}");
    }
}
