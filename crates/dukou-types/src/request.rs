//! A request for inference and its answer: the only two types that cross every room.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use smallvec::SmallVec;

use crate::{RequestId, Tensor, Trace};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Nobody that is known: a request that was refused before it said who asks.
    Unknown,
    /// Nobody named, on this machine's own loopback.
    Loopback,
    /// Nobody named, from anywhere.
    Anonymous,
    /// A named principal.
    Named(Arc<str>),
    /// The engine itself: golden samples, warm-up.
    Engine,
}

/// A parameter that a client gave with its request.
#[derive(Clone, Debug, PartialEq)]
pub enum Param {
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number.
    Double(f64),
    /// A text.
    String(Arc<str>),
}

/// Which outputs the client wants.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Requested {
    /// All, in the signature's order.
    #[default]
    All,
    /// Those at these positions of the signature, in this order.
    Only(SmallVec<[usize; 4]>),
}

/// Set once the asker has gone. Shared by the door and the queue.
#[derive(Clone, Debug, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// The asker is gone: work that has not begun is dropped.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the asker is gone.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// One request, decoded against the signature of the version that will answer it.
#[derive(Clone, Debug)]
pub struct InferRequest {
    /// The engine's id.
    pub id: RequestId,
    /// The client's own id, to be given back.
    pub client_id: Option<Arc<str>>,
    /// Who asks.
    pub principal: Principal,
    /// When the answer stops being of use.
    pub deadline: Option<Instant>,
    /// Whether the asker is still there.
    pub cancel: CancelFlag,
    /// The trace that it belongs to; none for what the engine asks itself.
    pub trace: Option<Trace>,
    /// 0 is the default; 1 the most urgent, larger numbers less so.
    pub priority: u32,
    /// Anything else that the client said.
    pub parameters: Vec<(Arc<str>, Param)>,
    /// One tensor an input, **in the signature's order**.
    pub inputs: SmallVec<[Tensor; 2]>,
    /// Which outputs to answer.
    pub outputs: Requested,
}

impl InferRequest {
    /// A request with these inputs and nothing else said.
    pub fn new(id: RequestId, principal: Principal, inputs: SmallVec<[Tensor; 2]>) -> Self {
        Self {
            id,
            client_id: None,
            principal,
            deadline: None,
            cancel: CancelFlag::default(),
            trace: None,
            priority: 0,
            parameters: Vec::new(),
            inputs,
            outputs: Requested::All,
        }
    }

    /// Rows along the first dimension of the first input; 1 where there is none.
    pub fn rows(&self) -> usize {
        self.inputs.first().map_or(1, Tensor::rows)
    }

    /// Bytes of all inputs.
    pub fn size(&self) -> usize {
        self.inputs.iter().map(Tensor::size).sum()
    }
}

/// One answer: the requested outputs, in the requested order.
#[derive(Clone, Debug, Default)]
pub struct InferResponse {
    /// The outputs.
    pub outputs: SmallVec<[Tensor; 2]>,
    /// Anything the model said besides.
    pub parameters: Vec<(Arc<str>, Param)>,
    /// Who answered, where that was another server.
    pub served_by: Option<Box<ServedBy>>,
}

impl InferResponse {
    /// The version that answered, where another server said it.
    pub fn version(&self) -> Option<&str> {
        self.served_by.as_ref()?.version.as_deref()
    }
}

/// What another server said of the version that answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServedBy {
    /// Its version.
    pub version: Option<Arc<str>>,
    /// The revision of the table that chose it.
    pub revision: Option<Arc<str>>,
}
