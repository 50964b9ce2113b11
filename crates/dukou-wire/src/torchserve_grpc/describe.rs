//! What a server says of itself and its models: the texts of REST, in messages.

use super::management::management_response;
use crate::{
    grpc::{PREFIX, push_bytes},
    torchserve::{self, WorkersOf},
};

/// Health, as a text of JSON; one that is not well is an answer too.
pub fn encode_health(answers: bool) -> Vec<u8> {
    let word = if answers { "Healthy" } else { "Unhealthy" };
    let mut out = vec![0; PREFIX];
    push_bytes(&mut out, 1, format!("{{\n  \"status\": \"{word}\"\n}}\n").as_bytes());
    out
}

/// One page of the list of models.
pub fn encode_page<'m>(
    models: impl IntoIterator<Item = (&'m str, String)>,
    next: Option<usize>,
) -> Vec<u8> {
    management_response(&torchserve::encode_model_page(models, next))
}

/// How versions are run.
pub fn encode_workers(versions: &[WorkersOf<'_>]) -> Vec<u8> {
    management_response(&torchserve::encode_workers(versions))
}
