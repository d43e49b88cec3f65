//! The daemon's port: health, metrics and status, read from its snapshots; and the API, which sends it requests.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::auth::CertificateError;
use crate::daemon::DaemonHandle;

mod admission;
mod answering;
mod api;
mod client;
mod connection;
mod credentials;
mod framing;
mod health;
mod page;
mod response;
mod shared;
#[cfg(test)]
mod tests;
mod tls;

use admission::{Admission, Capacity};
use api::ApiState;
pub use api::openapi;
pub use client::{AskError, Trust, ask};
use shared::Shared;
use tls::Certificates;

/// The port, open.
pub struct Server {
    listener: TcpListener,
    capacity: Capacity,
    shared: Arc<Shared>,
}

impl Server {
    /// Opens the port.
    pub async fn bind(address: SocketAddr, view: DaemonHandle) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let shared = Shared {
            view,
            certificates: Certificates::default(),
            desk: ApiState::default(),
        };
        Ok(Self {
            listener,
            capacity: Capacity::default(),
            shared: Arc::new(shared),
        })
    }

    /// Whether it could prove who it is, where it is to.
    ///
    /// # Errors
    ///
    /// When the certificate or its key cannot be used.
    pub fn check_certificate(&self) -> Result<(), CertificateError> {
        let tls = self.shared.view.configuration.borrow().http.tls.clone();
        match tls {
            Some(tls) => self.shared.certificates.acceptor(&tls).map(drop),
            None => Ok(()),
        }
    }

    /// Where it listens; another port than asked for when that was 0.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves for ever; elsewhere when the configuration says so.
    pub async fn serve(mut self) {
        let admission = Admission::new(self.capacity);
        let mut configuration = self.shared.view.configuration.clone();
        let mut listen = configuration.borrow().http.listen;
        loop {
            let accepted = async {
                let spare = admission.spare().await;
                (spare, self.listener.accept().await)
            };
            let (spare, accepted) = tokio::select! {
                accepted = accepted => accepted,
                // It outlives the daemon's configuration by moments.
                Ok(()) = configuration.changed() => {
                    let wanted = configuration.borrow_and_update().http.listen;
                    if wanted != listen {
                        listen = wanted;
                        self.listen_at(wanted).await;
                    }
                    continue;
                }
            };
            match (spare, accepted) {
                (Some(spare), Ok((stream, peer))) => {
                    let place = admission.place(peer.ip(), spare);
                    tokio::spawn(connection::serve(stream, Arc::clone(&self.shared), place));
                }
                (_, Err(error)) => {
                    tracing::warn!("a connection could not be taken: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                (None, _) => return,
            }
        }
    }

    /// Moves to another address; where that is not to be had, it stays where it is.
    async fn listen_at(&mut self, address: SocketAddr) {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                self.listener = listener;
                tracing::info!("serving on {address}");
            }
            Err(error) => {
                tracing::error!(
                    "cannot listen on {address}, and stays where it was: {error}; set another address with [http] listen"
                );
            }
        }
    }
}
