//! A body as it arrived: frames, gathered at most once.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use dukou_types::{ErrorCode, Failure};

use crate::{DecodeLimits, sentence::counted};

/// Bytes of all frames.
pub(crate) fn length(rope: &[Bytes]) -> usize {
    rope.iter().map(Bytes::len).sum()
}

/// Bytes of all frames, where a decoder may spend on so many.
///
/// # Errors
/// `request.body-too-large`.
pub(crate) fn admitted(rope: &[Bytes], limits: &DecodeLimits) -> Result<usize, Failure> {
    let total = length(rope);
    if total > limits.body_bytes {
        let message =
            format!("the body has {}; the limit is {}", counted(total, "byte"), limits.body_bytes);
        return Err(Failure::new(ErrorCode::RequestBodyTooLarge, message));
    }
    Ok(total)
}

/// The parts of frames that lie in `range`.
fn pieces(rope: &[Bytes], range: Range<usize>) -> impl Iterator<Item = (&Bytes, Range<usize>)> {
    let mut before = 0;
    rope.iter().filter_map(move |frame| {
        let begin = range.start.saturating_sub(before).min(frame.len());
        let end = range.end.saturating_sub(before).min(frame.len());
        before += frame.len();
        (begin < end).then_some((frame, begin..end))
    })
}

/// `range` as one run of bytes: a view where it lies within one frame, a copy where it does not.
pub(crate) fn gather(rope: &[Bytes], range: Range<usize>) -> Bytes {
    let mut pieces_of_it = pieces(rope, range.clone());
    let Some((first, part)) = pieces_of_it.next() else {
        return Bytes::new();
    };
    if part.len() == range.len() {
        return first.slice(part);
    }
    let mut gathered = BytesMut::with_capacity(range.len());
    gathered.extend_from_slice(&first[part]);
    for (frame, part) in pieces_of_it {
        gathered.extend_from_slice(&frame[part]);
    }
    gathered.freeze()
}

/// Copies `range` to `target`, which is as long.
pub(crate) fn copy(rope: &[Bytes], range: Range<usize>, target: &mut [u8]) {
    let mut written = 0;
    for (frame, part) in pieces(rope, range) {
        let end = written + part.len();
        target[written..end].copy_from_slice(&frame[part]);
        written = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_over_any_frames() {
        let rope = ["", "abc", "", "d", "efgh"].map(|frame| Bytes::from_static(frame.as_bytes()));
        assert_eq!(length(&rope), 8);
        for start in 0..=8 {
            for end in start..=8 {
                let expected = &b"abcdefgh"[start..end];
                assert_eq!(gather(&rope, start..end), expected);
                let mut target = vec![0; end - start];
                copy(&rope, start..end, &mut target);
                assert_eq!(target, expected);
            }
        }
        assert!(gather(&[], 0..0).is_empty());
    }

    #[test]
    fn a_range_in_one_frame_is_not_copied() {
        let frame = Bytes::from(b"abcdef".to_vec());
        let part = gather(std::slice::from_ref(&frame), 2..4);
        assert_eq!(part.as_ptr(), frame[2..].as_ptr());
    }
}
