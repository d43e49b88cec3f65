//! How often a user may call.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use hyper::HeaderMap;
use hyper::header::HeaderName;

use crate::auth::Identity;
use crate::http::response::set;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

type Limiter = RateLimiter<
    Identity,
    DefaultKeyedStateStore<Identity>,
    DefaultClock,
    StateInformationMiddleware,
>;

/// Users beyond this number are forgotten as soon as they have their full share again.
const USERS: usize = 1000;

/// What each user called lately.
#[derive(Default)]
pub(in crate::http) struct Calls {
    limiter: Mutex<Option<(u32, Arc<Limiter>)>>,
}

/// A user's share.
pub(super) struct Share {
    pub limit: u32,
    remaining: u32,
    /// Seconds until another call is allowed.
    pub again_after: u64,
}

impl Calls {
    /// Takes one call of a user's share; the share that is left, or how long to wait.
    pub(super) fn take(&self, user: &Identity, per_minute: u32) -> Result<Share, Share> {
        let limiter = self.limiter(per_minute);
        if limiter.len() > USERS {
            limiter.retain_recent();
        }
        match limiter.check_key(user) {
            Ok(left) => Ok(Share {
                limit: per_minute,
                remaining: left.remaining_burst_capacity(),
                again_after: 0,
            }),
            Err(not_until) => Err(Share {
                limit: per_minute,
                remaining: 0,
                again_after: not_until
                    .wait_time_from(DefaultClock::default().now())
                    .as_secs()
                    + 1,
            }),
        }
    }

    /// Another limit begins anew.
    fn limiter(&self, per_minute: u32) -> Arc<Limiter> {
        let mut known = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        match known.as_ref() {
            Some((limit, limiter)) if *limit == per_minute => Arc::clone(limiter),
            _ => {
                let quota =
                    Quota::per_minute(NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN));
                let limiter =
                    RateLimiter::keyed(quota).with_middleware::<StateInformationMiddleware>();
                let limiter = Arc::new(limiter);
                *known = Some((per_minute, Arc::clone(&limiter)));
                limiter
            }
        }
    }
}

impl Share {
    /// As fields of an answer: the limit, what is left of it, and in how many seconds all is there again.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let taken = u64::from(self.limit.saturating_sub(self.remaining));
        let reset = (taken * 60).div_ceil(u64::from(self.limit.max(1)));
        set(headers, LIMIT, &self.limit.to_string());
        set(headers, REMAINING, &self.remaining.to_string());
        set(headers, RESET, &reset.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_a_share_of_its_own() {
        let (calls, alice) = (Calls::default(), Identity::new("ops", "alice"));
        for left in (0..3).rev() {
            assert_eq!(calls.take(&alice, 3).ok().unwrap().remaining, left);
        }
        let refused = calls.take(&alice, 3).err().unwrap();
        assert!(
            (1..=21).contains(&refused.again_after),
            "{}",
            refused.again_after
        );
        for (key, subject) in [("ops", "bob"), ("sso", "alice")] {
            assert!(calls.take(&Identity::new(key, subject), 3).is_ok());
        }
    }
}
