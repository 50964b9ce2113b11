//! Processes that this one waits for, and orphans that fall to it as process 1 of a container.

use std::sync::{RwLock, RwLockReadGuard};

use rustix::process::{WaitOptions, wait};

/// Held while a child of our own is waited for: its end belongs to whoever started it.
static OWN: RwLock<()> = RwLock::new(());

/// Keeps orphans from being reaped while it lives, so that a child's end is seen by its starter.
#[derive(Debug)]
pub struct OwnChild {
    _held: RwLockReadGuard<'static, ()>,
}

/// To be held from before a child is started until it was waited for.
pub fn own_child() -> OwnChild {
    OwnChild { _held: OWN.read().unwrap_or_else(std::sync::PoisonError::into_inner) }
}

/// Whether this is the first process of its container: what ends without a parent falls to it.
pub fn is_first_process() -> bool {
    std::process::id() == 1
}

/// Takes notice of every orphan that has ended; gives how many. Never waits: while a child of our own is
/// out, none is looked at, and the next one's end comes back here.
pub fn reap_orphans() -> usize {
    let Ok(_alone) = OWN.try_write() else { return 0 };
    let mut count = 0;
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {
        count += 1;
    }
    count
}
