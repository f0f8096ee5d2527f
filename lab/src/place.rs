//! PLACE and HOST of the command line: names for points of a running lab.

use crate::cluster::{Snapshot, node_addresses, node_name, node_pod_cidrs};
use crate::error::{LabError, Result};
use crate::namespaces::enter::Room;
use crate::pods::pod_dir;
use crate::probe::Host;
use crate::{nodes, world};
use control::controller::LabNetwork;
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

/// A point of the lab from which something can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A pod.
    Pod {
        /// metadata.namespace.
        namespace: String,
        /// metadata.name.
        name: String,
    },
    /// A node.
    Node(String),
    /// The client outside of the cluster, with an address of its own or another one.
    World(Option<IpAddr>),
    /// The network between the nodes.
    Underlay,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Pod { namespace, name } => write!(f, "{namespace}/{name}"),
            Place::Node(name) => write!(f, "node:{name}"),
            Place::World(None) => f.write_str("world"),
            Place::World(Some(address)) => write!(f, "world:{address}"),
            Place::Underlay => f.write_str("underlay"),
        }
    }
}

impl Place {
    /// Finds what `text` names: `NS/POD`, `node:NAME`, `world`, `world:IP`, `underlay`, or an address: the pod or node that
    /// owns it, else a host outside of the cluster.
    pub(crate) fn find(text: &str, snapshot: &Snapshot) -> Result<Place> {
        let unknown = |what: &str, known: Vec<String>| {
            LabError::BadInput(format!("{text:?}: {what}; there is: {}", known.join(", ")))
        };
        if let Some((namespace, name)) = text.split_once('/') {
            return match snapshot.pod(namespace, name) {
                Some(_) => Ok(Place::Pod { namespace: namespace.into(), name: name.into() }),
                None => {
                    Err(unknown("no such pod in the lab", snapshot.specs.iter().map(|pod| pod.full_name()).collect()))
                }
            };
        }
        if let Some(name) = text.strip_prefix("node:") {
            return match snapshot.node(name) {
                Some(_) => Ok(Place::Node(name.into())),
                None => Err(unknown(
                    "no such node in the lab",
                    snapshot.nodes.iter().map(|node| format!("node:{}", node_name(node))).collect(),
                )),
            };
        }
        match text {
            "world" => return Ok(Place::World(None)),
            "underlay" => return Ok(Place::Underlay),
            _ => {}
        }
        let outside = text.strip_prefix("world:");
        let address: IpAddr = without_brackets(outside.unwrap_or(text)).parse().map_err(|_| {
            LabError::BadInput(format!("{text:?}: not a place; use NS/POD, node:NAME, world, world:IP or an address"))
        })?;
        if outside.is_some() {
            return Ok(Place::World(Some(address)));
        }
        Place::owner(address, snapshot)
    }

    fn owner(address: IpAddr, snapshot: &Snapshot) -> Result<Place> {
        // A hostNetwork pod has its node's address, and the node is meant.
        if let Some(pod) = snapshot.specs.iter().find(|pod| !pod.host_network && pod.addresses.contains(&address)) {
            return Ok(Place::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() });
        }
        if let Some(node) = snapshot.nodes.iter().find(|node| node_addresses(node).contains(&address)) {
            return Ok(Place::Node(node_name(node).into()));
        }
        let cidrs = snapshot.nodes.iter().flat_map(node_pod_cidrs).filter_map(|cidr| cidr.parse::<IpNet>().ok());
        match cidrs.into_iter().find(|cidr| cidr.contains(&address)) {
            Some(cidr) => {
                Err(LabError::BadInput(format!("{address}: no pod has this address of the pod range {cidr}")))
            }
            None => Ok(Place::World(Some(address))),
        }
    }

    /// Where to go to be at this place.
    pub(crate) fn room(&self, run_dir: &Path) -> Room {
        match self {
            Place::Pod { namespace, name } => Room::Pod(pod_dir(run_dir, namespace, name).join("pid")),
            Place::Node(name) => {
                Room::Node { netns: nodes::netns(run_dir, name), process: nodes::pid_file(run_dir, name) }
            }
            Place::World(address) => Room::World { netns: world::netns(run_dir), address: *address },
            Place::Underlay => Room::Lab,
        }
    }

    /// The namespace whose Services a bare name means.
    fn namespace(&self) -> &str {
        match self {
            Place::Pod { namespace, .. } => namespace,
            _ => "default",
        }
    }
}

/// An IPv6 address may be written as in a URL.
fn without_brackets(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}

/// What the HOST of a probe from `from` means: an address, or a name for the resolver of the place.
///
/// Beside addresses and DNS names a HOST may be a PLACE. While no Service has the cluster DNS address, names of Services
/// (`web`, `web.shop`, `web.shop.svc`, `web.shop.svc.cluster.local`) are looked up in the cluster directory, because
/// there is nobody to ask.
pub(crate) fn find_host(text: &str, from: &Place, snapshot: &Snapshot, network: &LabNetwork) -> Result<Host> {
    if let Ok(address) = without_brackets(text).parse() {
        return Ok(Host::Address(address));
    }
    if text.contains('/') || text.starts_with("node:") || text == "world" {
        return first_address(&Place::find(text, snapshot)?, snapshot, network).map(Host::Address);
    }
    if !has_dns(snapshot, network)
        && let Some(address) = find_service(text, from.namespace(), snapshot)
    {
        return Ok(Host::Address(address));
    }
    Ok(Host::Name(text.to_owned()))
}

fn first_address(place: &Place, snapshot: &Snapshot, network: &LabNetwork) -> Result<IpAddr> {
    let found = match place {
        Place::Pod { namespace, name } => snapshot.pod(namespace, name).and_then(|pod| pod.addresses.first().copied()),
        Place::Node(name) => snapshot.node(name).and_then(|node| node_addresses(node).first().copied()),
        Place::World(Some(address)) => Some(*address),
        Place::World(None) => network.world_addresses().first().copied(),
        Place::Underlay => None,
    };
    found.ok_or_else(|| LabError::BadInput(format!("{place}: has no address")))
}

fn has_dns(snapshot: &Snapshot, network: &LabNetwork) -> bool {
    let dns = network.dns_addresses();
    cluster_ips(snapshot).any(|(_, _, ip)| dns.contains(&ip))
}

fn cluster_ips(snapshot: &Snapshot) -> impl Iterator<Item = (&str, &str, IpAddr)> {
    snapshot.services.iter().flat_map(|service| {
        let (namespace, name) = (service.metadata.namespace.as_deref(), service.metadata.name.as_deref());
        let ips = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
        ips.filter_map(move |ip| Some((namespace?, name?, ip.parse().ok()?)))
    })
}

fn find_service(text: &str, own_namespace: &str, snapshot: &Snapshot) -> Option<IpAddr> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let text = text.strip_suffix(".cluster.local").unwrap_or(text);
    let text = text.strip_suffix(".svc").unwrap_or(text);
    let (name, namespace) = text.split_once('.').unwrap_or((text, own_namespace));
    cluster_ips(snapshot).find(|(ns, n, _)| *ns == namespace && *n == name).map(|(_, _, ip)| ip)
}

#[cfg(test)]
mod tests;
