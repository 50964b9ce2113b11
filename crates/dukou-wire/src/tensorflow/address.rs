//! What a request under `/v1` is about.

use dukou_types::{ErrorCode, Failure};
use http::Method;

use crate::{
    Head, Selector, Target,
    addressed::{alias, model_name, version},
    sentence::quoted,
};

/// Where TensorFlow Serving has its metrics, where nobody says otherwise.
const METRICS: &str = "/monitoring/prometheus/metrics";

/// What a request is about; `None` for a path that is not the protocol's.
pub(crate) fn recognize(head: &Head<'_>) -> Option<Result<Target, Failure>> {
    if head.path == METRICS {
        let get = head.method == Method::GET;
        return Some(if get { Ok(Target::Metrics) } else { Err(malformed(head)) });
    }
    let path = head.path.strip_prefix("/v1/models")?;
    if !(path.is_empty() || path.starts_with('/')) {
        return None;
    }
    Some(of_models(head, path.strip_prefix('/').unwrap_or_default()))
}

fn of_models(head: &Head<'_>, path: &str) -> Result<Target, Failure> {
    let (path, verb) = match path.rsplit_once(':') {
        Some((path, verb)) => (path, Some(verb)),
        None => (path, None),
    };
    let (path, metadata) = match path.strip_suffix("/metadata") {
        Some(path) if verb.is_none() => (path, true),
        _ => (path, false),
    };
    let mut segments = path.split('/');
    let name = segments.next().unwrap_or_default();
    let selector = match (segments.next(), segments.next(), segments.next()) {
        (None, ..) => Selector::Default,
        (Some("versions"), Some(number), None) => Selector::Version(version(number)?),
        (Some("labels"), Some(label), None) => Selector::Alias(alias(label)?),
        _ => return Err(malformed(head)),
    };
    let get = head.method == Method::GET;
    match verb {
        None if !get => Err(malformed(head)),
        None if name.is_empty() => Ok(Target::ModelList),
        None if metadata => Ok(Target::ModelMetadata { model: model_name(name)?, selector }),
        None => Ok(Target::ModelReady { model: model_name(name)?, selector }),
        Some("predict" | "classify" | "regress") if head.method == Method::POST => {
            Ok(Target::Infer { model: model_name(name)?, selector })
        }
        Some("explain") if head.method == Method::POST => Err(Failure::new(
            ErrorCode::WireUnsupported,
            "no model here has an explainer; ask with `:predict`",
        )),
        Some(_) => Err(malformed(head)),
    }
}

/// What TensorFlow Serving says of a path or a method that it does not have.
#[cold]
fn malformed(head: &Head<'_>) -> Failure {
    let path = quoted(head.path);
    let message = format!("Malformed request: {} {}", head.method, path.trim_matches('`'));
    Failure::new(ErrorCode::WireInvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn ask(method: Method, path: &str) -> Option<Result<Target, ErrorCode>> {
        let head = Head { method: &method, path, query: None, headers: &HeaderMap::new() };
        recognize(&head).map(|found| found.map_err(|failure| failure.code))
    }

    #[test]
    fn paths_are_as_tensorflow_serving_has_them() {
        let model = model_name("m").unwrap();
        let number = Selector::Version(version("7").unwrap());
        let label = Selector::Alias("stable".into());
        let infer = |selector| Some(Ok(Target::Infer { model: model.clone(), selector }));
        let post = |path| ask(Method::POST, path);
        assert_eq!(post("/v1/models/m:predict"), infer(Selector::Default));
        assert_eq!(post("/v1/models/m/versions/7:predict"), infer(number.clone()));
        assert_eq!(post("/v1/models/m/labels/stable:predict"), infer(label.clone()));
        let get = |path| ask(Method::GET, path);
        let ready = |selector| Some(Ok(Target::ModelReady { model: model.clone(), selector }));
        assert_eq!(get("/v1/models/m"), ready(Selector::Default));
        assert_eq!(get("/v1/models/m/versions/7"), ready(number.clone()));
        let described =
            |selector| Some(Ok(Target::ModelMetadata { model: model.clone(), selector }));
        assert_eq!(get("/v1/models/m/metadata"), described(Selector::Default));
        assert_eq!(get("/v1/models/m/labels/stable/metadata"), described(label));
        assert_eq!(get("/v1/models"), Some(Ok(Target::ModelList)));
        assert_eq!(get("/v1/modelsmith"), None);
        assert_eq!(get("/v2/models/m"), None);
    }

    #[test]
    fn what_it_does_not_have_is_malformed() {
        for (method, path) in [
            (Method::PUT, "/v1/models/m"),
            (Method::GET, "/v1/models/m:predict"),
            (Method::POST, "/v1/models/m"),
            (Method::POST, "/v1/models/m:PREDICT"),
            (Method::POST, "/v1/models/m/versions/7/labels/x:predict"),
            (Method::GET, "/v1/models/m/versions"),
            (Method::DELETE, "/v1/models"),
        ] {
            assert_eq!(ask(method, path), Some(Err(ErrorCode::WireInvalidRequest)), "{path}");
        }
        let unsupported = Some(Err(ErrorCode::WireUnsupported));
        assert!(ask(Method::POST, "/v1/models/m:classify").unwrap().is_ok());
        assert_eq!(ask(Method::POST, "/v1/models/m:explain"), unsupported);
    }
}
