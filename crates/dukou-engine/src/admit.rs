//! admit: the fourth room. Whether there is room for one more, before its body costs us anything.
//!
//! What is admitted is counted until it is answered. What is not is told at once: nothing queues
//! without bound, and a client that hears 429 now can go elsewhere while its answer is still of use.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use dukou_types::{ErrorCode, Failure, ModelName};

use crate::serving::{Model, Serving};

/// A place that a request holds until it is answered or given up.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Finds the model and takes a place in it.
///
/// # Errors
/// `request.unknown-model`; `limits.queue-full` where the model holds as many as it may.
pub fn admit<'s>(serving: &'s Serving, name: &ModelName) -> Result<(&'s Model, Place), Failure> {
    let model = find(serving, name)?;
    let place = take(&model.in_flight, model.limits.concurrency).ok_or_else(|| {
        Failure::new(
            ErrorCode::LimitsQueueFull,
            format!(
                "{} requests for `{name}` are being answered, which is its `limits.concurrency`",
                model.limits.concurrency
            ),
        )
    })?;
    Ok((model, place))
}

/// Finds the model.
///
/// # Errors
/// `request.unknown-model`; `server.no-worker` for one that was scaled to nothing.
pub fn find<'s>(serving: &'s Serving, name: &ModelName) -> Result<&'s Model, Failure> {
    serving.model(name.as_str()).map(Arc::as_ref).ok_or_else(|| match serving.absent.get(name) {
        Some(absent) => absent.why.failure(name),
        None => {
            Failure::new(ErrorCode::RequestUnknownModel, format!("no model `{name}` is served"))
        }
    })
}

fn take(taken: &Arc<AtomicUsize>, limit: usize) -> Option<Place> {
    let place = (taken.fetch_add(1, Relaxed), Place(Arc::clone(taken)));
    (place.0 < limit).then_some(place.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        let taken = Arc::new(AtomicUsize::new(0));
        let first = take(&taken, 2).unwrap();
        let second = take(&taken, 2).unwrap();
        assert!(take(&taken, 2).is_none());
        assert_eq!(taken.load(Relaxed), 2);
        drop(first);
        assert!(take(&taken, 2).is_some());
        drop(second);
        assert_eq!(taken.load(Relaxed), 0);
    }
}
