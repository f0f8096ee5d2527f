//! LoadBalancer addresses: what MetalLB's controller does, written to status.loadBalancer.
//!
//! A status that comes with the manifests is honoured. Else a Service gets the addresses that it asks for (loadBalancerIP or an
//! annotation), then the ones that it had before, then one of a pool for each of its families. Services of a
//! loadBalancerClass that is not ours are left to whoever that is. A Service that cannot have an address is no worse than
//! before: it is told why and keeps its ClusterIP and nodePorts.

use super::services::{self, Family};
use super::{Key, Problems};
use crate::pools::{AddressPool, Pools, Refusal};
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Namespace, Service, ServiceSpec};
use policy::objects::{IPAddressPool, Problem, ServiceAllocation};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The loadBalancerClass that podplane serves, beside none at all.
const CLASS: &str = "podplane.io/l2";

/// Annotations that ask for addresses, separated by commas; MetalLB's mean the same.
const ADDRESS_ANNOTATIONS: [&str; 3] =
    ["podplane.io/load-balancer-ips", "metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs"];

/// Annotations that ask for a pool by its name.
const POOL_ANNOTATIONS: [&str; 3] =
    ["podplane.io/address-pool", "metallb.io/address-pool", "metallb.universe.tf/address-pool"];

/// Annotations by which Services agree to share an address: all of them have the same value, and no two the same port.
const SHARING_ANNOTATIONS: [&str; 3] =
    ["podplane.io/allow-shared-ip", "metallb.io/allow-shared-ip", "metallb.universe.tf/allow-shared-ip"];

/// Gives addresses of `pools` to the Services that have none, and keeps those that `previous` says they had. `in_use` are addresses
/// that are something else's, and whose. Gives why some have none.
pub(crate) fn give_load_balancer_addresses(
    services: &mut BTreeMap<Key, Service>,
    previous: &BTreeMap<Key, Service>,
    pools: Vec<AddressPool>,
    in_use: impl IntoIterator<Item = (IpAddr, String)>,
) -> Vec<Problem> {
    let mut problems = Problems::default();
    fill(services, previous, pools, in_use, &mut problems);
    problems.list
}

/// Gives addresses to all Services. `in_use` are addresses that are something else's, and whose.
pub(super) fn fill(
    services: &mut BTreeMap<Key, Service>,
    previous: &BTreeMap<Key, Service>,
    pools: Vec<AddressPool>,
    in_use: impl IntoIterator<Item = (IpAddr, String)>,
    problems: &mut Problems,
) {
    let mut allocator = Allocator {
        pools: Pools::new(pools),
        sharers: BTreeMap::new(),
        given: BTreeMap::new(),
        disappointed: BTreeSet::new(),
    };
    for (address, owner) in in_use {
        allocator.pools.claim(address, &owner);
    }
    for (key, service) in services.iter().filter(|(_, service)| has_status(service)) {
        addresses(service).into_iter().for_each(|address| allocator.own(key, service, address));
    }
    let wanting: Vec<Key> =
        services.iter().filter(|(_, s)| is_ours(s) && !has_status(s)).map(|(k, _)| k.clone()).collect();
    for key in &wanting {
        allocator.claim_requested(key, &services[key], problems);
    }
    for key in &wanting {
        if let Some(before) = previous.get(key).filter(|before| is_ours(before)) {
            allocator.claim_previous(key, &services[key], before);
        }
    }
    for address in previous.values().filter(|before| is_ours(before)).flat_map(addresses) {
        allocator.pools.rest(address);
    }
    for key in &wanting {
        allocator.complete(key, &services[key], problems);
    }
    for (key, addresses) in allocator.given {
        let service = services.get_mut(&key).expect("only Services that are there are given addresses");
        let ingress = addresses.iter().map(|address| LoadBalancerIngress {
            ip: Some(address.to_string()),
            // Packets reach the node with this address as their destination (KEP-1860).
            ip_mode: Some("VIP".to_owned()),
            ..LoadBalancerIngress::default()
        });
        let status = service.status.get_or_insert_default();
        status.load_balancer.get_or_insert_default().ingress = Some(ingress.collect());
    }
}

/// The pools of the manifests, those to be used first in front.
pub(super) fn pools(
    objects: &BTreeMap<Key, IPAddressPool>,
    services: &BTreeMap<Key, Service>,
    namespaces: &BTreeMap<String, Namespace>,
) -> Vec<AddressPool> {
    let priority = |pool: &IPAddressPool| {
        let allocation = pool.spec.service_allocation.as_ref();
        allocation.and_then(|allocation| allocation.priority).filter(|priority| *priority > 0).unwrap_or(i32::MAX)
    };
    let mut in_order: Vec<(&Key, &IPAddressPool)> = objects.iter().collect();
    in_order.sort_by_key(|(key, pool)| (priority(pool), *key));
    let made = in_order.into_iter().map(|((_, name), pool)| AddressPool {
        name: name.clone(),
        ranges: pool.ranges().map(|range| (range.first, range.last)).collect(),
        auto_assign: pool.spec.auto_assign.unwrap_or(true),
        avoid_buggy_ips: pool.spec.avoid_buggy_ips.unwrap_or(false),
        only_for: pool.spec.service_allocation.as_ref().and_then(|to| chosen(to, services, namespaces)),
    });
    made.collect()
}

/// The Services that an allocation is restricted to; `None` if it is not.
fn chosen(
    to: &ServiceAllocation,
    services: &BTreeMap<Key, Service>,
    namespaces: &BTreeMap<String, Namespace>,
) -> Option<BTreeSet<String>> {
    let (names, selectors) =
        (to.namespaces.as_deref().unwrap_or(&[]), to.namespace_selectors.as_deref().unwrap_or(&[]));
    let of_services = to.service_selectors.as_deref().unwrap_or(&[]);
    if names.is_empty() && selectors.is_empty() && of_services.is_empty() {
        return None;
    }
    let in_namespace = |namespace: &str| {
        let labels = namespaces.get(namespace).and_then(|namespace| namespace.metadata.labels.clone());
        let mut labels = labels.unwrap_or_default();
        labels.insert(super::NAME_LABEL.to_owned(), namespace.to_owned());
        let selected = selectors.iter().any(|selector| super::selects(selector, &labels));
        (names.is_empty() && selectors.is_empty()) || names.iter().any(|name| name == namespace) || selected
    };
    let takes = |service: &Service| {
        let labels = service.metadata.labels.clone().unwrap_or_default();
        of_services.is_empty() || of_services.iter().any(|selector| super::selects(selector, &labels))
    };
    let taken = services.iter().filter(|((namespace, _), service)| in_namespace(namespace) && takes(service));
    Some(taken.map(|(key, _)| describe(key)).collect())
}

/// Whether the Service is of type LoadBalancer.
pub(super) fn is_load_balancer(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("LoadBalancer")
}

/// Whether podplane is to give the Service its addresses.
fn is_ours(service: &Service) -> bool {
    let ours = |spec: &ServiceSpec| {
        is_load_balancer(spec) && spec.load_balancer_class.as_deref().is_none_or(|class| class == CLASS)
    };
    service.spec.as_ref().is_some_and(ours)
}

fn ingress(service: &Service) -> impl Iterator<Item = &LoadBalancerIngress> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    balancer.into_iter().flat_map(|balancer| balancer.ingress.iter().flatten())
}

fn has_status(service: &Service) -> bool {
    ingress(service).next().is_some()
}

/// The addresses in the status.
fn addresses(service: &Service) -> Vec<IpAddr> {
    ingress(service).filter_map(|ingress| ingress.ip.as_deref()?.parse().ok()).collect()
}

fn annotation<'a>(service: &'a Service, names: &[&'static str]) -> Option<(&'static str, &'a str)> {
    let annotations = service.metadata.annotations.as_ref()?;
    names.iter().find_map(|name| Some((*name, annotations.get(*name)?.as_str())))
}

/// The addresses that a Service asks for as they are written, and the field that does. An annotation can say more than
/// spec.loadBalancerIP, which the API has deprecated, and goes before it.
fn requested(service: &Service) -> (String, Vec<&str>) {
    if let Some((name, value)) = annotation(service, &ADDRESS_ANNOTATIONS) {
        return (format!("metadata.annotations[{name}]"), value.split(',').map(str::trim).collect());
    }
    let one = service.spec.as_ref().and_then(|spec| spec.load_balancer_ip.as_deref());
    ("spec.loadBalancerIP".to_owned(), one.into_iter().filter(|text| !text.is_empty()).collect())
}

struct Allocator {
    pools: Pools,
    /// Services that have an address, where all of them agree to share it.
    sharers: BTreeMap<IpAddr, Vec<Sharer>>,
    given: BTreeMap<Key, Vec<IpAddr>>,
    /// Services that asked for what cannot be had; it is not replaced by something else.
    disappointed: BTreeSet<Key>,
}

/// What decides whether two Services can share an address.
struct Sharer {
    agreement: String,
    ports: Vec<(String, i32)>,
    /// With externalTrafficPolicy Local an address is announced where the pods are, so only Services of the same pods fit.
    local_pods: Option<BTreeMap<String, String>>,
}

impl Sharer {
    fn of(service: &Service) -> Option<Sharer> {
        let (_, agreement) = annotation(service, &SHARING_ANNOTATIONS)?;
        let spec = service.spec.as_ref()?;
        let is_local = spec.external_traffic_policy.as_deref() == Some("Local");
        let port = |port: &k8s_openapi::api::core::v1::ServicePort| {
            (port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), port.port)
        };
        Some(Sharer {
            agreement: agreement.to_owned(),
            ports: spec.ports.iter().flatten().map(port).collect(),
            local_pods: is_local.then(|| spec.selector.clone().unwrap_or_default()),
        })
    }

    fn fits(&self, other: &Sharer) -> bool {
        self.agreement == other.agreement
            && self.local_pods == other.local_pods
            && self.ports.iter().all(|port| !other.ports.contains(port))
    }
}

impl Allocator {
    fn claim_requested(&mut self, key: &Key, service: &Service, problems: &mut Problems) {
        let (field, texts) = requested(service);
        let families = services::families(service);
        let pool = annotation(service, &POOL_ANNOTATIONS).map(|(_, pool)| pool);
        for text in texts {
            let reason = match text.parse::<IpAddr>() {
                Err(_) => format!("{text:?} is not an IP address"),
                Ok(address) if !families.contains(&Family::of(address)) => {
                    let family = Family::of(address).as_str();
                    format!("{address} cannot be given: {family} is not among the Service's spec.ipFamilies")
                }
                Ok(address) => match self.pools.check(address, pool, &describe(key)) {
                    Ok(()) => {
                        self.own(key, service, address);
                        continue;
                    }
                    Err(Refusal::Taken(_)) if self.is_shared_with(address, service) => {
                        self.own(key, service, address);
                        continue;
                    }
                    Err(Refusal::Taken(holder)) => format!(
                        "{address} is already an address of {holder}: ask for another one, or let the Services share it \
                         with the annotation {}",
                        SHARING_ANNOTATIONS[0]
                    ),
                    Err(Refusal::Outside) => format!(
                        "{address} is in {}: ask for an address of a pool, or add this one to an IPAddressPool ({})",
                        pool.map_or("no address pool".to_owned(), |pool| format!("no address pool called {pool}")),
                        self.describe()
                    ),
                },
            };
            problems.warn("Service", &service.metadata, &field, &reason);
            self.disappointed.insert(key.clone());
        }
    }

    fn claim_previous(&mut self, key: &Key, service: &Service, before: &Service) {
        let pool = annotation(service, &POOL_ANNOTATIONS).map(|(_, pool)| pool);
        for address in addresses(before) {
            let may_stay = self.pools.is_automatic(address, pool, &describe(key))
                && self.missing(key, service).contains(&Family::of(address));
            let shared = self.is_shared_with(address, service);
            if may_stay && (shared || self.pools.check(address, pool, &describe(key)).is_ok()) {
                self.own(key, service, address);
            }
        }
    }

    /// Allocates what is missing.
    fn complete(&mut self, key: &Key, service: &Service, problems: &mut Problems) {
        let pool = annotation(service, &POOL_ANNOTATIONS);
        let prefers =
            service.spec.as_ref().and_then(|spec| spec.ip_family_policy.as_deref()) == Some("PreferDualStack");
        for family in self.missing(key, service) {
            let is_ipv4 = family == Family::V4;
            let holder = describe(key);
            if let Some(address) = self.pools.allocate(is_ipv4, pool.map(|(_, pool)| pool), &holder) {
                self.own(key, service, address);
                continue;
            }
            let has_another = self.given.get(key).is_some_and(|given| !given.is_empty());
            if prefers && has_another && !self.pools.has_family(is_ipv4, &holder) {
                continue;
            }
            let family = family.as_str();
            let (field, reason) = match pool {
                Some((annotation, name)) if !self.pools.all().iter().any(|pool| pool.name == name) => {
                    let what = format!("there is no IPAddressPool called {name} ({})", self.describe());
                    (format!("metadata.annotations[{annotation}]"), what)
                }
                _ if pool.is_none() && !self.pools.has_family(is_ipv4, &holder) => {
                    let what = format!(
                        "no IPAddressPool has {family} addresses to give ({}): add a range to one, or create one",
                        self.describe()
                    );
                    ("status.loadBalancer".to_owned(), what)
                }
                _ => {
                    let what = format!(
                        "every {family} address is taken ({}): add a range to an IPAddressPool, or delete a Service of \
                         type LoadBalancer",
                        self.describe()
                    );
                    ("status.loadBalancer".to_owned(), what)
                }
            };
            let reason = format!("{reason}; until then the Service has no {family} address for the outside");
            problems.warn("Service", &service.metadata, &field, &reason);
        }
    }

    /// The families that still have no address and are to have one.
    fn missing(&self, key: &Key, service: &Service) -> Vec<Family> {
        if self.disappointed.contains(key) {
            return Vec::new();
        }
        let given = self.given.get(key).map_or(&[][..], Vec::as_slice);
        let has = |family: &Family| given.iter().any(|address| Family::of(*address) == *family);
        services::families(service).into_iter().filter(|family| !has(family)).collect()
    }

    fn own(&mut self, key: &Key, service: &Service, address: IpAddr) {
        let is_first = !self.sharers.contains_key(&address);
        let sharers = self.sharers.entry(address).or_default();
        if let Some(sharer) = Sharer::of(service).filter(|_| is_first || !sharers.is_empty()) {
            sharers.push(sharer);
        }
        self.pools.claim(address, &describe(key));
        if !has_status(service) {
            self.given.entry(key.clone()).or_default().push(address);
        }
    }

    fn is_shared_with(&self, address: IpAddr, service: &Service) -> bool {
        let Some(sharers) = self.sharers.get(&address).filter(|sharers| !sharers.is_empty()) else { return false };
        Sharer::of(service).is_some_and(|own| sharers.iter().all(|sharer| sharer.fits(&own)))
    }

    /// The pools, for people.
    fn describe(&self) -> String {
        let pools: Vec<String> = self.pools.all().iter().map(ToString::to_string).collect();
        if pools.is_empty() { "there is no pool".to_owned() } else { format!("pools: {}", pools.join(", ")) }
    }
}

fn describe((namespace, name): &Key) -> String {
    format!("Service {namespace}/{name}")
}
