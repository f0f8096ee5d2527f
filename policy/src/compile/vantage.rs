//! The endpoints of a Service as one program on one node sees them: for a proxy that sends to endpoints itself.
//!
//! It may send where a pod on its node may that speaks to the Service's ClusterIP; what decides that is the same as for the
//! tables ([`crate::tables::backends`]).

use super::nodes;
use super::services::{NodeNames, backends};
use crate::cluster::{Cluster, Slice};
use crate::tables::{NodeIndex, Tables, ZoneIndex};
use k8s_openapi::api::core::v1::ServicePort;
use std::net::SocketAddr;

/// Where a program runs.
#[derive(Debug, Default)]
pub(crate) struct Vantage {
    names: NodeNames,
    node: Option<NodeIndex>,
    zone: Option<ZoneIndex>,
}

impl Vantage {
    /// On the node `node_name`; without one nothing is near.
    pub(crate) fn of(cluster: &Cluster, node_name: Option<&str>) -> Vantage {
        let Some(node_name) = node_name else { return Vantage::default() };
        // What is wrong with nodes is told by whoever compiles the tables.
        let mut tables = Tables::default();
        nodes::compile(cluster, &mut tables, &mut Vec::new());
        let names = NodeNames::of(&tables.nodes);
        let node = names.node(node_name);
        Vantage { node, zone: node.and_then(|node| tables.zone(node)), names }
    }

    /// Where the port of a Service leads from here: endpoints that are ready, else those that are draining. `is_local`: the
    /// Service's internalTrafficPolicy confines them to this node. In order of addresses, IPv4 first, each once.
    pub(crate) fn endpoints(&self, port: &ServicePort, slices: &[&Slice], is_local: bool) -> Vec<SocketAddr> {
        let (v4, v6) = backends(port, slices, &self.names, false);
        let mut found = Vec::new();
        for family in [&v4, &v6] {
            let candidates = if is_local { family.local(self.node) } else { family.cluster(self.node, self.zone) };
            found.extend(candidates.iter().map(|backend| SocketAddr::new(backend.addr, backend.port)));
        }
        found.sort_unstable();
        found
    }
}
