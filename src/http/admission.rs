//! Who is let in: so many connections at once, so many of them from one peer, and a reserve beyond them for questions about health.
//!
//! Whoever asks whether the daemon lives must hear it, also while others hold all connections and send nothing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many connections there are at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    /// Connections on which anything may be asked.
    pub connections: usize,
    /// Of these, how many one peer may hold.
    pub of_one_peer: usize,
    /// Connections beyond them, on which only health and metrics are answered, and only to who asks at once.
    pub reserve: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            connections: 1024,
            of_one_peer: 512,
            reserve: 128,
        }
    }
}

/// Places for connections.
pub(super) struct Admission {
    capacity: Capacity,
    connections: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    peers: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place for one connection, until it is dropped.
pub(super) struct Place {
    /// The peer's share of the connections; without one it is a place of the reserve.
    share: Option<PeerShare>,
    _permit: OwnedSemaphorePermit,
}

/// One of the connections of a peer.
struct PeerShare {
    peers: Arc<Mutex<HashMap<IpAddr, usize>>>,
    peer: IpAddr,
}

impl Admission {
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            connections: Arc::new(Semaphore::new(capacity.connections)),
            reserve: Arc::new(Semaphore::new(capacity.reserve)),
            peers: Arc::default(),
        }
    }

    /// Waits until whoever comes next finds a place, be it one of the reserve; none when there will never be one.
    pub async fn spare(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.reserve).acquire_owned().await.ok()
    }

    /// The place of a connection from `peer`: a full one where the peer may have it, else the spare one.
    pub fn place(&self, peer: IpAddr, spare: OwnedSemaphorePermit) -> Place {
        let share = self.share(network(peer));
        let full = share.and_then(|share| {
            let permit = Arc::clone(&self.connections).try_acquire_owned().ok()?;
            Some(Place {
                share: Some(share),
                _permit: permit,
            })
        });
        full.unwrap_or(Place {
            share: None,
            _permit: spare,
        })
    }

    fn share(&self, peer: IpAddr) -> Option<PeerShare> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let held = peers.get(&peer).copied().unwrap_or_default();
        if held >= self.capacity.of_one_peer {
            return None;
        }
        peers.insert(peer, held + 1);
        Some(PeerShare {
            peers: Arc::clone(&self.peers),
            peer,
        })
    }
}

impl Place {
    /// Whether only health and metrics are answered here.
    pub fn is_reserve(&self) -> bool {
        self.share.is_none()
    }
}

impl Drop for PeerShare {
    fn drop(&mut self) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        match peers.get_mut(&self.peer) {
            Some(held) if *held > 1 => *held -= 1,
            _ => drop(peers.remove(&self.peer)),
        }
    }
}

/// One host has a whole /64 of IPv6 addresses.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_beyond_its_share_and_all_beyond_the_connections_take_the_reserve() {
        let admission = Admission::new(Capacity {
            connections: 3,
            of_one_peer: 2,
            reserve: 2,
        });
        let peer = |text: &str| text.parse::<IpAddr>().unwrap();
        let place = async |from: &str| {
            let spare = admission.spare().await.unwrap();
            admission.place(peer(from), spare)
        };
        let first = place("10.0.0.1").await;
        let second = place("::ffff:10.0.0.1").await;
        assert!(!first.is_reserve() && !second.is_reserve());
        assert!(place("10.0.0.1").await.is_reserve());
        let other = place("2001:db8::1").await;
        assert!(!other.is_reserve());
        assert!(place("2001:db8::ffff").await.is_reserve());
        drop(first);
        let again = place("10.0.0.1").await;
        assert!(!again.is_reserve());
        drop((second, other, again));
        assert!(admission.peers.lock().unwrap().is_empty());
        assert_eq!(admission.reserve.available_permits(), 2);
    }
}
