//! Several loads at once, without taking the machine from those who serve.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use parking_lot::Mutex;

/// Runs a job for each item on up to `threads` threads, in order of the items; after the first failure
/// no further job begins.
///
/// # Errors
/// The first failure, in order of the items.
pub fn on_threads<T: Sync, R: Send, E: Send>(
    threads: usize,
    items: &[T],
    job: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<R, E>>>> =
        Mutex::new(items.iter().map(|_| None).collect());
    let work = || {
        loop {
            let index = next.fetch_add(1, Relaxed);
            let Some(item) = items.get(index) else { return };
            let result = job(item);
            if result.is_err() {
                next.store(items.len(), Relaxed);
            }
            results.lock()[index] = Some(result);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.min(items.len()) {
            // Where the system gives no more threads, this one does the work.
            let _ = thread::Builder::new().name("load".into()).spawn_scoped(scope, work);
        }
        work();
    });
    results.into_inner().into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..100).collect();
        for threads in [1, 4, 200] {
            let doubled = on_threads(threads, &items, |item| Ok::<_, ()>(item * 2));
            assert_eq!(doubled, Ok(items.iter().map(|item| item * 2).collect()));
        }
    }

    #[test]
    fn after_a_failure_nothing_more_begins() {
        let begun = AtomicUsize::new(0);
        let items: Vec<usize> = (0..1000).collect();
        let failed = on_threads(2, &items, |&item| {
            begun.fetch_add(1, Relaxed);
            if item == 3 { Err(item) } else { Ok(item) }
        });
        assert_eq!(failed, Err(3));
        assert!(begun.load(Relaxed) < 1000);
    }
}
