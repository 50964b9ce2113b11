//! What is sent: files as they are, or random inputs of a model, made from its V2 metadata.

use std::{path::Path, time::Duration};

use dukou_types::DType;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    connection::Connection,
    random::Random,
    settings::{Settings, Source, UsageError},
    target::Target,
};

/// The largest number of elements that one made input may have.
const LARGEST_INPUT: usize = 16 << 20;

/// Rendered requests, head and body in one run of bytes: one write each.
pub struct Requests(pub Vec<Vec<u8>>);

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
        let rendered = match &settings.source {
            Source::None => vec![render(settings, target, &target.path, None)],
            Source::Files(files) => files
                .iter()
                .map(|file| Ok(render(settings, target, &target.path, Some(&read(file)?))))
                .collect::<Result<_, UsageError>>()?,
            Source::Model { name, rows, count } => {
                let metadata = fetch(settings, target, name).await?;
                let path = target.join(&format!("/v2/models/{name}/infer"));
                let mut random = Random::new(settings.seed);
                (0..*count)
                    .map(|_| {
                        let body = make_body(&metadata, *rows, &mut random)
                            .map_err(|reason| no_metadata(name, reason))?;
                        Ok(render(settings, target, &path, Some(body.to_string().as_bytes())))
                    })
                    .collect::<Result<_, UsageError>>()?
            }
        };
        Ok(Self(rendered))
    }
}

fn read(file: &Path) -> Result<Vec<u8>, UsageError> {
    std::fs::read(file).map_err(|error| UsageError::Unreadable { path: file.into(), error })
}

fn render(settings: &Settings, target: &Target, path: &str, body: Option<&[u8]>) -> Vec<u8> {
    let method = if body.is_some() { "POST" } else { "GET" };
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", target.authority);
    for (name, value) in &settings.headers {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    let named = |wanted: &str| settings.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(wanted));
    if let Some(body) = body {
        if !named("content-type") {
            bytes.push_str("content-type: application/json\r\n");
        }
        bytes.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    bytes.push_str("\r\n");
    let mut bytes = bytes.into_bytes();
    bytes.extend_from_slice(body.unwrap_or_default());
    bytes
}

fn no_metadata(model: &str, reason: impl Into<String>) -> UsageError {
    UsageError::NoMetadata { model: model.to_owned(), reason: reason.into() }
}

async fn fetch(settings: &Settings, target: &Target, model: &str) -> Result<Metadata, UsageError> {
    let limit = settings.timeout.max(Duration::from_secs(1));
    let mut connection = Connection::new(target.clone(), limit, false);
    let path = target.join(&format!("/v2/models/{model}"));
    let request = render(settings, target, &path, None);
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
    let inputs = metadata.inputs.iter().map(|input| make_input(input, rows, random));
    Ok(json!({ "inputs": inputs.collect::<Result<Vec<_>, _>>()? }))
}

fn make_input(input: &Input, rows: usize, random: &mut Random) -> Result<Value, String> {
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
        (0..count).map(|_| make_element(dtype, random)).collect::<Result<_, _>>()?;
    Ok(json!({ "name": input.name, "shape": shape, "datatype": dtype.name(), "data": data }))
}

fn make_element(dtype: DType, random: &mut Random) -> Result<Value, String> {
    Ok(match dtype {
        DType::Bool => json!(random.bits() & 1 == 1),
        // Four decimals, as measured values have.
        DType::Fp32 | DType::Fp64 => json!((random.unit() * 1e4).round() / 1e4),
        DType::Bytes => json!(format!("text {}", random.bits() % 1000)),
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
}
