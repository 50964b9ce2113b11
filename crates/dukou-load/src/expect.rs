//! Whether an answer is the right one.
//!
//! The expected JSON must be *contained* in the answer: servers add fields of their own (versions,
//! ids), and are free to.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;

use crate::{
    answer::Answer,
    settings::{Settings, UsageError},
    speech::Speech,
};

/// What is known of the answer to one body.
#[derive(Clone)]
pub enum Wanted {
    /// It contains any one of these.
    Contained(Vec<Value>),
    /// It ends with these bytes.
    Tail(Arc<[u8]>),
    /// It can be read, and what is read contains any one of these, where there are any.
    Read(Arc<Speech>, Vec<Value>),
}

impl Wanted {
    /// The same of what a dialect's answers are read as.
    pub fn read_by(self, speech: &Arc<Speech>) -> Self {
        match self {
            Self::Contained(wanted) => Self::Read(Arc::clone(speech), wanted),
            other => other,
        }
    }
}

/// What the answer to one body must be.
pub struct Expectation {
    wanted: Wanted,
    tolerance: f64,
    /// The bytes of the last answer that was right: the next is most often the same, and comparing
    /// bytes costs a hundredth of reading JSON.
    last_right: Vec<u8>,
}

impl Expectation {
    /// Reads what each body's answer may be; nothing where nothing is expected.
    pub fn load(settings: &Settings, bodies: usize) -> Result<Vec<Wanted>, UsageError> {
        let first = read_all("--expect", &settings.expect, bodies, json)?;
        let second = read_all("--or-expect", &settings.or_expect, bodies, json)?;
        let tails = read_all("--expect-tail", &settings.expect_tail, bodies, |path| {
            read(path).map(Arc::<[u8]>::from)
        })?;
        let contained = Wanted::Contained;
        match (first.is_empty(), second.is_empty(), tails.is_empty()) {
            (true, false, _) => Err(UsageError::LoneAlternative),
            (false, _, false) => Err(UsageError::TwoExpectations),
            (true, true, _) => Ok(tails.into_iter().map(Wanted::Tail).collect()),
            (false, true, _) => Ok(first.into_iter().map(|one| contained(vec![one])).collect()),
            _ => Ok(first.into_iter().zip(second).map(|(a, b)| contained(vec![a, b])).collect()),
        }
    }

    /// For what is known.
    pub const fn new(wanted: Wanted, tolerance: f64) -> Self {
        Self { wanted, tolerance, last_right: Vec::new() }
    }

    /// Whether `body`, which an answer has, is what is expected.
    pub fn holds(&mut self, answer: &Answer, body: &[u8]) -> bool {
        if !self.last_right.is_empty() && self.last_right == body {
            return true;
        }
        let is_one = |came: &Value, wanted: &[Value]| {
            wanted.iter().any(|one| contains(came, one, self.tolerance))
        };
        let right = match &self.wanted {
            Wanted::Tail(tail) => return body.ends_with(tail),
            Wanted::Contained(wanted) => {
                serde_json::from_slice::<Value>(body).is_ok_and(|came| is_one(&came, wanted))
            }
            Wanted::Read(speech, wanted) => speech
                .read(answer, body)
                .is_some_and(|came| wanted.is_empty() || is_one(&came, wanted)),
        };
        if right {
            self.last_right.clear();
            self.last_right.extend_from_slice(body);
        }
        right
    }
}

/// One value a body: one file for all is repeated.
fn read_all<T: Clone>(
    flag: &'static str,
    files: &[PathBuf],
    bodies: usize,
    read: impl Fn(&Path) -> Result<T, UsageError>,
) -> Result<Vec<T>, UsageError> {
    let mut wanted = files.iter().map(|path| read(path)).collect::<Result<Vec<T>, _>>()?;
    match wanted.len() {
        1 => Ok(vec![wanted.remove(0); bodies]),
        count if count == 0 || count == bodies => Ok(wanted),
        expected => Err(UsageError::ExpectCount { flag, expected, bodies }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, UsageError> {
    std::fs::read(path).map_err(|error| UsageError::Unreadable { path: path.into(), error })
}

fn json(path: &Path) -> Result<Value, UsageError> {
    serde_json::from_slice(&read(path)?)
        .map_err(|error| UsageError::NotJson { path: path.into(), error })
}

fn contains(came: &Value, wanted: &Value, tolerance: f64) -> bool {
    match (came, wanted) {
        (Value::Object(came), Value::Object(wanted)) => wanted.iter().all(|(key, inner)| {
            came.get(key).is_some_and(|there| contains(there, inner, tolerance))
        }),
        (Value::Array(came), Value::Array(wanted)) => {
            came.len() == wanted.len()
                && came.iter().zip(wanted).all(|(c, w)| contains(c, w, tolerance))
        }
        (Value::Number(came), Value::Number(wanted)) => match (came.as_f64(), wanted.as_f64()) {
            (Some(c), Some(w)) => (c - w).abs() <= tolerance * w.abs().max(1.0),
            _ => came == wanted,
        },
        _ => came == wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn well() -> Answer {
        let body = crate::answer::Body::Tail(0);
        Answer { status: 200, closes: false, body, version: None, header_length: None }
    }

    #[test]
    fn an_answer_may_say_more_but_not_other() {
        let wanted = json!({"outputs": [{"name": "y", "data": [0.25, 1000.0]}]});
        let mut expectation = Expectation::new(Wanted::Contained(vec![wanted]), 1e-3);
        let mut holds = |value: Value| expectation.holds(&well(), value.to_string().as_bytes());
        assert!(holds(json!({"outputs": [{"name": "y", "data": [0.2505, 1000.9], "more": 1}]})));
        assert!(!holds(json!({"outputs": [{"name": "y", "data": [0.26, 1000.0]}]})));
        assert!(!holds(json!({"outputs": [{"name": "y", "data": [0.25]}]})));
        assert!(!holds(json!({"outputs": [{"name": "z", "data": [0.25, 1000.0]}]})));
        assert!(!holds(json!({"error": "no"})));
        assert!(!expectation.holds(&well(), b"not json"));
    }

    #[test]
    fn the_same_bytes_hold_again_and_so_does_the_alternative() {
        let mut expectation =
            Expectation::new(Wanted::Contained(vec![json!([1]), json!([3])]), 0.0);
        assert!(expectation.holds(&well(), b"[1]"));
        assert!(expectation.holds(&well(), b"[1]"));
        assert!(!expectation.holds(&well(), b"[2]"));
        assert!(expectation.holds(&well(), b"[3]"));
    }

    #[test]
    fn a_tail_is_compared_byte_for_byte() {
        let mut expectation = Expectation::new(Wanted::Tail([1, 2, 3].as_slice().into()), 0.0);
        assert!(expectation.holds(&well(), b"{}\x01\x02\x03"));
        assert!(!expectation.holds(&well(), b"{}\x01\x02\x04"));
        assert!(!expectation.holds(&well(), b"\x02\x03"));
    }
}
