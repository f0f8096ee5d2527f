//! Pod objects: where they run and which addresses are theirs.
//!
//! A cluster holds no two objects that claim one address ([`crate::cluster::Definitions`] has refused one of them), so pods are
//! compiled one by one, in any order. A change replaces the entries of the pods that it names and touches no other, but for
//! one: the number of a pod that goes is taken over by the last one, so that numbers stay dense.

use super::cluster_dns;
use crate::cluster::{Cluster, Key, Pod};
use crate::tables::{Owner, PodEntry, PodIndex, Tables};
use std::net::IpAddr;
use std::sync::Arc;
use wire::Protocol;

/// What became of a pod, for whoever keeps a list by [`PodIndex`] and follows change after change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PodChange {
    /// It came and has the next number.
    Came,
    /// The pod of this number runs elsewhere or has other addresses, labels or ports.
    Replaced(PodIndex),
    /// It went; its number is that of the last pod from here on.
    Left(PodIndex),
}

/// What a change of some pods came to.
#[derive(Debug, Default)]
pub(super) struct PodChanges {
    /// In the order in which it happened.
    pub(super) changes: Vec<PodChange>,
    /// Addresses that came to a pod or went from one.
    pub(super) addresses: Vec<IpAddr>,
}

/// Compiles all pods into tables that hold nodes and the owners of their addresses, and no pods. The nodes' own DNS is the first if
/// it has addresses.
pub(super) fn compile(cluster: &Cluster, cluster_dns: &[IpAddr], tables: &mut Tables) {
    let mut entries = Vec::with_capacity(cluster.pods.len() + 1);
    cluster_dns::add(cluster_dns, &mut entries, tables);
    let built_in = entries.len() as u32;
    let mut nodes = vec![None; entries.len()];
    for (key, sourced) in cluster.pods.iter().filter(|(_, sourced)| !sourced.object.ended) {
        let entry = entry(key, &sourced.object, tables);
        own(PodIndex(entries.len() as u32), &entry, tables);
        nodes.push(entry.node);
        entries.push(Arc::new(entry));
    }
    tables.pods_by_name = Arc::new((built_in..entries.len() as u32).map(PodIndex).collect());
    tables.pods = Arc::new(entries);
    tables.pod_nodes = Arc::new(nodes);
}

/// Compiles the pods called `keys` again; the tables hold all others as they are.
pub(super) fn change<'a>(cluster: &Cluster, keys: impl Iterator<Item = &'a Key>, tables: &mut Tables) -> PodChanges {
    let mut result = PodChanges::default();
    let mut entries = Vec::new();
    // All go before any comes: an address may be handed on.
    for key in keys {
        let wanted = cluster.pods.get(key).filter(|sourced| !sourced.object.ended);
        let entry = wanted.map(|sourced| entry(key, &sourced.object, tables));
        let index = tables.find_pod(&key.0, &key.1);
        if let Some(index) = index {
            let before = tables.pods[index.0 as usize].clone();
            if entry.as_ref().is_none_or(|entry| owned(entry) != owned(&before)) {
                disown(index, &before, tables);
                result.addresses.extend(owned(&before));
            }
            if entry.is_none() {
                remove(index, tables);
                result.changes.push(PodChange::Left(index));
            }
        }
        entries.extend(entry);
    }
    for entry in entries {
        let found = tables.place_of_pod(&entry.namespace, &entry.name);
        let index = match found {
            Ok(place) => tables.pods_by_name[place],
            Err(_) => PodIndex(tables.pods.len() as u32),
        };
        if owned(&entry).iter().any(|addr| tables.owner(*addr) != Some(Owner::Pod(index))) {
            own(index, &entry, tables);
            result.addresses.extend(owned(&entry));
        }
        match found {
            Ok(_) => {
                if tables.node_of_pod(index) != entry.node {
                    Arc::make_mut(&mut tables.pod_nodes)[index.0 as usize] = entry.node;
                }
                Arc::make_mut(&mut tables.pods)[index.0 as usize] = Arc::new(entry);
                result.changes.push(PodChange::Replaced(index));
            }
            Err(place) => {
                Arc::make_mut(&mut tables.pods_by_name).insert(place, index);
                Arc::make_mut(&mut tables.pod_nodes).push(entry.node);
                Arc::make_mut(&mut tables.pods).push(Arc::new(entry));
                result.changes.push(PodChange::Came);
            }
        }
    }
    result
}

/// Takes out a pod that owns nothing any more.
fn remove(index: PodIndex, tables: &mut Tables) {
    let place = |index: PodIndex| {
        let pod = tables.pod(index);
        tables.place_of_pod(&pod.namespace, &pod.name).expect("every pod is in the order of names")
    };
    let last = PodIndex(tables.pods.len() as u32 - 1);
    let (left_place, last_place, last_pod) = (place(index), place(last), tables.pods[last.0 as usize].clone());
    let order = Arc::make_mut(&mut tables.pods_by_name);
    order[last_place] = index;
    order.remove(left_place);
    Arc::make_mut(&mut tables.pods).swap_remove(index.0 as usize);
    Arc::make_mut(&mut tables.pod_nodes).swap_remove(index.0 as usize);
    for addr in owned(&last_pod) {
        // Not an address that it loses by the same change.
        if tables.owner(*addr) == Some(Owner::Pod(last)) {
            Arc::make_mut(&mut tables.owners).insert(*addr, Owner::Pod(index));
        }
    }
}

fn entry((namespace, name): &Key, pod: &Pod, tables: &Tables) -> PodEntry {
    let mut addresses: Vec<IpAddr> = Vec::with_capacity(pod.addresses.len());
    for address in &pod.addresses {
        if !addresses.contains(address) {
            addresses.push(*address);
        }
    }
    PodEntry {
        namespace: namespace.clone(),
        name: name.clone(),
        node: pod.node.as_deref().and_then(|node| tables.find_node(node)),
        addresses,
        host_network: pod.host_network,
        labels: pod.labels.clone(),
        ports: pod.ports.to_vec(),
    }
}

/// The addresses that are a pod's own; those of the host network are the node's.
fn owned(pod: &PodEntry) -> &[IpAddr] {
    if pod.host_network { &[] } else { &pod.addresses }
}

/// The addresses of the nodes' own DNS stay with it.
fn own(index: PodIndex, pod: &PodEntry, tables: &mut Tables) {
    let free: Vec<IpAddr> = owned(pod).iter().copied().filter(|addr| !tables.is_cluster_dns(*addr)).collect();
    for addr in &free {
        Arc::make_mut(&mut tables.owners).insert(*addr, Owner::Pod(index));
    }
}

fn disown(index: PodIndex, pod: &PodEntry, tables: &mut Tables) {
    for addr in owned(pod) {
        if tables.owner(*addr) == Some(Owner::Pod(index)) {
            Arc::make_mut(&mut tables.owners).remove(addr);
        }
    }
}

/// A protocol as the API writes it; TCP when it is not given.
pub(crate) fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text.unwrap_or("TCP") {
        "TCP" => Some(Protocol::TCP),
        "UDP" => Some(Protocol::UDP),
        "SCTP" => Some(Protocol::SCTP),
        _ => None,
    }
}
