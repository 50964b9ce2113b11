//! Compressed bodies, of HTTP and of gRPC: what is read is never larger than its limit, whatever it claims.

use std::io::{self, Read as _, Write as _};

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure};
use flate2::{
    Compression,
    bufread::{GzDecoder, ZlibDecoder},
    write::{GzEncoder, ZlibEncoder},
};
use http::{
    HeaderMap,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING},
};
use smallvec::SmallVec;

use crate::{
    rope,
    sentence::{counted, quoted},
};

/// What is shorter than this is not worth compressing.
pub(crate) const WORTH_IT: usize = 1024;

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, which HTTP calls `deflate`.
    Deflate,
}

impl Coding {
    /// As headers name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// The one with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            _ => None,
        }
    }

    /// What an HTTP client would rather have its answer compressed with than not: the heaviest of its
    /// `Accept-Encoding`, of several the first.
    pub fn wanted(headers: &HeaderMap) -> Option<Self> {
        let mut best: Option<(Self, f32)> = None;
        for said in headers.get_all(ACCEPT_ENCODING) {
            for part in said.to_str().ok()?.split(',') {
                let (name, rest) = part.split_once(';').unwrap_or((part, ""));
                let Some(coding) = Self::named(&name.trim().to_ascii_lowercase()) else { continue };
                let weight =
                    rest.trim().strip_prefix("q=").map_or(Some(1.0), |q| q.parse().ok())?;
                if weight > best.map_or(0.0, |(_, weight)| weight) {
                    best = Some((coding, weight));
                }
            }
        }
        best.map(|(coding, _)| coding)
    }

    /// Gives what was compressed, and at most one byte more than `limit` of it: so that what is too large is
    /// told from what just fits.
    ///
    /// # Errors
    /// It is not of this coding, or ends too early.
    pub(crate) fn inflate(self, packed: &[u8], limit: usize) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(packed.len().saturating_mul(2).min(limit));
        let most = (limit as u64).saturating_add(1);
        match self {
            Self::Gzip => GzDecoder::new(packed).take(most).read_to_end(&mut out),
            Self::Deflate => ZlibDecoder::new(packed).take(most).read_to_end(&mut out),
        }?;
        Ok(out)
    }

    /// Compresses, quickly rather than well.
    pub(crate) fn deflate(self, bytes: &[u8]) -> Option<Vec<u8>> {
        let out = Vec::with_capacity(bytes.len() / 2 + 64);
        match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(out, Compression::fast());
                encoder.write_all(bytes).ok()?;
                encoder.finish().ok()
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(out, Compression::fast());
                encoder.write_all(bytes).ok()?;
                encoder.finish().ok()
            }
        }
    }
}

/// A body's frames, inflated where its head says that it is compressed.
///
/// # Errors
/// `wire.unsupported` for a coding that is not read; `wire.invalid-request` for what is not of the coding
/// that its head names; `request.body-too-large` where it has more than `limit` bytes once it is inflated.
pub fn open_body(
    frames: SmallVec<[Bytes; 2]>,
    headers: &HeaderMap,
    limit: usize,
) -> Result<SmallVec<[Bytes; 2]>, Failure> {
    let Some(named) = headers.get(CONTENT_ENCODING).filter(|coding| *coding != "identity") else {
        return Ok(frames);
    };
    let named = String::from_utf8_lossy(named.as_bytes()).to_ascii_lowercase();
    let Some(coding) = Coding::named(named.trim()) else {
        let message = format!(
            "the body is encoded as {}; gzip and deflate are read, and what is not encoded",
            quoted(&named)
        );
        return Err(Failure::new(ErrorCode::WireUnsupported, message));
    };
    let length = rope::length(&frames);
    let inflated = coding.inflate(&rope::gather(&frames, 0..length), limit).map_err(|_| {
        let message = format!("the body is not {}, as `Content-Encoding` says", coding.name());
        Failure::new(ErrorCode::WireInvalidRequest, message)
    })?;
    if inflated.len() > limit {
        let message = format!(
            "the body has more than {} once it is inflated, which `limits.body_bytes` of the serving table allows",
            counted(limit, "byte")
        );
        return Err(Failure::new(ErrorCode::RequestBodyTooLarge, message));
    }
    Ok(SmallVec::from_iter([Bytes::from(inflated)]))
}

/// An answer's pieces, compressed with what its asker wants where that is worth it.
pub fn seal_body(
    pieces: SmallVec<[Bytes; 2]>,
    headers: &HeaderMap,
) -> (SmallVec<[Bytes; 2]>, Option<Coding>) {
    let length = rope::length(&pieces);
    let coding = Coding::wanted(headers).filter(|_| length >= WORTH_IT);
    let packed = coding.and_then(|coding| {
        coding.deflate(&rope::gather(&pieces, 0..length)).map(|packed| (packed, coding))
    });
    match packed {
        Some((packed, coding)) => (SmallVec::from_iter([Bytes::from(packed)]), Some(coding)),
        None => (pieces, None),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn said(name: http::HeaderName, value: &'static str) -> HeaderMap {
        [(name, HeaderValue::from_static(value))].into_iter().collect()
    }

    #[test]
    fn the_heaviest_is_wanted() {
        for (value, wanted) in [
            ("gzip, deflate", Some(Coding::Gzip)),
            ("deflate, gzip", Some(Coding::Deflate)),
            ("gzip;q=0.2, deflate;q=0.7, br", Some(Coding::Deflate)),
            ("GZIP ; q=1", Some(Coding::Gzip)),
            ("gzip;q=0", None),
            ("br, identity", None),
            ("gzip;q=much", None),
            ("", None),
        ] {
            assert_eq!(Coding::wanted(&said(ACCEPT_ENCODING, value)), wanted, "{value}");
        }
        assert_eq!(Coding::wanted(&HeaderMap::new()), None);
    }

    #[test]
    fn what_was_sealed_is_opened() {
        let body: Vec<u8> = (0..4000_u32).flat_map(|n| (n % 5).to_le_bytes()).collect();
        let pieces =
            SmallVec::from_iter([body[..999].to_vec().into(), body[999..].to_vec().into()]);
        for name in ["gzip", "deflate"] {
            let (sealed, coding) = seal_body(pieces.clone(), &said(ACCEPT_ENCODING, name));
            assert_eq!(coding.map(Coding::name), Some(name));
            assert!(rope::length(&sealed) < body.len() / 4);
            let opened = open_body(sealed, &said(CONTENT_ENCODING, name), body.len()).unwrap();
            assert_eq!(opened[0], body);
        }
        let (plain, coding) = seal_body(pieces.clone(), &said(ACCEPT_ENCODING, "identity"));
        assert_eq!((plain, coding), (pieces, None));
        let short = SmallVec::from_iter([Bytes::from_static(b"short")]);
        assert_eq!(seal_body(short, &said(ACCEPT_ENCODING, "gzip")).1, None, "not worth it");
    }

    #[test]
    fn a_body_that_lies_is_refused() {
        let bomb = Coding::Gzip.deflate(&vec![0; 1 << 20]).unwrap();
        assert!(bomb.len() < 10_000);
        for (body, name, code, words) in [
            (&bomb[..], "gzip", ErrorCode::RequestBodyTooLarge, "more than 20000 bytes"),
            (&bomb[..bomb.len() / 2], "gzip", ErrorCode::RequestBodyTooLarge, "more than 20000"),
            (b"{}", "gzip", ErrorCode::WireInvalidRequest, "is not gzip"),
            (&bomb[..], "deflate", ErrorCode::WireInvalidRequest, "is not deflate"),
            (b"", "deflate", ErrorCode::WireInvalidRequest, "is not deflate"),
            (b"{}", "br", ErrorCode::WireUnsupported, "`br`; gzip and deflate"),
        ] {
            let frames = SmallVec::from_iter([Bytes::copy_from_slice(body)]);
            let headers =
                [(CONTENT_ENCODING, HeaderValue::from_static(name))].into_iter().collect();
            let failure = open_body(frames, &headers, 20_000).unwrap_err();
            assert_eq!(failure.code, code, "{failure}");
            assert!(failure.message.contains(words), "{failure}");
        }
        let frames: SmallVec<[Bytes; 2]> = SmallVec::from_iter([Bytes::from_static(b"{}")]);
        let kept = open_body(frames.clone(), &said(CONTENT_ENCODING, "identity"), 1).unwrap();
        assert_eq!(kept, frames);
    }
}
