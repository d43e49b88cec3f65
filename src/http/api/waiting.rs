//! Calls that wait for their jobs. A job may take a day, and whoever waits holds a connection: so many for one user, or who repeats
//! a call with its idempotency key again and again would hold them all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::{Problem, ProblemKind};
use crate::auth::Identity;

/// Calls of one user that may wait at once: more than all of its jobs that are accepted by default.
const OF_ONE_USER: usize = 128;

/// How many calls of each user wait.
#[derive(Clone, Default)]
pub(in crate::http) struct Waiting(Arc<Mutex<HashMap<Identity, usize>>>);

/// A call that waits, until this is dropped.
#[derive(Debug)]
pub(super) struct Wait {
    all: Arc<Mutex<HashMap<Identity, usize>>>,
    user: Identity,
}

impl Waiting {
    /// A call begins to wait.
    ///
    /// # Errors
    ///
    /// 429 when too many of this user do.
    pub(super) fn begin(&self, user: &Identity) -> Result<Wait, Problem> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(user.clone()).or_default();
        if *count >= OF_ONE_USER {
            let message = format!(
                "{OF_ONE_USER} calls wait already: give Prefer: respond-async, and look at the job now and then"
            );
            return Err(Problem::new(ProblemKind::TooManyRequests, message).again_after(5));
        }
        *count += 1;
        Ok(Wait {
            all: Arc::clone(&self.0),
            user: user.clone(),
        })
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(&self.user) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(all.remove(&self.user)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_waits_on_so_many_connections_and_keeps_nobody_else_from_waiting() {
        let (waiting, alice) = (Waiting::default(), Identity::new("ops", "alice"));
        let held: Vec<Wait> = (0..OF_ONE_USER)
            .map(|_| waiting.begin(&alice).unwrap())
            .collect();
        let refused = waiting.begin(&alice).unwrap_err();
        assert_eq!(refused.kind.status(), 429);
        assert!(waiting.begin(&Identity::new("ops", "bob")).is_ok());
        drop(held);
        assert!(waiting.0.lock().unwrap().is_empty());
    }
}
