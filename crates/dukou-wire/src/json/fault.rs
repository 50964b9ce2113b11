//! What can be wrong in a body, and where.

use dukou_types::{ErrorCode, Failure};

use crate::sentence::quoted;

/// Something wrong at a byte of the body. Small, because it stands in the result of every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The byte, from 0.
    pub at: usize,
    /// What is wrong there.
    pub kind: Kind,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The grammar wants this here.
    Expected(&'static str),
    /// A control character stands bare in a string.
    BareControl,
    /// An escape that JSON does not have, or half a surrogate pair.
    BadEscape,
    /// A string's bytes are not UTF-8.
    NotUtf8,
    /// Nested deeper than the limit.
    TooDeep(usize),
    /// A value of another kind than the one wanted (a string for a number).
    WrongType,
    /// A fraction or an exponent where a whole number is wanted.
    NotWhole,
    /// A number beyond what the type holds.
    OutOfRange,
    /// NaN or an infinity, or `null` for one.
    NotFinite,
    /// More elements than there may be.
    TooMany,
    /// Lists of one depth differ in length, or elements in depth.
    Ragged,
    /// A text that is no base64.
    NotBase64,
}

impl Fault {
    /// The grammar wants `what` at byte `at`.
    #[cold]
    pub(crate) const fn expected(what: &'static str, at: usize) -> Self {
        Self { at, kind: Kind::Expected(what) }
    }

    /// A fault of this kind at byte `at`.
    #[cold]
    pub(crate) const fn new(kind: Kind, at: usize) -> Self {
        Self { at, kind }
    }

    /// The same, where the value of the field `name` was being read, which must be `wanted`.
    #[cold]
    pub(crate) fn in_field(self, body: &[u8], name: &str, wanted: &str) -> Stop {
        if !matches!(self.kind, Kind::WrongType | Kind::NotWhole | Kind::OutOfRange) {
            return self.into();
        }
        let message =
            format!("{name} must be {wanted}; {} came at byte {}", token(body, self.at), self.at);
        Stop::new(ErrorCode::WireInvalidField, message)
    }

    /// The failure where nothing is known but the body.
    #[cold]
    pub(crate) fn in_body(self, body: &[u8]) -> Failure {
        let at = self.at;
        let came = came(body, at);
        let (code, message) = match self.kind {
            Kind::Expected(what) => (
                ErrorCode::WireInvalidJson,
                format!("the body is not JSON: expected {what} at byte {at}, {came} came"),
            ),
            Kind::BareControl => (
                ErrorCode::WireInvalidJson,
                format!(
                    "the body is not JSON: {came} stands bare in a string at byte {at}; JSON wants it escaped"
                ),
            ),
            Kind::BadEscape => (
                ErrorCode::WireInvalidJson,
                format!(
                    "the body is not JSON: {} at byte {at} is no escape of a character",
                    token(body, at)
                ),
            ),
            Kind::NotUtf8 => (
                ErrorCode::WireInvalidJson,
                format!("the body is not JSON: the string at byte {at} is not UTF-8"),
            ),
            Kind::TooDeep(limit) => (
                ErrorCode::WireTooDeep,
                format!("the body nests deeper than {limit} levels at byte {at}"),
            ),
            Kind::NotFinite => (
                ErrorCode::WireNotANumber,
                format!("{} at byte {at} is no JSON number", token(body, at)),
            ),
            Kind::Ragged => (
                ErrorCode::WireElementCount,
                format!(
                    "{} at byte {at} is uneven: lists of one depth must be of one length, and elements of one depth",
                    token(body, at)
                ),
            ),
            Kind::NotBase64 => (
                ErrorCode::WireInvalidField,
                format!(
                    "{} at byte {at} is no base64 (the alphabet with `+` and `/`)",
                    token(body, at)
                ),
            ),
            Kind::WrongType | Kind::NotWhole | Kind::OutOfRange | Kind::TooMany => (
                ErrorCode::WireInvalidField,
                format!("{} at byte {at} is not what the protocol has there", token(body, at)),
            ),
        };
        Failure::new(code, message)
    }
}

/// Why reading stopped: a fault of the text, or a failure that is already a sentence.
#[derive(Debug)]
pub(crate) enum Stop {
    /// At a byte of the body.
    Fault(Fault),
    /// In the caller's terms. Boxed, because it is rare and large.
    Failure(Box<Failure>),
}

impl Stop {
    /// A failure with this code and sentence.
    #[cold]
    pub(crate) fn new(code: ErrorCode, message: String) -> Self {
        Self::Failure(Box::new(Failure::new(code, message)))
    }

    /// The failure, where nothing is known but the body.
    #[cold]
    pub(crate) fn in_body(self, body: &[u8]) -> Failure {
        match self {
            Self::Fault(fault) => fault.in_body(body),
            Self::Failure(failure) => *failure,
        }
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What stands at `at`, for a sentence.
fn came(body: &[u8], at: usize) -> String {
    match body.get(at) {
        None => "the end of the body".to_owned(),
        Some(&byte @ b'!'..=b'~') => quoted(char::from(byte).encode_utf8(&mut [0; 4])),
        Some(byte) => format!("the byte 0x{byte:02x}"),
    }
}

/// The token at `at`, quoted: up to white space or punctuation, cut where it is long.
pub(crate) fn token(body: &[u8], at: usize) -> String {
    let rest = body.get(at..).unwrap_or_default();
    let rest = &rest[..rest.len().min(256)];
    let end = match rest.first() {
        None => return "the end of the body".to_owned(),
        Some(b'"') => {
            rest[1..].iter().position(|&byte| byte == b'"').map_or(rest.len(), |end| end + 2)
        }
        Some(b'[' | b'{') => 1,
        Some(_) => rest
            .iter()
            .position(|byte| matches!(byte, b',' | b']' | b'}' | b':' | b'"' | 0..=b' '))
            .unwrap_or(rest.len())
            .max(1),
    };
    quoted(&String::from_utf8_lossy(&rest[..end]))
}
