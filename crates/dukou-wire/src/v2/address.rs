//! What a V2 request is about, from its method and path.
//!
//! The segments are matched as they stand; only names are percent-decoded, each by itself, so that an
//! encoded slash never makes a new segment.

use std::borrow::Cow;

use dukou_types::{ErrorCode, Failure};
use http::Method;

use crate::{
    Head, Selector, Target,
    addressed::{alias, model_name, version},
    change::Operation,
    sentence::quoted,
};

/// What a request is about.
///
/// # Errors
/// `wire.unknown-path` for a path that the protocol does not have, `wire.wrong-method` for one that it
/// has with another method, `wire.unsupported` for an operation that dukou does not have, and what
/// [`crate::address`] names for bad names.
pub fn address(head: &Head<'_>) -> Result<Target, Failure> {
    recognize(head).unwrap_or_else(|| {
        let message = format!("nothing is served at {}", quoted(head.path));
        Err(Failure::new(ErrorCode::WireUnknownPath, message))
    })
}

/// The same; `None` for a path that is not the protocol's, which another dialect may know.
pub(crate) fn recognize(head: &Head<'_>) -> Option<Result<Target, Failure>> {
    let get = |target| Some(with(head, &Method::GET, Ok(target)));
    let path = head.path.strip_prefix('/')?;
    let mut segments = [""; 8];
    let mut count = 0;
    for segment in path.split('/') {
        *segments.get_mut(count)? = segment;
        count += 1;
    }
    match &segments[..count] {
        // TorchServe's, for its API description.
        [""] if head.method == Method::OPTIONS => None,
        [""] => get(Target::ModelList),
        ["metrics"] => get(Target::Metrics),
        ["v2"] | ["v2", ""] => get(Target::ServerMetadata),
        ["v2", "health", "live"] => get(Target::Live),
        ["v2", "health", "ready"] => get(Target::Ready),
        ["v2", "models"] => get(Target::ModelList),
        // Triton's own; so a model called `stats` has no metadata of its own under its bare name.
        ["v2", "models", "stats"] => {
            get(Target::ModelStatistics { model: None, selector: Selector::Default })
        }
        ["v2", "models", name, rest @ ..] => of_model(head, name, rest),
        ["v2", "repository", "index"] => {
            Some(with(head, &Method::POST, Ok(Target::RepositoryIndex)))
        }
        ["v2", "repository", "models", name, verb @ ("load" | "unload")] => {
            let operation = if *verb == "load" { Operation::Load } else { Operation::Unload };
            let target = model_name(name).map(|model| Target::Change {
                operation,
                model: Some(model),
                version: None,
            });
            Some(with(head, &Method::POST, target))
        }
        ["v2", "repository", _, "index"]
        | ["v2", "repository", _, "models", _, "load" | "unload"] => {
            let message = "'repository_name' specification is not supported";
            Some(Err(Failure::new(ErrorCode::WireUnsupported, message)))
        }
        ["v2", "logging"] => Some(unsupported(head, "the logging extension", None)),
        ["v2", "trace", "setting"] => Some(unsupported(head, "the trace extension", None)),
        ["v2", "systemsharedmemory" | "cudasharedmemory", "status"] => get(Target::SharedMemory),
        ["v2", "systemsharedmemory" | "cudasharedmemory", ..] => {
            let instead = "tensors travel in the body, as JSON or as binary tensor data";
            Some(unsupported(head, "shared memory", Some(instead)))
        }
        _ => None,
    }
}

/// `/v2/models/{name}` and what stands behind it.
fn of_model(head: &Head<'_>, name: &str, rest: &[&str]) -> Option<Result<Target, Failure>> {
    let (selector, operation): (Result<Selector, Failure>, &[&str]) = match rest {
        ["versions", label, operation @ ..] => (version(label).map(Selector::Version), operation),
        ["aliases", label, operation @ ..] => (alias(label).map(Selector::Alias), operation),
        operation => (Ok(Selector::Default), operation),
    };
    let named = || Ok::<_, Failure>((model_name(name)?, selector?));
    Some(match operation {
        [] => with(
            head,
            &Method::GET,
            named().map(|(model, selector)| Target::ModelMetadata { model, selector }),
        ),
        ["ready"] => with(
            head,
            &Method::GET,
            named().map(|(model, selector)| Target::ModelReady { model, selector }),
        ),
        ["infer"] => with(
            head,
            &Method::POST,
            named().map(|(model, selector)| Target::Infer { model, selector }),
        ),
        ["config"] => with(
            head,
            &Method::GET,
            named().map(|(model, selector)| Target::ModelConfig { model, selector }),
        ),
        ["stats"] => with(
            head,
            &Method::GET,
            named()
                .map(|(model, selector)| Target::ModelStatistics { model: Some(model), selector }),
        ),
        ["generate" | "generate_stream"] => {
            unsupported(head, "the generate extension", Some("`infer` answers whole tensors"))
        }
        ["trace", "setting"] => unsupported(head, "the trace extension", None),
        _ => return None,
    })
}

/// The target where the method is the right one; `HEAD` is a `GET` whose body the door leaves out.
fn with(
    head: &Head<'_>,
    method: &Method,
    target: Result<Target, Failure>,
) -> Result<Target, Failure> {
    let came = if head.method == Method::HEAD { &Method::GET } else { head.method };
    if came == method {
        return target;
    }
    let message = format!("{} takes {method}; {} came", quoted(head.path), bare(head.method));
    Err(Failure::new(ErrorCode::WireWrongMethod, message))
}

/// A method's name for a sentence: one that the client made up may be of any length.
fn bare(method: &Method) -> Cow<'_, str> {
    match method.as_str() {
        short if short.len() <= 16 => short.into(),
        long => quoted(long).into(),
    }
}

fn unsupported(head: &Head<'_>, operation: &str, instead: Option<&str>) -> Result<Target, Failure> {
    let mut message = format!("{}: dukou does not have {operation} yet", quoted(head.path));
    if let Some(instead) = instead {
        message.push_str("; ");
        message.push_str(instead);
    }
    Err(Failure::new(ErrorCode::WireUnsupported, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dukou_types::{ModelName, Version};
    use http::HeaderMap;

    fn ask(method: &Method, path: &str) -> Result<Target, Failure> {
        address(&Head { method, path, query: None, headers: &HeaderMap::new() })
    }

    fn digits() -> ModelName {
        ModelName::parse("digits").unwrap()
    }

    #[test]
    fn every_operation_is_addressed() {
        let version = Selector::Version(Version::parse("3").unwrap());
        let alias = Selector::Alias("champion".into());
        for (method, path, target) in [
            (Method::GET, "/", Target::ModelList),
            (Method::GET, "/metrics", Target::Metrics),
            (Method::GET, "/v2", Target::ServerMetadata),
            (Method::GET, "/v2/", Target::ServerMetadata),
            (Method::GET, "/v2/health/live", Target::Live),
            (Method::HEAD, "/v2/health/ready", Target::Ready),
            (Method::GET, "/v2/models", Target::ModelList),
            (
                Method::GET,
                "/v2/models/digits",
                Target::ModelMetadata { model: digits(), selector: Selector::Default },
            ),
            (
                Method::GET,
                "/v2/models/d%69gits/ready",
                Target::ModelReady { model: digits(), selector: Selector::Default },
            ),
            (
                Method::POST,
                "/v2/models/digits/infer",
                Target::Infer { model: digits(), selector: Selector::Default },
            ),
            (
                Method::POST,
                "/v2/models/digits/versions/3/infer",
                Target::Infer { model: digits(), selector: version.clone() },
            ),
            (
                Method::GET,
                "/v2/models/digits/versions/3",
                Target::ModelMetadata { model: digits(), selector: version },
            ),
            (
                Method::POST,
                "/v2/models/digits/aliases/champion/infer",
                Target::Infer { model: digits(), selector: alias.clone() },
            ),
            (
                Method::GET,
                "/v2/models/digits/aliases/champion/ready",
                Target::ModelReady { model: digits(), selector: alias },
            ),
            (Method::POST, "/v2/repository/index", Target::RepositoryIndex),
            (Method::GET, "/v2/systemsharedmemory/status", Target::SharedMemory),
            (
                Method::POST,
                "/v2/repository/models/digits/unload",
                Target::Change {
                    operation: Operation::Unload,
                    model: Some(digits()),
                    version: None,
                },
            ),
        ] {
            assert_eq!(ask(&method, path), Ok(target), "{path}");
        }
    }

    #[test]
    fn what_is_refused_says_why() {
        let long = format!("/{}", "a/".repeat(10_000));
        for (method, path, code, words) in [
            (Method::GET, "/v1/models/digits", "wire.unknown-path", "`/v1/models/digits`"),
            (Method::GET, "", "wire.unknown-path", "nothing is served"),
            (Method::GET, "v2", "wire.unknown-path", "nothing is served"),
            (Method::GET, long.as_str(), "wire.unknown-path", "…`"),
            (Method::GET, "/v2/models/digits/", "wire.unknown-path", "nothing"),
            (Method::GET, "/v2/models/digits/infer/x", "wire.unknown-path", "nothing"),
            (Method::GET, "/v2/models/digits/infer", "wire.wrong-method", "takes POST; GET came"),
            (Method::POST, "/v2/health/live", "wire.wrong-method", "takes GET; POST came"),
            (Method::DELETE, "/metrics", "wire.wrong-method", "takes GET; DELETE came"),
            (
                Method::POST,
                "/v2/models//infer",
                "request.unknown-model",
                "no model can be called ``",
            ),
            (Method::POST, "/v2/models/a%20b/infer", "request.unknown-model", "`a b`"),
            (Method::POST, "/v2/models/a%2/infer", "wire.invalid-request", "`a%2`"),
            (
                Method::POST,
                "/v2/models/m/versions/%00/infer",
                "request.unknown-version",
                "no version",
            ),
            (
                Method::POST,
                "/v2/models/m/aliases/a%2Fb/infer",
                "request.unknown-version",
                "no alias",
            ),
            (Method::POST, "/v2/models/m/config", "wire.wrong-method", "takes GET"),
            (Method::POST, "/v2/models/m/versions/1/stats", "wire.wrong-method", "takes GET"),
            (Method::POST, "/v2/models/stats", "wire.wrong-method", "takes GET"),
            (Method::POST, "/v2/models/m/generate_stream", "wire.unsupported", "generate"),
            (Method::GET, "/v2/repository/index", "wire.wrong-method", "POST"),
            (Method::POST, "/v2/repository/r/index", "wire.unsupported", "'repository_name'"),
            (Method::POST, "/v2/repository/models/m/drop", "wire.unknown-path", "repository"),
            (Method::POST, "/v2/systemsharedmemory/status", "wire.wrong-method", "takes GET"),
            (
                Method::GET,
                "/v2/cudasharedmemory/region/r/status",
                "wire.unsupported",
                "shared memory",
            ),
        ] {
            let failure = ask(&method, path).unwrap_err();
            assert_eq!(failure.code.as_str(), code, "{path}: {failure}");
            assert!(failure.message.contains(words), "{path}: {failure}");
            assert!(failure.message.len() < 300, "{path}: {failure}");
        }
    }
}
