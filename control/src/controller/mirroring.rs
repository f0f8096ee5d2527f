//! EndpointSlices for Endpoints that somebody wrote by hand for a Service without selector, as kube-controller-manager mirrors
//! them (KEP-752). Endpoints of a Service that has a selector, or slices of its own, are not looked at.

use super::endpoints::{ResolvedPort, slice};
use super::services::Family;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};
use std::net::IpAddr;

/// Label of Endpoints that are not to be mirrored.
const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";

/// Most endpoints of one slice, as for those that the controller computes itself.
const ENDPOINTS_MAX: usize = 100;

/// The slices that say the same as `endpoints`, which belong to `service`.
pub(super) fn slices(service: &Service, endpoints: &Endpoints) -> Vec<EndpointSlice> {
    let selects = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).is_some_and(|all| !all.is_empty());
    let labels = endpoints.metadata.labels.as_ref();
    let skips = labels.and_then(|labels| labels.get(SKIP_LABEL)).is_some_and(|value| value == "true");
    if selects || skips || super::services::is_external_name(service) {
        return Vec::new();
    }
    let mut slices = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports = ports(subset);
        for family in [Family::V4, Family::V6] {
            let listed = mirrored(subset.addresses.as_deref(), true, family).chain(mirrored(
                subset.not_ready_addresses.as_deref(),
                false,
                family,
            ));
            let listed: Vec<Endpoint> = listed.collect();
            let chunks = listed.chunks(ENDPOINTS_MAX);
            slices.extend(chunks.enumerate().map(|(number, chunk)| slice(service, family, &ports, number, chunk)));
        }
    }
    slices
}

fn ports(subset: &EndpointSubset) -> Vec<ResolvedPort> {
    let listed = subset.ports.iter().flatten().filter_map(|port| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        let number = u16::try_from(port.port).ok()?;
        Some((port.name.clone().unwrap_or_default(), protocol, number, port.app_protocol.clone()))
    });
    listed.collect()
}

fn mirrored(addresses: Option<&[EndpointAddress]>, ready: bool, family: Family) -> impl Iterator<Item = Endpoint> {
    let of_family = move |entry: &&EndpointAddress| entry.ip.parse::<IpAddr>().is_ok_and(|ip| Family::of(ip) == family);
    addresses.unwrap_or_default().iter().filter(of_family).map(move |entry| Endpoint {
        addresses: vec![entry.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), serving: Some(ready), terminating: Some(false) }),
        hostname: entry.hostname.clone(),
        node_name: entry.node_name.clone(),
        target_ref: entry.target_ref.clone(),
        ..Endpoint::default()
    })
}

#[cfg(test)]
mod tests {
    use crate::controller::{LabNetwork, fill};
    use policy::objects::{Object, parse};

    /// The slices of a Service `db` with `spec`, whose Endpoints have an address of each family and one that is not ready.
    fn slices(spec: &str, labels: &str) -> Vec<String> {
        let yaml = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: db}}, spec: {{{spec}, ports: [{{port: 5432}}]}}}}
---
apiVersion: v1
kind: Endpoints
metadata: {{name: db, labels: {{{labels}}}}}
subsets: [{{addresses: [{{ip: 192.0.2.1}}, {{ip: '2001:db8::1'}}], notReadyAddresses: [{{ip: 192.0.2.2}}], ports: [{{port: 6432}}]}}]
"
        );
        let parsed = parse("test.yaml", &yaml);
        assert_eq!(parsed.problems, []);
        let filled = fill(&parsed.objects, &[], &LabNetwork::default());
        let again = fill(&parsed.objects, &filled.objects, &LabNetwork::default());
        assert_eq!(filled.objects, again.objects);
        let slices = filled.objects.iter().filter_map(|sourced| match &sourced.object {
            Object::EndpointSlice(slice) => Some(slice),
            _ => None,
        });
        let texts = slices.map(|slice| {
            let endpoints = slice.endpoints.iter().flatten();
            let ready = |ready: Option<bool>| if ready == Some(true) { "" } else { " unready" };
            let endpoints: Vec<String> = endpoints
                .map(|e| format!("{}{}", e.addresses[0], ready(e.conditions.as_ref().and_then(|c| c.ready))))
                .collect();
            let port = slice.ports.iter().flatten().next().and_then(|port| port.port);
            format!("{} {:?} {}", slice.address_type, port, endpoints.join(", "))
        });
        texts.collect()
    }

    #[test]
    fn endpoints_of_a_service_without_selector_are_mirrored_by_family() {
        let mut slices = slices("type: ClusterIP", "");
        slices.sort();
        assert_eq!(slices, ["IPv4 Some(6432) 192.0.2.1, 192.0.2.2 unready", "IPv6 Some(6432) 2001:db8::1"]);
    }

    #[test]
    fn endpoints_of_a_service_with_a_selector_and_those_marked_to_be_skipped_are_not() {
        assert_eq!(slices("selector: {app: db}", ""), ["IPv4 None "], "the selector's own, which is empty");
        assert!(slices("type: ClusterIP", "endpointslice.kubernetes.io/skip-mirror: 'true'").is_empty());
    }
}
