//! What a name of the cluster stands for.
//!
//! A name that is nothing itself exists if there are names below it (`svc`, a namespace, `_tcp` of a Service that has such a port):
//! it has no records, which is another answer than that there is no such name (RFC 8020).

use super::{HostAddresses, NamedPort, ServiceNames, parse_dashed};
use crate::tables::{Owner, Tables};
use std::net::IpAddr;
use wire::Protocol;

/// Labels of the longest name that exists: `_port._proto.service.namespace.svc`.
const LABELS_MAX: usize = 5;

/// Which pods have names (`1-2-3-4.<namespace>.pod`, D10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodRecords {
    /// None.
    #[default]
    Disabled,
    /// Every address in every namespace, whether a pod has it or not.
    Insecure,
    /// Addresses that a pod of that namespace has.
    Verified,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// There is no such name.
    Nothing(Missing<'a>),
    /// There are names below it, and that is all.
    Between,
    /// The zone itself.
    Apex,
    /// `dns-version`: the version of the specification (§2.2).
    Version,
    /// `ns.dns`: the DNS itself.
    NameServer,
    /// A Service; it exists ([`ServiceNames::exists`]).
    Service(&'a ServiceNames),
    /// An endpoint of a Service.
    Endpoint(&'a ServiceNames, HostAddresses<'a>),
    /// A named port of a Service: one of those with that name and protocol, whose numbers may differ.
    Port(&'a ServiceNames, &'a NamedPort),
    /// A pod, by its address.
    Pod(IpAddr),
}

/// Why there is no such name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing<'a> {
    /// No name is formed like this.
    Form,
    /// There is no such namespace.
    Namespace,
    /// There is no such Service in the namespace.
    Service,
    /// The headless Service has no ready endpoint.
    NoEndpoint(&'a ServiceNames),
    /// No ready endpoint of the Service is called so.
    Endpoint(&'a ServiceNames),
    /// The Service has no such port.
    Port(&'a ServiceNames),
    /// No pod of the namespace has that address, or the label spells none.
    Pod,
    /// Pods have no names here.
    PodsDisabled,
}

/// What `name` stands for: labels with their lengths in front, in lower case, without those of the zone and the root.
pub fn find<'a>(tables: &'a Tables, name: &[u8], pods: PodRecords) -> Found<'a> {
    let mut labels = [&[][..]; LABELS_MAX];
    let mut starts = [0; LABELS_MAX];
    let (mut count, mut at) = (0, 0);
    while at < name.len() {
        let end = at + 1 + usize::from(name[at]);
        let (Some(label), true) = (name.get(at + 1..end), count < LABELS_MAX) else {
            return Found::Nothing(Missing::Form);
        };
        (labels[count], starts[count]) = (label, at);
        (count, at) = (count + 1, end);
    }
    // The labels of a Service and its namespace as they stand in the name.
    let key = |first: usize| &name[starts[first]..starts[first + 2]];
    match &labels[..count] {
        [] => Found::Apex,
        [b"svc"] | [b"pod"] | [b"dns"] => Found::Between,
        [b"dns-version"] => Found::Version,
        [b"ns", b"dns"] => Found::NameServer,
        [namespace, b"svc"] => between(tables, namespace),
        [_, namespace, b"svc"] => with_service(tables, namespace, key(0), Found::Service),
        [endpoint, _, namespace, b"svc"] => {
            with_service(tables, namespace, key(1), |service| below_service(service, endpoint))
        }
        [port, protocol, _, namespace, b"svc"] => {
            with_service(tables, namespace, key(2), |service| find_port(service, port, protocol))
        }
        [_, b"pod"] | [_, _, b"pod"] if pods == PodRecords::Disabled => Found::Nothing(Missing::PodsDisabled),
        [namespace, b"pod"] => between(tables, namespace),
        [pod, namespace, b"pod"] => find_pod(tables, namespace, pod, pods),
        _ => Found::Nothing(Missing::Form),
    }
}

fn has_namespace(tables: &Tables, namespace: &[u8]) -> bool {
    std::str::from_utf8(namespace).is_ok_and(|namespace| tables.has_namespace(namespace))
}

fn between<'a>(tables: &Tables, namespace: &[u8]) -> Found<'a> {
    if has_namespace(tables, namespace) { Found::Between } else { Found::Nothing(Missing::Namespace) }
}

fn with_service<'a>(
    tables: &'a Tables,
    namespace: &[u8],
    key: &[u8],
    found: impl FnOnce(&'a ServiceNames) -> Found<'a>,
) -> Found<'a> {
    match tables.names.service(key) {
        Some(service) if service.exists() => found(service),
        Some(service) => Found::Nothing(Missing::NoEndpoint(service)),
        None if has_namespace(tables, namespace) => Found::Nothing(Missing::Service),
        None => Found::Nothing(Missing::Namespace),
    }
}

fn below_service<'a>(service: &'a ServiceNames, label: &[u8]) -> Found<'a> {
    let addresses = service.endpoints.find(label);
    if !addresses.is_empty() {
        return Found::Endpoint(service, addresses);
    }
    match read_protocol(label) {
        Some(protocol) if service.port(protocol, None).is_some() => Found::Between,
        _ => Found::Nothing(Missing::Endpoint(service)),
    }
}

fn find_port<'a>(service: &'a ServiceNames, port: &[u8], protocol: &[u8]) -> Found<'a> {
    let asked = port.strip_prefix(b"_").zip(read_protocol(protocol));
    match asked.and_then(|(name, protocol)| service.port(protocol, Some(name))) {
        Some(port) => Found::Port(service, port),
        None => Found::Nothing(Missing::Port(service)),
    }
}

fn read_protocol(label: &[u8]) -> Option<Protocol> {
    match label {
        b"_tcp" => Some(Protocol::TCP),
        b"_udp" => Some(Protocol::UDP),
        b"_sctp" => Some(Protocol::SCTP),
        _ => None,
    }
}

fn find_pod<'a>(tables: &Tables, namespace: &[u8], label: &[u8], pods: PodRecords) -> Found<'a> {
    if !has_namespace(tables, namespace) {
        return Found::Nothing(Missing::Namespace);
    }
    let is_there = |addr: &IpAddr| match tables.owner(*addr) {
        _ if pods == PodRecords::Insecure => true,
        Some(Owner::Pod(pod)) => tables.pod(pod).namespace.as_bytes() == namespace,
        // Pods of the host network have the node's address.
        Some(Owner::Node(_)) => tables.pods_in(namespace).any(|pod| pod.host_network && pod.addresses.contains(addr)),
        None => false,
    };
    parse_dashed(label).filter(is_there).map_or(Found::Nothing(Missing::Pod), Found::Pod)
}
