//! One sending socket of the tunnel and the datagrams that wait for it.
//!
//! Frames of one peer with one length wait in a batch and leave in one call (UDP_SEGMENT); a shorter one may be the last. A
//! super-frame is cut into segments whose headers are written to scratch and whose payloads stay where they are. Within a
//! lane the order of frames is kept, and a flow has one lane, so flows are not reordered.

use super::is_unreachable;
use crate::IoCounters;
use crate::sys::udp;
use overlay::tunnel::Outgoing;
use socket2::{SockAddr, Socket};
use std::io::{self, IoSlice};
use switch::{DropReason, Switch};

/// Most segments of one UDP_SEGMENT call: `UDP_MAX_SEGMENTS` of `linux/udp.h` before Linux 6.9 (128 since).
const SEGMENTS_MAX: usize = 64;

/// Most bytes of one UDP_SEGMENT call: an IPv4 packet of 65,535 bytes less its IP and UDP headers.
const SEND_MAX_BYTES: usize = 65_507;

/// A socket and its batch.
pub(super) struct Lane {
    socket: Socket,
    /// The kernel has not refused UDP_SEGMENT on this socket.
    segments: bool,
    batch: Vec<u8>,
    to: Option<SockAddr>,
    /// Length of every datagram of the batch but the last.
    datagram_bytes: usize,
    datagrams: usize,
    traffic_class: u8,
    /// Where a datagram went that was larger than the kernel's path MTU, until somebody asks.
    pub(super) too_big: Option<SockAddr>,
    /// What goes before the payloads of the segments of a super-frame.
    prefixes: Vec<u8>,
}

impl Lane {
    pub(super) fn new(socket: Socket) -> Lane {
        Lane {
            socket,
            segments: true,
            batch: Vec::new(),
            to: None,
            datagram_bytes: 0,
            datagrams: 0,
            traffic_class: 0,
            too_big: None,
            prefixes: Vec::new(),
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.datagrams == 0
    }

    /// Sends a super-frame at once; lets another frame wait for the flush.
    pub(super) fn send(
        &mut self,
        to: &SockAddr,
        outgoing: &Outgoing<'_>,
        counters: &mut IoCounters,
        switch: &mut Switch,
    ) {
        if outgoing.count() == 1 {
            self.push(to, outgoing, counters, switch);
        } else {
            self.send_segments(to, outgoing, counters, switch);
        }
    }

    /// Lets a datagram wait; sends what waits first if it cannot join that.
    fn push(&mut self, to: &SockAddr, outgoing: &Outgoing<'_>, counters: &mut IoCounters, switch: &mut Switch) {
        let len = outgoing.stride();
        if len > SEND_MAX_BYTES {
            counters.tunnel_tx_too_big += 1;
            return switch.count_drop(DropReason::TunnelSendFailed);
        }
        if !self.joins(to, len, outgoing.traffic_class()) {
            self.flush(counters, switch);
        }
        if self.datagrams == 0 {
            self.to = Some(to.clone());
            self.datagram_bytes = len;
            self.traffic_class = outgoing.traffic_class();
            // Once: the buffer is kept between batches.
            self.batch.reserve(SEND_MAX_BYTES);
        }
        let start = self.batch.len();
        self.batch.resize(start + outgoing.prefix_len(), 0);
        outgoing.write_prefix(0, &mut self.batch[start..]);
        self.batch.extend_from_slice(outgoing.payload(0));
        self.datagrams += 1;
    }

    /// Whether a datagram of `len` bytes may go into the same call as those that wait.
    fn joins(&self, to: &SockAddr, len: usize, traffic_class: u8) -> bool {
        let all_equal = self.batch.len() == self.datagrams * self.datagram_bytes;
        self.segments
            && self.datagrams < SEGMENTS_MAX
            && self.batch.len() + len <= SEND_MAX_BYTES
            && all_equal
            && len <= self.datagram_bytes
            && self.traffic_class == traffic_class
            && self.to.as_ref() == Some(to)
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self, counters: &mut IoCounters, switch: &mut Switch) {
        let Some(to) = self.to.take() else { return };
        let (batch, size) = (std::mem::take(&mut self.batch), self.datagram_bytes);
        if self.datagrams == 1 || !self.send_batch(&to, &[IoSlice::new(&batch)], size, counters, switch) {
            for datagram in batch.chunks(size) {
                self.send_one(&to, &[IoSlice::new(datagram)], counters, switch);
            }
        }
        self.batch = batch;
        self.batch.clear();
        self.datagrams = 0;
    }

    /// Sends a super-frame as the segments that it stands for.
    fn send_segments(
        &mut self,
        to: &SockAddr,
        outgoing: &Outgoing<'_>,
        counters: &mut IoCounters,
        switch: &mut Switch,
    ) {
        self.flush(counters, switch);
        self.traffic_class = outgoing.traffic_class();
        let prefix_len = outgoing.prefix_len();
        let per_call = (SEND_MAX_BYTES / outgoing.stride()).clamp(1, SEGMENTS_MAX);
        let mut prefixes = std::mem::take(&mut self.prefixes);
        if prefixes.len() < per_call * prefix_len {
            prefixes.resize(per_call * prefix_len, 0);
        }
        let mut first = 0;
        while first < outgoing.count() {
            let count = per_call.min(outgoing.count() - first);
            for (prefix, index) in prefixes.chunks_exact_mut(prefix_len).zip(first..first + count) {
                outgoing.write_prefix(index, prefix);
            }
            let mut parts = [IoSlice::new(&[]); 2 * SEGMENTS_MAX];
            for (at, prefix) in prefixes.chunks_exact(prefix_len).take(count).enumerate() {
                parts[2 * at] = IoSlice::new(prefix);
                parts[2 * at + 1] = IoSlice::new(outgoing.payload(first + at));
            }
            let parts = &parts[..2 * count];
            self.datagrams = count;
            if count == 1 || !self.send_batch(to, parts, outgoing.stride(), counters, switch) {
                for datagram in parts.chunks(2) {
                    self.send_one(to, datagram, counters, switch);
                }
            }
            first += count;
        }
        self.datagrams = 0;
        self.prefixes = prefixes;
    }

    /// Sends `self.datagrams` datagrams of `size` bytes in one call. `false` if the kernel or the device cannot do that, so
    /// that they have to be sent one by one.
    fn send_batch(
        &mut self,
        to: &SockAddr,
        parts: &[IoSlice<'_>],
        size: usize,
        counters: &mut IoCounters,
        switch: &mut Switch,
    ) -> bool {
        if !self.segments {
            return false;
        }
        counters.tunnel_tx_calls += 1;
        match udp::send(&self.socket, to, parts, Some(size as u16), self.traffic_class) {
            Ok(_) => counters.tunnel_tx_datagrams += self.datagrams as u64,
            // Older kernels say EINVAL where others say EMSGSIZE; one by one the datagrams get a clear answer.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return false,
            // The device cannot compute checksums, without which the kernel does not segment. It will not learn to.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EIO | libc::EOPNOTSUPP)) => {
                self.segments = false;
                return false;
            }
            Err(error) => self.fail(&error, to, self.datagrams, counters, switch),
        }
        true
    }

    fn send_one(&mut self, to: &SockAddr, parts: &[IoSlice<'_>], counters: &mut IoCounters, switch: &mut Switch) {
        counters.tunnel_tx_calls += 1;
        match udp::send(&self.socket, to, parts, None, self.traffic_class) {
            Ok(_) => counters.tunnel_tx_datagrams += 1,
            Err(error) => self.fail(&error, to, 1, counters, switch),
        }
    }

    /// Counts a call that failed and the datagrams that were lost with it. None of these is fatal.
    fn fail(
        &mut self,
        error: &io::Error,
        to: &SockAddr,
        datagrams: usize,
        counters: &mut IoCounters,
        switch: &mut Switch,
    ) {
        let mut reason = DropReason::TunnelSendFailed;
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => {
                counters.tunnel_tx_full += 1;
                reason = DropReason::TransmitQueueFull;
            }
            Some(libc::EMSGSIZE) => {
                counters.tunnel_tx_too_big += 1;
                self.too_big = Some(to.clone());
            }
            _ if is_unreachable(error) => counters.tunnel_unreachable += 1,
            _ => counters.tunnel_errors += 1,
        }
        for _ in 0..datagrams {
            switch.count_drop(reason);
        }
    }
}
