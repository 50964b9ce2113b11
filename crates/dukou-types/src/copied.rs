//! How often large tensors were copied between the socket and the model: counted where it happens.
//!
//! The promise is once at most on the way in, and not at all on the way out. What is small is copied
//! without counting: a piece of its own costs more.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// From how many bytes on a tensor is large.
pub const LARGE: usize = 4096;

static INTO: AtomicU64 = AtomicU64::new(0);
static OUT: AtomicU64 = AtomicU64::new(0);

/// Notes that so many bytes were copied on their way to a model.
pub fn note_copied_in(bytes: usize) {
    note(&INTO, bytes);
}

/// Notes that so many bytes were copied on their way to the asker.
pub fn note_copied_out(bytes: usize) {
    note(&OUT, bytes);
}

fn note(counter: &AtomicU64, bytes: usize) {
    if bytes >= LARGE {
        counter.fetch_add(bytes as u64, Relaxed);
    }
}

/// Bytes that this process has copied so, in and out.
pub fn copied_bytes() -> (u64, u64) {
    (INTO.load(Relaxed), OUT.load(Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_large_is_counted() {
        note_copied_in(LARGE - 1);
        note_copied_in(LARGE);
        note_copied_out(LARGE + 1);
        assert_eq!(copied_bytes(), (LARGE as u64, LARGE as u64 + 1));
    }
}
