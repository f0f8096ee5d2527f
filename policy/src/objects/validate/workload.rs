//! Pods, what makes pods, and nodes.

use super::cidr::parse_cidr;
use super::selector::{is_empty, validate_labels, validate_selector};
use super::{Findings, address, at, name, port_number, protocol};
use crate::objects::VTEP_MAC_ANNOTATION;
use crate::selector::Selector;
use k8s_openapi::api::core::v1::{Container, Node, Pod, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeSet;
use std::net::IpAddr;
use wire::MacAddr;

pub(super) fn validate_pod(pod: &Pod, out: &mut Findings) {
    if let Some(spec) = &pod.spec {
        validate_pod_spec("spec", spec, out);
    }
    let Some(status) = &pod.status else { return };
    let first = status.pod_ip.as_deref().filter(|text| !text.is_empty());
    if let Some(text) = first {
        out.check("status.podIP", address(text));
    }
    let all = status.pod_ips.as_deref().unwrap_or_default();
    if let (Some(first), Some(listed)) = (first, all.first())
        && first != listed.ip
    {
        out.add("status.podIPs[0].ip", format!("\"{}\" is not the podIP \"{first}\"", listed.ip));
    }
    let mut families = BTreeSet::new();
    for (index, entry) in all.iter().enumerate() {
        let field = format!("status.podIPs[{index}].ip");
        if let Some(address) = out.check(field.clone(), address(&entry.ip))
            && !families.insert(address.is_ipv4())
        {
            out.add(field, "a pod has at most one address of each family");
        }
    }
}

fn validate_pod_spec(field: &str, spec: &PodSpec, out: &mut Findings) {
    for (index, container) in spec.containers.iter().enumerate() {
        validate_container(&at(format_args!("{field}.containers"), index), container, out);
    }
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        validate_container(&at(format_args!("{field}.initContainers"), index), container, out);
    }
    validate_host_ports(field, spec, out);
    if let Some(name) = spec.node_name.as_deref().filter(|name| !name.is_empty()) {
        out.check(format!("{field}.nodeName"), name::subdomain(name));
    }
}

/// One port of a node cannot lead to two containers; what shares the node's network has its ports as they are.
fn validate_host_ports(field: &str, spec: &PodSpec, out: &mut Findings) {
    let mut taken = BTreeSet::new();
    for (at_container, container) in spec.containers.iter().enumerate() {
        for (at_port, port) in container.ports.iter().flatten().enumerate() {
            let Some(number) = port.host_port.filter(|number| *number != 0) else { continue };
            let field = format!("{field}.containers[{at_container}].ports[{at_port}].hostPort");
            if spec.host_network == Some(true) && number != port.container_port {
                out.add(
                    field.clone(),
                    format!("with hostNetwork it must be the containerPort {}", port.container_port),
                );
            }
            let host_ip = port.host_ip.as_deref().unwrap_or_default();
            if !taken.insert((number, port.protocol.as_deref().unwrap_or("TCP"), host_ip)) {
                out.add(field, format!("duplicate {number}"));
            }
        }
    }
}

fn validate_container(field: &str, container: &Container, out: &mut Findings) {
    let mut names = BTreeSet::new();
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let field = at(format_args!("{field}.ports"), index);
        out.check(format!("{field}.containerPort"), port_number(port.container_port));
        out.check(format!("{field}.protocol"), protocol(port.protocol.as_deref()));
        if let Some(number) = port.host_port.filter(|number| *number != 0) {
            out.check(format!("{field}.hostPort"), port_number(number));
        }
        if let Some(text) = port.host_ip.as_deref().filter(|text| !text.is_empty()) {
            out.check(format!("{field}.hostIP"), address(text));
        }
        let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) else { continue };
        out.check(format!("{field}.name"), name::port_name(name));
        if !names.insert(name) {
            out.add(format!("{field}.name"), format!("duplicate \"{name}\""));
        }
    }
}

pub(super) fn validate_replicas(replicas: Option<i32>, out: &mut Findings) {
    if let Some(count) = replicas.filter(|count| *count < 0) {
        out.add("spec.replicas", format!("{count} is negative"));
    }
}

pub(super) fn validate_template(selector: &LabelSelector, template: &PodTemplateSpec, out: &mut Findings) {
    validate_selector("spec.selector", selector, out);
    let metadata = template.metadata.clone().unwrap_or_default();
    let labels = metadata.labels.unwrap_or_default();
    validate_labels("spec.template.metadata.labels", Some(&labels), out);
    if is_empty(selector) {
        out.add("spec.selector", "required: it must select the pods of the template");
    } else if !Selector::compile(selector).matches(&labels) {
        out.add("spec.template.metadata.labels", "spec.selector does not select these labels");
    }
    if let Some(spec) = &template.spec {
        validate_pod_spec("spec.template.spec", spec, out);
    }
}

pub(super) fn validate_node(node: &Node, out: &mut Findings) {
    let annotations = node.metadata.annotations.as_ref();
    if let Some(text) = annotations.and_then(|all| all.get(VTEP_MAC_ANNOTATION))
        && text.parse::<MacAddr>().is_err()
    {
        let field = format!("metadata.annotations.{VTEP_MAC_ANNOTATION}");
        out.add(field, format!("\"{text}\" is not a MAC address such as 02:00:00:00:00:01"));
    }
    if let Some(spec) = &node.spec {
        let first = spec.pod_cidr.as_deref().filter(|text| !text.is_empty());
        if let Some(text) = first {
            out.check("spec.podCIDR", parse_cidr(text));
        }
        let all = spec.pod_cidrs.as_deref().unwrap_or_default();
        if let (Some(first), Some(listed)) = (first, all.first())
            && first != listed
        {
            out.add("spec.podCIDRs[0]", format!("\"{listed}\" is not the podCIDR \"{first}\""));
        }
        let mut families = BTreeSet::new();
        for (index, text) in all.iter().enumerate() {
            let field = at("spec.podCIDRs", index);
            if let Some(cidr) = out.check(field.clone(), parse_cidr(text))
                && !families.insert(matches!(cidr.addr(), IpAddr::V4(_)))
            {
                out.add(field, "a node has at most one CIDR of each family");
            }
        }
    }
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    for (index, entry) in addresses.enumerate() {
        if matches!(entry.type_.as_str(), "InternalIP" | "ExternalIP") {
            out.check(format!("status.addresses[{index}].address"), address(&entry.address));
        }
    }
}
