//! JSON written: numbers in their shortest exact form, strings escaped.

use ryu::Float;

/// Appends a number that reads back to the same bits; `null` for NaN and the infinities, which JSON
/// does not have.
#[inline]
pub(crate) fn push_float<T: Float + Into<f64> + Copy>(out: &mut Vec<u8>, value: T) {
    if value.into().is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

/// Appends a whole number.
#[inline]
pub(crate) fn push_integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a string in quotes.
pub(crate) fn push_text(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut begin = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let escape = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..=0x1F | 0x7F => b'u',
            _ => continue,
        };
        out.extend_from_slice(&bytes[begin..at]);
        out.extend_from_slice(&[b'\\', escape]);
        if escape == b'u' {
            out.extend_from_slice(&[
                b'0',
                b'0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]);
        }
        begin = at + 1;
    }
    out.extend_from_slice(&bytes[begin..]);
    out.push(b'"');
}
