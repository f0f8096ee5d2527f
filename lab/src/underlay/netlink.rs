//! The few rtnetlink requests that the lab's own network needs: one request, one answer, in the network namespace in which
//! the socket was opened.

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

/// Kernel answers to one request fit easily: an acknowledgement repeats the request at most.
const ANSWER_LEN_MAX: usize = 8192;

/// A netlink socket.
pub struct Netlink {
    socket: Socket,
}

impl Netlink {
    /// Opens a socket in the network namespace of this thread.
    pub fn open() -> io::Result<Netlink> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Netlink { socket })
    }

    /// Creates a bridge.
    pub fn add_bridge(&mut self, name: &str) -> io::Result<()> {
        let mut link = named(name);
        link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        self.create(RouteNetlinkMessage::NewLink(link))
    }

    /// Creates a pair of connected interfaces: `name` here, `peer` in `namespace`, both with this MTU.
    pub fn add_veth(&mut self, name: &str, peer: &str, namespace: &File, mtu: u32) -> io::Result<()> {
        let mut other = named(peer);
        other.attributes.push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
        other.attributes.push(LinkAttribute::Mtu(mtu));
        let mut link = named(name);
        link.attributes.push(LinkAttribute::Mtu(mtu));
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
        ]));
        self.create(RouteNetlinkMessage::NewLink(link))
    }

    /// Makes `name` a port of the bridge `bridge`.
    pub fn set_master(&mut self, name: &str, bridge: &str) -> io::Result<()> {
        let mut link = indexed(index(name)?);
        link.attributes.push(LinkAttribute::Controller(index(bridge)?));
        self.request(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Sets the MTU of `name` in bytes.
    pub fn set_mtu(&mut self, name: &str, mtu: u32) -> io::Result<()> {
        let mut link = indexed(index(name)?);
        link.attributes.push(LinkAttribute::Mtu(mtu));
        self.request(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Sets `name` up.
    pub fn set_up(&mut self, name: &str) -> io::Result<()> {
        let mut link = indexed(index(name)?);
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Removes `name`.
    pub fn remove(&mut self, name: &str) -> io::Result<()> {
        self.request(RouteNetlinkMessage::DelLink(indexed(index(name)?)), 0)
    }

    /// Adds an address to `name`, usable at once (no duplicate address detection). Adding it twice is not an error.
    pub fn add_address(&mut self, name: &str, address: IpNet) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address.addr());
        message.header.prefix_len = address.prefix_len();
        message.header.index = index(name)?;
        message.attributes.push(AddressAttribute::Address(address.addr()));
        message.attributes.push(AddressAttribute::Local(address.addr()));
        if address.addr().is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        self.request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Makes every destination of the family of `like` a neighbor on `name`.
    pub fn set_default_route(&mut self, name: &str, like: IpAddr) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(like);
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = if like.is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
        message.header.kind = RouteType::Unicast;
        message.attributes.push(RouteAttribute::Oif(index(name)?));
        self.request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    fn create(&mut self, message: RouteNetlinkMessage) -> io::Result<()> {
        self.request(message, NLM_F_CREATE | NLM_F_EXCL)
    }

    fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut packet = NetlinkMessage::from(message);
        packet.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answer = Vec::with_capacity(ANSWER_LEN_MAX);
        self.socket.recv(&mut answer, 0)?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
        match answer.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
            _ => Ok(()),
        }
    }
}

/// The number of the interface `name` in the network namespace of this thread.
pub fn index(name: &str) -> io::Result<u32> {
    nix::net::if_::if_nametoindex(name).map_err(|e| io::Error::other(format!("{name}: {e}")))
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}

fn indexed(index: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link
}
