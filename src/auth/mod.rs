//! Who asks: JSON Web Tokens (RFC 7519), taken as RFC 8725 says, and what their bearers may do; and the certificate by which the port
//! proves who it is.
//!
//! A key is bound to one algorithm, which its configuration says and no token. What a token does not say does not widen what it allows.

mod algorithm;
mod authority;
mod caller;
mod certificate;
mod crypto;
mod error;
mod key;
mod key_file;
mod renewed;
#[cfg(test)]
mod tests;

pub use algorithm::KeyAlgorithm;
pub use authority::{Authority, Grant};
pub use caller::{Caller, Identity, Scope};
pub use certificate::{CertificateError, server_config};
pub use error::{AuthError, KeyError};
pub use key::Key;
pub use renewed::Renewed;
