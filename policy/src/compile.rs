//! From a cluster's objects to [`Tables`].
//!
//! In: one generation of objects. Out: tables that say the same on every node, and what could not be taken over. An object
//! that contradicts another (an address claimed twice) loses what it claimed; everything else is compiled. [`Compiler`]
//! compiles generation after generation and does again only what a change concerns.

mod cluster_dns;
mod compiler;
mod names;
mod nodes;
mod pods;
mod policies;
mod services;
mod vantage;

pub use compiler::{Compiler, Work};

use crate::cluster::{Cluster, Delta};
use crate::objects::Problem;
use crate::tables::{Owner, Tables};
use ipnet::IpNet;
pub(crate) use pods::protocol;
use std::net::IpAddr;
pub(crate) use vantage::Vantage;

/// What a node's command line says about Services and names; the same on every node of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompileOptions {
    /// Addresses that spec.externalIPs may name; none by default (S05).
    pub external_ips: Vec<IpNet>,
    /// Node addresses that serve nodePorts; all if empty.
    pub node_port_addresses: Vec<IpNet>,
    /// Addresses at which every node answers cluster DNS itself; to policies they are those of a pod labelled
    /// `k8s-app: kube-dns` in kube-system. None by default.
    pub cluster_dns: Vec<IpAddr>,
}

impl CompileOptions {
    /// Whether a node's address `addr` serves nodePorts.
    pub fn serves_node_ports(&self, addr: IpAddr) -> bool {
        self.node_port_addresses.is_empty() || self.node_port_addresses.iter().any(|cidr| cidr.contains(&addr))
    }
}

/// Compiles `cluster` with default options; the tables carry `epoch`.
pub fn compile(cluster: &Cluster, epoch: u64) -> (Tables, Vec<Problem>) {
    compile_with(cluster, &CompileOptions::default(), epoch)
}

/// Compiles `cluster`; the tables carry `epoch`.
pub fn compile_with(cluster: &Cluster, options: &CompileOptions, epoch: u64) -> (Tables, Vec<Problem>) {
    Compiler::new(options.clone()).compile(cluster, &Delta::default(), epoch)
}

/// Who owns an address that is claimed again, for people.
fn owner_text(tables: &Tables, owner: Owner, addr: IpAddr) -> String {
    match owner {
        Owner::Pod(pod) => {
            let pod = tables.pod(pod);
            format!("{addr} is already the address of Pod {}/{}", pod.namespace, pod.name)
        }
        Owner::Node(node) => format!("{addr} is already an address of Node {}", tables.node(node).name),
    }
}

#[cfg(test)]
mod tests;
