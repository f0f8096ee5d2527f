//! The names of the cluster DNS, compiled from Services, EndpointSlices and namespaces.
//!
//! In: each Service with its slices, by itself. Out: [`Names`], where a name and an address are found, and [`find`], which says what a
//! name stands for by the Kubernetes DNS specification 1.1.0. Names are kept in lower case and without the cluster's zone, which
//! is the responder's business; they are looked up in the form in which a query has them (labels with their lengths in front, RFC
//! 1035 §3.1), so that nothing is converted.
//!
//! A change of a Service replaces what its own names and addresses hold; everything else is shared with the tables before it
//! ([`shards`]).

mod dashed;
mod explain;
mod find;
mod service;
mod shards;

pub use dashed::{Dashed, parse_dashed};
pub use explain::{Explained, explain};
pub use find::{Found, Missing, PodRecords, find};
pub use service::{Endpoints, Host, HostAddresses, NamedPort, PortHosts, ServiceKey, ServiceNames, Stands};

use crate::cluster::Key;
use shards::Shards;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Shards of Services, and of addresses: with 5,000 Services and 250,000 endpoints, some twenty and some two hundred in each.
const SERVICE_SHARDS: usize = 256;
const ADDRESS_SHARDS: usize = 1024;

/// What the names of a cluster stand for.
#[derive(Clone, Debug)]
pub struct Names {
    /// By the hash of the key.
    services: Shards<(u64, Arc<ServiceNames>), SERVICE_SHARDS>,
    /// Who has an address: as a ClusterIP, or as that of an endpoint.
    v4: Shards<(Ipv4Addr, Arc<ServiceKey>), ADDRESS_SHARDS>,
    v6: Shards<(Ipv6Addr, Arc<ServiceKey>), ADDRESS_SHARDS>,
    /// How many Services each namespace has.
    namespaces: Arc<BTreeMap<Arc<str>, u32>>,
}

impl Default for Names {
    fn default() -> Names {
        Names { services: Shards::new(), v4: Shards::new(), v6: Shards::new(), namespaces: Arc::default() }
    }
}

impl Names {
    /// The Service whose labels, with those of its namespace, are `wire`: each with its length in front, in lower case.
    pub fn service(&self, wire: &[u8]) -> Option<&ServiceNames> {
        let hash = shards::hash(wire);
        let shard = self.services.of(hash);
        let start = shard.partition_point(|(other, _)| *other < hash);
        let alike = shard[start..].iter().take_while(|(other, _)| *other == hash);
        alike.map(|(_, service)| &**service).find(|service| service.key.wire() == wire)
    }

    /// The Service `namespace`/`name`.
    pub fn service_of(&self, namespace: &str, name: &str) -> Option<&ServiceNames> {
        self.service(ServiceKey::new(&(namespace.into(), name.into()))?.wire())
    }

    /// The Services that have `addr` as a ClusterIP, or as the address of a ready endpoint, in order of namespace and name.
    pub fn holders(&self, addr: IpAddr) -> impl Iterator<Item = &ServiceNames> {
        let (v4, v6) = match addr {
            IpAddr::V4(addr) => (range(self.v4.of(shards::hash(&addr.octets())), addr), None),
            IpAddr::V6(addr) => (None, range(self.v6.of(shards::hash(&addr.octets())), addr)),
        };
        let v4 = v4.into_iter().flatten().map(|(_, key)| key);
        let v6 = v6.into_iter().flatten().map(|(_, key)| key);
        v4.chain(v6).filter_map(|key| self.service(key.wire()))
    }

    /// Whether a Service is in the namespace `namespace`.
    pub fn has_services(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    /// All Services, in no order that means anything.
    pub fn services(&self) -> impl Iterator<Item = &ServiceNames> {
        self.services.iter().map(|(_, service)| &**service)
    }

    /// Has the Service `key` stand for `next` with those endpoints, or for nothing.
    pub(crate) fn replace(&mut self, key: &Key, next: Option<(Stands, Endpoints)>) {
        let Some(key) = ServiceKey::new(key) else { return };
        let before = self.service(key.wire());
        let known = before.map(|service| service.key.clone());
        let key = known.clone().unwrap_or_else(|| Arc::new(key));
        let next = next.map(|(stands, endpoints)| ServiceNames { key: key.clone(), stands, endpoints });
        if before == next.as_ref() {
            return;
        }
        let addresses_before = before.map(ServiceNames::addresses).unwrap_or_default();
        let addresses = next.as_ref().map(ServiceNames::addresses).unwrap_or_default();
        for addr in addresses_before.iter().filter(|addr| addresses.binary_search(addr).is_err()) {
            self.hold(*addr, &key, false);
        }
        for addr in addresses.iter().filter(|addr| addresses_before.binary_search(addr).is_err()) {
            self.hold(*addr, &key, true);
        }
        match (known.is_some(), next.is_some()) {
            (false, true) => *Arc::make_mut(&mut self.namespaces).entry(key.namespace.clone()).or_default() += 1,
            (true, false) => self.leave(&key.namespace),
            _ => {}
        }
        let hash = shards::hash(key.wire());
        let shard = self.services.of_mut(hash);
        let found = shard.binary_search_by(|(other, service)| (*other, service.key.wire()).cmp(&(hash, key.wire())));
        match (found, next) {
            (Ok(at), Some(next)) => shard[at].1 = Arc::new(next),
            (Ok(at), None) => drop(shard.remove(at)),
            (Err(at), Some(next)) => shard.insert(at, (hash, Arc::new(next))),
            (Err(_), None) => {}
        }
    }

    /// Everything that is in it, in an order.
    #[cfg(test)]
    pub(crate) fn content(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.services().map(|service| format!("{service:?}")).collect();
        lines.extend(self.v4.iter().map(|holder| format!("{holder:?}")));
        lines.extend(self.v6.iter().map(|holder| format!("{holder:?}")));
        lines.extend(self.namespaces.iter().map(|namespace| format!("{namespace:?}")));
        lines.sort();
        lines
    }

    /// How many lists are not the very ones of `other`.
    #[cfg(test)]
    pub(crate) fn unshared(&self, other: &Names) -> usize {
        self.services.unshared(&other.services) + self.v4.unshared(&other.v4) + self.v6.unshared(&other.v6)
    }

    /// Notes that the Service `key` has `addr`, or that it has it no more.
    fn hold(&mut self, addr: IpAddr, key: &Arc<ServiceKey>, holds: bool) {
        match addr {
            IpAddr::V4(addr) => note(self.v4.of_mut(shards::hash(&addr.octets())), addr, key, holds),
            IpAddr::V6(addr) => note(self.v6.of_mut(shards::hash(&addr.octets())), addr, key, holds),
        }
    }

    fn leave(&mut self, namespace: &Arc<str>) {
        let namespaces = Arc::make_mut(&mut self.namespaces);
        if let Some(count) = namespaces.get_mut(namespace) {
            *count -= 1;
            if *count == 0 {
                namespaces.remove(namespace);
            }
        }
    }
}

/// What is listed of `addr`.
fn range<A: Ord + Copy>(listed: &[(A, Arc<ServiceKey>)], addr: A) -> Option<&[(A, Arc<ServiceKey>)]> {
    let start = listed.partition_point(|(other, _)| *other < addr);
    let count = listed[start..].iter().take_while(|(other, _)| *other == addr).count();
    (count > 0).then(|| &listed[start..start + count])
}

fn note<A: Ord + Copy>(listed: &mut Vec<(A, Arc<ServiceKey>)>, addr: A, key: &Arc<ServiceKey>, holds: bool) {
    match (listed.binary_search_by(|(other, holder)| (*other, holder).cmp(&(addr, key))), holds) {
        (Err(at), true) => listed.insert(at, (addr, key.clone())),
        (Ok(at), false) => drop(listed.remove(at)),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
