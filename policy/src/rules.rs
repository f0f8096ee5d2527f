//! NetworkPolicies in the form that a verdict is looked up in.
//!
//! Pods that no selector can tell apart share an *identity*: the same namespace and the same values under every label key
//! that some selector reads. Identities that no rule's peer tells apart share a *peer class*. Pods that the same policies
//! select in a direction share a *rule set*. In a rule set, a peer is looked up three ways, each once: rules for everybody,
//! rules by the peer's class, rules by the peer's address (ipBlock).
//! Each way leads to a [`PortRules`], which finds the rule for a protocol and port. So a verdict costs the same however many
//! policies and pods there are.

mod addresses;
mod ports;

pub(crate) use addresses::{AddressRules, Block};
pub(crate) use ports::{PortMatch, PortRules, PortRulesIndex};

use crate::tables::{ContainerPort, Direction, PodIndex, PolicyIndex, RuleRef};
use std::collections::HashMap;
use std::net::IpAddr;
use wire::Protocol;

/// Number of a group of pods that no selector tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Identity(pub(crate) u32);

/// Number of a group of identities that no peer of a rule tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PeerClass(pub(crate) u32);

/// The other end of a flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) addr: IpAddr,
    /// Set if a pod owns the address.
    pub(crate) class: Option<PeerClass>,
}

/// The rules of all policies that select a pod in one direction.
#[derive(Debug, Default)]
pub(crate) struct RuleSet {
    pub(crate) policies: Vec<PolicyIndex>,
    /// The rules in order; [`PortRules`] name them by position.
    pub(crate) rules: Vec<RuleRef>,
    pub(crate) everybody: Option<PortRulesIndex>,
    pub(crate) by_class: HashMap<PeerClass, PortRulesIndex>,
    pub(crate) by_address: AddressRules,
    pub(crate) port_rules: Vec<PortRules>,
}

impl RuleSet {
    /// The first rule, in order of policy and position, that allows the flow. `receiver_ports` are the ports that the
    /// receiving pod names.
    #[inline]
    pub(crate) fn find_rule(
        &self,
        peer: Peer,
        protocol: Protocol,
        dst_port: u16,
        receiver_ports: &[ContainerPort],
    ) -> Option<RuleRef> {
        let by_class = peer.class.and_then(|class| self.by_class.get(&class).copied());
        let by_address = self.by_address.find(peer.addr);
        let ways = [self.everybody, by_class, by_address].into_iter().flatten();
        let found = ways.filter_map(|index| self.port_rules[index.0 as usize].find(protocol, dst_port, receiver_ports));
        found.min().map(|position| self.rules[position as usize])
    }

    pub(crate) fn policies(&self) -> &[PolicyIndex] {
        &self.policies
    }
}

/// Which rule set applies to which pod.
#[derive(Debug, Default)]
pub(crate) struct RuleSets {
    pub(crate) sets: Vec<RuleSet>,
    /// By pod.
    pub(crate) identities: Vec<Identity>,
    /// By identity.
    pub(crate) classes: Vec<PeerClass>,
    /// By identity: the rule set of each direction, `None` where no policy selects the pods.
    pub(crate) from_pod: Vec<Option<u32>>,
    pub(crate) to_pod: Vec<Option<u32>>,
    /// By identity: equal numbers where rule sets and class are the same.
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

    /// The rule set of a pod; `None` if it is not isolated.
    #[inline]
    pub(crate) fn of_pod(&self, direction: Direction, pod: PodIndex) -> Option<&RuleSet> {
        let sets = match direction {
            Direction::FromPod => &self.from_pod,
            Direction::ToPod => &self.to_pod,
        };
        let set = sets[self.identity(pod).0 as usize]?;
        Some(&self.sets[set as usize])
    }
}
