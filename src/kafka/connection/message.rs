//! Requests and answers as bytes.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};

use super::super::KafkaError;
use super::super::response_guard::GuardedResponse;

/// Kafka's name of an API, from its request type's.
pub(super) fn api_name<R>() -> &'static str {
    let path = std::any::type_name::<R>();
    let name = path.rsplit("::").next().unwrap_or(path);
    name.strip_suffix("Request").unwrap_or(name)
}

/// The header of a request; the correlation id is filled in when it is sent.
pub(super) fn header<R: Request>(client_id: &StrBytes, version: i16) -> RequestHeader {
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(client_id.clone()))
}

/// A request with its header.
pub(super) fn encode<R: Request>(
    address: &str,
    client_id: &StrBytes,
    request: &R,
    version: i16,
) -> Result<Bytes, KafkaError> {
    let malformed = |error| malformed(address, api_name::<R>(), error);
    let mut bytes = BytesMut::new();
    header::<R>(client_id, version)
        .encode(&mut bytes, R::header_version(version))
        .map_err(malformed)?;
    request.encode(&mut bytes, version).map_err(malformed)?;
    Ok(bytes.freeze())
}

/// An answer, from its correlation id on. Its counts are checked first: see [`GuardedResponse`].
pub(super) fn decode<T: GuardedResponse>(
    address: &str,
    api: &'static str,
    mut bytes: Bytes,
    version: i16,
) -> Result<T, KafkaError> {
    let header_version = T::header_version(version);
    ResponseHeader::decode(&mut bytes, header_version)
        .map_err(|error| malformed(address, api, error))?;
    T::check(&bytes, version).map_err(|error| malformed(address, api, error))?;
    T::decode(&mut bytes, version).map_err(|error| malformed(address, api, error))
}

pub(super) fn malformed(
    address: &str,
    api: &'static str,
    error: impl std::fmt::Display,
) -> KafkaError {
    KafkaError::Malformed {
        api,
        address: address.to_owned(),
        detail: error.to_string().trim_end().to_owned(),
    }
}
