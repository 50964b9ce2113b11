//! `:classify` and `:regress`: examples as JSON, and their answers.

use std::borrow::Cow;

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure, InferResponse, Signature};

use super::{
    Example, Examples, Feature, Lease, check_telling, classes, decode::read_signature_name,
    example_tensors, values,
};
use crate::{
    Carriage, DecodeLimits, Decoded, EncodeContext, Telling,
    json::{Element as _, Fault, Kind, Scanner, Stop, push_float, push_text, read_string},
    sentence::quoted,
};

/// How the answer to a path is told; none where it asks for whole tensors.
pub(super) fn telling_of(path: &str) -> Option<Telling> {
    match path.rsplit_once(':') {
        Some((_, "classify")) => Some(Telling::Classes),
        Some((_, "regress")) => Some(Telling::Values),
        _ => None,
    }
}

/// Decodes `examples`, each with the features of `context` besides its own.
///
/// # Errors
/// Whatever is wrong with the body, and what [`check_telling`] names.
pub(super) fn decode(
    body: &Bytes,
    telling: Telling,
    signature: &Signature,
    limits: &DecodeLimits,
    lease: &mut Lease<'_>,
) -> Result<Decoded, Failure> {
    check_telling(signature, telling)?;
    let mut scanner = Scanner::new(body, limits.json_depth, true);
    let (context, rows) = read(&mut scanner, body).map_err(|stop| stop.in_body(body))?;
    let Some(rows) = rows else {
        let message =
            "When method is classify or regress, key 'examples' is expected and was not found";
        return Err(Failure::new(ErrorCode::WireMissingField, message));
    };
    let examples = Examples { context, rows };
    Ok(Decoded {
        inputs: example_tensors(&examples, signature, limits.body_bytes, lease)?,
        carriage: Carriage::Results { telling, several: false },
        ..Decoded::default()
    })
}

type Read<'a> = (Example<'a>, Option<Vec<Example<'a>>>);

fn read<'a>(scanner: &mut Scanner<'a>, body: &Bytes) -> Result<Read<'a>, Stop> {
    let (mut context, mut examples) = (Example::new(), None);
    if scanner.peek() != b'{' {
        let fault = scanner.other_kind();
        return Err(fault.in_field(scanner.body(), "the body", "an object"));
    }
    scanner.object(|scanner, key| match &*key {
        "signature_name" => read_signature_name(scanner),
        "context" => {
            context = read_example(scanner, body, "`context`")?;
            Ok(())
        }
        "examples" => {
            if scanner.peek() != b'[' {
                let fault = scanner.other_kind();
                return Err(fault.in_field(scanner.body(), "`examples`", "a list"));
            }
            let mut list = Vec::new();
            scanner.list(|scanner| {
                list.push(read_example(scanner, body, "every element of `examples`")?);
                Ok::<_, Stop>(())
            })?;
            examples = Some(list);
            Ok(())
        }
        _ => scanner.skip().map_err(Stop::from),
    })?;
    Ok((context, examples))
}

fn read_example<'a>(
    scanner: &mut Scanner<'a>,
    body: &Bytes,
    field: &str,
) -> Result<Example<'a>, Stop> {
    if scanner.peek() != b'{' {
        let fault = scanner.other_kind();
        return Err(fault.in_field(scanner.body(), field, "an object of features"));
    }
    let mut example = Example::new();
    scanner.object(|scanner, name| {
        let mut feature = None;
        if scanner.peek() == b'[' {
            scanner.list(|scanner| read_value(scanner, body, &name, &mut feature))?;
        } else {
            read_value(scanner, body, &name, &mut feature)?;
        }
        example.push((name, feature.unwrap_or_else(|| Feature::Floats(Vec::new()))));
        Ok::<_, Stop>(())
    })?;
    Ok(example)
}

/// Reads one value to those before it. What they are is said by the first: text, a whole number or a truth
/// value, or a number with a point or an exponent.
fn read_value(
    scanner: &mut Scanner<'_>,
    body: &Bytes,
    name: &str,
    feature: &mut Option<Feature>,
) -> Result<(), Stop> {
    let named = |fault: Fault| {
        let field = format!("feature {}", quoted(name));
        fault.in_field(body, &field, "a text, a number, a truth value or a list of one kind")
    };
    let mut whole = scanner.clone();
    let came = match scanner.peek() {
        b'"' | b'{' => Feature::Bytes(vec![read_string(scanner, body).map_err(named)?]),
        b't' | b'f' => Feature::Integers(vec![i64::from(scanner.boolean().map_err(named)?)]),
        b'-' | b'0'..=b'9' | b'N' | b'I' => match i64::read(&mut whole) {
            Ok(integer) => {
                *scanner = whole;
                Feature::Integers(vec![integer])
            }
            Err(Fault { kind: Kind::OutOfRange, at }) => {
                return Err(named(Fault { kind: Kind::OutOfRange, at }));
            }
            Err(_) => Feature::Floats(vec![f32::read(scanner).map_err(named)?]),
        },
        _ => return Err(named(scanner.other_kind())),
    };
    match (feature, came) {
        (slot @ None, came) => *slot = Some(came),
        (Some(Feature::Bytes(all)), Feature::Bytes(one)) => all.extend(one),
        (Some(Feature::Integers(all)), Feature::Integers(one)) => all.extend(one),
        (Some(Feature::Floats(all)), Feature::Floats(one)) => all.extend(one),
        (Some(_), _) => {
            let message = format!("feature {} holds values of more than one kind", quoted(name));
            return Err(Stop::new(ErrorCode::WireInvalidField, message));
        }
    }
    Ok(())
}

/// Appends `results`: classes with their scores a row, or one number.
pub(super) fn encode(
    response: &InferResponse,
    telling: Telling,
    context: &EncodeContext<'_>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"results\":[");
    match telling {
        Telling::Values => {
            for (position, value) in values(&response.outputs).into_iter().enumerate() {
                comma(out, position);
                push_number(out, value);
            }
        }
        Telling::Classes => {
            for (row, found) in classes(&response.outputs, context.labels).iter().enumerate() {
                comma(out, row);
                out.push(b'[');
                for (position, (name, score)) in found.iter().enumerate() {
                    comma(out, position);
                    out.push(b'[');
                    push_text(out, name);
                    out.push(b',');
                    push_number(out, *score);
                    out.push(b']');
                }
                out.push(b']');
            }
        }
    }
    out.extend_from_slice(b"]}");
}

fn comma(out: &mut Vec<u8>, position: usize) {
    if position > 0 {
        out.push(b',');
    }
}

/// A number, or one of the bare words that TensorFlow Serving writes.
fn push_number(out: &mut Vec<u8>, value: f32) {
    let word: Cow<'_, [u8]> = match (value.is_nan(), value.is_infinite(), value > 0.0) {
        (true, ..) => b"NaN".into(),
        (_, true, true) => b"Infinity".into(),
        (_, true, false) => b"-Infinity".into(),
        _ => return push_float(out, value),
    };
    out.extend_from_slice(&word);
}

#[cfg(test)]
mod tests {
    use dukou_types::{Buffer, DType, Data, Dim, Tensor, TensorSpec};

    use super::*;

    fn spec(name: &str, dtype: DType, inner: &[usize]) -> TensorSpec {
        let inner = inner.iter().map(|&extent| Dim::Fixed(extent));
        let shape = std::iter::once(Dim::Any(())).chain(inner).collect();
        TensorSpec { name: name.into(), dtype, shape }
    }

    fn signature() -> Signature {
        Signature {
            inputs: vec![
                spec("x", DType::Fp32, &[2]),
                spec("n", DType::Int64, &[]),
                spec("word", DType::Bytes, &[]),
            ],
            outputs: vec![spec("scores", DType::Fp32, &[2])],
            batchable: false,
        }
    }

    fn ask(body: &str) -> Result<Decoded, Failure> {
        let limits = DecodeLimits { json_depth: 100, body_bytes: 1 << 20 };
        let body = Bytes::copy_from_slice(body.as_bytes());
        decode(&body, Telling::Classes, &signature(), &limits, &mut |_, bytes| {
            Buffer::zeroed(bytes)
        })
    }

    #[test]
    fn examples_are_rows_of_the_inputs() {
        let decoded = ask(r#"{"signature_name":"serving_default","context":{"word":"all","n":7},
                "examples":[{"x":[1.5,2.0]},{"x":[3.0,-1e1],"n":true,"word":{"b64":"AP8="}}]}"#)
        .unwrap();
        let [x, n, word] = &decoded.inputs[..] else { panic!() };
        assert_eq!(
            (&*x.shape, x.typed::<f32>().unwrap()),
            (&[2, 2][..], &[1.5, 2.0, 3.0, -10.0][..])
        );
        assert_eq!(n.typed::<i64>().unwrap(), [7, 1]);
        assert_eq!(word.strings().unwrap(), [&b"all"[..], b"\x00\xff"]);
        assert_eq!(
            decoded.carriage,
            Carriage::Results { telling: Telling::Classes, several: false }
        );
    }

    #[test]
    fn what_is_no_example_is_refused() {
        let x = r#""x":[1.0,2.0],"n":1,"word":"w""#;
        for (body, code, words) in [
            ("{}".to_owned(), ErrorCode::WireMissingField, "'examples'"),
            (r#"{"examples":[]}"#.to_owned(), ErrorCode::WireMissingField, "empty"),
            (
                r#"{"examples":[1]}"#.to_owned(),
                ErrorCode::WireInvalidField,
                "an object of features",
            ),
            (
                r#"{"examples":[{"x":[1.0,2]}]}"#.to_owned(),
                ErrorCode::WireInvalidField,
                "more than one kind",
            ),
            (r#"{"examples":[{"x":[[1.0]]}]}"#.to_owned(), ErrorCode::WireInvalidField, "`x`"),
            (r#"{"examples":[{"x":null}]}"#.to_owned(), ErrorCode::WireInvalidField, "`x`"),
            (
                r#"{"examples":[{"n":99999999999999999999}]}"#.to_owned(),
                ErrorCode::WireInvalidField,
                "`n`",
            ),
            (
                r#"{"examples":[{"x":[1.0,2.0]}]}"#.to_owned(),
                ErrorCode::RequestMissingInput,
                "Feature: n",
            ),
            (
                format!(r#"{{"signature_name":"other","examples":[{{{x}}}]}}"#),
                ErrorCode::WireInvalidField,
                "not found in signature def",
            ),
        ] {
            let failure = ask(&body).map(drop).unwrap_err();
            assert!(failure.message.contains(words), "{body}: {failure}");
            assert_eq!(failure.code, code, "{body}: {failure}");
        }
        assert!(ask(&format!(r#"{{"examples":[{{{x}}}]}}"#)).is_ok());
    }

    #[test]
    fn answers_are_as_tensorflow_serving_writes_them() {
        let mut numbers = Buffer::zeroed(16);
        numbers.typed_mut::<f32>().copy_from_slice(&[0.25, 0.75, f32::NAN, f32::INFINITY]);
        let (name, data) = ("scores".into(), Data::Owned(numbers));
        let output = Tensor { name, dtype: DType::Fp32, shape: vec![2, 2], data };
        let response =
            InferResponse { outputs: [output].into_iter().collect(), ..InferResponse::default() };
        let labels: [Box<str>; 2] = ["no".into(), "yes".into()];
        let context = EncodeContext {
            model: "m",
            version: "1",
            client_id: None,
            carriage: &Carriage::Json,
            labels: &labels,
        };
        let mut out = Vec::new();
        encode(&response, Telling::Classes, &context, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"results":[[["no",0.25],["yes",0.75]],[["no",NaN],["yes",Infinity]]]}"#
        );
    }
}
