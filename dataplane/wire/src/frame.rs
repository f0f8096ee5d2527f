//! A frame and the buffer that it lives in.
//!
//! The buffer has room in front so that a virtio-net header or an encapsulation header is written before the frame
//! without moving it, and it is reused: a shell keeps a pool and reads the next frame into a used one.

use crate::Offload;
use bytes::BytesMut;

/// Bytes kept free in front of a received frame: 8 (VXLAN) or up to 64 (Geneve with options), 10 (virtio-net header),
/// and a remainder of 2 modulo 4, so that the IP header behind 14 bytes of Ethernet starts 4-aligned.
pub const HEADROOM_BYTES: usize = 126;

/// The longest frame: the largest IPv4 packet (65,535) or IPv6 super-frame (40 + 65,535) behind an Ethernet header.
pub const FRAME_MAX_BYTES: usize = 14 + 40 + 65_535;

/// One Ethernet frame in its buffer, and what was said about it ([`Offload`]).
#[derive(Clone, Debug)]
pub struct Frame {
    storage: BytesMut,
    start: usize,
    end: usize,
    /// Checksum and segmentation state.
    pub offload: Offload,
}

impl Frame {
    /// An empty frame whose buffer can hold `capacity` bytes behind the headroom.
    pub fn with_capacity(capacity: usize) -> Frame {
        let storage = BytesMut::zeroed(HEADROOM_BYTES + capacity);
        Frame { storage, start: HEADROOM_BYTES, end: HEADROOM_BYTES, offload: Offload::NONE }
    }

    /// A frame that holds a copy of `bytes`, with room for an answer of up to 1,514 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Frame {
        let mut frame = Frame::with_capacity(bytes.len().max(1_514));
        frame.set_bytes(bytes);
        frame
    }

    /// The frame's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    /// The frame's bytes, to edit.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.end]
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether the frame holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How many bytes fit behind the headroom.
    pub fn capacity(&self) -> usize {
        self.storage.len() - HEADROOM_BYTES
    }

    /// Replaces the contents by a copy of `bytes` and resets the offload state.
    ///
    /// # Panics
    /// If `bytes` is longer than the capacity.
    pub fn set_bytes(&mut self, bytes: &[u8]) {
        self.start = HEADROOM_BYTES;
        self.end = HEADROOM_BYTES + bytes.len();
        self.storage[self.start..self.end].copy_from_slice(bytes);
        self.offload = Offload::NONE;
    }

    /// The area to receive into: the last `header_bytes` of the headroom and the whole capacity. After the receive,
    /// [`Frame::received`] takes the total.
    pub fn receive_area(&mut self, header_bytes: usize) -> &mut [u8] {
        &mut self.storage[HEADROOM_BYTES - header_bytes..]
    }

    /// Takes over `total_bytes` received into [`Frame::receive_area`] with the same `header_bytes`; the frame is what
    /// lies behind the header. The offload state is reset.
    ///
    /// # Panics
    /// If `total_bytes` is less than `header_bytes` or more than the area.
    pub fn received(&mut self, header_bytes: usize, total_bytes: usize) {
        assert!(total_bytes >= header_bytes, "a receive includes its header");
        self.start = HEADROOM_BYTES;
        self.end = HEADROOM_BYTES + total_bytes - header_bytes;
        assert!(self.end <= self.storage.len(), "a receive fits its area");
        self.offload = Offload::NONE;
    }

    /// The `count` bytes directly in front of the frame, which are not part of it: scratch for a header that is sent
    /// together with the frame ([`Frame::with_header`]).
    pub fn headroom_mut(&mut self, count: usize) -> &mut [u8] {
        &mut self.storage[self.start - count..self.start]
    }

    /// The last `count` bytes of headroom and the frame as one slice.
    pub fn with_header(&self, count: usize) -> &[u8] {
        &self.storage[self.start - count..self.end]
    }

    /// Makes the `count` bytes in front of the frame part of it and returns them to be written.
    ///
    /// # Panics
    /// If the headroom is used up.
    pub fn push_front(&mut self, count: usize) -> &mut [u8] {
        assert!(count <= self.start, "the headroom has room for the header");
        self.start -= count;
        &mut self.storage[self.start..self.start + count]
    }

    /// Removes `count` bytes from the front.
    pub fn pull_front(&mut self, count: usize) {
        assert!(count <= self.len(), "cannot remove more than there is");
        self.start += count;
    }

    /// Shortens the frame to `len` bytes; no effect if it is shorter.
    pub fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }

    /// Sets the length to `len`, growing over whatever bytes the buffer holds there.
    ///
    /// # Panics
    /// If the buffer ends before.
    pub fn set_len(&mut self, len: usize) {
        assert!(self.start + len <= self.storage.len(), "the buffer holds the frame");
        self.end = self.start + len;
    }
}
