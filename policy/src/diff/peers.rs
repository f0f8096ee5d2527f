//! What pods talk to that is no pod: nodes, addresses outside, names.

use crate::partition::{Cuts, address, number};
use crate::selector::Selector;
use crate::tables::{NodeEntry, NodeIndex, PolicyObject, Tables};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// A node's address that both sides know.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeAddress {
    pub(super) old: NodeIndex,
    pub(super) new: NodeIndex,
    pub(super) addr: IpAddr,
}

/// Addresses that no rule tells apart.
pub(super) enum Peer {
    /// Of nodes; at least one.
    Nodes {
        /// The addresses, with their nodes.
        addresses: Vec<NodeAddress>,
        /// Whether the nodes themselves differ between the sides.
        is_otherwise: bool,
    },
    /// Of nobody in the cluster.
    Outside {
        /// The first of the stretch.
        first: IpAddr,
        /// The last of the stretch.
        last: IpAddr,
        /// One that neither side's pods or nodes have.
        example: IpAddr,
    },
}

/// All of them.
pub(super) struct Peers {
    pub(super) peers: Vec<Peer>,
    /// One DNS name for each set of patterns that a name may match, with the pattern that it stands for.
    pub(super) names: Vec<(Arc<str>, String)>,
}

impl Peers {
    pub(super) fn of(old: &Tables, new: &Tables, cuts: &Cuts) -> Peers {
        let mut peers = nodes(old, new, cuts);
        for ipv4 in [true, false] {
            for (first, last) in cuts.address_pieces(ipv4) {
                let mut candidates = number(first)..=number(last);
                let example = candidates.find_map(|candidate| {
                    let addr = address(candidate, ipv4);
                    (old.owner(addr).is_none() && new.owner(addr).is_none()).then_some(addr)
                });
                peers.extend(example.map(|example| Peer::Outside { first, last, example }));
            }
        }
        Peers { peers, names: names(&cuts.domain_names) }
    }
}

/// What tells node addresses apart: family, stretch, the selectors that match the node on each side, whether it differs.
type NodeKey = (bool, usize, Vec<bool>, Vec<bool>, bool);

fn nodes(old: &Tables, new: &Tables, cuts: &Cuts) -> Vec<Peer> {
    let selectors: BTreeSet<Selector> = [old, new].into_iter().flat_map(node_selectors).collect();
    let matched =
        |node: &NodeEntry| selectors.iter().map(|selector| selector.selects(&node.labels)).collect::<Vec<_>>();
    let mut groups: BTreeMap<NodeKey, Vec<NodeAddress>> = BTreeMap::new();
    for (index, after) in (0u32..).map(NodeIndex).zip(new.nodes.iter()) {
        let Some(before_index) = old.find_node(&after.name) else { continue };
        let before = old.node(before_index);
        let known: BTreeSet<IpAddr> = before.addresses.iter().copied().chain(before.gateways()).collect();
        let is_otherwise =
            before.labels != after.labels || before.addresses != after.addresses || before.pod_cidrs != after.pod_cidrs;
        let addresses: BTreeSet<IpAddr> = after.addresses.iter().copied().chain(after.gateways()).collect();
        for addr in addresses.intersection(&known) {
            let key = (addr.is_ipv4(), cuts.address_piece(*addr), matched(before), matched(after), is_otherwise);
            groups.entry(key).or_default().push(NodeAddress { old: before_index, new: index, addr: *addr });
        }
    }
    groups.into_iter().map(|((.., is_otherwise), addresses)| Peer::Nodes { addresses, is_otherwise }).collect()
}

fn node_selectors(tables: &Tables) -> Vec<Selector> {
    let mut selectors = Vec::new();
    for policy in tables.policies.iter() {
        let PolicyObject::ClusterNetworkPolicy(policy) = &policy.object else { continue };
        let peers = policy.spec.egress.iter().flatten().flat_map(|rule| &rule.to);
        selectors.extend(peers.filter_map(|peer| peer.nodes.as_ref()).map(Selector::compile));
    }
    selectors
}

/// A name for each pattern: the name itself, or for `*.suffix` one below the suffix that no other pattern spells out.
fn names(patterns: &BTreeSet<String>) -> Vec<(Arc<str>, String)> {
    let name = |pattern: &String| -> Arc<str> {
        let pattern = pattern.trim_end_matches('.');
        let Some(suffix) = pattern.strip_prefix("*.") else { return pattern.into() };
        let mut candidates = (0u32..).map(|number| format!("any{number}.{suffix}"));
        candidates.find(|name| !patterns.contains(name)).unwrap_or_default().into()
    };
    patterns.iter().map(|pattern| (name(pattern), pattern.clone())).collect()
}
