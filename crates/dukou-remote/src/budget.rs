//! How often a request may be asked once more: a share of all requests, so that replicas that are
//! overloaded are not given twice the load.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// Retries are counted in thousandths.
const ONE: i64 = 1000;
/// What a quiet model may retry at once.
const RESERVE: i64 = 20 * ONE;
/// What may be saved up for a bad moment.
const MOST: i64 = 200 * ONE;

/// The budget of one model.
#[derive(Debug)]
pub struct RetryBudget {
    share: i64,
    left: AtomicI64,
}

impl RetryBudget {
    /// So many retries in a hundred requests, and a few besides.
    pub fn new(percent: u32) -> Self {
        let share = i64::from(percent.min(100)) * ONE / 100;
        Self { share, left: AtomicI64::new(if percent == 0 { 0 } else { RESERVE }) }
    }

    /// A request has come.
    pub fn request(&self) {
        if self.left.load(Relaxed) < MOST {
            self.left.fetch_add(self.share, Relaxed);
        }
    }

    /// Takes a retry out, if there is one.
    pub fn take(&self) -> bool {
        self.left.fetch_update(Relaxed, Relaxed, |left| (left >= ONE).then_some(left - ONE)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_a_share_nothing_is_retried() {
        let budget = RetryBudget::new(0);
        budget.request();
        assert!(!budget.take());
    }

    proptest! {
        #[test]
        fn retries_are_a_share_of_requests_and_a_reserve(
            percent in 1_u32..=100, steps in proptest::collection::vec(any::<bool>(), 0..2000),
        ) {
            let budget = RetryBudget::new(percent);
            let (mut requests, mut retries) = (0_i64, 0_i64);
            for is_request in steps {
                if is_request {
                    requests += 1;
                    budget.request();
                } else if budget.take() {
                    retries += 1;
                }
                prop_assert!(retries * 100 <= requests * i64::from(percent) + RESERVE / ONE * 100);
            }
        }

        #[test]
        fn what_was_saved_is_bounded(requests in 0_u32..5000) {
            let budget = RetryBudget::new(100);
            (0..requests).for_each(|_| budget.request());
            let at_once = std::iter::from_fn(|| budget.take().then_some(())).count();
            prop_assert!(at_once as i64 <= MOST / ONE + 1);
        }
    }
}
