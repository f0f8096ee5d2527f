//! What an interface in a pod's namespace is like at the moment, for whoever has to say whether that is still as it was made.

use crate::device::derive_mac;
use crate::netlink::Netlink;
use crate::sys::netns;
use crate::{Dataplane, PortSpec};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use wire::MacAddr;

/// An interface as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Its MAC.
    pub mac: MacAddr,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Gateways of its default routes that podplane set. The kernel takes them away when the interface goes down.
    pub gateways: Vec<IpAddr>,
}

/// The interface `ifname` in the namespace at `netns`; `None` if it is not there.
pub fn inspect(netns: &Path, ifname: &str) -> io::Result<Option<Inspected>> {
    netns::within(netns, || {
        let mut netlink = Netlink::open()?;
        let Some(link) = netlink.find_link(ifname)? else { return Ok(None) };
        let addresses = netlink.addresses()?.into_iter().filter(|(index, _)| *index == link.index);
        let addresses = addresses.map(|(_, address)| address).collect();
        let defaults = netlink.routes(link.index)?.into_iter().filter(|route| route.destination.prefix_len() == 0);
        let gateways = defaults.filter_map(|route| route.gateway).collect();
        Ok(Some(Inspected { mac: link.mac, mtu: link.mtu, addresses, gateways }))
    })?
}

impl Dataplane {
    /// The MAC that a port of `spec` gets.
    pub fn mac_for(&self, spec: &PortSpec) -> MacAddr {
        spec.mac.unwrap_or_else(|| derive_mac(spec, self.config().seed))
    }
}
