//! What bad keys cost their sender: time. An address that has shown too many lately waits for its
//! refusals, so that a client that asks again and again does so slowly; good keys from the same address
//! are answered at once.
//!
//! Both are bounded: addresses that are remembered, and refusals that wait. Where the bound is reached a
//! refusal goes out at once and its connection closes with it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Bad keys that an address may show in a window before its refusals wait: a person mistypes, a job has
/// an old key and tries it a few times.
const FREE: u32 = 20;
/// The window.
const WINDOW: Duration = Duration::from_secs(10);
/// How long a refusal waits.
const DELAY: Duration = Duration::from_millis(250);
/// Refusals that wait at once.
const WAITING: usize = 1024;
/// Addresses that are remembered.
const ADDRESSES: usize = 4096;

/// Who has shown bad keys lately.
#[derive(Debug, Default)]
pub struct Penalties {
    shown: Mutex<HashMap<IpAddr, (Instant, u32)>>,
    waiting: AtomicUsize,
}

/// What becomes of a refusal.
#[derive(Debug)]
pub enum Penalty<'a> {
    /// It goes out.
    None,
    /// It waits, for as long as this is held.
    Wait(Duration, Waiting<'a>),
    /// It goes out, and its connection closes.
    Close,
}

/// A refusal that waits.
#[derive(Debug)]
pub struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Penalties {
    /// Notes a bad key.
    pub fn after_a_bad_key(&self, address: IpAddr) -> Penalty<'_> {
        if !self.too_many(address.to_canonical(), Instant::now()) {
            return Penalty::None;
        }
        if self.waiting.fetch_add(1, Relaxed) >= WAITING {
            self.waiting.fetch_sub(1, Relaxed);
            return Penalty::Close;
        }
        Penalty::Wait(DELAY, Waiting(&self.waiting))
    }

    fn too_many(&self, address: IpAddr, now: Instant) -> bool {
        let mut shown = self.shown.lock();
        if shown.len() >= ADDRESSES && !shown.contains_key(&address) {
            shown.retain(|_, (since, _)| now.duration_since(*since) < WINDOW);
            if shown.len() >= ADDRESSES {
                // Too many addresses to remember: a flood from everywhere. All of it waits.
                return true;
            }
        }
        let (since, count) = shown.entry(address).or_insert((now, 0));
        if now.duration_since(*since) >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count > FREE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_free_and_time_forgives() {
        let penalties = Penalties::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let now = Instant::now();
        for _ in 0..FREE {
            assert!(!penalties.too_many(one, now));
        }
        assert!(penalties.too_many(one, now));
        assert!(!penalties.too_many(other, now));
        assert!(!penalties.too_many(one, now + WINDOW));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let penalties = Penalties::default();
        let now = Instant::now();
        for number in 0..2 * ADDRESSES as u32 {
            penalties.too_many(IpAddr::from(number.to_be_bytes()), now);
        }
        assert_eq!(penalties.shown.lock().len(), ADDRESSES);
        assert!(
            penalties.too_many(IpAddr::from([255, 0, 0, 1]), now),
            "a flood from everywhere waits"
        );
        assert!(!penalties.too_many(IpAddr::from([255, 0, 0, 1]), now + WINDOW));
    }

    #[test]
    fn what_waits_is_bounded() {
        let penalties = Penalties::default();
        let address = IpAddr::from([10, 0, 0, 1]);
        let mut waiting = Vec::new();
        for _ in 0..FREE as usize + WAITING {
            waiting.push(penalties.after_a_bad_key(address));
        }
        assert!(matches!(waiting.last(), Some(Penalty::Wait(..))));
        assert!(matches!(penalties.after_a_bad_key(address), Penalty::Close));
        waiting.clear();
        assert!(matches!(penalties.after_a_bad_key(address), Penalty::Wait(..)));
    }
}
