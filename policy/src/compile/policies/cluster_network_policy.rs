//! Reading a ClusterNetworkPolicy, as the text of its types has it (v1alpha2 of the network-policy-api).

use super::read::{Mistake, Namespaces, Peer, PodsPeer, Policy, Rule};
use crate::objects::cluster_network_policy::{
    Action as WrittenAction, ClusterNetworkPolicy, EgressPeer, NamespacedPods, Port, Protocol as WrittenProtocol,
    Subject, Tier as WrittenTier, Transport,
};
use crate::objects::{Kind, Severity, closed_rules, is_dry_run, keeps_established};
use crate::rules::{Block, NamePattern, PortMatch};
use crate::selector::Selector;
use crate::tables::{Action, PolicyEntry, PolicyId, PolicyObject, Tier};
use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::sync::Arc;
use wire::Protocol;

pub(super) fn read(name: &Arc<str>, policy: &Arc<ClusterNetworkPolicy>) -> Policy {
    let spec = &policy.spec;
    let entry = PolicyEntry {
        id: PolicyId::of(Kind::ClusterNetworkPolicy, "", name),
        tier: match spec.tier {
            WrittenTier::Admin => Tier::Admin,
            WrittenTier::Baseline => Tier::Baseline,
        },
        // Validation keeps it between 0 and 1000.
        priority: spec.priority.clamp(0, i32::from(u16::MAX)) as u16,
        namespace: Arc::from(""),
        name: name.clone(),
        dry_run: is_dry_run(&policy.metadata),
        keeps_established: keeps_established(&policy.metadata),
        object: PolicyObject::ClusterNetworkPolicy(policy.clone()),
    };
    let mut mistakes = Vec::new();
    let Some(subject) = read_subject(&spec.subject) else {
        let message = "needs exactly one of namespaces and pods; nothing of the policy is in force".into();
        mistakes.push(Mistake { field: "spec.subject".into(), message, severity: Severity::Refused });
        return Policy { entry, subject: everybody(), to_pod: None, from_pod: None, mistakes };
    };
    let is_closed = closed_rules(&policy.metadata);
    let mut rule = |list: &str, index: usize, action, peers: (&str, Vec<EgressPeer>), protocols: &[WrittenProtocol]| {
        let action = read_action(action);
        if is_closed(list, index) {
            return Rule::closed(action);
        }
        read_rule(&format!("spec.{list}[{index}]"), action, peers, protocols, &mut mistakes)
    };
    let ingress = spec.ingress.iter().flatten().enumerate().map(|(index, written)| {
        // What may stand in `from` is a part of what may stand in `to`.
        let peers = written.from.iter().map(|peer| EgressPeer {
            namespaces: peer.namespaces.clone(),
            pods: peer.pods.clone(),
            ..EgressPeer::default()
        });
        let protocols = written.protocols.as_deref().unwrap_or_default();
        rule("ingress", index, written.action, ("from", peers.collect()), protocols)
    });
    let to_pod: Vec<Rule> = ingress.collect();
    let egress = spec.egress.iter().flatten().enumerate().map(|(index, written)| {
        let protocols = written.protocols.as_deref().unwrap_or_default();
        rule("egress", index, written.action, ("to", written.to.clone()), protocols)
    });
    let from_pod: Vec<Rule> = egress.collect();
    // "CNPs with no ingress rules do not affect ingress traffic", and so with egress.
    let (to_pod, from_pod) = ((!to_pod.is_empty()).then_some(to_pod), (!from_pod.is_empty()).then_some(from_pod));
    Policy { entry, subject, to_pod, from_pod, mistakes }
}

fn read_action(action: WrittenAction) -> Action {
    match action {
        WrittenAction::Accept => Action::Accept,
        WrittenAction::Deny => Action::Deny,
        WrittenAction::Pass => Action::Pass,
    }
}

fn everybody() -> PodsPeer {
    PodsPeer { namespaces: Namespaces::Matching(Selector::default()), pods: Selector::default() }
}

fn read_subject(subject: &Subject) -> Option<PodsPeer> {
    match (&subject.namespaces, &subject.pods) {
        (Some(namespaces), None) => Some(pods_of(namespaces)),
        (None, Some(pods)) => Some(read_pods(pods)),
        _ => None,
    }
}

/// All pods of the namespaces that match.
fn pods_of(namespaces: &LabelSelector) -> PodsPeer {
    PodsPeer { namespaces: Namespaces::Matching(Selector::compile(namespaces)), pods: Selector::default() }
}

fn read_pods(pods: &NamespacedPods) -> PodsPeer {
    let namespaces = pods.namespace_selector.as_ref().map(Selector::compile).unwrap_or_default();
    PodsPeer { namespaces: Namespaces::Matching(namespaces), pods: Selector::compile(&pods.pod_selector) }
}

fn read_rule(
    field: &str,
    action: Action,
    (peers_field, peers): (&str, Vec<EgressPeer>),
    protocols: &[WrittenProtocol],
    told: &mut Vec<Mistake>,
) -> Rule {
    let (mut read_peers, mut read_ports, mut mistakes) = (Vec::new(), Vec::new(), Vec::new());
    for (position, peer) in peers.iter().enumerate() {
        match read_peer(action, peer) {
            Ok(peers) => read_peers.extend(peers),
            Err((part, message)) => mistakes.push((format!(".{peers_field}[{position}]{part}"), message)),
        }
    }
    if peers.is_empty() {
        mistakes.push((format!(".{peers_field}"), "names nobody".into()));
    }
    for (position, protocol) in protocols.iter().enumerate() {
        match read_protocol(protocol) {
            Ok(port) => read_ports.push(port),
            Err((part, message)) => mistakes.push((format!(".protocols[{position}]{part}"), message)),
        }
    }
    if protocols.is_empty() {
        read_ports.push(PortMatch::Everything);
    }
    Rule::of(field, action, (read_peers, read_ports), mistakes, told)
}

/// Where below a peer or protocol something is wrong, and what.
type Wrong = (&'static str, String);

/// The one thing that a peer says, which may be a list.
fn read_peer(action: Action, peer: &EgressPeer) -> Result<Vec<Peer>, Wrong> {
    let EgressPeer { namespaces, pods, nodes, networks, domain_names } = peer;
    match (namespaces, pods, nodes, networks, domain_names) {
        (Some(namespaces), None, None, None, None) => Ok(vec![Peer::Pods(pods_of(namespaces))]),
        (None, Some(pods), None, None, None) => Ok(vec![Peer::Pods(read_pods(pods))]),
        (None, None, Some(nodes), None, None) => Ok(vec![Peer::Nodes(Selector::compile(nodes))]),
        (None, None, None, Some(networks), None) => networks.iter().map(|text| read_network(text)).collect(),
        (None, None, None, None, Some(names)) if action == Action::Accept => {
            names.iter().map(|text| read_name(text)).collect()
        }
        (None, None, None, None, Some(_)) => Err((".domainNames", "is for rules that accept".into())),
        _ => Err(("", "needs exactly one field that is understood".into())),
    }
}

fn read_network(text: &str) -> Result<Peer, Wrong> {
    let cidr = text.parse::<IpNet>().map_err(|_| (".networks", format!("{text:?} is not a CIDR")))?;
    Ok(Peer::Addresses(Block { cidr: cidr.trunc(), except: Vec::new() }))
}

fn read_name(text: &str) -> Result<Peer, Wrong> {
    let pattern = NamePattern::read(text);
    pattern.map(Peer::Names).ok_or_else(|| (".domainNames", format!("{text:?} is not a domain name")))
}

fn read_protocol(written: &WrittenProtocol) -> Result<PortMatch, Wrong> {
    let WrittenProtocol { tcp, udp, sctp, destination_named_port } = written;
    match (tcp, udp, sctp, destination_named_port) {
        (Some(tcp), None, None, None) => read_transport(Protocol::TCP, tcp).map_err(|message| (".tcp", message)),
        (None, Some(udp), None, None) => read_transport(Protocol::UDP, udp).map_err(|message| (".udp", message)),
        (None, None, Some(sctp), None) => read_transport(Protocol::SCTP, sctp).map_err(|message| (".sctp", message)),
        (None, None, None, Some(name)) if !name.is_empty() => Ok(PortMatch::Named(None, name.as_str().into())),
        _ => Err(("", "needs exactly one field that is understood".into())),
    }
}

fn read_transport(protocol: Protocol, transport: &Transport) -> Result<PortMatch, String> {
    let Some(Port { number, range }) = &transport.destination_port else {
        return Err("has no field that is understood".into());
    };
    let (start, end) = match (number, range) {
        (Some(number), None) => (*number, *number),
        (None, Some(range)) => (range.start, range.end),
        _ => return Err("destinationPort needs exactly one of number and range".into()),
    };
    let is_port = |number: &i32| (1..=i32::from(u16::MAX)).contains(number);
    match (u16::try_from(start), u16::try_from(end)) {
        (Ok(first), Ok(last)) if is_port(&start) && start <= end => Ok(PortMatch::Range(protocol, first..=last)),
        _ => Err(format!("{start} to {end} are no ports")),
    }
}
