//! PLACE of the command line: names for points of a cluster, running in a lab or only written down.

use crate::census::{Census, node_addresses, pod_addresses};
use crate::error::{LabError, Result};
use crate::namespaces::enter::Room;
use crate::pods::pod_dir;
use crate::{nodes, world};
use control::controller::LabNetwork;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

/// A point from which something can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A pod.
    Pod {
        /// metadata.namespace.
        namespace: String,
        /// metadata.name.
        name: String,
    },
    /// An address in a node's pod range that no pod has: a pod without labels, if there were one.
    Unlabelled {
        /// The address.
        address: IpAddr,
        /// The node whose pod range holds it.
        node: String,
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
            Place::Unlabelled { address, .. } => write!(f, "{address}"),
            Place::Node(name) => write!(f, "node:{name}"),
            Place::World(None) => f.write_str("world"),
            Place::World(Some(address)) => write!(f, "world:{address}"),
            Place::Underlay => f.write_str("underlay"),
        }
    }
}

impl Place {
    /// Finds what `text` names: `NS/POD`, `node:NAME`, `world`, `world:IP`, `underlay`, or an address: the pod or node that
    /// owns it, else an unlabelled pod if a node's pod range holds it, else a host outside of the cluster.
    pub(crate) fn find(text: &str, census: &Census) -> Result<Place> {
        let unknown = |what: &str, known: Vec<String>| {
            LabError::BadInput(format!("{text:?}: {what}; there is: {}", known.join(", ")))
        };
        if let Some((namespace, name)) = text.split_once('/') {
            return match census.pod(namespace, name) {
                Some(_) => Ok(Place::Pod { namespace: namespace.into(), name: name.into() }),
                None => Err(unknown("no such pod", census.pod_names())),
            };
        }
        if let Some(name) = text.strip_prefix("node:") {
            return match census.nodes.get(name) {
                Some(_) => Ok(Place::Node(name.into())),
                None => Err(unknown("no such node", census.nodes.keys().map(|name| format!("node:{name}")).collect())),
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
        Ok(Place::owner(address, census))
    }

    fn owner(address: IpAddr, census: &Census) -> Place {
        if let Some((namespace, name)) = census.pod_of(address) {
            return Place::Pod { namespace: namespace.clone(), name: name.clone() };
        }
        if let Some(node) = census.node_of(address) {
            return Place::Node(node.into());
        }
        match census.pod_range_of(address) {
            Some((node, _)) => Place::Unlabelled { address, node: node.into() },
            None => Place::World(Some(address)),
        }
    }

    /// Where to go in a lab to be at this place.
    pub(crate) fn room(&self, run_dir: &Path) -> Result<Room> {
        Ok(match self {
            Place::Pod { namespace, name } => Room::Pod(pod_dir(run_dir, namespace, name).join("pid")),
            Place::Unlabelled { address, node } => {
                let why = format!("{address}: no pod has this address of {node}'s pod range");
                return Err(LabError::BadInput(why));
            }
            Place::Node(name) => {
                Room::Node { netns: nodes::netns(run_dir, name), process: nodes::pid_file(run_dir, name) }
            }
            Place::World(address) => Room::World { netns: world::netns(run_dir), address: *address },
            Place::Underlay => Room::Lab,
        })
    }

    /// The addresses of a place, in order.
    pub(crate) fn addresses(&self, census: &Census, network: &LabNetwork) -> Vec<IpAddr> {
        match self {
            Place::Pod { namespace, name } => census.pod(namespace, name).map(pod_addresses).unwrap_or_default(),
            Place::Unlabelled { address, .. } | Place::World(Some(address)) => vec![*address],
            Place::Node(name) => census.nodes.get(name).map(|node| node_addresses(node)).unwrap_or_default(),
            Place::World(None) => network.world_addresses(),
            Place::Underlay => Vec::new(),
        }
    }

    /// The namespace whose Services a bare name means.
    pub(crate) fn namespace(&self) -> &str {
        match self {
            Place::Pod { namespace, .. } => namespace,
            _ => "default",
        }
    }
}

/// An IPv6 address may be written as in a URL.
pub(crate) fn without_brackets(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}

#[cfg(test)]
mod tests;
