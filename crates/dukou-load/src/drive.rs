//! The run itself: connections that each take what is due, send it, and count what became of it.
//!
//! Closed and open loop are one loop: closed, the next request is due at once; open, the pacer says
//! when. In flight is bounded by the connections; a request that finds none free waits, and its
//! latency counts from when it was due.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    sync::{
        Arc, Barrier, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use tokio::{sync::Mutex, task::LocalSet};

use crate::{
    bodies::Requests,
    connection::Connection,
    expect::{Expectation, Wanted},
    outcome::Loss,
    phases::{PhaseView, Phases},
    record::{Finished, Record},
    report::{Client, Named, Report, Summary},
    request::Request,
    schedule::{Arrivals, Pacer},
    settings::{Settings, UsageError},
    target::Target,
};

/// After a refused connection a client waits this long, so that a closed loop does not spin.
const AFTER_REFUSAL: Duration = Duration::from_millis(10);

/// What all threads share.
struct Shared {
    settings: Settings,
    target: Target,
    requests: Vec<Request>,
    expected: Vec<Wanted>,
    phases: Arc<Phases>,
    clock: OnceLock<Clock>,
    ready: Barrier,
    taken: AtomicU64,
    ok: AtomicU64,
    failed: AtomicU64,
}

/// The run's moments.
#[derive(Clone, Copy)]
struct Clock {
    start: Instant,
    measured: Instant,
    end: Instant,
    /// Nothing is sent after this, even if it was due before the end.
    hard_end: Instant,
    cpu: Duration,
}

impl Clock {
    fn begin(settings: &Settings) -> Self {
        let start = Instant::now();
        let measured = start + settings.warmup;
        let end = measured + settings.duration;
        Self { start, measured, end, hard_end: end + settings.timeout, cpu: process_cpu() }
    }
}

fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

fn runtime() -> Result<tokio::runtime::Runtime, UsageError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| UsageError::System { what: "a runtime", error })
}

/// Runs the whole of it and gives the report as JSON text.
pub fn run(settings: Settings) -> Result<String, UsageError> {
    let calls = settings.source.calls();
    let target = Target::resolve(&settings.url, settings.cacert.as_deref(), calls)?;
    let Requests { rendered: requests, speech } = runtime()?.block_on(async {
        let mut probe = Connection::new(target.clone(), settings.timeout, false);
        probe.connect().await.map_err(|_| UsageError::Unreachable(settings.url.clone()))?;
        Requests::prepare(&settings, &target).await
    })?;
    let mut expected = Expectation::load(&settings, requests.len())?;
    if let Some(speech) = &speech {
        // What nobody said more of must at least be an answer.
        let more = requests.len() - expected.len();
        expected.extend((0..more).map(|_| Wanted::Contained(Vec::new())));
        expected = expected.into_iter().map(|wanted| wanted.read_by(speech)).collect();
    }
    let phases = Phases::new(Instant::now());
    if settings.phases {
        phases.follow_stdin();
    }
    let mut report = Report::begin(&settings, &requests);
    let shared = Arc::new(Shared {
        ready: Barrier::new(settings.threads),
        settings,
        target,
        requests,
        expected,
        phases,
        clock: OnceLock::new(),
        taken: AtomicU64::new(0),
        ok: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    });
    let record = run_threads(&shared)?;
    fill(&mut report, &shared, &record);
    serde_json::to_string_pretty(&report)
        .map_err(|error| UsageError::System { what: "the report", error: error.into() })
}

fn run_threads(shared: &Arc<Shared>) -> Result<Record, UsageError> {
    let (sender, receiver) = mpsc::channel();
    for lane in 0..shared.settings.threads {
        let (shared, sender) = (Arc::clone(shared), sender.clone());
        std::thread::spawn(move || {
            let _ = sender.send(run_lane(&shared, lane));
        });
    }
    drop(sender);
    let mut record = Record::default();
    let mut left = shared.settings.threads;
    while left > 0 {
        match receiver.recv_timeout(Duration::from_secs(1)) {
            Ok(lane) => {
                record.merge(&lane?);
                left -= 1;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => shared.say_progress(),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let error = io::Error::other("a client thread has ended early");
                return Err(UsageError::System { what: "a thread", error });
            }
        }
    }
    Ok(record)
}

/// One thread's share of the connections and of the arrivals.
fn run_lane(shared: &Arc<Shared>, lane: usize) -> Result<Record, UsageError> {
    let Settings { connections, threads, rate, seed, .. } = shared.settings;
    let share = connections / threads + usize::from(lane < connections % threads);
    let refused = |error| UsageError::System { what: "a timer", error };
    let runtime = runtime()?;
    let made = runtime.block_on(async {
        let mut made = Vec::new();
        for _ in 0..share {
            let mut connection = shared.connection();
            // One that cannot be made now is tried again when it is needed, and counted then.
            let _ = connection.connect().await;
            made.push(connection);
        }
        made
    });
    shared.ready.wait();
    let clock = *shared.clock.get_or_init(|| Clock::begin(&shared.settings));
    let record = Rc::new(RefCell::new(Record::default()));
    LocalSet::new().block_on(&runtime, async {
        // Independent Poisson processes add up to one of the summed rate.
        let pacer = rate
            .map(|rate| {
                let seed = seed.wrapping_add((lane as u64).wrapping_mul(0x1000_0001));
                let arrivals = Arrivals::new(rate / threads as f64, seed);
                Pacer::new(arrivals, clock.start, clock.end - clock.start)
            })
            .transpose()
            .map_err(refused)?
            .map(|pacer| Rc::new(Mutex::new(pacer)));
        let workers: Vec<_> = made
            .into_iter()
            .enumerate()
            .map(|(at, connection)| {
                let worker = Worker {
                    shared: Arc::clone(shared),
                    clock,
                    connection,
                    pacer: pacer.clone(),
                    record: Rc::clone(&record),
                    phases: PhaseView::new(&shared.phases),
                    expectations: shared.expectations(),
                    turn: lane + at * threads,
                };
                tokio::task::spawn_local(worker.run())
            })
            .collect();
        for worker in workers {
            if let Ok(outcome) = worker.await {
                outcome.map_err(refused)?;
            }
        }
        Ok(())
    })?;
    Ok(record.take())
}

impl Shared {
    fn connection(&self) -> Connection {
        let Settings { timeout, header_version, .. } = self.settings;
        Connection::new(self.target.clone(), timeout, header_version)
    }

    fn expectations(&self) -> Vec<Expectation> {
        let tolerance = self.settings.tolerance;
        self.expected.iter().map(|wanted| Expectation::new(wanted.clone(), tolerance)).collect()
    }

    /// Whether one more measured request may be sent.
    fn take(&self) -> bool {
        let Some(most) = self.settings.requests else {
            return true;
        };
        self.taken.fetch_add(1, Ordering::Relaxed) < most
    }

    fn say_progress(&self) {
        if self.settings.progress {
            let ok = self.ok.load(Ordering::Relaxed);
            let failed = self.failed.load(Ordering::Relaxed);
            let seconds = self.clock.get().map_or(0.0, |clock| clock.start.elapsed().as_secs_f64());
            eprintln!("{seconds:6.1} s  {ok} answered, {failed} failed");
        }
    }
}

/// One connection and what it does.
struct Worker {
    shared: Arc<Shared>,
    clock: Clock,
    connection: Connection,
    pacer: Option<Rc<Mutex<Pacer>>>,
    record: Rc<RefCell<Record>>,
    phases: PhaseView,
    expectations: Vec<Expectation>,
    turn: usize,
}

impl Worker {
    async fn run(mut self) -> io::Result<()> {
        while let Some(due) = self.due().await? {
            let is_measured = due >= self.clock.measured;
            if is_measured && !self.shared.take() {
                break;
            }
            self.send(due, is_measured).await;
        }
        self.record.borrow_mut().connections += self.connection.made;
        Ok(())
    }

    /// When the next request is due; nothing once the run is over.
    async fn due(&mut self) -> io::Result<Option<Instant>> {
        let Some(pacer) = &self.pacer else {
            let now = Instant::now();
            return Ok((now < self.clock.end).then_some(now));
        };
        let mut pacer = pacer.lock().await;
        let due = pacer.next().await?;
        if due.is_some() && Instant::now() >= self.clock.hard_end {
            let left = 1 + pacer.abandon();
            let phase = self.phases.at(self.clock.end);
            self.record.borrow_mut().phase(phase).unsent += left;
            return Ok(None);
        }
        Ok(due)
    }

    async fn send(&mut self, due: Instant, is_measured: bool) {
        let at = self.turn % self.shared.requests.len();
        self.turn = self.turn.wrapping_add(1);
        let request = &self.shared.requests[at];
        let sent = Instant::now();
        let outcome = self.connection.exchange(request).await;
        let over = Instant::now();
        let loss = match &outcome {
            Err(loss) => Some(*loss),
            Ok(answer) if !(200..300).contains(&answer.status) => Some(Loss::Status),
            Ok(answer) => {
                let body = self.connection.body(answer);
                let right =
                    self.expectations.get_mut(at).is_none_or(|wanted| wanted.holds(answer, body));
                (!right).then_some(Loss::WrongAnswer)
            }
        };
        let answer = outcome.as_ref().ok();
        let finished = Finished {
            due,
            sent,
            over,
            sent_bytes: request.size(),
            received_bytes: answer.map_or(0, |_| self.connection.received()),
            status: answer.map(|answer| answer.status),
            version: answer.and_then(|answer| answer.version.as_deref()),
            loss,
        };
        let phase = is_measured.then(|| self.phases.at(due));
        self.record.borrow_mut().part(phase).add(&finished);
        let counter = if loss.is_some() { &self.shared.failed } else { &self.shared.ok };
        counter.fetch_add(1, Ordering::Relaxed);
        if loss == Some(Loss::Refused) {
            tokio::time::sleep(AFTER_REFUSAL).await;
        }
    }
}

fn fill(report: &mut Report, shared: &Shared, record: &Record) {
    let Some(clock) = shared.clock.get() else {
        return;
    };
    let mut measured = crate::record::Part::default();
    for part in &record.phases {
        measured.merge(part);
    }
    let span = |from: Instant, part: &crate::record::Part| {
        part.last.map_or(Duration::ZERO, |last| last.saturating_duration_since(from))
    };
    let sent = measured.sent() + record.warmup.sent();
    report.client = Client::of(process_cpu().saturating_sub(clock.cpu), sent);
    report.connections_made = record.connections;
    report.warmup = Summary::of(&record.warmup, shared.settings.warmup);
    report.measured = Summary::of(&measured, span(clock.measured, &measured));
    if shared.settings.phases {
        let starts = shared.phases.starts_from(clock.measured);
        report.phases = shared
            .phases
            .names()
            .into_iter()
            .enumerate()
            .filter_map(|(at, name)| {
                let part = record.phases.get(at)?;
                let from = starts.get(at).copied().unwrap_or(clock.measured);
                // A phase lasts until the next begins, or until its own last answer.
                let until = starts.get(at + 1).copied().or(part.last).unwrap_or(from);
                let summary = Summary::of(part, until.saturating_duration_since(from));
                Some(Named { name, summary })
            })
            .collect();
    }
}
