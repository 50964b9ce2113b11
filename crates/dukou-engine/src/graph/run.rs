//! Runs a graph: each node as soon as what it needs is there, side by side where they can.
//!
//! The request's deadline, trace and principal go with every node. What one node makes is shared by
//! those that need it; nothing is copied. The first node that fails ends the others.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Instant,
};

use dukou_types::{
    CancelFlag, Data, Dim, ErrorCode, Failure, InferRequest, InferResponse, Requested, SharedBytes,
    Signature, Tensor,
};
use smallvec::SmallVec;

use super::{From, Graph, Kind, Member, Step, combine::combine};
use crate::{
    admit,
    cache::{self, Answered},
    counters::RequestCount,
    serving::{Lane, Serving},
    table::Dialect,
    way,
};

/// What a node made: by position in its model's signature; none where nobody needs it.
type Made = Vec<Option<Tensor>>;
/// A node that is being answered.
type Answering<'a> = Pin<Box<dyn Future<Output = Result<Made, Failure>> + Send + 'a>>;

/// Answers a request by the nodes of a graph.
pub fn run<'a>(
    graph: &'a Graph,
    table: &'a Arc<Serving>,
    request: InferRequest,
    deadline: Instant,
) -> Pin<Box<dyn Future<Output = Result<InferResponse, Failure>> + Send + 'a>> {
    Box::pin(async move {
        let inputs = request.inputs.iter().cloned().map(shared).collect();
        let asked =
            Asked { table, request: InferRequest { inputs: SmallVec::new(), ..request }, deadline };
        let mut run = Run { graph, inputs, made: graph.steps.iter().map(|_| None).collect() };
        run.all(&asked).await?;
        run.response(&asked.request.outputs)
    })
}

/// What every node of one request is asked with.
struct Asked<'a> {
    table: &'a Arc<Serving>,
    /// Without its inputs.
    request: InferRequest,
    deadline: Instant,
}

/// One request on its way through the graph.
struct Run<'a> {
    graph: &'a Graph,
    inputs: Vec<Tensor>,
    made: Vec<Option<Made>>,
}

impl<'a> Run<'a> {
    async fn all(&mut self, asked: &Asked<'a>) -> Result<(), Failure> {
        let mut begun = vec![false; self.graph.steps.len()];
        let mut answering: Vec<(usize, Answering<'_>)> = Vec::new();
        loop {
            for (index, step) in self.graph.steps.iter().enumerate() {
                let ready = step.needs.iter().all(|need| self.made[*need].is_some());
                if !begun[index] && ready {
                    begun[index] = true;
                    answering.push((index, self.begin(step, asked)?));
                }
            }
            if answering.is_empty() {
                return Ok(());
            }
            let (place, made) = poll_fn(|context| {
                let polled = answering.iter_mut().enumerate().find_map(|(place, (_, step))| {
                    match step.as_mut().poll(context) {
                        Poll::Ready(made) => Some((place, made)),
                        Poll::Pending => None,
                    }
                });
                polled.map_or(Poll::Pending, Poll::Ready)
            })
            .await;
            let (index, _) = answering.swap_remove(place);
            self.made[index] = Some(made?);
        }
    }

    fn begin<'r>(&self, step: &'a Step, asked: &'r Asked<'a>) -> Result<Answering<'r>, Failure>
    where
        'a: 'r,
    {
        let inputs =
            step.inputs.iter().map(|from| self.tensor(*from)).collect::<Result<Vec<_>, _>>()?;
        let member = match &step.kind {
            Kind::Model(member) => member,
            Kind::Switch { on, cases, otherwise } => {
                let value = self.tensor(*on).and_then(|tensor| value(&tensor));
                let chosen = value.and_then(|value| {
                    let case = cases.iter().find(|(case, _)| **case == *value);
                    let member = case.map(|(_, member)| member).or(otherwise.as_ref());
                    member.ok_or_else(|| no_case(&value, cases))
                });
                chosen.map_err(|failure| named(step, None, failure))?
            }
            Kind::Ensemble { combine: how, weights } => {
                let combined = combine(*how, &inputs, weights);
                let made = combined.map(|tensor| vec![Some(tensor)]);
                let made = made.map_err(|failure| named(step, None, failure));
                return Ok(Box::pin(std::future::ready(made)));
            }
        };
        Ok(Box::pin(async move {
            let answered = ask(step, member, inputs, asked).await;
            answered.map_err(|failure| named(step, Some(member), failure))
        }))
    }

    /// A tensor that is there already.
    fn tensor(&self, from: From) -> Result<Tensor, Failure> {
        let found = match from {
            From::Input(position) => self.inputs.get(position),
            From::Step { step, output } => {
                self.made[step].as_ref().and_then(|made| made.get(output)?.as_ref())
            }
        };
        found.cloned().ok_or_else(|| {
            Failure::new(
                ErrorCode::EngineInternal,
                "a node was begun before what it needs was there",
            )
        })
    }

    fn response(&self, requested: &Requested) -> Result<InferResponse, Failure> {
        let output = |position: usize| {
            let spec = &self.graph.signature.outputs[position];
            let tensor = self.tensor(self.graph.outputs[position])?;
            Ok(Tensor { name: spec.name.clone(), ..tensor })
        };
        let outputs: Result<_, Failure> = match requested {
            Requested::All => (0..self.graph.outputs.len()).map(output).collect(),
            Requested::Only(positions) => positions.iter().map(|p| output(*p)).collect(),
        };
        Ok(InferResponse { outputs: outputs?, ..InferResponse::default() })
    }
}

/// Has a model of the table answer, as any caller's request would be: it holds a place, is counted, and
/// goes through the model's cache and queue.
async fn ask(
    step: &Step,
    member: &Member,
    mut inputs: Vec<Tensor>,
    asked: &Asked<'_>,
) -> Result<Made, Failure> {
    let (model, _place) = admit::admit(asked.table, &member.model)?;
    let lane = match &member.version {
        None => model.draw(asked.request.id.0),
        Some(label) => model.labelled(label.as_str()).ok_or_else(|| {
            Failure::new(
                ErrorCode::RequestUnknownVersion,
                format!("`{}` has no version `{label}`", model.name),
            )
        })?,
    };
    let signature = &lane.version.signature;
    fit(&mut inputs, signature)?;
    let request = InferRequest {
        // Of its own: leaving one node says nothing of the others.
        cancel: CancelFlag::default(),
        parameters: Vec::new(),
        client_id: None,
        inputs: inputs.into(),
        outputs: Requested::Only(step.wanted.clone()),
        ..asked.request.clone()
    };
    let (rows, began) = (request.rows(), Instant::now());
    let answered = cache::through(lane, request, |request| {
        way::answer(lane, Some(asked.table), request, asked.deadline)
    })
    .await;
    count(lane, rows, began, &answered);
    let Answered { response, .. } = answered?;
    let mut made: Made = signature.outputs.iter().map(|_| None).collect();
    if response.outputs.len() != step.wanted.len() {
        return Err(Failure::new(ErrorCode::EngineInternal, "the backend gave no answer"));
    }
    for (position, output) in step.wanted.iter().zip(response.outputs) {
        made[*position] = Some(shared(output));
    }
    Ok(made)
}

fn count(lane: &Lane, rows: usize, began: Instant, answered: &Result<Answered, Failure>) {
    let well = answered.as_ref().ok();
    lane.counters.request(&RequestCount {
        dialect: Dialect::V2,
        error: answered.as_ref().err().map(|failure| failure.code),
        rows,
        request: began.elapsed(),
        queue: well.and_then(|answered| answered.ride).map(|ride| ride.queue),
        found: well.and_then(|answered| answered.found),
    });
}

/// Gives tensors their names at the model, and holds them to its signature: what decoding does for
/// requests from outside.
fn fit(inputs: &mut [Tensor], signature: &Signature) -> Result<(), Failure> {
    let mut symbols = SmallVec::<[(&str, usize); 4]>::new();
    for (tensor, spec) in inputs.iter_mut().zip(&signature.inputs) {
        if tensor.dtype != spec.dtype || !spec.admits(&tensor.shape) {
            return Err(Failure::new(
                ErrorCode::GraphMismatch,
                format!(
                    "input `{}` is {} {:?}, and came as {} {:?}",
                    spec.name,
                    spec.dtype,
                    spec.wire_shape(),
                    tensor.dtype,
                    tensor.shape
                ),
            ));
        }
        for (dim, &extent) in spec.shape.iter().zip(&tensor.shape) {
            let Dim::Symbol(symbol) = dim else { continue };
            match symbols.iter().find(|(known, _)| *known == &**symbol) {
                None => symbols.push((symbol, extent)),
                Some((_, known)) if *known == extent => {}
                Some((_, known)) => {
                    let message = format!(
                        "`{symbol}` is {known} for one input and {extent} for `{}`",
                        spec.name
                    );
                    return Err(Failure::new(ErrorCode::GraphMismatch, message));
                }
            }
        }
        tensor.name = spec.name.clone();
    }
    Ok(())
}

/// The one value that a switch goes by.
fn value(tensor: &Tensor) -> Result<String, Failure> {
    let values = texts(tensor).ok_or_else(|| {
        Failure::new(ErrorCode::EngineInternal, "a tensor is not what it says it is")
    })?;
    let Some(first) = values.first() else {
        let message = format!("it chooses by `{}`, which is empty", tensor.name);
        return Err(Failure::new(ErrorCode::GraphMismatch, message));
    };
    if let Some(other) = values.iter().find(|value| *value != first) {
        let message = format!(
            "it chooses by `{}`, which holds both `{first}` and `{other}`: one request goes one way",
            tensor.name
        );
        return Err(Failure::new(ErrorCode::GraphMismatch, message));
    }
    Ok(first.clone())
}

/// The elements as a document would write them.
fn texts(tensor: &Tensor) -> Option<Vec<String>> {
    use dukou_types::DType;
    if let Some(strings) = tensor.strings() {
        return Some(strings.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect());
    }
    fn all<T: bytemuck::Pod + ToString>(bytes: &[u8]) -> Vec<String> {
        bytes
            .chunks_exact(size_of::<T>())
            .map(|chunk| bytemuck::pod_read_unaligned::<T>(chunk).to_string())
            .collect()
    }
    let bytes = tensor.bytes()?;
    Some(match tensor.dtype {
        DType::Bool => bytes.iter().map(|byte| (*byte != 0).to_string()).collect(),
        DType::Uint8 => all::<u8>(bytes),
        DType::Uint16 => all::<u16>(bytes),
        DType::Uint32 => all::<u32>(bytes),
        DType::Uint64 => all::<u64>(bytes),
        DType::Int8 => all::<i8>(bytes),
        DType::Int16 => all::<i16>(bytes),
        DType::Int32 => all::<i32>(bytes),
        DType::Int64 => all::<i64>(bytes),
        DType::Fp16 | DType::Bf16 | DType::Fp32 | DType::Fp64 | DType::Bytes => return None,
    })
}

fn no_case(value: &str, cases: &[(Box<str>, Member)]) -> Failure {
    let known: Vec<_> = cases.iter().map(|(case, _)| format!("`{case}`")).collect();
    let message = format!("`{value}` is none of its cases {}", known.join(", "));
    Failure::new(ErrorCode::GraphMismatch, message)
}

/// A failure that says at which node it happened; its code is the cause's.
fn named(step: &Step, member: Option<&Member>, failure: Failure) -> Failure {
    let message = match member {
        Some(member) => {
            format!("node `{}` (model `{}`): {}", step.name, member.model, failure.message)
        }
        None => format!("node `{}`: {}", step.name, failure.message),
    };
    Failure { message: message.into(), ..failure }
}

/// The same tensor, so that any number of nodes can read it.
fn shared(tensor: Tensor) -> Tensor {
    let data = match tensor.data {
        Data::Owned(buffer) => Data::Shared(SharedBytes::new(Arc::new(buffer))),
        shared => shared,
    };
    Tensor { data, ..tensor }
}
