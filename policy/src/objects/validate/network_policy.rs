//! NetworkPolicy, as `ValidateNetworkPolicy` of the API server judges it.

use super::selector::validate_selector;
use super::{Findings, at, cidr, name, one_of, port_number, protocol};
use crate::objects::closed_rules;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

pub(super) fn validate_policy(policy: &NetworkPolicy, out: &mut Findings) {
    let Some(spec) = &policy.spec else { return };
    if let Some(selector) = &spec.pod_selector {
        validate_selector("spec.podSelector", selector, out);
    }
    let is_closed = closed_rules(&policy.metadata);
    for (index, rule) in spec.ingress.iter().flatten().enumerate() {
        let field = at("spec.ingress", index);
        validate_ports(&field, rule.ports.as_deref(), out);
        validate_peers(&format!("{field}.from"), rule.from.as_deref(), is_closed("ingress", index), out);
    }
    for (index, rule) in spec.egress.iter().flatten().enumerate() {
        let field = at("spec.egress", index);
        validate_ports(&field, rule.ports.as_deref(), out);
        validate_peers(&format!("{field}.to"), rule.to.as_deref(), is_closed("egress", index), out);
    }
    let types = spec.policy_types.as_deref().unwrap_or_default();
    if types.len() > 2 {
        out.add("spec.policyTypes", "at most two entries are allowed");
    }
    for (index, value) in types.iter().enumerate() {
        out.check(at("spec.policyTypes", index), one_of(Some(value), &["Ingress", "Egress"]));
    }
}

fn validate_ports(rule: &str, ports: Option<&[NetworkPolicyPort]>, out: &mut Findings) {
    for (index, port) in ports.unwrap_or_default().iter().enumerate() {
        let field = at(format_args!("{rule}.ports"), index);
        out.check(format!("{field}.protocol"), protocol(port.protocol.as_deref()));
        let first = match &port.port {
            Some(IntOrString::Int(number)) => out.check(format!("{field}.port"), port_number(*number)),
            Some(IntOrString::String(text)) => {
                out.check(format!("{field}.port"), name::port_name(text));
                None
            }
            None => None,
        };
        let Some(end) = port.end_port else { continue };
        let field = format!("{field}.endPort");
        match (&port.port, first) {
            (None, _) => out.add(field, "not allowed without port"),
            (Some(IntOrString::String(_)), _) => out.add(field, "not allowed when port is a name"),
            (_, Some(first)) if end < i32::from(first) => {
                out.add(field, format!("{end} is less than port {first}"));
            }
            _ => {
                out.check(field, port_number(end));
            }
        }
    }
}

fn validate_peers(list: &str, peers: Option<&[NetworkPolicyPeer]>, is_closed: bool, out: &mut Findings) {
    for (index, peer) in peers.unwrap_or_default().iter().enumerate() {
        let field = at(list, index);
        if let Some(selector) = &peer.pod_selector {
            validate_selector(&format!("{field}.podSelector"), selector, out);
        }
        if let Some(selector) = &peer.namespace_selector {
            validate_selector(&format!("{field}.namespaceSelector"), selector, out);
        }
        let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        match &peer.ip_block {
            // In a closed rule, what it has may be what is not understood.
            None if !selects && !is_closed => out.add(field, "a peer needs podSelector, namespaceSelector or ipBlock"),
            None => {}
            Some(block) if selects => {
                validate_block(&format!("{field}.ipBlock"), block, out);
                out.add(field, "ipBlock is not allowed together with podSelector or namespaceSelector");
            }
            Some(block) => validate_block(&format!("{field}.ipBlock"), block, out),
        }
    }
}

fn validate_block(field: &str, block: &IPBlock, out: &mut Findings) {
    if block.cidr.is_empty() {
        return out.add(format!("{field}.cidr"), "required");
    }
    let Some(cidr) = out.check(format!("{field}.cidr"), cidr::subnet(&block.cidr)) else { return };
    for (index, text) in block.except.iter().flatten().enumerate() {
        let field = at(format_args!("{field}.except"), index);
        let Some(except) = out.check(field.clone(), cidr::subnet(text)) else { continue };
        if !cidr.contains(&except) || cidr.prefix_len() >= except.prefix_len() {
            out.add(field, format!("{except} is not a strict part of cidr {cidr}"));
        }
    }
}
