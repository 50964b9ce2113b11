//! The threads that answer requests: one a core, each with an event loop and connections of its own.
//!
//! Nothing crosses from one to another on the way of a request: what one core reads, decodes, batches,
//! runs and writes stays in its caches, and no answer wakes another thread.

use std::{
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    select,
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout_at},
};

use crate::{
    accept::Arrival,
    engine::Engine,
    http::Protocol,
    serving::Serving,
    watch::{TICKS, Watch},
};

/// Accepted connections that wait for one worker's attention.
const ARRIVALS: usize = 1024;
/// How long a head may take before a table says so.
const HEADER_BEFORE_A_TABLE: Duration = Duration::from_secs(10);
/// How long requests in flight may take where no table says so.
const DRAIN_BEFORE_A_TABLE: Duration = Duration::from_secs(10);
/// After this, a drain closes HTTP/1 connections that are between requests. Until then they may send
/// one more, and learn from its answer that the connection closes: nothing is lost on the wire.
const GRACE: Duration = Duration::from_millis(250);

/// The way to the workers.
#[derive(Clone, Debug)]
pub struct Workers(Arc<[Worker]>);

#[derive(Debug)]
struct Worker {
    arrivals: mpsc::Sender<Arrival>,
    /// Connections that are open or on their way.
    open: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts the threads. They end when a drain is done.
    ///
    /// # Errors
    /// The system gives no more threads or event loops.
    pub fn start(engine: &Arc<Engine>) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let mut workers = Vec::new();
        let mut threads = Vec::new();
        for number in 0..engine.threads {
            let (arrivals, receiver) = mpsc::channel(ARRIVALS);
            let open = Arc::new(AtomicUsize::new(0));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (engine, counter) = (Arc::clone(engine), Arc::clone(&open));
            let thread =
                thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                    dukou_batch::enter_lane(number);
                    runtime.block_on(work(receiver, counter, &engine));
                    // Connections that outlived the drain end here, their requests with them.
                    runtime.shutdown_background();
                })?;
            workers.push(Worker { arrivals, open });
            threads.push(thread);
        }
        Ok((Self(workers.into()), threads))
    }

    /// Connections that are open or on their way to a worker.
    pub fn open(&self) -> usize {
        self.0.iter().map(|worker| worker.open.load(Relaxed)).sum()
    }

    /// Hands a connection to the worker that has the fewest.
    ///
    /// # Errors
    /// It comes back where that worker cannot take any more now.
    pub fn hand_over(&self, arrival: Arrival) -> Result<(), Arrival> {
        let Some(least) = self.0.iter().min_by_key(|worker| worker.open.load(Relaxed)) else {
            return Err(arrival);
        };
        least.open.fetch_add(1, Relaxed);
        least.arrivals.try_send(arrival).map_err(|error| {
            least.open.fetch_sub(1, Relaxed);
            error.into_inner()
        })
    }
}

/// The connections of one worker.
struct Connections {
    tick: Arc<AtomicU64>,
    watches: Vec<Weak<Watch>>,
    open: Arc<AtomicUsize>,
    protocol: Protocol,
}

impl Connections {
    fn begin(&mut self, arrival: Arrival, engine: &Arc<Engine>) {
        let counted = Open::new(&self.open, engine);
        // A socket that broke on its way has lost its client already.
        let Ok(stream) = TcpStream::from_std(arrival.socket) else {
            return;
        };
        let watch = Arc::new(Watch::new(Arc::clone(&self.tick)));
        self.watches.push(Arc::downgrade(&watch));
        let (protocol, engine) = (self.protocol.clone(), Arc::clone(engine));
        tokio::spawn(async move {
            protocol.serve(stream, (arrival.listener, arrival.peer), watch, engine).await;
            drop(counted);
        });
    }

    /// Forgets those that are closed and shows the others to `visit`.
    fn each(&mut self, visit: impl Fn(&Watch)) {
        self.watches.retain(|watch| watch.upgrade().inspect(|watch| visit(watch)).is_some());
    }
}

/// An open connection, counted for the worker and for the process.
struct Open {
    worker: Arc<AtomicUsize>,
    engine: Arc<Engine>,
}

impl Open {
    /// The worker counted it when it was handed over.
    fn new(worker: &Arc<AtomicUsize>, engine: &Arc<Engine>) -> Self {
        engine.state.gauges.connections.fetch_add(1, Relaxed);
        Self { worker: Arc::clone(worker), engine: Arc::clone(engine) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.fetch_sub(1, Relaxed);
        self.engine.state.gauges.connections.fetch_sub(1, Relaxed);
    }
}

async fn work(mut arrivals: mpsc::Receiver<Arrival>, open: Arc<AtomicUsize>, engine: &Arc<Engine>) {
    let mut connections = Connections {
        tick: Arc::default(),
        watches: Vec::new(),
        open,
        protocol: Protocol::default(),
    };
    loop {
        let header = limit(engine, |serving| serving.limits.header, HEADER_BEFORE_A_TABLE);
        let mut ticks = interval((header / TICKS as u32).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        select! {
            biased;
            () = engine.drain.begun() => break,
            () = serve_until_tick(&mut arrivals, &mut connections, engine, ticks) => {}
        }
        connections.tick.fetch_add(1, Relaxed);
        connections.each(Watch::check);
    }
    drain(arrivals, connections, engine).await;
}

async fn serve_until_tick(
    arrivals: &mut mpsc::Receiver<Arrival>,
    connections: &mut Connections,
    engine: &Arc<Engine>,
    mut ticks: tokio::time::Interval,
) {
    loop {
        select! {
            Some(arrival) = arrivals.recv() => connections.begin(arrival, engine),
            _now = ticks.tick() => return,
        }
    }
}

/// Lets every connection end without losing a request, for as long as the table allows.
async fn drain(
    mut arrivals: mpsc::Receiver<Arrival>,
    mut connections: Connections,
    engine: &Arc<Engine>,
) {
    let allowed = limit(engine, |serving| serving.limits.drain, DRAIN_BEFORE_A_TABLE);
    let end = Instant::now() + allowed;
    // Those that were accepted are ours to answer.
    arrivals.close();
    while let Some(arrival) = arrivals.recv().await {
        connections.begin(arrival, engine);
    }
    connections.each(|watch| {
        if watch.is_http2() {
            watch.end_gracefully();
        }
    });
    let grace = GRACE.min(allowed / 2);
    let graceful = async {
        let since = Instant::now();
        let mut told = false;
        while connections.open.load(Relaxed) > 0 {
            if !told && since.elapsed() >= grace {
                connections.each(Watch::end_gracefully);
                told = true;
            }
            sleep(Duration::from_millis(2)).await;
        }
    };
    let _cut_short = timeout_at(end, graceful).await;
}

fn limit(engine: &Engine, of: impl Fn(&Serving) -> Duration, otherwise: Duration) -> Duration {
    engine.serving.load().as_ref().map_or(otherwise, |serving| of(serving))
}
