//! The sockets of an address, and why they cannot be had.

use super::udp;
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

/// Bytes of datagrams that the kernel keeps while threads are busy: some ten thousand queries. The kernel may give less.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 256;

/// How often a port that the kernel chose for UDP is given up because it is taken over TCP.
const TRIES: usize = 16;

/// Why an address cannot be listened at.
#[derive(Debug)]
pub struct ListenError {
    address: SocketAddr,
    protocol: &'static str,
    error: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ListenError { address, protocol, error } = self;
        let port = address.port();
        write!(f, "{address} ({protocol}): ")?;
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "in use by another process (`ss -lnp 'sport = :{port}'` says which): end it, or take another port"
                )
            }
            io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "{error}: ports below 1024 are for root and processes with CAP_NET_BIND_SERVICE; take a higher one"
                )
            }
            io::ErrorKind::AddrNotAvailable => write!(f, "no interface of this machine has that address"),
            _ => error.fmt(f),
        }
    }
}

impl std::error::Error for ListenError {}

/// The sockets of one address.
#[derive(Debug)]
pub struct Listener {
    pub(super) udp: udp::Socket,
    pub(super) tcp: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Takes `address` over UDP and TCP; port 0 is any port that is free for both.
    pub fn bind(address: SocketAddr) -> Result<Listener, ListenError> {
        let mut tries = if address.port() == 0 { TRIES } else { 1 };
        loop {
            tries -= 1;
            let udp = bind_udp(address).map_err(|error| ListenError { address, protocol: "UDP", error })?;
            let bound = udp.local_addr().map_err(|error| ListenError { address, protocol: "UDP", error })?;
            match bind_tcp(bound) {
                Ok(tcp) => {
                    let udp = udp::Socket::new(udp).map_err(|error| ListenError { address, protocol: "UDP", error })?;
                    return Ok(Listener { udp, tcp, address: bound });
                }
                Err(error) if tries == 0 => return Err(ListenError { address: bound, protocol: "TCP", error }),
                Err(_) => {}
            }
        }
    }

    /// The address with the port that it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
    // Less is served with less patience.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address, Type::STREAM, Protocol::TCP)?;
    // Connections that a process before this one closed do not keep the port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // 0.0.0.0 and [::] are two addresses.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}
