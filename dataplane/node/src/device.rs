//! A port's device: the TAP in its namespace, and the MACs of TAPs.

use crate::netlink::{Link, Netlink};
use crate::sys::netns;
use crate::tap::Tap;
use crate::{AttachError, PortInfo, PortSpec, link};
use std::io;
use std::net::IpAddr;
use wire::MacAddr;

/// The MAC of a pod's interface, the same whenever the same addresses are attached with the same seed, so that neighbors
/// that remember it stay right over a restart.
pub(crate) fn derive_mac(spec: &PortSpec, seed: u64) -> MacAddr {
    let first = spec.addresses[0];
    let key = wire::FlowKey::new(wire::Protocol(0), first, 0, first, 0);
    MacAddr::local(key.hash_with(seed))
}

/// The MAC of the host TAP: that of the VTEP with one bit flipped, since both are seen on one node.
pub(crate) fn host_mac(vtep: MacAddr) -> MacAddr {
    let mut bytes = vtep.0;
    bytes[5] ^= 1;
    MacAddr(bytes)
}

/// A device that was made in a pod's namespace, and a netlink connection there.
pub(crate) struct Device {
    pub(crate) tap: Tap,
    pub(crate) netlink: Netlink,
    pub(crate) link: Link,
}

/// Makes the TAP of a port in its namespace. Its link is down.
pub(crate) fn make_device(info: &PortInfo, mode: crate::TapMode) -> Result<Device, AttachError> {
    let make = || {
        let step = |what| move |error| AttachError::Step(what, error);
        let mut netlink = Netlink::open().map_err(step("opening netlink in the namespace"))?;
        let find = step("looking up the interface");
        if netlink.find_link(&info.ifname).map_err(find)?.is_some() {
            return Err(AttachError::InterfaceExists(info.ifname.clone()));
        }
        let tap = Tap::open(&info.ifname, mode).map_err(step("making the TAP"))?;
        let link = netlink.find_link(&info.ifname).map_err(find)?;
        let link = link.ok_or_else(|| find(io::Error::from_raw_os_error(libc::ENODEV)))?;
        if info.addresses.iter().any(IpAddr::is_ipv6) {
            link::set_ipv6_switches(&info.ifname);
        }
        Ok(Device { tap, netlink, link })
    };
    netns::within(&info.netns, make).map_err(|error| AttachError::Namespace(info.netns.clone(), error))?
}
