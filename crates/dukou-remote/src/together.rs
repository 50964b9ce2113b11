//! Requests of one turn of a worker's event loop, asked together.
//!
//! Every connection that the kernel had reported readable is read and decoded in one turn; whoever is
//! the first of them waits for that turn's end and then asks for all. Where answers are short they go as
//! one call, for a call costs as much for eight rows as for one; else they are spread over the replicas that
//! have nothing to do. What rides together is asked and answered along the first dimension, only where
//! every replica has said that a row's answer does not depend on its neighbours.

use std::{
    cell::RefCell,
    pin::pin,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use dukou_types::{
    Buffer, Data, ErrorCode, Failure, InferRequest, InferResponse, SharedBytes, Tensor,
};
use smallvec::SmallVec;
use tokio::{select, sync::oneshot, task::yield_now};

use crate::remote::{Answered, Remote, Unanswered};

/// A request that is larger travels alone: copying it beside others would cost more than a call.
const SMALL: usize = 32 * 1024;
/// Requests of one call.
const MOST: usize = 64;

/// A request that waits for its turn's end.
struct Rider {
    request: InferRequest,
    reply: oneshot::Sender<Result<Answered, Failure>>,
}

/// Those of one turn of this thread, by model.
type Turns = Vec<(Weak<Remote>, Vec<Rider>)>;

thread_local! {
    static TURNS: RefCell<Turns> = const { RefCell::new(Vec::new()) };
}

/// Whether this request may ride beside others, as far as it is its own matter. One whose trace is
/// recorded travels alone, so that its span goes on at the replica.
pub fn may_ride(request: &InferRequest) -> bool {
    let rows = request.rows();
    rows > 0
        && request.size() <= SMALL
        && request.trace.is_none_or(|trace| trace.flags & 1 == 0)
        && request.inputs.iter().all(|input| !input.shape.is_empty() && input.rows() == rows)
}

/// Has the replicas answer, beside whatever else comes in this turn.
///
/// # Errors
/// Those of [`Remote::answer`].
pub async fn ask(remote: &Arc<Remote>, request: InferRequest) -> Result<Answered, Failure> {
    let (reply, hear) = oneshot::channel();
    if join(remote, Rider { request, reply }) {
        let lead = Lead(remote);
        yield_now().await;
        let mut riders = lead.take();
        if riders.len() == 1
            && let Some(alone) = riders.pop()
        {
            return remote.alone(&alone.request).await;
        }
        send(remote, riders);
    }
    let ended = || Failure::new(ErrorCode::ServerDraining, "the server ended before the answer");
    hear.await.unwrap_or_else(|_| Err(ended()))
}

/// Joins this turn's riders; says whether it is the first.
fn join(remote: &Arc<Remote>, rider: Rider) -> bool {
    TURNS.with_borrow_mut(|turns| {
        if let Some((_, riders)) = turns.iter_mut().find(|(of, _)| is(of, remote)) {
            riders.push(rider);
            return riders.len() == 1;
        }
        turns.retain(|(of, _)| of.strong_count() > 0);
        turns.push((Arc::downgrade(remote), vec![rider]));
        true
    })
}

fn is(of: &Weak<Remote>, remote: &Arc<Remote>) -> bool {
    std::ptr::eq(of.as_ptr(), Arc::as_ptr(remote))
}

/// Whoever came first. Where he leaves before the turn's end, the others are asked for all the same.
struct Lead<'r>(&'r Arc<Remote>);

impl Lead<'_> {
    /// All riders of this turn.
    fn take(&self) -> Vec<Rider> {
        TURNS.with_borrow_mut(|turns| {
            let turn = turns.iter_mut().find(|(of, _)| is(of, self.0));
            turn.map(|(_, riders)| std::mem::take(riders)).unwrap_or_default()
        })
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let left = self.take();
        if !left.is_empty() {
            send(self.0, left);
        }
    }
}

/// Asks for riders: those that fit together in as many calls as is best.
fn send(remote: &Arc<Remote>, riders: Vec<Rider>) {
    let mut alike: SmallVec<[Vec<Rider>; 2]> = SmallVec::new();
    for rider in riders {
        if rider.reply.is_closed() {
            continue;
        }
        match alike.iter_mut().find(|of| fits(&of[0].request, &rider.request)) {
            Some(of) => of.push(rider),
            None => alike.push(vec![rider]),
        }
    }
    for mut riders in alike {
        let calls = remote.calls().min(riders.len()).max(riders.len().div_ceil(MOST));
        for left in (1..=calls).rev() {
            let rest = riders.split_off(riders.len().div_ceil(left).min(riders.len()));
            let call = std::mem::replace(&mut riders, rest);
            tokio::spawn(call_for(Arc::clone(remote), call));
        }
    }
}

/// Whether two can be one call: the same is asked of rows of the same form.
fn fits(a: &InferRequest, b: &InferRequest) -> bool {
    a.outputs == b.outputs
        && a.priority == b.priority
        && a.parameters == b.parameters
        && a.inputs.len() == b.inputs.len()
        && a.inputs.iter().zip(&b.inputs).all(|(x, y)| {
            x.dtype == y.dtype && x.shape.len() == y.shape.len() && x.shape[1..] == y.shape[1..]
        })
}

/// One call for these, and each of them its own where that is not the answer to all. It ends when nobody
/// waits for it any more, and its connection with it.
async fn call_for(remote: Arc<Remote>, mut riders: Vec<Rider>) {
    let answered = {
        let (requests, mut replies): (Vec<_>, Vec<_>) =
            riders.iter_mut().map(|rider| (&rider.request, &mut rider.reply)).unzip();
        let call = pin!(answer_all(&remote, &requests));
        let nobody = pin!(async {
            for reply in &mut replies {
                reply.closed().await;
            }
        });
        select! {
            biased;
            answered = call => answered,
            () = nobody => return,
        }
    };
    match answered {
        Some(answers) => {
            for (rider, answer) in riders.into_iter().zip(answers) {
                let _gone = rider.reply.send(answer);
            }
        }
        None => {
            for rider in riders {
                tokio::spawn(single(Arc::clone(&remote), rider));
            }
        }
    }
}

/// A request by itself, for as long as somebody waits for it.
async fn single(remote: Arc<Remote>, mut rider: Rider) {
    let answered = {
        let call = pin!(remote.alone(&rider.request));
        select! {
            biased;
            answered = call => answered,
            () = rider.reply.closed() => return,
        }
    };
    let _gone = rider.reply.send(answered);
}

/// The answers in the order of the requests; none where each has to ask for itself.
async fn answer_all(
    remote: &Remote,
    requests: &[&InferRequest],
) -> Option<Vec<Result<Answered, Failure>>> {
    if let [only] = requests {
        return Some(vec![remote.alone(only).await]);
    }
    let all = merged(requests)?;
    match remote.together(&all, requests.len()).await {
        Ok(answered) => {
            let rows = all.rows();
            let parts = split(&answered.response, requests.iter().map(|r| r.rows()), rows)?;
            let took = answered.took;
            let answers = parts.into_iter().enumerate().map(|(position, response)| {
                let counts = position == 0;
                Ok(Answered { response, took, rows, requests: requests.len(), counts })
            });
            Some(answers.collect())
        }
        Err(Unanswered::Failed(failure)) if is_of_all(&failure) => {
            Some(requests.iter().map(|_| Err(failure.clone())).collect())
        }
        // One of them may be at fault, or the rows do not ride any more.
        Err(Unanswered::Failed(_) | Unanswered::Apart) => None,
    }
}

/// Whether a failure says nothing of what was asked.
fn is_of_all(failure: &Failure) -> bool {
    use ErrorCode::{
        LimitsDeadline, ReplicaBehind, ReplicaLost, ReplicaUnavailable, ServerDraining,
    };
    matches!(
        failure.code,
        ReplicaUnavailable | ReplicaLost | ReplicaBehind | LimitsDeadline | ServerDraining
    ) || matches!(failure.http_status(), 401 | 403 | 404 | 429)
}

/// One request with the rows of all; none where they are too many to be counted.
fn merged(requests: &[&InferRequest]) -> Option<InferRequest> {
    let first = requests.first()?;
    let mut inputs = SmallVec::new();
    for position in 0..first.inputs.len() {
        let of_each = || requests.iter().map(|request| &request.inputs[position]);
        let input = &first.inputs[position];
        let mut shape = input.shape.clone();
        shape[0] = of_each().map(Tensor::rows).sum();
        let data = match &input.data {
            Data::Strings(_) => Data::Strings(
                of_each().filter_map(Tensor::strings).flatten().cloned().collect::<Vec<Bytes>>(),
            ),
            Data::Owned(_) | Data::Shared(_) => {
                let mut all = Buffer::zeroed(of_each().map(Tensor::size).sum());
                let mut place = 0;
                for bytes in of_each().filter_map(Tensor::bytes) {
                    all.bytes_mut()[place..place + bytes.len()].copy_from_slice(bytes);
                    place += bytes.len();
                }
                Data::Owned(all)
            }
        };
        inputs.push(Tensor { name: Arc::clone(&input.name), dtype: input.dtype, shape, data });
    }
    // The last of them decides how long the call may take; who has less time leaves earlier.
    let deadline = requests.iter().map(|request| request.deadline).collect::<Option<Vec<_>>>();
    let deadline = deadline.and_then(|each| each.into_iter().max());
    Some(InferRequest {
        deadline,
        trace: first.trace,
        priority: first.priority,
        parameters: first.parameters.clone(),
        outputs: first.outputs.clone(),
        ..InferRequest::new(first.id, first.principal.clone(), inputs)
    })
}

/// An answer's rows to each its own; none where an output has not the rows that were asked.
fn split(
    response: &InferResponse,
    rows: impl Iterator<Item = usize> + Clone,
    total: usize,
) -> Option<Vec<InferResponse>> {
    let like = || InferResponse {
        outputs: SmallVec::new(),
        parameters: response.parameters.clone(),
        served_by: response.served_by.clone(),
    };
    let mut parts: Vec<InferResponse> = rows.clone().map(|_| like()).collect();
    for output in &response.outputs {
        if output.shape.first() != Some(&total) {
            return None;
        }
        let whole = match &output.data {
            Data::Owned(buffer) => Some(SharedBytes::new(Arc::new(buffer.clone()))),
            Data::Shared(shared) => Some(shared.clone()),
            Data::Strings(_) => None,
        };
        let mut begin = 0;
        for (part, rows) in parts.iter_mut().zip(rows.clone()) {
            let end = begin + rows;
            let data = match (&output.data, &whole) {
                (Data::Strings(strings), _) => {
                    let row = strings.len() / total;
                    Data::Strings(strings.get(begin * row..end * row)?.to_vec())
                }
                (_, Some(whole)) => {
                    let row = whole.as_ref().len() / total;
                    Data::Shared(whole.slice(begin * row..end * row)?)
                }
                (_, None) => return None,
            };
            let mut shape = output.shape.clone();
            shape[0] = rows;
            let (name, dtype) = (Arc::clone(&output.name), output.dtype);
            part.outputs.push(Tensor { name, dtype, shape, data });
            begin = end;
        }
    }
    Some(parts)
}

#[cfg(test)]
#[path = "together_test.rs"]
mod tests;
