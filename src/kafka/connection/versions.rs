//! Which versions of which APIs a broker knows (KIP-35, KIP-511).

use std::collections::BTreeMap;

use bytes::Buf;
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::{Request, StrBytes, VersionRange};

use super::super::{ErrorCode, KafkaError};
use super::exchange::RequestWriter;
use super::message::{api_name, decode};

/// Carries our name into the broker's metrics; known from Kafka 2.4 on.
const WITH_NAME: i16 = 3;

/// Version ranges by API key.
#[derive(Debug, Default)]
pub(in super::super) struct Versions(BTreeMap<i16, VersionRange>);

impl Versions {
    /// Asks a broker. This is allowed before authentication. One that does not know the version asked in says so in
    /// version 0, which every broker understands.
    pub async fn ask(writer: &mut RequestWriter) -> Result<Self, KafkaError> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str(env!("CARGO_PKG_NAME")))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut version = WITH_NAME;
        let mut bytes = writer.ask_raw(&request, version).await?;
        // Behind the correlation id, every version begins with the error code, even one that we do not know.
        let code = bytes.get(4..6).map_or(0, |mut code| code.get_i16());
        if code == ErrorCode::UnsupportedVersion.code() {
            version = 0;
            bytes = writer
                .ask_raw(&ApiVersionsRequest::default(), version)
                .await?;
        }
        let api = api_name::<ApiVersionsRequest>();
        let response: ApiVersionsResponse = decode(writer.address(), api, bytes, version)?;
        if let Some(code) = response.error_code.err() {
            return Err(KafkaError::Broker {
                code,
                context: format!("asking {} which versions it knows", writer.address()),
            });
        }
        let range = |min, max| VersionRange { min, max };
        let versions = response
            .api_keys
            .into_iter()
            .map(|api| (api.api_key, range(api.min_version, api.max_version)));
        Ok(Self(versions.collect()))
    }

    /// The newest version of an API that both sides know, at most `ceiling`.
    pub fn newest<R: Request>(&self, address: &str, ceiling: i16) -> Result<i16, KafkaError> {
        let unsupported = || KafkaError::Unsupported {
            api: api_name::<R>().to_owned(),
            address: address.to_owned(),
        };
        let offered = self.0.get(&R::KEY).ok_or_else(unsupported)?;
        let common = offered.intersect(&R::VERSIONS);
        let newest = common.max.min(ceiling);
        if newest < common.min {
            Err(unsupported())
        } else {
            Ok(newest)
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{FetchRequest, MetadataRequest};

    use super::*;

    fn versions(min: i16, max: i16) -> Versions {
        Versions(BTreeMap::from([(
            FetchRequest::KEY,
            VersionRange { min, max },
        )]))
    }

    #[test]
    fn the_newest_common_version_is_taken() {
        assert_eq!(
            versions(0, 12).newest::<FetchRequest>("k:1", 17).unwrap(),
            12
        );
        assert_eq!(
            versions(0, 99).newest::<FetchRequest>("k:1", 17).unwrap(),
            17
        );
        assert_eq!(versions(4, 4).newest::<FetchRequest>("k:1", 17).unwrap(), 4);
    }

    #[test]
    fn without_a_common_version_the_api_is_named() {
        for versions in [versions(0, 3), versions(18, 20), versions(9, 5)] {
            let error = versions.newest::<FetchRequest>("k:1", 17).unwrap_err();
            assert_eq!(
                error.to_string(),
                "broker k:1 has no Fetch that this kafkeep knows"
            );
        }
        assert!(versions(0, 12).newest::<MetadataRequest>("k:1", 9).is_err());
    }
}
