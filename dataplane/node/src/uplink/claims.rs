//! Ports of this node that Services are reached at from outside, kept from the kernel (DESIGN section 3).
//!
//! A TCP listener or UDP socket is bound to each, so that the kernel neither resets nor answers "unreachable", and nobody else
//! gets the port. Its filter drops what comes from outside, which the raw socket of the uplink has a copy of; what a process of
//! this machine sends to the port passes, and is relayed ([`super::relay`]). SCTP has no sockets here, as they would load a
//! kernel module: one raw socket per family keeps the kernel from saying that it does not know the protocol.
//!
//! A nodePort is claimed at the unspecified address, so that 127.0.0.1 and ::1 are served, too, and so is a pod's hostPort; an
//! address of the node that is a Service's own, as an externalIP, or that a hostIP names, at that address only.

use super::bpf;
use policy::tables::NodeFrontend;
use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use wire::Protocol;

/// Connections of node processes that may wait to be accepted.
const BACKLOG: i32 = 128;

/// What is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Claim {
    /// Unspecified for all addresses of the machine in its family. Sorts before any other address.
    pub(crate) address: IpAddr,
    /// TCP, UDP or SCTP.
    pub(crate) protocol: Protocol,
    /// The port.
    pub(crate) port: u16,
}

/// What holds a claim.
#[derive(Debug)]
pub(crate) enum Held {
    /// A TCP listener.
    Tcp(Socket),
    /// A UDP socket that says where datagrams arrived.
    Udp(Socket),
    /// Nothing: the raw sockets hold all SCTP ports.
    Sctp,
}

/// What `frontends` need, each with those that need it, of which there is at least one. Pure.
pub(crate) fn plan(frontends: &[NodeFrontend]) -> BTreeMap<Claim, Vec<NodeFrontend>> {
    let mut claims: BTreeMap<Claim, Vec<NodeFrontend>> = BTreeMap::new();
    for frontend in frontends {
        let address = match (frontend.everywhere, frontend.addr) {
            (true, IpAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
            (true, IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
            (_, address) => address,
        };
        let claim = Claim { address, protocol: frontend.protocol, port: frontend.port };
        claims.entry(claim).or_default().push(*frontend);
    }
    // A port that is claimed at all addresses needs no claim at one.
    let at_one: Vec<Claim> = claims.keys().filter(|claim| !claim.address.is_unspecified()).copied().collect();
    for claim in at_one {
        let any = if claim.address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let everywhere = Claim { address: any, ..claim };
        if claims.contains_key(&everywhere) {
            let covered = claims.remove(&claim).unwrap_or_default();
            claims.entry(everywhere).or_default().extend(covered);
        }
    }
    claims
}

impl Claim {
    /// Claims it.
    ///
    /// Errors: `EADDRINUSE` if another process has the port.
    pub(crate) fn hold(&self) -> io::Result<Held> {
        match self.protocol {
            Protocol::TCP => {
                let socket = new_socket(self.address.is_ipv4(), Type::STREAM)?;
                // Connections that a process before us relayed may still be winding up.
                socket.set_reuse_address(true)?;
                socket.bind(&self.at())?;
                socket.listen(BACKLOG)?;
                Ok(Held::Tcp(socket))
            }
            Protocol::UDP => {
                let socket = new_socket(self.address.is_ipv4(), Type::DGRAM)?;
                crate::sys::udp::tell_destination(&socket, self.address.is_ipv4())?;
                socket.bind(&self.at())?;
                Ok(Held::Udp(socket))
            }
            _ => Ok(Held::Sctp),
        }
    }

    fn at(&self) -> SockAddr {
        SocketAddr::new(self.address, self.port).into()
    }
}

/// A socket that takes only what this machine itself sends.
fn new_socket(ipv4: bool, kind: Type) -> io::Result<Socket> {
    let family = if ipv4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(family, kind.nonblocking(), None)?;
    if !ipv4 {
        socket.set_only_v6(true)?;
    }
    bpf::attach(&socket, &bpf::take_loopback())?;
    Ok(socket)
}

/// The raw sockets that keep the kernel from answering SCTP with "protocol unreachable": as many as there are families.
pub(crate) fn hold_sctp() -> Vec<Socket> {
    let hold = |family| -> io::Result<Socket> {
        let protocol = socket2::Protocol::from(libc::IPPROTO_SCTP);
        let socket = Socket::new_raw(family, Type::RAW.nonblocking(), Some(protocol))?;
        bpf::attach(&socket, &bpf::take_nothing())?;
        Ok(socket)
    };
    [Domain::IPV4, Domain::IPV6].into_iter().filter_map(|family| hold(family).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::tables::{FrontendKind, ServicePortIndex};

    fn frontend(addr: &str, port: u16, kind: FrontendKind) -> NodeFrontend {
        let addr = addr.parse().unwrap();
        let everywhere = kind == FrontendKind::NodePort;
        NodeFrontend { addr, protocol: Protocol::TCP, port, kind, service: ServicePortIndex(0), everywhere }
    }

    #[test]
    fn a_node_port_is_claimed_once_per_family_and_covers_an_external_ip() {
        let frontends = [
            frontend("172.30.0.11", 30_080, FrontendKind::NodePort),
            frontend("172.30.0.12", 30_080, FrontendKind::NodePort),
            frontend("fd00:172:30::11", 30_080, FrontendKind::NodePort),
            frontend("172.30.0.11", 80, FrontendKind::ExternalIp),
            frontend("172.30.0.13", 30_080, FrontendKind::ExternalIp),
        ];
        let claims: Vec<_> =
            plan(&frontends).into_keys().map(|claim| (claim.address.to_string(), claim.port)).collect();
        let expected = [("0.0.0.0", 30_080), ("172.30.0.11", 80), ("::", 30_080)];
        assert_eq!(claims, expected.map(|(address, port)| (address.to_owned(), port)));
    }
}
