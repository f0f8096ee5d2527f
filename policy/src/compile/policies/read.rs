//! A policy read once: whom it selects, and its rules in the form in which both kinds of policies are compiled.
//!
//! A rule that cannot be understood is closed (N16): it matches nothing if it accepts, and else denies everything. Validation
//! refuses most such objects; what reaches this place without it closes all the same.

use crate::objects::Severity;
use crate::rules::{Block, NamePattern, PortMatch};
use crate::selector::Selector;
use crate::tables::{Action, Direction, PolicyEntry};

/// A policy as it is compiled. It says nothing about others, so it holds as long as its object does.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) entry: PolicyEntry,
    pub(super) subject: PodsPeer,
    /// `None` where it does not select pods in that direction.
    pub(super) to_pod: Option<Vec<Rule>>,
    pub(super) from_pod: Option<Vec<Rule>>,
    /// Fields that cannot be understood, with what follows from that.
    pub(super) mistakes: Vec<Mistake>,
}

/// A field that cannot be understood.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) field: String,
    pub(super) message: String,
    pub(super) severity: Severity,
}

/// One rule of spec.ingress or spec.egress.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) action: Action,
    pub(super) peers: Vec<Peer>,
    pub(super) ports: Vec<PortMatch>,
}

#[derive(Debug)]
pub(super) enum Peer {
    Everybody,
    Pods(PodsPeer),
    /// The addresses of the nodes that match.
    Nodes(Selector),
    Addresses(Block),
    Names(NamePattern),
}

/// Pods of the namespaces that a selector matches, or of one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PodsPeer {
    pub(super) namespaces: Namespaces,
    pub(super) pods: Selector,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Namespaces {
    Own(String),
    Matching(Selector),
}

impl Rule {
    /// A closed rule.
    pub(super) fn closed(action: Action) -> Rule {
        match action {
            Action::Accept => Rule { action, peers: Vec::new(), ports: Vec::new() },
            Action::Deny | Action::Pass => {
                Rule { action: Action::Deny, peers: vec![Peer::Everybody], ports: vec![PortMatch::Everything] }
            }
        }
    }

    /// A rule at `field` of these peers and ports, or a closed one if `mistakes` were made in it. They are told.
    pub(super) fn of(
        field: &str,
        action: Action,
        (peers, ports): (Vec<Peer>, Vec<PortMatch>),
        mistakes: Vec<(String, String)>,
        told: &mut Vec<Mistake>,
    ) -> Rule {
        if mistakes.is_empty() {
            return Rule { action, peers, ports };
        }
        let closure = if action == Action::Accept { "matches nothing" } else { "denies everything" };
        told.extend(mistakes.into_iter().map(|(at, message)| Mistake {
            field: format!("{field}{at}"),
            message: format!("{message}; {field} {closure}"),
            severity: Severity::Closed,
        }));
        Rule::closed(action)
    }
}

impl Policy {
    /// The rules of a direction; `None` if the policy does not select pods in it.
    pub(super) fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::ToPod => self.to_pod.as_deref(),
            Direction::FromPod => self.from_pod.as_deref(),
        }
    }

    /// Every selector of pods in the policy.
    pub(super) fn pod_selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.subject.pods).chain(self.pods_peers().map(|peer| &peer.pods))
    }

    /// Every peer that is found by selectors of pods.
    pub(super) fn pods_peers(&self) -> impl Iterator<Item = &PodsPeer> {
        let rules = self.to_pod.iter().chain(&self.from_pod).flatten();
        rules.flat_map(|rule| &rule.peers).filter_map(|peer| match peer {
            Peer::Pods(peer) => Some(peer),
            Peer::Everybody | Peer::Nodes(_) | Peer::Addresses(_) | Peer::Names(_) => None,
        })
    }
}
