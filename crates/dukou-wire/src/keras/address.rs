//! What a request to a Keras server is about.

use dukou_types::{ErrorCode, Failure};
use http::Method;

use crate::{Head, Selector, Target, addressed::model_name, sentence::quoted};

/// What a request is about; `None` for a path that ends in neither `/predict` nor `/evaluate`.
pub(crate) fn recognize(head: &Head<'_>) -> Option<Result<Target, Failure>> {
    let (before, operation) = head.path.strip_prefix('/')?.rsplit_once('/').unwrap_or_else(|| {
        // The last segment is the only one.
        ("", head.path.trim_start_matches('/'))
    });
    if !matches!(operation, "predict" | "evaluate") || before.contains('/') {
        return None;
    }
    if head.method != Method::POST {
        let message = format!("{} takes POST, not {}", quoted(head.path), head.method);
        return Some(Err(Failure::new(ErrorCode::WireWrongMethod, message)));
    }
    if head.path.starts_with("//") {
        return None;
    }
    if before.is_empty() {
        return Some(Ok(Target::InferOnly));
    }
    Some(model_name(before).map(|model| Target::Infer { model, selector: Selector::Default }))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn a_model_is_named_or_the_only_one() {
        let ask = |method: Method, path: &str| {
            let head = Head { method: &method, path, query: None, headers: &HeaderMap::new() };
            recognize(&head).map(|found| found.map_err(|failure| failure.code))
        };
        let model = model_name("m").unwrap();
        let named = Some(Ok(Target::Infer { model, selector: Selector::Default }));
        assert_eq!(ask(Method::POST, "/predict"), Some(Ok(Target::InferOnly)));
        assert_eq!(ask(Method::POST, "/evaluate"), Some(Ok(Target::InferOnly)));
        assert_eq!(ask(Method::POST, "/m/predict"), named);
        assert_eq!(ask(Method::POST, "/m/evaluate"), named);
        assert_eq!(ask(Method::GET, "/m/predict"), Some(Err(ErrorCode::WireWrongMethod)));
        let unknown = Some(Err(ErrorCode::RequestUnknownModel));
        assert_eq!(ask(Method::POST, "/%2F/predict"), unknown);
        for path in ["/", "/m", "/predict/", "/a/b/predict", "//predict", "predict", "/m/predicts"]
        {
            assert_eq!(ask(Method::POST, path), None, "{path}");
        }
    }
}
