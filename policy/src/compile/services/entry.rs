//! One Service by itself: its addresses, policies and ports.
//!
//! Kubernetes says of a headless Service and of ExternalName that they have no virtual address (S06); nothing is compiled for
//! them, nor for one whose labels leave it to another proxy. What the API server would refuse is left out here port by port and field by field, so that objects which come without
//! validation lose no more than what is wrong with them.

use super::NodeNames;
use super::endpoints::backends;
use crate::cluster::Slice;
use crate::compile::CompileOptions;
use crate::compile::pods::protocol;
use crate::objects::{
    CONNECT_RETRY_ANNOTATION, ObjectRef, Problem, SOURCE_RANGES_ANNOTATION, Severity, Source, Sourced,
};
use crate::tables::{ServiceEntry, ServiceId, ServicePortEntry, ServiceType, TrafficPolicy};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Timeout of sessionAffinity ClientIP where none is given, and its bounds, in seconds (API reference of ClientIPConfig).
const AFFINITY_DEFAULT_S: i32 = 10_800;
const AFFINITY_MAX_S: i32 = 86_400;

/// Longest wait before a SYN is replayed, in milliseconds: a client's own first retransmission comes after a second.
const CONNECT_RETRY_MAX_MS: u64 = 1_000;

/// Annotations that were trafficDistribution before there was a field (KEP-2433).
const TOPOLOGY_ANNOTATIONS: [&str; 2] =
    ["service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints"];

/// Labels of a Service that another proxy serves, or none: whatever their value, kube-proxy does not look at it.
const OTHER_PROXY_LABELS: [&str; 2] = ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"];

/// A Service compiled by itself.
#[derive(Debug)]
pub(crate) struct CompiledService {
    /// Where it was read.
    pub(crate) source: Source,
    /// Creation comes first where Services quarrel; those without a time come last.
    pub(crate) created: Option<String>,
    /// `None` if it has no addresses.
    pub(crate) entry: Option<Arc<ServiceEntry>>,
    /// Its ports, each with its position in spec.ports.
    pub(crate) ports: Vec<(usize, Arc<ServicePortEntry>)>,
    /// What is wrong with it.
    pub(crate) problems: Vec<Problem>,
}

impl CompiledService {
    /// Its full name.
    pub(crate) fn reference(entry: &ServiceEntry) -> ObjectRef {
        ObjectRef::new("Service", &*entry.namespace, &*entry.name)
    }

    /// Whether `other` is the same but for endpoints: then putting all Services together comes out the same.
    pub(crate) fn is_alike(&self, other: &CompiledService) -> bool {
        let ports = |service: &CompiledService| -> Vec<_> {
            let ports = service.ports.iter();
            ports.map(|(at, port)| (*at, port.id, port.protocol, port.port, port.node_port)).collect()
        };
        self.source == other.source
            && self.created == other.created
            && self.entry == other.entry
            && self.problems == other.problems
            && ports(self) == ports(other)
    }
}

/// Compiles a Service and the slices that name it. Pure: depends on nothing but the arguments.
pub(crate) fn compile_service(
    sourced: &Sourced<Arc<Service>>,
    slices: &[&Slice],
    names: &NodeNames,
    options: &CompileOptions,
) -> CompiledService {
    let service = &*sourced.object;
    let mut findings = Findings { sourced, problems: Vec::new() };
    let entry = entry(service, options, &mut findings).map(Arc::new);
    let ports = entry.as_ref().map(|entry| ports(service, entry, slices, names, &mut findings)).unwrap_or_default();
    CompiledService {
        source: sourced.source.clone(),
        created: service.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()),
        entry: entry.filter(|_| !ports.is_empty()),
        ports,
        problems: findings.problems,
    }
}

struct Findings<'a> {
    sourced: &'a Sourced<Arc<Service>>,
    problems: Vec<Problem>,
}

impl Findings<'_> {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>, severity: Severity) {
        let metadata = &self.sourced.object.metadata;
        let object = ObjectRef::new(
            "Service",
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default(),
        );
        self.problems.push(Problem::of(&self.sourced.source, object, field, message, severity));
    }

    /// What the API server would not have let in.
    fn refuse(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.add(field, message, Severity::Refused);
    }

    /// What is in order and still has no effect here.
    fn warn(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.add(field, message, Severity::Warning);
    }
}

fn entry(service: &Service, options: &CompileOptions, findings: &mut Findings<'_>) -> Option<ServiceEntry> {
    let spec = service.spec.as_ref()?;
    let labels = service.metadata.labels.as_ref();
    if OTHER_PROXY_LABELS.iter().any(|label| labels.is_some_and(|labels| labels.contains_key(*label))) {
        return None;
    }
    let service_type = match spec.type_.as_deref().unwrap_or("ClusterIP") {
        "NodePort" => ServiceType::NodePort,
        "LoadBalancer" => ServiceType::LoadBalancer,
        "ClusterIP" => ServiceType::ClusterIp,
        _ => return None,
    };
    let cluster_ips = cluster_ips(spec, findings);
    if cluster_ips.is_empty() {
        return None;
    }
    let (namespace, name) = (service.metadata.namespace.as_deref()?, service.metadata.name.as_deref()?);
    let mut entry = ServiceEntry {
        id: ServiceId::of(namespace, name),
        namespace: namespace.into(),
        name: name.into(),
        service_type,
        cluster_ips,
        load_balancer_ips: Vec::new(),
        proxied_ips: Vec::new(),
        external_ips: Vec::new(),
        external_policy: TrafficPolicy::Cluster,
        internal_policy: traffic_policy(spec.internal_traffic_policy.as_deref()),
        affinity: affinity(spec, findings),
        source_ranges: None,
        health_check_node_port: None,
        connect_retry: connect_retry(service, findings),
        load_balancer_class: spec.load_balancer_class.as_deref().map(Arc::from),
        traffic_distribution: traffic_distribution(service, spec),
    };
    entry.external_ips = external_ips(spec, &entry, options, findings);
    if service_type == ServiceType::LoadBalancer {
        load_balancer_ips(service, &mut entry, findings);
        entry.source_ranges = source_ranges(service, spec, findings);
    }
    if service_type != ServiceType::ClusterIp || !entry.external_ips.is_empty() {
        entry.external_policy = traffic_policy(spec.external_traffic_policy.as_deref());
    }
    if service_type == ServiceType::LoadBalancer && entry.external_policy == TrafficPolicy::Local {
        entry.health_check_node_port =
            spec.health_check_node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    }
    Some(entry)
}

fn cluster_ips(spec: &ServiceSpec, findings: &mut Findings<'_>) -> Vec<IpAddr> {
    let listed: Vec<(String, &str)> = match &spec.cluster_ips {
        Some(ips) => {
            ips.iter().enumerate().map(|(position, ip)| (format!("spec.clusterIPs[{position}]"), &**ip)).collect()
        }
        None => spec.cluster_ip.iter().map(|ip| ("spec.clusterIP".to_owned(), &**ip)).collect(),
    };
    let mut addresses = Vec::new();
    for (field, text) in listed.into_iter().filter(|(_, text)| !matches!(*text, "" | "None")) {
        match text.parse::<IpAddr>() {
            Ok(addr) if addresses.contains(&addr) => {}
            Ok(addr) => addresses.push(addr),
            Err(_) => findings.refuse(field, format!("{text:?} is not an IP address")),
        }
    }
    addresses
}

/// Addresses outside the allow-list are not served: whoever may write a Service could take over any address (CVE-2020-8554).
fn external_ips(
    spec: &ServiceSpec,
    entry: &ServiceEntry,
    options: &CompileOptions,
    findings: &mut Findings<'_>,
) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for (position, text) in spec.external_ips.iter().flatten().enumerate() {
        let field = format!("spec.externalIPs[{position}]");
        let Ok(addr) = text.parse::<IpAddr>() else {
            findings.refuse(field, format!("{text:?} is not an IP address"));
            continue;
        };
        if !options.external_ips.iter().any(|allowed| allowed.contains(&addr)) {
            let message = match options.external_ips.as_slice() {
                [] => format!("{addr} is not served: externalIPs are off, --external-ips {addr} would allow it"),
                allowed => {
                    let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
                    format!("{addr} is not served: it is outside --external-ips {}", allowed.join(","))
                }
            };
            findings.warn(field, message);
        } else if !entry.has_family_of(addr) {
            let family = if addr.is_ipv4() { "IPv4" } else { "IPv6" };
            findings.warn(field, format!("{addr} is not served: {family} is not in spec.ipFamilies"));
        } else if !addresses.contains(&addr) {
            addresses.push(addr);
        }
    }
    addresses
}

/// Entries with only a hostname are for DNS; an address of ipMode Proxy belongs to a load balancer that wants to see the traffic.
fn load_balancer_ips(service: &Service, entry: &mut ServiceEntry, findings: &mut Findings<'_>) {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    for (position, ingress) in ingress.iter().enumerate() {
        let Some(text) = ingress.ip.as_deref().filter(|text| !text.is_empty()) else { continue };
        let field = format!("status.loadBalancer.ingress[{position}].ip");
        let Ok(addr) = text.parse::<IpAddr>() else {
            findings.refuse(field, format!("{text:?} is not an IP address"));
            continue;
        };
        if !entry.has_family_of(addr) {
            let family = if addr.is_ipv4() { "IPv4" } else { "IPv6" };
            findings.warn(field, format!("{addr} is not served: {family} is not in spec.ipFamilies"));
            continue;
        }
        let is_proxied = ingress.ip_mode.as_deref() == Some("Proxy");
        let addresses = if is_proxied { &mut entry.proxied_ips } else { &mut entry.load_balancer_ips };
        if !addresses.contains(&addr) {
            addresses.push(addr);
        }
    }
}

/// A range that cannot be read admits nobody: the others still stand.
fn source_ranges(service: &Service, spec: &ServiceSpec, findings: &mut Findings<'_>) -> Option<Vec<IpNet>> {
    let field = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    let mut listed: Vec<(String, &str)> = field
        .iter()
        .enumerate()
        .map(|(position, text)| (format!("spec.loadBalancerSourceRanges[{position}]"), text.as_str()))
        .collect();
    if listed.is_empty() {
        let annotation = service.metadata.annotations.as_ref().and_then(|all| all.get(SOURCE_RANGES_ANNOTATION));
        let texts = annotation.map(String::as_str).unwrap_or_default().split(',');
        let field = format!("metadata.annotations[{SOURCE_RANGES_ANNOTATION}]");
        listed.extend(texts.filter(|text| !text.trim().is_empty()).map(|text| (field.clone(), text)));
    }
    if listed.is_empty() {
        return None;
    }
    let mut ranges = Vec::new();
    for (field, text) in listed {
        match text.trim().parse::<IpNet>() {
            Ok(range) => ranges.push(range.trunc()),
            Err(_) => findings.refuse(field, format!("{:?} is not a CIDR", text.trim())),
        }
    }
    let mut ranges = IpNet::aggregate(&ranges);
    ranges.sort_by_key(|range| range.network());
    Some(ranges)
}

fn traffic_policy(text: Option<&str>) -> TrafficPolicy {
    if text == Some("Local") { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
}

fn affinity(spec: &ServiceSpec, findings: &mut Findings<'_>) -> Option<Duration> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let mut seconds = config.and_then(|config| config.timeout_seconds).unwrap_or(AFFINITY_DEFAULT_S);
    if !(1..=AFFINITY_MAX_S).contains(&seconds) {
        let message = format!("{seconds} is not between 1 and {AFFINITY_MAX_S}: {AFFINITY_DEFAULT_S} is used");
        findings.refuse("spec.sessionAffinityConfig.clientIP.timeoutSeconds", message);
        seconds = AFFINITY_DEFAULT_S;
    }
    Some(Duration::from_secs(seconds as u64))
}

fn connect_retry(service: &Service, findings: &mut Findings<'_>) -> Option<Duration> {
    let text = service.metadata.annotations.as_ref()?.get(CONNECT_RETRY_ANNOTATION)?;
    match text.parse::<u64>() {
        Ok(milliseconds) if (1..=CONNECT_RETRY_MAX_MS).contains(&milliseconds) => {
            Some(Duration::from_millis(milliseconds))
        }
        _ => {
            let message =
                format!("{text:?} is not between 1 and {CONNECT_RETRY_MAX_MS} milliseconds: connects are not retried");
            findings.warn(format!("metadata.annotations[{CONNECT_RETRY_ANNOTATION}]"), message);
            None
        }
    }
}

fn traffic_distribution(service: &Service, spec: &ServiceSpec) -> Option<Arc<str>> {
    let annotations = service.metadata.annotations.as_ref();
    let annotated = || TOPOLOGY_ANNOTATIONS.iter().find_map(|name| annotations?.get(*name)).map(String::as_str);
    spec.traffic_distribution.as_deref().or_else(annotated).map(Arc::from)
}

fn ports(
    service: &Service,
    entry: &Arc<ServiceEntry>,
    slices: &[&Slice],
    names: &NodeNames,
    findings: &mut Findings<'_>,
) -> Vec<(usize, Arc<ServicePortEntry>)> {
    let has_node_ports = entry.service_type != ServiceType::ClusterIp;
    let outside = has_node_ports || !entry.external_ips.is_empty();
    let mut taken = BTreeSet::new();
    let mut ports = Vec::new();
    for (position, port) in service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).enumerate() {
        let field = format!("spec.ports[{position}]");
        let Some(protocol) = protocol(port.protocol.as_deref()) else {
            let text = port.protocol.as_deref().unwrap_or_default();
            findings.refuse(format!("{field}.protocol"), format!("{text:?} is not supported, use TCP, UDP or SCTP"));
            continue;
        };
        let Some(number) = u16::try_from(port.port).ok().filter(|number| *number > 0) else {
            findings.refuse(format!("{field}.port"), format!("{} is not between 1 and 65535", port.port));
            continue;
        };
        if !taken.insert((protocol, number)) {
            findings.refuse(field, format!("duplicate {protocol} port {number}"));
            continue;
        }
        let node_port = port.node_port.filter(|port| *port != 0 && has_node_ports).and_then(|number| {
            let checked = u16::try_from(number).ok().filter(|number| *number > 0);
            if checked.is_none() {
                findings.refuse(format!("{field}.nodePort"), format!("{number} is not between 1 and 65535"));
            }
            checked
        });
        let (v4, v6) = backends(port, slices, names, outside);
        let entry = ServicePortEntry {
            service: entry.clone(),
            id: entry.id.port(protocol, number),
            port_name: port.name.as_deref().unwrap_or_default().into(),
            port: number,
            protocol,
            node_port,
            v4,
            v6,
        };
        ports.push((position, Arc::new(entry)));
    }
    ports
}
