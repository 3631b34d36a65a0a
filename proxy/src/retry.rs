//! When a request may be sent once more.
//!
//! | what happened | sent again |
//! |---|---|
//! | no connection | any method; another target at once, the same after a pause; three tries |
//! | nothing was written on a reused connection | any method, on a fresh connection |
//! | nothing was written on a fresh connection | as where there was no connection |
//! | a connection ended before any byte of an answer | idempotent with a kept body or none, once, on a fresh connection of its own, at another target if there is one |
//! | a target of HTTP/2 refused the stream | any method with a kept body or none: on a fresh connection, then as where there was none |
//! | any byte of an answer, or the deadline | never |
//!
//! A budget bounds the repeats of each app, so that a failing app is not
//! drowned in them: one in ten of its requests, and three in a second.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;

/// Tries to connect for one request.
pub(crate) const MAX_TRIES: usize = 3;

/// The pause before the same target is tried again.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(50)];

/// What one repeat costs, in parts that each request pays in.
const COST: u64 = 10;

/// Repeats in a second that need no requests, per worker.
const PER_SECOND: u64 = 3;

/// Repeats that can be saved up: a burst of clients when a target dies.
const MAX_SAVED: u64 = 100 * COST;

/// What a new app has saved: ten seconds' worth.
const FIRST_SAVED: u64 = 10 * PER_SECOND * COST;

/// The pause after `tries` failed tries of the same target.
pub(crate) fn pause(tries: usize) -> Duration {
    PAUSES[tries.clamp(1, PAUSES.len()) - 1]
}

/// Whether sending a request twice is the same as sending it once.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

#[derive(Debug)]
struct Savings {
    saved: u64,
    paid: Instant,
}

/// The budgets of one worker, by app.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    apps: HashMap<Arc<str>, Savings>,
}

impl Budgets {
    /// A request of the app came.
    pub(crate) fn pay_in(&mut self, app: &Arc<str>, now: Instant) {
        let savings = self.savings(app, now);
        savings.saved = (savings.saved + 1).min(MAX_SAVED);
    }

    /// Whether a repeat is still allowed; it is paid for then.
    pub(crate) fn take(&mut self, app: &Arc<str>, now: Instant) -> bool {
        let savings = self.savings(app, now);
        let seconds = now.saturating_duration_since(savings.paid).as_millis() / 1000;
        if let Some(seconds) = u64::try_from(seconds).ok().filter(|&seconds| seconds > 0) {
            let earned = seconds.saturating_mul(PER_SECOND * COST);
            savings.saved = savings.saved.saturating_add(earned).min(MAX_SAVED);
            savings.paid = now;
        }
        match savings.saved.checked_sub(COST) {
            Some(left) => {
                savings.saved = left;
                true
            }
            None => false,
        }
    }

    /// Forgets the apps that no table names.
    pub(crate) fn keep(&mut self, mut named: impl FnMut(&str) -> bool) {
        self.apps.retain(|app, _| named(app));
    }

    fn savings(&mut self, app: &Arc<str>, now: Instant) -> &mut Savings {
        self.apps.entry(Arc::clone(app)).or_insert_with(|| Savings {
            saved: FIRST_SAVED,
            paid: now,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_a_tenth_of_requests_and_three_in_a_second() {
        let app: Arc<str> = Arc::from("shop");
        let mut budgets = Budgets::default();
        let start = Instant::now();
        let drain = |budgets: &mut Budgets, now| {
            let mut taken = 0;
            while budgets.take(&app, now) {
                taken += 1;
            }
            taken
        };
        assert_eq!(drain(&mut budgets, start), 30);
        for _ in 0..100 {
            budgets.pay_in(&app, start);
        }
        assert_eq!(drain(&mut budgets, start), 10);
        assert_eq!(drain(&mut budgets, start + Duration::from_secs(2)), 6);
        assert_eq!(drain(&mut budgets, start + Duration::from_secs(3600)), 100);
    }

    #[test]
    fn only_methods_of_one_effect_are_idempotent() {
        assert!(is_idempotent(&Method::GET) && is_idempotent(&Method::PUT));
        assert!(!is_idempotent(&Method::POST) && !is_idempotent(&Method::PATCH));
    }
}
