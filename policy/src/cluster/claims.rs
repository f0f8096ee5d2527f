//! What two objects cannot both have: addresses of nodes, pods and Services, and pod CIDRs of nodes.
//!
//! In: objects in the order of their source. Out: the ones that claim what an earlier one has. Nodes come before pods and
//! pods before Services, so that a mistake in the lesser thing does not take down the greater. Pods of the host network and
//! pods that have ended claim nothing.

use crate::objects::{Object, Problem, Severity, Source, Sourced};
use crate::tables::gateway;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The problems, by position in `objects`.
pub(super) fn judge(objects: &[Sourced<Object>]) -> BTreeMap<usize, Problem> {
    let mut claims = Claims::default();
    let mut problems = BTreeMap::new();
    for rank in 0..3 {
        for (position, sourced) in objects.iter().enumerate() {
            let Some((of_rank, wish)) = Wish::of(&sourced.object) else { continue };
            if of_rank == rank
                && let Err((field, message)) = claims.claim(sourced, wish)
            {
                let reference = sourced.object.reference();
                problems.insert(position, Problem::of(&sourced.source, reference, field, message, Severity::Refused));
            }
        }
    }
    problems
}

/// What an object claims, and the field that says so.
struct Wish {
    field: &'static str,
    addresses: Vec<IpAddr>,
    cidrs: Vec<IpNet>,
}

impl Wish {
    /// The rank of the object's kind and its wish; `None` if it claims nothing.
    fn of(object: &Object) -> Option<(u32, Wish)> {
        match object {
            Object::Node(node) => {
                let cidrs = pod_cidrs(node);
                let mut addresses = node_addresses(node);
                addresses.extend(cidrs.iter().copied().map(gateway));
                Some((0, Wish { field: "status.addresses", addresses, cidrs }))
            }
            Object::Pod(pod) if claims_nothing(pod) => None,
            Object::Pod(pod) => {
                Some((1, Wish { field: "status.podIPs", addresses: pod_addresses(pod), cidrs: Vec::new() }))
            }
            Object::Service(service) => {
                let addresses = cluster_ips(service);
                Some((2, Wish { field: "spec.clusterIPs", addresses, cidrs: Vec::new() }))
            }
            _ => None,
        }
    }
}

/// What is taken, and by whom.
#[derive(Default)]
struct Claims<'a> {
    addresses: BTreeMap<IpAddr, &'a Sourced<Object>>,
    /// By first address: CIDRs either nest or do not touch, so only neighbors have to be compared.
    cidrs: BTreeMap<IpAddr, (IpNet, &'a Sourced<Object>)>,
}

impl<'a> Claims<'a> {
    /// Takes all that is wished, or nothing; then the error names the field and the holder.
    fn claim(&mut self, sourced: &'a Sourced<Object>, wish: Wish) -> Result<(), (&'static str, String)> {
        for cidr in &wish.cidrs {
            if let Some((other, holder)) = self.overlapping(*cidr) {
                return Err(("spec.podCIDRs", format!("{cidr} overlaps {other} of {}", name(holder))));
            }
        }
        for address in &wish.addresses {
            if let Some(holder) = self.addresses.get(address) {
                return Err((wish.field, format!("{address} is already used by {}", name(holder))));
            }
        }
        self.addresses.extend(wish.addresses.into_iter().map(|address| (address, sourced)));
        self.cidrs.extend(wish.cidrs.into_iter().map(|cidr| (cidr.network(), (cidr, sourced))));
        Ok(())
    }

    fn overlapping(&self, cidr: IpNet) -> Option<(IpNet, &'a Sourced<Object>)> {
        let before = self.cidrs.range(..=cidr.network()).next_back();
        let after = self.cidrs.range(cidr.network()..).next();
        let mut neighbors = before.into_iter().chain(after).map(|(_, claim)| *claim);
        neighbors.find(|(other, _)| other.contains(&cidr) || cidr.contains(other))
    }
}

fn name(holder: &Sourced<Object>) -> String {
    let Source { file, document } = &holder.source;
    format!("{} in {file} (document {document})", holder.object.reference())
}

fn claims_nothing(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let host_network = pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
    host_network || matches!(phase, Some("Succeeded" | "Failed"))
}

// Fields that do not parse claim nothing: validation has refused their objects.

fn pod_addresses(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else { return Vec::new() };
    match &status.pod_ips {
        Some(listed) => listed.iter().filter_map(|entry| entry.ip.parse().ok()).collect(),
        None => status.pod_ip.iter().filter_map(|text| text.parse().ok()).collect(),
    }
}

fn node_addresses(node: &Node) -> Vec<IpAddr> {
    let listed = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let listed = listed.filter(|entry| matches!(entry.type_.as_str(), "InternalIP" | "ExternalIP"));
    listed.filter_map(|entry| entry.address.parse().ok()).collect()
}

fn pod_cidrs(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let texts = spec.pod_cidrs.as_deref().unwrap_or(spec.pod_cidr.as_slice());
    texts.iter().filter_map(|text| text.parse().ok()).map(|cidr: IpNet| cidr.trunc()).collect()
}

fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let texts = spec.cluster_ips.as_deref().unwrap_or(spec.cluster_ip.as_slice());
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}
