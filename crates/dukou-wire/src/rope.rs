//! A body in pieces: as it arrived in frames, gathered at most once, and as it leaves, with what is large
//! standing in it uncopied.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use dukou_types::{Data, ErrorCode, Failure, LARGE, Tensor, note_copied_in, note_copied_out};
use smallvec::SmallVec;

use crate::{DecodeLimits, sentence::counted, v2};

/// The frames of one body or message.
pub type Message = SmallVec<[Bytes; 2]>;

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
    note_copied_in(range.len());
    let mut gathered = BytesMut::with_capacity(range.len());
    gathered.extend_from_slice(&first[part]);
    for (frame, part) in pieces_of_it {
        gathered.extend_from_slice(&frame[part]);
    }
    gathered.freeze()
}

/// Copies `range` to `target`, which is as long.
pub(crate) fn copy(rope: &[Bytes], range: Range<usize>, target: &mut [u8]) {
    note_copied_in(range.len());
    let mut written = 0;
    for (frame, part) in pieces(rope, range) {
        let end = written + part.len();
        target[written..end].copy_from_slice(&frame[part]);
        written = end;
    }
}

/// Bytes that stand at places of a text, in their order: what is large is not copied into it.
pub type Inserts = SmallVec<[(usize, Bytes); 1]>;

/// A text with its inserts, in pieces.
pub fn woven(head: Vec<u8>, inserts: Inserts) -> Message {
    let mut head = Bytes::from(head);
    let mut pieces = Message::with_capacity(2 * inserts.len() + 1);
    let mut before = 0;
    for (place, bytes) in inserts {
        pieces.push(head.split_to(place - before));
        pieces.push(bytes);
        before = place;
    }
    pieces.push(head);
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// Appends a tensor's raw bytes, or has them stand at the end of `out` as they lie in the model's memory,
/// where they are many and shared.
pub(crate) fn push_elements(out: &mut Vec<u8>, tensor: &Tensor, inserts: &mut Inserts) {
    match &tensor.data {
        Data::Shared(shared) if tensor.size() >= LARGE => {
            inserts.push((out.len(), Bytes::from_owner(shared.clone())));
        }
        _ => {
            note_copied_out(tensor.size());
            v2::push_raw(out, tensor);
        }
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
