//! Parameters: the protocol's loose ends, of a request, a tensor or a requested output.

use std::{fmt::Display, sync::Arc, time::Duration};

use dukou_types::{ErrorCode, Param};

use crate::{
    json::{Element, Fault, Kind, Scanner, Stop},
    sentence::quoted,
};

/// The most parameters in one place.
pub(crate) const MOST: usize = 1024;

/// Parameters in the order in which they stand.
pub(crate) type Parameters = Vec<(Arc<str>, Param)>;

/// Keys that may stand once in an object, by number.
#[derive(Default)]
pub(super) struct Once(u32);

impl Once {
    /// Notes the key with this number.
    #[inline]
    pub(super) fn note(&mut self, number: u32, key: &str) -> Result<(), Stop> {
        let bit = 1 << number;
        if self.0 & bit != 0 {
            return Err(twice(key));
        }
        self.0 |= bit;
        Ok(())
    }
}

#[cold]
fn twice(key: &str) -> Stop {
    Stop::new(ErrorCode::WireInvalidField, format!("{} stands twice in one object", quoted(key)))
}

/// Reads an object of parameters. `null`, here or as a value, is as good as nothing.
pub(super) fn read_parameters(scanner: &mut Scanner<'_>) -> Result<Parameters, Stop> {
    let mut parameters = Parameters::new();
    if scanner.null()? {
        return Ok(parameters);
    }
    object_or(scanner, "`parameters`")?;
    scanner.object(|scanner, key| {
        if parameters.len() == MOST {
            let message = format!("there are more than {MOST} parameters");
            return Err(Stop::new(ErrorCode::WireInvalidField, message));
        }
        if let Some(value) = read_value(scanner, &key)? {
            parameters.push((key.as_ref().into(), value));
        }
        Ok(())
    })?;
    let mut names: Vec<&str> = parameters.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(twice(pair[0])),
        None => Ok(parameters),
    }
}

/// Refuses what is not an object, by the field's name.
pub(super) fn object_or(scanner: &mut Scanner<'_>, field: &str) -> Result<(), Stop> {
    if scanner.peek() == b'{' {
        return Ok(());
    }
    let fault = scanner.other_kind();
    Err(fault.in_field(scanner.body(), field, "an object"))
}

/// Refuses what is not a list, by the field's name.
pub(super) fn list_or(scanner: &mut Scanner<'_>, field: impl Display) -> Result<(), Stop> {
    if scanner.peek() == b'[' {
        return Ok(());
    }
    let fault = scanner.other_kind();
    Err(fault.in_field(scanner.body(), &field.to_string(), "a list"))
}

fn read_value(scanner: &mut Scanner<'_>, key: &str) -> Result<Option<Param>, Stop> {
    let body = scanner.body();
    let named = |fault: Fault| {
        fault.in_field(
            body,
            &format!("parameter {}", quoted(key)),
            "a string, a truth value or a number of 64 bits",
        )
    };
    Ok(match scanner.peek() {
        b'n' => {
            scanner.null()?;
            None
        }
        b'"' => Some(Param::String(scanner.text()?.into())),
        b't' | b'f' => Some(Param::Bool(scanner.boolean()?)),
        b'-' | b'0'..=b'9' => {
            let mut whole = scanner.clone();
            match i64::read(&mut whole) {
                Ok(value) => {
                    *scanner = whole;
                    Some(Param::Int(value))
                }
                Err(Fault { kind: Kind::NotWhole, .. }) => {
                    Some(Param::Double(f64::read(scanner).map_err(named)?))
                }
                Err(fault) => return Err(named(fault)),
            }
        }
        _ => return Err(named(scanner.other_kind())),
    })
}

/// Takes a parameter out by name.
pub(crate) fn take(parameters: &mut Parameters, name: &str) -> Option<Param> {
    let position = parameters.iter().position(|(key, _)| &**key == name)?;
    Some(parameters.remove(position).1)
}

/// Takes a truth value out; absent is false.
pub(super) fn take_truth(parameters: &mut Parameters, name: &str) -> Result<bool, Stop> {
    match take(parameters, name) {
        None => Ok(false),
        Some(Param::Bool(truth)) => Ok(truth),
        Some(other) => Err(wrong(name, "`true` or `false`", &other)),
    }
}

/// Takes a whole number from 0 up to `most` out.
pub(crate) fn take_count(
    parameters: &mut Parameters,
    name: &str,
    most: u64,
) -> Result<Option<u64>, Stop> {
    match take(parameters, name) {
        None => Ok(None),
        Some(Param::Int(number)) if u64::try_from(number).is_ok_and(|number| number <= most) => {
            Ok(u64::try_from(number).ok())
        }
        Some(other) => Err(wrong(name, &format!("a whole number from 0 to {most}"), &other)),
    }
}

/// Takes `classification` out: how many of an output's classes are asked for; 0 where none are.
pub(crate) fn take_top(parameters: &mut Parameters) -> Result<usize, Stop> {
    let most = take_count(parameters, "classification", u64::from(u32::MAX))?;
    Ok(most.and_then(|most| usize::try_from(most).ok()).unwrap_or(0))
}

/// Takes `timeout` out: microseconds, 0 for none.
pub(crate) fn take_timeout(parameters: &mut Parameters) -> Result<Option<Duration>, Stop> {
    let microseconds = take_count(parameters, "timeout", i64::MAX.unsigned_abs())?;
    Ok(microseconds.filter(|&microseconds| microseconds > 0).map(Duration::from_micros))
}

/// What a subject may be called.
pub const SUBJECT_RULE: &str = "a text of 1 to 256 bytes without control characters";

/// Whether somebody may be called so.
pub fn is_subject(text: &str) -> bool {
    (1..=256).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Takes `subject` out: whose rows these are. A number is as good as a text. What came is not repeated.
pub(crate) fn take_subject(parameters: &mut Parameters) -> Result<Option<Arc<str>>, Stop> {
    let said = match take(parameters, "subject") {
        None => return Ok(None),
        Some(Param::String(text)) => text,
        Some(Param::Int(number)) => number.to_string().into(),
        Some(Param::Bool(_) | Param::Double(_)) => "".into(),
    };
    if is_subject(&said) {
        return Ok(Some(said));
    }
    let message = format!("parameter `subject` must be {SUBJECT_RULE}");
    Err(Stop::new(ErrorCode::WireInvalidField, message))
}

/// Refuses a parameter that asks for shared memory: the tensor would silently be somewhere else.
pub(crate) fn refuse_shared_memory(
    parameters: &Parameters,
    owner: &dyn Fn() -> String,
) -> Result<(), Stop> {
    if !parameters.iter().any(|(key, _)| key.starts_with("shared_memory_")) {
        return Ok(());
    }
    let message = format!(
        "{} asks for shared memory, which dukou does not have; send it in the body, as JSON or as binary tensor data",
        owner()
    );
    Err(Stop::new(ErrorCode::WireUnsupported, message))
}

#[cold]
fn wrong(name: &str, wanted: &str, came: &Param) -> Stop {
    let came = match came {
        Param::Bool(truth) => truth.to_string(),
        Param::Int(number) => number.to_string(),
        Param::Double(number) => number.to_string(),
        Param::String(text) => format!("the string {}", quoted(text)),
    };
    let message = format!("parameter {} must be {wanted}; {came} came", quoted(name));
    Stop::new(ErrorCode::WireInvalidField, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_from(value: Param) -> Result<(Option<Arc<str>>, usize), Stop> {
        let mut parameters = vec![("a".into(), Param::Bool(true)), ("subject".into(), value)];
        take_subject(&mut parameters).map(|subject| (subject, parameters.len()))
    }

    #[test]
    fn a_subject_is_taken_out_and_never_repeated_in_a_refusal() {
        assert_eq!(
            take_from(Param::String("王小明".into())).ok(),
            Some((Some("王小明".into()), 1))
        );
        assert_eq!(take_from(Param::Int(42)).ok(), Some((Some("42".into()), 1)));
        for wrong in [
            Param::String("".into()),
            Param::String("secret\n".into()),
            Param::String("x".repeat(257).into()),
            Param::Bool(true),
            Param::Double(1.5),
        ] {
            let failure = take_from(wrong).unwrap_err().in_body(b"{}");
            assert_eq!(failure.code, ErrorCode::WireInvalidField);
            assert!(!failure.message.contains("secret"), "{failure}");
        }
    }
}
