//! Policies in the form that a verdict is looked up in.
//!
//! Pods that no selector can tell apart share an *identity*: the same namespace and the same values under every label key
//! that some selector reads. Identities that no rule's peer tells apart share a *peer class*. The policies of one tier that select
//! the same pods in a direction make a [`RuleSet`]; a [`Selection`] says which sets of which tiers hold for an identity, so that a
//! policy that selects everything does not multiply the sets of those that select little. In a rule set, a peer is
//! looked up four ways, each once: rules for everybody, rules by the peer's class, by its address (CIDRs and nodes), by its DNS
//! names. Each way leads to a [`PortRules`], which finds the first rule for a protocol and port. So a verdict costs the same however
//! many policies and pods there are.
//!
//! Which policies are in force is a [`View`]. A selection has its sets for each view: with the policies in dry run, and without
//! those that keep established flows. Where none of those selects a pod, the views have the very same sets.

mod addresses;
mod late;
mod names;
mod ports;
mod selection;

pub(crate) use addresses::{AddressRules, Block};
pub(crate) use late::LateClass;
pub(crate) use names::{NamePattern, NameRules};
pub(crate) use ports::{PortMatch, PortRules, PortRulesIndex};
pub(crate) use selection::{Selection, SelectionIndex, SetIndex, TierSets, View};

use crate::tables::{Action, ContainerPort, Direction, PodIndex, PolicyIndex, RuleRef};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use wire::Protocol;

/// Number of a group of pods that no selector tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Identity(pub(crate) u32);

/// Number of a group of identities that no peer of a rule tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PeerClass(pub(crate) u32);

/// A flow as rules see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow<'a> {
    /// The address at the other end.
    pub(crate) peer: IpAddr,
    /// Set if a pod owns that address.
    pub(crate) class: Option<PeerClass>,
    /// DNS names that the subject knows the address by.
    pub(crate) names: &'a [Arc<str>],
    pub(crate) protocol: Protocol,
    /// The receiver's port.
    pub(crate) port: u16,
    /// The ports that the receiving pod names.
    pub(crate) receiver_ports: &'a [ContainerPort],
}

/// The rules of all policies of a tier that select a pod in one direction.
#[derive(Debug, Default)]
pub(crate) struct RuleSet {
    /// In order of evaluation.
    pub(crate) policies: Vec<PolicyIndex>,
    /// In order of evaluation; [`PortRules`] name them by position.
    pub(crate) rules: Vec<(RuleRef, Action)>,
    pub(crate) everybody: Option<PortRulesIndex>,
    /// Classes that there were when the set was built: `by_class` speaks of no others.
    pub(crate) class_count: u32,
    pub(crate) by_class: BTreeMap<PeerClass, PortRulesIndex>,
    pub(crate) by_address: AddressRules,
    pub(crate) by_name: NameRules,
    pub(crate) port_rules: Vec<PortRules>,
}

impl RuleSet {
    /// The first rule, in order of evaluation, that matches the flow, and what it does. `late` are the rules for the peer's
    /// class if that is younger than the set.
    #[inline]
    fn find(&self, flow: &Flow<'_>, late: Option<&PortRules>) -> Option<(RuleRef, Action)> {
        let by_class = flow.class.and_then(|class| self.by_class.get(&class).copied());
        let ways = [self.everybody, by_class, self.by_address.find(flow.peer)];
        let ways = ways.into_iter().flatten().filter_map(|index| self.of_port(index, flow));
        let late = late.and_then(|rules| rules.find(flow.protocol, flow.port, flow.receiver_ports));
        let mut first = ways.chain(late).min();
        if !flow.names.is_empty() && !self.by_name.is_empty() {
            let by_name = self.by_name.find(flow.names).filter_map(|index| self.of_port(index, flow));
            first = first.into_iter().chain(by_name).min();
        }
        first.map(|position| self.rules[position as usize])
    }

    #[inline]
    fn of_port(&self, index: PortRulesIndex, flow: &Flow<'_>) -> Option<u32> {
        self.port_rules[index.0 as usize].find(flow.protocol, flow.port, flow.receiver_ports)
    }
}

/// Which rule sets apply to which pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuleSets {
    pub(crate) sets: Vec<Arc<RuleSet>>,
    pub(crate) selections: Vec<Selection>,
    /// Classes from this one on came after some of the sets.
    pub(crate) first_late: u32,
    /// By class, from `first_late` on.
    pub(crate) late: Vec<Arc<LateClass>>,
    /// By pod.
    pub(crate) identities: Vec<Identity>,
    /// By identity.
    pub(crate) classes: Vec<PeerClass>,
    /// By identity: the selection of each direction, `None` where no policy selects the pods.
    pub(crate) from_pod: Vec<Option<SelectionIndex>>,
    pub(crate) to_pod: Vec<Option<SelectionIndex>>,
    /// By identity: equal numbers where the sets in force and the class are the same.
    pub(crate) alike: Vec<u32>,
}

impl RuleSets {
    #[inline]
    pub(crate) fn identity(&self, pod: PodIndex) -> Identity {
        self.identities[pod.0 as usize]
    }

    #[inline]
    pub(crate) fn class(&self, pod: PodIndex) -> PeerClass {
        self.classes[self.identity(pod).0 as usize]
    }

    /// The selection of a pod; `None` if no policy selects it.
    #[inline]
    pub(crate) fn of_pod(&self, direction: Direction, pod: PodIndex) -> Option<&Selection> {
        let selections = match direction {
            Direction::FromPod => &self.from_pod,
            Direction::ToPod => &self.to_pod,
        };
        let selection = selections[self.identity(pod).0 as usize]?;
        Some(&self.selections[selection.0 as usize])
    }

    /// By identity, the selections of a direction.
    pub(crate) fn selections_of(&mut self, direction: Direction) -> &mut Vec<Option<SelectionIndex>> {
        match direction {
            Direction::FromPod => &mut self.from_pod,
            Direction::ToPod => &mut self.to_pod,
        }
    }

    #[inline]
    pub(crate) fn set(&self, index: SetIndex) -> &RuleSet {
        &self.sets[index.0 as usize]
    }

    /// The first rule of a set, in order of evaluation, that matches the flow, and what it does.
    #[inline]
    pub(crate) fn find(&self, index: SetIndex, flow: &Flow<'_>) -> Option<(RuleRef, Action)> {
        let set = self.set(index);
        let late = flow.class.filter(|class| class.0 >= set.class_count);
        let late = late.and_then(|class| self.late[(class.0 - self.first_late) as usize].of_set(index));
        set.find(flow, late)
    }
}
