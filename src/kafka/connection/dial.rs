//! From an address to a stream of bytes: TCP, and TLS upon it.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

use super::super::{Address, KafkaError, Tls, tls};
use super::frame::{ReadHalf, WriteHalf};

/// Both directions of a connection.
pub(super) struct BrokerStream {
    pub reading: ReadHalf,
    pub writing: WriteHalf,
}

/// Connects, within `patience`; with `tls`, the broker has then proved its name, within as much again.
pub(super) async fn dial(
    address: &Address,
    tls: Option<&Tls>,
    patience: Duration,
) -> Result<BrokerStream, KafkaError> {
    let stream = connect(address, patience).await?;
    let Some(tls) = tls else {
        let (reading, writing) = stream.into_split();
        return Ok(BrokerStream {
            reading: Box::new(reading),
            writing: Box::new(writing),
        });
    };
    let config = tls::client_config(tls).await?;
    let name = address.to_string();
    let handshake = tls::connect(config, &address.host, &name, stream);
    let stream = tokio::time::timeout(patience, handshake)
        .await
        .unwrap_or_else(|_| Err(timed_out(address, patience)))?;
    let (reading, writing) = tokio::io::split(stream);
    Ok(BrokerStream {
        reading: Box::new(reading),
        writing: Box::new(writing),
    })
}

/// A TCP connection to the first of the host's addresses that accepts.
async fn connect(address: &Address, patience: Duration) -> Result<TcpStream, KafkaError> {
    let unreachable = |source| KafkaError::Unreachable {
        address: address.to_string(),
        source,
    };
    let connecting = TcpStream::connect((address.host.as_str(), address.port));
    let stream = tokio::time::timeout(patience, connecting)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    Ok(stream)
}

fn timed_out(address: &Address, patience: Duration) -> KafkaError {
    KafkaError::Timeout {
        address: address.to_string(),
        seconds: patience.as_secs(),
    }
}
