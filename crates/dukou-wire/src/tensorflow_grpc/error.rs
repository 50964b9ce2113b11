//! Failures in TensorFlow Serving's words and numbers.

use dukou_types::Failure;

use crate::{Target, grpc, tensorflow};

/// The most bytes of words that its status carries.
const MOST_WORDS: usize = 1024;

/// The number of a call's status.
pub fn status(failure: &Failure) -> u16 {
    // Refusals that are no invalid arguments there: the model's signature is not one for this.
    const PRECONDITIONS: [&str; 3] = [
        "Serving signature key ",
        "Expected classification signature outputs ",
        "No regression outputs found ",
    ];
    if PRECONDITIONS.iter().any(|words| failure.message.starts_with(words)) {
        return grpc::number::FAILED_PRECONDITION;
    }
    grpc::status_of(failure)
}

/// The words of a call's status, percent-encoded; they begin as TensorFlow Serving's do where clients look
/// at them.
pub fn encode_words(failure: &Failure, target: Option<&Target>) -> String {
    let own = tensorflow::unknown(failure, target);
    let words = own.as_deref().unwrap_or(&failure.message);
    if words.len() <= MOST_WORDS {
        return grpc::encode_words(words);
    }
    let mut end = MOST_WORDS;
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    grpc::encode_words(&format!("{}...TRUNCATED", &words[..end]))
}
