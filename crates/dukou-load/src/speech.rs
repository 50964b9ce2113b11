//! A server's dialect as the load generator speaks it: what it tells of a model, questions and answers.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use dukou_types::{DeclaredSignature, Signature, Tensor};
use dukou_wire::{DecodeLimits, Named, Page, Peer, Question, Reply, v2::HEADER_LENGTH};
use http::HeaderMap;
use serde_json::{Value, json};

use crate::{
    answer::Answer,
    connection::Connection,
    request::{Request, call, plain},
    settings::{Settings, Spoken, UsageError},
    target::Target,
};

/// Answers are not larger, and their JSON not deeper.
const LIMITS: DecodeLimits = DecodeLimits { json_depth: 100, body_bytes: 256 << 20 };

/// What is asked of which model, and how.
#[derive(Debug)]
pub struct Speech {
    peer: Peer,
    model: String,
    version: Option<String>,
    /// What the model takes and gives.
    pub signature: Signature,
    path: String,
}

impl Speech {
    /// Learns what the model takes and gives: from a file, or from the server.
    pub async fn learn(
        settings: &Settings,
        target: &Target,
        spoken: &Spoken,
    ) -> Result<Self, UsageError> {
        let named = Named { model: &spoken.model, version: spoken.version.as_deref() };
        let path = spoken.peer.infer_path(named).map_err(UsageError::Unspeakable)?;
        let signature = match (&spoken.signature, spoken.peer.signature_page(named)) {
            (Some(file), _) => read_signature(file)?,
            (None, Some(page)) => ask(settings, target, spoken, &page).await?,
            (None, None) => return Err(UsageError::Untold(spoken.peer.name())),
        };
        let (model, version) = (spoken.model.clone(), spoken.version.clone());
        Ok(Self { peer: spoken.peer, model, version, signature, path: target.join(&path) })
    }

    /// A question with these inputs, whole.
    pub fn request(
        &self,
        settings: &Settings,
        target: &Target,
        inputs: &[Tensor],
    ) -> Result<Request, UsageError> {
        let named = Named { model: &self.model, version: self.version.as_deref() };
        let signature = &self.signature;
        let question = Question { inputs, signature, outputs: &[], parameters: &[] };
        let written = self.peer.encode(named, &question);
        let written =
            written.map_err(|failure| UsageError::Unspeakable(failure.message.into_owned()))?;
        if self.peer.is_grpc() {
            return call(settings, target, (self.peer, &self.path), written.body);
        }
        let mut headers = vec![("content-type", written.content_type.to_owned())];
        if let Some(length) = written.header_length {
            headers.push((HEADER_LENGTH, length.to_string()));
        }
        let body = Some((&*headers, &*written.body));
        Ok(Request::Plain(plain(settings, target, &self.path, body)))
    }

    /// An answer as V2 would write it; none where it is none of this dialect, or not of the signature.
    pub fn read(&self, answer: &Answer, body: &[u8]) -> Option<Value> {
        let headers: HeaderMap = answer
            .header_length
            .map(|length| (HEADER_LENGTH.parse().ok(), length.into()))
            .and_then(|(name, value)| Some([(name?, value)].into_iter().collect()))
            .unwrap_or_default();
        let message = [Bytes::copy_from_slice(body)];
        let read = self.peer.decode(&message, &headers, &self.signature, &LIMITS).ok()?;
        let outputs: Vec<Value> = read.outputs.iter().map(shown).collect();
        Some(json!({ "outputs": outputs }))
    }
}

/// A tensor with its elements in a flat list.
fn shown(tensor: &Tensor) -> Value {
    let data: Vec<Value> = match tensor.strings() {
        Some(strings) => {
            strings.iter().map(|text| String::from_utf8_lossy(text).into_owned().into()).collect()
        }
        None if tensor.dtype == dukou_types::DType::Bool => {
            tensor.bytes().unwrap_or_default().iter().map(|byte| (*byte != 0).into()).collect()
        }
        None => {
            let count = Tensor::elements(&tensor.shape).unwrap_or(0);
            (0..count).map(|at| tensor.number(at).into()).collect()
        }
    };
    json!({
        "name": &*tensor.name, "datatype": tensor.dtype.name(), "shape": tensor.shape, "data": data
    })
}

fn read_signature(file: &Path) -> Result<Signature, UsageError> {
    let bytes =
        std::fs::read(file).map_err(|error| UsageError::Unreadable { path: file.into(), error })?;
    let declared: DeclaredSignature = serde_json::from_slice(&bytes)
        .map_err(|error| UsageError::NotJson { path: file.into(), error })?;
    Ok(declared.signature())
}

/// Asks the server what the model takes and gives.
async fn ask(
    settings: &Settings,
    target: &Target,
    spoken: &Spoken,
    page: &Page,
) -> Result<Signature, UsageError> {
    let Spoken { peer, model, .. } = spoken;
    let none = |reason: String| UsageError::NoMetadata { model: model.clone(), reason };
    let path = target.join(&page.path);
    let request = match &page.message {
        Some(message) => call(settings, target, (*peer, &path), message.clone())?,
        None => Request::Plain(plain(settings, target, &path, None)),
    };
    let limit = settings.timeout.max(Duration::from_secs(1));
    let mut connection = Connection::new(target.clone(), limit, false);
    let answer = connection.exchange(&request).await;
    let answer = answer.map_err(|loss| none(format!("the request was lost ({})", loss.name())))?;
    let body = [Bytes::copy_from_slice(connection.body(&answer))];
    let reply =
        Reply { status: answer.status, headers: &HeaderMap::new(), trailers: None, body: &body };
    // The message of a call has been taken out of its envelope already, and its words of its status.
    let message = match (peer.is_grpc(), answer.status) {
        (true, 200) => body.iter().cloned().collect(),
        (true, status) => {
            let words = String::from_utf8_lossy(&body[0]).into_owned();
            return Err(none(format!("`{path}` answered {status}: {words}")));
        }
        (false, _) => {
            peer.open(&reply, &LIMITS).map_err(|refusal| none(format!("`GET {path}` {refusal}")))?
        }
    };
    peer.read_signature(&message).map_err(|why| none(format!("`{path}`: {why}")))
}
