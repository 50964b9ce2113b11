//! Words for what came, in sentences to callers: quoted, short, and without control characters.

use std::fmt::Write as _;

use dukou_types::{Dim, TensorSpec};

/// Characters of a caller's text that a sentence repeats.
const SHOWN: usize = 64;

/// `text` between back-ticks, cut after [`SHOWN`] characters.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len().min(SHOWN) + 6);
    quoted.push('`');
    for (count, character) in text.chars().enumerate() {
        if count == SHOWN {
            quoted.push('…');
            break;
        }
        match character {
            '`' => quoted.push('\''),
            _ if character.is_control() => quoted.extend(character.escape_unicode()),
            _ => quoted.push(character),
        }
    }
    quoted.push('`');
    quoted
}

/// `[1, 64]`.
pub(crate) fn shape(extents: &[usize]) -> String {
    listed(extents.iter())
}

/// `[batch, 64]`: symbols by name, -1 for what is free without one.
pub(crate) fn declared(dims: &[Dim]) -> String {
    listed(dims.iter().map(|dim| match dim {
        Dim::Fixed(extent) => extent.to_string(),
        Dim::Symbol(symbol) => symbol.to_string(),
        Dim::Any(()) => "-1".to_owned(),
    }))
}

fn listed(items: impl Iterator<Item = impl std::fmt::Display>) -> String {
    let mut text = String::from("[");
    for (position, item) in items.enumerate() {
        let separator = if position == 0 { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}{item}");
    }
    text.push(']');
    text
}

/// `` `x` FP32 [batch, 64], `y` INT64 [batch] ``; at most sixteen of them.
pub(crate) fn specs(specs: &[TensorSpec]) -> String {
    let mut words: Vec<String> = specs
        .iter()
        .take(16)
        .map(|spec| format!("{} {} {}", quoted(&spec.name), spec.dtype, declared(&spec.shape)))
        .collect();
    if specs.len() > 16 {
        words.push(format!("and {} more", specs.len() - 16));
    }
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

/// `1 element`, `3 elements`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_text_is_harmless_in_a_sentence() {
        assert_eq!(quoted("a\nb`c"), "`a\\u{a}b'c`");
        assert_eq!(quoted(&"x".repeat(1000)).chars().count(), SHOWN + 3);
    }

    #[test]
    fn shapes_read_well() {
        assert_eq!(shape(&[]), "[]");
        assert_eq!(shape(&[2, 3]), "[2, 3]");
        let dims = [Dim::Symbol("batch".into()), Dim::Any(()), Dim::Fixed(3)];
        assert_eq!(declared(&dims), "[batch, -1, 3]");
    }
}
