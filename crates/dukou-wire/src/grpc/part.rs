//! A message's bytes as they arrived: a run over frames, read without gathering it.
//!
//! Protobuf says of most fields how long they are, so that a reader can step over a tensor's megabytes
//! and have them copied later, once, to where they are needed.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use dukou_types::note_copied_in;

/// A run of bytes that may begin in one frame and end in a later one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    /// The frame that it begins in, and those behind.
    frames: &'a [Bytes],
    /// Where in the first of them.
    start: usize,
    len: usize,
}

impl<'a> Part<'a> {
    /// All bytes of these frames.
    pub(crate) fn whole(frames: &'a [Bytes]) -> Self {
        Self { frames, start: 0, len: crate::rope::length(frames) }
    }

    /// How many bytes.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What of it lies in the frame that it begins in.
    fn first(&self) -> &'a [u8] {
        let rest = self.frames.first().map_or(&[][..], |frame| &frame[self.start..]);
        &rest[..rest.len().min(self.len)]
    }

    /// The next byte, taken from the front.
    #[inline]
    pub(crate) fn byte(&mut self) -> Option<u8> {
        loop {
            if self.len == 0 {
                return None;
            }
            let (frame, rest) = self.frames.split_first()?;
            if let Some(&byte) = frame.get(self.start) {
                self.start += 1;
                self.len -= 1;
                return Some(byte);
            }
            (self.frames, self.start) = (rest, 0);
        }
    }

    /// So many bytes, taken from the front; `None` where there are not as many.
    pub(crate) fn take(&mut self, count: usize) -> Option<Self> {
        if count > self.len {
            return None;
        }
        let taken = Self { len: count, ..*self };
        self.len -= count;
        let mut left = count;
        while left > 0 {
            let (frame, rest) = self.frames.split_first()?;
            let here = frame.len() - self.start;
            if left < here {
                self.start += left;
                break;
            }
            left -= here;
            (self.frames, self.start) = (rest, 0);
        }
        Some(taken)
    }

    /// As many bytes as an array has, taken from the front.
    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut array = [0; N];
        if let Some(there) = self.first().get(..N) {
            array.copy_from_slice(there);
            self.start += N;
            self.len -= N;
            return Some(array);
        }
        for byte in &mut array {
            *byte = self.byte()?;
        }
        Some(array)
    }

    /// The same bytes in one run: borrowed where they lie in one frame.
    pub(crate) fn gathered(&self) -> Cow<'a, [u8]> {
        let first = self.first();
        if first.len() == self.len {
            return Cow::Borrowed(first);
        }
        let mut gathered = vec![0; self.len];
        self.copy_to(&mut gathered);
        Cow::Owned(gathered)
    }

    /// The same, to be kept: a view where they lie in one frame, a copy where they do not.
    pub(crate) fn kept(&self) -> Bytes {
        match self.frames.first() {
            _ if self.len == 0 => Bytes::new(),
            Some(frame) if frame.len() - self.start >= self.len => {
                frame.slice(self.start..self.start + self.len)
            }
            _ => {
                let mut gathered = BytesMut::zeroed(self.len);
                self.copy_to(&mut gathered);
                gathered.freeze()
            }
        }
    }

    /// Copies it to `target`, which is as long.
    pub(crate) fn copy_to(&self, target: &mut [u8]) {
        note_copied_in(self.len);
        let mut written = 0;
        let mut rest = *self;
        while rest.len > 0 {
            let here = rest.first();
            if here.is_empty() && rest.frames.is_empty() {
                return;
            }
            target[written..written + here.len()].copy_from_slice(here);
            written += here.len();
            rest.len -= here.len();
            (rest.frames, rest.start) = (rest.frames.get(1..).unwrap_or_default(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_any_frames() {
        let frames =
            ["", "abc", "", "d", "efgh", ""].map(|text| Bytes::from_static(text.as_bytes()));
        for start in 0..=8 {
            for end in start..=8 {
                let mut rest = Part::whole(&frames);
                assert_eq!(rest.take(start).map(|part| part.len()), Some(start));
                let part = rest.take(end - start).unwrap();
                let expected = &b"abcdefgh"[start..end];
                assert_eq!(*part.gathered(), *expected);
                assert_eq!(part.kept(), expected);
                let mut read = part;
                let bytes: Vec<u8> = std::iter::from_fn(|| read.byte()).collect();
                assert_eq!(bytes, expected);
                assert_eq!(rest.len(), 8 - end);
                assert!(rest.take(9 - end).is_none());
            }
        }
        assert!(Part::whole(&[]).is_empty());
    }

    #[test]
    fn a_part_of_one_frame_is_not_copied() {
        let frames = [Bytes::from(b"abcdef".to_vec())];
        let mut rest = Part::whole(&frames);
        rest.take(2).unwrap();
        let part = rest.take(3).unwrap();
        assert_eq!(part.kept().as_ptr(), frames[0][2..].as_ptr());
        assert!(matches!(part.gathered(), Cow::Borrowed(b"cde")));
    }

    #[test]
    fn an_array_may_lie_across_frames() {
        let frames = [Bytes::from_static(b"\x01\x02\x03"), Bytes::from_static(b"\x04\x05")];
        let mut part = Part::whole(&frames);
        assert_eq!(part.array::<2>(), Some([1, 2]));
        assert_eq!(part.array::<2>(), Some([3, 4]));
        assert_eq!(part.array::<2>(), None);
    }
}
