//! cache: the seventh room. An answer that is known need not be computed.
//!
//! Its boundary is the final one: it stands behind authorization and decoding, sees the request with
//! its principal and the lane with its version's digest, and wraps the rest of the path, so that many
//! askers of one thing can wait for one run. No table can ask for a cache yet: everything passes.

use std::future::Future;

use dukou_batch::Ride;
use dukou_types::{Failure, InferRequest, InferResponse};

use crate::serving::Lane;

/// What the rest of the path answers.
pub type Answered = Result<(InferResponse, Ride), Failure>;

/// Answers from the cache, or by the rest of the path.
///
/// # Errors
/// Those of the rest of the path, which are never kept.
pub async fn through<R>(
    _lane: &Lane,
    request: InferRequest,
    rest: impl FnOnce(InferRequest) -> R,
) -> Answered
where
    R: Future<Output = Answered>,
{
    rest(request).await
}
