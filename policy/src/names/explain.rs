//! What a full name stands for, in words, for people: the same lookup as that of an answer, with what was found on the way.

use super::{Found, Missing, PodRecords, ServiceNames, Stands, find};
use crate::tables::{Owner, Tables};
use std::net::IpAddr;

/// ExternalNames that are followed; a longer chain is most likely a circle.
const ALIASES_MAX: usize = 8;

/// Longest label (RFC 1035 §2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explained {
    /// To these addresses; what gave them.
    Addresses(Vec<IpAddr>, String),
    /// It exists and has no address, for this reason.
    NoAddress(String),
    /// There is no such name, for this reason.
    NoName(String),
    /// To a name that is not the cluster's; how.
    Elsewhere(String, String),
}

/// Says what `name`, a full name without a final dot, leads to in the cluster whose zone is `zone`.
pub fn explain(tables: &Tables, name: &str, zone: &str, pods: PodRecords) -> Explained {
    let zone = zone.trim_end_matches('.').to_ascii_lowercase();
    let mut name = name.trim_end_matches('.').to_ascii_lowercase();
    let mut aliases = String::new();
    for _ in 0..ALIASES_MAX {
        let Some(front) = name.strip_suffix(&zone).filter(|front| front.is_empty() || front.ends_with('.')) else {
            return Explained::Elsewhere(name, aliases);
        };
        let Some(wire) = wire(front) else { return Explained::NoName(format!("{name} is no DNS name")) };
        let found = find(tables, &wire, pods);
        if let Found::Service(service) = found
            && let Stands::External(Some(target)) = &service.stands
        {
            let target = text(target);
            aliases.push_str(&format!("Service {} is an ExternalName for {target}; ", full_name(service)));
            name = target.to_ascii_lowercase();
            continue;
        }
        return words(tables, &name, front, found, &aliases);
    }
    Explained::NoAddress(format!("{aliases}more than {ALIASES_MAX} ExternalNames lead to each other"))
}

fn words(tables: &Tables, name: &str, front: &str, found: Found<'_>, aliases: &str) -> Explained {
    let label = front.split('.').next().unwrap_or_default();
    let of_service = |service: &ServiceNames| {
        let service_name = full_name(service);
        match &service.stands {
            Stands::ClusterIps { v4, v6, .. } => {
                let v4 = v4.iter().copied().map(IpAddr::from);
                (v4.chain(v6.iter().copied().map(IpAddr::from)).collect(), format!("Service {service_name}"))
            }
            Stands::Headless { .. } => (
                service.endpoints.addresses().collect(),
                format!("the ready endpoints of the headless Service {service_name}"),
            ),
            Stands::External(_) => (
                Vec::new(),
                format!("the ExternalName of Service {service_name}, which is no name that can be asked for"),
            ),
        }
    };
    let (addresses, why): (Vec<IpAddr>, String) = match found {
        Found::Service(service) => of_service(service),
        Found::Endpoint(service, hosts) => {
            (hosts.iter().collect(), format!("endpoint {label} of Service {}", full_name(service)))
        }
        Found::Pod(addr) => (vec![addr], pod_text(tables, addr)),
        Found::Port(service, port) => (
            Vec::new(),
            format!("{name} is the {} port {} of Service {}", port.protocol, port.name, full_name(service)),
        ),
        Found::Between | Found::Apex | Found::Version | Found::NameServer => {
            (Vec::new(), format!("{name} is a name of the cluster, and nothing that can be reached"))
        }
        Found::Nothing(missing) => {
            return Explained::NoName(format!("{aliases}{}", missing_text(tables, name, front, missing)));
        }
    };
    match addresses.is_empty() {
        true => Explained::NoAddress(format!("{aliases}{why} has no address")),
        false => Explained::Addresses(addresses, format!("{aliases}{why}")),
    }
}

fn missing_text(tables: &Tables, name: &str, front: &str, missing: Missing<'_>) -> String {
    let labels: Vec<&str> = front.split('.').filter(|label| !label.is_empty()).collect();
    let label = labels.first().copied().unwrap_or_default();
    // Counted from the zone: `svc` or `pod`, the namespace, the Service.
    let from_end = |at: usize| labels.len().checked_sub(at).and_then(|at| labels.get(at)).copied().unwrap_or_default();
    let (service, namespace) = (from_end(3), from_end(2));
    match missing {
        Missing::Form => format!("{name} is neither a Service, an endpoint of one, nor a pod"),
        Missing::Namespace => format!("there is no namespace {namespace}"),
        Missing::Service => {
            let in_namespace = tables.names.services().filter(|other| &*other.key.namespace == namespace);
            let mut others: Vec<&str> = in_namespace.map(|other| &*other.key.name).collect();
            others.sort_unstable();
            let known = if others.is_empty() { "has none".to_owned() } else { format!("has {}", others.join(", ")) };
            format!("there is no Service {namespace}/{service}; namespace {namespace} {known}")
        }
        Missing::NoEndpoint(service) => format!("the headless Service {} has no ready endpoint", full_name(service)),
        Missing::Endpoint(service) => {
            format!("Service {} has no ready endpoint called {label}", full_name(service))
        }
        Missing::Port(service) => format!("Service {} has no such port", full_name(service)),
        Missing::Pod => format!("no pod of namespace {namespace} has the address that {label} spells"),
        Missing::PodsDisabled => "pods have no names here".to_owned(),
    }
}

fn pod_text(tables: &Tables, addr: IpAddr) -> String {
    match tables.owner(addr) {
        Some(Owner::Pod(pod)) => {
            let pod = tables.pod(pod);
            format!("the address of Pod {}/{}", pod.namespace, pod.name)
        }
        Some(Owner::Node(_)) => "the address of a pod of the host network".to_owned(),
        None => "the address that the name spells, whether a pod has it or not".to_owned(),
    }
}

fn full_name(service: &ServiceNames) -> String {
    format!("{}/{}", service.key.namespace, service.key.name)
}

/// Labels with their lengths in front; `None` if one is too long or empty.
fn wire(front: &str) -> Option<Vec<u8>> {
    let mut wire = Vec::new();
    for label in front.strip_suffix('.').unwrap_or(front).split('.').filter(|_| !front.is_empty()) {
        if label.is_empty() || label.len() > LABEL_BYTES_MAX {
            return None;
        }
        wire.push(label.len() as u8);
        wire.extend(label.bytes());
    }
    Some(wire)
}

/// Labels with their lengths in front, the root's too, as text without a final dot.
fn text(mut wire: &[u8]) -> String {
    let mut labels = Vec::new();
    while let Some((len, rest)) = wire.split_first().filter(|(len, _)| **len > 0) {
        let (label, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        labels.push(String::from_utf8_lossy(label).into_owned());
        wire = rest;
    }
    labels.join(".")
}
