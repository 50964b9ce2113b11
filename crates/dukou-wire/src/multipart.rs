//! A `multipart/form-data` body (RFC 7578), taken apart without copying.

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure};

use crate::sentence::quoted;

/// Parts of one body.
const MOST: usize = 256;

/// One part.
#[derive(Debug)]
pub(crate) struct Part {
    /// The field's name.
    pub name: String,
    /// Its own content type, in lower case and without parameters; empty where it has none.
    pub content_type: String,
    /// What it holds.
    pub content: Bytes,
}

/// Whether a content type is a form's of parts.
pub(crate) fn is_form(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("multipart/form-data")
}

/// The boundary that a content type names.
pub(crate) fn boundary(content_type: &str) -> Option<&str> {
    let mut parameters = content_type.split(';').skip(1).map(str::trim);
    let said = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then_some(value.trim())
    })?;
    let bare = said.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(said);
    (1..=70).contains(&bare.len()).then_some(bare)
}

/// Takes a body apart.
///
/// # Errors
/// `wire.invalid-field`: it is not what its content type says, or has too many parts.
pub(crate) fn parts(body: &Bytes, boundary: &str) -> Result<Vec<Part>, Failure> {
    let delimiter = [b"--", boundary.as_bytes()].concat();
    let mut parts = Vec::new();
    // The first delimiter may stand at the very front; every other behind a line's end.
    let mut at = if body.starts_with(&delimiter) {
        delimiter.len()
    } else {
        let inner = [b"\r\n", &*delimiter].concat();
        let found = find(body, &inner, 0).ok_or_else(|| broken("its boundary is not in it"))?;
        found + inner.len()
    };
    let inner = [b"\r\n", &*delimiter].concat();
    loop {
        if body[at..].starts_with(b"--") {
            return Ok(parts);
        }
        // White space may follow a boundary on its line.
        let line = find(body, b"\r\n", at).ok_or_else(|| broken("a part has no end"))?;
        if !body[at..line].iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            return Err(broken("something stands behind a boundary"));
        }
        let head = line + 2;
        let end = find(body, &inner, line).ok_or_else(|| broken("the last part has no end"))?;
        // A part without headers begins with the empty line itself.
        let (heads, content) = if body[head..].starts_with(b"\r\n") {
            (head..head, head + 2)
        } else {
            let empty = find(body, b"\r\n\r\n", head).filter(|&empty| empty <= end);
            let empty = empty.ok_or_else(|| broken("a part has no empty line"))?;
            (head..empty, empty + 4)
        };
        if parts.len() == MOST {
            return Err(broken("it has more than 256 parts"));
        }
        let heads = std::str::from_utf8(&body[heads]).map_err(|_| broken("a head is no text"))?;
        // The empty line may be the one that the boundary begins with: nothing stands between.
        parts.push(part(heads, body.slice(content.min(end)..end))?);
        at = end + inner.len();
    }
}

fn part(heads: &str, content: Bytes) -> Result<Part, Failure> {
    let (mut name, mut content_type) = (None, String::new());
    for head in heads.split("\r\n") {
        let Some((field, value)) = head.split_once(':') else { continue };
        if field.trim().eq_ignore_ascii_case("content-disposition") {
            name = parameter(value, "name");
        } else if field.trim().eq_ignore_ascii_case("content-type") {
            let kind = value.split(';').next().unwrap_or_default();
            content_type = kind.trim().to_ascii_lowercase();
        }
    }
    let name = name.ok_or_else(|| broken("a part has no name"))?;
    Ok(Part { name, content_type, content })
}

/// A parameter of a header's value, out of its quotes.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value;
    while let Some((_, behind)) = rest.split_once(';') {
        let (name, value) = behind.trim_start().split_once('=')?;
        let (said, after) = if let Some(quoted) = value.strip_prefix('"') {
            let mut text = String::new();
            let mut characters = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((at, character)) = characters.next() {
                match character {
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    '\\' => text.extend(characters.next().map(|(_, next)| next)),
                    other => text.push(other),
                }
            }
            (text, &quoted[end..])
        } else {
            let end = value.find(';').unwrap_or(value.len());
            (value[..end].trim().to_owned(), &value[end..])
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(said);
        }
        rest = after;
    }
    None
}

/// Where `wanted` stands from `from` on.
fn find(body: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    let first = *wanted.first()?;
    let mut at = from;
    while let Some(place) = body.get(at..)?.iter().position(|&byte| byte == first) {
        at += place;
        if body[at..].starts_with(wanted) {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cold]
fn broken(why: &str) -> Failure {
    let message = format!("the body is no multipart form: {why}");
    Failure::new(ErrorCode::WireInvalidField, message)
}

/// A content type without a boundary.
#[cold]
pub(crate) fn without_boundary(content_type: &str) -> Failure {
    let said = quoted(content_type);
    Failure::new(ErrorCode::WireInvalidField, format!("{said} names no `boundary`"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String, String)>, String> {
        let body = Bytes::copy_from_slice(text.as_bytes());
        let parts = parts(&body, "XX").map_err(|failure| failure.message.into_owned())?;
        let text = |content: &Bytes| String::from_utf8(content.to_vec()).unwrap();
        Ok(parts
            .iter()
            .map(|p| (p.name.clone(), p.content_type.clone(), text(&p.content)))
            .collect())
    }

    #[test]
    fn parts_are_as_curl_writes_them() {
        let text = "--XX\r\nContent-Disposition: form-data; name=\"data\"; filename=\"a.json\"\r\n\
                    Content-Type: Application/JSON; charset=utf-8\r\n\r\n[1,\r\n2]\r\n--XX  \r\n\
                    content-disposition: form-data; name=b\r\n\r\n\r\n--XX--\r\nwhat follows";
        let part =
            |name: &str, kind: &str, content: &str| (name.into(), kind.into(), content.into());
        let found = vec![part("data", "application/json", "[1,\r\n2]"), part("b", "", "")];
        assert_eq!(read(text), Ok(found));
        let preamble = "hello\r\n--XX\r\ncontent-disposition: form-data; x=1; name=\"a\\\"b\"\r\n\r\nv\r\n--XX--";
        assert_eq!(read(preamble), Ok(vec![part("a\"b", "", "v")]));
        assert_eq!(read("--XX--"), Ok(vec![]));
    }

    #[test]
    fn what_is_none_says_why() {
        for (text, why) in [
            ("", "its boundary is not in it"),
            ("--XX", "a part has no end"),
            ("--XX\r\nname: x", "the last part has no end"),
            ("--XXX\r\n\r\n\r\n--XX--", "something stands behind a boundary"),
            ("--XX\r\na: b\r\n--XX--\r\n\r\n", "a part has no empty line"),
            ("--XX\r\na: b\r\n\r\n1\r\n--XX--", "a part has no name"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.ends_with(why), "{text:?}: {said}");
        }
        let many = "--XX\r\ncontent-disposition: form-data; name=a\r\n\r\n\r\n".repeat(300);
        assert!(read(&format!("{many}--XX--")).unwrap_err().contains("256"));
    }

    #[test]
    fn a_boundary_is_found_and_bounded() {
        assert_eq!(boundary("multipart/form-data; boundary=XX"), Some("XX"));
        assert_eq!(boundary("multipart/form-data; charset=a; Boundary=\"X X\""), Some("X X"));
        assert_eq!(boundary("multipart/form-data"), None);
        assert_eq!(boundary("multipart/form-data; boundary="), None);
        assert_eq!(boundary(&format!("a; boundary={}", "x".repeat(71))), None);
    }

    proptest! {
        #[test]
        fn nothing_panics_and_every_byte_is_the_body_s(
            pieces in prop::collection::vec(
                prop_oneof![
                    Just("--XX".to_owned()), Just("\r\n".to_owned()), Just("--".to_owned()),
                    Just("content-disposition: form-data; name=\"a\"".to_owned()), "[a-z:\"; ]{0,8}",
                ],
                0..24,
            ),
        ) {
            let body = Bytes::from(pieces.concat());
            if let Ok(found) = parts(&body, "XX") {
                prop_assert!(found.iter().map(|part| part.content.len()).sum::<usize>() <= body.len());
            }
        }
    }
}
