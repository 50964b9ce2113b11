//! cache: the seventh room. An answer that is known need not be computed.
//!
//! It stands behind authorization and decoding, sees the request with its principal and the lane with
//! its version, and wraps the rest of the path, so that many askers of one thing wait for one run. A
//! model has a cache where its table says so: whether the model always gives the same answer to the same
//! question is that table's word.
//!
//! What holds, whatever is asked and swapped: an answer goes to whoever asked exactly the same of the same
//! loaded version as the same principal; a failure is kept by nobody; the bytes that are kept never exceed
//! the table's.

mod answer;
mod question;
mod store;

use std::future::Future;

use dukou_batch::Ride;
use dukou_types::{Failure, InferRequest, InferResponse};

use crate::{serving::Lane, way::Way};
pub use store::{Cache, Kept};

/// What the rest of the path answers.
pub type Ran = Result<(InferResponse, Ride), Failure>;

/// How a request that the cache looked at came to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The answer was known.
    Hit,
    /// Somebody was asking the same already, and this one waited with them.
    Wait,
    /// It was run.
    Miss,
}

impl Found {
    /// Each; the position is its index in counters.
    pub const ALL: [Self; 3] = [Self::Hit, Self::Wait, Self::Miss];

    /// As `dukou-cache`, the log and metrics say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Wait => "wait",
            Self::Miss => "miss",
        }
    }
}

/// An answer, and how it came about.
#[derive(Debug)]
pub struct Answered {
    /// The answer.
    pub response: InferResponse,
    /// The run; none where the request was not run.
    pub ride: Option<Ride>,
    /// What the cache did; none where the model has none.
    pub found: Option<Found>,
}

/// Answers from the cache, or by the rest of the path.
///
/// # Errors
/// Those of the rest of the path, which are never kept. `limits.deadline` where this request's time was
/// over while it waited for another's run.
pub async fn through<R>(
    lane: &Lane,
    request: InferRequest,
    rest: impl FnOnce(InferRequest) -> R,
) -> Result<Answered, Failure>
where
    R: Future<Output = Ran>,
{
    // What other servers answer has a revision that may not be given any more; what a graph answers is
    // kept part by part.
    if let (Some(cache), Way::Local { execute, .. }) = (&lane.cache, &lane.version.way) {
        return cache.answer(lane.version.identity, &**execute, request, rest).await;
    }
    let (response, ride) = rest(request).await?;
    Ok(Answered { response, ride: Some(ride), found: None })
}
