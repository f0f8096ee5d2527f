//! Removes an interface that podplane made from a sandbox's network namespace.

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io;
use std::path::Path;

/// Room for the description of one interface.
const ANSWER_BYTES: usize = 32 * 1024;

/// Removes interface `ifname` in the namespace at `netns`, if both are there and it is of the kind that podplane makes (TAP): what another
/// plugin made is that plugin's. Moves the calling process into the namespace.
pub(crate) fn remove(netns: &Path, ifname: &str) -> io::Result<()> {
    let namespace = match File::open(netns) {
        Ok(namespace) => namespace,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    setns(&namespace, CloneFlags::CLONE_NEWNET)?;
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(ifname.to_owned()));
    let found = match ask(&socket, RouteNetlinkMessage::GetLink(message), 0) {
        Ok(Some(RouteNetlinkMessage::NewLink(link))) => link,
        Ok(_) => return Ok(()),
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32) => return Ok(()),
        Err(error) => return Err(error),
    };
    let is_tap = found.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Tun))),
        _ => false,
    });
    if !is_tap {
        return Ok(());
    }
    let mut message = LinkMessage::default();
    message.header.index = found.header.index;
    ask(&socket, RouteNetlinkMessage::DelLink(message), NLM_F_ACK).map(drop)
}

/// Sends one request and gives its answer, or `None` for an acknowledgment.
fn ask(socket: &Socket, message: RouteNetlinkMessage, flags: u16) -> io::Result<Option<RouteNetlinkMessage>> {
    let mut packet = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
    packet.header.flags = NLM_F_REQUEST | flags;
    packet.header.sequence_number = 1;
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut buffer = Vec::with_capacity(ANSWER_BYTES);
    socket.recv(&mut buffer, 0)?;
    let answer: NetlinkMessage<RouteNetlinkMessage> =
        NetlinkMessage::deserialize(&buffer).map_err(|error| io::Error::other(error.to_string()))?;
    match answer.payload {
        NetlinkPayload::Error(error) if error.code.is_none() => Ok(None),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        NetlinkPayload::InnerMessage(message) => Ok(Some(message)),
        _ => Ok(None),
    }
}
