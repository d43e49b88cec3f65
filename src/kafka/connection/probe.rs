//! Why a broker hung up without a word: one more connection that finds out what its listener wants. Nothing secret is
//! said on it.

use std::time::Duration;

use kafka_protocol::protocol::StrBytes;

use super::super::{Address, KafkaError, Tls, sasl};
use super::dial::dial;
use super::exchange::{self, RequestWriter};
use super::versions::Versions;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Whether a listener answers in plain text: the lasting reason why a TLS handshake with it ended early.
pub(super) async fn speaks_plain_text(address: &Address) -> bool {
    let asking = async {
        let mut writer = plain_writer(address, None).await?;
        Versions::ask(&mut writer).await
    };
    matches!(tokio::time::timeout(TIMEOUT, asking).await, Ok(Ok(_)))
}

/// The lasting reason why a broker ends a connection at the first request of one who did not authenticate, if there is
/// one: the listener wants SASL.
pub(super) async fn sasl_wanted(address: &Address, tls: Option<&Tls>) -> Option<KafkaError> {
    let asking = async {
        let mut writer = plain_writer(address, tls).await.ok()?;
        sasl::wanted(&mut writer).await
    };
    let mechanisms = tokio::time::timeout(TIMEOUT, asking).await.ok()??;
    Some(KafkaError::Sasl {
        address: address.to_string(),
        problem: format!(
            "this listener wants credentials: give the cluster a `sasl` table with one of its mechanisms ({mechanisms})"
        ),
    })
}

async fn plain_writer(address: &Address, tls: Option<&Tls>) -> Result<RequestWriter, KafkaError> {
    let stream = dial(address, tls, TIMEOUT).await?;
    let name = address.to_string().into();
    Ok(exchange::start(stream, &name, StrBytes::default(), TIMEOUT))
}
