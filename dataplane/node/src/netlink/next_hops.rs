//! How the kernel would send to an address: through which interface, over which neighbor, at which MAC.

use super::{Netlink, family, host_prefix, read_ip};
use netlink_packet_core::{NLM_F_DUMP, NetlinkPayload};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType, RouteVia};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use wire::MacAddr;

/// `linux/rtnetlink.h`: the groups whose messages say that a next hop may have changed.
const GROUPS: [u32; 6] = [
    1,  // RTNLGRP_LINK
    3,  // RTNLGRP_NEIGH
    5,  // RTNLGRP_IPV4_IFADDR
    7,  // RTNLGRP_IPV4_ROUTE
    9,  // RTNLGRP_IPV6_IFADDR
    11, // RTNLGRP_IPV6_ROUTE
];

/// Where the kernel would send packets: the interface, and the neighbor on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Hop {
    /// Number of the interface.
    pub(crate) link: u32,
    /// The gateway, or the destination itself if it is on the link.
    pub(crate) via: IpAddr,
}

/// Something that the kernel told unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A neighbor's MAC; `None` if it is not known any more.
    Neighbor(Hop, Option<MacAddr>),
    /// Interfaces, addresses or routes have changed, or messages were lost: anything may be different.
    Anything,
}

impl Netlink {
    /// The next hop towards `destination`; `None` if the kernel would not send there through an interface.
    pub(crate) fn next_hop(&mut self, destination: IpAddr) -> io::Result<Option<Hop>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.destination_prefix_length = host_prefix(destination);
        message.attributes.push(RouteAttribute::Destination(destination.into()));
        let answers = match self.request(RouteNetlinkMessage::GetRoute(message), 0) {
            Ok(answers) => answers,
            Err(error) if is_no_way(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) if route.header.kind == RouteType::Unicast => {
                read_hop(&route, destination)
            }
            _ => None,
        }))
    }

    /// The MAC of a neighbor, if the kernel knows it.
    pub(crate) fn neighbor(&mut self, hop: Hop) -> io::Result<Option<MacAddr>> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(hop.via);
        message.header.ifindex = hop.link;
        message.attributes.push(NeighbourAttribute::Destination(hop.via.into()));
        let answers = match self.request(RouteNetlinkMessage::GetNeighbour(message.clone()), 0) {
            Ok(answers) => answers,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            // Linux before 5.0 lists all or nothing.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                self.request(RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP)?
            }
            Err(error) => return Err(error),
        };
        Ok(answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewNeighbour(neighbor) => match read_neighbor(&neighbor) {
                Some((known, mac)) if known == hop => mac,
                _ => None,
            },
            _ => None,
        }))
    }
}

/// A socket on which the kernel tells changes; of the network namespace in which it was opened.
pub(crate) struct Events {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Events {
    /// Starts to listen.
    pub(crate) fn open() -> io::Result<Events> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        GROUPS.iter().try_for_each(|group| socket.add_membership(*group))?;
        Ok(Events { socket, buffer: Vec::with_capacity(super::RECEIVE_BYTES) })
    }

    /// The descriptor to poll.
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Appends what waits to `events`.
    pub(crate) fn receive(&mut self, events: &mut Vec<Event>) {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => super::for_each_message(&self.buffer, |message| {
                    if let NetlinkPayload::InnerMessage(message) = message.payload {
                        events.extend(read_event(&message));
                    }
                })
                .unwrap_or_else(|_| events.push(Event::Anything)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // ENOBUFS: messages were lost. The next receive goes on behind them.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => events.push(Event::Anything),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

fn read_event(message: &RouteNetlinkMessage) -> Option<Event> {
    match message {
        RouteNetlinkMessage::NewNeighbour(neighbor) => {
            read_neighbor(neighbor).map(|(hop, mac)| Event::Neighbor(hop, mac))
        }
        RouteNetlinkMessage::DelNeighbour(neighbor) => {
            read_neighbor(neighbor).map(|(hop, _)| Event::Neighbor(hop, None))
        }
        _ => Some(Event::Anything),
    }
}

/// Whether the error says that there is no route, or one that leads nowhere.
fn is_no_way(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL | libc::ESRCH)
    )
}

fn read_hop(route: &RouteMessage, destination: IpAddr) -> Option<Hop> {
    let (mut link, mut via) = (None, destination);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Gateway(gateway) => via = read_ip(gateway)?,
            RouteAttribute::Via(RouteVia::Inet6(gateway)) => via = (*gateway).into(),
            RouteAttribute::Via(RouteVia::Inet(gateway)) => via = (*gateway).into(),
            _ => {}
        }
    }
    Some(Hop { link: link?, via })
}

/// A neighbor, and its MAC if it may be used (`NUD_VALID` in the kernel).
fn read_neighbor(message: &NeighbourMessage) -> Option<(Hop, Option<MacAddr>)> {
    if !matches!(message.header.family, AddressFamily::Inet | AddressFamily::Inet6) {
        return None;
    }
    let usable = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    );
    let (mut via, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => via = Some(IpAddr::from(*address)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => via = Some(IpAddr::from(*address)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(MacAddr),
            _ => {}
        }
    }
    Some((Hop { link: message.header.ifindex, via: via? }, mac.filter(|_| usable)))
}
