//! Names and values as a query or a form writes them: `a=1&b=%20`.

use std::borrow::Cow;

/// The pairs of a query, in their order. What is not percent-encoded as it should be stands as it came.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

/// The first value of a name.
pub(super) fn first<'q>(query: Option<&'q str>, name: &str) -> Option<Cow<'q, str>> {
    pairs(query?).find(|(said, _)| said == name).map(|(_, value)| value)
}

/// `+` is a space, `%41` an `A`; a broken escape stands for itself.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['+', '%']) {
        return text.into();
    }
    let bytes = text.as_bytes();
    let digit = |at: usize| {
        let byte = bytes.get(at).copied()?;
        u8::try_from(char::from(byte).to_digit(16)?).ok()
    };
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        plain.push(match byte {
            b'+' => b' ',
            b'%' => match (digit(at), digit(at + 1)) {
                (Some(high), Some(low)) => {
                    at += 2;
                    high * 16 + low
                }
                _ => b'%',
            },
            byte => byte,
        });
    }
    String::from_utf8_lossy(&plain).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_taken_apart() {
        let read = |text| pairs(text).map(|(n, v)| format!("{n}:{v}")).collect::<Vec<_>>();
        assert_eq!(read("a=1&b=x+y%26&c&&=d"), ["a:1", "b:x y&", "c:", ":d"]);
        assert_eq!(read("%zz=%4&%41=%E6%B8%A1"), ["%zz:%4", "A:渡"]);
        assert_eq!(first(Some("a=1&a=2"), "a").as_deref(), Some("1"));
        assert_eq!(first(None, "a"), None);
    }
}
