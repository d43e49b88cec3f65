//! The files by which the port knows others and proves who it is: read again off the path of those who wait for answers.

use std::sync::Arc;
use std::time::Duration;

use crate::daemon::Credentials;
use crate::engine::{EngineError, blocking};

use super::shared::Shared;

/// A storage that does not answer holds nobody up: what is known holds.
const WITHIN: Duration = Duration::from_secs(2);

impl Shared {
    /// Reads the API's key files again, where that is due.
    pub(super) async fn renew_keys(&self) {
        let configuration = Arc::clone(&self.view.configuration.borrow());
        let authority = configuration.api.as_ref().map(|api| &api.authority);
        if !authority.is_some_and(|authority| authority.is_due()) {
            return;
        }
        let reading = blocking("the thread that reads the API's keys", move || {
            if let Some(api) = &configuration.api {
                api.authority.renew();
            }
            Ok::<_, EngineError>(())
        });
        // Late, it is there for the next one.
        tokio::time::timeout(WITHIN, reading).await.ok();
    }

    /// Which of the files are what is used, as they are now.
    pub(super) async fn credentials(self: &Arc<Self>) -> Credentials {
        self.renew_keys().await;
        let configuration = Arc::clone(&self.view.configuration.borrow());
        let keys = configuration.api.iter().flat_map(|api| &api.authority.keys);
        let keys = keys.map(|key| (format!("api-key/{}", key.name), key.is_readable()));
        let certificate = self.is_certificate_readable().await;
        let certificate = certificate.map(|is_readable| ("certificate".to_owned(), is_readable));
        Credentials(keys.chain(certificate).collect())
    }

    /// None where there is no certificate.
    async fn is_certificate_readable(self: &Arc<Self>) -> Option<bool> {
        let tls = self.view.configuration.borrow().http.tls.clone()?;
        let shared = Arc::clone(self);
        let reading = blocking("the thread that reads the certificate", move || {
            Ok::<_, EngineError>(shared.certificates.is_readable(&tls))
        });
        let read = tokio::time::timeout(WITHIN, reading).await;
        Some(matches!(read, Ok(Ok(true))))
    }
}
