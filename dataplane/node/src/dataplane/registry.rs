//! What control has asked of a dataplane so far: its ports, and what was put in force.

use crate::netlink::{Link, Netlink};
use crate::{AttachError, PortInfo, PortSpec};
use policy::tables;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use switch::{PortId, PortKind, Restored, ShardId, Tables};
use wire::{MacAddr, Protocol};

/// Most ports of a node. Kubernetes asks for 110 pods per node, the densest nodes hold some hundreds; each port costs a
/// descriptor and a device.
const PORTS_MAX: usize = 4096;

/// Longest interface name in bytes (`IFNAMSIZ` less the final zero).
pub(crate) const IFNAME_MAX_BYTES: usize = 15;

/// What control has asked for so far.
pub(crate) struct Registry {
    pub(crate) ports: BTreeMap<PortId, PortInfo>,
    pub(super) policy: Arc<tables::Tables>,
    /// What the shards judge by.
    pub(super) in_force: Option<Arc<Tables>>,
    pub(super) announced: BTreeSet<IpAddr>,
    /// Ports of Services that could not be claimed at the node's addresses.
    pub(super) unclaimed: HashSet<(Protocol, u16)>,
    pub(super) next_port: u32,
    /// What became of the flows of the process before.
    pub(crate) restored: Restored,
    /// Source ports that flows of the process before have, until the keeper takes them from the kernel: with the first tables, which
    /// do not wait for the hundreds that it takes then.
    pub(super) source_ports_in_use: Option<Vec<(Protocol, u16)>>,
    /// Ports whose flows could not be kept.
    pub(super) unkept: u64,
    /// Of the node's own namespace.
    pub(super) netlink: Netlink,
    pub(super) host_link: Link,
}

impl Registry {
    pub(super) fn note_restored(&mut self, restored: &Restored) {
        self.restored.flows += restored.flows;
        self.restored.rejected += restored.rejected;
    }

    /// Refuses what contradicts itself or an attached port.
    pub(crate) fn check(&self, spec: &PortSpec) -> Result<(), AttachError> {
        let invalid = |what: String| Err(AttachError::Invalid(what));
        if self.ports.len() >= PORTS_MAX {
            return Err(AttachError::TooManyPorts);
        }
        if !matches!(spec.kind, PortKind::Pod { .. }) {
            return invalid("the host port and the uplink belong to the node and cannot be attached".to_owned());
        }
        if !is_interface_name(&spec.ifname) {
            return invalid(format!(
                "\"{}\" is not an interface name: 1 to 15 bytes without / and spaces",
                spec.ifname
            ));
        }
        if spec.addresses.is_empty() {
            return invalid("a port needs at least one address".to_owned());
        }
        if spec.mac.is_some_and(MacAddr::is_multicast) {
            return invalid("an interface cannot have a multicast MAC".to_owned());
        }
        for (position, address) in spec.addresses.iter().enumerate() {
            if spec.addresses[..position].contains(address) {
                return invalid(format!("address {address} is given twice"));
            }
        }
        self.check_addresses(&spec.addresses)
    }

    /// Refuses addresses that an attached port has.
    pub(crate) fn check_addresses(&self, addresses: &[IpAddr]) -> Result<(), AttachError> {
        for address in addresses {
            if let Some(port) = self.ports.values().find(|port| port.addresses.contains(address)) {
                return Err(AttachError::Invalid(format!("address {address} is in use by {}", describe(port))));
            }
        }
        Ok(())
    }

    /// The shard with the fewest ports, the first of several.
    pub(crate) fn least_loaded(&self, shards: usize) -> ShardId {
        let mut load = vec![0usize; shards];
        self.ports.values().for_each(|port| load[usize::from(port.shard.0)] += 1);
        let least = (0..shards).min_by_key(|&shard| load[shard]).unwrap_or(0);
        ShardId(least as u16)
    }
}

/// Whether the kernel takes `name` for an interface.
pub(crate) fn is_interface_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= IFNAME_MAX_BYTES
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace())
}

fn describe(port: &PortInfo) -> String {
    match &port.kind {
        PortKind::Pod { namespace, name } => format!("pod {namespace}/{name}"),
        PortKind::Host => "the node itself".to_owned(),
        PortKind::Uplink => "the uplink".to_owned(),
    }
}
