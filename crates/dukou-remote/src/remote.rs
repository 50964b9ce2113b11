//! A remote model: one request to one of its replicas, and to another where that is right.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use dukou_types::{
    ErrorCode, Failure, InferRequest, InferResponse, Param, Requested, ServedBy, Signature,
};
use dukou_wire::{DecodeLimits, Peer, Question, Written, grpc, v2::HEADER_LENGTH};
use http::{HeaderName, HeaderValue, Method, Request, header::CONTENT_TYPE};
use http_body_util::Full;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::task::yield_now;

use crate::{
    balance::{Candidate, choose},
    budget::RetryBudget,
    connection::{Connection, Heard, Loss},
    gate::{Gate, Serves},
    opening, pool,
    random::draw,
    refusal,
    replica::{Replica, ReplicaState},
    together::{self, may_ride},
    upstream::{Spec, Upstream, VERSION, text},
    watch,
};

const TIMEOUT: HeaderName = HeaderName::from_static("dukou-timeout-ms");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Answers are not larger, and their JSON not deeper.
const LIMITS: DecodeLimits = DecodeLimits { json_depth: 64, body_bytes: 256 << 20 };
/// So often an answer of another revision is asked for again.
const ASKED_AGAIN: usize = 8;

/// A model that other servers answer.
#[derive(Debug)]
pub struct Remote {
    /// Where.
    pub(crate) upstream: Arc<Upstream>,
    signature: Arc<Signature>,
    budget: RetryBudget,
    gate: Mutex<Gate>,
    /// The gate's current revision plus one; 0 where there is none: read without a lock.
    current: AtomicU64,
}

/// An answer, and how long it took.
#[derive(Debug)]
pub struct Answered {
    /// The answer.
    pub response: InferResponse,
    /// From the request to the answer, over all tries.
    pub took: Duration,
    /// Rows of all requests that were asked in one call.
    pub rows: usize,
    /// Those requests.
    pub requests: usize,
    /// Whether it is this one that the call is counted with.
    pub counts: bool,
}

/// Why a call for several requests has no answer.
pub(crate) enum Unanswered {
    /// It failed.
    Failed(Failure),
    /// Their rows may not ride together where it was asked.
    Apart,
}

/// How one try ended.
enum Tried {
    Answered(Box<InferResponse>),
    /// It is another revision's: right of itself, but not for a caller now.
    OtherRevision,
    /// It was of several requests, whose rows may not ride together there.
    Apart,
    /// Another replica may know better, if there is a retry left.
    Retryable(Failure),
    Failed(Failure),
}

impl Remote {
    /// Looks at the replicas for the first time and goes on looking. Blocks; for a thread that loads.
    ///
    /// `floor` is the revision that callers of this model were given before: none is given below it.
    ///
    /// # Errors
    /// `replica.unavailable` where none answered for `patience`; `replica.mismatch` where two of one
    /// revision serve different signatures; `deploy.invalid` for an address or a file that is none.
    pub fn open(spec: &Spec, floor: Option<u64>, patience: Duration) -> Result<Arc<Self>, Failure> {
        let upstream = Arc::new(Upstream::new(spec)?);
        let signature = Arc::new(opening::signature(&upstream, patience)?);
        let remote = Arc::new(Self {
            upstream,
            signature,
            budget: RetryBudget::new(spec.retry_percent),
            gate: Mutex::new(Gate::above(floor)),
            current: AtomicU64::new(floor.map_or(0, |floor| floor + 1)),
        });
        watch::look_at_all(&remote)?;
        Ok(remote)
    }

    /// What it takes and gives.
    pub fn signature(&self) -> &Arc<Signature> {
        &self.signature
    }

    /// The revision that callers are given; none where the replicas have none.
    pub fn current(&self) -> Option<u64> {
        self.current.load(Relaxed).checked_sub(1)
    }

    /// The replicas as they are.
    pub fn states(&self) -> Vec<ReplicaState> {
        let (now, current) = (Instant::now(), self.current());
        self.upstream.replicas.iter().map(|replica| replica.state(now, current)).collect()
    }

    /// Looks at what is known of the replicas and decides who may be asked.
    pub(crate) fn settle(&self) {
        let now = Instant::now();
        let mut gate = self.gate.lock();
        let seen: SmallVec<[_; 8]> = self.upstream.replicas.iter().map(|r| r.seen(now)).collect();
        gate.settle(&seen);
        self.current.store(gate.current().map_or(0, |current| current + 1), Relaxed);
        for (replica, seen) in self.upstream.replicas.iter().zip(&seen) {
            replica.set_open(seen.healthy && gate.admits(seen.serves));
            replica.set_rides();
        }
    }

    /// Has a replica answer, together with what else comes in this turn of the event loop where that is
    /// right. Dropping the future ends the call where nobody else waits for it.
    ///
    /// # Errors
    /// What the replica said, with its code and status; `replica.unavailable`, `replica.lost`,
    /// `replica.failed`, `replica.behind`.
    pub async fn answer(self: &Arc<Self>, request: InferRequest) -> Result<Answered, Failure> {
        if self.rides() && may_ride(&request) {
            return together::ask(self, request).await;
        }
        // Whoever else has been read in this turn is decoded first: what is asked goes out together, and a
        // replica that is woken finds more than one request.
        yield_now().await;
        self.alone(&request).await
    }

    /// Has a replica answer this request by itself.
    pub(crate) async fn alone(&self, request: &InferRequest) -> Result<Answered, Failure> {
        match self.together(request, 1).await {
            Ok(answered) => Ok(answered),
            Err(Unanswered::Failed(failure)) => Err(failure),
            Err(Unanswered::Apart) => Err(self.behind()),
        }
    }

    /// Has a replica answer a call that so many requests are in.
    pub(crate) async fn together(
        &self,
        request: &InferRequest,
        requests: usize,
    ) -> Result<Answered, Unanswered> {
        let began = Instant::now();
        let failed = |failure| Err(Unanswered::Failed(failure));
        self.budget.request();
        let written = self.write(request).map_err(Unanswered::Failed)?;
        let mut tried = SmallVec::<[usize; 4]>::new();
        let mut last = None;
        let mut again = 0;
        loop {
            let Some(index) = self.choose(&tried) else {
                return failed(last.unwrap_or_else(|| self.nobody()));
            };
            let replica = &self.upstream.replicas[index];
            if !tried.is_empty() {
                replica.retries.fetch_add(1, Relaxed);
            }
            match self.ask(replica, &written, request, requests).await {
                Tried::Answered(response) => {
                    return Ok(Answered {
                        response: *response,
                        took: began.elapsed(),
                        rows: request.rows(),
                        requests,
                        counts: true,
                    });
                }
                Tried::OtherRevision if again < ASKED_AGAIN => again += 1,
                Tried::OtherRevision => return failed(self.behind()),
                Tried::Apart => return Err(Unanswered::Apart),
                Tried::Failed(failure) => return failed(failure),
                Tried::Retryable(failure) => {
                    tried.push(index);
                    if !self.budget.take() {
                        return failed(failure);
                    }
                    last = Some(failure);
                }
            }
        }
    }

    /// Whether every replica that is asked lets rows ride together.
    fn rides(&self) -> bool {
        self.upstream.replicas.iter().all(|replica| !replica.is_open() || replica.rides())
    }

    /// In how many calls what came in one turn is best asked: one where answers are short, else one for each
    /// replica that has nothing to do.
    pub(crate) fn calls(&self) -> usize {
        let open = || self.upstream.replicas.iter().filter(|replica| replica.is_open());
        if open().all(|replica| replica.is_short()) {
            return 1;
        }
        open().filter(|replica| replica.is_idle()).count().max(1)
    }

    /// Of those that may be asked, one. Where none is fit, one that the gate lets through: somebody
    /// has to find out that it is back.
    fn choose(&self, tried: &[usize]) -> Option<usize> {
        let now = Instant::now();
        let replicas = || {
            self.upstream.replicas.iter().enumerate().filter(|(index, _)| !tried.contains(index))
        };
        let mut candidates: SmallVec<[Candidate; 8]> = replicas()
            .filter(|(_, replica)| replica.is_open())
            .map(|(index, replica)| replica.candidate(index, now))
            .collect();
        if candidates.is_empty() && tried.is_empty() {
            let gate = *self.gate.lock();
            candidates = replicas()
                .filter(|(_, replica)| {
                    let known = replica.known.lock();
                    gate.admits(known.serves) && !known.standing.is_unfit()
                })
                .map(|(index, replica)| replica.candidate(index, now))
                .collect();
        }
        choose(&candidates, draw())
    }

    async fn ask(
        &self,
        replica: &Arc<Replica>,
        written: &Written,
        request: &InferRequest,
        requests: usize,
    ) -> Tried {
        let asking = replica.begin(requests);
        let heard = match self.exchange(replica, written, request).await {
            Ok(heard) => heard,
            Err(loss) => {
                asking.ignore_time();
                return self.lost(replica, &loss);
            }
        };
        drop(asking);
        // And what has come back in one turn is answered together.
        yield_now().await;
        let refusal = match self.upstream.peer.open(&heard.reply(), &LIMITS) {
            Ok(message) => return self.heard(replica, (&heard, &message), request, requests),
            Err(refusal) => refusal,
        };
        let failure = refusal::failure(&refusal, &heard, &replica.address);
        match refusal.status {
            503 => {
                self.fault(replica, &failure);
                Tried::Retryable(failure)
            }
            500 | 502 => {
                self.fault(replica, &failure);
                Tried::Failed(failure)
            }
            _ => Tried::Failed(failure),
        }
    }

    async fn exchange(
        &self,
        replica: &Arc<Replica>,
        written: &Written,
        request: &InferRequest,
    ) -> Result<Heard, Loss> {
        if let Some(mut kept) = pool::take(replica) {
            match kept.exchange(self.request(replica, written, request)?).await {
                Ok(heard) => {
                    if kept.can_go_on(&heard.headers) {
                        pool::give(replica, kept);
                    }
                    return Ok(heard);
                }
                Err(loss) if !loss.unheard => return Err(loss),
                // It was closed while it waited: nobody has heard the request. The others will be too.
                Err(_) => pool::forget(replica),
            }
        }
        let mut connection = Connection::open(replica).await?;
        let heard = connection.exchange(self.request(replica, written, request)?).await?;
        if connection.can_go_on(&heard.headers) {
            pool::give(replica, connection);
        }
        Ok(heard)
    }

    /// An answer was heard: whose, and whether it may be delivered now.
    fn heard(
        &self,
        replica: &Replica,
        (heard, message): (&Heard, &[Bytes]),
        request: &InferRequest,
        requests: usize,
    ) -> Tried {
        let revision = self.upstream.revision(&heard.headers);
        let serves = Serves::parse(revision);
        if !self.delivers(replica, revision, serves) {
            return Tried::OtherRevision;
        }
        // It may serve something else since it was asked about.
        if requests > 1 && !replica.known.lock().rides_at(revision) {
            return Tried::Apart;
        }
        let peer = self.upstream.peer;
        let decoded = peer.decode(message, &heard.headers, &self.signature, &LIMITS);
        let (mut outputs, said) = match decoded {
            Ok(answer) => (answer.outputs, answer.version),
            Err(failure) => {
                let message = format!(
                    "replica `{}` answered what the model's signature does not allow: {}",
                    replica.address, failure.message
                );
                let failure = Failure::new(ErrorCode::ReplicaFailed, message);
                self.fault(replica, &failure);
                return Tried::Failed(failure);
            }
        };
        replica.known.lock().standing.answered(Instant::now());
        let mut response = InferResponse::default();
        for spec in self.asked_for(request) {
            let Some(place) = outputs.iter().position(|output| output.name == spec.name) else {
                let message = format!(
                    "replica `{}` answered without output `{}`",
                    replica.address, spec.name
                );
                return Tried::Failed(Failure::new(ErrorCode::ReplicaFailed, message));
            };
            response.outputs.push(outputs.swap_remove(place));
        }
        // What V2 says in its body may be a gateway's own.
        let said = Some(&*said).filter(|said| peer != Peer::V2 && !said.is_empty());
        response.served_by = Some(Box::new(ServedBy {
            version: text(&heard.headers, VERSION).or(said).map(Into::into),
            revision: revision.map(Into::into),
        }));
        Tried::Answered(Box::new(response))
    }

    /// Whether an answer of this revision may be given to a caller now. What is new is taken note of.
    fn delivers(&self, replica: &Replica, revision: Option<&str>, serves: Serves) -> bool {
        let Some(number) = serves.number() else { return true };
        // As it almost always is: the one that callers are given.
        if self.current() == Some(number) {
            return true;
        }
        replica.known.lock().hears(revision, false);
        self.settle();
        self.gate.lock().delivers(serves)
    }

    /// A connection was lost: nobody is sent there until it answers a look again.
    fn lost(&self, replica: &Replica, loss: &Loss) -> Tried {
        replica.failures.fetch_add(1, Relaxed);
        replica.known.lock().standing.failing(loss.why.clone());
        self.settle();
        let message = format!("replica `{}` gave no answer: {}", replica.address, loss.why);
        Tried::Retryable(Failure::new(ErrorCode::ReplicaLost, message))
    }

    /// It says itself that it is at fault. The last one that is left goes on being asked: the fault may
    /// be the request's.
    fn fault(&self, replica: &Replica, failure: &Failure) {
        replica.failures.fetch_add(1, Relaxed);
        let others = self
            .upstream
            .replicas
            .iter()
            .any(|other| !std::ptr::eq(&**other, replica) && other.is_open());
        if others {
            let why = format!("answered {}: {}", failure.http_status(), failure.code);
            replica.known.lock().standing.fault(why, Instant::now());
            self.settle();
        }
    }

    fn nobody(&self) -> Failure {
        let now = Instant::now();
        let lagging = self.upstream.replicas.iter().any(|replica| replica.seen(now).healthy);
        if lagging && self.current().is_some() {
            return self.behind();
        }
        let why = |replica: &Arc<Replica>| {
            let known = replica.known.lock();
            let why = known.standing.why_not(now).unwrap_or("another revision");
            format!("`{}`: {why}", replica.address)
        };
        let each: Vec<_> = self.upstream.replicas.iter().map(why).collect();
        let message = format!("none of the replicas can be asked ({})", each.join("; "));
        Failure::new(ErrorCode::ReplicaUnavailable, message)
            .with_retry_after(Duration::from_secs(1))
    }

    fn behind(&self) -> Failure {
        let current = self.current().unwrap_or_default();
        let message = format!(
            "callers have been given revision r{current} already, and of the replicas {} none serves it now",
            self.upstream.names()
        );
        Failure::new(ErrorCode::ReplicaBehind, message).with_retry_after(Duration::from_secs(1))
    }

    fn asked_for(&self, request: &InferRequest) -> SmallVec<[&dukou_types::TensorSpec; 4]> {
        let outputs = &self.signature.outputs;
        match &request.outputs {
            Requested::All => outputs.iter().collect(),
            Requested::Only(positions) => {
                positions.iter().filter_map(|p| outputs.get(*p)).collect()
            }
        }
    }

    fn write(&self, request: &InferRequest) -> Result<Written, Failure> {
        let asked = self.asked_for(request);
        let names: SmallVec<[&str; 4]> = match request.outputs {
            Requested::All => SmallVec::new(),
            Requested::Only(_) => asked.iter().map(|spec| &*spec.name).collect(),
        };
        let mut parameters = request.parameters.clone();
        if request.priority > 0 {
            parameters.push(("priority".into(), Param::Int(request.priority.into())));
        }
        let question = Question {
            inputs: &request.inputs,
            signature: &self.signature,
            outputs: &names,
            parameters: &parameters,
        };
        self.upstream.peer.encode(self.upstream.named(), &question)
    }

    fn request(
        &self,
        replica: &Replica,
        written: &Written,
        request: &InferRequest,
    ) -> Result<Request<Full<Bytes>>, Loss> {
        let mut head = self
            .upstream
            .head(Method::POST, replica, replica.infer.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static(written.content_type));
        if let Some(length) = written.header_length {
            head = head.header(HEADER_LENGTH, length);
        }
        if let Some(deadline) = request.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            head = if self.upstream.peer.is_grpc() {
                head.header(GRPC_TIMEOUT, grpc::format_timeout(left))
            } else {
                let left = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1);
                head.header(TIMEOUT, left)
            };
        }
        if let Some(trace) = request.trace {
            let parent = trace.sent_by(draw()).to_string();
            head = head.header(TRACEPARENT, parent);
        }
        head.body(Full::new(written.body.clone()))
            .map_err(|error| Loss { why: error.to_string(), unheard: true })
    }
}
