//! Where a broker listens.

use std::fmt;
use std::str::FromStr;

/// A host and a port. Written `host:port`; an IPv6 address stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// A DNS name or an IP address, without brackets.
    pub host: String,
    /// The TCP port, from 1 on.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no HOST:PORT (an IPv6 address as [ADDRESS]:PORT)");
        if text.contains("://") {
            return Err(format!("`{text}`: write HOST:PORT, without a scheme"));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port > 0);
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(address) => address,
            None if host.contains([':', '[', ']']) => return Err(wrong()),
            None => host,
        };
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port: port.ok_or_else(wrong)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_both_kinds_of_ip_addresses_are_read_and_written_alike() {
        for (text, host, port) in [
            ("kafka1:9092", "kafka1", 9092),
            ("10.0.0.1:1", "10.0.0.1", 1),
            ("[::1]:9093", "::1", 9093),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port));
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_named_with_what_would_be() {
        for text in [
            "kafka1",
            "kafka1:",
            ":9092",
            "k:0",
            "k:70000",
            "::1:9092",
            "[::1:9092",
            "a b:1",
            "",
        ] {
            let error = Address::from_str(text).unwrap_err();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
        let error = Address::from_str("SSL://kafka1:9093").unwrap_err();
        assert!(error.contains("without a scheme"), "{error}");
    }
}
