//! Reading a NetworkPolicy, as the API reference of `NetworkPolicySpec` has it.

use super::read::{Namespaces, Peer, PodsPeer, Policy, Rule};
use crate::compile::pods::protocol;
use crate::objects::{Kind, closed_rules, is_dry_run, keeps_established};
use crate::rules::{Block, PortMatch};
use crate::selector::Selector;
use crate::tables::{Action, PolicyEntry, PolicyId, PolicyObject, Tier};
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::sync::Arc;

pub(super) fn read(namespace: &Arc<str>, name: &Arc<str>, policy: &Arc<NetworkPolicy>) -> Policy {
    let entry = PolicyEntry {
        id: PolicyId::of(Kind::NetworkPolicy, namespace, name),
        tier: Tier::NetworkPolicy,
        priority: 0,
        namespace: namespace.clone(),
        name: name.clone(),
        dry_run: is_dry_run(&policy.metadata),
        keeps_established: keeps_established(&policy.metadata),
        object: PolicyObject::NetworkPolicy(policy.clone()),
    };
    let spec = policy.spec.as_ref();
    let selector = spec.and_then(|spec| spec.pod_selector.as_ref()).map(Selector::compile).unwrap_or_default();
    let subject = PodsPeer { namespaces: Namespaces::Own(namespace.to_string()), pods: selector };
    let mut read = Policy { entry, subject, to_pod: None, from_pod: None, mistakes: Vec::new() };
    let Some(spec) = spec else {
        read.to_pod = Some(Vec::new());
        return read;
    };
    let is_closed = closed_rules(&policy.metadata);
    let types = spec.policy_types.iter().flatten().map(String::as_str).collect::<Vec<_>>();
    // Absent policyTypes: ingress always, egress if there are egress rules (N03).
    let isolates_to_pod = types.is_empty() || types.contains(&"Ingress");
    let isolates_from_pod = if types.is_empty() {
        spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())
    } else {
        types.contains(&"Egress")
    };
    if isolates_to_pod {
        let rules = spec.ingress.iter().flatten().map(|rule| (&rule.from, &rule.ports));
        read.to_pod = Some(read.read_rules("ingress", "from", rules, &is_closed));
    }
    if isolates_from_pod {
        let rules = spec.egress.iter().flatten().map(|rule| (&rule.to, &rule.ports));
        read.from_pod = Some(read.read_rules("egress", "to", rules, &is_closed));
    }
    read
}

/// Peers and ports of a rule, both optional.
type Parts<'a> = (&'a Option<Vec<NetworkPolicyPeer>>, &'a Option<Vec<NetworkPolicyPort>>);

impl Policy {
    fn read_rules<'a>(
        &mut self,
        list: &str,
        peers_field: &str,
        rules: impl Iterator<Item = Parts<'a>>,
        is_closed: &impl Fn(&str, usize) -> bool,
    ) -> Vec<Rule> {
        let rules = rules.enumerate().map(|(index, parts)| {
            if is_closed(list, index) {
                Rule::closed(Action::Accept)
            } else {
                self.read_rule(&format!("spec.{list}[{index}]"), peers_field, parts)
            }
        });
        rules.collect()
    }

    fn read_rule(&mut self, field: &str, peers_field: &str, (peers, ports): Parts<'_>) -> Rule {
        let (mut read_peers, mut read_ports, mut mistakes) = (Vec::new(), Vec::new(), Vec::new());
        match peers.as_deref().unwrap_or_default() {
            [] => read_peers.push(Peer::Everybody),
            peers => {
                for (position, peer) in peers.iter().enumerate() {
                    match read_peer(&self.entry.namespace, peer) {
                        Ok(peer) => read_peers.push(peer),
                        Err((part, message)) => mistakes.push((format!(".{peers_field}[{position}]{part}"), message)),
                    }
                }
            }
        }
        match ports.as_deref().unwrap_or_default() {
            [] => read_ports.push(PortMatch::Everything),
            ports => {
                for (position, port) in ports.iter().enumerate() {
                    match read_port(port) {
                        Ok(port) => read_ports.push(port),
                        Err(message) => mistakes.push((format!(".ports[{position}]"), message)),
                    }
                }
            }
        }
        Rule::of(field, Action::Accept, (read_peers, read_ports), mistakes, &mut self.mistakes)
    }
}

fn read_peer(namespace: &str, peer: &NetworkPolicyPeer) -> Result<Peer, (&'static str, String)> {
    match (&peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
        (Some(block), None, None) => Ok(Peer::Addresses(read_block(block)?)),
        (Some(_), ..) => Err(("", "ipBlock stands beside a selector".into())),
        (None, None, None) => Err(("", "has neither ipBlock nor a selector".into())),
        (None, namespaces, pods) => Ok(Peer::Pods(PodsPeer {
            namespaces: match namespaces {
                Some(selector) => Namespaces::Matching(Selector::compile(selector)),
                None => Namespaces::Own(namespace.to_owned()),
            },
            pods: pods.as_ref().map(Selector::compile).unwrap_or_default(),
        })),
    }
}

fn read_block(block: &IPBlock) -> Result<Block, (&'static str, String)> {
    let cidr = block.cidr.parse::<IpNet>();
    let cidr = cidr.map_err(|_| (".ipBlock.cidr", format!("{:?} is not a CIDR", block.cidr)))?.trunc();
    let mut except = Vec::new();
    for text in block.except.iter().flatten() {
        let net = text.parse::<IpNet>();
        except.push(net.map_err(|_| (".ipBlock.except", format!("{text:?} is not a CIDR")))?.trunc());
    }
    Ok(Block { cidr, except })
}

fn read_port(port: &NetworkPolicyPort) -> Result<PortMatch, String> {
    let protocol = protocol(port.protocol.as_deref())
        .ok_or_else(|| format!("unknown protocol {:?}", port.protocol.as_deref().unwrap_or_default()))?;
    let number = |number: i32| u16::try_from(number).map_err(|_| format!("{number} is not a port"));
    match (&port.port, port.end_port) {
        (None, None) => Ok(PortMatch::Range(protocol, 0..=u16::MAX)),
        (None, Some(_)) => Err("endPort without port".into()),
        (Some(IntOrString::Int(start)), end) => {
            let start = number(*start)?;
            let end = end.map_or(Ok(start), number)?;
            if end < start {
                Err(format!("endPort {end} is below port {start}"))
            } else {
                Ok(PortMatch::Range(protocol, start..=end))
            }
        }
        (Some(IntOrString::String(name)), None) => Ok(PortMatch::Named(Some(protocol), name.as_str().into())),
        (Some(IntOrString::String(_)), Some(_)) => Err("endPort beside a named port".into()),
    }
}
