//! A backend that does what it is told, and remembers what was asked of it.

use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use dukou_exec::{Batch, Execute, Sink};
use dukou_types::{
    Buffer, DType, Data, ErrorCode, Failure, InferRequest, InferResponse, Signature, Tensor,
};
use smallvec::smallvec;

/// What a request makes the backend do: a function of the value of its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Answer with twice the input.
    Answer,
    /// Fail the whole run and hand every request back: what a bad row does to a runtime.
    FailRun,
    /// Fail this request alone, and keep it.
    FailAlone,
    /// Panic before anything is answered.
    Panic,
    /// Say nothing about this request.
    Silence,
    /// Answer twice.
    Twice,
}

/// A run that the backend saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// On which instance.
    pub instance: usize,
    /// The requests' ids, in the order of the batch.
    pub ids: Vec<u64>,
    /// Rows of all of them.
    pub rows: usize,
    /// Bytes of their inputs.
    pub bytes: usize,
}

/// The backend: `y = 2 x`, unless a request's first element says otherwise.
pub struct Fake {
    signature: Signature,
    deed: fn(f32) -> Deed,
    gate: Gate,
    busy: Box<[AtomicBool]>,
    overlapped: AtomicBool,
    seen: Mutex<Vec<Seen>>,
    given_back: AtomicUsize,
}

impl Fake {
    /// A backend with this many instances.
    pub fn new(signature: Signature, instances: usize) -> Self {
        Self {
            signature,
            deed: |_| Deed::Answer,
            gate: Gate::default(),
            busy: (0..instances).map(|_| AtomicBool::new(false)).collect(),
            overlapped: AtomicBool::new(false),
            seen: Mutex::default(),
            given_back: AtomicUsize::new(0),
        }
    }

    /// The same, where the value of a request's elements says what is done about it.
    #[must_use]
    pub fn doing(mut self, deed: fn(f32) -> Deed) -> Self {
        self.deed = deed;
        self
    }

    /// The same, with runs that wait at this gate.
    #[must_use]
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = gate.clone();
        self
    }

    /// All runs so far.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    /// Whether two runs of one instance ever overlapped.
    pub fn overlapped(&self) -> bool {
        self.overlapped.load(Ordering::Acquire)
    }

    /// Buffers that were given back.
    pub fn given_back(&self) -> usize {
        self.given_back.load(Ordering::Acquire)
    }

    fn deed_of(&self, request: &InferRequest) -> Deed {
        let first = request.inputs.first().and_then(|x| x.typed::<f32>()?.first().copied());
        (self.deed)(first.unwrap_or_default())
    }
}

impl Execute for Fake {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn instances(&self) -> usize {
        self.busy.len()
    }

    fn lease(&self, _input: usize, bytes: usize) -> Buffer {
        Buffer::zeroed(bytes)
    }

    fn give_back(&self, _buffer: Buffer) {
        self.given_back.fetch_add(1, Ordering::AcqRel);
    }

    #[allow(clippy::panic, reason = "a test asks for it")]
    fn run(&self, instance: usize, batch: Batch, sink: &mut dyn Sink) {
        if self.busy[instance].swap(true, Ordering::AcqRel) {
            self.overlapped.store(true, Ordering::Release);
        }
        lock(&self.seen).push(Seen {
            instance,
            ids: batch.requests.iter().map(|request| request.id.0).collect(),
            rows: batch.rows(),
            bytes: batch.requests.iter().map(InferRequest::size).sum(),
        });
        self.gate.pass();
        let deeds: Vec<Deed> = batch.requests.iter().map(|request| self.deed_of(request)).collect();
        self.busy[instance].store(false, Ordering::Release);
        assert!(!deeds.contains(&Deed::Panic), "told to panic");
        if deeds.contains(&Deed::FailRun) {
            for (slot, request) in batch.requests.into_iter().enumerate() {
                sink.respond(slot, Err(refused()));
                sink.hand_back(slot, request);
            }
            return;
        }
        for (slot, (request, deed)) in batch.requests.into_iter().zip(deeds).enumerate() {
            match deed {
                Deed::Silence => {}
                Deed::FailAlone => sink.respond(slot, Err(refused())),
                Deed::Twice => {
                    sink.respond(slot, Ok(doubled(&request)));
                    sink.respond(slot, Ok(doubled(&request)));
                }
                _ => sink.respond(slot, Ok(doubled(&request))),
            }
        }
    }
}

fn refused() -> Failure {
    Failure::new(ErrorCode::RequestRejectedByModel, "told to fail")
}

fn doubled(request: &InferRequest) -> InferResponse {
    let x = &request.inputs[0];
    let mut buffer = Buffer::zeroed(x.size());
    for (y, x) in buffer.typed_mut::<f32>().iter_mut().zip(x.typed::<f32>().unwrap_or_default()) {
        *y = 2.0 * x;
    }
    let y = Tensor {
        name: "y".into(),
        dtype: DType::Fp32,
        shape: x.shape.clone(),
        data: Data::Owned(buffer),
    };
    InferResponse { outputs: smallvec![y], parameters: Vec::new(), served_by: None }
}

/// Where runs wait while it is closed. Open at first. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Debug, Default)]
struct GateState {
    closed: bool,
    waiting: usize,
}

impl Gate {
    /// Runs wait from now on.
    pub fn close(&self) {
        lock(&self.0.0).closed = true;
    }

    /// Those that wait go on, and later ones do not wait.
    pub fn open(&self) {
        lock(&self.0.0).closed = false;
        self.0.1.notify_all();
    }

    /// Waits until this many runs wait here.
    pub fn wait_for(&self, runs: usize) {
        let mut state = lock(&self.0.0);
        while state.waiting < runs {
            state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn pass(&self) {
        let mut state = lock(&self.0.0);
        if !state.closed {
            return;
        }
        state.waiting += 1;
        self.0.1.notify_all();
        while state.closed {
            state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
