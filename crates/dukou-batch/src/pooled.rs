//! Longer runs, on threads of the version's own: one an instance, all from one queue.

use std::{sync::Arc, thread};

use dukou_types::{ErrorCode, Failure};
use parking_lot::{Condvar, Mutex};

use crate::{
    batcher::Core,
    queue::{Next, Queue, Ticket},
};

/// The queue that the threads wait on.
pub(crate) struct Pool(Arc<Shared>);

#[derive(Default)]
struct Shared {
    inside: Mutex<Inside>,
    arrival: Condvar,
}

#[derive(Default)]
struct Inside {
    queue: Queue,
    closed: bool,
}

impl Pool {
    /// Starts one thread an instance.
    pub(crate) fn start(core: &Arc<Core>) -> Result<Self, Failure> {
        let pool = Self(Arc::new(Shared::default()));
        for instance in 0..core.instances() {
            let (core, shared) = (Arc::clone(core), Arc::clone(&pool.0));
            thread::Builder::new()
                .name(format!("run-{instance}"))
                .spawn(move || work(&core, &shared, instance))
                .map_err(|error| {
                    pool.close();
                    Failure::new(
                        ErrorCode::EngineOutOfMemory,
                        format!("the system gives no thread to run the model on: {error}"),
                    )
                })?;
        }
        Ok(pool)
    }

    pub(crate) fn push(&self, ticket: Ticket) {
        self.0.inside.lock().queue.push(ticket);
        self.0.arrival.notify_one();
    }

    pub(crate) fn with(&self, visit: impl FnOnce(&mut Queue)) {
        visit(&mut self.0.inside.lock().queue);
    }

    /// Lets the threads end once the queue is empty.
    pub(crate) fn close(&self) {
        self.0.inside.lock().closed = true;
        self.0.arrival.notify_all();
    }
}

fn work(core: &Core, shared: &Shared, instance: usize) {
    let mut inside = shared.inside.lock();
    loop {
        match core.next(&mut inside.queue) {
            Next::Run(tickets) => {
                drop(inside);
                core.run(instance, tickets);
                inside = shared.inside.lock();
            }
            Next::Wait(until) => {
                let left = until.saturating_duration_since(core.clock.now());
                shared.arrival.wait_for(&mut inside, left);
            }
            Next::Empty if inside.closed => return,
            Next::Empty => shared.arrival.wait(&mut inside),
        }
    }
}
