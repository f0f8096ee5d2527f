//! Which node a pod runs on and which addresses it has.
//!
//! Three rounds, so that what exists never moves for something that comes: pods that say their node or addresses; pods that
//! existed and may stay as they are; the others. Those go to the eligible node with the fewest pods of the same owner, then
//! the fewest pods, then the first: on empty nodes that is round-robin. Only nodeName, nodeSelector,
//! hostPort and spec.unschedulable are looked at; taints, affinity and resources are not.

use super::{Key, Problems, nodes};
use crate::ipam::{ClaimError, Pool};
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use policy::cluster::{HostPort, host_ports};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Annotation of a Node that takes part in the cluster and is not run by the lab.
const UNMANAGED_ANNOTATION: &str = "lab.podplane.io/unmanaged";

/// Where a pod is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Position in the list of nodes; `None` for a pod that has ended and never had one.
    pub(super) node: Option<usize>,
    /// The pod's addresses: one per family of its node's pod ranges, or what its status says.
    pub(super) addresses: Vec<IpAddr>,
}

/// Whether `node` fits the pod's nodeSelector.
pub(super) fn takes(spec: Option<&PodSpec>, node: &Node) -> bool {
    let Some(selector) = spec.and_then(|spec| spec.node_selector.as_ref()) else { return true };
    let labels = node.metadata.labels.as_ref();
    selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

/// Whether the pod has ended: it has no address any more.
pub(super) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether the pod shares its node's network.
pub(super) fn is_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
}

/// status.podIPs, or status.podIP if there is only that.
pub(super) fn given_addresses(pod: &Pod) -> Vec<&str> {
    let Some(status) = &pod.status else { return Vec::new() };
    let many: Vec<&str> = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).collect();
    if many.is_empty() { status.pod_ip.iter().map(String::as_str).collect() } else { many }
}

/// Places all `pods`; `previous` are the pods of the state before. A pod that cannot be placed is refused and is not in the
/// result.
pub(super) fn place(
    pods: &BTreeMap<Key, Pod>,
    nodes: &[Node],
    previous: &BTreeMap<Key, Pod>,
    problems: &mut Problems,
) -> BTreeMap<Key, Place> {
    let mut placer = Placer::new(nodes, problems);
    let mut waiting: Vec<(&Key, &Pod, Option<usize>)> = Vec::new();
    for (key, pod) in pods {
        if let Some(node) = placer.place_as_given(key, pod) {
            waiting.push((key, pod, node));
        }
    }
    waiting.retain(|(key, pod, node)| !placer.place_as_before(key, pod, *node, previous.get(*key)));
    for before in previous.values() {
        placer.rest(before);
    }
    for (key, pod, node) in waiting {
        placer.place_anew(key, pod, node);
    }
    placer.places
}

struct Slot<'a> {
    node: &'a Node,
    pools: Vec<Pool>,
    /// Those of its pods.
    host_ports: Vec<HostPort>,
    pods: u32,
    pods_by_owner: BTreeMap<(&'a str, &'a str), u32>,
}

impl Slot<'_> {
    /// A hostPort that `pod` asks for and a pod of the node has.
    fn taken_port(&self, pod: &Pod) -> Option<HostPort> {
        let is_taken = |wanted: &HostPort| self.host_ports.iter().any(|own| !own.is_compatible(wanted));
        asked_ports(pod).into_iter().find(is_taken)
    }
}

/// spec.nodeName.
fn demanded_node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).filter(|name| !name.is_empty())
}

/// The ports of its node that a pod asks for.
fn asked_ports(pod: &Pod) -> Box<[HostPort]> {
    pod.spec.as_ref().map(host_ports).unwrap_or_default()
}

struct Placer<'a> {
    slots: Vec<Slot<'a>>,
    owners: BTreeMap<IpAddr, String>,
    places: BTreeMap<Key, Place>,
    problems: &'a mut Problems,
}

impl<'a> Placer<'a> {
    fn new(nodes: &'a [Node], problems: &'a mut Problems) -> Placer<'a> {
        let mut owners = BTreeMap::new();
        let slots = nodes
            .iter()
            .map(|node| {
                for address in nodes::addresses(node) {
                    owners.insert(address, format!("Node {}", nodes::name(node)));
                }
                let pools = nodes::pod_cidrs(node).into_iter().map(Pool::new).collect();
                Slot { node, pools, host_ports: Vec::new(), pods: 0, pods_by_owner: BTreeMap::new() }
            })
            .collect();
        Placer { slots, owners, places: BTreeMap::new(), problems }
    }

    /// First round. Gives the node that the pod demands, if any, when the pod is still to be placed; `None` when it is
    /// placed or refused.
    fn place_as_given(&mut self, key: &Key, pod: &'a Pod) -> Option<Option<usize>> {
        let mut node = None;
        if let Some(wanted) = demanded_node(pod) {
            node = self.slots.iter().position(|slot| nodes::name(slot.node) == wanted);
            if node.is_none() && !has_ended(pod) {
                let reason = format!("there is no Node {wanted}");
                self.problems.refuse("Pod", &pod.metadata, "spec.nodeName", &reason);
                return None;
            }
        }
        if has_ended(pod) {
            self.places.insert(key.clone(), Place { node, addresses: Vec::new() });
            return None;
        }
        // Before any pod that can go elsewhere.
        if let Some(node) = node {
            self.slots[node].host_ports.extend(asked_ports(pod));
        }
        let texts = given_addresses(pod);
        if texts.is_empty() || is_host_network(pod) {
            return Some(node);
        }
        let addresses = self.claim_given(pod, &texts)?;
        let home = |slot: &Slot<'_>| slot.pools.iter().any(|pool| addresses.iter().any(|a| pool.range().contains(a)));
        let Some(node) = node.or_else(|| self.slots.iter().position(home)).or_else(|| self.choose(pod, false)) else {
            self.refuse_unschedulable(pod);
            return None;
        };
        self.settle(key, pod, node, addresses);
        None
    }

    /// Claims the addresses of a pod's status; `None` when it is refused for one of them.
    fn claim_given(&mut self, pod: &Pod, texts: &[&str]) -> Option<Vec<IpAddr>> {
        let mut addresses = Vec::new();
        for (position, text) in texts.iter().enumerate() {
            let field = format!("status.podIPs[{position}].ip");
            let reason = match text.parse::<IpAddr>() {
                Err(_) => format!("{text:?} is not an IP address"),
                Ok(address) => match (self.owners.get(&address), self.reserved(address)) {
                    (Some(owner), _) => format!("{address} is already the address of {owner}"),
                    (None, Some(node)) => {
                        format!("{address} is the network, gateway or broadcast address of Node {node}'s pod range")
                    }
                    (None, None) => {
                        addresses.push(address);
                        continue;
                    }
                },
            };
            self.problems.refuse("Pod", &pod.metadata, &field, &reason);
            return None;
        }
        for address in &addresses {
            self.own(pod, *address);
        }
        Some(addresses)
    }

    /// Second round: same node and same addresses as before, if the pod still may have them.
    fn place_as_before(&mut self, key: &Key, pod: &'a Pod, node: Option<usize>, before: Option<&Pod>) -> bool {
        let Some(before) = before.filter(|before| !has_ended(before)) else { return false };
        let Some(name) = before.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) else { return false };
        let Some(index) = self.slots.iter().position(|slot| nodes::name(slot.node) == name) else { return false };
        let slot = &self.slots[index];
        let may_move = node.is_none();
        if node.is_some_and(|node| node != index)
            || !takes(pod.spec.as_ref(), slot.node)
            || (may_move && slot.taken_port(pod).is_some())
        {
            return false;
        }
        if is_host_network(pod) {
            let addresses = nodes::addresses(slot.node);
            self.settle(key, pod, index, addresses);
            return true;
        }
        let addresses: Vec<IpAddr> = given_addresses(before).iter().filter_map(|text| text.parse().ok()).collect();
        let one_per_pool = addresses.len() == slot.pools.len()
            && slot.pools.iter().all(|pool| addresses.iter().any(|address| pool.range().contains(address)));
        let free = |address: &IpAddr| !self.owners.contains_key(address) && self.reserved(*address).is_none();
        if !one_per_pool || !addresses.iter().all(free) {
            return false;
        }
        for address in &addresses {
            self.own(pod, *address);
        }
        self.settle(key, pod, index, addresses);
        true
    }

    /// Addresses that nobody kept rest, so that a new pod does not get one that packets for the old one still carry.
    fn rest(&mut self, before: &Pod) {
        for address in given_addresses(before).iter().filter_map(|text| text.parse::<IpAddr>().ok()) {
            for pool in self.slots.iter_mut().flat_map(|slot| &mut slot.pools) {
                pool.rest(address);
            }
        }
    }

    /// Third round.
    fn place_anew(&mut self, key: &Key, pod: &'a Pod, node: Option<usize>) {
        let host_network = is_host_network(pod);
        let Some(index) = node.or_else(|| self.choose(pod, !host_network)) else {
            return self.refuse_unschedulable(pod);
        };
        if host_network {
            let addresses = nodes::addresses(self.slots[index].node);
            return self.settle(key, pod, index, addresses);
        }
        let slot = &mut self.slots[index];
        if slot.pools.is_empty() {
            let reason = format!("Node {} has no pod range (spec.podCIDRs)", nodes::name(slot.node));
            return self.problems.refuse("Pod", &pod.metadata, "status.podIPs", &reason);
        }
        if let Some(full) = slot.pools.iter_mut().find_map(|pool| (!pool.has_room()).then(|| pool.range())) {
            let reason = format!("the pod range {full} of Node {} is full", nodes::name(slot.node));
            return self.problems.refuse("Pod", &pod.metadata, "status.podIPs", &reason);
        }
        let addresses: Vec<IpAddr> = slot.pools.iter_mut().filter_map(Pool::allocate).collect();
        for address in &addresses {
            self.owners.insert(*address, describe(pod));
        }
        self.settle(key, pod, index, addresses);
    }

    /// The node for a pod that may run on any eligible one.
    fn choose(&mut self, pod: &Pod, needs_address: bool) -> Option<usize> {
        let owner = owner(pod);
        let eligible = self.slots.iter_mut().enumerate().filter_map(|(index, slot)| {
            let has_room = !needs_address || (!slot.pools.is_empty() && slot.pools.iter_mut().all(Pool::has_room));
            let same_owner = owner.and_then(|owner| slot.pods_by_owner.get(&owner)).copied().unwrap_or(0);
            let takes = is_eligible(pod, slot.node) && has_room && slot.taken_port(pod).is_none();
            takes.then_some((same_owner, slot.pods, index))
        });
        eligible.min().map(|(.., index)| index)
    }

    fn refuse_unschedulable(&mut self, pod: &Pod) {
        let eligible: Vec<&Slot<'_>> = self.slots.iter().filter(|slot| is_eligible(pod, slot.node)).collect();
        if eligible.is_empty() {
            let reason = "no Node that takes pods has these labels";
            return self.problems.refuse("Pod", &pod.metadata, "spec.nodeSelector", reason);
        }
        let taken: Option<Vec<HostPort>> = eligible.iter().map(|slot| slot.taken_port(pod)).collect();
        if let Some(taken) = taken {
            let HostPort { field, protocol, port, .. } = &taken[0];
            let names: Vec<&str> = eligible.iter().map(|slot| nodes::name(slot.node)).collect();
            let reason =
                format!("{protocol} {port} is another pod's on every Node that takes this one ({})", names.join(", "));
            return self.problems.refuse("Pod", &pod.metadata, field, &reason);
        }
        let ranges = eligible.iter().map(|slot| {
            let ranges: Vec<String> = slot.pools.iter().map(|pool| pool.range().to_string()).collect();
            format!("Node {} ({})", nodes::name(slot.node), ranges.join(", "))
        });
        let reason = format!("the pod range is full on {}", ranges.collect::<Vec<_>>().join(", "));
        self.problems.refuse("Pod", &pod.metadata, "status.podIPs", &reason);
    }

    fn settle(&mut self, key: &Key, pod: &'a Pod, node: usize, addresses: Vec<IpAddr>) {
        let slot = &mut self.slots[node];
        slot.pods += 1;
        if demanded_node(pod).is_none() {
            slot.host_ports.extend(asked_ports(pod));
        }
        if let Some(owner) = owner(pod) {
            *slot.pods_by_owner.entry(owner).or_default() += 1;
        }
        self.places.insert(key.clone(), Place { node: Some(node), addresses });
    }

    fn own(&mut self, pod: &Pod, address: IpAddr) {
        self.owners.insert(address, describe(pod));
        for pool in self.slots.iter_mut().flat_map(|slot| &mut slot.pools) {
            // Addresses outside the range are another pool's, or of no pool at all.
            let _ = pool.claim(address);
        }
    }

    /// The node in whose range `address` is one that no pod may have.
    fn reserved(&self, address: IpAddr) -> Option<&'a str> {
        let slot = self
            .slots
            .iter()
            .find(|slot| slot.pools.iter().any(|pool| pool.check(address) == Err(ClaimError::Reserved)));
        slot.map(|slot| nodes::name(slot.node))
    }
}

fn is_eligible(pod: &Pod, node: &Node) -> bool {
    let open = node.spec.as_ref().and_then(|spec| spec.unschedulable) != Some(true);
    open && is_managed(node) && takes(pod.spec.as_ref(), node)
}

/// Whether the lab runs the node. On a node of somebody else only pods are that name it.
pub(super) fn is_managed(node: &Node) -> bool {
    let annotations = node.metadata.annotations.as_ref();
    annotations.and_then(|annotations| annotations.get(UNMANAGED_ANNOTATION)).is_none_or(|value| value != "true")
}

fn owner(pod: &Pod) -> Option<(&str, &str)> {
    let mut owners = pod.metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    Some((pod.metadata.namespace.as_deref().unwrap_or_default(), &owner.uid))
}

fn describe(pod: &Pod) -> String {
    let (namespace, name) = super::key(&pod.metadata);
    format!("Pod {namespace}/{name}")
}
