//! What a TLS error means for the operator.

use std::io;

use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error};

use super::super::KafkaError;

/// The lasting problem behind an I/O error, if TLS is it; else the error itself. An alert of the peer may come long after
/// our side of the handshake: with TLS 1.3, a client certificate is judged only then.
pub(in super::super) fn explain(address: &str, source: io::Error) -> Result<KafkaError, io::Error> {
    let tls = source
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    match tls.and_then(problem) {
        Some(problem) => Ok(KafkaError::Tls {
            address: address.to_owned(),
            problem,
            source,
        }),
        None => Err(source),
    }
}

/// What is wrong and what to do; none where trying again may help.
fn problem(error: &Error) -> Option<String> {
    match error {
        Error::InvalidCertificate(error) => Some(certificate(error)),
        Error::AlertReceived(alert) => refusal(*alert),
        Error::PeerIncompatible(_) => Some(
            "it has no TLS version or cipher suite in common with us: it must offer TLS 1.2 or 1.3"
                .into(),
        ),
        Error::InvalidMessage(_) => Some(
            "this port does not speak TLS: name an SSL or SASL_SSL listener, or leave out `tls`"
                .into(),
        ),
        _ => None,
    }
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "nobody whom we trust has signed its certificate: give the certificate of its authority as ca_file".into()
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            let names = if names.is_empty() {
                "nobody (it has no subjectAltName)".to_owned()
            } else {
                names.join(", ")
            };
            format!(
                "its certificate is for {names}, not for {}: connect by a name that it is for, or renew it with this one",
                expected.to_str()
            )
        }
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "its certificate has expired on {}: renew it, or set this machine's clock",
            date(*not_after)
        ),
        CertificateError::Expired => "its certificate has expired: renew it, or set this machine's clock".into(),
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "its certificate is not valid before {}: set the clocks",
            date(*not_before)
        ),
        CertificateError::Revoked => "its certificate is revoked: renew it".into(),
        error => format!("its certificate cannot be accepted ({error}): renew it"),
    }
}

/// `DnsName("localhost")` and `IpAddress(127.0.0.1)` without the wrapping.
fn bare(name: &str) -> &str {
    let inner = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

fn date(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0))
        .map_or_else(|| "an unknown day".to_owned(), |time| time.to_rfc3339())
}

/// What the peer does not like in us.
fn refusal(alert: AlertDescription) -> Option<String> {
    let problem = match alert {
        AlertDescription::CertificateRequired => {
            "it wants a client certificate: give tls.cert_file and tls.key_file"
        }
        // Java says so to a client without a certificate, too.
        AlertDescription::BadCertificate
        | AlertDescription::HandshakeFailure
        | AlertDescription::NoCertificate => {
            "it refused the handshake: it may want a client certificate (tls.cert_file and tls.key_file), or another one"
        }
        AlertDescription::CertificateExpired => {
            "our client certificate has expired: renew tls.cert_file"
        }
        AlertDescription::CertificateRevoked => {
            "our client certificate is revoked: renew tls.cert_file"
        }
        AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => {
            "it refused our client certificate: give one in tls.cert_file that its authorities have signed"
        }
        AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => {
            "it has no TLS version or cipher suite in common with us: it must offer TLS 1.2 or 1.3"
        }
        AlertDescription::UnrecognisedName => {
            "it does not know the name that we call it by: connect by a name that its certificate is for"
        }
        _ => return None,
    };
    Some(problem.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn explained(error: Error) -> Result<KafkaError, io::Error> {
        explain("k:9093", io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn what_another_try_cannot_mend_is_lasting_and_keeps_its_source() {
        for error in [
            Error::InvalidCertificate(CertificateError::UnknownIssuer),
            Error::InvalidCertificate(CertificateError::Expired),
            Error::AlertReceived(AlertDescription::CertificateRequired),
            Error::AlertReceived(AlertDescription::UnknownCA),
        ] {
            let explained = explained(error).unwrap();
            assert!(!explained.is_transient());
            assert!(std::error::Error::source(&explained).is_some());
            assert!(explained.to_string().starts_with("broker k:9093: TLS: "));
        }
    }

    #[test]
    fn what_may_pass_stays_an_io_error() {
        for error in [
            Error::AlertReceived(AlertDescription::InternalError),
            Error::AlertReceived(AlertDescription::CloseNotify),
            Error::DecryptError,
            Error::Other(tokio_rustls::rustls::OtherError(Arc::new(
                io::Error::other("?"),
            ))),
        ] {
            explained(error).unwrap_err();
        }
        explain("k:9093", io::ErrorKind::ConnectionReset.into()).unwrap_err();
    }

    #[test]
    fn a_wrong_name_is_told_with_the_right_ones() {
        let error = CertificateError::NotValidForNameContext {
            expected: "kafka1".try_into().unwrap(),
            presented: vec![
                "DnsName(\"localhost\")".into(),
                "IpAddress(127.0.0.1)".into(),
            ],
        };
        let said = explained(Error::InvalidCertificate(error))
            .unwrap()
            .to_string();
        assert!(
            said.contains("is for localhost, 127.0.0.1, not for kafka1"),
            "{said}"
        );
    }
}
