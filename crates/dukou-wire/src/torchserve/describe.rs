//! What a server says of itself and of its models, as TorchServe does.

use dukou_types::{ModelName, Signature};

use crate::{
    json::{push_integer, push_text},
    sentence,
};

/// Health.
pub fn encode_healthy() -> Vec<u8> {
    b"{\"status\":\"Healthy\"}".to_vec()
}

/// One page of the list of models, each with where it comes from; `next` where more may follow.
pub fn encode_model_page<'m>(
    models: impl IntoIterator<Item = (&'m str, String)>,
    next: Option<usize>,
) -> Vec<u8> {
    let mut out = b"{".to_vec();
    if let Some(next) = next {
        out.extend_from_slice(b"\"nextPageToken\":\"");
        push_integer(&mut out, next);
        out.extend_from_slice(b"\",");
    }
    out.extend_from_slice(b"\"models\":[");
    for (position, (name, url)) in models.into_iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"modelName\":");
        push_text(&mut out, name);
        out.extend_from_slice(b",\"modelUrl\":");
        push_text(&mut out, &url);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    out
}

/// How one version is run.
#[derive(Clone, Debug)]
pub struct WorkersOf<'a> {
    /// The model.
    pub model: &'a str,
    /// The version.
    pub version: &'a str,
    /// Where it comes from.
    pub url: String,
    /// Instances that run it; 0: it answers nothing.
    pub workers: u64,
    /// Rows of one batch.
    pub batch_rows: u64,
    /// How long a batch waits for more, in milliseconds.
    pub batch_delay_ms: u64,
    /// How long a request may take, in seconds.
    pub response_timeout_s: u64,
    /// Since when it has been ready, as ISO 8601 has it; none: it is not.
    pub since: Option<String>,
    /// Whether it runs on an accelerator.
    pub on_a_device: bool,
    /// The process.
    pub pid: u32,
    /// Requests that may wait.
    pub queue: u64,
    /// Requests that wait.
    pub queued: u64,
}

/// How versions are run: always a list, as TorchServe has it.
pub fn encode_workers(versions: &[WorkersOf<'_>]) -> Vec<u8> {
    let mut out = b"[".to_vec();
    for (position, of) in versions.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        push_workers(&mut out, of);
    }
    out.push(b']');
    out
}

/// What TorchServe says of models that have none of this; none here has.
const NONE_OF_IT: &str = ",\"clientTimeoutInMills\":0,\"parallelType\":\"\",\"parallelLevel\":0,\
    \"continuousBatching\":false,\"useJobTicket\":false,\"useVenv\":false,\"stateful\":false,\
    \"sequenceMaxIdleMSec\":0,\"sequenceTimeoutMSec\":0,\"maxNumSequence\":0,\
    \"maxSequenceJobQueueSize\":0";

fn push_workers(out: &mut Vec<u8>, of: &WorkersOf<'_>) {
    let texts = [
        ("{\"modelName\":", of.model),
        (",\"modelVersion\":", of.version),
        (",\"modelUrl\":", &of.url),
        (",\"runtime\":", "onnxruntime"),
        (",\"deviceType\":", if of.on_a_device { "gpu" } else { "cpu" }),
    ];
    for (key, value) in texts {
        out.extend_from_slice(key.as_bytes());
        push_text(out, value);
    }
    for (key, value) in [
        (",\"minWorkers\":", of.workers),
        (",\"maxWorkers\":", of.workers),
        (",\"batchSize\":", of.batch_rows),
        (",\"maxBatchDelay\":", of.batch_delay_ms),
        (",\"responseTimeout\":", of.response_timeout_s),
    ] {
        out.extend_from_slice(key.as_bytes());
        push_integer(out, value);
    }
    out.extend_from_slice(NONE_OF_IT.as_bytes());
    out.extend_from_slice(b",\"loadedAtStartup\":true,\"workers\":[");
    // TorchServe counts its workers up from here.
    for id in 9000..9000 + of.workers {
        if id > 9000 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"id\":\"");
        push_integer(out, id);
        out.extend_from_slice(b"\",\"startTime\":");
        push_text(out, of.since.as_deref().unwrap_or_default());
        let state = if of.since.is_some() { "READY" } else { "UNLOADING" };
        out.extend_from_slice(b",\"status\":");
        push_text(out, state);
        out.extend_from_slice(b",\"memoryUsage\":0,\"pid\":");
        push_integer(out, of.pid);
        let device: &[u8] = if of.on_a_device { b",\"gpu\":true" } else { b",\"gpu\":false" };
        out.extend_from_slice(device);
        out.extend_from_slice(b",\"gpuUsage\":\"N/A\"}");
    }
    out.extend_from_slice(b"],\"jobQueueStatus\":{\"remainingCapacity\":");
    push_integer(out, of.queue.saturating_sub(of.queued));
    out.extend_from_slice(b",\"pendingRequests\":");
    push_integer(out, of.queued);
    out.extend_from_slice(b"}}");
}

/// What can be asked, as OpenAPI has it: of the server, or of one model with what it takes.
pub fn encode_api_description(version: &str, model: Option<(&ModelName, &Signature)>) -> Vec<u8> {
    let mut out =
        b"{\"openapi\":\"3.0.1\",\"info\":{\"title\":\"dukou, as TorchServe\",\"version\":"
            .to_vec();
    push_text(&mut out, version);
    out.extend_from_slice(b"},\"paths\":{");
    match model {
        None => {
            for (position, (path, operations)) in PATHS.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                push_path(&mut out, path, operations);
            }
        }
        Some((name, signature)) => {
            let takes = format!("takes {}", sentence::specs(&signature.inputs));
            let gives = format!("gives {}", sentence::specs(&signature.outputs));
            let path = format!("/predictions/{name}");
            push_path(&mut out, &path, &[("post", "predictions", &format!("{takes}; {gives}"))]);
        }
    }
    out.extend_from_slice(b"}}");
    out
}

/// Method, name and sentence of an operation.
type Operations<'a> = [(&'a str, &'a str, &'a str)];

const PATHS: [(&str, &Operations<'static>); 9] = [
    ("/ping", &[("get", "ping", "whether requests are answered")]),
    ("/predictions/{model_name}", &[("post", "predictions", "asks a model's default version")]),
    (
        "/predictions/{model_name}/{model_version}",
        &[("post", "version_predictions", "asks a version of a model")],
    ),
    (
        "/models",
        &[
            ("get", "listModels", "the models, a page at a time: `limit`, `next_page_token`"),
            ("post", "registerModel", "serves a file of the model store: `url`, `model_name`"),
        ],
    ),
    (
        "/models/{model_name}",
        &[
            ("get", "describeModel", "how a model's default version is run"),
            ("put", "setAutoScale", "how many instances run it: `min_worker`, `synchronous`"),
            ("delete", "unregisterModel", "forgets a model"),
        ],
    ),
    (
        "/models/{model_name}/{model_version}",
        &[
            ("get", "version_describeModel", "how a version is run"),
            ("put", "version_setAutoScale", "how many instances run a version"),
            ("delete", "version_unregisterModel", "forgets a version"),
        ],
    ),
    (
        "/models/{model_name}/{model_version}/set-default",
        &[("put", "setDefault", "which version answers requests that name none")],
    ),
    ("/metrics", &[("get", "metrics", "counters and times, as Prometheus reads them")]),
    ("/api-description", &[("get", "apiDescription", "this document")]),
];

fn push_path(out: &mut Vec<u8>, path: &str, operations: &Operations<'_>) {
    push_text(out, path);
    out.extend_from_slice(b":{");
    for (position, (method, id, words)) in operations.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        push_text(out, method);
        for (key, value) in [(":{\"operationId\":", id), (",\"description\":", words)] {
            out.extend_from_slice(key.as_bytes());
            push_text(out, value);
        }
        out.extend_from_slice(b",\"parameters\":[");
        let named = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        for (position, name) in named.enumerate() {
            if position > 0 {
                out.push(b',');
            }
            out.extend_from_slice(
                b"{\"in\":\"path\",\"required\":true,\"schema\":{\"type\":\"string\"},\"name\":",
            );
            push_text(out, name);
            out.push(b'}');
        }
        out.extend_from_slice(b"],\"responses\":{\"200\":{\"description\":\"done\"},\"default\":{");
        out.extend_from_slice(b"\"description\":\"code, type and message of a failure\"}}}");
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_json_as_torchserve_has_it() {
        let of = WorkersOf {
            model: "m",
            version: "1",
            url: "m.onnx".into(),
            workers: 2,
            batch_rows: 64,
            batch_delay_ms: 0,
            response_timeout_s: 30,
            since: Some("2026-11-26T01:12:12.123Z".into()),
            on_a_device: false,
            pid: 7,
            queue: 100,
            queued: 1,
        };
        let said: serde_json::Value = serde_json::from_slice(&encode_workers(&[of])).unwrap();
        let first = &said[0];
        assert_eq!(first["modelName"], "m");
        assert_eq!(first["workers"][1]["id"], "9001");
        assert_eq!(first["workers"][0]["status"], "READY");
        assert_eq!(first["workers"][0]["startTime"], "2026-11-26T01:12:12.123Z");
        assert_eq!(first["jobQueueStatus"]["remainingCapacity"], 99);
        let page = encode_model_page([("m", "m.onnx".to_owned())], Some(1));
        let expected = r#"{"nextPageToken":"1","models":[{"modelName":"m","modelUrl":"m.onnx"}]}"#;
        assert_eq!(String::from_utf8(page).unwrap(), expected);
        let said = encode_api_description("1.2.3", None);
        let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
        assert_eq!(said["paths"]["/models"]["post"]["operationId"], "registerModel");
        let name = ModelName::parse("m").unwrap();
        let said = encode_api_description("1.2.3", Some((&name, &Signature::default())));
        let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
        assert!(said["paths"]["/predictions/m"]["post"].is_object());
    }
}
