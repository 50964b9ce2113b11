//! Short runs, on the threads of their arrivals.
//!
//! Why there is no timer: an arrival that finds no drain pending on its thread schedules one, and that
//! drain first lets the event loop turn once. Every connection that the kernel had already reported
//! readable is thereby read, decoded and queued before the drain goes on, and all of them ride in one
//! run. A request that is alone waits for one look at the kernel, about a microsecond.

use std::{cell::Cell, sync::Arc};

use parking_lot::Mutex;
use tokio::{sync::Notify, task::yield_now, time::sleep_until};

use crate::{
    batcher::Core,
    queue::{Next, Queue, Ticket},
};

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(0) };
}

/// Says that this thread is the worker with this number: its requests wait apart from other
/// threads', so that no run wakes another thread. Threads that never say so are number 0.
pub fn enter_lane(number: usize) {
    LANE.set(number);
}

/// One queue a worker thread.
pub(crate) struct Lanes {
    core: Arc<Core>,
    lanes: Box<[Lane]>,
}

#[derive(Default)]
struct Lane {
    inside: Mutex<Inside>,
    /// Rung when something arrives while the drain waits for more.
    arrival: Notify,
}

#[derive(Default)]
struct Inside {
    queue: Queue,
    /// Whether a drain is scheduled or running.
    draining: bool,
    /// Whether that drain waits for more to come.
    waiting: bool,
}

impl Lanes {
    pub(crate) fn new(core: Arc<Core>, lanes: usize) -> Self {
        Self { core, lanes: (0..lanes.max(1)).map(|_| Lane::default()).collect() }
    }

    /// Queues on the calling thread's lane.
    pub(crate) fn push(self: &Arc<Self>, ticket: Ticket) {
        let number = LANE.get() % self.lanes.len();
        let lane = &self.lanes[number];
        let mut inside = lane.inside.lock();
        inside.queue.push(ticket);
        if inside.waiting {
            lane.arrival.notify_one();
        }
        if !std::mem::replace(&mut inside.draining, true) {
            drop(inside);
            tokio::spawn(drain(Drain { lanes: Arc::clone(self), number }));
        }
    }

    pub(crate) fn each(&self, visit: impl Fn(&mut Queue)) {
        for lane in &self.lanes {
            visit(&mut lane.inside.lock().queue);
        }
    }
}

/// A drain that is under way. Where its runtime ends before it does, the lane is free for another.
struct Drain {
    lanes: Arc<Lanes>,
    number: usize,
}

impl Drain {
    fn lane(&self) -> &Lane {
        &self.lanes.lanes[self.number]
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        let mut inside = self.lane().inside.lock();
        inside.draining = false;
        inside.waiting = false;
    }
}

async fn drain(drain: Drain) {
    let lane = drain.lane();
    loop {
        // Here the others arrive, and here the answers of the run before leave.
        yield_now().await;
        let next = {
            let mut inside = lane.inside.lock();
            let next = drain.lanes.core.next(&mut inside.queue);
            inside.waiting = matches!(next, Next::Wait(_));
            if matches!(next, Next::Empty) {
                inside.draining = false;
            }
            next
        };
        match next {
            Next::Empty => return,
            Next::Wait(until) => {
                tokio::select! {
                    () = sleep_until(until.into()) => {}
                    () = lane.arrival.notified() => {}
                }
            }
            Next::Run(tickets) => {
                drain.lanes.core.run(drain.number, tickets);
                let mut inside = lane.inside.lock();
                if inside.queue.is_empty() {
                    inside.draining = false;
                    return;
                }
            }
        }
    }
}
