//! What the server says of itself to those who call it by gRPC: the same as [`crate::describe`], in messages.

use dukou_types::{ErrorCode, Failure, ModelName, RequestId};
use dukou_wire::{
    Dialect, Inserts, Selector, Target,
    grpc::{self, health},
    tensorflow_grpc, torchserve_grpc,
    v2::{Configuration, Statistics},
    v2_grpc,
};
use http::HeaderValue;

use crate::{
    access::Caller,
    admit,
    describe::{Described, described, ready, states_of},
    engine::Engine,
    inspect, manage,
    reply::Rope,
    route::route,
    serving::{Lane, Model, Serving},
};

/// Describes what was asked about.
///
/// # Errors
/// `server.not-ready` before the first table where a model was asked about; an unknown model or version.
pub fn describe(
    engine: &Engine,
    serving: Option<&Serving>,
    caller: &Caller,
    (dialect, target): (Dialect, &Target),
    path: &str,
) -> Result<Described, Failure> {
    let answers = serving.is_some() && !engine.drain.has_begun();
    let text = match target {
        Target::Live => v2_grpc::encode_live(true),
        Target::Ready if health::is_check(path) => health::encode(answers),
        Target::Ready if dialect == Dialect::TorchServeGrpc => {
            torchserve_grpc::encode_health(answers)
        }
        Target::ModelPage { limit, after } => {
            let (models, next) = manage::page(ready(serving)?, caller, (*limit, *after));
            let models = models.iter().map(|(name, url)| (name.as_str(), url.clone()));
            torchserve_grpc::encode_page(models, next)
        }
        Target::ModelWorkers { model, selector } => {
            let versions = manage::workers(ready(serving)?, model, selector.as_ref())?;
            torchserve_grpc::encode_workers(&versions)
        }
        Target::Ready => v2_grpc::encode_ready(answers),
        Target::ServerMetadata => v2_grpc::encode_server_metadata(env!("CARGO_PKG_VERSION")),
        Target::ModelReady { model, selector } if dialect == Dialect::TensorFlowGrpc => {
            let (model, _) = find(serving, model, selector)?;
            let answers = !engine.drain.has_begun();
            tensorflow_grpc::encode_status(&states_of(model, selector, answers))
        }
        // A model that is not here is not ready, which is an answer and no failure.
        Target::ModelReady { model, selector } => {
            v2_grpc::encode_model_ready(answers && find(serving, model, selector).is_ok())
        }
        Target::ModelMetadata { model, selector } => {
            let (model, lane) = find(serving, model, selector)?;
            if dialect == Dialect::TensorFlowGrpc {
                let (version, signature) = (&lane.version.version, &lane.version.signature);
                let name = model.name.as_str();
                tensorflow_grpc::encode_metadata(name, version.as_str(), signature)
            } else {
                described(model, lane, selector, v2_grpc::encode_model_metadata)
            }
        }
        Target::ModelConfig { model, selector } => {
            configuration(serving, (model, selector), v2_grpc::encode_config)?
        }
        Target::ModelStatistics { model, selector } => {
            let asked = (model.as_ref(), selector);
            v2_grpc::encode_statistics(&statistics(engine, serving, caller, asked)?)
        }
        Target::SharedMemory => v2_grpc::encode_no_regions(),
        _ => {
            let message = "a call that no description answers";
            return Err(Failure::new(ErrorCode::EngineInternal, message));
        }
    };
    Ok((HeaderValue::from_static(grpc::CONTENT), Rope::message(text, Inserts::new(), None).0))
}

/// How a model is configured, as `encode` says it.
///
/// # Errors
/// `server.not-ready`; an unknown model or version.
pub fn configuration<T>(
    serving: Option<&Serving>,
    (model, selector): (&ModelName, &Selector),
    encode: impl FnOnce(&Configuration<'_>) -> T,
) -> Result<T, Failure> {
    let serving = ready(serving)?;
    let (model, lane) = find(Some(serving), model, selector)?;
    Ok(inspect::configuration(serving, model, lane, encode))
}

/// What was done by the versions that are asked about, as far as the caller may know of their models.
///
/// # Errors
/// The same.
pub fn statistics(
    engine: &Engine,
    serving: Option<&Serving>,
    caller: &Caller,
    (model, selector): (Option<&ModelName>, &Selector),
) -> Result<Vec<Statistics>, Failure> {
    let serving = ready(serving)?;
    let only = model.map(|model| find(Some(serving), model, selector)).transpose()?;
    let every = *selector == Selector::Default;
    Ok(inspect::statistics(engine, serving, |model, lane| {
        let asked = only.is_none_or(|(named, version)| {
            named.name == model.name && (every || version.version.version == lane.version.version)
        });
        asked && caller.knows(&model.name)
    }))
}

/// A model and one of its versions; the first arm of its split where none is named.
fn find<'s>(
    serving: Option<&'s Serving>,
    model: &ModelName,
    selector: &Selector,
) -> Result<(&'s Model, &'s Lane), Failure> {
    let model = admit::find(ready(serving)?, model)?;
    let lane = match selector {
        Selector::Default => model.draw(0),
        named => route(model, named, RequestId(0))?,
    };
    Ok((model, lane))
}
