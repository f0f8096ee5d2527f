//! Nodes: made when the manifests have none, and completed with pod ranges and addresses.

use super::names;
use super::network::LabNetwork;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeCondition};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The nodes of the cluster, in the order in which pods are given to them.
///
/// Nodes in the manifests are all there are. Without any there are the ones that pods name, the ones that existed before,
/// and `node1`, `node2`, ... until the plan's number is reached. `node<K>` gets the K-th share of the plan if it is free;
/// every other node keeps the share it had, else gets the lowest free one.
pub(super) fn fill(
    given: &BTreeMap<String, Node>,
    previous: &BTreeMap<String, Node>,
    named: &BTreeSet<String>,
    network: &LabNetwork,
) -> Vec<Node> {
    let mut nodes: Vec<Node> = if given.is_empty() {
        let mut names: BTreeSet<String> = named.iter().chain(previous.keys()).cloned().collect();
        for index in 1..=network.nodes.min(LabNetwork::NODES_MAX) {
            if names.len() >= usize::from(network.nodes) {
                break;
            }
            names.insert(format!("node{index}"));
        }
        names.into_iter().map(named_node).collect()
    } else {
        given.values().cloned().collect()
    };
    nodes.sort_by_key(|node| order(name(node)));
    for node in &mut nodes {
        if let Some(before) = previous.get(name(node)) {
            take_over(node, before);
        }
    }
    assign_shares(&mut nodes, network);
    nodes.iter_mut().for_each(complete);
    nodes
}

/// metadata.name.
pub(super) fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

/// Whether the node is ready; one that does not say is.
pub(super) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().find(|condition| condition.type_ == "Ready").is_none_or(|ready| ready.status == "True")
}

/// The node's InternalIP addresses.
pub(super) fn addresses(node: &Node) -> Vec<IpAddr> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    addresses.filter(|a| a.type_ == "InternalIP").filter_map(|a| a.address.parse().ok()).collect()
}

/// The node's pod ranges; those that do not parse are the business of the object's validation.
pub(super) fn pod_cidrs(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let many = spec.pod_cidrs.iter().flatten();
    let texts: Vec<&String> = many.chain(spec.pod_cidr.iter().filter(|_| spec.pod_cidrs.is_none())).collect();
    texts.into_iter().filter_map(|text| text.parse::<IpNet>().ok()).map(|net| net.trunc()).collect()
}

fn named_node(name: String) -> Node {
    let mut node = Node::default();
    node.metadata.name = Some(name);
    node
}

/// node2 before node10: by the text before the number at the end, then by the number.
fn order(name: &str) -> (String, u64, String) {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    (stem.to_owned(), name[stem.len()..].parse().unwrap_or(0), name.to_owned())
}

fn take_over(node: &mut Node, before: &Node) {
    if pod_cidrs(node).is_empty() {
        set_pod_cidrs(node, &pod_cidrs(before));
    }
    if addresses(node).is_empty() {
        set_addresses(node, &addresses(before));
    }
}

fn assign_shares(nodes: &mut [Node], network: &LabNetwork) {
    let mut free: BTreeSet<u16> = (1..=LabNetwork::NODES_MAX)
        .filter(|index| !nodes.iter().any(|node| has_part_of_share(node, *index, network)))
        .collect();
    let wanted = |node: &Node| name(node).strip_prefix("node").and_then(|digits| digits.parse::<u16>().ok());
    let needs = |node: &Node| pod_cidrs(node).is_empty() || addresses(node).is_empty();
    let mut shares: Vec<Option<u16>> =
        nodes.iter().map(|node| wanted(node).filter(|index| needs(node) && free.remove(index))).collect();
    for (node, share) in nodes.iter_mut().zip(&mut shares) {
        if !needs(node) {
            continue;
        }
        let Some(index) = share.take().or_else(|| free.pop_first()) else { continue };
        if pod_cidrs(node).is_empty() {
            set_pod_cidrs(node, &network.pod_cidrs(index));
        }
        if addresses(node).is_empty() {
            set_addresses(node, &network.node_addresses(index));
        }
    }
}

/// Whether `node` has addresses or pod ranges that the plan would give to node number `index`.
fn has_part_of_share(node: &Node, index: u16, network: &LabNetwork) -> bool {
    let (own, share) = (pod_cidrs(node), network.pod_cidrs(index));
    let overlaps = own.iter().any(|a| share.iter().any(|b| a.contains(b) || b.contains(a)));
    let own = addresses(node);
    overlaps || network.node_addresses(index).iter().any(|address| own.contains(address))
}

fn set_pod_cidrs(node: &mut Node, cidrs: &[IpNet]) {
    let spec = node.spec.get_or_insert_default();
    spec.pod_cidr = cidrs.first().map(ToString::to_string);
    spec.pod_cidrs = Some(cidrs.iter().map(ToString::to_string).collect());
}

fn set_addresses(node: &mut Node, addresses: &[IpAddr]) {
    let list = node.status.get_or_insert_default().addresses.get_or_insert_default();
    list.extend(addresses.iter().map(|a| NodeAddress { type_: "InternalIP".to_owned(), address: a.to_string() }));
}

/// What the kubelet and the API server add.
fn complete(node: &mut Node) {
    let name = name(node).to_owned();
    node.metadata.uid.get_or_insert_with(|| names::uid(&["Node", &name]));
    let labels = node.metadata.labels.get_or_insert_default();
    labels.entry("kubernetes.io/hostname".to_owned()).or_insert_with(|| name.clone());
    labels.entry("kubernetes.io/os".to_owned()).or_insert_with(|| "linux".to_owned());
    let status = node.status.get_or_insert_default();
    let list = status.addresses.get_or_insert_default();
    if !list.iter().any(|a| a.type_ == "Hostname") {
        list.push(NodeAddress { type_: "Hostname".to_owned(), address: name });
    }
    let conditions = status.conditions.get_or_insert_default();
    if !conditions.iter().any(|c| c.type_ == "Ready") {
        conditions.push(NodeCondition {
            type_: "Ready".to_owned(),
            status: "True".to_owned(),
            ..NodeCondition::default()
        });
    }
}
