//! Connections that wait for their next request, a pool a thread: no hop of a request crosses threads.

use std::{
    cell::RefCell,
    sync::{Arc, Weak},
};

use crate::{connection::Connection, replica::Replica};

/// Idle connections to one replica that a thread keeps.
const KEPT: usize = 64;

thread_local! {
    static POOL: RefCell<Vec<(Weak<Replica>, Vec<Connection>)>> = const { RefCell::new(Vec::new()) };
}

/// Takes the connection that was used last: the others may be closed for want of use. One that carries
/// several calls stays for others.
pub fn take(replica: &Arc<Replica>) -> Option<Connection> {
    POOL.with_borrow_mut(|pool| {
        let (_, idle) = pool.iter_mut().find(|(of, _)| is(of, replica))?;
        idle.last()?.beside().or_else(|| idle.pop())
    })
}

/// Gives a connection back.
pub fn give(replica: &Arc<Replica>, connection: Connection) {
    POOL.with_borrow_mut(|pool| {
        if let Some((_, idle)) = pool.iter_mut().find(|(of, _)| is(of, replica)) {
            // One of several calls was kept when it was made.
            let kept = connection.beside().is_some() && !idle.is_empty();
            if idle.len() < KEPT && !kept {
                idle.push(connection);
            }
            return;
        }
        // A new one is the moment to let go of those that are no more.
        pool.retain(|(of, _)| of.strong_count() > 0);
        pool.push((Arc::downgrade(replica), vec![connection]));
    });
}

/// Closes all idle connections to it: where one was closed, the others were too.
pub fn forget(replica: &Arc<Replica>) {
    POOL.with_borrow_mut(|pool| pool.retain(|(of, _)| !is(of, replica)));
}

fn is(of: &Weak<Replica>, replica: &Arc<Replica>) -> bool {
    std::ptr::eq(of.as_ptr(), Arc::as_ptr(replica))
}
