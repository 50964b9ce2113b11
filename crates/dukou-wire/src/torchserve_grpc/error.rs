//! Failures in TorchServe's words and numbers.

use dukou_types::{ErrorCode, Failure};

use crate::{
    Target,
    grpc::{self, number},
    torchserve,
};

/// The number of a call's status. Whoever asks for a prediction that no worker gives hears an internal
/// error there, whatever it is; who shows no good key has no permission.
pub fn status(failure: &Failure, target: Option<&Target>) -> u16 {
    use ErrorCode as C;
    match (failure.code, target) {
        (C::AccessNoKey | C::AccessBadKey | C::AccessForbidden, _) => number::PERMISSION_DENIED,
        (
            C::RequestUnknownModel | C::RequestUnknownVersion | C::ServerNoWorker,
            Some(Target::Infer { .. }),
        ) => number::INTERNAL,
        _ => grpc::status_of(failure),
    }
}

/// The words of a call's status, percent-encoded: the sentence, and TorchServe's class of it on a line of
/// its own.
pub fn encode_words(failure: &Failure, target: Option<&Target>) -> String {
    let (kind, words) = torchserve::said(failure, target);
    grpc::encode_words(&format!("{words}\n{kind}"))
}
