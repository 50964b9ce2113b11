//! What the server says of itself: health, metadata, the list of models, metrics. No body is read and
//! nothing runs for these.

use std::sync::Arc;

use dukou_types::{ErrorCode, Failure, RequestId};
use dukou_wire::{Dialect, Selector, Target, tensorflow, torchserve, v2};
use http::HeaderValue;
use serde_json::json;

use crate::{
    access::Caller,
    admit, describe_call,
    engine::Engine,
    manage, metrics,
    metrics_peers::Names,
    reply::Rope,
    route::route,
    serving::{Lane, Model, Serving},
};

/// A description: its content type and its text.
pub type Described = (HeaderValue, Rope);

/// Describes what was asked about.
///
/// # Errors
/// `server.not-ready` before the first table and `server.draining` after the last, where readiness
/// or a model was asked about; an unknown model or version.
pub fn describe(
    engine: &Engine,
    serving: Option<&Serving>,
    caller: &Caller,
    (dialect, target): (Dialect, &Target),
    (listener, path): (&str, &str),
) -> Result<Described, Failure> {
    if dialect.is_grpc() {
        return describe_call::describe(engine, serving, caller, (dialect, target), path);
    }
    let text = match target {
        Target::Live => v2::encode_live(true),
        Target::Ready => {
            if engine.drain.has_begun() {
                return Err(draining());
            }
            ready(serving)?;
            if dialect == Dialect::TorchServe {
                torchserve::encode_healthy()
            } else {
                v2::encode_ready(true)
            }
        }
        Target::ServerMetadata => v2::encode_server_metadata(env!("CARGO_PKG_VERSION")),
        Target::Metrics => {
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            let policy = serving.and_then(|serving| serving.listener(listener));
            let names = match dialect {
                Dialect::TensorFlow => Some(Names::TensorFlow),
                _ => policy.and_then(|policy| Names::expected(listener, &policy.dialects)),
            };
            return Ok((kind, Rope::from(bytes::Bytes::from(metrics::render(engine, names)))));
        }
        Target::ModelList if path == "/" => welcome(serving, caller),
        Target::ModelList => {
            v2::encode_model_list(known(serving, caller).map(|model| model.name.as_str()))
        }
        Target::ModelConfig { model, selector } => {
            describe_call::configuration(serving, (model, selector), v2::encode_config)?
        }
        Target::ModelStatistics { model, selector } => {
            let asked = (model.as_ref(), selector);
            v2::encode_statistics(&describe_call::statistics(engine, serving, caller, asked)?)
        }
        Target::ModelReady { model, selector } => {
            let model = admit::find(ready(serving)?, model)?;
            route(model, selector, RequestId(0))?;
            let draining_now = engine.drain.has_begun();
            if dialect == Dialect::TensorFlow {
                status_of(model, selector, !draining_now)
            } else if draining_now {
                return Err(draining());
            } else {
                v2::encode_model_ready(model.name.as_str(), true)
            }
        }
        Target::ModelMetadata { model, selector } => {
            let model = admit::find(ready(serving)?, model)?;
            // Asked about no version in particular: the first arm of its split.
            let lane = match selector {
                Selector::Default => model.draw(0),
                named => route(model, named, RequestId(0))?,
            };
            if dialect == Dialect::TensorFlow {
                let version = lane.version.version.as_str();
                let signature = &lane.version.signature;
                let text = tensorflow::encode_metadata(model.name.as_str(), version, signature);
                return Ok(json_text(text));
            }
            described(model, lane, selector, v2::encode_model_metadata)
        }
        Target::ModelPage { limit, after } => {
            let (models, next) = manage::page(ready(serving)?, caller, (*limit, *after));
            let models = models.iter().map(|(name, url)| (name.as_str(), url.clone()));
            torchserve::encode_model_page(models, next)
        }
        Target::ModelWorkers { model, selector } => {
            let versions = manage::workers(ready(serving)?, model, selector.as_ref())?;
            torchserve::encode_workers(&versions)
        }
        Target::SharedMemory => b"[]".to_vec(),
        Target::ApiDescription { model } => {
            let found = model
                .as_ref()
                .map(|name| admit::find(ready(serving)?, name).map(|found| (name, found)));
            let found = found.transpose()?;
            let described = found.map(|(name, found)| (name, &*found.draw(0).version.signature));
            torchserve::encode_api_description(env!("CARGO_PKG_VERSION"), described)
        }
        Target::Explain { model, selector } => {
            route(admit::find(ready(serving)?, model)?, selector, RequestId(0))?;
            let message =
                "no model here has an explanation: a handler would bring it; ask for a prediction";
            return Err(Failure::new(ErrorCode::WireUnsupported, message));
        }
        Target::Infer { .. }
        | Target::InferOnly
        | Target::Change { .. }
        | Target::RepositoryIndex
        | Target::Message { .. }
        | Target::Stream
        | Target::Watch => {
            return Err(Failure::new(
                ErrorCode::EngineInternal,
                "an inference or a change is not a description",
            ));
        }
    };
    Ok(json_text(text))
}

/// What there is to say of a model, as `encode` says it.
pub fn described<T>(
    model: &Model,
    lane: &Lane,
    selector: &Selector,
    encode: impl FnOnce(&v2::ModelDescription<'_>) -> T,
) -> T {
    let version = lane.version.version.as_str();
    let mut versions: Vec<&str> =
        model.versions.iter().map(|lane| lane.version.version.as_str()).collect();
    // Of a version that is named nothing is told but itself, as by Triton.
    versions.retain(|each| *selector == Selector::Default || *each == version);
    let providers = &lane.version.facts.providers;
    encode(&v2::ModelDescription {
        name: model.name.as_str(),
        versions: &versions,
        platform: lane.version.way.platform(),
        provider: providers
            .first()
            .map(String::as_str)
            .filter(|provider| *provider != dukou_ort::CPU),
        batchable: batchable(model),
        signature: &lane.version.signature,
    })
}

/// Whether rows of several requests may be asked as one, whichever version answers. Not where answers are
/// kept: what is asked as one is another question.
fn batchable(model: &Model) -> bool {
    model.cache.is_none() && model.versions.iter().all(|lane| lane.version.signature.batchable)
}

fn json_text(text: Vec<u8>) -> Described {
    (HeaderValue::from_static("application/json"), Rope::from(bytes::Bytes::from(text)))
}

/// The states of a model's versions, or of the one that is named. A label is looked up and then
/// ignored, as TensorFlow Serving does.
fn status_of(model: &Model, selector: &Selector, available: bool) -> Vec<u8> {
    let states = states_of(model, selector, available);
    tensorflow::encode_status(model.name.as_str(), &states)
}

/// The same, not yet written.
pub fn states_of<'m>(
    model: &'m Model,
    selector: &Selector,
    available: bool,
) -> Vec<tensorflow::VersionState<'m>> {
    let named = |label: &str| match selector {
        Selector::Version(version) => version.as_str() == label,
        Selector::Default | Selector::Alias(_) => true,
    };
    let versions = model.versions.iter().map(|lane| lane.version.version.as_str());
    versions
        .filter(|label| named(label))
        .map(|version| tensorflow::VersionState { version, available })
        .collect()
}

/// The table, once there is one.
///
/// # Errors
/// `server.not-ready`.
pub fn ready(serving: Option<&Serving>) -> Result<&Serving, Failure> {
    serving.ok_or_else(|| {
        Failure::new(ErrorCode::ServerNotReady, "no serving table has been loaded yet")
    })
}

fn draining() -> Failure {
    Failure::new(ErrorCode::ServerDraining, "the server is shutting down")
}

/// The models that the caller may hear of.
fn known<'s>(
    serving: Option<&'s Serving>,
    caller: &Caller,
) -> impl Iterator<Item = &'s Arc<Model>> {
    let models = serving.map_or(&[][..], |serving| &serving.models);
    models.iter().filter(|model| caller.knows(&model.name))
}

/// What is served and where: for a person who opens the address.
fn welcome(serving: Option<&Serving>, caller: &Caller) -> Vec<u8> {
    let models: Vec<_> = known(serving, caller)
        .map(|model| {
            let versions: Vec<_> =
                model.versions.iter().map(|lane| lane.version.version.as_str()).collect();
            json!({
                "name": model.name.as_str(),
                "versions": versions,
                "default": model.draw(0).version.version.as_str(),
                "metadata": format!("/v2/models/{}", model.name),
                "infer": format!("/v2/models/{}/infer", model.name),
            })
        })
        .collect();
    let mut text = json!({
        "server": "dukou",
        "version": env!("CARGO_PKG_VERSION"),
        "revision": serving.map(|serving| serving.revision().as_str()),
        "models": models,
        "health": "/v2/health/ready",
        "metrics": "/metrics",
    })
    .to_string()
    .into_bytes();
    text.push(b'\n');
    text
}
