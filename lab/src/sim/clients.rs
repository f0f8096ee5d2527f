//! What simulated pods do: one connection, one datagram, one association, one ping or one transfer, each a small state machine that is stepped after
//! every turn of its stack.

use super::associations::{Association, Heard, sctp_socket};
use super::servers::{BUFFER_BYTES, tcp_socket, udp_socket};
use super::stack::Stack;
use crate::probe::Outcome;
use smoltcp::iface::SocketHandle;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::{icmp, tcp, udp};
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use wire::Instant;

/// A datagram or echo request without an answer is sent again after this time.
const RESEND: Duration = Duration::from_millis(500);

/// Bytes of a transfer that may be without their echo: less than a socket buffer, so that no window closes. smoltcp takes no
/// acknowledgment that comes with a sequence number past a closed window, and both ends would wait for each other.
const UNECHOED_MAX: u64 = BUFFER_BYTES as u64 / 2;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Open a TCP connection, read the server's line, close.
    Connect {
        /// Whom to connect to.
        to: SocketAddr,
    },
    /// Send a UDP datagram until an answer comes.
    Datagram {
        /// Whom to send to.
        to: SocketAddr,
        /// Payload length in bytes; more than the MTU is fragmented (IPv4).
        payload_bytes: usize,
    },
    /// Send an ICMP or ICMPv6 echo request until an answer comes.
    Ping {
        /// Whom to send to.
        to: IpAddr,
        /// Payload length in bytes.
        payload_bytes: usize,
    },
    /// Set up an SCTP association, and ask who answers.
    Associate {
        /// Whom to ask.
        to: SocketAddr,
    },
    /// Send bytes over a TCP connection, and expect them back unchanged.
    Transfer {
        /// Whom to connect to.
        to: SocketAddr,
        /// How many bytes each way.
        bytes: u64,
    },
}

/// How a task stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How it ended; `None` while it runs. A transfer is `Connected` when all bytes came back.
    pub outcome: Option<Outcome>,
    /// Who the server said it is.
    pub server: Option<String>,
    /// The address and port that the server saw.
    pub client: Option<SocketAddr>,
    /// Virtual time until the first answer.
    pub round_trip: Option<Duration>,
    /// Bytes that came back.
    pub echoed_bytes: u64,
    /// Position of the first byte that came back changed.
    pub first_wrong_byte: Option<u64>,
}

/// A running task.
pub(super) struct Client {
    pub(super) report: Report,
    task: Task,
    socket: SocketHandle,
    local_port: u16,
    started: Instant,
    deadline: Instant,
    resend_at: Instant,
    line: Vec<u8>,
    sent_bytes: u64,
    association: Option<Association>,
}

impl Client {
    /// Starts `task` from `local_port` (or ICMP identifier); it ends by `deadline`.
    pub(super) fn start(stack: &mut Stack, now: Instant, task: Task, local_port: u16, deadline: Instant) -> Client {
        let (socket, known) = match task {
            Task::Connect { to } | Task::Transfer { to, .. } => {
                let known = stack.speaks_family_of(to.ip());
                let mut socket = tcp_socket();
                let connected = known && socket.connect(stack.interface.context(), to, local_port).is_ok();
                (stack.sockets.add(socket), connected)
            }
            Task::Datagram { to, .. } => {
                let mut socket = udp_socket();
                socket.bind(local_port).expect("a port that is not 0");
                (stack.sockets.add(socket), stack.speaks_family_of(to.ip()))
            }
            Task::Ping { to, .. } => {
                let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 8], vec![0; 16_384]);
                let mut socket = icmp::Socket::new(buffer(), buffer());
                socket.bind(icmp::Endpoint::Ident(local_port)).expect("a fresh socket");
                (stack.sockets.add(socket), stack.speaks_family_of(to))
            }
            Task::Associate { to } => (stack.sockets.add(sctp_socket(to.is_ipv4())), stack.speaks_family_of(to.ip())),
        };
        let association = match task {
            Task::Associate { to } => Some(Association::new(local_port, to)),
            _ => None,
        };
        let outcome = (!known).then_some(Outcome::Unreachable);
        Client {
            report: Report { outcome, ..Report::default() },
            task,
            socket,
            local_port,
            started: now,
            deadline,
            resend_at: now,
            line: Vec::new(),
            sent_bytes: 0,
            association,
        }
    }

    /// When the client wants to be stepped although nothing came.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let waits = self.report.outcome.is_none();
        let resends = matches!(self.task, Task::Datagram { .. } | Task::Ping { .. } | Task::Associate { .. });
        waits.then(|| if resends { self.resend_at.min(self.deadline) } else { self.deadline })
    }

    /// Goes on; true while there is something left to do, be it only to close the connection.
    pub(super) fn step(&mut self, stack: &mut Stack, now: Instant) -> bool {
        if self.report.outcome.is_none() {
            match self.task {
                Task::Connect { .. } | Task::Transfer { .. } => self.step_tcp(stack, now),
                Task::Datagram { to, payload_bytes } => self.step_udp(stack, now, to, payload_bytes),
                Task::Ping { to, payload_bytes } => self.step_ping(stack, now, to, payload_bytes),
                Task::Associate { .. } => self.step_sctp(stack, now),
            }
            if let Some(error) = stack.take_error(self.local_port).filter(|_| self.report.outcome.is_none()) {
                let outcome = if error.is_port_unreachable { Outcome::Refused } else { Outcome::Unreachable };
                self.report.outcome = Some(outcome);
            }
            if now >= self.deadline {
                self.report.outcome.get_or_insert(Outcome::Timeout);
            }
        }
        self.report.outcome.is_none() || self.linger(stack)
    }

    /// Closes the socket; false once it is gone.
    fn linger(&mut self, stack: &mut Stack) -> bool {
        if matches!(self.task, Task::Connect { .. } | Task::Transfer { .. }) {
            let finished = self.report.outcome == Some(Outcome::Connected);
            let socket = stack.sockets.get_mut::<tcp::Socket>(self.socket);
            if finished {
                socket.close()
            } else {
                socket.abort()
            }
            let _ = socket.recv(|data| (data.len(), ()));
            if finished && !matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait) {
                return true;
            }
        }
        stack.sockets.remove(self.socket);
        false
    }

    fn step_tcp(&mut self, stack: &mut Stack, now: Instant) {
        let socket = stack.sockets.get_mut::<tcp::Socket>(self.socket);
        while socket.can_recv() {
            let Ok(data) = socket.recv(|data| (data.len(), data.to_vec())) else { break };
            let echo = match self.report.server {
                Some(_) => &data[..],
                None => {
                    let end = data.iter().position(|byte| *byte == b'\n').map_or(data.len(), |at| at + 1);
                    self.line.extend_from_slice(&data[..end]);
                    &data[end..]
                }
            };
            for byte in echo {
                if *byte != pattern(self.local_port, self.report.echoed_bytes) {
                    self.report.first_wrong_byte.get_or_insert(self.report.echoed_bytes);
                }
                self.report.echoed_bytes += 1;
            }
            if self.report.server.is_none() && self.line.ends_with(b"\n") {
                read_line(&mut self.report, &self.line, now.saturating_since(self.started));
            }
        }
        let is_closed = socket.state() == tcp::State::Closed;
        let is_done = match self.task {
            Task::Transfer { bytes, .. } => {
                self.send_pattern(stack, bytes);
                // The end of the stream is not waited for: smoltcp does not always repeat a FIN that was lost.
                self.report.server.is_some() && self.report.echoed_bytes == bytes
            }
            _ => self.report.server.is_some(),
        };
        self.report.outcome = match (is_done, is_closed) {
            (true, _) => Some(Outcome::Connected),
            (false, true) => Some(Outcome::Refused),
            (false, false) => None,
        };
    }

    fn send_pattern(&mut self, stack: &mut Stack, bytes: u64) {
        let socket = stack.sockets.get_mut::<tcp::Socket>(self.socket);
        let allowed = bytes.min(self.report.echoed_bytes + UNECHOED_MAX);
        while socket.can_send() && self.sent_bytes < allowed {
            let (from, port) = (self.sent_bytes, self.local_port);
            let fill = |room: &mut [u8]| {
                let count = (room.len() as u64).min(allowed - from) as usize;
                (from..).zip(&mut room[..count]).for_each(|(at, byte)| *byte = pattern(port, at));
                (count, count)
            };
            let Ok(count) = socket.send(fill) else { return };
            self.sent_bytes += count as u64;
        }
        if self.sent_bytes == bytes && socket.state() == tcp::State::Established {
            socket.close();
        }
    }

    fn step_udp(&mut self, stack: &mut Stack, now: Instant, to: SocketAddr, payload_bytes: usize) {
        let socket = stack.sockets.get_mut::<udp::Socket>(self.socket);
        let payload: Vec<u8> = (0..payload_bytes as u64).map(|at| pattern(self.local_port, at)).collect();
        if let Ok((datagram, _)) = socket.recv() {
            let end = datagram.iter().position(|byte| *byte == b'\n').map_or(datagram.len(), |at| at + 1);
            let (line, echo) = datagram.split_at(end);
            self.report.echoed_bytes = echo.len() as u64;
            if echo != payload {
                self.report.first_wrong_byte = Some(0);
            }
            read_line(&mut self.report, line, now.saturating_since(self.started));
            self.report.outcome = Some(Outcome::Connected);
        } else if now >= self.resend_at {
            self.resend_at = now + RESEND;
            let _ = socket.send_slice(&payload, to);
        }
    }

    fn step_sctp(&mut self, stack: &mut Stack, now: Instant) {
        let association = self.association.as_mut().expect("its task is one");
        match association.listen(stack, self.socket) {
            Heard::Line(line) => {
                read_line(&mut self.report, &line, now.saturating_since(self.started));
                self.report.outcome = Some(Outcome::Connected);
            }
            Heard::Refused => self.report.outcome = Some(Outcome::Refused),
            Heard::Nothing if now >= self.resend_at => {
                self.resend_at = now + RESEND;
                association.speak(stack, self.socket);
            }
            Heard::Nothing => {}
        }
    }

    fn step_ping(&mut self, stack: &mut Stack, now: Instant, to: IpAddr, payload_bytes: usize) {
        let ident = self.local_port;
        let data: Vec<u8> = (0..payload_bytes as u64).map(|at| pattern(ident, at)).collect();
        let checksums = ChecksumCapabilities::default();
        let source = match to {
            IpAddr::V6(to) => Some(stack.interface.get_source_address_ipv6(&to)),
            IpAddr::V4(_) => None,
        };
        let socket = stack.sockets.get_mut::<icmp::Socket>(self.socket);
        if let Ok((answer, from)) = socket.recv() {
            let echo = match from {
                IpAddress::Ipv4(_) => answer.get(8..).filter(|_| answer[0] == 0),
                IpAddress::Ipv6(_) => answer.get(8..).filter(|_| answer[0] == 129),
            };
            if let Some(echo) = echo {
                self.report.round_trip = Some(now.saturating_since(self.started));
                self.report.first_wrong_byte = (echo != data).then_some(0);
                self.report.echoed_bytes = echo.len() as u64;
                self.report.outcome = Some(Outcome::Connected);
            }
        } else if now >= self.resend_at {
            self.resend_at = now + RESEND;
            match (to, source) {
                (IpAddr::V4(to), _) => {
                    let request = Icmpv4Repr::EchoRequest { ident, seq_no: 1, data: &data };
                    if let Ok(buffer) = socket.send(request.buffer_len(), to.into()) {
                        request.emit(&mut Icmpv4Packet::new_unchecked(buffer), &checksums);
                    }
                }
                (IpAddr::V6(to), Some(source)) => {
                    let request = Icmpv6Repr::EchoRequest { ident, seq_no: 1, data: &data };
                    if let Ok(buffer) = socket.send(request.buffer_len(), to.into()) {
                        request.emit(&source, &to, &mut Icmpv6Packet::new_unchecked(buffer), &checksums);
                    }
                }
                (IpAddr::V6(_), None) => {}
            }
        }
    }
}

/// The byte at position `at` of the stream that the client with this port sends.
fn pattern(local_port: u16, at: u64) -> u8 {
    ((at ^ u64::from(local_port) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// Takes over what the server says: `NAMESPACE/NAME ADDRESS:PORT`.
fn read_line(report: &mut Report, line: &[u8], round_trip: Duration) {
    let text = String::from_utf8_lossy(line);
    let mut words = text.split_whitespace();
    report.server = words.next().map(str::to_owned);
    report.client = words.next().and_then(|word| word.parse().ok());
    report.round_trip = Some(round_trip);
}
