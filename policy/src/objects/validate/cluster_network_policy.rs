//! ClusterNetworkPolicy, by the schema and the CEL rules of its CustomResourceDefinition (the experimental one, which has all
//! fields). Selectors are checked more closely than there: what cannot be made a selector cannot be enforced by anyone.
//!
//! A closed rule may lack what its unknown fields stand for: a peer with no field that is known is no mistake there.

use super::selector::validate_selector;
use super::{Findings, at, cidr, name, port_number};
use crate::objects::closed_rules;
use crate::objects::cluster_network_policy::{
    ClusterNetworkPolicy, EgressPeer, IngressPeer, NamespacedPods, Port, PortRange, Protocol, Transport,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeSet;

const PRIORITY_MAX: i32 = 1000;
/// Rules of a list, peers and protocols of a rule, networks and domainNames of a peer.
const ITEMS_MAX: usize = 25;
const RULE_NAME_MAX: usize = 100;
const NETWORK_MAX: usize = 43;

pub(super) fn validate_policy(policy: &ClusterNetworkPolicy, out: &mut Findings) {
    let spec = &policy.spec;
    let is_closed = closed_rules(&policy.metadata);
    if !(0..=PRIORITY_MAX).contains(&spec.priority) {
        out.add("spec.priority", format!("{} is not between 0 and {PRIORITY_MAX}", spec.priority));
    }
    let subject = [("namespaces", spec.subject.namespaces.is_some()), ("pods", spec.subject.pods.is_some())];
    exactly_one("spec.subject", &subject, false, out);
    validate_pods("spec.subject", spec.subject.namespaces.as_ref(), spec.subject.pods.as_ref(), out);

    validate_count("spec.ingress", spec.ingress.as_ref().map(Vec::len), 0, out);
    for (index, rule) in spec.ingress.iter().flatten().enumerate() {
        let (field, is_closed) = (at("spec.ingress", index), is_closed("ingress", index));
        validate_name(&field, rule.name.as_deref(), out);
        validate_count(&format!("{field}.from"), Some(rule.from.len()), 1, out);
        for (index, peer) in rule.from.iter().enumerate() {
            validate_ingress_peer(&at(format_args!("{field}.from"), index), peer, is_closed, out);
        }
        validate_protocols(&field, rule.protocols.as_deref(), is_closed, out);
    }
    validate_count("spec.egress", spec.egress.as_ref().map(Vec::len), 0, out);
    for (index, rule) in spec.egress.iter().flatten().enumerate() {
        let (field, is_closed) = (at("spec.egress", index), is_closed("egress", index));
        validate_name(&field, rule.name.as_deref(), out);
        validate_count(&format!("{field}.to"), Some(rule.to.len()), 1, out);
        for (index, peer) in rule.to.iter().enumerate() {
            validate_egress_peer(&at(format_args!("{field}.to"), index), peer, is_closed, out);
        }
        validate_protocols(&field, rule.protocols.as_deref(), is_closed, out);
        let no_pods =
            |peer: &EgressPeer| peer.networks.is_some() || peer.nodes.is_some() || peer.domain_names.is_some();
        let named = rule.protocols.iter().flatten().any(|protocol| protocol.destination_named_port.is_some());
        if named && rule.to.iter().any(no_pods) {
            out.add(
                field,
                "destinationNamedPort is not allowed with networks, nodes or domainNames: they have no named ports",
            );
        }
    }
}

/// Between `min` and [`ITEMS_MAX`] items, if there is a list.
fn validate_count(field: &str, count: Option<usize>, min: usize, out: &mut Findings) {
    match count {
        Some(count) if count > ITEMS_MAX => out.add(field, format!("{count} items, at most {ITEMS_MAX} are allowed")),
        Some(count) if count < min => out.add(field, "at least 1 item is required"),
        _ => {}
    }
}

fn exactly_one(field: &str, parts: &[(&str, bool)], may_lack: bool, out: &mut Findings) {
    let set: Vec<&str> = parts.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
    match set[..] {
        [] if may_lack => {}
        [] => {
            let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
            let one_of = if names.len() > 1 { "exactly one of " } else { "" };
            out.add(field, format!("required: {one_of}{}", names.join(", ")));
        }
        [_] => {}
        _ => out.add(field, format!("only one of {} is allowed", set.join(", "))),
    }
}

fn validate_name(rule: &str, name: Option<&str>, out: &mut Findings) {
    if name.is_some_and(|name| name.chars().count() > RULE_NAME_MAX) {
        out.add(format!("{rule}.name"), format!("longer than {RULE_NAME_MAX} characters"));
    }
}

fn validate_pods(field: &str, namespaces: Option<&LabelSelector>, pods: Option<&NamespacedPods>, out: &mut Findings) {
    if let Some(selector) = namespaces {
        validate_selector(&format!("{field}.namespaces"), selector, out);
    }
    let Some(pods) = pods else { return };
    if let Some(selector) = &pods.namespace_selector {
        validate_selector(&format!("{field}.pods.namespaceSelector"), selector, out);
    }
    validate_selector(&format!("{field}.pods.podSelector"), &pods.pod_selector, out);
}

fn validate_ingress_peer(field: &str, peer: &IngressPeer, is_closed: bool, out: &mut Findings) {
    let parts = [("namespaces", peer.namespaces.is_some()), ("pods", peer.pods.is_some())];
    exactly_one(field, &parts, is_closed, out);
    validate_pods(field, peer.namespaces.as_ref(), peer.pods.as_ref(), out);
}

fn validate_egress_peer(field: &str, peer: &EgressPeer, is_closed: bool, out: &mut Findings) {
    let parts = [
        ("namespaces", peer.namespaces.is_some()),
        ("pods", peer.pods.is_some()),
        ("nodes", peer.nodes.is_some()),
        ("networks", peer.networks.is_some()),
        ("domainNames", peer.domain_names.is_some()),
    ];
    exactly_one(field, &parts, is_closed, out);
    validate_pods(field, peer.namespaces.as_ref(), peer.pods.as_ref(), out);
    if let Some(selector) = &peer.nodes {
        validate_selector(&format!("{field}.nodes"), selector, out);
    }
    let network = |text: &str| {
        if text.chars().count() > NETWORK_MAX {
            return Err(format!("longer than {NETWORK_MAX} characters"));
        }
        cidr::block(text).map(drop)
    };
    validate_set(&format!("{field}.networks"), peer.networks.as_deref(), network, out);
    validate_set(&format!("{field}.domainNames"), peer.domain_names.as_deref(), name::domain_pattern, out);
}

/// 1 to [`ITEMS_MAX`] texts, none of them twice.
fn validate_set(field: &str, texts: Option<&[String]>, check: impl Fn(&str) -> Result<(), String>, out: &mut Findings) {
    validate_count(field, texts.map(<[String]>::len), 1, out);
    let mut seen = BTreeSet::new();
    for (index, text) in texts.unwrap_or_default().iter().enumerate() {
        out.check(at(field, index), check(text));
        if !seen.insert(text) {
            out.add(at(field, index), format!("duplicate \"{text}\""));
        }
    }
}

fn validate_protocols(rule: &str, protocols: Option<&[Protocol]>, is_closed: bool, out: &mut Findings) {
    validate_count(&format!("{rule}.protocols"), protocols.map(<[Protocol]>::len), 1, out);
    for (index, protocol) in protocols.unwrap_or_default().iter().enumerate() {
        let field = at(format_args!("{rule}.protocols"), index);
        let transports = [("tcp", &protocol.tcp), ("udp", &protocol.udp), ("sctp", &protocol.sctp)];
        let mut parts = transports.map(|(name, transport)| (name, transport.is_some())).to_vec();
        parts.push(("destinationNamedPort", protocol.destination_named_port.is_some()));
        exactly_one(&field, &parts, is_closed, out);
        for (name, transport) in transports {
            if let Some(transport) = transport {
                validate_transport(&format!("{field}.{name}"), transport, is_closed, out);
            }
        }
    }
}

fn validate_transport(field: &str, transport: &Transport, is_closed: bool, out: &mut Findings) {
    exactly_one(field, &[("destinationPort", transport.destination_port.is_some())], is_closed, out);
    let Some(Port { number, range }) = &transport.destination_port else { return };
    let field = format!("{field}.destinationPort");
    exactly_one(&field, &[("number", number.is_some()), ("range", range.is_some())], is_closed, out);
    if let Some(number) = number {
        out.check(format!("{field}.number"), port_number(*number));
    }
    if let Some(PortRange { start, end }) = range {
        let field = format!("{field}.range");
        out.check(format!("{field}.start"), port_number(*start));
        out.check(format!("{field}.end"), port_number(*end));
        if start >= end {
            out.add(field, format!("start {start} is not less than end {end}"));
        }
    }
}
