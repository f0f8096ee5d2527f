//! From a cluster's objects to [`Tables`].
//!
//! In: one generation of objects. Out: tables that say the same on every node, and what could not be taken over. An object
//! that contradicts another (an address claimed twice) loses what it claimed; everything else is compiled.

mod nodes;
mod pods;
mod policies;
mod services;

use crate::cluster::Cluster;
use crate::objects::Problem;
use crate::tables::{Owner, Tables};
pub(crate) use pods::protocol;
use std::net::IpAddr;

/// Compiles `cluster`; the tables carry `epoch`.
pub fn compile(cluster: &Cluster, epoch: u64) -> (Tables, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut tables = Tables { epoch, ..Tables::default() };
    nodes::compile(cluster, &mut tables, &mut problems);
    pods::compile(cluster, &mut tables, &mut problems);
    services::compile(cluster, &mut tables, &mut problems);
    policies::compile(cluster, &mut tables, &mut problems);
    (tables, problems)
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
