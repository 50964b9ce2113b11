//! The batcher's door: a request goes in, a future of its answer comes out.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use dukou_exec::Execute;
use dukou_types::{CancelFlag, ErrorCode, Failure, InferRequest};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{
    clock::Clock,
    inline::Lanes,
    pooled::Pool,
    queue::{Asker, Caps, Next, Queue, Reply, Ticket},
    run,
};

/// Runs that take no longer than this are inline: a hand-over to another thread costs as much.
const INLINE_LIMIT: Duration = Duration::from_micros(200);

/// On whose thread a batch runs. Decided when the version is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// On the thread of the arrival that finds no run pending there, after one turn of its event loop:
    /// every connection that the kernel had reported readable rides along, and nobody waits on a timer.
    Inline {
        /// Queues, one a worker thread (see [`enter_lane`]).
        lanes: usize,
    },
    /// On threads of the version's own, one an instance, from one queue.
    Pooled,
}

impl Mode {
    /// The mode for a version whose run was measured, on an engine with this many worker threads.
    pub fn for_run(run: Duration, workers: usize) -> Self {
        if run <= INLINE_LIMIT { Self::Inline { lanes: workers } } else { Self::Pooled }
    }
}

/// What the table says about batching and queueing. May change while the version stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Rows of one run. A request that is larger alone runs alone.
    pub max_rows: usize,
    /// Bytes of input of one run. A request that is larger alone runs alone.
    pub max_bytes: usize,
    /// How long an idle instance waits for more; zero for not at all. An inline run has the event
    /// loop's resolution, a millisecond.
    pub delay: Duration,
    /// Requests that may wait; more are refused at once.
    pub queue: usize,
}

/// Whose counters a run is added to: those of the first request in it.
pub trait Observe: Send + Sync + 'static {
    /// A run has ended. Called once a run, retried singles included.
    fn ran(&self, rows: usize, compute: Duration);
}

/// How a request came to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ride {
    /// From the queue's door to the run.
    pub queue: Duration,
    /// How long the run took.
    pub compute: Duration,
    /// Rows of all requests in the run.
    pub rows: usize,
    /// Requests in the run.
    pub requests: usize,
}

/// What became of requests that did not simply run. Cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Dropped before a run because their deadline had passed.
    pub expired: u64,
    /// Dropped before a run because their askers had gone.
    pub cancelled: u64,
    /// Refused because the queue was full.
    pub refused: u64,
    /// Run once more, alone, after a run of several failed.
    pub retried: u64,
}

/// Queues requests of one version and runs them together. Cloning shares it; the last one dropped
/// ends its threads.
#[derive(Clone)]
pub struct Batcher(Arc<Handle>);

struct Handle {
    core: Arc<Core>,
    way: Way,
}

enum Way {
    Inline(Arc<Lanes>),
    Pooled(Pool),
}

/// What queues and runs share.
pub(crate) struct Core {
    pub(crate) execute: Arc<dyn Execute>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counts: AtomicCounts,
    settings: Mutex<Settings>,
    batchable: bool,
    queued: AtomicUsize,
    /// Held for the length of a run: no two runs of one instance overlap.
    instances: Box<[Mutex<()>]>,
}

#[derive(Default)]
pub(crate) struct AtomicCounts {
    expired: AtomicU64,
    cancelled: AtomicU64,
    refused: AtomicU64,
    retried: AtomicU64,
}

impl AtomicCounts {
    pub(crate) fn retried(&self) {
        self.retried.fetch_add(1, Relaxed);
    }
}

impl Batcher {
    /// A batcher for this version. `batchable` is the proved one: whether rows may ride together.
    ///
    /// In [`Mode::Pooled`] the version's threads begin here and inherit the caller's priority.
    ///
    /// # Errors
    /// `engine.out-of-memory` where the system gives no more threads.
    pub fn new(
        execute: Arc<dyn Execute>,
        clock: Arc<dyn Clock>,
        batchable: bool,
        mode: Mode,
        settings: Settings,
    ) -> Result<Self, Failure> {
        let instances = execute.instances().max(1);
        let core = Arc::new(Core {
            execute,
            clock,
            counts: AtomicCounts::default(),
            settings: Mutex::new(settings),
            batchable,
            queued: AtomicUsize::new(0),
            instances: (0..instances).map(|_| Mutex::new(())).collect(),
        });
        let way = match mode {
            Mode::Inline { lanes } => Way::Inline(Arc::new(Lanes::new(Arc::clone(&core), lanes))),
            Mode::Pooled => Way::Pooled(Pool::start(&core)?),
        };
        Ok(Self(Arc::new(Handle { core, way })))
    }

    /// Queues a request. Must be called inside a tokio runtime. The answer's future never fails to
    /// resolve; dropping it cancels what has not begun.
    ///
    /// It resolves to `limits.queue-full` at once where too many wait, `limits.deadline` where its time
    /// was over before it ran, `server.draining` where the engine ended first, or what the backend said.
    pub fn submit(&self, request: InferRequest, account: Arc<dyn Observe>) -> Answer {
        let core = &self.0.core;
        let limit = core.settings.lock().queue;
        if core.queued.fetch_add(1, Relaxed) >= limit {
            // Those who have gone may be all that is in the way.
            self.0.purge();
            if core.queued.load(Relaxed) > limit {
                core.queued.fetch_sub(1, Relaxed);
                core.counts.refused.fetch_add(1, Relaxed);
                run::give_back(core.execute.as_ref(), request);
                return Answer::refused(Failure::new(
                    ErrorCode::LimitsQueueFull,
                    format!("{limit} requests wait already, which is the model's `limits.queue`"),
                ));
            }
        }
        let (reply, hear) = oneshot::channel();
        let cancel = request.cancel.clone();
        let asker = Asker { reply, account, arrived: core.clock.now() };
        let ticket = Ticket::new(request, asker, core.batchable);
        match &self.0.way {
            Way::Inline(lanes) => lanes.push(ticket),
            Way::Pooled(pool) => pool.push(ticket),
        }
        Answer { hear: Heard::Waiting(hear), cancel }
    }

    /// Puts other caps in place, for requests from now on.
    pub fn set(&self, settings: Settings) {
        *self.0.core.settings.lock() = settings;
    }

    /// Lends an instance to the calling thread, past the queue: for what the engine itself asks of a
    /// version that serves (golden samples). Waits for the run that is going on there.
    pub fn with_instance<R>(&self, job: impl FnOnce(&dyn Execute, usize) -> R) -> R {
        let core = &self.0.core;
        let last = core.instances.len() - 1;
        let _held = core.instances[last].lock();
        job(core.execute.as_ref(), last)
    }

    /// Whether batches run on the threads of their arrivals.
    pub fn is_inline(&self) -> bool {
        matches!(self.0.way, Way::Inline(_))
    }

    /// Requests that wait now.
    pub fn queued(&self) -> usize {
        self.0.core.queued.load(Relaxed)
    }

    /// What became of requests that did not simply run.
    pub fn counts(&self) -> Counts {
        let counts = &self.0.core.counts;
        Counts {
            expired: counts.expired.load(Relaxed),
            cancelled: counts.cancelled.load(Relaxed),
            refused: counts.refused.load(Relaxed),
            retried: counts.retried.load(Relaxed),
        }
    }
}

impl fmt::Debug for Batcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher")
            .field("inline", &self.is_inline())
            .field("queued", &self.queued())
            .field("counts", &self.counts())
            .finish()
    }
}

impl Handle {
    fn purge(&self) {
        match &self.way {
            Way::Inline(lanes) => lanes.each(|queue| self.core.purge(queue)),
            Way::Pooled(pool) => pool.with(|queue| self.core.purge(queue)),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Way::Pooled(pool) = &self.way {
            pool.close();
        }
    }
}

impl Core {
    /// What an idle instance should do now. Tells those whose turn came too late.
    pub(crate) fn next(&self, queue: &mut Queue) -> Next {
        let settings = *self.settings.lock();
        let caps =
            Caps { rows: settings.max_rows, bytes: settings.max_bytes, delay: settings.delay };
        let mut gone = Vec::new();
        let next = queue.next(self.clock.now(), caps, &mut gone);
        if let Next::Run(tickets) = &next {
            self.queued.fetch_sub(tickets.len(), Relaxed);
        }
        self.drop_all(gone);
        next
    }

    /// Runs these on an instance: `preferred`, or another that is idle, or `preferred` once it is.
    pub(crate) fn run(&self, preferred: usize, tickets: Vec<Ticket>) {
        let count = self.instances.len();
        let idle = (0..count).map(|offset| (preferred + offset) % count).find_map(|instance| {
            self.instances[instance].try_lock().map(|guard| (instance, guard))
        });
        let preferred = preferred % count;
        let (instance, _held) =
            idle.unwrap_or_else(|| (preferred, self.instances[preferred].lock()));
        run::run(self, instance, tickets);
    }

    /// How many runs can go on at once.
    pub(crate) fn instances(&self) -> usize {
        self.instances.len()
    }

    fn purge(&self, queue: &mut Queue) {
        let mut gone = Vec::new();
        queue.purge(self.clock.now(), &mut gone);
        self.drop_all(gone);
    }

    fn drop_all(&self, gone: Vec<Ticket>) {
        self.queued.fetch_sub(gone.len(), Relaxed);
        for ticket in gone {
            self.drop_unrun(ticket.request, ticket.asker);
        }
    }

    /// Tells an asker that its request was not worth running any more, and counts why.
    pub(crate) fn drop_unrun(&self, request: InferRequest, asker: Asker) {
        let failure = if request.cancel.is_cancelled() || asker.reply.is_closed() {
            self.counts.cancelled.fetch_add(1, Relaxed);
            Failure::new(ErrorCode::ServerCancelled, "the asker went away before the work began")
        } else {
            self.counts.expired.fetch_add(1, Relaxed);
            Failure::new(
                ErrorCode::LimitsDeadline,
                "the deadline passed while the request waited for its turn",
            )
        };
        run::give_back(self.execute.as_ref(), request);
        let _gone = asker.reply.send(Err(failure));
    }
}

/// The answer to come. Dropping it tells the queue that nobody waits for it any more.
#[must_use = "an answer that nobody waits for is cancelled"]
pub struct Answer {
    hear: Heard,
    cancel: CancelFlag,
}

enum Heard {
    Waiting(oneshot::Receiver<Reply>),
    Refused(Failure),
    Over,
}

impl Answer {
    fn refused(failure: Failure) -> Self {
        Self { hear: Heard::Refused(failure), cancel: CancelFlag::default() }
    }
}

impl Future for Answer {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        let reply = match &mut self.hear {
            Heard::Waiting(hear) => match Pin::new(hear).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(reply)) => reply,
                Poll::Ready(Err(_)) => Err(ended()),
            },
            Heard::Refused(failure) => Err(failure.clone()),
            Heard::Over => Err(ended()),
        };
        self.hear = Heard::Over;
        Poll::Ready(reply)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if matches!(self.hear, Heard::Waiting(_)) {
            self.cancel.cancel();
        }
    }
}

fn ended() -> Failure {
    Failure::new(ErrorCode::ServerDraining, "the server ended before the request ran")
}

pub use crate::inline::enter_lane;
