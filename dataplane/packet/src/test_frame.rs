//! A frame on the heap, for tests and benches.

use crate::{Frame, Meta};

/// A [`Frame`] over a vector: DPDK's usual buffer (128 bytes of headroom, 2048 + 128 bytes in all) unless told otherwise.
#[derive(Clone, Debug)]
pub struct TestFrame {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    meta: Meta,
}

impl TestFrame {
    /// Headroom of a new frame, in bytes, as `RTE_PKTMBUF_HEADROOM`.
    pub const HEADROOM: usize = 128;
    /// Room for data and tail of a new frame, in bytes.
    pub const DATAROOM: usize = 2048;

    /// A frame with these bytes, usual headroom, and a tailroom that makes the usual buffer (or none, if it is longer).
    pub fn new(bytes: &[u8]) -> Self {
        Self::with_room(bytes, Self::HEADROOM, Self::DATAROOM.saturating_sub(bytes.len()))
    }

    /// A frame with exactly this room.
    pub fn with_room(bytes: &[u8], headroom: usize, tailroom: usize) -> Self {
        let mut buffer = vec![0; headroom + bytes.len() + tailroom];
        let end = headroom + bytes.len();
        buffer[headroom..end].copy_from_slice(bytes);
        Self { buffer, start: headroom, end, meta: Meta::default() }
    }

    /// Puts other bytes in, with the usual headroom, without a new allocation. Bytes that do not fit are cut off.
    pub fn refill(&mut self, bytes: &[u8]) {
        self.start = Self::HEADROOM.min(self.buffer.len());
        let len = bytes.len().min(self.buffer.len() - self.start);
        self.end = self.start + len;
        self.buffer[self.start..self.end].copy_from_slice(&bytes[..len]);
    }
}

impl Frame for TestFrame {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    fn prepend(&mut self, len: usize) -> Option<&mut [u8]> {
        self.start = self.start.checked_sub(len)?;
        Some(&mut self.buffer[self.start..self.start + len])
    }

    fn append(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > self.tailroom() {
            return None;
        }
        let from = self.end;
        self.end += len;
        Some(&mut self.buffer[from..self.end])
    }

    fn trim_front(&mut self, len: usize) -> bool {
        let fits = len <= self.end - self.start;
        self.start += if fits { len } else { 0 };
        fits
    }

    fn trim_back(&mut self, len: usize) -> bool {
        let fits = len <= self.end - self.start;
        self.end -= if fits { len } else { 0 };
        fits
    }

    fn headroom(&self) -> usize {
        self.start
    }

    fn tailroom(&self) -> usize {
        self.buffer.len() - self.end
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }

    fn sibling(&self) -> Option<Self> {
        Some(Self::new(&[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_shrinks_within_its_room_only() {
        let mut frame = TestFrame::with_room(&[1, 2, 3], 2, 1);
        assert!(frame.prepend(3).is_none());
        frame.prepend(2).unwrap().copy_from_slice(&[8, 9]);
        assert!(frame.append(2).is_none());
        frame.append(1).unwrap()[0] = 7;
        assert_eq!(frame.bytes(), [8, 9, 1, 2, 3, 7]);
        assert!(!frame.trim_front(7));
        assert!(!frame.trim_back(7));
        assert!(frame.trim_front(2) && frame.trim_back(1));
        assert_eq!(frame.bytes(), [1, 2, 3]);
        assert_eq!((frame.headroom(), frame.tailroom()), (2, 1));
    }
}
