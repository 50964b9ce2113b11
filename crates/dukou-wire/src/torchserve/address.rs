//! What a request to TorchServe is about. Inference does not look at the method, as TorchServe does not.

use dukou_types::{ErrorCode, Failure, Version};
use http::{Method, header::CONTENT_TYPE};

use super::{form, management};
use crate::{
    Head, Operation, Selector, Target,
    addressed::{model_name, version},
    sentence::quoted,
};

/// Models on one page of a list, where its asker does not say.
const PAGE: usize = 100;

/// What a request is about; `None` for a path that is not one of TorchServe's.
pub(crate) fn recognize(head: &Head<'_>) -> Option<Result<Target, Failure>> {
    let path = head.path.strip_prefix('/')?;
    let (first, rest) = path.split_once('/').map_or((path, None), |(f, r)| (f, Some(r)));
    let options = head.method == Method::OPTIONS;
    match (first, rest) {
        ("", None) if options => Some(Ok(Target::ApiDescription { model: None })),
        ("ping", None) => Some(Ok(Target::Ready)),
        ("api-description", None) => Some(Ok(Target::ApiDescription { model: None })),
        ("predictions" | "explanations", None) => Some(Err(unknown(head))),
        ("predictions", Some(rest)) => Some(inference(rest).map(|(model, selector)| {
            if options {
                Target::ApiDescription { model: Some(model) }
            } else {
                Target::Infer { model, selector }
            }
        })),
        ("explanations", Some(rest)) => {
            Some(inference(rest).map(|(model, selector)| Target::Explain { model, selector }))
        }
        ("invocations", None) => Some(match form::first(head.query, "model_name") {
            None => Ok(Target::InferOnly),
            Some(name) => {
                model_name(&name).map(|model| Target::Infer { model, selector: Selector::Default })
            }
        }),
        ("models", rest) => Some(models(head, rest)),
        ("token", None) => Some(Err(Failure::new(
            ErrorCode::WireUnsupported,
            "keys are not made over the network here: `dukou keys` makes, shows and revokes them",
        ))),
        ("workflows" | "wfpredict", _) => Some(Err(Failure::new(
            ErrorCode::WireUnsupported,
            "workflows are not read; a deployment's graph does what they do (`docs/services.md`)",
        ))),
        (_, Some(rest)) => older(first, rest),
        _ => None,
    }
}

/// The paths of older clients, `{m}/predict` and `{m}/{version}/predict`; the first of them is a Keras
/// server's too.
fn older(model: &str, rest: &str) -> Option<Result<Target, Failure>> {
    let number = match rest.rsplit_once('/') {
        None if rest == "predict" => None,
        Some((number, "predict")) if !number.contains('/') => Some(number),
        _ => return None,
    };
    let target = || {
        let model = model_name(model)?;
        let selector = match number {
            None => Selector::Default,
            Some(number) => Selector::Version(version(number)?),
        };
        Ok(Target::Infer { model, selector })
    };
    Some(target())
}

/// `{m}` or `{m}/{version}`, and whatever stands behind.
fn inference(rest: &str) -> Result<(dukou_types::ModelName, Selector), Failure> {
    let mut segments = rest.split('/');
    let model = model_name(segments.next().unwrap_or_default())?;
    let selector = match segments.next() {
        None => Selector::Default,
        Some(number) => Selector::Version(version(number)?),
    };
    Ok((model, selector))
}

/// `/models` and what stands behind it.
fn models(head: &Head<'_>, rest: Option<&str>) -> Result<Target, Failure> {
    let method = head.method;
    let get = method == Method::GET || method == Method::HEAD;
    let Some(rest) = rest else {
        return if get {
            Ok(page(head))
        } else if method == Method::POST {
            register(head)
        } else {
            Err(not_allowed(head))
        };
    };
    let segments: Vec<&str> = rest.splitn(4, '/').collect();
    let change = |operation, version: Option<Version>| {
        Ok(Target::Change { operation, model: Some(model_name(segments[0])?), version })
    };
    match (segments.len(), segments.get(1).copied()) {
        (1, _) if get => {
            let selector = Some(Selector::Default);
            Ok(Target::ModelWorkers { model: model_name(segments[0])?, selector })
        }
        (1, _) if method == Method::OPTIONS => {
            Ok(Target::ApiDescription { model: Some(model_name(segments[0])?) })
        }
        (1, _) if method == Method::PUT => {
            let said = form::first(head.query, "model_version");
            change(Operation::Scale, said.map(|said| version(&said)).transpose()?)
        }
        (1, _) if method == Method::DELETE => change(Operation::Unregister, None),
        (2, Some("invoke")) if method == Method::POST => {
            Ok(Target::Infer { model: model_name(segments[0])?, selector: Selector::Default })
        }
        (2, Some("all")) if get => {
            Ok(Target::ModelWorkers { model: model_name(segments[0])?, selector: None })
        }
        (2, Some(number)) if get => {
            let selector = Some(Selector::Version(version(number)?));
            Ok(Target::ModelWorkers { model: model_name(segments[0])?, selector })
        }
        (2, Some(number)) if method == Method::PUT => {
            change(Operation::Scale, Some(version(number)?))
        }
        (2, Some(number)) if method == Method::DELETE => {
            change(Operation::Unregister, Some(version(number)?))
        }
        (3, Some(number)) if segments[2] == "set-default" => {
            if method == Method::PUT {
                change(Operation::SetDefault, Some(version(number)?))
            } else {
                Err(not_allowed(head))
            }
        }
        (1 | 2, _) => Err(not_allowed(head)),
        _ => Err(unknown(head)),
    }
}

/// Numbers that are none count as if they were not said.
fn page(head: &Head<'_>) -> Target {
    let number = |name| form::first(head.query, name).and_then(|said| said.parse().ok());
    let limit = number("limit").filter(|limit| (1..=PAGE).contains(limit)).unwrap_or(PAGE);
    Target::ModelPage { limit, after: number("next_page_token").unwrap_or(0) }
}

/// A body may name the model too, and nobody reads it before it is known who asks.
fn register(head: &Head<'_>) -> Result<Target, Failure> {
    let json = head.headers.get(CONTENT_TYPE).is_some_and(|kind| is_json(kind.as_bytes()));
    let model = if json { None } else { management::registered_name(head.query)? };
    Ok(Target::Change { operation: Operation::Register, model, version: None })
}

/// Whether a content type is JSON's.
pub(super) fn is_json(content_type: &[u8]) -> bool {
    let kind = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

#[cold]
fn unknown(head: &Head<'_>) -> Failure {
    let message = format!("nothing is served at {}", quoted(head.path));
    Failure::new(ErrorCode::WireUnknownPath, message)
}

#[cold]
fn not_allowed(head: &Head<'_>) -> Failure {
    let message = format!("{} does not take {}", quoted(head.path), quoted(head.method.as_str()));
    Failure::new(ErrorCode::WireWrongMethod, message)
}

#[cfg(test)]
mod tests {
    use dukou_types::ModelName;
    use http::HeaderMap;

    use super::*;

    fn ask(method: Method, said: &str) -> Option<Result<Target, ErrorCode>> {
        let (path, query) = said.split_once('?').map_or((said, None), |(p, q)| (p, Some(q)));
        let head = Head { method: &method, path, query, headers: &HeaderMap::new() };
        recognize(&head).map(|found| found.map_err(|failure| failure.code))
    }

    fn m() -> ModelName {
        ModelName::parse("m").unwrap()
    }

    fn v(label: &str) -> Version {
        Version::parse(label).unwrap()
    }

    #[test]
    fn inference_does_not_look_at_the_method() {
        let infer = |selector| Some(Ok(Target::Infer { model: m(), selector }));
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
            assert_eq!(ask(method.clone(), "/ping"), Some(Ok(Target::Ready)));
            assert_eq!(ask(method, "/predictions/m?x=1"), infer(Selector::Default));
        }
        let second = Selector::Version(v("2.0"));
        assert_eq!(ask(Method::POST, "/predictions/m/2.0/extra"), infer(second.clone()));
        let explain = Target::Explain { model: m(), selector: second };
        assert_eq!(ask(Method::POST, "/explanations/m/2.0"), Some(Ok(explain)));
        assert_eq!(ask(Method::POST, "/invocations"), Some(Ok(Target::InferOnly)));
        assert_eq!(ask(Method::POST, "/invocations?model_name=m"), infer(Selector::Default));
        assert_eq!(ask(Method::POST, "/models/m/invoke"), infer(Selector::Default));
        let third = infer(Selector::Version(v("3")));
        assert_eq!(ask(Method::POST, "/m/predict"), infer(Selector::Default));
        assert_eq!(ask(Method::GET, "/m/3/predict"), third);
        let none = Some(Err(ErrorCode::RequestUnknownModel));
        assert_eq!(ask(Method::POST, "/%2F/predict"), none);
        let others = ["/m/predicts", "/m/1/2/predict", "/m/evaluate", "/m/predict/", "/predict"];
        let strangers = ["/ping/x", "/ping/", "/pings", "/", "/v1/models/m:predict"];
        for path in strangers.into_iter().chain(others) {
            assert_eq!(ask(Method::POST, path), None, "{path}");
        }
    }

    #[test]
    fn management_is_by_method() {
        let change =
            |operation, version| Some(Ok(Target::Change { operation, model: Some(m()), version }));
        let register = change(Operation::Register, None);
        assert_eq!(ask(Method::POST, "/models?url=m.onnx"), register);
        assert_eq!(ask(Method::POST, "/models?url=x.onnx&model_name=m"), register);
        assert_eq!(ask(Method::PUT, "/models/m?min_worker=1"), change(Operation::Scale, None));
        let second = Some(v("2"));
        assert_eq!(ask(Method::PUT, "/models/m/2"), change(Operation::Scale, second.clone()));
        let said = ask(Method::PUT, "/models/m?model_version=2");
        assert_eq!(said, change(Operation::Scale, second.clone()));
        let default = change(Operation::SetDefault, second.clone());
        assert_eq!(ask(Method::PUT, "/models/m/2/set-default"), default);
        assert_eq!(ask(Method::DELETE, "/models/m"), change(Operation::Unregister, None));
        assert_eq!(ask(Method::DELETE, "/models/m/2"), change(Operation::Unregister, second));
        let workers = |selector| Some(Ok(Target::ModelWorkers { model: m(), selector }));
        assert_eq!(ask(Method::GET, "/models/m"), workers(Some(Selector::Default)));
        assert_eq!(ask(Method::GET, "/models/m/2"), workers(Some(Selector::Version(v("2")))));
        assert_eq!(ask(Method::GET, "/models/m/all"), workers(None));
        let page = |limit, after| Some(Ok(Target::ModelPage { limit, after }));
        assert_eq!(ask(Method::GET, "/models"), page(100, 0));
        assert_eq!(ask(Method::GET, "/models?limit=2&next_page_token=4"), page(2, 4));
        assert_eq!(ask(Method::GET, "/models?limit=abc&next_page_token=-1"), page(100, 0));
        let described = Some(Ok(Target::ApiDescription { model: Some(m()) }));
        assert_eq!(ask(Method::OPTIONS, "/models/m"), described);
        assert_eq!(ask(Method::OPTIONS, "/predictions/m"), described);
        assert_eq!(ask(Method::OPTIONS, "/"), Some(Ok(Target::ApiDescription { model: None })));
        for (method, path, code) in [
            (Method::PATCH, "/models/m", ErrorCode::WireWrongMethod),
            (Method::DELETE, "/models", ErrorCode::WireWrongMethod),
            (Method::POST, "/models/m", ErrorCode::WireWrongMethod),
            (Method::GET, "/models/m/2/set-default", ErrorCode::WireWrongMethod),
            (Method::PUT, "/models/m/2/3", ErrorCode::WireUnknownPath),
            (Method::PUT, "/models/m/2/set-default/x", ErrorCode::WireUnknownPath),
            (Method::POST, "/predictions", ErrorCode::WireUnknownPath),
            (Method::POST, "/predictions/a%2Fb", ErrorCode::RequestUnknownModel),
            (Method::POST, "/models", ErrorCode::WireMissingField),
            (Method::GET, "/token?type=inference", ErrorCode::WireUnsupported),
            (Method::POST, "/wfpredict/w", ErrorCode::WireUnsupported),
        ] {
            assert_eq!(ask(method, path), Some(Err(code)), "{path}");
        }
    }

    #[test]
    fn a_body_that_may_name_the_model_leaves_it_unnamed() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap());
        let query = Some("url=mine.onnx");
        let head = Head { method: &Method::POST, path: "/models", query, headers: &headers };
        let target = Target::Change { operation: Operation::Register, model: None, version: None };
        assert_eq!(recognize(&head), Some(Ok(target)));
    }
}
