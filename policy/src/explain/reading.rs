//! Rules of policies of both kinds in one shape, as they were written, and whether a flow matches them. Literal and slow.

use super::Flow;
use crate::objects::cluster_network_policy::{
    self as cluster, EgressPeer, EgressRule, IngressPeer, IngressRule, NamespacedPods, Transport,
};
use crate::objects::{ClusterNetworkPolicy, closed_rules};
use crate::selector::Selector;
use crate::tables::{Action, ContainerPort, Direction, NodeEntry, Owner, PodEntry, PolicyEntry, PolicyObject};
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A rule of spec.ingress or spec.egress.
pub(super) struct Rule<'a> {
    /// Of a ClusterNetworkPolicy, if it has one.
    pub(super) name: Option<&'a str>,
    pub(super) action: Action,
    /// Any of them; everybody if there is none.
    pub(super) peers: Vec<Peer<'a>>,
    /// Any of them; everything if there is none.
    pub(super) ports: Vec<Port<'a>>,
    /// What the fields of both are called.
    pub(super) peers_field: &'static str,
    pub(super) ports_field: &'static str,
    /// It holds a field that is not understood.
    pub(super) closed: bool,
}

pub(super) enum Peer<'a> {
    /// Pods; without a selector all of them, in the policy's own namespace or in those that a selector matches.
    Pods { namespaces: Namespaces<'a>, pods: Option<&'a LabelSelector> },
    /// ipBlock.
    Block { cidr: &'a str, except: &'a [String] },
    /// The addresses of nodes.
    Nodes(&'a LabelSelector),
    /// CIDRs.
    Networks(&'a [String]),
    /// DNS names.
    Names(&'a [String]),
    /// Nothing that is understood.
    Unknown,
}

pub(super) enum Namespaces<'a> {
    /// The policy's.
    Own(&'a str),
    Matching(&'a LabelSelector),
    All,
}

/// What is said of a protocol and the receiver's port.
pub(super) enum Port<'a> {
    /// Every port of a protocol.
    Every(&'a str),
    Range(&'a str, i32, i32),
    /// The ports that the receiver gives a name; without a protocol those of any.
    Named(Option<&'a str>, &'a str),
    /// Nothing that is understood.
    Unknown,
}

/// The rules of a policy in a direction.
pub(super) fn rules(policy: &PolicyEntry, direction: Direction) -> Vec<Rule<'_>> {
    match &policy.object {
        PolicyObject::NetworkPolicy(object) => of_namespace(object, &policy.namespace, direction),
        PolicyObject::ClusterNetworkPolicy(object) => of_cluster(object, direction),
    }
}

fn of_namespace<'a>(policy: &'a NetworkPolicy, namespace: &'a str, direction: Direction) -> Vec<Rule<'a>> {
    let Some(spec) = &policy.spec else { return Vec::new() };
    let is_closed = closed_rules(&policy.metadata);
    let read =
        |index: usize, peers: &'a Option<Vec<NetworkPolicyPeer>>, ports: &'a Option<Vec<NetworkPolicyPort>>| Rule {
            name: None,
            action: Action::Accept,
            peers: peers.iter().flatten().map(|peer| of_namespace_peer(peer, namespace)).collect(),
            ports: ports.iter().flatten().map(of_namespace_port).collect(),
            peers_field: match direction {
                Direction::ToPod => "from",
                Direction::FromPod => "to",
            },
            ports_field: "ports",
            closed: is_closed(super::list(direction), index),
        };
    match direction {
        Direction::ToPod => spec
            .ingress
            .iter()
            .flatten()
            .enumerate()
            .map(|(index, rule)| read(index, &rule.from, &rule.ports))
            .collect(),
        Direction::FromPod => {
            spec.egress.iter().flatten().enumerate().map(|(index, rule)| read(index, &rule.to, &rule.ports)).collect()
        }
    }
}

fn of_namespace_peer<'a>(peer: &'a NetworkPolicyPeer, own: &'a str) -> Peer<'a> {
    match (&peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
        (Some(block), ..) => Peer::Block { cidr: &block.cidr, except: block.except.as_deref().unwrap_or_default() },
        (None, None, None) => Peer::Unknown,
        (None, namespaces, pods) => {
            let namespaces = namespaces.as_ref().map_or(Namespaces::Own(own), Namespaces::Matching);
            Peer::Pods { namespaces, pods: pods.as_ref() }
        }
    }
}

fn of_namespace_port(port: &NetworkPolicyPort) -> Port<'_> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match &port.port {
        None => Port::Every(protocol),
        Some(IntOrString::Int(first)) => Port::Range(protocol, *first, port.end_port.unwrap_or(*first)),
        Some(IntOrString::String(name)) => Port::Named(Some(protocol), name),
    }
}

fn of_cluster(policy: &ClusterNetworkPolicy, direction: Direction) -> Vec<Rule<'_>> {
    let is_closed = closed_rules(&policy.metadata);
    let mut rules: Vec<Rule<'_>> = match direction {
        Direction::ToPod => policy.spec.ingress.iter().flatten().map(of_cluster_ingress).collect(),
        Direction::FromPod => policy.spec.egress.iter().flatten().map(of_cluster_egress).collect(),
    };
    for (index, rule) in rules.iter_mut().enumerate() {
        rule.closed = is_closed(super::list(direction), index);
    }
    rules
}

fn of_cluster_ingress(rule: &IngressRule) -> Rule<'_> {
    Rule {
        name: rule.name.as_deref(),
        action: rule.action.into(),
        peers: rule.from.iter().map(of_ingress_peer).collect(),
        ports: of_protocols(rule.protocols.as_deref()),
        peers_field: "from",
        ports_field: "protocols",
        closed: false,
    }
}

fn of_cluster_egress(rule: &EgressRule) -> Rule<'_> {
    Rule {
        name: rule.name.as_deref(),
        action: rule.action.into(),
        peers: rule.to.iter().map(of_egress_peer).collect(),
        ports: of_protocols(rule.protocols.as_deref()),
        peers_field: "to",
        ports_field: "protocols",
        closed: false,
    }
}

impl From<cluster::Action> for Action {
    fn from(action: cluster::Action) -> Action {
        match action {
            cluster::Action::Accept => Action::Accept,
            cluster::Action::Deny => Action::Deny,
            cluster::Action::Pass => Action::Pass,
        }
    }
}

fn of_ingress_peer(peer: &IngressPeer) -> Peer<'_> {
    of_pods(peer.namespaces.as_ref(), peer.pods.as_ref()).unwrap_or(Peer::Unknown)
}

fn of_egress_peer(peer: &EgressPeer) -> Peer<'_> {
    let EgressPeer { namespaces, pods, nodes, networks, domain_names } = peer;
    let pods = of_pods(namespaces.as_ref(), pods.as_ref());
    let nodes = || nodes.as_ref().map(Peer::Nodes);
    let networks = || networks.as_deref().map(Peer::Networks);
    let names = || domain_names.as_deref().map(Peer::Names);
    pods.or_else(nodes).or_else(networks).or_else(names).unwrap_or(Peer::Unknown)
}

fn of_pods<'a>(namespaces: Option<&'a LabelSelector>, pods: Option<&'a NamespacedPods>) -> Option<Peer<'a>> {
    let all = namespaces.map(|selector| Peer::Pods { namespaces: Namespaces::Matching(selector), pods: None });
    all.or_else(|| {
        let NamespacedPods { namespace_selector, pod_selector } = pods?;
        let namespaces = namespace_selector.as_ref().map_or(Namespaces::All, Namespaces::Matching);
        Some(Peer::Pods { namespaces, pods: Some(pod_selector) })
    })
}

fn of_protocols(protocols: Option<&[cluster::Protocol]>) -> Vec<Port<'_>> {
    protocols.unwrap_or_default().iter().map(of_protocol).collect()
}

fn of_protocol(protocol: &cluster::Protocol) -> Port<'_> {
    let cluster::Protocol { tcp, udp, sctp, destination_named_port } = protocol;
    let transport = [("TCP", tcp), ("UDP", udp), ("SCTP", sctp)];
    let transport = transport.into_iter().find_map(|(name, transport)| Some((name, transport.as_ref()?)));
    match (transport, destination_named_port) {
        (Some((name, transport)), _) => of_transport(name, transport),
        (None, Some(port)) => Port::Named(None, port),
        (None, None) => Port::Unknown,
    }
}

fn of_transport(protocol: &'static str, transport: &Transport) -> Port<'static> {
    match transport.destination_port.as_ref().map(|port| (port.number, port.range)) {
        None => Port::Every(protocol),
        Some((Some(number), _)) => Port::Range(protocol, number, number),
        Some((None, Some(range))) => Port::Range(protocol, range.start, range.end),
        Some((None, None)) => Port::Unknown,
    }
}

impl Rule<'_> {
    /// Whether one of its peers is the other end of the flow.
    pub(super) fn matches_peer(&self, flow: &Flow<'_>) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|peer| peer.matches(flow))
    }

    /// Whether the flow is of one of its protocols and ports.
    pub(super) fn matches_port(&self, flow: &Flow<'_>) -> bool {
        self.ports.is_empty() || self.ports.iter().any(|port| port.matches(flow))
    }
}

impl Peer<'_> {
    fn matches(&self, flow: &Flow<'_>) -> bool {
        let addr = flow.question.peer;
        let holds = |text: &str| text.parse::<IpNet>().is_ok_and(|net| net.contains(&addr));
        match self {
            Peer::Block { cidr, except } => holds(cidr) && !except.iter().any(|except| holds(except)),
            Peer::Networks(networks) => networks.iter().any(|network| holds(network)),
            Peer::Nodes(selector) => {
                flow.peer_node().is_some_and(|node| Selector::compile(selector).selects(&node.labels))
            }
            Peer::Pods { namespaces, pods } => flow.peer_pod().is_some_and(|pod| {
                let labels = flow.tables.namespace_labels(&pod.namespace).cloned().unwrap_or_default();
                let in_namespace = match namespaces {
                    Namespaces::Own(own) => *pod.namespace == **own,
                    Namespaces::Matching(selector) => Selector::compile(selector).selects(&labels),
                    Namespaces::All => true,
                };
                in_namespace && pods.is_none_or(|selector| Selector::compile(selector).selects(&pod.labels))
            }),
            // Names are known to the tables alone, and a rule that they match is not looked at.
            Peer::Names(_) | Peer::Unknown => false,
        }
    }
}

impl Port<'_> {
    fn matches(&self, flow: &Flow<'_>) -> bool {
        let (protocol, asked) = (flow.question.protocol, flow.question.port);
        let is_protocol = |text: &str| text == protocol.to_string();
        match self {
            Port::Every(of) => is_protocol(of),
            Port::Range(of, first, last) => is_protocol(of) && (*first..=*last).contains(&i32::from(asked)),
            Port::Named(of, name) => {
                of.is_none_or(is_protocol)
                    && flow.named(*of, name).any(|port| (port.protocol, port.port) == (protocol, asked))
            }
            Port::Unknown => false,
        }
    }
}

impl<'a> Flow<'a> {
    /// The other end, if it is a pod with an address of its own.
    pub(super) fn peer_pod(&self) -> Option<&'a PodEntry> {
        match self.tables.owner(self.question.peer) {
            Some(Owner::Pod(pod)) => Some(self.tables.pod(pod)),
            _ => None,
        }
    }

    /// The other end, if it is a node.
    pub(super) fn peer_node(&self) -> Option<&'a NodeEntry> {
        match self.tables.owner(self.question.peer) {
            Some(Owner::Node(node)) => Some(self.tables.node(node)),
            _ => None,
        }
    }

    /// The ports of the receiver that have this name.
    pub(super) fn named<'n>(
        &'n self,
        protocol: Option<&'n str>,
        name: &'n str,
    ) -> impl Iterator<Item = &'a ContainerPort> + use<'n, 'a> {
        let ports: &'a [ContainerPort] = match self.question.direction {
            Direction::ToPod => &self.tables.pod(self.question.subject).ports,
            Direction::FromPod => self.peer_pod().map_or(&[], |receiver| &receiver.ports),
        };
        let is_protocol = move |port: &ContainerPort| protocol.is_none_or(|text| text == port.protocol.to_string());
        ports.iter().filter(move |port| *port.name == *name && is_protocol(port))
    }
}
