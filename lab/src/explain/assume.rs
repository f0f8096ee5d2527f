//! Pods that no object describes, but that a question or an EndpointSlice takes for granted.

use crate::census::Census;
use k8s_openapi::api::core::v1::{Pod, PodIP};
use policy::objects::{Object, Source, Sourced};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Namespace of a pod of which only an address is known.
pub(super) const NAMESPACE: &str = "default";

/// A running pod without labels.
pub(super) fn pod(namespace: &str, name: &str, node: &str, addresses: &[IpAddr]) -> Sourced<Object> {
    let mut pod = Pod::default();
    pod.metadata.namespace = Some(namespace.to_owned());
    pod.metadata.name = Some(name.to_owned());
    pod.spec.get_or_insert_default().node_name = Some(node.to_owned());
    let status = pod.status.get_or_insert_default();
    status.phase = Some("Running".to_owned());
    status.pod_ips = Some(addresses.iter().map(|address| PodIP { ip: address.to_string() }).collect());
    Sourced { source: Source { file: "assumed".into(), document: 0 }, object: pod.into() }
}

/// The name of a pod of which only an address is known.
pub(super) fn name_of(address: IpAddr) -> String {
    format!("ip-{}", address.to_string().replace(['.', ':'], "-"))
}

/// The pods that EndpointSlices are about and that are not among the objects. Where a slice says which node an endpoint is on, or
/// a node's pod range holds its address, somebody left the pod out; any other endpoint is outside of the cluster.
pub(super) fn behind_endpoints(census: &Census) -> Vec<Sourced<Object>> {
    let mut found: BTreeMap<IpAddr, Sourced<Object>> = BTreeMap::new();
    for ((namespace, _), slices) in &census.slices {
        for endpoint in slices.iter().flat_map(|slice| slice.endpoints.iter().flatten()) {
            for address in endpoint.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok()) {
                if census.pod_of(address).is_some() || census.node_of(address).is_some() {
                    continue;
                }
                let named = endpoint.node_name.as_deref().filter(|node| census.nodes.contains_key(*node));
                let Some(node) = named.or_else(|| census.pod_range_of(address).map(|(node, _)| node)) else { continue };
                found.entry(address).or_insert_with(|| pod(namespace, &name_of(address), node, &[address]));
            }
        }
    }
    found.into_values().collect()
}
