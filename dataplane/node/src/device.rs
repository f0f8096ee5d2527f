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

/// Takes over the TAP that a process before this one has left in a port's namespace, with all that is around it; what of that is
/// missing is made. It keeps its MAC unless `mac` says otherwise; the one that it has is told.
pub(crate) fn take_device(
    info: &PortInfo,
    mac: Option<MacAddr>,
    mode: crate::TapMode,
) -> Result<(Device, MacAddr), AttachError> {
    let take = || {
        let step = |what| move |error| AttachError::Step(what, error);
        let mut netlink = Netlink::open().map_err(step("opening netlink in the namespace"))?;
        let find = step("looking up the interface");
        let present = netlink.find_link(&info.ifname).map_err(find)?;
        let tap = Tap::take_over(&info.ifname, mode).map_err(step("taking over the TAP"))?;
        let link = netlink.find_link(&info.ifname).map_err(find)?;
        let link = link.ok_or_else(|| find(io::Error::from_raw_os_error(libc::ENODEV)))?;
        if present.is_none() && info.addresses.iter().any(IpAddr::is_ipv6) {
            link::set_ipv6_switches(&info.ifname);
        }
        let mac = mac.or(present.map(|present| present.mac)).unwrap_or(info.mac);
        link::repair(&mut netlink, &link, mac, info.mtu, &info.addresses)
            .map_err(step("setting the interface's MAC, MTU and addresses"))?;
        link::connect_pod(&mut netlink, &link, &info.gateways, info.mtu)
            .map_err(step("setting the interface up and its routes"))?;
        Ok((Device { tap, netlink, link }, mac))
    };
    netns::within(&info.netns, take).map_err(|error| AttachError::Namespace(info.netns.clone(), error))?
}

/// Removes the TAP `name` from the network namespace of the calling thread, if there is one that no process has open; whether there
/// was.
///
/// Errors: `EBUSY` if a process has it open, `EINVAL` if the interface is no TAP.
pub(crate) fn remove_tap(name: &str) -> io::Result<bool> {
    if Netlink::open()?.find_link(name)?.is_none() {
        return Ok(false);
    }
    Tap::take_over(name, crate::TapMode::Auto)?.set_persistent(false)?;
    Ok(true)
}
