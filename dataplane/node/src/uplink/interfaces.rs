//! The interfaces that own this node's addresses, each with a raw socket, its filter and its multicast memberships.

use super::bpf;
use super::filter::{self, FilterSpec};
use super::link::{INTERFACES_MAX, Interface};
use super::status::UplinkInterface;
use crate::netlink::Netlink;
use crate::sys::{packet, udp};
use socket2::Socket;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use wire::MacAddr;

/// Room for frames that arrive while the shard is busy: some milliseconds of a fast link.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// Room for frames that the interface has not sent.
const SEND_BUFFER_BYTES: usize = 4 << 20;

/// An interface as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) index: u32,
    pub(crate) info: UplinkInterface,
}

/// What the kernel says about this node's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// The interfaces that lead to the node's addresses, by number.
    pub(crate) interfaces: Vec<Described>,
    /// Other addresses of the machine.
    pub(crate) others: BTreeSet<IpAddr>,
}

/// Some address outside (RFC 5737, RFC 3849): the interface towards it is where the world is.
const OUTSIDE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Looks up where the addresses `own` are. For an address on an interface without Ethernet, such as `lo`, that is the
/// interface that leads outside, if there is one: some networks route to such addresses.
pub(crate) fn survey(netlink: &mut Netlink, own: &[IpAddr]) -> io::Result<Survey> {
    let mut survey = Survey::default();
    for (index, address) in netlink.addresses()? {
        if !own.contains(&address) {
            survey.others.insert(address);
            continue;
        }
        let mut link = netlink.find_link_by_index(index)?.filter(|link| link.mac != MacAddr::default());
        if link.is_none()
            && let Some(hop) = netlink.next_hop(OUTSIDE[usize::from(address.is_ipv6())])?
        {
            link = netlink.find_link_by_index(hop.link)?.filter(|link| link.mac != MacAddr::default());
        }
        let Some(link) = link else { continue };
        let index = link.index;
        if let Some(known) = survey.interfaces.iter_mut().find(|known| known.index == index) {
            known.info.addresses.push(address);
        } else if survey.interfaces.len() < INTERFACES_MAX {
            let mtu = u16::try_from(link.mtu).unwrap_or(u16::MAX);
            let info = UplinkInterface { name: link.name, mac: link.mac, mtu, addresses: vec![address] };
            survey.interfaces.push(Described { index, info });
        }
    }
    survey.interfaces.sort_by_key(|interface| interface.index);
    Ok(survey)
}

/// One interface in use.
struct Bound {
    described: Described,
    socket: Arc<Socket>,
    members: BTreeSet<MacAddr>,
}

/// All interfaces in use.
#[derive(Default)]
pub(crate) struct Interfaces {
    bound: Vec<Bound>,
    filter: FilterSpec,
}

impl Interfaces {
    /// What they look like.
    pub(crate) fn described(&self) -> Vec<Described> {
        self.bound.iter().map(|bound| bound.described.clone()).collect()
    }

    /// What the shard needs of them.
    pub(crate) fn for_shard(&self) -> Vec<Interface> {
        let for_shard = |bound: &Bound| Interface {
            index: bound.described.index,
            mac: bound.described.info.mac,
            socket: bound.socket.clone(),
        };
        self.bound.iter().map(for_shard).collect()
    }

    /// Opens a socket on every interface of `described`, in place of those that there were.
    ///
    /// Errors: `EPERM` without CAP_NET_RAW; then nothing has changed.
    pub(crate) fn open(&mut self, described: Vec<Described>) -> io::Result<()> {
        let program = filter::generate(&self.filter);
        let open = |described: Described| {
            let socket = packet::open()?;
            udp::set_receive_buffer(&socket, RECEIVE_BUFFER_BYTES)?;
            udp::set_send_buffer(&socket, SEND_BUFFER_BYTES)?;
            // Before it is bound, so that it never has a frame that the filter would not let through.
            bpf::attach(&socket, &program)?;
            packet::bind(&socket, described.index)?;
            Ok(Bound { described, socket: Arc::new(socket), members: BTreeSet::new() })
        };
        self.bound = described.into_iter().map(open).collect::<io::Result<_>>()?;
        self.join(&self.filter.announced.clone());
        Ok(())
    }

    /// Lets through what `filter` says, from now on.
    pub(crate) fn set_filter(&mut self, filter: FilterSpec) -> io::Result<()> {
        if self.filter == filter {
            return Ok(());
        }
        let program = filter::generate(&filter);
        self.bound.iter().try_for_each(|bound| bpf::attach(&bound.socket, &program))?;
        self.join(&filter.announced);
        self.filter = filter;
        Ok(())
    }

    /// Sends a frame out of every interface: `make` makes it, given the interface's MAC.
    pub(crate) fn send_all(&self, make: impl Fn(MacAddr) -> Vec<u8>) {
        for bound in &self.bound {
            let mut bytes = vec![0; wire::VIRTIO_HEADER_BYTES];
            bytes.extend(make(bound.described.info.mac));
            // An interface that is down has nobody to tell.
            let _ = bound.socket.send(&bytes);
        }
    }

    /// Listens where neighbors ask for the IPv6 addresses among `announced`, and nowhere else.
    fn join(&mut self, announced: &BTreeSet<IpAddr>) {
        let wanted: BTreeSet<MacAddr> = announced.iter().filter_map(solicited_node_mac).collect();
        for bound in &mut self.bound {
            let changes = bound.members.symmetric_difference(&wanted).copied().collect::<Vec<_>>();
            for mac in changes {
                // Where it is refused the interface may take all multicast anyway.
                let _ = packet::set_membership(&bound.socket, bound.described.index, mac, wanted.contains(&mac));
            }
            bound.members.clone_from(&wanted);
        }
    }
}

/// The Ethernet address at which neighbors ask for `address` (RFC 2464 §7, RFC 4291 §2.7.1).
fn solicited_node_mac(address: &IpAddr) -> Option<MacAddr> {
    let IpAddr::V6(address) = address else { return None };
    let IpAddr::V6(group) = wire::neighbor::solicited_node(*address) else { return None };
    let [.., a, b, c, d] = Ipv6Addr::octets(&group);
    Some(MacAddr([0x33, 0x33, a, b, c, d]))
}
