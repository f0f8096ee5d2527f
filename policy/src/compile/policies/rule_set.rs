//! One rule set: the policies of a tier that select the same pods in a direction, laid out for lookup.

use super::classes::Classes;
use super::read::{Peer, Policy, Rule};
use crate::rules::{AddressRules, Block, NamePattern, NameRules, PeerClass, PortRules, PortRulesIndex, RuleSet};
use crate::selector::Selector;
use crate::tables::{Direction, NodeEntry, PolicyIndex, RuleRef};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The number of a peer, and the position of a rule that names it.
pub(super) type Use = (u32, u32);

/// The rule set of `policies`, which are in order of evaluation and all select in `direction`; and where it names which peers.
pub(super) fn build(
    direction: Direction,
    policies: &[(PolicyIndex, &Policy)],
    classes: &Classes,
    nodes: &[NodeEntry],
) -> (RuleSet, Vec<Use>) {
    let mut layout = Layout::default();
    let mut set = RuleSet {
        policies: policies.iter().map(|(index, _)| *index).collect(),
        class_count: classes.len() as u32,
        ..RuleSet::default()
    };
    for &(policy, read) in policies {
        for (index, rule) in (0u32..).zip(read.rules(direction).unwrap_or_default()) {
            set.rules.push((RuleRef { policy, index }, rule.action));
            layout.add(rule, classes, nodes);
        }
    }
    let mut interned = Interned { rules: &layout.rules, numbers: HashMap::new(), port_rules: Vec::new() };
    let positions = |rules: &BTreeSet<u32>| rules.iter().copied().collect();
    if !layout.everybody.is_empty() {
        set.everybody = Some(interned.number(layout.everybody));
    }
    set.by_class = layout.by_class.into_iter().map(|(class, rules)| (class, interned.number(rules))).collect();
    set.by_address = AddressRules::build(&layout.blocks, |rules| interned.number(positions(rules)));
    set.by_name =
        NameRules::build(layout.by_name.into_iter().map(|(pattern, rules)| (pattern, interned.number(rules))));
    set.port_rules = interned.port_rules;
    (set, layout.uses)
}

/// The rules by what they say about peers. Positions ascend in every list, and none stands twice.
#[derive(Default)]
struct Layout<'a> {
    rules: Vec<&'a Rule>,
    everybody: Vec<u32>,
    by_class: BTreeMap<PeerClass, Vec<u32>>,
    blocks: Vec<(u32, Block)>,
    by_name: BTreeMap<NamePattern, Vec<u32>>,
    uses: Vec<Use>,
}

impl<'a> Layout<'a> {
    fn add(&mut self, rule: &'a Rule, classes: &Classes, nodes: &[NodeEntry]) {
        let position = self.rules.len() as u32;
        self.rules.push(rule);
        let note = |rules: &mut Vec<u32>| {
            if rules.last() != Some(&position) {
                rules.push(position);
            }
        };
        for peer in &rule.peers {
            match peer {
                Peer::Everybody => note(&mut self.everybody),
                Peer::Pods(peer) => {
                    let peer = classes.number(peer);
                    self.uses.push((peer, position));
                    classes.of_peer(peer).iter().for_each(|class| note(self.by_class.entry(*class).or_default()));
                }
                Peer::Nodes(selector) => {
                    self.blocks.extend(node_blocks(selector, nodes).map(|block| (position, block)))
                }
                Peer::Addresses(block) => self.blocks.push((position, block.clone())),
                Peer::Names(pattern) => note(self.by_name.entry(pattern.clone()).or_default()),
            }
        }
    }
}

/// The addresses of the nodes that match. To a pod, a process of its own node comes from the gateway's.
fn node_blocks(selector: &Selector, nodes: &[NodeEntry]) -> impl Iterator<Item = Block> {
    let matching = nodes.iter().filter(|node| selector.selects(&node.labels));
    let addresses = matching.flat_map(|node| node.addresses.iter().copied().chain(node.gateways()));
    addresses.map(|address| Block { cidr: IpNet::from(address), except: Vec::new() })
}

/// Port rules of a rule set, one for each list of rules that occurs.
struct Interned<'a> {
    rules: &'a [&'a Rule],
    numbers: HashMap<Vec<u32>, PortRulesIndex>,
    port_rules: Vec<PortRules>,
}

impl Interned<'_> {
    /// The number of the port rules of the rules at `positions`, which ascend.
    fn number(&mut self, positions: Vec<u32>) -> PortRulesIndex {
        if let Some(&number) = self.numbers.get(&positions) {
            return number;
        }
        let number = PortRulesIndex(self.port_rules.len() as u32);
        let matches = positions
            .iter()
            .flat_map(|&position| self.rules[position as usize].ports.iter().map(move |port| (position, port)));
        self.port_rules.push(PortRules::build(matches));
        self.numbers.insert(positions, number);
        number
    }
}
