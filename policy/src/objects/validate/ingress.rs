//! Ingress and IngressClass, as `ValidateIngressCreate` and `ValidateIngressClass` of the API server judge them.

use super::{Findings, address, at, name, one_of, port_number};
use k8s_openapi::api::core::v1::TypedLocalObjectReference;
use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressClass, ServiceBackendPort};

/// Annotation that named an Ingress's class before there was a field.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Longest name of a controller.
const CONTROLLER_MAX: usize = 250;

/// What must not be in a path: proxies and backends would not agree on what it is.
const PATH_PARTS: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
/// What a path must not end in, for the same reason.
const PATH_ENDS: [&str; 2] = ["/..", "/."];

pub(super) fn validate_ingress(ingress: &Ingress, out: &mut Findings) {
    let spec = ingress.spec.clone().unwrap_or_default();
    let rules = spec.rules.unwrap_or_default();
    if rules.is_empty() && spec.default_backend.is_none() {
        out.add("spec", "required: defaultBackend or rules");
    }
    if let Some(backend) = &spec.default_backend {
        validate_backend("spec.defaultBackend", backend, out);
    }
    for (index, rule) in rules.iter().enumerate() {
        let field = at("spec.rules", index);
        if let Some(host) = rule.host.as_deref().filter(|host| !host.is_empty()) {
            out.check(format!("{field}.host"), name::host_pattern(host));
        }
        let Some(http) = &rule.http else { continue };
        if http.paths.is_empty() {
            out.add(format!("{field}.http.paths"), "required");
        }
        for (index, path) in http.paths.iter().enumerate() {
            validate_path(&at(format_args!("{field}.http.paths"), index), path, out);
        }
    }
    for (index, tls) in spec.tls.iter().flatten().enumerate() {
        let field = at("spec.tls", index);
        for (index, host) in tls.hosts.iter().flatten().enumerate() {
            // An address is a name that no client can ask for, not an error.
            let checked = if name::is_address(host) { Ok(()) } else { name::host_pattern(host) };
            out.check(at(format_args!("{field}.hosts"), index), checked);
        }
        if let Some(secret) = tls.secret_name.as_deref().filter(|secret| !secret.is_empty()) {
            out.check(format!("{field}.secretName"), name::subdomain(secret));
        }
    }
    let annotation = ingress.metadata.annotations.as_ref().and_then(|all| all.get(CLASS_ANNOTATION));
    if let Some(class) = &spec.ingress_class_name {
        out.check("spec.ingressClassName", name::subdomain(class));
        if let Some(other) = annotation.filter(|other| *other != class) {
            let field = format!("metadata.annotations[{CLASS_ANNOTATION}]");
            out.add(field, format!("\"{other}\" is not spec.ingressClassName \"{class}\""));
        }
    }
    let balancer = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    for (index, entry) in balancer.iter().flat_map(|balancer| balancer.ingress.iter().flatten()).enumerate() {
        if let Some(text) = entry.ip.as_deref().filter(|text| !text.is_empty()) {
            out.check(format!("{}.ip", at("status.loadBalancer.ingress", index)), address(text));
        }
    }
}

fn validate_path(field: &str, path: &HTTPIngressPath, out: &mut Findings) {
    let text = path.path.as_deref().unwrap_or_default();
    let types = ["Exact", "Prefix", "ImplementationSpecific"];
    match path.path_type.as_str() {
        "" => return out.add(format!("{field}.pathType"), format!("required: one of {}", types.join(", "))),
        "Exact" | "Prefix" => {
            let field = format!("{field}.path");
            if !text.starts_with('/') {
                out.add(field.clone(), format!("\"{text}\" does not begin with '/'"));
            }
            for part in PATH_PARTS.into_iter().filter(|part| text.contains(part)) {
                out.add(field.clone(), format!("\"{part}\" is not allowed in a path"));
            }
            for end in PATH_ENDS.into_iter().filter(|end| text.ends_with(end)) {
                out.add(field.clone(), format!("a path must not end in \"{end}\""));
            }
        }
        "ImplementationSpecific" if text.is_empty() || text.starts_with('/') => {}
        "ImplementationSpecific" => out.add(format!("{field}.path"), format!("\"{text}\" does not begin with '/'")),
        other => drop(out.check(format!("{field}.pathType"), one_of(Some(other), &types))),
    }
    validate_backend(&format!("{field}.backend"), &path.backend, out);
}

fn validate_backend(field: &str, backend: &IngressBackend, out: &mut Findings) {
    match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => out.add(field, "only one of resource, service is allowed"),
        (None, None) => out.add(field, "required: resource or service"),
        (Some(resource), None) => validate_resource(&format!("{field}.resource"), resource, out),
        (None, Some(service)) => {
            if service.name.is_empty() {
                out.add(format!("{field}.service.name"), "required");
            } else {
                out.check(format!("{field}.service.name"), name::label(&service.name));
            }
            validate_port(&format!("{field}.service.port"), service.port.as_ref(), out);
        }
    }
}

fn validate_port(field: &str, port: Option<&ServiceBackendPort>, out: &mut Findings) {
    let port = port.cloned().unwrap_or_default();
    let number = port.number.filter(|number| *number != 0);
    match (port.name.as_deref().filter(|name| !name.is_empty()), number) {
        (Some(_), Some(_)) => out.add(field, "only one of name, number is allowed"),
        (None, None) => out.add(field, "required: name or number"),
        (Some(name), None) => drop(out.check(format!("{field}.name"), name::port_name(name))),
        (None, Some(number)) => drop(out.check(format!("{field}.number"), port_number(number))),
    }
}

fn validate_resource(field: &str, resource: &TypedLocalObjectReference, out: &mut Findings) {
    validate_reference(field, resource.api_group.as_deref(), &resource.kind, &resource.name, out);
}

fn validate_reference(field: &str, group: Option<&str>, kind: &str, name: &str, out: &mut Findings) {
    if let Some(group) = group {
        out.check(format!("{field}.apiGroup"), name::subdomain(group));
    }
    for (part, text) in [("kind", kind), ("name", name)] {
        let checked = if text.is_empty() { Err("required".to_owned()) } else { name::path_segment(text) };
        out.check(format!("{field}.{part}"), checked);
    }
}

pub(super) fn validate_class(class: &IngressClass, out: &mut Findings) {
    let spec = class.spec.clone().unwrap_or_default();
    match spec.controller.as_deref().unwrap_or_default() {
        "" => out.add("spec.controller", "required"),
        controller if controller.len() > CONTROLLER_MAX => {
            out.add("spec.controller", format!("longer than {CONTROLLER_MAX} characters"));
        }
        controller => drop(out.check("spec.controller", name::domain_prefixed_path(controller))),
    }
    let Some(parameters) = &spec.parameters else { return };
    let field = "spec.parameters";
    validate_reference(field, parameters.api_group.as_deref(), &parameters.kind, &parameters.name, out);
    // The API server fills in Cluster where no scope is given.
    let scope = parameters.scope.as_deref().unwrap_or("Cluster");
    match (scope, parameters.namespace.as_deref()) {
        ("Namespace", None) => out.add("spec.parameters.namespace", "required for scope Namespace"),
        ("Namespace", Some(namespace)) => drop(out.check("spec.parameters.namespace", name::label(namespace))),
        ("Cluster", Some(_)) => out.add("spec.parameters.namespace", "not allowed for scope Cluster"),
        ("Cluster", None) => {}
        (other, _) => drop(out.check("spec.parameters.scope", one_of(Some(other), &["Cluster", "Namespace"]))),
    }
}
