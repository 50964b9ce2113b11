//! What became of one request.

use std::io;

use serde::Serialize;

/// Why a request has no good answer. The names are the report's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// No connection could be made.
    Refused,
    /// The connection ended before the answer was complete.
    Reset,
    /// No complete answer in time.
    Timeout,
    /// What came is not HTTP/1.1, or larger than an answer may be.
    Protocol,
    /// Another status than 2xx.
    Status,
    /// The answer is not the expected one.
    WrongAnswer,
}

impl Loss {
    /// Every kind, in the report's order.
    pub const ALL: [Self; 6] = [
        Self::Refused,
        Self::Reset,
        Self::Timeout,
        Self::Protocol,
        Self::Status,
        Self::WrongAnswer,
    ];

    /// The name in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Status => "status",
            Self::WrongAnswer => "wrong-answer",
        }
    }
}

impl From<io::Error> for Loss {
    /// Of an established connection: whatever ended it, the answer is lost.
    fn from(_: io::Error) -> Self {
        Self::Reset
    }
}
