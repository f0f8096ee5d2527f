//! Services and their EndpointSlices: which address and port leads to which backends.
//!
//! Each Service is compiled alone, from itself, its slices, the names of nodes and the options ([`compile_service`]): the same
//! in, the same out, so the result can be kept until one of them changes. Putting the results together ([`assemble`]) settles
//! who has an address or nodePort that several claim, and costs nothing for an endpoint. Ports of nodes that pods ask for come
//! last ([`host_ports`]).

mod assemble;
mod endpoints;
mod entry;
mod host_ports;

pub(crate) use assemble::assemble;
pub(crate) use endpoints::backends;
pub(crate) use entry::{CompiledService, compile_service};
pub(crate) use host_ports::{HostPorts, ask_alike};

use crate::tables::{NodeEntry, NodeIndex, ZoneIndex};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What Services need to know of the nodes: numbers for the names that slices and hints use.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeNames {
    nodes: HashMap<Arc<str>, NodeIndex>,
    zones: BTreeMap<Arc<str>, ZoneIndex>,
}

impl NodeNames {
    pub(crate) fn of(nodes: &[NodeEntry]) -> NodeNames {
        let zones: BTreeSet<Arc<str>> = nodes.iter().filter_map(|node| node.zone.clone()).collect();
        NodeNames {
            nodes: nodes.iter().map(|node| node.name.clone()).zip((0..).map(NodeIndex)).collect(),
            zones: zones.into_iter().zip((0..).map(ZoneIndex)).collect(),
        }
    }

    pub(crate) fn node(&self, name: &str) -> Option<NodeIndex> {
        self.nodes.get(name).copied()
    }

    pub(crate) fn zone(&self, name: &str) -> Option<ZoneIndex> {
        self.zones.get(name).copied()
    }
}

#[cfg(test)]
mod tests;
