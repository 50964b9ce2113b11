//! The end of a table: its requests are answered, then what only it named is freed.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use crate::{
    cache::Cache,
    serving::{Loaded, Serving},
    state::State,
};

/// Lets go of what the new table does not name, once its requests are answered. Gives how many
/// versions those are.
pub fn retire(before: Arc<Serving>, serving: &Serving, state: &Arc<State>) -> usize {
    let leaving: Vec<Arc<Loaded>> = before
        .versions()
        .filter(|old| !serving.versions().any(|new| Arc::ptr_eq(old, new)))
        .cloned()
        .collect();
    let count = leaving.len();
    let identities: Vec<u64> = leaving.iter().map(|loaded| loaded.identity).collect();
    let caches: Vec<Arc<Cache>> = serving.models.iter().filter_map(|m| m.cache.clone()).collect();
    let forget = move || caches.iter().for_each(|cache| cache.forget(&identities));
    forget();
    let state = Arc::clone(state);
    let old = Arc::downgrade(&before);
    drop(before);
    let wait = move || {
        wait_until_free(&old, &leaving);
        // Their last requests may have left answers behind.
        forget();
        let freed = !leaving.is_empty();
        drop(leaving);
        state.freeze();
        if freed {
            // What was freed goes back to the system, not only to the allocator.
            dukou_sys::give_memory_back();
        }
    };
    // Without a thread the last request frees what it used, and memory stays with the allocator.
    let _ = std::thread::Builder::new().name("retire".into()).spawn(wait);
    count
}

/// Waits until neither the old table nor a request holds any of these. Looks again after a pause that
/// grows: a request may take as long as its deadline, and nobody waits for this.
fn wait_until_free(old: &Weak<Serving>, leaving: &[Arc<Loaded>]) {
    let mut pause = Duration::from_millis(2);
    while old.strong_count() > 0 || leaving.iter().any(|loaded| Arc::strong_count(loaded) > 1) {
        std::thread::park_timeout(pause);
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}
