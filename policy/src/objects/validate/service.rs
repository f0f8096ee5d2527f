//! Service.

use super::cidr::parse_cidr;
use super::selector::validate_labels;
use super::{Findings, address, at, name, one_of, port_number, protocol, reachable};
use crate::objects::SOURCE_RANGES_ANNOTATION;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeSet;

/// Longest timeout of sessionAffinity ClientIP, in seconds (API reference of ClientIPConfig).
const AFFINITY_MAX_S: i32 = 86_400;

pub(super) fn validate_service(service: &Service, out: &mut Findings) {
    let Some(spec) = &service.spec else { return };
    let types = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
    out.check("spec.type", one_of(spec.type_.as_deref(), &types));
    out.check("spec.sessionAffinity", one_of(spec.session_affinity.as_deref(), &["None", "ClientIP"]));
    let policies = ["SingleStack", "PreferDualStack", "RequireDualStack"];
    out.check("spec.ipFamilyPolicy", one_of(spec.ip_family_policy.as_deref(), &policies));
    for (index, family) in spec.ip_families.iter().flatten().enumerate() {
        out.check(at("spec.ipFamilies", index), one_of(Some(family), &["IPv4", "IPv6"]));
    }
    validate_labels("spec.selector", spec.selector.as_ref(), out);
    validate_traffic(spec, out);
    validate_outside(service, spec, out);
    validate_cluster_ips(spec, out);
    let is_external = spec.type_.as_deref() == Some("ExternalName");
    let external = spec.external_name.as_deref().unwrap_or_default();
    if is_external && external.is_empty() {
        out.add("spec.externalName", "required for type ExternalName");
    } else if is_external {
        out.check("spec.externalName", name::subdomain(external.strip_suffix('.').unwrap_or(external)));
    }
    let is_headless = spec.cluster_ip.as_deref() == Some("None");
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !is_external && !is_headless {
        out.add("spec.ports", "required");
    }
    let has_node_ports = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
    if is_headless && has_node_ports {
        out.add("spec.clusterIP", "\"None\" is not allowed for types NodePort and LoadBalancer");
    }
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    let mut node_ports = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let field = at("spec.ports", index);
        out.check(format!("{field}.port"), port_number(port.port));
        out.check(format!("{field}.protocol"), protocol(port.protocol.as_deref()));
        match port.name.as_deref() {
            None | Some("") if ports.len() > 1 => out.add(format!("{field}.name"), "required with several ports"),
            None | Some("") => {}
            Some(name) => {
                out.check(format!("{field}.name"), name::label(name));
                if !names.insert(name) {
                    out.add(format!("{field}.name"), format!("duplicate \"{name}\""));
                }
            }
        }
        match &port.target_port {
            Some(IntOrString::Int(0)) | None => {}
            Some(IntOrString::Int(number)) => {
                out.check(format!("{field}.targetPort"), port_number(*number));
            }
            Some(IntOrString::String(text)) => {
                out.check(format!("{field}.targetPort"), name::port_name(text));
            }
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        if let Some(number) = port.node_port.filter(|number| *number != 0) {
            let field = format!("{field}.nodePort");
            out.check(field.clone(), port_number(number));
            if !has_node_ports {
                out.add(field, "only for types NodePort and LoadBalancer");
            } else if !node_ports.insert((protocol, number)) {
                out.add(field, format!("duplicate {protocol} nodePort {number}"));
            }
        }
        if !numbers.insert((protocol, port.port)) {
            out.add(field, format!("duplicate {protocol} port {}", port.port));
        }
    }
}

/// How the Service's traffic is led.
fn validate_traffic(spec: &ServiceSpec, out: &mut Findings) {
    let policies = ["Cluster", "Local"];
    out.check("spec.externalTrafficPolicy", one_of(spec.external_traffic_policy.as_deref(), &policies));
    out.check("spec.internalTrafficPolicy", one_of(spec.internal_traffic_policy.as_deref(), &policies));
    let distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    out.check("spec.trafficDistribution", one_of(spec.traffic_distribution.as_deref(), &distributions));
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    if let Some(seconds) = config.and_then(|config| config.timeout_seconds)
        && !(1..=AFFINITY_MAX_S).contains(&seconds)
    {
        let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        out.add(field, format!("{seconds} is not between 1 and {AFFINITY_MAX_S}"));
    }
}

/// What makes the Service reachable from outside.
fn validate_outside(service: &Service, spec: &ServiceSpec, out: &mut Findings) {
    for (index, text) in spec.external_ips.iter().flatten().enumerate() {
        let field = at("spec.externalIPs", index);
        if let Some(address) = out.check(field.clone(), address(text)) {
            out.check(field, reachable(address));
        }
    }
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    if !ranges.is_empty() && spec.type_.as_deref() != Some("LoadBalancer") {
        out.add("spec.loadBalancerSourceRanges", "only for type LoadBalancer");
    }
    for (index, text) in ranges.iter().enumerate() {
        out.check(at("spec.loadBalancerSourceRanges", index), parse_cidr(text.trim()));
    }
    let annotation = service.metadata.annotations.as_ref().and_then(|all| all.get(SOURCE_RANGES_ANNOTATION));
    if ranges.is_empty() && spec.type_.as_deref() == Some("LoadBalancer") {
        let field = format!("metadata.annotations[{SOURCE_RANGES_ANNOTATION}]");
        for text in annotation.iter().flat_map(|text| text.split(',')).filter(|text| !text.trim().is_empty()) {
            out.check(field.clone(), parse_cidr(text.trim()));
        }
    }
    if let Some(number) = spec.health_check_node_port.filter(|number| *number != 0) {
        out.check("spec.healthCheckNodePort", port_number(number));
        let is_local = spec.external_traffic_policy.as_deref() == Some("Local");
        if spec.type_.as_deref() != Some("LoadBalancer") || !is_local {
            out.add("spec.healthCheckNodePort", "only for type LoadBalancer with externalTrafficPolicy Local");
        }
    }
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    for (index, ingress) in balancer.iter().flat_map(|balancer| balancer.ingress.iter().flatten()).enumerate() {
        let field = at("status.loadBalancer.ingress", index);
        if let Some(text) = ingress.ip.as_deref().filter(|text| !text.is_empty()) {
            out.check(format!("{field}.ip"), address(text));
        }
        out.check(format!("{field}.ipMode"), one_of(ingress.ip_mode.as_deref(), &["VIP", "Proxy"]));
    }
}

fn validate_cluster_ips(spec: &ServiceSpec, out: &mut Findings) {
    let first = spec.cluster_ip.as_deref().unwrap_or_default();
    let all = spec.cluster_ips.as_deref().unwrap_or_default();
    if !first.is_empty() && first != "None" {
        out.check("spec.clusterIP", address(first));
    }
    if let Some(listed) = all.first()
        && listed != first
    {
        out.add("spec.clusterIPs[0]", format!("\"{listed}\" is not the clusterIP \"{first}\""));
    }
    if all.len() > 2 {
        out.add("spec.clusterIPs", "at most two are allowed, one of each family");
    }
    let mut families = BTreeSet::new();
    for (index, text) in all.iter().enumerate() {
        let field = at("spec.clusterIPs", index);
        if text == "None" && all.len() == 1 {
            continue;
        }
        let Some(address) = out.check(field.clone(), address(text)) else { continue };
        if !families.insert(address.is_ipv4()) {
            out.add(field.clone(), "both addresses are of one family");
        }
        let declared = spec.ip_families.as_ref().and_then(|families| families.get(index));
        if declared.is_some_and(|family| (family == "IPv4") != address.is_ipv4()) {
            out.add(field, format!("{address} is not of the family in spec.ipFamilies[{index}]"));
        }
    }
}
