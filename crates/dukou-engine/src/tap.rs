//! The tap (`spec/tap.md`): answered requests that wait for the monitor, as Arrow.
//!
//! Bounded in bytes, lossy, counted: where the monitor does not keep up or is not there, what comes is
//! dropped. Never a basis for a rollout.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, LazyLock},
    time::{SystemTime, UNIX_EPOCH},
};

use arrow_array::{
    ArrayRef, RecordBatch,
    builder::{
        BinaryBuilder, Int64Builder, ListBuilder, StringBuilder, TimestampMillisecondBuilder,
    },
};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use dukou_types::{Data, RequestId, Tensor};
use parking_lot::Mutex;
use serde_json::{Value, json};
use smallvec::SmallVec;

use crate::{serving::Lane, visit::Visit};

/// Bytes of tensors that may wait, of all models together.
const MOST_BYTES: usize = 256 << 20;
/// What a request costs beside its tensors, about.
const REQUEST_BYTES: usize = 256;

/// An answered request.
#[derive(Debug)]
pub struct Captured {
    time: SystemTime,
    id: RequestId,
    client_id: Option<Arc<str>>,
    subject: Option<Arc<str>>,
    lane: Arc<Lane>,
    inputs: SmallVec<[Tensor; 2]>,
    outputs: SmallVec<[Tensor; 2]>,
}

impl Captured {
    /// What is known of a visit whose answer has been encoded.
    pub fn new(
        visit: &Visit<'_>,
        lane: Arc<Lane>,
        inputs: SmallVec<[Tensor; 2]>,
        outputs: SmallVec<[Tensor; 2]>,
    ) -> Self {
        Self {
            time: SystemTime::now(),
            id: visit.id,
            client_id: visit.client_id.clone(),
            subject: visit.subject.clone(),
            lane,
            inputs,
            outputs,
        }
    }

    fn bytes(&self) -> usize {
        REQUEST_BYTES + self.inputs.iter().chain(&self.outputs).map(Tensor::size).sum::<usize>()
    }
}

/// Answered requests that wait, the oldest first.
#[derive(Debug, Default)]
pub struct Tap {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Captured>,
    bytes: usize,
    by_model: HashMap<Box<str>, usize>,
    captured: u64,
    dropped: u64,
}

impl Tap {
    /// Keeps a request, if its model's part has room.
    pub fn keep(&self, captured: Captured, most: usize) {
        let bytes = captured.bytes();
        let mut waiting = self.waiting.lock();
        let model = captured.lane.version.model.as_str();
        let held = waiting.by_model.get(model).copied().unwrap_or(0);
        if held + bytes > most || waiting.bytes + bytes > MOST_BYTES {
            waiting.dropped += 1;
            return;
        }
        waiting.by_model.insert(model.into(), held + bytes);
        waiting.bytes += bytes;
        waiting.captured += 1;
        waiting.requests.push_back(captured);
    }

    /// Takes requests out, the oldest first: whole ones of about so many bytes, at least one.
    pub fn take(&self, most: usize) -> Vec<Captured> {
        let mut waiting = self.waiting.lock();
        let mut taken = Vec::new();
        let mut sum = 0;
        while let Some(bytes) = waiting.requests.front().map(Captured::bytes) {
            if !taken.is_empty() && sum + bytes > most {
                break;
            }
            let Some(first) = waiting.requests.pop_front() else { break };
            sum += bytes;
            waiting.bytes -= bytes;
            if let Some(held) = waiting.by_model.get_mut(first.lane.version.model.as_str()) {
                *held = held.saturating_sub(bytes);
            }
            taken.push(first);
        }
        taken
    }

    /// For `GET /state`.
    pub fn counts(&self) -> Value {
        let waiting = self.waiting.lock();
        json!({
            "buffered_bytes": waiting.bytes,
            "captured": waiting.captured,
            "dropped": waiting.dropped,
        })
    }

    /// Kept and dropped so far, and bytes that wait.
    pub fn totals(&self) -> (u64, u64, usize) {
        let waiting = self.waiting.lock();
        (waiting.captured, waiting.dropped, waiting.bytes)
    }
}

/// The one schema.
static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let item = Arc::new(Field::new("item", DataType::Int64, true));
    Arc::new(Schema::new(vec![
        Field::new("time", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
        text("request_id"),
        Field::new("client_id", DataType::Utf8, true),
        Field::new("subject", DataType::Utf8, true),
        text("model"),
        text("version"),
        text("arm"),
        text("revision"),
        text("direction"),
        text("name"),
        text("dtype"),
        Field::new("shape", DataType::List(item), false),
        Field::new("bytes", DataType::Binary, false),
    ]))
});

/// Requests as an Arrow IPC stream of one batch, a row a tensor.
///
/// # Errors
/// What Arrow said: a tensor is too large for its offsets.
pub fn to_stream(requests: &[Captured]) -> Result<Vec<u8>, ArrowError> {
    let mut time = TimestampMillisecondBuilder::new().with_timezone("UTC");
    let mut texts: [StringBuilder; 10] = std::array::from_fn(|_| StringBuilder::new());
    let mut shape = ListBuilder::new(Int64Builder::new());
    let mut bytes = BinaryBuilder::new();
    let mut scratch = Vec::new();
    for request in requests {
        let since = request.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        let id = request.id.to_string();
        let lane = &request.lane;
        let inputs = request.inputs.iter().map(|tensor| ("input", tensor));
        let outputs = request.outputs.iter().map(|tensor| ("output", tensor));
        for (direction, tensor) in inputs.chain(outputs) {
            time.append_value(millis);
            let dtype = tensor.dtype.to_string();
            let values = [
                Some(&*id),
                request.client_id.as_deref(),
                request.subject.as_deref(),
                Some(lane.version.model.as_str()),
                Some(lane.version.version.as_str()),
                Some(lane.arm.as_str()),
                Some(lane.revision.as_str()),
                Some(direction),
                Some(&*tensor.name),
                Some(&*dtype),
            ];
            for (column, value) in texts.iter_mut().zip(values) {
                column.append_option(value);
            }
            for &extent in &tensor.shape {
                shape.values().append_value(i64::try_from(extent).unwrap_or(i64::MAX));
            }
            shape.append(true);
            scratch.clear();
            bytes.append_value(raw(tensor, &mut scratch));
        }
    }
    let mut columns: Vec<ArrayRef> = vec![Arc::new(time.finish())];
    columns.extend(texts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
    columns.push(Arc::new(shape.finish()));
    columns.push(Arc::new(bytes.finish()));
    let mut writer = StreamWriter::try_new(Vec::new(), &SCHEMA)?;
    writer.write(&RecordBatch::try_new(Arc::clone(&SCHEMA), columns)?)?;
    writer.into_inner()
}

/// The elements as V2's binary tensor data: little-endian, `BYTES` with a length before each.
fn raw<'a>(tensor: &'a Tensor, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    match &tensor.data {
        Data::Owned(buffer) => buffer.bytes(),
        Data::Shared(shared) => shared.as_ref(),
        Data::Strings(strings) => {
            for string in strings {
                let length = u32::try_from(string.len()).unwrap_or(u32::MAX);
                scratch.extend_from_slice(&length.to_le_bytes());
                scratch.extend_from_slice(string);
            }
            scratch
        }
    }
}
