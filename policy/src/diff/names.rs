//! How places are told: pods by workload and namespace, nodes by name, addresses as CIDRs.

use super::Side;
use super::judge::Place;
use super::pairs::{Pairs, addresses};
use super::peers::{Peer, Peers};
use crate::partition::{address, number};
use crate::tables::{PodIndex, Tables};
use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Names that are told one by one; more are counted.
const TOLD_MAX: usize = 4;

/// Pods, nodes and addresses at one end of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Party {
    /// In few words.
    pub text: String,
    /// `NAMESPACE/NAME`.
    pub pods: Vec<String>,
    /// `NAME`, or `NAME ADDRESS` where not all addresses of the node are concerned.
    pub nodes: Vec<String>,
    /// CIDRs; of pods' and nodes' addresses in them nothing is said.
    pub outside: Vec<String>,
    /// DNS names and patterns, as rules write them.
    pub names: Vec<String>,
}

/// `NAMESPACE/NAME` of a pod.
pub(super) fn of_pod(tables: &Tables, pod: PodIndex) -> String {
    let pod = tables.pod(pod);
    format!("{}/{}", pod.namespace, pod.name)
}

struct PodName<'a> {
    namespace: &'a str,
    name: &'a str,
    /// What it is told under: its workload, else itself.
    stem: &'a str,
}

/// Finds the words.
pub(super) struct Names<'a> {
    tables: &'a Tables,
    pairs: &'a Pairs,
    peers: &'a Peers,
    /// By pair.
    pods: Vec<PodName<'a>>,
    /// How many pods that were compared each workload and each namespace has.
    of_stem: BTreeMap<(&'a str, &'a str), usize>,
    of_namespace: BTreeMap<&'a str, usize>,
    compared: usize,
    /// Stretches outside in the families of the pods.
    outside: usize,
    node_addresses: BTreeMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    pub(super) fn new(new: Side<'a>, pairs: &'a Pairs, peers: &'a Peers) -> Names<'a> {
        let pods = pairs.pairs.iter().map(|pair| {
            let pod = new.tables.pod(pair.new);
            let stem = new.workloads.find(&pod.namespace, &pod.name).unwrap_or(&pod.name);
            PodName { namespace: &pod.namespace, name: &pod.name, stem }
        });
        let mut names = Names {
            tables: new.tables,
            pairs,
            peers,
            pods: pods.collect(),
            of_stem: BTreeMap::new(),
            of_namespace: BTreeMap::new(),
            compared: 0,
            outside: 0,
            node_addresses: BTreeMap::new(),
        };
        let mut families = [false; 2];
        for &member in pairs.groups.iter().flat_map(|group| &group.members) {
            let pod = &names.pods[member];
            *names.of_stem.entry((pod.namespace, pod.stem)).or_default() += 1;
            *names.of_namespace.entry(pod.namespace).or_default() += 1;
            names.compared += 1;
            for addr in addresses(new.tables, pairs.pairs[member].new) {
                families[usize::from(addr.is_ipv4())] = true;
            }
        }
        for peer in &peers.peers {
            match peer {
                // A family that no pod has leads nowhere.
                Peer::Outside { first, .. } if families[usize::from(first.is_ipv4())] => names.outside += 1,
                Peer::Outside { .. } => {}
                Peer::Nodes { addresses, .. } => {
                    for at in addresses {
                        *names.node_addresses.entry(&new.tables.node(at.new).name).or_default() += 1;
                    }
                }
            }
        }
        names
    }

    /// Everything at `places`.
    pub(super) fn party(&self, places: &BTreeSet<Place>) -> Party {
        let mut members = Vec::new();
        let (mut nodes, mut stretches) = (BTreeMap::<&str, Vec<IpAddr>>::new(), Vec::new());
        let mut party = Party::default();
        for place in places {
            match place {
                Place::Pods(group) => members.extend(&self.pairs.groups[*group as usize].members),
                Place::Name(name) => party.names.push(self.peers.names[*name as usize].1.clone()),
                Place::Peer(peer) => match &self.peers.peers[*peer as usize] {
                    Peer::Outside { first, last, .. } => stretches.push((*first, *last)),
                    Peer::Nodes { addresses, .. } => {
                        for at in addresses {
                            nodes.entry(&self.tables.node(at.new).name).or_default().push(at.addr);
                        }
                    }
                },
            }
        }
        members.sort_unstable();
        let mut words = self.pods(&members);
        party.pods = members.iter().map(|member| self.full_name(*member)).collect();
        for (node, addresses) in nodes {
            if addresses.len() == self.node_addresses[node] {
                party.nodes.push(node.to_owned());
            } else {
                party.nodes.extend(addresses.iter().map(|addr| format!("{node} {addr}")));
            }
        }
        if party.nodes.len() == self.node_addresses.len() && party.nodes.len() > 1 {
            words.push(format!("every node ({})", party.nodes.len()));
        } else {
            words.extend(party.nodes.iter().map(|node| format!("node:{node}")));
        }
        let everywhere = stretches.len() == self.outside;
        party.outside = cidrs(stretches);
        if everywhere && !party.outside.is_empty() {
            words.push("everything outside".to_owned());
        } else {
            words.extend(party.outside.iter().map(|cidr| format!("outside {cidr}")));
        }
        words.extend(party.names.iter().cloned());
        party.text = listed(words);
        party
    }

    /// Whether a group of pods has one member.
    pub(super) fn is_alone(&self, group: u32) -> bool {
        self.pairs.groups[group as usize].members.len() == 1
    }

    fn full_name(&self, member: usize) -> String {
        let pod = &self.pods[member];
        format!("{}/{}", pod.namespace, pod.name)
    }

    /// Pods as few words: whole workloads and namespaces by their names.
    fn pods(&self, members: &[usize]) -> Vec<String> {
        if members.len() == self.compared && self.compared > 1 {
            return vec![format!("every pod ({})", self.compared)];
        }
        let mut by_namespace: BTreeMap<&str, BTreeMap<&str, Vec<usize>>> = BTreeMap::new();
        for member in members {
            let pod = &self.pods[*member];
            by_namespace.entry(pod.namespace).or_default().entry(pod.stem).or_default().push(*member);
        }
        let mut words = Vec::new();
        for (namespace, stems) in by_namespace {
            let count: usize = stems.values().map(Vec::len).sum();
            if count == self.of_namespace[namespace] && stems.len() > 1 {
                words.push(format!("{namespace}/* ({count} pods)"));
                continue;
            }
            for (stem, members) in stems {
                if members.len() == self.of_stem[&(namespace, stem)] && members.len() > 1 {
                    words.push(format!("{namespace}/{stem} ({} pods)", members.len()));
                } else {
                    words.extend(members.into_iter().map(|member| self.full_name(member)));
                }
            }
        }
        words
    }
}

fn listed(mut words: Vec<String>) -> String {
    let more = words.len().saturating_sub(TOLD_MAX);
    if more <= 1 {
        return words.join(", ");
    }
    words.truncate(TOLD_MAX);
    format!("{} and {more} more", words.join(", "))
}

/// Stretches as the fewest CIDRs.
fn cidrs(stretches: Vec<(IpAddr, IpAddr)>) -> Vec<String> {
    let mut joined: Vec<(bool, u128, u128)> = Vec::new();
    for (first, last) in stretches {
        let (ipv4, first, last) = (first.is_ipv4(), number(first), number(last));
        match joined.last_mut() {
            Some((family, _, end)) if *family == ipv4 && end.checked_add(1) == Some(first) => *end = last,
            _ => joined.push((ipv4, first, last)),
        }
    }
    let nets = joined.into_iter().flat_map(|(ipv4, first, last)| -> Vec<IpNet> {
        match (address(first, ipv4), address(last, ipv4)) {
            (IpAddr::V4(first), IpAddr::V4(last)) => Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect(),
            (IpAddr::V6(first), IpAddr::V6(last)) => Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect(),
            _ => Vec::new(),
        }
    });
    nets.map(|net| net.to_string()).collect()
}
