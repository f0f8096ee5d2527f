//! The sockets of a port: one for each worker, all bound to the same address, so that the kernel spreads connections over them.

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// Connections that wait to be accepted, for one socket. The kernel cuts it to net.core.somaxconn (4096 by default).
const BACKLOG: i32 = 4096;

/// When a client that says nothing is asked whether it is there, and how often before it is given up: after two minutes. NATs
/// and stateful firewalls on the way forget a silent connection after five minutes or more.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);

/// Binds `count` sockets to `address`. Port 0 gets one that is free, the same for all.
pub(super) fn bind(address: SocketAddr, count: usize) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    // Sockets that share a port do so with whatever else of this user shares it, such as a proxy that was forgotten. One that
    // does not share is refused then.
    let alone = socket(address, false)?;
    let address = local_address(&alone)?;
    drop(alone);
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = socket(address, true)?;
        socket.listen(BACKLOG)?;
        listeners.push(socket.into());
    }
    Ok((address, listeners))
}

fn socket(address: SocketAddr, is_shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // [::] is every address, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    // Connections inherit both (Linux), which saves two system calls for each.
    socket.set_tcp_nodelay(true)?;
    let (idle, interval, retries) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(retries);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("not an internet address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn all_sockets_have_one_port() {
        let (address, listeners) = bind(loopback(0), 3).expect("a free port");
        assert_ne!(address.port(), 0);
        let addresses = listeners.iter().map(|listener| listener.local_addr().expect("bound"));
        assert_eq!(addresses.collect::<Vec<_>>(), vec![address; 3]);
    }

    #[test]
    fn a_port_that_others_share_is_not_free() {
        let (address, _listeners) = bind(loopback(0), 2).expect("a free port");
        let error = bind(address, 2).expect_err("it is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
