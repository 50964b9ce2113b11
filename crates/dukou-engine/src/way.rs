//! The way from a decoded request to its answer: this process's own run, other servers, or a graph of
//! other models. Which one it is was decided when the table was compiled.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use dukou_batch::{Batcher, Observe as _, Ride, Settings};
use dukou_exec::Execute;
use dukou_remote::Remote;
use dukou_types::{Buffer, ErrorCode, Failure, InferRequest};
use tokio::time::timeout_at;

use crate::{
    cache::Ran,
    graph::{Graph, run},
    serving::{Lane, Serving},
};

/// How a version answers.
pub enum Way {
    /// It is run here, with those that come at the same time.
    Local {
        /// What runs it.
        execute: Arc<dyn Execute>,
        /// Where requests wait for it. Its caps are those of the table being served.
        batcher: Batcher,
    },
    /// Other servers answer.
    Remote(Arc<Remote>),
    /// Other models of the table answer, one after the other or side by side.
    Graph(Arc<Graph>),
}

impl Way {
    /// A buffer for the input at this position: the backend's own, so that nothing is copied to run it.
    pub fn lease(&self, input: usize, bytes: usize) -> Buffer {
        match self {
            Self::Local { execute, .. } => execute.lease(input, bytes),
            Self::Remote(_) | Self::Graph(_) => Buffer::zeroed(bytes),
        }
    }

    /// Requests that wait now.
    pub fn queued(&self) -> usize {
        match self {
            Self::Local { batcher, .. } => batcher.queued(),
            Self::Remote(_) | Self::Graph(_) => 0,
        }
    }

    /// Puts other caps in place.
    pub fn set(&self, settings: Settings) {
        if let Self::Local { batcher, .. } = self {
            batcher.set(settings);
        }
    }

    /// The remote model, where it is one.
    pub const fn remote(&self) -> Option<&Arc<Remote>> {
        match self {
            Self::Remote(remote) => Some(remote),
            Self::Local { .. } | Self::Graph(_) => None,
        }
    }

    /// Whether it needs the other models of its table.
    pub const fn is_graph(&self) -> bool {
        matches!(self, Self::Graph(_))
    }

    /// What runs it, in the protocol's words.
    pub const fn platform(&self) -> &'static str {
        match self {
            Self::Local { .. } => "onnxruntime_onnx",
            Self::Remote(_) => "dukou_remote",
            Self::Graph(_) => "ensemble",
        }
    }
}

/// Has the lane's version answer. Leaving early cancels it, wherever it is by then.
///
/// `table` is what a graph finds its models in.
///
/// # Errors
/// What whoever answers said; `limits.deadline`.
pub async fn answer(
    lane: &Lane,
    table: Option<&Arc<Serving>>,
    request: InferRequest,
    deadline: Instant,
) -> Ran {
    match &lane.version.way {
        Way::Local { batcher, .. } => {
            // batch and run: the queue owns the request from here; leaving early cancels it there.
            let ride = batcher.submit(request, Arc::clone(&lane.counters) as _);
            // An inline run is over before a timer could fire; a pooled one may be any time away.
            if batcher.is_inline() { ride.await } else { before(deadline, ride).await? }
        }
        Way::Remote(remote) => {
            let asked = Box::pin(before(deadline, remote.answer(request)));
            let answered = asked.await??;
            if answered.counts {
                lane.counters.ran(answered.rows, answered.took);
            }
            let ride = elsewhere(answered.rows, answered.took);
            Ok((answered.response, Ride { requests: answered.requests, ..ride }))
        }
        Way::Graph(graph) => {
            let table = table.ok_or_else(|| {
                Failure::new(ErrorCode::EngineInternal, "a graph was asked without its table")
            })?;
            let (rows, began) = (request.rows(), Instant::now());
            let response = before(deadline, run(graph, table, request, deadline)).await??;
            let took = began.elapsed();
            lane.counters.ran(rows, took);
            Ok((response, elsewhere(rows, took)))
        }
    }
}

/// The ride of a request that waited in no queue of ours.
const fn elsewhere(rows: usize, compute: Duration) -> Ride {
    Ride { queue: Duration::ZERO, compute, rows, requests: 1 }
}

/// Waits for `rest` until the deadline.
///
/// # Errors
/// `limits.deadline`.
pub async fn before<F: Future>(deadline: Instant, rest: F) -> Result<F::Output, Failure> {
    timeout_at(deadline.into(), rest).await.map_err(|_| {
        Failure::new(ErrorCode::LimitsDeadline, "the deadline passed before the answer was known")
    })
}
