//! One line of the access log, formatted by hand into bytes.

use std::time::{Duration, SystemTime};

use dukou_types::Principal;

use crate::{
    cache::Found,
    private::{is_harmless, is_machine_made},
    record::Outcome,
};

/// Appends an outcome as one line of JSON.
pub fn push_line(line: &mut Vec<u8>, outcome: &Outcome<'_>, request: Duration, now: SystemTime) {
    line.extend_from_slice(b"{\"time\":\"");
    push_time(line, now);
    line.extend_from_slice(b"\",\"id\":\"");
    push_hex(line, outcome.id.0);
    line.push(b'"');
    if let Some(trace) = outcome.trace {
        line.extend_from_slice(b",\"trace\":\"");
        push_hex(line, (trace >> 64) as u64);
        push_hex(line, trace as u64);
        line.push(b'"');
    }
    push_text(line, "client_id", outcome.client_id.filter(|id| is_machine_made(id)));
    push_text(line, "listener", Some(outcome.listener));
    push_text(line, "dialect", Some(outcome.dialect.as_str()));
    push_text(line, "operation", Some(outcome.operation));
    match outcome.lane {
        Some(lane) => {
            push_text(line, "model", Some(lane.version.model.as_str()));
            push_text(line, "version", Some(lane.version.version.as_str()));
            push_text(line, "arm", Some(lane.arm.as_str()));
            push_text(line, "revision", Some(lane.revision.as_str()));
        }
        None => push_text(line, "model", outcome.asked_model.filter(|name| is_harmless(name))),
    }
    push_number(line, "status", u64::from(outcome.status));
    push_text(line, "code", Some(outcome.error.map_or("ok", |code| code.as_str())));
    push_number(line, "request_us", micros(request));
    if let Some(queue) = outcome.queue {
        push_number(line, "queue_us", micros(queue));
    }
    if let Some(compute) = outcome.compute {
        push_number(line, "compute_us", micros(compute));
    }
    push_text(line, "cache", outcome.found.map(Found::as_str));
    push_number(line, "rows", outcome.rows as u64);
    push_number(line, "batch_rows", outcome.batch_rows as u64);
    push_number(line, "bytes_in", outcome.bytes_in as u64);
    push_number(line, "bytes_out", outcome.bytes_out as u64);
    let principal = match outcome.principal {
        Principal::Unknown => "unknown",
        Principal::Loopback => "loopback",
        Principal::Anonymous => "anonymous",
        Principal::Engine => "engine",
        Principal::Named(name) => name,
    };
    push_text(line, "principal", Some(principal));
    line.extend_from_slice(b"}\n");
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn push_number(line: &mut Vec<u8>, key: &str, value: u64) {
    push_key(line, key);
    line.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn push_key(line: &mut Vec<u8>, key: &str) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(key.as_bytes());
    line.extend_from_slice(b"\":");
}

/// A text, escaped, its first 256 bytes: a client's words are not given more room than that.
fn push_text(line: &mut Vec<u8>, key: &str, text: Option<&str>) {
    const MOST: usize = 256;
    let Some(text) = text else { return };
    push_key(line, key);
    line.push(b'"');
    let end = if text.len() > MOST { text.floor_char_boundary(MOST) } else { text.len() };
    push_escaped(line, &text[..end]);
    line.push(b'"');
}

fn push_escaped(line: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        line.extend_from_slice(&bytes[plain..index]);
        match byte {
            b'"' => line.extend_from_slice(b"\\\""),
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            _ => line.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
        }
        plain = index + 1;
    }
    line.extend_from_slice(&bytes[plain..]);
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn push_hex(line: &mut Vec<u8>, value: u64) {
    let digits: [u8; 16] =
        std::array::from_fn(|index| HEX[(value >> (60 - 4 * index)) as usize & 15]);
    line.extend_from_slice(&digits);
}

/// A moment as RFC 3339 in UTC with milliseconds: `2026-11-23T08:15:00.123Z`.
pub fn push_time(line: &mut Vec<u8>, moment: SystemTime) {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (seconds, milliseconds) = (since.as_secs(), since.subsec_millis());
    let (year, month, day) = civil_date(seconds / 86_400);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let fields = [
        (0, 4, year),
        (5, 2, month),
        (8, 2, day),
        (11, 2, seconds / 3600 % 24),
        (14, 2, seconds / 60 % 60),
        (17, 2, seconds % 60),
        (20, 3, u64::from(milliseconds)),
    ];
    for (start, digits, mut value) in fields {
        for place in (start..start + digits).rev() {
            text[place] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }
    line.extend_from_slice(&text);
}

/// Year, month and day of a number of days after 1970-01-01, in the proleptic Gregorian calendar.
///
/// Counts in years that begin with March, so that the leap day is a year's last; an era is 400 years.
fn civil_date(days: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097;
    // 719468 days lie between 0000-03-01 and 1970-01-01.
    let days = days + 719_468;
    let (era, of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ];
        for (seconds, text) in cases {
            let mut line = Vec::new();
            push_time(&mut line, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(std::str::from_utf8(&line).unwrap(), text);
        }
    }
}
