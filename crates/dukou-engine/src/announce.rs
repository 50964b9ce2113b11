//! What is said when a table is refused or a version is not what it was.

use crate::{
    events::{self, Event, Level},
    serving::{GoldenState, Loaded},
    swap::Refused,
};

/// Says that a table was not taken, and why.
pub fn announce_refusal(refused: &Refused) {
    let failure = refused.failure();
    let about = match refused {
        Refused::Version(not_loaded) => Some(not_loaded),
        Refused::Table(_) => None,
    };
    events::emit(&Event::Refused {
        code: failure.code.as_str(),
        message: &failure.message,
        model: about.map(|about| about.model.as_str()),
        version: about.map(|about| about.version.as_str()),
    });
    let what = match about {
        Some(about) => {
            format!("the table was refused: model `{}` version `{}`", about.model, about.version)
        }
        None => "the table was refused".to_owned(),
    };
    events::log_failure(Level::Error, what, failure);
}

/// Says that a version that is served does not reproduce its golden samples, where that is so.
pub fn announce_golden(loaded: &Loaded) {
    let GoldenState::Differs(failure) = &*loaded.golden.lock() else { return };
    events::emit(&Event::GoldenAlarm {
        model: loaded.model.as_str(),
        version: loaded.version.as_str(),
        message: &failure.message,
    });
    let what =
        format!("model `{}` version `{}` is served all the same", loaded.model, loaded.version);
    events::log_failure(Level::Error, what, failure);
}
