//! The model repository extension: which models there are, and loading and unloading them.
//!
//! Bodies may be empty, as `curl` sends them. A load answers with KServe's body: Triton's clients look at
//! the status alone.

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure};

use super::{encode::push_list, parameters::object_or};
use crate::{
    Change, Listed, Operation, Outcome, Target,
    json::{Scanner, Stop, push_text},
    rope,
    sentence::quoted,
};

/// The deepest nesting of these bodies: a configuration travels as a text.
const DEPTH: usize = 16;

/// Whether only models that answer are to be listed.
///
/// # Errors
/// `wire.*`: the body is no JSON, or not the one that is wanted.
pub fn decode_index(rope: &[Bytes]) -> Result<bool, Failure> {
    let mut ready = false;
    read(rope, |scanner, key| {
        if key == "ready" {
            let said = scanner.boolean();
            ready = said.map_err(|f| f.in_field(scanner.body(), "`ready`", "`true` or `false`"))?;
            return Ok(());
        }
        scanner.skip().map_err(Stop::from)
    })?;
    Ok(ready)
}

/// What a client asks for by the path of `target` and this body.
///
/// # Errors
/// `wire.unsupported` for a model that is sent along, `wire.*` for a body that is none.
pub fn decode_change(target: &Target, rope: &[Bytes]) -> Result<Change, Failure> {
    let Target::Change { operation, model: Some(model), .. } = target else {
        return Err(not_one());
    };
    let mut dependents = false;
    read(rope, |scanner, key| {
        if key != "parameters" {
            return scanner.skip().map_err(Stop::from);
        }
        if scanner.null()? {
            return Ok(());
        }
        object_or(scanner, "`parameters`")?;
        scanner.object(|scanner, key| {
            if key == "config" || key.starts_with("file:") {
                let message = format!(
                    "failed to load {}, parameter {}: a model is served as its server has it, and none is \
                     taken from a request; put the file into the model store",
                    triton(model.as_str()),
                    quoted(&key)
                );
                return Err(Stop::new(ErrorCode::WireUnsupported, message));
            }
            if key == "unload_dependents" {
                let said = scanner.boolean();
                dependents = said.map_err(|fault| {
                    fault.in_field(scanner.body(), "`unload_dependents`", "`true` or `false`")
                })?;
                return Ok(());
            }
            scanner.skip().map_err(Stop::from)
        })
    })?;
    let model = model.clone();
    match operation {
        Operation::Load => Ok(Change::Load { model }),
        Operation::Unload => Ok(Change::Unload { model, dependents }),
        _ => Err(not_one()),
    }
}

/// A name between straight quotes, as Triton writes it.
fn triton(name: &str) -> String {
    quoted(name).replace('`', "'")
}

#[cold]
fn not_one() -> Failure {
    Failure::new(ErrorCode::WireUnsupported, "this protocol has no such change")
}

/// Reads an object, or nothing at all; `member` reads each value.
fn read<'b>(
    rope: &[Bytes],
    mut member: impl FnMut(&mut Scanner<'_>, &str) -> Result<(), Stop> + 'b,
) -> Result<(), Failure> {
    let body = rope::gather(rope, 0..rope::length(rope));
    let mut scanner = Scanner::new(&body, DEPTH, false);
    if scanner.peek() == 0 && scanner.remaining() == 0 {
        return Ok(());
    }
    let mut whole = || -> Result<(), Stop> {
        object_or(&mut scanner, "the body")?;
        scanner.object(|scanner, key| member(scanner, &key))?;
        scanner.end().map_err(Stop::from)
    };
    whole().map_err(|stop| stop.in_body(&body))
}

/// The models with their states.
pub fn encode_index<'l>(models: impl IntoIterator<Item = Listed<'l>>) -> Vec<u8> {
    let mut out = Vec::new();
    push_list(&mut out, models.into_iter(), |out, listed| {
        out.extend_from_slice(b"{\"name\":");
        push_text(out, listed.model);
        if let Some(version) = listed.version {
            out.extend_from_slice(b",\"version\":");
            push_text(out, version);
        }
        if let Some(ready) = listed.ready {
            let state: &[u8] = if ready { b"READY" } else { b"UNAVAILABLE" };
            out.extend_from_slice(b",\"state\":\"");
            out.extend_from_slice(state);
            out.push(b'"');
        }
        if let Some(reason) = listed.reason {
            out.extend_from_slice(b",\"reason\":");
            push_text(out, reason);
        }
        out.push(b'}');
    });
    out
}

/// What came of a change.
pub fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
    let (model, word): (_, &[u8]) = match outcome {
        Outcome::Unloaded { model } | Outcome::Unregistered { model } => {
            (Some(model), b"\"unload\":true")
        }
        Outcome::Loaded { model }
        | Outcome::Registered { model, .. }
        | Outcome::Scaled { model, .. }
        | Outcome::DefaultSet { model, .. } => (Some(model), b"\"load\":true"),
        Outcome::Reloaded | Outcome::Begun => (None, b"\"load\":true"),
    };
    let mut out = b"{".to_vec();
    if let Some(model) = model {
        out.extend_from_slice(b"\"name\":");
        push_text(&mut out, model.as_str());
        out.push(b',');
    }
    out.extend_from_slice(word);
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use dukou_types::ModelName;

    use super::*;

    fn body(text: &'static str) -> Vec<Bytes> {
        vec![Bytes::from_static(text.as_bytes())]
    }

    fn ask(operation: Operation, text: &'static str) -> Result<Change, ErrorCode> {
        let model = Some(ModelName::parse("m").unwrap());
        let target = Target::Change { operation, model, version: None };
        decode_change(&target, &body(text)).map_err(|failure| failure.code)
    }

    #[test]
    fn bodies_say_little_and_may_be_empty() {
        let model = ModelName::parse("m").unwrap();
        let load = Change::Load { model: model.clone() };
        for text in ["", " ", "{}", r#"{"parameters":{}}"#, r#"{"parameters":null,"x":[1]}"#] {
            assert_eq!(ask(Operation::Load, text), Ok(load.clone()), "{text}");
        }
        let with = r#"{"parameters":{"unload_dependents":true,"x":1}}"#;
        let unload = Change::Unload { model, dependents: true };
        assert_eq!(ask(Operation::Unload, with), Ok(unload));
        for (text, code) in [
            (r#"{"parameters":{"config":"{}"}}"#, ErrorCode::WireUnsupported),
            (r#"{"parameters":{"file:1/model.onnx":"AA=="}}"#, ErrorCode::WireUnsupported),
            (r#"{"parameters":{"unload_dependents":1}}"#, ErrorCode::WireInvalidField),
            (r#"{"parameters":[]}"#, ErrorCode::WireInvalidField),
            ("[]", ErrorCode::WireInvalidField),
            ("{", ErrorCode::WireInvalidJson),
            ("{} x", ErrorCode::WireInvalidJson),
        ] {
            assert_eq!(ask(Operation::Load, text), Err(code), "{text}");
        }
        assert!(decode_index(&body(r#"{"ready":true}"#)).unwrap());
        assert!(!decode_index(&[]).unwrap());
        assert!(decode_index(&body(r#"{"ready":3}"#)).is_err());
    }

    #[test]
    fn states_are_tritons() {
        let listed = |version, ready, reason| Listed { model: "m", version, ready, reason };
        let models = [
            listed(Some("1"), Some(true), None),
            listed(Some("2"), Some(false), Some("unloaded")),
            listed(None, None, None),
        ];
        assert_eq!(
            String::from_utf8(encode_index(models)).unwrap(),
            concat!(
                r#"[{"name":"m","version":"1","state":"READY"},"#,
                r#"{"name":"m","version":"2","state":"UNAVAILABLE","reason":"unloaded"},{"name":"m"}]"#
            )
        );
        let model = ModelName::parse("m").unwrap();
        let said = encode_outcome(&Outcome::Unloaded { model });
        assert_eq!(said, br#"{"name":"m","unload":true}"#);
    }
}
