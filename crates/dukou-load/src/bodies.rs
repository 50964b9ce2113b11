//! What is sent: files as they are, or inputs of a model, random or given, in V2's JSON or in a dialect.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use dukou_types::{Buffer, DType, Failure, Signature, Tensor, TensorSpec};
use dukou_wire::{keras::read_npy, v2::parse_tensors};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    connection::Connection,
    random::Random,
    request::{Request, plain},
    settings::{Settings, Source, Spoken, UsageError},
    speech::Speech,
    target::Target,
};

/// The largest number of elements that one made input may have.
const LARGEST_INPUT: usize = 16 << 20;

/// All requests of a run, rendered.
pub struct Requests {
    /// Sent in turn.
    pub rendered: Vec<Request>,
    /// What their answers are read by, where a dialect was named.
    pub speech: Option<Arc<Speech>>,
}

#[derive(Deserialize)]
struct Metadata {
    inputs: Vec<Input>,
}

#[derive(Deserialize)]
struct Input {
    name: String,
    datatype: String,
    shape: Vec<i64>,
}

impl Requests {
    /// All requests of a run. Asks the server where a model was named.
    pub async fn prepare(settings: &Settings, target: &Target) -> Result<Self, UsageError> {
        let render = |path: &str, body: Option<&[u8]>| {
            let headers = [("content-type", "application/json".to_owned())];
            let body = body.map(|body| (&headers[..], body));
            Request::Plain(plain(settings, target, path, body))
        };
        let rendered = match &settings.source {
            Source::None => vec![render(&target.path, None)],
            Source::Files(files) => files
                .iter()
                .map(|file| Ok(render(&target.path, Some(&read(file)?))))
                .collect::<Result<_, UsageError>>()?,
            Source::Model { name, rows, count } => {
                let metadata = fetch(settings, target, name).await?;
                let path = target.join(&format!("/v2/models/{name}/infer"));
                let mut random = Random::new(settings.seed);
                (0..*count)
                    .map(|_| {
                        let body = make_body(&metadata, *rows, &mut random)
                            .map_err(|reason| no_metadata(name, reason))?;
                        Ok(render(&path, Some(body.to_string().as_bytes())))
                    })
                    .collect::<Result<_, UsageError>>()?
            }
            Source::Spoken(spoken) => {
                let speech = Speech::learn(settings, target, spoken).await?;
                let mut random = Random::new(settings.seed);
                let rendered = questions(spoken, &speech.signature, &mut random)?
                    .iter()
                    .map(|inputs| speech.request(settings, target, inputs))
                    .collect::<Result<_, UsageError>>()?;
                return Ok(Self { rendered, speech: Some(Arc::new(speech)) });
            }
        };
        Ok(Self { rendered, speech: None })
    }
}

/// The inputs of each question: those of the files, or random ones.
fn questions(
    spoken: &Spoken,
    signature: &Signature,
    random: &mut Random,
) -> Result<Vec<Vec<Tensor>>, UsageError> {
    if spoken.inputs.is_empty() {
        let made = |_| {
            make_tensors(signature, spoken.rows, random)
                .map_err(|reason| no_metadata(&spoken.model, reason))
        };
        return (0..spoken.count).map(made).collect();
    }
    let of = |file: &std::path::PathBuf| {
        let bytes = read(file)?;
        read_inputs(bytes, signature)
            .map_err(|reason| UsageError::BadInputs { path: file.clone(), reason })
    };
    spoken.inputs.iter().map(of).collect()
}

/// Tensors as V2 writes them, alone or as a request's `inputs`, or one array of NumPy's; in the signature's
/// order.
fn read_inputs(bytes: Vec<u8>, signature: &Signature) -> Result<Vec<Tensor>, String> {
    let bytes = Bytes::from(bytes);
    if bytes.starts_with(b"\x93NUMPY") {
        let tensor = read_npy(&bytes, signature, &mut |_, size| Buffer::zeroed(size));
        return tensor.map(|tensor| vec![tensor]).map_err(in_words);
    }
    let mut list = &*bytes;
    let asked: Asked;
    if bytes.trim_ascii_start().starts_with(b"{") {
        asked = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        list = asked.inputs.get().as_bytes();
    }
    let mut came = parse_tensors(list, true).map_err(in_words)?;
    let mut tensors = Vec::with_capacity(signature.inputs.len());
    for spec in &signature.inputs {
        let place = came.iter().position(|tensor| tensor.name == spec.name);
        let place = place.ok_or_else(|| format!("input `{}` is missing", spec.name))?;
        tensors.push(fitting(came.swap_remove(place), spec)?);
    }
    match came.first() {
        None => Ok(tensors),
        Some(more) => Err(format!("the model has no input `{}`", more.name)),
    }
}

fn in_words(failure: Failure) -> String {
    failure.message.into_owned()
}

#[derive(Deserialize)]
struct Asked {
    inputs: Box<serde_json::value::RawValue>,
}

/// The tensor, where it is of the spec.
fn fitting(tensor: Tensor, spec: &TensorSpec) -> Result<Tensor, String> {
    if tensor.dtype != spec.dtype || !spec.admits(&tensor.shape) {
        return Err(format!(
            "input `{}` is {} {:?}, and the model takes {} {:?}",
            spec.name,
            tensor.dtype,
            tensor.shape,
            spec.dtype,
            spec.wire_shape()
        ));
    }
    Ok(tensor)
}

/// Random inputs of a signature.
fn make_tensors(
    signature: &Signature,
    rows: usize,
    random: &mut Random,
) -> Result<Vec<Tensor>, String> {
    let made = signature.inputs.iter().map(|spec| {
        let (name, shape) = (spec.name.to_string(), spec.wire_shape());
        let input = Input { name, datatype: spec.dtype.name().to_owned(), shape };
        make_input(&input, (rows, true), random)
    });
    let list = Value::from(made.collect::<Result<Vec<_>, _>>()?);
    parse_tensors(list.to_string().as_bytes(), false).map_err(in_words)
}

fn read(file: &Path) -> Result<Vec<u8>, UsageError> {
    std::fs::read(file).map_err(|error| UsageError::Unreadable { path: file.into(), error })
}

fn no_metadata(model: &str, reason: impl Into<String>) -> UsageError {
    UsageError::NoMetadata { model: model.to_owned(), reason: reason.into() }
}

async fn fetch(settings: &Settings, target: &Target, model: &str) -> Result<Metadata, UsageError> {
    let limit = settings.timeout.max(Duration::from_secs(1));
    let mut connection = Connection::new(target.clone(), limit, false);
    let path = target.join(&format!("/v2/models/{model}"));
    let request = Request::Plain(plain(settings, target, &path, None));
    let answer = connection
        .exchange(&request)
        .await
        .map_err(|loss| no_metadata(model, format!("the request was lost ({})", loss.name())))?;
    if answer.status != 200 {
        return Err(no_metadata(model, format!("`GET {path}` gave status {}", answer.status)));
    }
    serde_json::from_slice(connection.body(&answer))
        .map_err(|error| no_metadata(model, format!("`GET {path}`: {error}")))
}

/// One random request of V2's JSON.
fn make_body(metadata: &Metadata, rows: usize, random: &mut Random) -> Result<Value, String> {
    let inputs = metadata.inputs.iter().map(|input| make_input(input, (rows, false), random));
    Ok(json!({ "inputs": inputs.collect::<Result<Vec<_>, _>>()? }))
}

/// `halves`: whether FP16 and BF16 may be written as numbers.
fn make_input(
    input: &Input,
    (rows, halves): (usize, bool),
    random: &mut Random,
) -> Result<Value, String> {
    let dtype = DType::parse(&input.datatype)
        .ok_or_else(|| format!("`{}` has dtype `{}`", input.name, input.datatype))?;
    // The first open dimension carries the rows; the others are 1.
    let dims = input
        .shape
        .iter()
        .enumerate()
        .map(|(at, dim)| usize::try_from(*dim).unwrap_or(if at == 0 { rows } else { 1 }));
    let shape: Vec<usize> = dims.collect();
    let count = shape
        .iter()
        .try_fold(1_usize, |product, dim| product.checked_mul(*dim))
        .filter(|count| *count <= LARGEST_INPUT)
        .ok_or_else(|| format!("`{}` has shape {shape:?}, too large to make up", input.name))?;
    let data: Vec<Value> =
        (0..count).map(|_| make_element((dtype, halves), random)).collect::<Result<_, _>>()?;
    Ok(json!({ "name": input.name, "shape": shape, "datatype": dtype.name(), "data": data }))
}

fn make_element((dtype, halves): (DType, bool), random: &mut Random) -> Result<Value, String> {
    Ok(match dtype {
        DType::Bool => json!(random.bits() & 1 == 1),
        // Four decimals, as measured values have.
        DType::Fp32 | DType::Fp64 => json!((random.unit() * 1e4).round() / 1e4),
        DType::Bytes => json!(format!("text {}", random.bits() % 1000)),
        // Few bits: what a half holds.
        DType::Fp16 | DType::Bf16 if halves => json!((random.bits() % 16) as f64 / 16.0),
        DType::Fp16 | DType::Bf16 => {
            return Err(format!("{dtype} does not travel in JSON; hint: send a `--body FILE`"));
        }
        _ => json!(random.bits() % 10),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(datatype: &str, shape: &[i64]) -> Metadata {
        let input = Input { name: "x".into(), datatype: datatype.into(), shape: shape.to_vec() };
        Metadata { inputs: vec![input] }
    }

    #[test]
    fn inputs_have_the_models_dtype_and_shape() {
        let mut random = Random::new(1);
        let body = make_body(&metadata("FP32", &[-1, 3, -1]), 2, &mut random).unwrap();
        let input = &body["inputs"][0];
        assert_eq!(input["shape"], json!([2, 3, 1]));
        assert_eq!(input["data"].as_array().unwrap().len(), 6);
        for dtype in DType::ALL {
            let made = make_body(&metadata(dtype.name(), &[1]), 1, &mut random);
            assert_eq!(made.is_ok(), !matches!(dtype, DType::Fp16 | DType::Bf16), "{dtype}");
        }
    }

    #[test]
    fn impossible_shapes_are_refused() {
        let mut random = Random::new(1);
        assert!(make_body(&metadata("FP32", &[1 << 40, 1 << 40]), 1, &mut random).is_err());
        assert!(make_body(&metadata("FP99", &[1]), 1, &mut random).is_err());
    }

    fn signature() -> Signature {
        let spec = |name: &str, dtype| TensorSpec {
            name: name.into(),
            dtype,
            shape: vec![dukou_types::Dim::Any(()), dukou_types::Dim::Fixed(2)],
        };
        let inputs = vec![spec("a", DType::Fp16), spec("b", DType::Int64)];
        Signature { inputs, ..Signature::default() }
    }

    #[test]
    fn tensors_are_made_for_every_dtype() {
        for dtype in DType::ALL {
            let mut signature = signature();
            signature.inputs[0].dtype = dtype;
            let made = make_tensors(&signature, 3, &mut Random::new(1)).unwrap();
            assert_eq!((made[0].dtype, &*made[0].shape), (dtype, &[3, 2][..]));
        }
    }

    #[test]
    fn inputs_of_a_file_are_put_in_order_and_compared() {
        let a = r#"{"name":"a","datatype":"FP16","shape":[1,2],"data":[0.5,1]}"#;
        let b = r#"{"name":"b","datatype":"INT64","shape":[1,2],"data":[3,4]}"#;
        let read = |text: String| read_inputs(text.into_bytes(), &signature());
        for text in [format!("[{b},{a}]"), format!(r#"{{"id":"7","inputs":[{a},{b}]}}"#)] {
            let tensors = read(text).unwrap();
            let names: Vec<&str> = tensors.iter().map(|tensor| &*tensor.name).collect();
            assert_eq!(names, ["a", "b"]);
        }
        for (text, words) in [
            (format!("[{a}]"), "input `b` is missing"),
            (format!("[{a},{b},{}]", a.replace("\"a\"", "\"c\"")), "has no input `c`"),
            (
                format!("[{a},{}]", b.replace("INT64", "INT32")),
                "input `b` is INT32 [1, 2], and the model takes INT64 [-1, 2]",
            ),
            ("{".to_owned(), "EOF"),
        ] {
            let reason = read(text).unwrap_err();
            assert!(reason.contains(words), "{reason}");
        }
    }
}
