//! What connections share.

use crate::daemon::DaemonHandle;

use super::api::ApiState;
use super::tls::Certificates;

/// See the module.
pub(super) struct Shared {
    pub view: DaemonHandle,
    pub certificates: Certificates,
    pub desk: ApiState,
}
