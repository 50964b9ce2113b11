//! Strings: borrowed where nothing is escaped.

use std::{borrow::Cow, ops::Range};

use super::{
    fault::{Fault, Kind},
    scan::Scanner,
};

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Bytes from `at` on that are neither a quote, a back-slash nor a control character.
#[inline]
fn plain(bytes: &[u8], mut at: usize) -> usize {
    // A byte of `word` is zero, or below the bound, exactly where its high bit is marked first; false
    // marks come only behind a true one, and the first is what counts.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    while let Some(Ok(eight)) = bytes.get(at..at + 8).map(<[u8; 8]>::try_from) {
        let word = u64::from_le_bytes(eight);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let marks = zero(word ^ (ONES * 0x22)) | zero(word ^ (ONES * 0x5C)) | control;
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|&byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        at += 1;
    }
    at
}

/// A string as it stands in the body.
pub(super) enum Raw {
    /// Without escapes: its bytes are these.
    Plain(Range<usize>),
    /// With escapes, resolved.
    Resolved(String),
}

impl<'a> Scanner<'a> {
    /// Reads a string; a value of another kind is a fault of its own.
    #[inline]
    pub(crate) fn text(&mut self) -> Result<Cow<'a, str>, Fault> {
        match self.borrowed()? {
            Some(text) => Ok(Cow::Borrowed(text)),
            None => self.escaped().map(Cow::Owned),
        }
    }

    /// Reads a string, telling where in the body one without escapes stands.
    pub(super) fn raw_text(&mut self) -> Result<Raw, Fault> {
        match self.borrowed()? {
            Some(text) => {
                let end = self.at - 1;
                Ok(Raw::Plain(end - text.len()..end))
            }
            None => self.escaped().map(Raw::Resolved),
        }
    }

    /// Reads a string that has no escapes; `None`, without passing it, where it has or is broken.
    #[inline]
    fn borrowed(&mut self) -> Result<Option<&'a str>, Fault> {
        if self.peek() != b'"' {
            return Err(self.other_kind());
        }
        let start = self.at + 1;
        let end = plain(self.bytes, start);
        if self.bytes.get(end) != Some(&b'"') {
            return Ok(None);
        }
        match std::str::from_utf8(&self.bytes[start..end]) {
            Ok(text) => {
                self.at = end + 1;
                Ok(Some(text))
            }
            Err(_) => Err(Fault::new(Kind::NotUtf8, start)),
        }
    }

    /// A string with escapes (or one that is broken), from its opening quote.
    #[cold]
    fn escaped(&mut self) -> Result<String, Fault> {
        let mut text = String::new();
        let mut at = self.at + 1;
        loop {
            let end = plain(self.bytes, at);
            let part = std::str::from_utf8(&self.bytes[at..end]);
            text.push_str(part.map_err(|_| Fault::new(Kind::NotUtf8, at))?);
            match self.bytes.get(end) {
                Some(b'"') => {
                    self.at = end + 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    let (character, next) = unescape(self.bytes, end)?;
                    text.push(character);
                    at = next;
                }
                Some(_) => return Err(Fault::new(Kind::BareControl, end)),
                None => return Err(Fault::expected("the closing quote of a string", end)),
            }
        }
    }
}

/// The character of the escape at `at`, and where it ends.
fn unescape(bytes: &[u8], at: usize) -> Result<(char, usize), Fault> {
    let bad = || Fault::new(Kind::BadEscape, at);
    let character = match bytes.get(at + 1) {
        Some(b'"') => '"',
        Some(b'\\') => '\\',
        Some(b'/') => '/',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => {
            let first = four_hex(bytes, at + 2).ok_or_else(bad)?;
            if !(0xD800..0xE000).contains(&first) {
                return Ok((char::from_u32(first).ok_or_else(bad)?, at + 6));
            }
            // Half of a pair: the other half must follow.
            let second = bytes
                .get(at + 6..at + 8)
                .filter(|next| *next == b"\\u")
                .and_then(|_| four_hex(bytes, at + 8));
            let second =
                second.filter(|second| (0xDC00..0xE000).contains(second)).ok_or_else(bad)?;
            let high = first.checked_sub(0xD800).filter(|high| *high < 0x400).ok_or_else(bad)?;
            return Ok((
                char::from_u32(0x1_0000 + high * 0x400 + (second - 0xDC00)).ok_or_else(bad)?,
                at + 12,
            ));
        }
        _ => return Err(bad()),
    };
    Ok((character, at + 2))
}

fn four_hex(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..at + 4)?
        .iter()
        .try_fold(0, |value, &byte| Some(value * 16 + char::from(byte).to_digit(16)?))
}
