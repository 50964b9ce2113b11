//! The management API: what a client asks to be changed, and what it hears of it.

use std::borrow::Cow;

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure, ModelName};
use http::header::CONTENT_TYPE;

use super::{address::is_json, form};
use crate::{
    Change, Head, Operation, Outcome, Registration, Target,
    json::{Element as _, Fault, Scanner, Stop, push_text},
    rope,
    sentence::quoted,
};

/// The deepest nesting of a body.
const DEPTH: usize = 16;

/// What a model that is registered by this query would be called; none where the query names no file.
///
/// # Errors
/// `wire.missing-field` for no file, `request.unknown-model` for a name that is none.
pub(super) fn registered_name(query: Option<&str>) -> Result<Option<ModelName>, Failure> {
    let Some(location) = form::first(query, "url").filter(|url| !url.is_empty()) else {
        return Err(no_url());
    };
    match form::first(query, "model_name").filter(|name| !name.is_empty()) {
        Some(name) => named(&name).map(Some),
        None => named(&name_of(&location)).map(Some),
    }
}

/// What a client asks for.
///
/// # Errors
/// `wire.missing-field`, `wire.invalid-field` and other faults of a query or a body.
pub fn decode_change(head: &Head<'_>, target: &Target, rope: &[Bytes]) -> Result<Change, Failure> {
    let Target::Change { operation, model, version } = target else {
        return Err(not_one());
    };
    let number = |name: &str| form::first(head.query, name).and_then(|said| said.parse().ok());
    let truth = |name: &str, default| {
        form::first(head.query, name).map_or(default, |said| said.eq_ignore_ascii_case("true"))
    };
    match (operation, model.clone(), version.clone()) {
        (Operation::Register, _, _) => registration(head, rope).map(Change::Register),
        (Operation::Scale, Some(model), version) => {
            let least = number("min_worker").unwrap_or(1);
            let most: u64 = number("max_worker").unwrap_or(least);
            if most < least {
                let message = format!(
                    "max_worker cannot be less than min_worker. They are {most} and {least}"
                );
                return Err(Failure::new(ErrorCode::WireInvalidField, message));
            }
            let wait = truth("synchronous", false);
            Ok(Change::Scale { model, version, workers: least, wait })
        }
        (Operation::SetDefault, Some(model), Some(version)) => {
            Ok(Change::SetDefault { model, version })
        }
        (Operation::Unregister, Some(model), version) => Ok(Change::Unregister { model, version }),
        _ => Err(not_one()),
    }
}

/// What is to be registered: by the query, or by a JSON body with the same names.
fn registration(head: &Head<'_>, rope: &[Bytes]) -> Result<Registration, Failure> {
    let mut said = Said::default();
    let json = head.headers.get(CONTENT_TYPE).is_some_and(|kind| is_json(kind.as_bytes()));
    if json && rope::length(rope) > 0 {
        let body = rope::gather(rope, 0..rope::length(rope));
        said.read(&body).map_err(|stop| stop.in_body(&body))?;
    } else {
        for (name, value) in form::pairs(head.query.unwrap_or_default()) {
            said.note(&name, &value);
        }
    }
    let location = said.url.filter(|url| !url.is_empty()).ok_or_else(no_url)?;
    let model = match said.model_name.filter(|name| !name.is_empty()) {
        Some(name) => named(&name)?,
        None => named(&name_of(&location))?,
    };
    Ok(Registration {
        model: Some(model),
        location,
        workers: said.initial_workers,
        batch_rows: said.batch_size.filter(|&rows| rows > 0),
        batch_delay_ms: said.max_batch_delay,
        wait: said.synchronous.unwrap_or(true),
    })
}

/// The parameters of a registration, as far as they were said. Handlers and timeouts are no matter of a
/// model that its graph runs.
#[derive(Default)]
struct Said {
    url: Option<String>,
    model_name: Option<String>,
    initial_workers: Option<u64>,
    batch_size: Option<u64>,
    max_batch_delay: Option<u64>,
    synchronous: Option<bool>,
}

impl Said {
    /// The first of a name counts; a number that is none counts as if it was not said.
    fn note(&mut self, name: &str, value: &str) {
        match name {
            "url" => drop(self.url.get_or_insert_with(|| value.to_owned())),
            "model_name" => drop(self.model_name.get_or_insert_with(|| value.to_owned())),
            "initial_workers" => self.initial_workers = self.initial_workers.or(value.parse().ok()),
            "batch_size" => self.batch_size = self.batch_size.or(value.parse().ok()),
            "max_batch_delay" => self.max_batch_delay = self.max_batch_delay.or(value.parse().ok()),
            "synchronous" => {
                let truth = value.eq_ignore_ascii_case("true");
                self.synchronous = self.synchronous.or(Some(truth));
            }
            _ => {}
        }
    }

    fn read(&mut self, body: &[u8]) -> Result<(), Stop> {
        let mut scanner = Scanner::new(body, DEPTH, false);
        if scanner.peek() != b'{' {
            let fault = scanner.other_kind();
            return Err(fault.in_field(scanner.body(), "the body", "an object"));
        }
        scanner.object(|scanner, key| {
            let text: Cow<'_, str> = match scanner.peek() {
                b'"' => scanner.text()?,
                b't' | b'f' => scanner.boolean()?.to_string().into(),
                // -1 is as good as nothing.
                b'-' | b'0'..=b'9' => whole(scanner)?.to_string().into(),
                _ => return scanner.skip().map_err(Stop::from),
            };
            self.note(&key, &text);
            Ok::<_, Stop>(())
        })?;
        scanner.end().map_err(Stop::from)
    }
}

fn whole(scanner: &mut Scanner<'_>) -> Result<i64, Fault> {
    scanner.peek();
    i64::read(scanner)
}

/// The name that a file's name makes.
pub(crate) fn name_of(location: &str) -> String {
    let last = location.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let stem = last.rsplit_once('.').map_or(last, |(stem, _)| stem);
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    stem.chars().map(plain).collect()
}

fn named(name: &str) -> Result<ModelName, Failure> {
    ModelName::parse(name).map_err(|text| {
        let message = format!("no model can be called {}", quoted(&text));
        Failure::new(ErrorCode::RequestUnknownModel, message)
    })
}

#[cold]
fn no_url() -> Failure {
    Failure::new(ErrorCode::WireMissingField, "Parameter url is required.")
}

#[cold]
fn not_one() -> Failure {
    Failure::new(ErrorCode::WireUnsupported, "this protocol has no such change")
}

/// What came of a change: TorchServe's status and body.
pub fn encode_outcome(outcome: &Outcome) -> (u16, Vec<u8>) {
    let (status, words) = sentence(outcome);
    let mut out = b"{\"status\":".to_vec();
    push_text(&mut out, &words);
    out.push(b'}');
    (status, out)
}

/// The same, as a sentence.
pub(crate) fn sentence(outcome: &Outcome) -> (u16, String) {
    match outcome {
        Outcome::Registered { model, version, workers: 0 } => (
            200,
            format!(
                "Model \"{model}\" Version: {version} registered with 0 initial workers. Use scale \
                 workers API to add workers for the model."
            ),
        ),
        Outcome::Registered { model, version, workers } => (
            200,
            format!(
                "Model \"{model}\" Version: {version} registered with {workers} initial workers"
            ),
        ),
        Outcome::Loaded { model } => (200, format!("Model \"{model}\" registered")),
        Outcome::Scaled { model, version: None, workers } => {
            (200, format!("Workers scaled to {workers} for model: {model}"))
        }
        Outcome::Scaled { model, version: Some(version), workers } => {
            (200, format!("Workers scaled to {workers} for model: {model}, version: {version}"))
        }
        Outcome::DefaultSet { model, version } => (
            200,
            format!("Default version successfully updated for model \"{model}\" to \"{version}\""),
        ),
        Outcome::Unloaded { model } | Outcome::Unregistered { model } => {
            (200, format!("Model \"{model}\" unregistered"))
        }
        Outcome::Reloaded => (200, "Models reloaded".to_owned()),
        Outcome::Begun => (202, "Processing worker updates...".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use dukou_types::Version;
    use http::{HeaderMap, Method};

    use super::*;

    fn ask(
        operation: Operation,
        query: &str,
        json: Option<&'static str>,
    ) -> Result<Change, (ErrorCode, String)> {
        let mut headers = HeaderMap::new();
        if json.is_some() {
            headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
        }
        let head =
            Head { method: &Method::POST, path: "/models", query: Some(query), headers: &headers };
        let model = Some(ModelName::parse("m").unwrap());
        let version = Version::parse("2").ok();
        let target = Target::Change { operation, model, version };
        let body: Vec<Bytes> =
            json.into_iter().map(|text| Bytes::from_static(text.as_bytes())).collect();
        decode_change(&head, &target, &body).map_err(|f| (f.code, f.message.into_owned()))
    }

    fn registration(change: Result<Change, (ErrorCode, String)>) -> Registration {
        match change {
            Ok(Change::Register(registration)) => registration,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_registration_is_said_by_query_or_body() {
        let by_query = ask(
            Operation::Register,
            "url=a%20b.onnx&initial_workers=2&batch_size=8&max_batch_delay=50&synchronous=false&handler=x",
            None,
        );
        let expected = Registration {
            model: ModelName::parse("a_b").ok(),
            location: "a b.onnx".into(),
            workers: Some(2),
            batch_rows: Some(8),
            batch_delay_ms: Some(50),
            wait: false,
        };
        assert_eq!(registration(by_query), expected);
        let by_body = ask(
            Operation::Register,
            "url=other.onnx",
            Some(
                r#"{"url":"a b.onnx","initial_workers":2,"batch_size":"8","max_batch_delay":50,"synchronous":false,"handler":null}"#,
            ),
        );
        assert_eq!(registration(by_body), expected, "a body counts, and not the query");
        let bare = registration(ask(Operation::Register, "url=x/y.onnx&model_name=n", None));
        assert_eq!((bare.model.unwrap().as_str(), bare.wait), ("n", true));
        for (query, json) in [("", None), ("url=", None), ("url=a", Some("{}"))] {
            let refused = ask(Operation::Register, query, json).unwrap_err();
            let said = "Parameter url is required.".to_owned();
            assert_eq!(refused, (ErrorCode::WireMissingField, said));
        }
        for query in ["url=a&model_name=%2F", "url=.onnx", "url=a&model_name=a%2525b"] {
            let (code, _) = ask(Operation::Register, query, None).unwrap_err();
            assert_eq!(code, ErrorCode::RequestUnknownModel, "{query}");
        }
        let (code, _) = ask(Operation::Register, "", Some("[1]")).unwrap_err();
        assert_eq!(code, ErrorCode::WireInvalidField);
    }

    #[test]
    fn workers_are_scaled_to_the_least_that_is_wanted() {
        let scaled = |query| match ask(Operation::Scale, query, None) {
            Ok(Change::Scale { workers, wait, .. }) => Ok((workers, wait)),
            Ok(other) => panic!("{other:?}"),
            Err((code, _)) => Err(code),
        };
        assert_eq!(scaled(""), Ok((1, false)));
        assert_eq!(scaled("min_worker=3&max_worker=5&synchronous=TRUE"), Ok((3, true)));
        assert_eq!(scaled("min_worker=x"), Ok((1, false)));
        assert_eq!(scaled("min_worker=0"), Ok((0, false)));
        assert_eq!(scaled("min_worker=3&max_worker=2"), Err(ErrorCode::WireInvalidField));
    }

    #[test]
    fn sentences_are_torchserves() {
        let model = ModelName::parse("m").unwrap();
        let version = Version::parse("1").unwrap();
        let said = |outcome: &Outcome| {
            let (status, body) = encode_outcome(outcome);
            (status, String::from_utf8(body).unwrap())
        };
        let registered =
            Outcome::Registered { model: model.clone(), version: version.clone(), workers: 2 };
        assert_eq!(
            said(&registered),
            (
                200,
                r#"{"status":"Model \"m\" Version: 1 registered with 2 initial workers"}"#.into()
            )
        );
        let scaled = Outcome::Scaled { model, version: Some(version), workers: 0 };
        assert_eq!(
            said(&scaled),
            (200, r#"{"status":"Workers scaled to 0 for model: m, version: 1"}"#.into())
        );
        let begun = (202, r#"{"status":"Processing worker updates..."}"#.into());
        assert_eq!(said(&Outcome::Begun), begun);
    }
}
