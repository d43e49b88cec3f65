//! The bodies of requests, a file each: field by field as documented, with the bounds of their values.

mod backup;
mod drain;
mod migrate;
mod restore;
mod schema;
mod validate;

pub use backup::{BackupRequest, RequestedOffset};
pub use drain::DrainRequest;
pub use migrate::{MessageTransformation, MigrateRequest};
pub use restore::RestoreRequest;
pub use validate::ValidateRequest;

#[cfg(test)]
fn field_of<T: std::fmt::Debug>(refused: Result<T, super::Problem>) -> String {
    refused.unwrap_err().details.field.unwrap()
}
