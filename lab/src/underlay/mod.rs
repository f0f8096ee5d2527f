//! The network between the nodes: one Ethernet segment in the lab's own network namespace, with a port for each node and
//! one for `world`, the client outside of the cluster.
//!
//! ```text
//!        underlay (bridge "underlay0", MTU 1500)
//!          │ u-node1       │ u-node2        │ u-world
//!        eth0            eth0             eth0
//!   node1 172.30.0.11   node2 .12        world .100        and fd00:172:30::b, ::c, ::64
//! ```
//! Where the kernel refuses bridges or veth pairs, the same is made of TAPs (module `hub`).
//!
//! On the segment every address is a neighbor: nodes may have addresses of any range, and `world` takes on whatever outside
//! address it is asked to be.

pub(crate) mod hub;
pub mod netlink;

use crate::error::{LabError, Result};
use crate::namespaces::netns;
use ipnet::IpNet;
use netlink::Netlink;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// Name of the bridge.
pub const BRIDGE: &str = "underlay0";

/// Name of the interface by which a node or `world` is joined to the underlay.
pub const INTERFACE: &str = "eth0";

/// MTU of the underlay in bytes: that of ordinary Ethernet.
pub const MTU: u32 = 1500;

/// What the segment is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnderlayKind {
    /// A kernel bridge, or a hub where the kernel has none.
    #[default]
    Auto,
    /// A kernel bridge and veth pairs.
    Bridge,
    /// A switch in a process, over TAPs.
    Hub,
}

/// Makes the segment in the network namespace of this thread, unless it is there.
pub(crate) fn create(run_dir: &Path, kind: UnderlayKind) -> Result<()> {
    if netlink::index(BRIDGE).is_ok() {
        return Ok(());
    }
    // The segment itself has no addresses; without IPv6 it stays silent. A read-only /proc/sys is not worth failing for.
    let _ = fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    match kind {
        UnderlayKind::Hub => hub::start(run_dir),
        UnderlayKind::Bridge => create_bridge().map_err(|e| LabError::io("cannot make the underlay bridge", e)),
        UnderlayKind::Auto => create_bridge().or_else(|_| hub::start(run_dir)),
    }
}

/// Makes the bridge, and a veth pair to see whether there are any. Nothing stays on failure.
fn create_bridge() -> io::Result<()> {
    const TRIAL: [&str; 2] = ["u-trial0", "u-trial1"];
    let mut netlink = Netlink::open()?;
    netlink.add_bridge(BRIDGE)?;
    let mut finish = || {
        netlink.add_veth(TRIAL[0], TRIAL[1], &File::open("/proc/thread-self/ns/net")?, MTU)?;
        netlink.remove(TRIAL[0])?;
        netlink.set_mtu(BRIDGE, MTU)?;
        netlink.set_up(BRIDGE)
    };
    finish().inspect_err(|_| {
        let _ = Netlink::open().and_then(|mut netlink| netlink.remove(BRIDGE));
    })
}

/// Joins the network namespace at `netns` to the segment, under `name` and with `addresses`.
pub(crate) fn join(run_dir: &Path, name: &str, netns: &Path, addresses: &[IpAddr]) -> Result<()> {
    let plugged = if hub::is_used(run_dir) { hub::join(run_dir, netns) } else { plug(name, netns) };
    plugged.map_err(|e| LabError::io(format_args!("cannot join {name} to the underlay"), e))?;
    netns::within(netns, || {
        let mut netlink = Netlink::open()?;
        netlink.set_up(INTERFACE)?;
        for address in addresses {
            let prefix_len = if address.is_ipv4() { 24 } else { 64 };
            netlink.add_address(INTERFACE, IpNet::new(*address, prefix_len).expect("the length fits the family"))?;
            netlink.set_default_route(INTERFACE, *address)?;
        }
        Ok(())
    })
}

/// Makes a port of the bridge whose other end is [`INTERFACE`] in `netns`.
fn plug(name: &str, netns: &Path) -> io::Result<()> {
    let port = port_name(name);
    let namespace = File::open(netns)?;
    let mut netlink = Netlink::open()?;
    netlink.add_veth(&port, INTERFACE, &namespace, MTU)?;
    netlink.set_master(&port, BRIDGE)?;
    netlink.set_up(&port)
}

/// Takes `name` off the segment. A port of a hub goes with its namespace.
pub(crate) fn leave(name: &str) {
    let _ = Netlink::open().and_then(|mut netlink| netlink.remove(&port_name(name)));
}

/// Interface names have at most 15 bytes, node names up to 253: a long name becomes a hash.
fn port_name(name: &str) -> String {
    const NAME_LEN_MAX: usize = 13;
    if name.len() <= NAME_LEN_MAX {
        return format!("u-{name}");
    }
    format!("u-{:012x}", hash(name) & 0xffff_ffff_ffff)
}

/// FNV-1a, for names that must be made short: stable between the processes of a lab, which the standard hasher is not.
pub(crate) fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_names_fit_the_kernel_and_differ() {
        let long = ["a-node-with-a-long-name-1", "a-node-with-a-long-name-2"].map(port_name);
        assert_ne!(long[0], long[1]);
        assert!(long.iter().all(|name| name.len() <= 15));
        assert_eq!(port_name("node1"), "u-node1");
    }
}
