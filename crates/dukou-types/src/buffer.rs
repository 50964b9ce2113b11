//! Memory for elements: owned and 64-byte aligned, or a view of somebody else's that is kept alive.

use std::{fmt, ops::Range, sync::Arc};

/// One cache line. Aligned storage without a line of `unsafe`: a vector of these, seen as bytes.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// An owned, zero-initialized, 64-byte-aligned run of bytes. What a backend leases to a decoder.
#[derive(Default)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// `len` bytes, zeroed.
    pub fn zeroed(len: usize) -> Self {
        let mut buffer = Self::default();
        buffer.resize(len);
        buffer
    }

    /// Makes it exactly `len` bytes long, keeping the allocation where it is large enough. Bytes that
    /// were there before may remain: the caller overwrites them.
    pub fn resize(&mut self, len: usize) {
        self.lines.resize(len.div_ceil(64), Line([0; 64]));
        self.len = len;
    }

    /// Bytes in use.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that fit without another allocation.
    pub fn capacity(&self) -> usize {
        self.lines.capacity() * 64
    }

    /// All of it as bytes.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    /// All of it as bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }

    /// All of it as elements of `T`; a rest shorter than one element is left out.
    pub fn typed<T: bytemuck::Pod>(&self) -> &[T] {
        let whole = self.len - self.len % size_of::<T>();
        bytemuck::cast_slice(&self.bytes()[..whole])
    }

    /// All of it as elements of `T`, to write.
    pub fn typed_mut<T: bytemuck::Pod>(&mut self) -> &mut [T] {
        let whole = self.len - self.len % size_of::<T>();
        bytemuck::cast_slice_mut(&mut self.bytes_mut()[..whole])
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        Self { lines: self.lines.clone(), len: self.len }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

/// A range of bytes that something else owns: an output tensor of the runtime, a frame of the
/// network, a mapped file. Cloning shares it.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl SharedBytes {
    /// All that `owner` shows.
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Self {
        let range = 0..(*owner).as_ref().len();
        Self { owner, range }
    }

    /// The part `range` of this, or `None` where it reaches past the end.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        let (start, end) = (self.range.start + range.start, self.range.start + range.end);
        (start <= end && end <= self.range.end)
            .then(|| Self { owner: Arc::clone(&self.owner), range: start..end })
    }
}

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBytes({} bytes)", self.range.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_typed() {
        let mut buffer = Buffer::zeroed(10);
        assert_eq!(buffer.bytes().as_ptr() as usize % 64, 0);
        buffer.typed_mut::<f32>().copy_from_slice(&[1.0, 2.0]);
        assert_eq!(buffer.typed::<f32>(), [1.0, 2.0]);
        buffer.resize(4);
        assert_eq!(buffer.typed::<f32>(), [1.0]);
        assert!(buffer.capacity() >= 64);
    }

    #[test]
    fn a_slice_stays_inside() {
        let shared = SharedBytes::new(Arc::new(vec![1_u8, 2, 3, 4]));
        let part = shared.slice(1..3).unwrap();
        assert_eq!(part.as_ref(), [2, 3]);
        assert!(part.slice(0..3).is_none());
    }
}
