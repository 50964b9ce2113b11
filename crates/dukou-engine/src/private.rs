//! What callers sent is not written down: words for logs without the values that they quote.
//!
//! The runtime's refusals, and panics, may repeat what they met. A log that is kept must not hold it: what
//! stands in quotes is left out, and long numbers, and letters beyond ASCII.

use std::panic::PanicHookInfo;

use crate::events::{Level, log};

/// Digits in a row that may be a telephone's, a card's or an identity card's.
const LONG_NUMBER: usize = 6;

/// A failure's words for the log. The name of a node of the graph stays: it is the model's own.
pub fn hide_values(words: &str) -> String {
    let mut kept = String::with_capacity(words.len());
    let mut rest = words;
    while let Some(first) = rest.chars().next() {
        let close = match first {
            '\'' | '"' | '`' => rest[1..].find(first).map(|at| at + 2),
            _ => None,
        };
        if let Some(end) = close {
            let quoted = if kept.ends_with("Name:") { &rest[..end] } else { "`…`" };
            kept.push_str(quoted);
            rest = &rest[end..];
            continue;
        }
        let run = match first {
            '0'..='9' => rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()),
            _ if !first.is_ascii() => rest.find(|c: char| c.is_ascii()).unwrap_or(rest.len()),
            _ => 1,
        };
        match first {
            '0'..='9' if run >= LONG_NUMBER => kept.push('#'),
            _ if !first.is_ascii() => kept.push('…'),
            _ => kept.push_str(&rest[..run]),
        }
        rest = &rest[run..];
    }
    kept
}

/// Whether a client's id is a machine's making and says nothing of a person: a UUID, or a trace's id.
/// Anything else may be somebody's name, address or number.
pub fn is_machine_made(id: &str) -> bool {
    let bytes = id.as_bytes();
    match bytes.len() {
        36 => bytes.iter().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        }),
        32 => bytes.iter().all(u8::is_ascii_hexdigit),
        _ => false,
    }
}

/// Whether a name that nothing here has may be written down: one with a long number may be a person's.
pub fn is_harmless(name: &str) -> bool {
    !name.as_bytes().windows(LONG_NUMBER).any(|window| window.iter().all(u8::is_ascii_digit))
}

/// Has panics say where they were and why, without the values that they met.
pub fn hide_values_of_panics() {
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        let words = panic.payload_as_str().unwrap_or("a panic without words");
        let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
        log(Level::Error, format_args!("panic{place}: {}", hide_values(words)));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_left_out_and_the_rest_stays() {
        for (words, kept) in [
            (
                "while running Gather node. Name:'/g/Gather' Status Message: idx=13812345678 must be in [-3,2]",
                "while running Gather node. Name:'/g/Gather' Status Message: idx=# must be in [-3,2]",
            ),
            ("cannot cast 'Wang Xiaoming' to float", "cannot cast `…` to float"),
            ("value \"a'b\" and `c`", "value `…` and `…`"),
            ("王小明 is not known", "… is not known"),
            ("don't: 12345 rows", "don't: 12345 rows"),
            ("", ""),
        ] {
            assert_eq!(hide_values(words), kept);
        }
    }

    #[test]
    fn only_ids_of_machines_are_written_down() {
        for id in ["0191f3a2-7c4e-7e11-8000-0123456789ab", "4bf92f3577b34da6a3ce929d0e0e4736"] {
            assert!(is_machine_made(id), "{id}");
        }
        for id in ["mine", "13812345678", "11010519491231002X", "a@example.com", "王小明", ""] {
            assert!(!is_machine_made(id), "{id}");
        }
        assert!(is_harmless("digits-2026") && is_harmless(""));
        assert!(!is_harmless("13812345678") && !is_harmless("m110105194912310028"));
    }
}
