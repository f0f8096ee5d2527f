//! Service.

use super::selector::validate_labels;
use super::{Findings, address, at, name, one_of, port_number, protocol};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeSet;

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
    validate_cluster_ips(spec, out);
    let is_external = spec.type_.as_deref() == Some("ExternalName");
    if is_external && spec.external_name.as_deref().is_none_or(str::is_empty) {
        out.add("spec.externalName", "required for type ExternalName");
    }
    let is_headless = spec.cluster_ip.as_deref() == Some("None");
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !is_external && !is_headless {
        out.add("spec.ports", "required");
    }
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
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
        if !numbers.insert((protocol, port.port)) {
            out.add(field, format!("duplicate {protocol} port {}", port.port));
        }
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
