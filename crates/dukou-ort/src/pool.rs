//! Buffers that go round: leased to a decoder, run on, given back. Bounded for the whole process.

use dukou_types::Buffer;
use parking_lot::Mutex;

/// Size classes are powers of two from 64 bytes to 8 MiB; what is larger is not kept.
const SMALLEST: u32 = 6;
const LARGEST: u32 = 23;
/// A class keeps at most this many bytes, and at least two buffers.
const CLASS_BYTES: usize = 4 << 20;
const CLASS_BUFFERS: usize = 64;

/// All classes together hold at most some 50 MiB.
pub(crate) struct Pool {
    classes: [Mutex<Vec<Buffer>>; (LARGEST - SMALLEST + 1) as usize],
}

impl Pool {
    pub fn new() -> Self {
        Self { classes: std::array::from_fn(|_| Mutex::new(Vec::new())) }
    }

    /// A buffer of exactly `bytes`. Its contents are unspecified.
    pub fn lease(&self, bytes: usize) -> Buffer {
        let bits = bytes
            .max(1 << SMALLEST)
            .checked_next_power_of_two()
            .map_or(u32::MAX, usize::trailing_zeros);
        let Some(class) = self.class(bits) else {
            return Buffer::zeroed(bytes);
        };
        let mut buffer = class.lock().pop().unwrap_or_else(|| Buffer::zeroed(1 << bits));
        buffer.resize(bytes);
        buffer
    }

    /// Takes a buffer back, or lets it go where its class is full.
    pub fn give_back(&self, buffer: Buffer) {
        let capacity = buffer.capacity();
        if capacity < 1 << SMALLEST {
            return;
        }
        let bits = capacity.ilog2();
        let Some(class) = self.class(bits) else {
            return;
        };
        let most = (CLASS_BYTES >> bits).clamp(2, CLASS_BUFFERS);
        let mut kept = class.lock();
        if kept.len() < most {
            kept.push(buffer);
        }
    }

    fn class(&self, bits: u32) -> Option<&Mutex<Vec<Buffer>>> {
        self.classes.get(bits.checked_sub(SMALLEST)? as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_comes_back_and_the_pool_is_bounded() {
        let pool = Pool::new();
        let lease = pool.lease(1000);
        let place = lease.bytes().as_ptr();
        assert_eq!((lease.len(), lease.capacity()), (1000, 1024));
        pool.give_back(lease);
        let again = pool.lease(600);
        assert_eq!((again.bytes().as_ptr(), again.len()), (place, 600), "the same memory");
        (0..100).for_each(|_| pool.give_back(Buffer::zeroed(1024)));
        (0..4).for_each(|_| pool.give_back(Buffer::zeroed(1 << 23)));
        pool.give_back(Buffer::zeroed(1 << 24));
        let kept: usize =
            pool.classes.iter().map(|c| c.lock().iter().map(Buffer::capacity).sum::<usize>()).sum();
        assert_eq!(kept, 64 * 1024 + (2 << 23));
    }

    #[test]
    fn extremes_do_not_panic() {
        let pool = Pool::new();
        assert_eq!(pool.lease(0).len(), 0);
        assert_eq!(pool.lease((8 << 20) + 1).len(), (8 << 20) + 1);
        pool.give_back(Buffer::default());
    }
}
