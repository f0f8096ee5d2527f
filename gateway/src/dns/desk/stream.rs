//! One connection: messages with their lengths in front (RFC 1035 §4.2.2), any number of them, answered in any order (RFC 7766).

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use std::net::IpAddr;

/// Bytes that a client may send without an answer: a query has some dozens.
const RECEIVE_BYTES: usize = 4_096;

/// Bytes on the way to a client: what a connection inside of a node needs to be busy.
const TRANSMIT_BYTES: usize = 16_384;

/// Queries of a connection that are not answered yet. More than resolvers have under way; the rest waits in the client's kernel.
pub(super) const PIPELINED_MAX: usize = 64;

/// Answers of a connection that the client does not fetch. Beyond that its queries are not read: two of the longest and some.
const OUTBOUND_BYTES_MAX: usize = 3 * 65_537;

/// Longest silence between queries: a resolver that has more to ask does it at once (RFC 7766 §6.2.3 speaks of a few seconds).
pub(super) const IDLE: Duration = Duration::from_secs(10);

/// Longest time for a handshake, and for an orderly end.
pub(super) const HASTE: Duration = Duration::from_secs(5);

/// A connection and its socket.
#[derive(Debug)]
pub(super) struct Stream {
    /// It holds one: so a packet finds its socket without a look at the others.
    pub(super) sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// Bytes that came and are no whole message yet.
    inbound: Vec<u8>,
    /// Answers with their lengths, from `sent` on.
    outbound: Vec<u8>,
    sent: usize,
    /// Queries that were handed out and not answered.
    pub(super) waiting: usize,
    /// When it is given up, or closed if it is idle.
    pub(super) until: Instant,
    closing: bool,
}

impl Stream {
    /// Waits for the handshake at port 53 of `server`.
    pub(super) fn listen(now: Instant, server: IpAddr) -> Stream {
        let buffer = |len| SocketBuffer::new(vec![0; len]);
        let mut socket = Socket::new(buffer(RECEIVE_BYTES), buffer(TRANSMIT_BYTES));
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.listen((server, super::DNS_PORT)).expect("a fresh socket listens");
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        let (inbound, outbound) = (Vec::new(), Vec::new());
        Stream { sockets, handle, inbound, outbound, sent: 0, waiting: 0, until: now + HASTE, closing: false }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Nobody asked for it.
    pub(super) fn is_listening(&mut self) -> bool {
        self.socket().state() == State::Listen
    }

    /// The handshake goes on.
    pub(super) fn is_half_open(&mut self) -> bool {
        self.socket().state() == State::SynReceived
    }

    /// Nothing is to be said or heard any more.
    pub(super) fn is_over(&mut self) -> bool {
        matches!(self.socket().state(), State::Closed | State::TimeWait)
    }

    /// The next query, if the client has sent one and does not owe too much.
    pub(super) fn take_query(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.waiting >= PIPELINED_MAX || self.outbound.len() - self.sent >= OUTBOUND_BYTES_MAX {
            return None;
        }
        loop {
            if let Some([high, low]) = self.inbound.first_chunk::<2>() {
                let end = 2 + usize::from(u16::from_be_bytes([*high, *low]));
                if self.inbound.len() >= end {
                    let message = self.inbound[2..end].to_vec();
                    self.inbound.drain(..end);
                    self.waiting += 1;
                    self.until = now + IDLE;
                    return Some(message);
                }
            }
            let inbound = &mut self.inbound;
            let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
            let read = socket.recv(|bytes| {
                inbound.extend_from_slice(bytes);
                (bytes.len(), bytes.len())
            });
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Answers a query; with nothing if it gets no answer.
    pub(super) fn answer(&mut self, now: Instant, message: &[u8]) {
        self.waiting = self.waiting.saturating_sub(1);
        self.until = now + IDLE;
        if let Ok(len) = u16::try_from(message.len())
            && len > 0
        {
            self.outbound.extend_from_slice(&len.to_be_bytes());
            self.outbound.extend_from_slice(message);
        }
    }

    /// Gives the socket what it has room for, and ends what the client has ended once everything is said.
    pub(super) fn flush(&mut self, now: Instant) {
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        let taken = socket.send_slice(&self.outbound[self.sent..]).unwrap_or(0);
        self.sent += taken;
        if self.sent == self.outbound.len() {
            self.outbound.clear();
            self.sent = 0;
            if socket.state() == State::CloseWait && self.waiting == 0 {
                socket.close();
                self.end(now);
            }
        }
    }

    /// Its time is up: an idle one is closed in order, any other given up.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.closing || self.is_half_open() {
            self.socket().abort();
        } else if self.waiting > 0 {
            // Whoever looks for the answer has a time limit of its own.
            self.until = now + IDLE;
        } else {
            self.socket().close();
            self.end(now);
        }
    }

    fn end(&mut self, now: Instant) {
        self.closing = true;
        self.until = now + HASTE;
    }
}
