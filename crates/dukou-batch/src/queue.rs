//! What waits, in the order in which it will run. Pure: it is told the time and starts nothing.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use dukou_types::{Failure, InferRequest, InferResponse};
use tokio::sync::oneshot;

use crate::batcher::{Observe, Ride};

/// A request that names no priority stands here: behind 1 to 99, before 101 and more.
const DEFAULT_RANK: u32 = 100;

/// How many waiting requests that cannot ride along are looked past for ones that can.
const LOOK_PAST: usize = 256;

/// What an asker hears.
pub(crate) type Reply = Result<(InferResponse, Ride), Failure>;

/// One request that waits, with the way back to its asker.
pub(crate) struct Ticket {
    pub(crate) request: InferRequest,
    pub(crate) asker: Asker,
    rows: usize,
    bytes: usize,
    /// Whether it may share a run: the version allows it and its inputs agree on their rows.
    rides: bool,
}

/// The way back: whom to tell, whose counters to add to, since when it waits.
pub(crate) struct Asker {
    pub(crate) reply: oneshot::Sender<Reply>,
    pub(crate) account: Arc<dyn Observe>,
    pub(crate) arrived: Instant,
}

impl Ticket {
    pub(crate) fn new(request: InferRequest, asker: Asker, batchable: bool) -> Self {
        let rows = request.rows();
        let agree = request.inputs.iter().all(|input| input.rows() == rows);
        let bytes = request.size();
        Self { request, asker, rows, bytes, rides: batchable && agree }
    }

    /// Smaller runs earlier.
    fn order(&self) -> (u32, bool, Option<Instant>) {
        let rank = match self.request.priority {
            0 => DEFAULT_RANK,
            named => named,
        };
        (rank, self.request.deadline.is_none(), self.request.deadline)
    }

    /// Whether its asker has gone.
    pub(crate) fn abandoned(&self) -> bool {
        self.request.cancel.is_cancelled() || self.asker.reply.is_closed()
    }

    /// Whether its answer would come too late.
    pub(crate) fn expired(&self, now: Instant) -> bool {
        self.request.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Whether both can be laid one after the other and answered from one run.
    fn rides_with(&self, other: &Self) -> bool {
        let (a, b) = (&self.request, &other.request);
        self.rides
            && other.rides
            && a.outputs == b.outputs
            && a.parameters == b.parameters
            && a.inputs.len() == b.inputs.len()
            && a.inputs.iter().zip(&b.inputs).all(|(x, y)| {
                x.dtype == y.dtype && x.shape.len() == y.shape.len() && x.shape[1..] == y.shape[1..]
            })
    }
}

/// The most that one run may carry, and how long an idle instance waits for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caps {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
    pub(crate) delay: Duration,
}

/// What an idle instance should do.
pub(crate) enum Next {
    /// Run these.
    Run(Vec<Ticket>),
    /// Ask again then: a delay was asked for, and there may be more by then.
    Wait(Instant),
    /// Nothing waits.
    Empty,
}

/// What waits.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: VecDeque<Ticket>,
    skipped: Vec<Ticket>,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds one in its place. Requests mostly come in the order in which they will run: the end.
    pub(crate) fn push(&mut self, ticket: Ticket) {
        let order = ticket.order();
        match self.waiting.back() {
            Some(last) if last.order() > order => {
                let place = self.waiting.partition_point(|other| other.order() <= order);
                self.waiting.insert(place, ticket);
            }
            _ => self.waiting.push_back(ticket),
        }
    }

    /// Takes what runs next, best first. What is not worth running any more goes to `gone`.
    pub(crate) fn next(&mut self, now: Instant, caps: Caps, gone: &mut Vec<Ticket>) -> Next {
        if let Some(until) = self.wait_for_more(now, caps) {
            return Next::Wait(until);
        }
        let mut chosen: Vec<Ticket> = Vec::new();
        let (mut rows, mut bytes) = (0_usize, 0_usize);
        while let Some(ticket) = self.waiting.pop_front() {
            if ticket.abandoned() || ticket.expired(now) {
                gone.push(ticket);
                continue;
            }
            let Some(first) = chosen.first() else {
                (rows, bytes) = (ticket.rows, ticket.bytes);
                let alone = !ticket.rides || rows >= caps.rows || bytes >= caps.bytes;
                chosen.push(ticket);
                if alone {
                    break;
                }
                continue;
            };
            let (more_rows, more_bytes) =
                (rows.saturating_add(ticket.rows), bytes.saturating_add(ticket.bytes));
            if more_rows <= caps.rows && more_bytes <= caps.bytes && first.rides_with(&ticket) {
                (rows, bytes) = (more_rows, more_bytes);
                chosen.push(ticket);
                if rows == caps.rows {
                    break;
                }
            } else {
                self.skipped.push(ticket);
                if self.skipped.len() == LOOK_PAST {
                    break;
                }
            }
        }
        while let Some(ticket) = self.skipped.pop() {
            self.waiting.push_front(ticket);
        }
        if chosen.is_empty() { Next::Empty } else { Next::Run(chosen) }
    }

    /// Removes what is not worth running any more, wherever it stands.
    pub(crate) fn purge(&mut self, now: Instant, gone: &mut Vec<Ticket>) {
        let mut place = 0;
        while place < self.waiting.len() {
            let ticket = &self.waiting[place];
            if ticket.abandoned() || ticket.expired(now) {
                gone.extend(self.waiting.remove(place));
            } else {
                place += 1;
            }
        }
    }

    /// Until when to wait for more, where a delay was asked for, what waits does not fill a run, and
    /// everybody can afford it.
    fn wait_for_more(&self, now: Instant, caps: Caps) -> Option<Instant> {
        if caps.delay.is_zero() {
            return None;
        }
        let (mut rows, mut bytes) = (0_usize, 0_usize);
        let mut until: Option<Instant> = None;
        for ticket in &self.waiting {
            rows = rows.saturating_add(ticket.rows);
            bytes = bytes.saturating_add(ticket.bytes);
            let end = ticket.asker.arrived + caps.delay;
            let affordable = ticket.request.deadline.is_none_or(|deadline| end < deadline);
            if rows >= caps.rows || bytes >= caps.bytes || !ticket.rides || !affordable {
                return None;
            }
            until = Some(until.map_or(end, |earliest| earliest.min(end)));
        }
        until.filter(|until| *until > now)
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
