//! Asks the kernel about interfaces, addresses and routes, and changes them: one socket, one request at a time.
//!
//! A [`Netlink`] belongs to the network namespace in which it was opened, whichever thread uses it afterwards. It speaks
//! rtnetlink(7); what the requests mean for a pod or a node is in [`crate::link`].

mod next_hops;
mod rules;

pub(crate) use next_hops::{Event, Events, Hop};
pub(crate) use rules::SilentPorts;

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use std::io;
use std::net::IpAddr;
use wire::MacAddr;

/// Number in the `protocol` field of our routes (`linux/rtnetlink.h`: values above RTPROT_STATIC belong to routing daemons),
/// so that reconciling touches no route of anybody else. Chosen among the values that iproute2 does not name.
const ROUTE_PROTOCOL: RouteProtocol = RouteProtocol::Other(112);

/// A netlink answer is at most a page by default, 32 KiB in dumps (`NLMSG_GOODSIZE`, `netlink_dump`).
const RECEIVE_BYTES: usize = 32 * 1024;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its number.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: String,
    /// Its MTU in bytes.
    pub(crate) mtu: u32,
    /// Its MAC; zeroes if it has none.
    pub(crate) mac: MacAddr,
}

/// A route towards an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Interface that the packets leave through.
    pub(crate) link: u32,
    /// What it leads to.
    pub(crate) destination: IpNet,
    /// Next hop; `None` for on-link destinations.
    pub(crate) gateway: Option<IpAddr>,
    /// Source address that the kernel prefers for packets of its own.
    pub(crate) source: Option<IpAddr>,
    /// MTU of the route in bytes.
    pub(crate) mtu: Option<u16>,
}

/// A connection to rtnetlink of one network namespace.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a connection to the network namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Netlink> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// The interface called `name`.
    pub(crate) fn find_link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.get_link(message)
    }

    /// The interface number `index`.
    pub(crate) fn find_link_by_index(&mut self, index: u32) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.get_link(message)
    }

    fn get_link(&mut self, message: LinkMessage) -> io::Result<Option<Link>> {
        match self.request(RouteNetlinkMessage::GetLink(message), 0) {
            Ok(answers) => Ok(answers.into_iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(link) => Some(read_link(&link)),
                _ => None,
            })),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets MAC and MTU of an interface.
    pub(crate) fn set_link(&mut self, index: u32, mac: MacAddr, mtu: u16) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::Address(mac.0.to_vec()));
        message.attributes.push(LinkAttribute::Mtu(u32::from(mtu)));
        self.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Sets an interface up.
    pub(crate) fn set_up(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// The interfaces' addresses: interface number and address.
    pub(crate) fn addresses(&mut self) -> io::Result<Vec<(u32, IpAddr)>> {
        let answers = self.request(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)?;
        Ok(answers.into_iter().filter_map(read_address).collect())
    }

    /// Gives an interface a host address (/32 or /128), usable at once: without duplicate address detection.
    pub(crate) fn add_address(&mut self, index: u32, address: IpAddr) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = host_prefix(address);
        message.header.flags = AddressHeaderFlags::Nodad;
        message.header.scope = AddressScope::Universe;
        message.header.index = index;
        message.attributes.push(AddressAttribute::Address(address));
        message.attributes.push(AddressAttribute::Local(address));
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        self.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Takes a host address (/32 or /128) from an interface.
    pub(crate) fn remove_address(&mut self, index: u32, address: IpAddr) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = host_prefix(address);
        message.header.index = index;
        message.attributes.push(AddressAttribute::Address(address));
        message.attributes.push(AddressAttribute::Local(address));
        self.change(RouteNetlinkMessage::DelAddress(message), 0)
    }

    /// Our own routes of the main table that leave through interface `index`.
    pub(crate) fn routes(&mut self, index: u32) -> io::Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let answers = self.request(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
            routes.extend(answers.into_iter().filter_map(read_route).filter(|route| route.link == index));
        }
        Ok(routes)
    }

    /// Adds a route, or replaces the one to the same destination.
    pub(crate) fn add_route(&mut self, route: &Route) -> io::Result<()> {
        self.change(RouteNetlinkMessage::NewRoute(write_route(route)), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Removes a route; a route that is gone already counts as removed.
    pub(crate) fn remove_route(&mut self, route: &Route) -> io::Result<()> {
        match self.change(RouteNetlinkMessage::DelRoute(write_route(route)), 0) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }

    fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.request(message, NLM_F_ACK | flags).map(|_| ())
    }

    /// Sends one request and collects its answers up to the acknowledgment, the end of the dump, or the only answer.
    fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut packet = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
        packet.header.flags = NLM_F_REQUEST | flags;
        packet.header.sequence_number = self.sequence;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let single = flags & (NLM_F_ACK | NLM_F_DUMP) == 0;
        let mut answers = Vec::new();
        let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
        loop {
            buffer.clear();
            self.socket.recv(&mut buffer, 0)?;
            let mut end = None;
            for_each_message(&buffer, |answer| {
                if answer.header.sequence_number != self.sequence || end.is_some() {
                    return;
                }
                match answer.payload {
                    NetlinkPayload::Error(error) if error.code.is_none() => end = Some(Ok(())),
                    NetlinkPayload::Error(error) => end = Some(Err(error.to_io())),
                    NetlinkPayload::Done(_) => end = Some(Ok(())),
                    NetlinkPayload::InnerMessage(message) => answers.push(message),
                    _ => {}
                }
            })?;
            if let Some(end) = end {
                return end.map(|()| answers);
            }
            if single && !answers.is_empty() {
                return Ok(answers);
            }
        }
    }
}

/// Takes the messages of one receive apart.
fn for_each_message(mut rest: &[u8], mut each: impl FnMut(NetlinkMessage<RouteNetlinkMessage>)) -> io::Result<()> {
    while !rest.is_empty() {
        let message: NetlinkMessage<RouteNetlinkMessage> =
            NetlinkMessage::deserialize(rest).map_err(|error| io::Error::other(error.to_string()))?;
        let len = (message.header.length as usize).next_multiple_of(4);
        rest = rest.get(len..).unwrap_or(&[]);
        each(message);
    }
    Ok(())
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn read_link(message: &LinkMessage) -> Link {
    let mut link = Link { index: message.header.index, name: String::new(), mtu: 0, mac: MacAddr::default() };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().map(MacAddr).unwrap_or_default(),
            _ => {}
        }
    }
    link
}

fn read_address(message: RouteNetlinkMessage) -> Option<(u32, IpAddr)> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    // On point-to-point links IFA_ADDRESS is the other end and IFA_LOCAL our own; IPv6 has IFA_ADDRESS only.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    Some((message.header.index, local.or(address)?))
}

fn read_route(message: RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = message else { return None };
    if message.header.protocol != ROUTE_PROTOCOL || message.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let any = match message.header.address_family {
        AddressFamily::Inet => IpAddr::from([0u8; 4]),
        _ => IpAddr::from([0u8; 16]),
    };
    let (mut address, mut link, mut gateway, mut source, mut mtu) = (any, 0, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => address = read_ip(to)?,
            RouteAttribute::Gateway(via) => gateway = read_ip(via),
            RouteAttribute::PrefSource(from) => source = read_ip(from),
            RouteAttribute::Oif(index) => link = *index,
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => u16::try_from(*mtu).ok(),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let destination = IpNet::new(address, message.header.destination_prefix_length).ok()?;
    Some(Route { link, destination, gateway, source, mtu })
}

fn read_ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

fn write_route(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let destination = route.destination.trunc();
    message.header.address_family = family(destination.addr());
    message.header.destination_prefix_length = destination.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = ROUTE_PROTOCOL;
    message.header.scope = if route.gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Destination(destination.addr().into()));
    message.attributes.push(RouteAttribute::Oif(route.link));
    if let Some(gateway) = route.gateway {
        // The next hop is a neighbor on the link, whatever the addresses there say.
        message.header.flags = RouteFlags::Onlink;
        message.attributes.push(RouteAttribute::Gateway(gateway.into()));
    }
    if let Some(source) = route.source {
        message.attributes.push(RouteAttribute::PrefSource(source.into()));
    }
    if let Some(mtu) = route.mtu {
        message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(u32::from(mtu))]));
    }
    message
}
