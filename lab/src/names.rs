//! What the name of a host means, without asking anybody: the answers of the cluster DNS, computed from the objects.
//!
//! In: HOST of the command line, the place that uses it, the census. Out: its addresses in the order in which the DNS has
//! them, and how they were found; or why there are none. After the Kubernetes DNS specification 1.1.0: A and AAAA records of
//! Services (§2.3.1), headless Services and their named endpoints (§2.4.1), ExternalName (§2.5), and pods by address. A pod's
//! resolver has `ndots:5` and three search domains; nodes and the outside are given those of the namespace `default`, which
//! is a convenience: their own resolvers know nothing of the cluster.

use crate::census::{Census, pod_addresses};
use crate::error::{LabError, Result};
use crate::place::{Place, without_brackets};
use control::controller::LabNetwork;
use k8s_openapi::api::core::v1::Service;
use std::net::IpAddr;
use wire::Protocol;

/// The cluster's DNS zone.
const ZONE: &str = "cluster.local";

/// A name with fewer dots is tried with the search domains first (what the kubelet writes into every pod's resolv.conf).
const NDOTS: usize = 5;

/// ExternalNames that are followed; a longer chain is most likely a loop. Resolvers give up between 8 and 16.
const ALIASES_MAX: usize = 8;

/// What a HOST means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// It stands for itself, or for a place.
    Address(Vec<IpAddr>),
    /// The DNS knows it.
    Name {
        /// The full name that had an answer.
        name: String,
        /// All addresses.
        addresses: Vec<IpAddr>,
        /// What gave them, for people.
        why: String,
    },
    /// Nothing leads to an address, for this reason.
    Nothing(String),
}

/// Finds out what `text` means when it is used at `from` for `port`: an address, a PLACE, `NS/SERVICE`, a DNS name, or the
/// name of a node. Where `NS/NAME` is both a Service and a pod, the Service is meant if it has that port.
pub(crate) fn find_host(
    text: &str,
    (protocol, port): (Protocol, u16),
    from: &Place,
    census: &Census,
    network: &LabNetwork,
) -> Result<Meaning> {
    if let Ok(address) = without_brackets(text).parse() {
        return Ok(Meaning::Address(vec![address]));
    }
    if let Some((namespace, name)) = text.split_once('/')
        && let Some(service) = census.service(namespace, name)
        && (census.pod(namespace, name).is_none() || has_port(service, protocol, port))
    {
        return Ok(lookup(&format!("{name}.{namespace}.svc.{ZONE}."), namespace, census));
    }
    if text.contains('/') || text.starts_with("node:") || text == "world" || text.starts_with("world:") {
        let place = Place::find(text, census)?;
        let addresses = place.addresses(census, network);
        if addresses.is_empty() {
            return Err(LabError::BadInput(format!("{place}: has no address")));
        }
        return Ok(Meaning::Address(addresses));
    }
    match lookup(text, from.namespace(), census) {
        Meaning::Nothing(why) => match census.nodes.get(text) {
            Some(_) => Ok(Meaning::Address(Place::Node(text.to_owned()).addresses(census, network))),
            None => Ok(Meaning::Nothing(why)),
        },
        found => Ok(found),
    }
}

/// Looks `text` up as a resolver in a pod of `namespace` would.
pub(crate) fn lookup(text: &str, namespace: &str, census: &Census) -> Meaning {
    let search = [format!("{namespace}.svc.{ZONE}"), format!("svc.{ZONE}"), ZONE.to_owned()];
    let wanted = text.to_ascii_lowercase();
    let absolute = wanted.trim_end_matches('.').to_owned();
    let mut names: Vec<String> = Vec::new();
    if !wanted.ends_with('.') {
        names.extend(search.iter().map(|domain| format!("{absolute}.{domain}")));
    }
    let first = wanted.matches('.').count() >= NDOTS;
    names.insert(if first { 0 } else { names.len() }, absolute);
    let mut reason = None;
    for name in &names {
        match resolve(name, census) {
            Ok((addresses, why)) => return Meaning::Name { name: name.clone(), addresses, why },
            // A name that exists without an address ends the search; of the others the last tells the most.
            Err(Missing::NoAddress(why)) => return Meaning::Nothing(why),
            Err(Missing::NoName(why)) => reason = reason.or(Some(why)),
        }
    }
    let tried = names.join(", ");
    let why = reason.unwrap_or_default();
    Meaning::Nothing(if names.len() > 1 { format!("{text} does not resolve (tried {tried}): {why}") } else { why })
}

/// Why a full name has no address.
enum Missing {
    /// There is no such name (NXDOMAIN).
    NoName(String),
    /// There is, and it has no address (NODATA).
    NoAddress(String),
}

/// The addresses of a full name, aliases followed.
fn resolve(name: &str, census: &Census) -> Result<(Vec<IpAddr>, String), Missing> {
    let mut name = name.to_owned();
    let mut aliases = String::new();
    for _ in 0..ALIASES_MAX {
        match record(&name, census)? {
            Record::Addresses(addresses, why) => return Ok((addresses, format!("{aliases}{why}"))),
            Record::Alias(target, service) => {
                aliases.push_str(&format!("Service {service} is an ExternalName for {target}; "));
                if !is_in_zone(&target) {
                    let why = format!("{aliases}that name is outside of the cluster, and no DNS server is asked");
                    return Err(Missing::NoAddress(why));
                }
                name = target;
            }
        }
    }
    Err(Missing::NoAddress(format!("{aliases}more than {ALIASES_MAX} ExternalNames lead to each other")))
}

enum Record {
    Addresses(Vec<IpAddr>, String),
    Alias(String, String),
}

fn is_in_zone(name: &str) -> bool {
    name.strip_suffix(ZONE).is_some_and(|rest| rest.ends_with('.'))
}

fn record(name: &str, census: &Census) -> Result<Record, Missing> {
    let Some(inside) = name.strip_suffix(ZONE).and_then(|rest| rest.strip_suffix('.')) else {
        return Err(Missing::NoName(format!("{name} is not a name of the cluster, and no DNS server is asked")));
    };
    let labels: Vec<&str> = inside.split('.').collect();
    match labels[..] {
        [service, namespace, "svc"] => service_record(namespace, service, census),
        [endpoint, service, namespace, "svc"] => endpoint_record(endpoint, namespace, service, census),
        [dashed, namespace, "pod"] => pod_record(dashed, namespace, census),
        _ => Err(Missing::NoName(format!("{name} is neither a Service, an endpoint of one, nor a pod"))),
    }
}

fn service_record(namespace: &str, name: &str, census: &Census) -> Result<Record, Missing> {
    let service = find_service(namespace, name, census)?;
    let spec = service.spec.as_ref();
    if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        let target = spec.and_then(|spec| spec.external_name.as_deref()).unwrap_or_default();
        return Ok(Record::Alias(target.trim_end_matches('.').to_ascii_lowercase(), format!("{namespace}/{name}")));
    }
    let addresses = cluster_ips(service);
    if !addresses.is_empty() {
        return Ok(Record::Addresses(addresses, format!("Service {namespace}/{name}")));
    }
    let addresses = endpoints(namespace, name, census).map(|(address, _)| address).collect();
    some(addresses, format!("the ready endpoints of the headless Service {namespace}/{name}"))
        .ok_or_else(|| Missing::NoAddress(format!("the headless Service {namespace}/{name} has no ready endpoint")))
}

fn endpoint_record(endpoint: &str, namespace: &str, name: &str, census: &Census) -> Result<Record, Missing> {
    find_service(namespace, name, census)?;
    let named = endpoints(namespace, name, census).filter(|(address, hostname)| match hostname {
        Some(hostname) => *hostname == endpoint,
        None => dashes(*address) == endpoint,
    });
    some(named.map(|(address, _)| address).collect(), format!("endpoint {endpoint} of Service {namespace}/{name}"))
        .ok_or_else(|| Missing::NoName(format!("Service {namespace}/{name} has no ready endpoint called {endpoint}")))
}

fn pod_record(dashed: &str, namespace: &str, census: &Census) -> Result<Record, Missing> {
    let pods = census.pods.iter().filter(|((of, _), _)| of == namespace);
    let mut addresses = pods.flat_map(|((_, name), pod)| pod_addresses(pod).into_iter().map(move |a| (a, name)));
    match addresses.find(|(address, _)| dashes(*address) == dashed) {
        Some((address, name)) => Ok(Record::Addresses(vec![address], format!("the address of Pod {namespace}/{name}"))),
        None => Err(Missing::NoName(format!("no pod of namespace {namespace} has the address that {dashed} spells"))),
    }
}

fn find_service<'a>(namespace: &str, name: &str, census: &'a Census) -> Result<&'a Service, Missing> {
    census.service(namespace, name).ok_or_else(|| {
        let others: Vec<&str> =
            census.services.keys().filter(|(of, _)| of == namespace).map(|(_, name)| name.as_str()).collect();
        let known = if others.is_empty() { "has none".to_owned() } else { format!("has {}", others.join(", ")) };
        Missing::NoName(format!("there is no Service {namespace}/{name}; namespace {namespace} {known}"))
    })
}

fn some(addresses: Vec<IpAddr>, why: String) -> Option<Record> {
    if addresses.is_empty() { None } else { Some(Record::Addresses(addresses, why)) }
}

/// The cluster addresses of a Service; none if it is headless.
pub(crate) fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let one = spec.cluster_ip.iter().filter(|_| spec.cluster_ips.is_none());
    spec.cluster_ips.iter().flatten().chain(one).filter_map(|ip| ip.parse().ok()).collect()
}

/// Ready endpoints of a Service with the names that they have there, each address once.
fn endpoints<'a>(
    namespace: &str,
    name: &str,
    census: &'a Census,
) -> impl Iterator<Item = (IpAddr, Option<&'a str>)> + use<'a> {
    let slices = census.slices.get(&(namespace.to_owned(), name.to_owned()));
    let all = slices.into_iter().flatten().flat_map(|slice| slice.endpoints.iter().flatten());
    let ready =
        all.filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true));
    let mut seen = std::collections::BTreeSet::new();
    ready
        .flat_map(|endpoint| endpoint.addresses.iter().map(move |address| (address, endpoint.hostname.as_deref())))
        .filter_map(|(address, hostname)| Some((address.parse().ok()?, hostname)))
        .filter(move |(address, _)| seen.insert(*address))
}

/// An address as a DNS label: `10-244-1-2`, `fd00-10-244--2`.
fn dashes(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

fn has_port(service: &Service, protocol: Protocol, port: u16) -> bool {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let mut ports = ports.filter(|own| own.protocol.as_deref().unwrap_or("TCP") == protocol.to_string());
    ports.any(|own| own.port == i32::from(port))
}

#[cfg(test)]
mod tests;
