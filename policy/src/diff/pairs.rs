//! The pods of both sides, matched, in groups whose members share every verdict.

use super::Side;
use crate::partition::Cuts;
use crate::tables::{ContainerPort, Direction, NodeIndex, PodEntry, PodIndex, PolicyIndex, Tables};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

/// A pod on both sides.
#[derive(Clone, Copy, Debug)]
pub(super) struct PodPair {
    pub(super) old: PodIndex,
    pub(super) new: PodIndex,
}

/// Pods that no rule of either side tells apart, neither as subjects nor as peers.
pub(super) struct Group {
    /// Positions in [`Pairs::pairs`]; at least one.
    pub(super) members: Vec<usize>,
    /// The policies that judge what they send are others, or say something else.
    pub(super) sends_otherwise: bool,
    /// The same for what they receive.
    pub(super) receives_otherwise: bool,
    /// They themselves differ: labels, addresses, ports, node. Then every flow of theirs may.
    pub(super) is_otherwise: bool,
    /// Cuts of the policies that judge what they send, a number in [`Pairs::cuts`].
    pub(super) send_cuts: u32,
    /// The same for what they receive.
    pub(super) receive_cuts: u32,
}

/// All pods of both sides.
pub(super) struct Pairs {
    /// Pods that both sides have, in the order of the new side.
    pub(super) pairs: Vec<PodPair>,
    /// Those pods in groups. Pods of the host network are their nodes and in no group.
    pub(super) groups: Vec<Group>,
    /// Pods that only the old side has.
    pub(super) only_old: Vec<PodIndex>,
    /// Pods that only the new side has.
    pub(super) only_new: Vec<PodIndex>,
    /// What the policies of groups cut.
    pub(super) cuts: Vec<Cuts>,
}

/// What tells pods apart beside what [`Tables::alike`] knows.
#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Distinction<'a> {
    alike: (u32, u32),
    ports: [Vec<(&'a str, u8, u16)>; 2],
    pieces: [Vec<(bool, usize)>; 2],
    is_otherwise: bool,
    /// Own nodes, where they are not the same: the exemption for the own node moves with the pod.
    nodes: Option<[Option<NodeIndex>; 2]>,
}

impl Pairs {
    pub(super) fn of(old: Side<'_>, new: Side<'_>, cuts: &Cuts) -> Pairs {
        let (pairs, only_old, only_new) = matched(old, new);
        let mut built = Pairs { pairs, groups: Vec::new(), only_old, only_new, cuts: Vec::new() };
        let mut groups: BTreeMap<Distinction<'_>, Vec<usize>> = BTreeMap::new();
        for (position, pair) in built.pairs.iter().enumerate() {
            let (before, after) = (old.tables.pod(pair.old), new.tables.pod(pair.new));
            if before.host_network && after.host_network {
                continue;
            }
            let same_node = node_name(old.tables, before) == node_name(new.tables, after);
            let is_otherwise = !same_node || differs(old.tables, before, new.tables, after);
            let distinction = Distinction {
                alike: (old.tables.alike(pair.old), new.tables.alike(pair.new)),
                ports: [before, after].map(|pod| named_ports(pod, cuts)),
                pieces: [(old.tables, pair.old), (new.tables, pair.new)].map(|(tables, pod)| {
                    let addresses = addresses(tables, pod).iter();
                    addresses.map(|addr| (addr.is_ipv4(), cuts.address_piece(*addr))).collect()
                }),
                is_otherwise,
                nodes: (!same_node).then_some([before.node, after.node]),
            };
            groups.entry(distinction).or_default().push(position);
        }
        let mut selections = Selections::new(old.tables, new.tables);
        // In the order of their first pods, so that the answer does not depend on how pods are numbered inside.
        let mut groups: Vec<_> = groups.into_iter().map(|(key, members)| (members, key.is_otherwise)).collect();
        groups.sort();
        for (members, is_otherwise) in groups {
            let pair = built.pairs[members[0]];
            let (sends_otherwise, send_cuts) = selections.of(Direction::FromPod, pair);
            let (receives_otherwise, receive_cuts) = selections.of(Direction::ToPod, pair);
            built.groups.push(Group {
                members,
                sends_otherwise,
                receives_otherwise,
                is_otherwise,
                send_cuts,
                receive_cuts,
            });
        }
        built.cuts = selections.cuts;
        built
    }

    /// A member of group `from` and one of group `to`; not the same pod, so there may be none.
    pub(super) fn examples(&self, from: usize, to: usize) -> Option<(PodPair, PodPair)> {
        let first = self.groups[from].members[0];
        let second = if from == to { *self.groups[to].members.get(1)? } else { self.groups[to].members[0] };
        Some((self.pairs[first], self.pairs[second]))
    }
}

/// Pods by name, then those left over by workload, in order.
fn matched(old: Side<'_>, new: Side<'_>) -> (Vec<PodPair>, Vec<PodIndex>, Vec<PodIndex>) {
    let mut left: BTreeMap<(&str, &str), Vec<PodIndex>> = BTreeMap::new();
    let mut only_old = Vec::new();
    for (index, pod) in old.tables.pods() {
        if new.tables.find_pod(&pod.namespace, &pod.name).is_some() {
            continue;
        }
        match old.workloads.find(&pod.namespace, &pod.name) {
            Some(workload) => left.entry((&pod.namespace, workload)).or_default().push(index),
            None => only_old.push(index),
        }
    }
    left.values_mut().for_each(|pods| pods.reverse());
    let (mut pairs, mut only_new) = (Vec::new(), Vec::new());
    for (index, pod) in new.tables.pods() {
        let renamed = || left.get_mut(&(&*pod.namespace, new.workloads.find(&pod.namespace, &pod.name)?))?.pop();
        match old.tables.find_pod(&pod.namespace, &pod.name).or_else(renamed) {
            Some(before) => pairs.push(PodPair { old: before, new: index }),
            None => only_new.push(index),
        }
    }
    only_old.extend(left.into_values().flatten());
    only_old.sort_by_key(|pod| (old.tables.pod(*pod).namespace.clone(), old.tables.pod(*pod).name.clone()));
    (pairs, only_old, only_new)
}

fn node_name<'a>(tables: &'a Tables, pod: &PodEntry) -> Option<&'a str> {
    pod.node.map(|node| &*tables.node(node).name)
}

/// Whether anything that a rule may look at differs between two forms of a pod.
fn differs(old: &Tables, before: &PodEntry, new: &Tables, after: &PodEntry) -> bool {
    before.labels != after.labels
        || old.namespace_labels(&before.namespace) != new.namespace_labels(&after.namespace)
        || before.ports != after.ports
        || before.addresses != after.addresses
        || before.host_network != after.host_network
}

/// The ports whose names some rule reads.
fn named_ports<'a>(pod: &'a PodEntry, cuts: &Cuts) -> Vec<(&'a str, u8, u16)> {
    let named = pod.ports.iter().filter(|port: &&ContainerPort| cuts.port_names.contains(&*port.name));
    let mut named: Vec<_> = named.map(|port| (&*port.name, port.protocol.0, port.port)).collect();
    named.sort_unstable();
    named.dedup();
    named
}

/// The addresses that a pod is judged by: those of its node if it is of the host network and lists none.
pub(super) fn addresses(tables: &Tables, pod: PodIndex) -> &[IpAddr] {
    crate::matrix::addresses(tables, tables.pod(pod))
}

type Selecting = (Direction, Vec<PolicyIndex>, Vec<PolicyIndex>);

/// Which policies judge a pod, and what is the same about them.
struct Selections<'a> {
    old: &'a Tables,
    new: &'a Tables,
    /// Policies of the new side that the old side has word for word.
    unchanged: HashSet<PolicyIndex>,
    known: HashMap<Selecting, (bool, u32)>,
    cuts: Vec<Cuts>,
}

impl<'a> Selections<'a> {
    fn new(old: &'a Tables, new: &'a Tables) -> Selections<'a> {
        let indices = (0u32..).map(PolicyIndex).zip(new.policies.iter());
        let unchanged = indices
            .filter(|(_, policy)| old.find_policy(policy.id).is_some_and(|index| *old.policy(index) == **policy));
        let unchanged = unchanged.map(|(index, _)| index).collect();
        Selections { old, new, unchanged, known: HashMap::new(), cuts: Vec::new() }
    }

    /// Whether the policies in force that judge the pod differ between the sides, and the number of their cuts.
    fn of(&mut self, direction: Direction, pair: PodPair) -> (bool, u32) {
        let in_force = |tables: &Tables, pod| {
            let selecting = tables.selecting(direction, pod).into_iter();
            selecting.filter(|index| !tables.policy(*index).dry_run).collect::<Vec<_>>()
        };
        let key = (direction, in_force(self.old, pair.old), in_force(self.new, pair.new));
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let (_, before, after) = &key;
        let same = before.len() == after.len()
            && before.iter().zip(after).all(|(before, after)| {
                self.unchanged.contains(after) && self.old.policy(*before).id == self.new.policy(*after).id
            });
        let mut cuts = Cuts::default();
        before.iter().for_each(|index| cuts.add_policy(self.old.policy(*index), direction));
        after.iter().for_each(|index| cuts.add_policy(self.new.policy(*index), direction));
        self.cuts.push(cuts);
        let found = (!same, self.cuts.len() as u32 - 1);
        self.known.insert(key, found);
        found
    }
}
