//! W3C trace context: which trace a request belongs to, and which span of it asked.
//!
//! <https://www.w3.org/TR/trace-context/>, version 00. `tracestate` is not carried on.

use std::fmt;

/// The trace of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace's id; never 0.
    pub id: u128,
    /// The span that asked; 0 where the trace begins here.
    pub parent: u64,
    /// Bit 0: whoever asked may have recorded it.
    pub flags: u8,
}

impl Trace {
    /// Reads a `traceparent`; none for what the specification calls invalid.
    ///
    /// A later version may have more behind the four fields that are known.
    pub fn parse(text: &str) -> Option<Self> {
        let fields = text.get(..55)?;
        let rest = &text[55..];
        let mut fields = fields.split('-');
        let version = hex(fields.next()?, 2)?;
        let (id, parent) = (hex(fields.next()?, 32)?, hex(fields.next()?, 16)?);
        let flags = hex(fields.next()?, 2)?;
        let whole =
            fields.next().is_none() && (rest.is_empty() || (version > 0 && rest.starts_with('-')));
        if !whole || version == 0xff || id == 0 || parent == 0 {
            return None;
        }
        Some(Self { id, parent: parent as u64, flags: flags as u8 })
    }

    /// As it is sent on by a span of ours.
    pub fn sent_by(self, span: u64) -> TraceParent {
        TraceParent { trace: self, span }
    }
}

/// So many lower-case hex digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() != digits || !lower {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

/// A `traceparent`, to be written.
#[derive(Clone, Copy, Debug)]
pub struct TraceParent {
    trace: Trace,
    span: u64,
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{:032x}-{:016x}-{:02x}",
            self.trace.id,
            self.span.max(1),
            self.trace.flags & 1
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_read_is_sent_on_with_another_span() {
        let trace = Trace::parse(GOOD).unwrap();
        assert_eq!(trace.id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((trace.parent, trace.flags), (0xb7ad_6b71_6920_3331, 1));
        assert_eq!(
            trace.sent_by(7).to_string(),
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000007-01"
        );
        assert!(Trace::parse(&trace.sent_by(0).to_string()).is_some(), "a span is never 0");
    }

    #[test]
    fn a_later_version_may_say_more() {
        let later = GOOD.replacen("00", "cc", 1) + "-what-comes";
        assert_eq!(Trace::parse(&later), Trace::parse(GOOD));
    }

    #[test]
    fn what_is_invalid_is_none() {
        let zero = |from: &str| GOOD.replace(from, &"0".repeat(from.len()));
        for text in [
            String::new(),
            GOOD[..54].to_owned(),
            GOOD.to_uppercase(),
            GOOD.replacen("00", "ff", 1),
            format!("{GOOD}-more"),
            GOOD.replace('-', "_"),
            GOOD.replace("0af7", "0ag7"),
            GOOD.replace("0af7", "+af7"),
            zero("0af7651916cd43dd8448eb211c80319c"),
            zero("b7ad6b7169203331"),
            "é".repeat(40),
        ] {
            assert_eq!(Trace::parse(&text), None, "{text}");
        }
    }
}
