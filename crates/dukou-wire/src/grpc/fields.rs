//! Protobuf's wire format, both ways, as far as tensors need it: fields of a message over frames, and the
//! same appended to bytes. Messages without tensors are `prost`'s matter.

use std::borrow::Cow;

use dukou_types::{ErrorCode, Failure};

use super::Part;

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    /// Its number.
    pub(crate) number: u32,
    /// What stands there.
    pub(crate) value: Value<'a>,
}

/// A field's value, by its wire type.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    /// A whole number.
    Varint(u64),
    /// Eight bytes.
    Fixed64([u8; 8]),
    /// Bytes with a length: a text, a message, packed numbers.
    Bytes(Part<'a>),
    /// Four bytes.
    Fixed32([u8; 4]),
}

/// The fields of a message, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(Part<'a>);

impl<'a> Fields<'a> {
    /// Of this message.
    pub(crate) const fn of(message: Part<'a>) -> Self {
        Self(message)
    }

    /// The next one.
    ///
    /// # Errors
    /// `wire.invalid-message` where the bytes are no protobuf.
    pub(crate) fn next(&mut self) -> Result<Option<Field<'a>>, Failure> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let part = &mut self.0;
        let key = varint(part)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(part)?),
            1 => Value::Fixed64(part.array().ok_or_else(cut_off)?),
            2 => {
                let length = usize::try_from(varint(part)?).unwrap_or(usize::MAX);
                Value::Bytes(part.take(length).ok_or_else(cut_off)?)
            }
            5 => Value::Fixed32(part.array().ok_or_else(cut_off)?),
            other => return Err(broken(format!("a field has the wire type {other}"))),
        };
        let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0);
        let number = number.ok_or_else(|| broken("a field's number is out of range".to_owned()))?;
        Ok(Some(Field { number, value }))
    }
}

impl<'a> Field<'a> {
    /// The bytes that stand here.
    pub(crate) fn part(&self, name: &'static str) -> Result<Part<'a>, Failure> {
        match self.value {
            Value::Bytes(part) => Ok(part),
            _ => Err(self.other_kind(name)),
        }
    }

    /// The text that stands here.
    pub(crate) fn text(&self, name: &'static str) -> Result<Cow<'a, str>, Failure> {
        text(self.part(name)?, name)
    }

    /// The whole number that stands here.
    pub(crate) fn number(&self, name: &'static str) -> Result<u64, Failure> {
        match self.value {
            Value::Varint(number) => Ok(number),
            _ => Err(self.other_kind(name)),
        }
    }

    /// Calls `take` with each whole number of a repeated field, packed or not.
    pub(crate) fn numbers(
        &self,
        name: &'static str,
        mut take: impl FnMut(u64) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self.value {
            Value::Varint(number) => take(number),
            Value::Bytes(mut packed) => {
                while !packed.is_empty() {
                    take(varint(&mut packed)?)?;
                }
                Ok(())
            }
            _ => Err(self.other_kind(name)),
        }
    }

    #[cold]
    pub(crate) fn other_kind(&self, name: &'static str) -> Failure {
        broken(format!(
            "`{name}` (field {}) has another wire type than the method takes",
            self.number
        ))
    }
}

/// Bytes as text.
pub(crate) fn text<'a>(part: Part<'a>, name: &'static str) -> Result<Cow<'a, str>, Failure> {
    let not_text = |_| broken(format!("`{name}` is not UTF-8"));
    match part.gathered() {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(not_text),
        Cow::Owned(bytes) => {
            String::from_utf8(bytes).map(Cow::Owned).map_err(|error| not_text(error.utf8_error()))
        }
    }
}

/// A whole number from the front: seven bits a byte, the lowest first.
#[inline]
pub(crate) fn varint(part: &mut Part<'_>) -> Result<u64, Failure> {
    let mut number = 0;
    for place in 0..10 {
        let byte = part.byte().ok_or_else(cut_off)?;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(broken("a number is longer than ten bytes".to_owned()))
}

#[cold]
fn cut_off() -> Failure {
    broken("it ends in the middle of a field".to_owned())
}

/// A message that is not what its method takes.
#[cold]
pub(crate) fn broken(why: String) -> Failure {
    Failure::new(
        ErrorCode::WireInvalidMessage,
        format!("the message is not the protobuf that this method takes: {why}"),
    )
}

/// Appends a whole number.
pub(crate) fn push_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// How many bytes a whole number takes.
pub(crate) const fn varint_len(number: u64) -> usize {
    // Seven bits a byte, and zero takes one.
    ((70 - (number | 1).leading_zeros()) / 7) as usize
}

/// Appends the key of a field that has a length, and the length.
pub(crate) fn push_length(out: &mut Vec<u8>, number: u32, length: usize) {
    push_varint(out, u64::from(number) << 3 | 2);
    push_varint(out, length as u64);
}

/// Appends a field of bytes; nothing where there are none, as protobuf's third version does.
pub(crate) fn push_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        push_length(out, number, bytes.len());
        out.extend_from_slice(bytes);
    }
}

/// Appends a field of a whole number; nothing where it is zero.
pub(crate) fn push_number(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        push_varint(out, u64::from(number) << 3);
        push_varint(out, value);
    }
}

/// Appends a field that is a message of its own.
pub(crate) fn push_message(out: &mut Vec<u8>, number: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut message = Vec::with_capacity(64);
    fill(&mut message);
    push_length(out, number, message.len());
    out.extend_from_slice(&message);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn numbers_are_as_long_as_they_are_said_to_be() {
        for power in 0..64 {
            for number in [1_u64 << power, (1 << power) - 1, u64::MAX] {
                let mut out = Vec::new();
                push_varint(&mut out, number);
                assert_eq!(out.len(), varint_len(number), "{number}");
                let frames = [Bytes::from(out)];
                assert_eq!(varint(&mut Part::whole(&frames)).unwrap(), number);
            }
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for (bytes, words) in [
            (&b"\x0a\x05ab"[..], "ends in the middle"),
            (b"\x08", "ends in the middle"),
            (b"\x0b", "wire type 3"),
            (b"\x00\x01", "out of range"),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "ten bytes"),
        ] {
            let frames = [Bytes::from_static(bytes)];
            let failure = Fields::of(Part::whole(&frames)).next().unwrap_err();
            assert_eq!(failure.code, ErrorCode::WireInvalidMessage);
            assert!(failure.message.contains(words), "{failure}");
        }
    }
}
