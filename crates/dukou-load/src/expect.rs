//! Whether an answer is the right one.
//!
//! The expected JSON must be *contained* in the answer: servers add fields of their own (versions,
//! ids), and are free to.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::settings::{Settings, UsageError};

/// What the answer to one body must contain.
pub struct Expectation {
    /// Any one of these.
    wanted: Vec<Value>,
    tolerance: f64,
    /// The bytes of the last answer that was right: the next is most often the same, and comparing
    /// bytes costs a hundredth of reading JSON.
    last_right: Vec<u8>,
}

impl Expectation {
    /// Reads what each body's answer may be; nothing where nothing is expected.
    pub fn load(settings: &Settings, bodies: usize) -> Result<Vec<Vec<Value>>, UsageError> {
        let first = read_all("--expect", &settings.expect, bodies)?;
        let second = read_all("--or-expect", &settings.or_expect, bodies)?;
        match (first.is_empty(), second.is_empty()) {
            (true, false) => Err(UsageError::LoneAlternative),
            (_, true) => Ok(first.into_iter().map(|one| vec![one]).collect()),
            _ => Ok(first.into_iter().zip(second).map(|(one, other)| vec![one, other]).collect()),
        }
    }

    /// For these, one of which must be there.
    pub const fn new(wanted: Vec<Value>, tolerance: f64) -> Self {
        Self { wanted, tolerance, last_right: Vec::new() }
    }

    /// Whether `body` contains what is expected.
    pub fn holds(&mut self, body: &[u8]) -> bool {
        if !self.last_right.is_empty() && self.last_right == body {
            return true;
        }
        let right = serde_json::from_slice::<Value>(body)
            .is_ok_and(|came| self.wanted.iter().any(|one| contains(&came, one, self.tolerance)));
        if right {
            self.last_right.clear();
            self.last_right.extend_from_slice(body);
        }
        right
    }
}

/// One value a body: one file for all is repeated.
fn read_all(
    flag: &'static str,
    files: &[PathBuf],
    bodies: usize,
) -> Result<Vec<Value>, UsageError> {
    let mut wanted = files.iter().map(|path| read(path)).collect::<Result<Vec<Value>, _>>()?;
    match wanted.len() {
        1 => Ok(vec![wanted.remove(0); bodies]),
        count if count == 0 || count == bodies => Ok(wanted),
        expected => Err(UsageError::ExpectCount { flag, expected, bodies }),
    }
}

fn read(path: &Path) -> Result<Value, UsageError> {
    let bytes =
        std::fs::read(path).map_err(|error| UsageError::Unreadable { path: path.into(), error })?;
    serde_json::from_slice(&bytes).map_err(|error| UsageError::NotJson { path: path.into(), error })
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

    #[test]
    fn an_answer_may_say_more_but_not_other() {
        let wanted = json!({"outputs": [{"name": "y", "data": [0.25, 1000.0]}]});
        let mut expectation = Expectation::new(vec![wanted], 1e-3);
        let mut holds = |value: Value| expectation.holds(value.to_string().as_bytes());
        assert!(holds(json!({"outputs": [{"name": "y", "data": [0.2505, 1000.9], "more": 1}]})));
        assert!(!holds(json!({"outputs": [{"name": "y", "data": [0.26, 1000.0]}]})));
        assert!(!holds(json!({"outputs": [{"name": "y", "data": [0.25]}]})));
        assert!(!holds(json!({"outputs": [{"name": "z", "data": [0.25, 1000.0]}]})));
        assert!(!holds(json!({"error": "no"})));
        assert!(!expectation.holds(b"not json"));
    }

    #[test]
    fn the_same_bytes_hold_again_and_so_does_the_alternative() {
        let mut expectation = Expectation::new(vec![json!([1]), json!([3])], 0.0);
        assert!(expectation.holds(b"[1]"));
        assert!(expectation.holds(b"[1]"));
        assert!(!expectation.holds(b"[2]"));
        assert!(expectation.holds(b"[3]"));
    }
}
