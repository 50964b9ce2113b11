//! What a call is about: its method by the head, its model by the message.

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure};

use crate::{
    Head, Operation, Selector, Target,
    addressed::{model_name, version},
    grpc::{self, Fields, Part, health, method_of},
};

/// The service.
pub const SERVICE: &str = "inference.GRPCInferenceService";

/// What a call's head says; every call that no other dialect knows is ours to refuse.
pub(crate) fn recognize(head: &Head<'_>) -> Option<Result<Target, Failure>> {
    Some(grpc::check_content(head).and_then(|()| method(head.path)))
}

fn method(path: &str) -> Result<Target, Failure> {
    if health::is_check(path) {
        return Ok(Target::Ready);
    }
    if health::is_watch(path) {
        return Ok(Target::Watch);
    }
    Ok(match method_of(path, SERVICE) {
        Some("ServerLive") => Target::Live,
        Some("ServerReady") => Target::Ready,
        Some("ServerMetadata") => Target::ServerMetadata,
        Some("ModelStreamInfer") => Target::Stream,
        Some("ModelInfer") => Target::Message { operation: "infer" },
        Some("ModelReady") => Target::Message { operation: "model-ready" },
        Some("ModelMetadata") => Target::Message { operation: "model-metadata" },
        Some("ModelConfig") => Target::Message { operation: "model-config" },
        Some("ModelStatistics") => Target::Message { operation: "model-statistics" },
        Some("RepositoryIndex") => Target::RepositoryIndex,
        Some("RepositoryModelLoad") => Target::Message { operation: Operation::Load.name() },
        Some("RepositoryModelUnload") => Target::Message { operation: Operation::Unload.name() },
        Some("SystemSharedMemoryStatus" | "CudaSharedMemoryStatus") => Target::SharedMemory,
        Some(
            "SystemSharedMemoryRegister"
            | "SystemSharedMemoryUnregister"
            | "CudaSharedMemoryRegister"
            | "CudaSharedMemoryUnregister",
        ) => {
            return Err(unsupported(
                "Client shared memory is disabled: dukou does not have it; tensors travel in the message",
            ));
        }
        Some("TraceSetting") => {
            return Err(unsupported(
                "dukou does not have the trace extension: a request that carries `traceparent` is traced",
            ));
        }
        Some("LogSettings") => {
            return Err(unsupported(
                "dukou does not have the logging extension: the serving table says what is logged",
            ));
        }
        _ => return Err(grpc::no_method(path)),
    })
}

fn unsupported(words: &'static str) -> Failure {
    Failure::new(ErrorCode::WireUnsupported, words)
}

/// What a call is about, once its message is there.
///
/// # Errors
/// `wire.invalid-message`; `request.unknown-model` and `request.unknown-version` for what no model or
/// version can be called.
pub fn address_message(path: &str, message: &[Bytes]) -> Result<Target, Failure> {
    let method = method_of(path, SERVICE).unwrap_or_default();
    if method.starts_with("RepositoryModel") {
        // Its first field is the repository's name.
        let name = second(message)?;
        let load = method == "RepositoryModelLoad";
        let operation = if load { Operation::Load } else { Operation::Unload };
        let model = Some(model_name_of(&name)?);
        return Ok(Target::Change { operation, model, version: None });
    }
    if method == "ModelStatistics" && Fields::of(Part::whole(message)).next()?.is_none() {
        return Ok(Target::ModelStatistics { model: None, selector: Selector::Default });
    }
    let (model, selector) = named(message)?;
    Ok(match method {
        "ModelInfer" | "ModelStreamInfer" => Target::Infer { model, selector },
        "ModelReady" => Target::ModelReady { model, selector },
        "ModelMetadata" => Target::ModelMetadata { model, selector },
        "ModelConfig" => Target::ModelConfig { model, selector },
        "ModelStatistics" => Target::ModelStatistics { model: Some(model), selector },
        _ => return Err(grpc::no_method(path)),
    })
}

/// The model and the version, which are the first two fields of every message that has them.
fn named(message: &[Bytes]) -> Result<(dukou_types::ModelName, Selector), Failure> {
    let (mut name, mut label) = (Part::whole(&[]), Part::whole(&[]));
    let mut fields = Fields::of(Part::whole(message));
    while let Some(field) = fields.next()? {
        match field.number {
            1 => name = field.part("model_name")?,
            2 => label = field.part("model_version")?,
            _ => {}
        }
    }
    let model = model_name_of(&grpc::text(name, "model_name")?)?;
    let label = grpc::text(label, "model_version")?;
    let selector = match &*label {
        "" => Selector::Default,
        label => Selector::Version(plain(label, version)?),
    };
    Ok((model, selector))
}

/// The text of a message's second field.
fn second(message: &[Bytes]) -> Result<String, Failure> {
    let mut name = String::new();
    let mut fields = Fields::of(Part::whole(message));
    while let Some(field) = fields.next()? {
        if field.number == 2 {
            name = field.text("model_name")?.into_owned();
        }
    }
    Ok(name)
}

/// The client's own id of an inference, where it gave one: a refusal says it too.
pub fn client_id(message: &[Bytes]) -> Option<String> {
    let mut id = None;
    let mut fields = Fields::of(Part::whole(message));
    while let Ok(Some(field)) = fields.next() {
        if field.number == 3 {
            id = field.text("id").ok();
        }
    }
    id.filter(|id| !id.is_empty()).map(|id| id.into_owned())
}

/// A name as it stands: `%` has no meaning here.
fn model_name_of(text: &str) -> Result<dukou_types::ModelName, Failure> {
    plain(text, model_name)
}

fn plain<T>(text: &str, read: impl Fn(&str) -> Result<T, Failure>) -> Result<T, Failure> {
    if text.contains('%') {
        // No name has one; said in the words that every other wrong name is refused with.
        return read(&text.replace('%', "%25"));
    }
    read(text)
}

#[cfg(test)]
mod tests {
    use dukou_types::{ModelName, Version};
    use http::{HeaderMap, HeaderValue, Method, header::CONTENT_TYPE};

    use super::*;
    use crate::{Dialect, address, grpc::push_bytes};

    fn ask(path: &str, content: &'static str) -> Result<Target, ErrorCode> {
        let headers: HeaderMap =
            [(CONTENT_TYPE, HeaderValue::from_static(content))].into_iter().collect();
        let head = Head { method: &Method::POST, path, query: None, headers: &headers };
        let asked = address(&head).map_err(|failure| failure.code)?;
        assert_eq!(asked.dialect, Dialect::V2Grpc);
        Ok(asked.target)
    }

    #[test]
    fn methods_are_known_by_their_heads() {
        for content in ["application/grpc", "application/grpc+proto", "application/grpc;x=1"] {
            for (path, target) in [
                ("/inference.GRPCInferenceService/ServerLive", Target::Live),
                ("/inference.GRPCInferenceService/ServerReady", Target::Ready),
                ("/grpc.health.v1.Health/Check", Target::Ready),
                (
                    "/inference.GRPCInferenceService/ModelInfer",
                    Target::Message { operation: "infer" },
                ),
            ] {
                assert_eq!(ask(path, content), Ok(target), "{path}");
            }
        }
        for path in ["/inference.GRPCInferenceService/Nothing", "/a.B/C", "/v2/health/live", "/"] {
            assert_eq!(ask(path, "application/grpc"), Err(ErrorCode::WireUnknownPath), "{path}");
        }
        let json = ask("/inference.GRPCInferenceService/ModelInfer", "application/grpc+json");
        assert_eq!(json, Err(ErrorCode::WireUnsupported));
    }

    #[test]
    fn models_are_known_by_their_messages() {
        let ask = |name: &str, label: &str| {
            let mut message = Vec::new();
            push_bytes(&mut message, 2, label.as_bytes());
            push_bytes(&mut message, 1, name.as_bytes());
            let path = "/inference.GRPCInferenceService/ModelInfer";
            address_message(path, &[Bytes::from(message)]).map_err(|failure| failure.code)
        };
        let model = ModelName::parse("m").unwrap();
        let selector = Selector::Version(Version::parse("7").unwrap());
        assert_eq!(ask("m", "7"), Ok(Target::Infer { model: model.clone(), selector }));
        let selector = Selector::Default;
        assert_eq!(ask("m", ""), Ok(Target::Infer { model, selector }));
        for name in ["", "a/b", "a%2Fb", "%"] {
            assert_eq!(ask(name, ""), Err(ErrorCode::RequestUnknownModel), "{name}");
        }
        assert_eq!(ask("m", "a b"), Err(ErrorCode::RequestUnknownVersion));
    }
}
