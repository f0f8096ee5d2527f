//! What a TAP needs around it in its namespace: MAC, MTU, addresses, routes, the IPv6 switches of the kernel.

use crate::netlink::{Link, Netlink, Route};
use ipnet::IpNet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use wire::MacAddr;

/// Next hops of the node's routes into the host TAP. They exist nowhere: the switch answers for any neighbor, so all
/// destinations share one neighbor entry per family, and the kernel's table (1,024 entries by default) cannot overflow.
const NEXT_HOP_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
const NEXT_HOP_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// Sets the kernel's IPv6 switches of the interface `name` in the namespace of the calling thread: router advertisements are not
/// believed, addresses are usable at once.
///
/// Where `/proc/sys` is read-only (some containers) this has no effect, and none of it is vital: the switch drops router
/// advertisements, and our addresses are set without duplicate address detection. Only an interface on which IPv6 is
/// disabled cannot be used then, and adding the address says so.
pub(crate) fn set_ipv6_switches(name: &str) {
    let directory = PathBuf::from("/proc/sys/net/ipv6/conf").join(name);
    for (file, value) in [("accept_ra", "0"), ("accept_dad", "0"), ("disable_ipv6", "0")] {
        let _ = std::fs::write(directory.join(file), value);
    }
}

/// Gives an interface that is still down its MAC, its MTU and its host addresses.
pub(crate) fn prepare(
    netlink: &mut Netlink,
    link: &Link,
    mac: MacAddr,
    mtu: u16,
    addresses: &[IpAddr],
) -> io::Result<()> {
    netlink.set_link(link.index, mac, mtu)?;
    addresses.iter().try_for_each(|address| netlink.add_address(link.index, *address))
}

/// The same for an interface that a process before this one has left: what is there and right stays untouched, so that the kernel
/// forgets nothing about it.
pub(crate) fn repair(
    netlink: &mut Netlink,
    link: &Link,
    mac: MacAddr,
    mtu: u16,
    addresses: &[IpAddr],
) -> io::Result<()> {
    if link.mac != mac || link.mtu != u32::from(mtu) {
        netlink.set_link(link.index, mac, mtu)?;
    }
    let present = own_addresses(netlink, link)?;
    let missing = addresses.iter().filter(|address| !present.contains(address));
    missing.copied().try_for_each(|address| netlink.add_address(link.index, address))
}

/// Takes all addresses from an interface but `addresses` and those that the kernel makes itself.
pub(crate) fn keep_only_addresses(netlink: &mut Netlink, link: &Link, addresses: &[IpAddr]) -> io::Result<()> {
    let is_kernels = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let present = own_addresses(netlink, link)?;
    let stale = present.into_iter().filter(|address| !addresses.contains(address) && !is_kernels(address));
    stale.into_iter().try_for_each(|address| netlink.remove_address(link.index, address))
}

fn own_addresses(netlink: &mut Netlink, link: &Link) -> io::Result<Vec<IpAddr>> {
    let all = netlink.addresses()?.into_iter();
    Ok(all.filter(|(index, _)| *index == link.index).map(|(_, address)| address).collect())
}

/// Sets a pod's interface up and leads everything through it, as far as that is not so.
pub(crate) fn connect_pod(netlink: &mut Netlink, link: &Link, gateways: &[IpAddr], mtu: u16) -> io::Result<()> {
    netlink.set_up(link.index)?;
    let (_, missing) = plan_routes(&netlink.routes(link.index)?, &pod_routes(link.index, gateways, mtu));
    missing.iter().try_for_each(|route| netlink.add_route(route))
}

/// A pod's routes, in the order in which they are added: to each gateway on the link itself, to the rest via the gateway. Pure.
fn pod_routes(link: u32, gateways: &[IpAddr], mtu: u16) -> Vec<Route> {
    let routes = gateways.iter().flat_map(|gateway| {
        let everything = if gateway.is_ipv4() {
            IpNet::new(Ipv4Addr::UNSPECIFIED.into(), 0)
        } else {
            IpNet::new(Ipv6Addr::UNSPECIFIED.into(), 0)
        };
        let everything = everything.expect("0 is a prefix length");
        let route = Route { link, destination: IpNet::from(*gateway), gateway: None, source: None, mtu: None };
        [route, Route { destination: everything, gateway: Some(*gateway), mtu: Some(mtu), ..route }]
    });
    routes.collect()
}

/// The route of the node's own traffic to `destination` through the host TAP. `source` is what other nodes' pods see.
pub(crate) fn host_route(link: u32, destination: IpNet, source: Option<IpAddr>, mtu: u16) -> Route {
    let next_hop = if destination.addr().is_ipv4() { NEXT_HOP_V4 } else { NEXT_HOP_V6 };
    Route { link, destination: destination.trunc(), gateway: Some(next_hop), source, mtu: Some(mtu) }
}

/// What to change so that `wanted` is in force: routes to remove, routes to add. Pure.
pub(crate) fn plan_routes(present: &[Route], wanted: &[Route]) -> (Vec<Route>, Vec<Route>) {
    let stale = present.iter().filter(|route| !wanted.contains(route)).copied().collect();
    let missing = wanted.iter().filter(|route| !present.contains(route)).copied().collect();
    (stale, missing)
}
