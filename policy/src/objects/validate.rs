//! What the API server would refuse, for the fields that decide about the network. Pure checks over typed objects; each
//! finding is a field path and a message.

mod cidr;
mod cluster_network_policy;
mod endpoints;
mod gateway_api;
mod ingress;
mod name;
mod network_policy;
mod pool;
mod secret;
mod selector;
mod service;
mod workload;

use super::Leniency;
use super::object::Object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::fmt::Display;
use std::net::IpAddr;

/// Transport protocols that Kubernetes knows.
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// Keys and values of all annotations of an object, as the API server limits them.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// Findings so far: field path and message.
#[derive(Default)]
struct Findings(Vec<(String, String)>);

impl Findings {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push((field.into(), message.into()));
    }

    /// Notes `checked`'s error as a finding of `field`.
    fn check<T>(&mut self, field: impl Into<String>, checked: Result<T, String>) -> Option<T> {
        checked.map_err(|message| self.add(field, message)).ok()
    }
}

/// Everything that is wrong with `object`; empty when it may be used.
pub(crate) fn validate(object: &Object, leniency: Leniency) -> Vec<(String, String)> {
    let mut findings = Findings::default();
    let out = &mut findings;
    validate_metadata(object, out);
    match object {
        Object::Namespace(_) => {}
        Object::Node(node) => workload::validate_node(node, out),
        Object::Pod(pod) => workload::validate_pod(pod, out),
        Object::Deployment(object) => {
            if let Some(spec) = &object.spec {
                workload::validate_replicas(spec.replicas, out);
                workload::validate_template(&spec.selector, &spec.template, out);
            }
        }
        Object::ReplicaSet(object) => {
            if let Some(spec) = &object.spec {
                workload::validate_replicas(spec.replicas, out);
                workload::validate_template(&spec.selector, &spec.template.clone().unwrap_or_default(), out);
            }
        }
        Object::StatefulSet(object) => {
            if let Some(spec) = &object.spec {
                workload::validate_replicas(spec.replicas, out);
                workload::validate_template(&spec.selector, &spec.template, out);
            }
        }
        Object::DaemonSet(object) => {
            if let Some(spec) = &object.spec {
                workload::validate_template(&spec.selector, &spec.template, out);
            }
        }
        Object::Service(service) => service::validate_service(service, out),
        Object::EndpointSlice(slice) => endpoints::validate_slice(slice, leniency, out),
        Object::NetworkPolicy(policy) => network_policy::validate_policy(policy, out),
        Object::ClusterNetworkPolicy(policy) => cluster_network_policy::validate_policy(policy, out),
        Object::Endpoints(endpoints) => endpoints::validate_endpoints(endpoints, out),
        Object::IPAddressPool(pool) => pool::validate_pool(pool, out),
        Object::Ingress(ingress) => ingress::validate_ingress(ingress, out),
        Object::IngressClass(class) => ingress::validate_class(class, out),
        Object::Secret(secret) => secret::validate_secret(secret, out),
        Object::GatewayClass(class) => gateway_api::validate_class(class, out),
        Object::Gateway(gateway) => gateway_api::validate_gateway(gateway, out),
        Object::HTTPRoute(route) => gateway_api::validate_route(route, out),
        Object::ReferenceGrant(grant) => gateway_api::validate_grant(grant, out),
    }
    findings.0
}

fn validate_metadata(object: &Object, out: &mut Findings) {
    let metadata: &ObjectMeta = object.metadata();
    match metadata.name.as_deref() {
        None | Some("") if metadata.generate_name.as_deref().is_some_and(|prefix| !prefix.is_empty()) => {
            out.add("metadata.name", "required: generateName needs an API server");
        }
        None | Some("") => out.add("metadata.name", "required"),
        // These names are used as one label of a DNS name.
        Some(name) if matches!(object, Object::Namespace(_) | Object::Service(_)) => {
            out.check("metadata.name", name::label(name));
        }
        Some(name) => {
            out.check("metadata.name", name::subdomain(name));
        }
    }
    match metadata.namespace.as_deref() {
        Some(namespace) if object.kind().is_namespaced() => {
            out.check("metadata.namespace", name::label(namespace));
        }
        None | Some("") => {}
        Some(_) => out.add("metadata.namespace", format!("not allowed: a {} has no namespace", object.kind())),
    }
    selector::validate_labels("metadata.labels", metadata.labels.as_ref(), out);
    let annotations = metadata.annotations.iter().flatten();
    if annotations.clone().map(|(key, value)| key.len() + value.len()).sum::<usize>() > ANNOTATIONS_BYTES_MAX {
        out.add("metadata.annotations", format!("longer than {ANNOTATIONS_BYTES_MAX} bytes together"));
    }
    for (key, _) in annotations {
        out.check("metadata.annotations", name::annotation_key(key));
    }
}

fn protocol(value: Option<&str>) -> Result<(), String> {
    match value {
        None => Ok(()),
        Some(value) if PROTOCOLS.contains(&value) => Ok(()),
        Some(value) => Err(format!("\"{value}\" is not supported, use TCP, UDP or SCTP")),
    }
}

fn port_number(value: i32) -> Result<u16, String> {
    match u16::try_from(value) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{value} is not between 1 and 65535")),
    }
}

fn address(value: &str) -> Result<IpAddr, String> {
    value.parse().map_err(|_| format!("\"{value}\" is not an IP address"))
}

/// An endpoint or an external address must mean the same on every node, so addresses with a meaning of their own on each are
/// refused, as by the API server.
fn reachable(address: IpAddr) -> Result<(), String> {
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let meaning = if address.is_unspecified() {
        "the unspecified address"
    } else if address.is_loopback() {
        "a loopback address"
    } else if is_link_local {
        "a link-local address"
    } else if address.is_multicast() {
        "a multicast address"
    } else {
        return Ok(());
    };
    Err(format!("{address} is {meaning}"))
}

fn one_of(value: Option<&str>, allowed: &[&str]) -> Result<(), String> {
    match value {
        Some(value) if !allowed.contains(&value) => {
            Err(format!("\"{value}\" is not supported, use {}", allowed.join(", ")))
        }
        _ => Ok(()),
    }
}

/// `field[index]`.
fn at(field: impl Display, index: usize) -> String {
    format!("{field}[{index}]")
}
