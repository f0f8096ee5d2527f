//! ClusterIPs and IP families of Services.
//!
//! As the API server does it: one family unless ipFamilyPolicy asks for two, the default family first, `None` stays headless,
//! ExternalName has none. Addresses that a Service states are claimed first, then the ones that it had before, then the rest
//! get the lowest free ones above the static band (KEP-3070), which holds the well-known `.1` and `.10`.

use super::{Key, Problems};
use crate::ipam::Pool;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Addresses at the start of a Service range that are only given out on request; the largest band that KEP-3070 uses.
const STATIC_BAND: u128 = 257;

/// Completes all Services. A Service whose address cannot be had is refused and removed from `services`.
pub(super) fn fill(
    services: &mut BTreeMap<Key, Service>,
    previous: &BTreeMap<Key, Service>,
    ranges: &[IpNet],
    problems: &mut Problems,
) {
    let pools = ranges.iter().map(|range| Pool::new(*range).starting_at(STATIC_BAND)).collect();
    let mut allocator = Allocator { pools, owners: BTreeMap::new() };
    services.retain(|key, service| match allocator.claim_given(key, service) {
        Ok(()) => true,
        Err((field, reason)) => {
            problems.refuse("Service", &service.metadata, &field, &reason);
            false
        }
    });
    for (key, service) in services.iter_mut().filter(|(_, service)| wants_addresses(service)) {
        if let Some(before) = previous.get(key) {
            allocator.claim_previous(key, service, before);
        }
    }
    for before in previous.values() {
        allocator.rest(before);
    }
    services.retain(|key, service| match allocator.complete(key, service) {
        Ok(()) => true,
        Err((field, reason)) => {
            problems.refuse("Service", &service.metadata, &field, &reason);
            false
        }
    });
}

/// The families of a completed Service.
pub(super) fn families(service: &Service) -> Vec<Family> {
    let families = service.spec.iter().flat_map(|spec| spec.ip_families.iter().flatten());
    families.filter_map(|text| Family::find(text)).collect()
}

/// Whether the Service is of type ExternalName: a DNS name and nothing else.
pub(super) fn is_external_name(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

/// Whether the Service has no address of its own (`clusterIP: None`).
pub(super) fn is_headless(service: &Service) -> bool {
    stated(service).first() == Some(&"None")
}

/// An IP family under the name that the API has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    fn find(text: &str) -> Option<Family> {
        match text {
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            _ => None,
        }
    }

    /// As the API writes it, also in EndpointSlice.addressType.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    pub(super) fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// spec.clusterIPs, or spec.clusterIP if there is only that.
fn stated(service: &Service) -> Vec<&str> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let many: Vec<&str> = spec.cluster_ips.iter().flatten().map(String::as_str).collect();
    let one = spec.cluster_ip.iter().map(String::as_str).filter(|text| !text.is_empty());
    if many.is_empty() { one.collect() } else { many }
}

/// Whether the Service is to be given an address.
pub(super) fn lacks_address(service: &Service) -> bool {
    wants_addresses(service) && stated(service).is_empty()
}

fn wants_addresses(service: &Service) -> bool {
    !is_external_name(service) && !is_headless(service)
}

type Refusal = (String, String);

struct Allocator {
    pools: Vec<Pool>,
    owners: BTreeMap<IpAddr, Key>,
}

impl Allocator {
    fn claim_given(&mut self, key: &Key, service: &Service) -> Result<(), Refusal> {
        if !wants_addresses(service) {
            return Ok(());
        }
        for (position, text) in stated(service).into_iter().enumerate() {
            let field = || format!("spec.clusterIPs[{position}]");
            let address: IpAddr = text.parse().map_err(|_| (field(), format!("{text:?} is not an IP address")))?;
            if let Some((namespace, name)) = self.owners.get(&address) {
                return Err((field(), format!("{address} is already the address of Service {namespace}/{name}")));
            }
            self.own(key, address);
        }
        Ok(())
    }

    fn claim_previous(&mut self, key: &Key, service: &mut Service, before: &Service) {
        if !stated(service).is_empty() || !wants_addresses(before) {
            return;
        }
        let Some(families) = self.wanted_families(service) else { return };
        let addresses: Vec<IpAddr> = stated(before).into_iter().filter_map(|text| text.parse().ok()).collect();
        let same = |families: &[Family]| addresses.iter().copied().map(Family::of).eq(families.iter().copied());
        let free = |address: &IpAddr| {
            !self.owners.contains_key(address) && self.pools.iter().any(|pool| pool.check(*address).is_ok())
        };
        if same(&families) && addresses.iter().all(free) {
            for address in &addresses {
                self.own(key, *address);
            }
            set_addresses(service, &addresses);
        }
    }

    fn rest(&mut self, before: &Service) {
        for address in stated(before).into_iter().filter_map(|text| text.parse().ok()) {
            self.pools.iter_mut().for_each(|pool| pool.rest(address));
        }
    }

    /// Allocates what is missing and writes families, policy and addresses.
    fn complete(&mut self, key: &Key, service: &mut Service) -> Result<(), Refusal> {
        let spec = service.spec.get_or_insert_default();
        spec.type_.get_or_insert_with(|| "ClusterIP".to_owned());
        if is_external_name(service) {
            return Ok(());
        }
        let families = self.wanted_families(service).ok_or_else(|| {
            let reason = "there is no Service range for a family that it asks for";
            ("spec.ipFamilies".to_owned(), reason.to_owned())
        })?;
        let policy = if families.len() > 1 { "PreferDualStack" } else { "SingleStack" };
        let spec = service.spec.get_or_insert_default();
        spec.ip_family_policy.get_or_insert_with(|| policy.to_owned());
        spec.ip_families = Some(families.iter().map(|family| family.as_str().to_owned()).collect());
        if is_headless(service) {
            let spec = service.spec.get_or_insert_default();
            spec.cluster_ip = Some("None".to_owned());
            spec.cluster_ips = Some(vec!["None".to_owned()]);
            return Ok(());
        }
        let mut addresses: Vec<IpAddr> = stated(service).into_iter().filter_map(|text| text.parse().ok()).collect();
        for family in families {
            if addresses.iter().any(|address| Family::of(*address) == family) {
                continue;
            }
            let address = self.allocate(family).ok_or_else(|| {
                ("spec.clusterIPs".to_owned(), format!("the {} Service range is full", family.as_str()))
            })?;
            self.own(key, address);
            addresses.push(address);
        }
        set_addresses(service, &addresses);
        Ok(())
    }

    /// The families that a Service is to have, in order; `None` if one of them has no range.
    fn wanted_families(&self, service: &Service) -> Option<Vec<Family>> {
        let spec = service.spec.as_ref();
        let mut wanted: Vec<Family> = stated(service).iter().filter_map(|t| t.parse().ok()).map(Family::of).collect();
        for family in families(service) {
            if !wanted.contains(&family) {
                wanted.push(family);
            }
        }
        let available: Vec<Family> = self.pools.iter().map(|pool| Family::of(pool.range().addr())).collect();
        if wanted.is_empty() {
            wanted.extend(available.first());
        }
        match spec.and_then(|spec| spec.ip_family_policy.as_deref()) {
            Some("PreferDualStack") => {
                wanted.extend(available.iter().filter(|f| !wanted.contains(f)).collect::<Vec<_>>())
            }
            Some("RequireDualStack") if available.len() < 2 => return None,
            Some("RequireDualStack") => {
                wanted.extend(available.iter().filter(|f| !wanted.contains(f)).collect::<Vec<_>>())
            }
            _ => {}
        }
        let stated = !stated(service).is_empty();
        (stated || wanted.iter().all(|family| available.contains(family))).then_some(wanted)
    }

    fn allocate(&mut self, family: Family) -> Option<IpAddr> {
        self.pools.iter_mut().find(|pool| Family::of(pool.range().addr()) == family)?.allocate()
    }

    fn own(&mut self, key: &Key, address: IpAddr) {
        self.owners.insert(address, key.clone());
        for pool in &mut self.pools {
            // A stated address may be outside of every range (a cluster that was copied) or in the static band.
            let _ = pool.claim(address);
        }
    }
}

fn set_addresses(service: &mut Service, addresses: &[IpAddr]) {
    let spec = service.spec.get_or_insert_default();
    spec.cluster_ip = addresses.first().map(ToString::to_string);
    spec.cluster_ips = Some(addresses.iter().map(ToString::to_string).collect());
}
