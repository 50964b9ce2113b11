//! A server of this protocol as who asks sees it: an inference for it, what it says of itself and of a
//! model.

use bytes::Bytes;
use dukou_types::{Failure, Signature};
use prost::Message as _;

use super::{
    SERVICE, decode_response, encode_request,
    messages::{ModelMetadataResponse, TensorMetadata},
};
use crate::{
    grpc::{self, Fields, PREFIX, Part, push_bytes},
    peer::{Named, Page, Question, Written},
    plain::check_outputs,
    v2::{Answer, RequestOptions, spec},
};

/// Where an inference is asked.
pub(crate) fn infer_path() -> String {
    format!("/{SERVICE}/ModelInfer")
}

/// An inference; tensors go as raw bytes.
pub(crate) fn written(named: Named<'_>, question: &Question<'_>) -> Written {
    let options = RequestOptions {
        client_id: None,
        parameters: question.parameters,
        outputs: question.outputs,
        binary: true,
    };
    let size: usize = question.inputs.iter().map(dukou_types::Tensor::size).sum();
    let mut out = Vec::with_capacity(256 + size);
    out.resize(PREFIX, 0);
    let names = (named.model, named.version.unwrap_or_default());
    let encoded = encode_request(names, question.inputs, &options, &mut out);
    grpc::call_with(out, encoded.inserts)
}

/// Reads an answer, and holds it to the signature.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn decode_response_of(
    message: &[Bytes],
    signature: &Signature,
) -> Result<Answer, Failure> {
    let answer = decode_response(message)?;
    check_outputs(&answer.outputs, &signature.outputs)?;
    Ok(answer)
}

fn page(method: &str, named: Named<'_>) -> Page {
    let mut out = vec![0; PREFIX];
    push_bytes(&mut out, 1, named.model.as_bytes());
    push_bytes(&mut out, 2, named.version.unwrap_or_default().as_bytes());
    Page { path: format!("/{SERVICE}/{method}"), message: Some(grpc::call(out).body) }
}

/// What is asked to know whether a model answers.
pub(crate) fn ready_page(named: Named<'_>) -> Page {
    page("ModelReady", named)
}

/// Whether it says that it does.
///
/// # Errors
/// It does not.
pub(crate) fn check_ready(message: &[Bytes]) -> Result<(), String> {
    let mut ready = false;
    let mut fields = Fields::of(Part::whole(message));
    let mut read = || -> Result<(), Failure> {
        while let Some(field) = fields.next()? {
            if field.number == 1 {
                ready = field.number("ready")? != 0;
            }
        }
        Ok(())
    };
    read().map_err(|failure| failure.message.into_owned())?;
    if ready { Ok(()) } else { Err("the model is not ready".to_owned()) }
}

/// What is asked to know what a model takes and gives.
pub(crate) fn metadata_page(named: Named<'_>) -> Page {
    page("ModelMetadata", named)
}

/// Reads what a model takes and gives.
///
/// # Errors
/// What in it is not as the protocol has it.
pub(crate) fn parse_signature(message: &[Bytes]) -> Result<Signature, String> {
    let said = ModelMetadataResponse::decode(&*message.concat())
        .map_err(|error| format!("its metadata is not V2's: {error}"))?;
    let specs = |specs: Vec<TensorMetadata>| {
        let read = specs.into_iter().map(|said| spec(said.name, &said.datatype, &said.shape));
        read.collect::<Result<Vec<_>, String>>()
    };
    let (inputs, outputs) = (specs(said.inputs)?, specs(said.outputs)?);
    Ok(Signature { inputs, outputs, batchable: false })
}
