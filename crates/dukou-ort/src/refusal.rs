//! The runtime's refusals, told in one sentence with a stable code.

use dukou_types::{ErrorCode, Failure};

use crate::{
    api::Status,
    graph::{Facts, clip},
};

/// Drops what only a developer of the runtime reads: source paths, function signatures, line ends.
fn words(message: &str) -> String {
    let mut text = message.trim();
    // `/onnxruntime_src/…/file.cc:12 type function(arguments) the words`
    if text.starts_with('/')
        && let Some(end) = text.find(") ").map(|at| at + 2)
    {
        text = &text[end..];
        if let Some(rest) = text.strip_prefix("const ") {
            text = rest;
        }
    }
    clip(text.lines().next().unwrap_or(text).trim())
}

/// Why a session could not be made.
pub(crate) fn of_opening(status: Status, facts: &Facts, what: &str, version: &str) -> Failure {
    let message = status.message.as_str();
    let failure = if is_memory(message) {
        Failure::new(
            ErrorCode::EngineOutOfMemory,
            format!("there is not enough memory to open {what}"),
        )
    } else if let Some(lacking) = lacking_operator(message, facts) {
        Failure::new(
            ErrorCode::FormatsUnsupportedOperator,
            format!("{what} uses {lacking}, which ONNX Runtime {version} lacks"),
        )
    } else if message.contains("under development and support for this is limited")
        || message.contains("Unsupported model IR version")
    {
        let opsets: Vec<String> = facts.opsets.iter().map(|(d, v)| format!("{d} {v}")).collect();
        Failure::new(
            ErrorCode::FormatsUnsupportedOperator,
            format!(
                "{what} is made for newer operators than ONNX Runtime {version} knows (opsets: {}): {}",
                opsets.join(", "),
                words(message)
            ),
        )
    } else if status.code == Status::INVALID_PROTOBUF || status.code == Status::NO_SUCH_FILE {
        Failure::new(ErrorCode::FormatsCorrupt, format!("{what} is damaged: {}", words(message)))
    } else if status.code < 0 {
        Failure::new(ErrorCode::EngineInternal, format!("{what} could not be opened"))
    } else {
        Failure::new(
            ErrorCode::FormatsCorrupt,
            format!("{what} is not a valid ONNX graph: {}", words(message)),
        )
    };
    failure.with_detail(status.message)
}

/// Why a run failed. `inputs` are what the model was given, so most failures are theirs.
pub(crate) fn of_running(status: Status) -> Failure {
    let failure = if is_memory(&status.message) {
        Failure::new(
            ErrorCode::EngineOutOfMemory,
            "there is not enough memory to run the model on these inputs",
        )
    } else if status.code < 0 || matches!(status.code, Status::NOT_IMPLEMENTED | Status::EP_FAIL) {
        Failure::new(ErrorCode::EngineInternal, "the model could not be run")
    } else {
        Failure::new(
            ErrorCode::RequestRejectedByModel,
            format!("the model refused these inputs: {}", running_words(&status.message)),
        )
    };
    failure.with_detail(status.message)
}

/// `Non-zero status code returned while running X node. Name:'n' Status Message: the words`
fn running_words(message: &str) -> String {
    const NODE: &str = "while running ";
    const WORDS: &str = "Status Message: ";
    let said = message.find(WORDS).map_or(message, |at| &message[at + WORDS.len()..]);
    let node = message
        .find(NODE)
        .map(|at| &message[at + NODE.len()..])
        .and_then(|rest| rest.split_whitespace().next());
    match node {
        Some(node) => format!("operator `{}`: {}", clip(node), words(said)),
        None => words(said),
    }
}

fn is_memory(message: &str) -> bool {
    ["bad_alloc", "Failed to allocate memory", "bad allocation", "out of memory"]
        .iter()
        .any(|sign| message.contains(sign))
}

/// The operator that is missing, if that is what the runtime means.
fn lacking_operator(message: &str, facts: &Facts) -> Option<String> {
    // `No Op registered for Teleport with domain_version of 17`
    if let Some(rest) = after(message, "No Op registered for ") {
        let operator = rest.split_whitespace().next()?;
        let domain = domain_of(operator, facts);
        return Some(format!("operator `{}` ({})", clip(operator), facts.opset(&domain)));
    }
    // `Fatal error: acme:Teleport(-1) is not a registered function/op`
    if message.contains("is not a registered function/op") {
        let rest = after(message, "Fatal error: ")?;
        let (domain, operator) = rest.split('(').next()?.rsplit_once(':')?;
        return Some(format!("operator `{}` ({})", clip(operator), facts.opset(domain)));
    }
    // `("n1", Teleport, "acme", -1) … Error No opset import for domain 'acme'`
    if let Some(rest) = after(message, "No opset import for domain '") {
        let domain = rest.split('\'').next()?;
        let operator = facts.operators.iter().find(|(d, _)| d == domain).map(|(_, o)| o.as_str());
        return Some(format!(
            "operator `{}` ({})",
            clip(operator.unwrap_or("?")),
            facts.opset(domain)
        ));
    }
    // `Could not find an implementation for Erf(13) node with name 'n1'`
    if let Some(rest) = after(message, "Could not find an implementation for ") {
        let operator = rest.split('(').next()?;
        let domain = domain_of(operator, facts);
        return Some(format!(
            "operator `{}` ({}) with element types",
            clip(operator),
            facts.opset(&domain)
        ));
    }
    None
}

fn after<'a>(message: &'a str, sign: &str) -> Option<&'a str> {
    message.find(sign).map(|at| &message[at + sign.len()..])
}

fn domain_of(operator: &str, facts: &Facts) -> String {
    facts
        .operators
        .iter()
        .find(|(_, name)| name == operator)
        .map_or_else(|| "ai.onnx".to_owned(), |(domain, _)| domain.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: i32, message: &str) -> Status {
        Status { code, message: message.into() }
    }

    #[test]
    fn a_source_path_is_not_told() {
        let failure = of_running(status(
            6,
            "Non-zero status code returned while running Gather node. Name:'g' Status Message: \
             /onnxruntime_src/onnxruntime/core/gather.cc:9 void f(int) indices element out of data bounds, idx=99",
        ));
        assert_eq!(failure.code, ErrorCode::RequestRejectedByModel);
        assert_eq!(
            failure.message,
            "the model refused these inputs: operator `Gather`: indices element out of data bounds, idx=99"
        );
        assert!(failure.detail.unwrap().contains("gather.cc"));
    }

    #[test]
    fn memory_is_told_apart() {
        let failure = of_running(status(6, "std::bad_alloc"));
        assert_eq!(failure.code, ErrorCode::EngineOutOfMemory);
    }

    #[test]
    fn an_operator_without_a_kernel_is_named() {
        let mut facts = Facts { opsets: vec![("ai.onnx".into(), 13)], ..Facts::default() };
        facts.operators.push(("ai.onnx".into(), "Erf".into()));
        let message = "Could not find an implementation for Erf(13) node with name 'n1'";
        let failure =
            of_opening(status(Status::NOT_IMPLEMENTED, message), &facts, "`m.onnx`", "1.32.0");
        assert_eq!(failure.code, ErrorCode::FormatsUnsupportedOperator);
        assert!(failure.message.contains("`Erf` (opset 13 of `ai.onnx`)"), "{}", failure.message);
    }
}
