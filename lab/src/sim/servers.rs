//! The test servers of the simulated pods: TCP greets with one line (who it is and whom it saw) and then echoes until the client
//! ends its stream; UDP answers a datagram with the line and the datagram itself.

use super::stack::Stack;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::{Socket, tcp, udp};
use smoltcp::time::Duration;
use smoltcp::wire::IpEndpoint;
use std::net::SocketAddr;

/// Connections that may open at one port between two turns of its stack; more are refused.
const BACKLOG: usize = 8;
/// Connections that one port serves at once; more are refused.
const CONNECTIONS_MAX: usize = 64;
/// Socket buffers: enough for a window that spans a few super-frames.
pub(super) const BUFFER_BYTES: usize = 64 * 1_024;
/// A connection whose other side went away is given up after this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// One listening TCP port. A smoltcp socket that listens becomes the connection, so there
/// are several.
pub(super) struct TcpServer {
    port: u16,
    identity: String,
    sockets: Vec<(SocketHandle, bool)>,
}

/// One UDP port.
pub(super) struct UdpServer {
    identity: String,
    socket: SocketHandle,
}

pub(super) fn tcp_socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER_BYTES]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_timeout(Some(IDLE_TIMEOUT));
    socket
}

pub(super) fn udp_socket() -> udp::Socket<'static> {
    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 32], vec![0; BUFFER_BYTES]);
    udp::Socket::new(buffer(), buffer())
}

impl TcpServer {
    pub(super) fn new(stack: &mut Stack, port: u16, identity: &str) -> TcpServer {
        let mut server = TcpServer { port, identity: identity.to_owned(), sockets: Vec::new() };
        server.listen(stack, BACKLOG);
        server
    }

    /// Adds listening sockets behind the connections. smoltcp gives a segment to the first socket that takes it, in the order of
    /// their handles, and a listening one takes every SYN: a repeated SYN must reach its connection first.
    fn listen(&mut self, stack: &mut Stack, count: usize) {
        let take = |(handle, greeted)| match stack.sockets.remove(handle) {
            Socket::Tcp(socket) => (socket, greeted),
            other => unreachable!("a TCP server has TCP sockets, not {other:?}"),
        };
        let mut sockets: Vec<(tcp::Socket<'static>, bool)> = self.sockets.drain(..).map(take).collect();
        sockets.sort_by_key(|(socket, _)| socket.is_listening());
        for _ in 0..count {
            let mut socket = tcp_socket();
            socket.listen(self.port).expect("a port that is not 0");
            sockets.push((socket, false));
        }
        // Free places are taken from the front, so this keeps the order.
        self.sockets.extend(sockets.into_iter().map(|(socket, greeted)| (stack.sockets.add(socket), greeted)));
        debug_assert!(self.sockets.is_sorted_by_key(|(handle, _)| *handle));
    }

    /// Serves what came in.
    pub(super) fn step(&mut self, stack: &mut Stack) {
        let identity = &self.identity;
        self.sockets.retain_mut(|(handle, greeted)| {
            let socket = stack.sockets.get_mut::<tcp::Socket>(*handle);
            serve(socket, identity, greeted);
            let open = socket.is_open() && socket.state() != tcp::State::TimeWait;
            if !open {
                stack.sockets.remove(*handle);
            }
            open
        });
        let is_listening =
            |(handle, _): &&(SocketHandle, bool)| stack.sockets.get::<tcp::Socket>(*handle).is_listening();
        let listening = self.sockets.iter().filter(is_listening).count();
        let wanted = (listening..BACKLOG).len().min(CONNECTIONS_MAX.saturating_sub(self.sockets.len()));
        if wanted > 0 {
            self.listen(stack, wanted);
        }
    }
}

/// smoltcp writes IPv6 addresses without the brackets that everybody else reads.
fn socket_addr(endpoint: IpEndpoint) -> SocketAddr {
    SocketAddr::new(endpoint.addr.into(), endpoint.port)
}

fn serve(socket: &mut tcp::Socket, identity: &str, greeted: &mut bool) {
    if !*greeted
        && socket.may_send()
        && let Some(client) = socket.remote_endpoint()
    {
        let line = format!("{identity} {}\n", socket_addr(client));
        *greeted = socket.send_slice(line.as_bytes()).is_ok_and(|sent| sent == line.len());
    }
    while socket.can_recv() && socket.can_send() {
        let room = socket.send_capacity() - socket.send_queue();
        let take = |data: &mut [u8]| {
            let count = data.len().min(room);
            (count, data[..count].to_vec())
        };
        let Ok(data) = socket.recv(take) else { break };
        let sent = socket.send_slice(&data);
        debug_assert_eq!(sent, Ok(data.len()), "there was room");
    }
    if socket.state() == tcp::State::CloseWait && socket.recv_queue() == 0 {
        socket.close();
    }
}

impl UdpServer {
    pub(super) fn new(stack: &mut Stack, port: u16, identity: &str) -> UdpServer {
        let mut socket = udp_socket();
        socket.bind(port).expect("a port that is not 0");
        UdpServer { identity: identity.to_owned(), socket: stack.sockets.add(socket) }
    }

    /// Answers what came in.
    pub(super) fn step(&mut self, stack: &mut Stack) {
        let socket = stack.sockets.get_mut::<udp::Socket>(self.socket);
        while socket.can_send() {
            let Ok((datagram, client)) = socket.recv() else { break };
            let mut answer = format!("{} {}\n", self.identity, socket_addr(client.endpoint)).into_bytes();
            answer.extend_from_slice(datagram);
            // A full queue loses the answer, as a full socket buffer would.
            let _ = socket.send_slice(&answer, client);
        }
    }
}
