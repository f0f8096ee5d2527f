//! Node objects: addresses, pod CIDRs, the VTEP's MAC.

use super::services::NodeNames;
use crate::cluster::Cluster;
use crate::objects::{ObjectRef, Problem, Severity, Source, VTEP_MAC_ANNOTATION};
use crate::selector::Labels;
use crate::tables::{NodeEntry, NodeIndex, Owner, Tables};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use std::net::IpAddr;
use std::sync::Arc;
use wire::MacAddr;

/// Label with the zone of a node.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Label of nodes that load balancers must not send to, whatever its value (KEP-1143).
const EXCLUDED_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Taint of a node that the cluster autoscaler is about to delete (KEP-3836).
const DELETION_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

pub(super) fn compile(cluster: &Cluster, tables: &mut Tables, problems: &mut Vec<Problem>) {
    for ((_, name), sourced) in &cluster.nodes {
        let mut refuse = Refuse { source: &sourced.source, name, problems };
        let index = NodeIndex(tables.nodes.len() as u32);
        let node = &*sourced.object;
        let addresses = addresses(node, index, tables, &mut refuse);
        let pod_cidrs = pod_cidrs(node, &mut refuse);
        let vtep_mac = vtep_mac(node, &mut refuse);
        let label = |name: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(name));
        let entry = NodeEntry {
            name: name.clone(),
            addresses,
            pod_cidrs,
            vtep_mac,
            labels: node.metadata.labels.as_ref().map(Labels::from).unwrap_or_default(),
            zone: label(ZONE_LABEL).filter(|zone| !zone.is_empty()).map(|zone| zone.as_str().into()),
            ready: is_ready(node),
            excluded_from_load_balancers: label(EXCLUDED_LABEL).is_some(),
            being_deleted: is_being_deleted(node),
        };
        for gateway in entry.gateways() {
            Arc::make_mut(&mut tables.owners).entry(gateway).or_insert(Owner::Node(index));
        }
        Arc::make_mut(&mut tables.nodes).push(entry);
    }
    let zones = NodeNames::of(&tables.nodes);
    tables.zones = Arc::new(tables.nodes.iter().map(|node| zones.zone(node.zone.as_deref()?)).collect());
}

/// Condition Ready; a node that says nothing about it (as in files) is ready.
fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    !conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status != "True")
}

fn is_being_deleted(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    node.metadata.deletion_timestamp.is_some() || taints.into_iter().any(|taint| taint.key == DELETION_TAINT)
}

struct Refuse<'a> {
    source: &'a Source,
    name: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Refuse<'_> {
    fn field(&mut self, field: String, message: String) {
        let object = ObjectRef::new("Node", "", self.name);
        self.problems.push(Problem::of(self.source, object, field, message, Severity::Refused));
    }
}

/// Internal addresses before external ones, each in the order given.
fn addresses(node: &Node, index: NodeIndex, tables: &mut Tables, refuse: &mut Refuse<'_>) -> Vec<IpAddr> {
    let listed = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let mut addresses = Vec::new();
    for kind in ["InternalIP", "ExternalIP"] {
        for (position, address) in listed.clone().enumerate().filter(|(_, address)| address.type_ == kind) {
            let field = || format!("status.addresses[{position}].address");
            let Ok(addr) = address.address.parse::<IpAddr>() else {
                refuse.field(field(), format!("{:?} is not an IP address", address.address));
                continue;
            };
            match tables.owners.get(&addr) {
                Some(&Owner::Node(owner)) if owner == index => {}
                Some(&owner) => refuse.field(field(), super::owner_text(tables, owner, addr)),
                None => {
                    Arc::make_mut(&mut tables.owners).insert(addr, Owner::Node(index));
                    addresses.push(addr);
                }
            }
        }
    }
    addresses
}

fn pod_cidrs(node: &Node, refuse: &mut Refuse<'_>) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let listed: Vec<(String, &String)> = match &spec.pod_cidrs {
        Some(cidrs) => {
            cidrs.iter().enumerate().map(|(position, cidr)| (format!("spec.podCIDRs[{position}]"), cidr)).collect()
        }
        None => spec.pod_cidr.iter().map(|cidr| ("spec.podCIDR".to_owned(), cidr)).collect(),
    };
    let mut cidrs = Vec::new();
    for (field, text) in listed {
        let Ok(cidr) = text.parse::<IpNet>().map(|cidr| cidr.trunc()) else {
            refuse.field(field, format!("{text:?} is not a CIDR"));
            continue;
        };
        // The cluster has refused nodes with a range of another's.
        match cidrs.iter().find(|other: &&IpNet| other.contains(&cidr) || cidr.contains(*other)) {
            Some(other) => refuse.field(field, format!("{cidr} overlaps {other} of the same node")),
            None => cidrs.push(cidr),
        }
    }
    cidrs
}

fn vtep_mac(node: &Node, refuse: &mut Refuse<'_>) -> Option<MacAddr> {
    let text = node.metadata.annotations.as_ref()?.get(VTEP_MAC_ANNOTATION)?;
    match text.parse::<MacAddr>() {
        Ok(mac) if !mac.is_multicast() => Some(mac),
        Ok(mac) => {
            refuse.field(format!("metadata.annotations[{VTEP_MAC_ANNOTATION}]"), format!("{mac} is a group address"));
            None
        }
        Err(expected) => {
            refuse.field(format!("metadata.annotations[{VTEP_MAC_ANNOTATION}]"), format!("{text:?}: {expected}"));
            None
        }
    }
}
