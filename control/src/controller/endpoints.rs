//! EndpointSlices of Services that have a selector.
//!
//! One slice or more per family and per set of resolved ports: a named targetPort may be another number in every pod, as may
//! be the case while a Deployment changes. A Service that comes with its own EndpointSlices in the manifests keeps those.

use super::placement::{Place, has_ended};
use super::services::{self, Family};
use super::{Key, hints, key, names};
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;

/// Most endpoints of one slice; kube-controller-manager's default (the API allows 1,000). A pod that changes rewrites the
/// slice that it is in.
const ENDPOINTS_MAX: usize = 100;

/// Label that names the Service of a slice.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Label that says who computes a slice.
const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";

/// Label that kube-controller-manager puts on slices of headless Services.
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// Our value of [`MANAGED_BY_LABEL`].
const MANAGER: &str = "podplane-controller";

/// A port of a slice, in the order in which slices are told apart: name, protocol, number, appProtocol.
pub(super) type ResolvedPort = (String, String, u16, Option<String>);

/// Whether a slice of the manifests was computed by this controller, and will be again.
pub(super) fn is_ours(slice: &EndpointSlice) -> bool {
    slice.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY_LABEL)).is_some_and(|by| by == MANAGER)
}

/// The Service that a slice belongs to.
pub(super) fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_LABEL)?;
    Some((slice.metadata.namespace.clone().unwrap_or_default(), name.clone()))
}

/// The slices of `service`.
pub(super) fn slices(
    service: &Service,
    pods: &BTreeMap<Key, Pod>,
    places: &BTreeMap<Key, Place>,
    nodes: &[Node],
) -> Vec<EndpointSlice> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let Some(selector) = spec.selector.as_ref().filter(|selector| !selector.is_empty()) else { return Vec::new() };
    if services::is_external_name(service) {
        return Vec::new();
    }
    let (namespace, _) = key(&service.metadata);
    let selected: Vec<(&Key, &Pod)> = pods
        .range((namespace.clone(), String::new())..)
        .take_while(|((ns, _), _)| *ns == namespace)
        .filter(|(_, pod)| !has_ended(pod) && super::has_labels(&pod.metadata, selector))
        .collect();
    let mut slices = Vec::new();
    for family in services::families(service) {
        let mut groups: BTreeMap<Vec<ResolvedPort>, Vec<Endpoint>> = BTreeMap::new();
        for (key, pod) in &selected {
            let Some(place) = places.get(*key) else { continue };
            let Some(address) = place.addresses.iter().find(|address| Family::of(**address) == family) else {
                continue;
            };
            let ports = spec.ports.iter().flatten().filter_map(|port| resolve(port, pod)).collect();
            let node = place.node.map(|index| &nodes[index]);
            groups.entry(ports).or_default().push(endpoint(service, pod, address.to_string(), node));
        }
        if groups.is_empty() {
            // The Service exists and has nothing behind it, which is something else than not knowing.
            groups.insert(Vec::new(), Vec::new());
        }
        for (ports, mut endpoints) in groups {
            hints::fill(service, &mut endpoints, nodes);
            let mut chunks: Vec<&[Endpoint]> = endpoints.chunks(ENDPOINTS_MAX).collect();
            if chunks.is_empty() {
                chunks.push(&[]);
            }
            for (number, chunk) in chunks.into_iter().enumerate() {
                slices.push(slice(service, family, &ports, number, chunk));
            }
        }
    }
    slices
}

/// The number behind a Service port in `pod`; `None` if the pod has no port of that name.
fn resolve(port: &ServicePort, pod: &Pod) -> Option<ResolvedPort> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            // Sidecars are init containers that are restarted for good.
            let sidecars =
                spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
            let mut ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
            let named =
                ports.find(|p| p.name.as_ref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol)?;
            named.container_port
        }
    };
    let name = port.name.clone().unwrap_or_default();
    Some((name, protocol.to_owned(), u16::try_from(number).ok()?, port.app_protocol.clone()))
}

fn endpoint(service: &Service, pod: &Pod, address: String, node: Option<&Node>) -> Endpoint {
    let spec = service.spec.as_ref();
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let publish = spec.and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    let serving = publish || is_ready(pod);
    let (namespace, name) = key(&pod.metadata);
    let pod_spec = pod.spec.as_ref();
    let same_domain = pod_spec.and_then(|spec| spec.subdomain.as_deref()) == service.metadata.name.as_deref();
    let zone = node.and_then(hints::zone).cloned();
    Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            // publishNotReadyAddresses also covers pods that are going away.
            ready: Some(publish || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: pod_spec.and_then(|spec| spec.hostname.clone()).filter(|_| same_domain),
        node_name: node.map(|node| super::nodes::name(node).to_owned()),
        zone,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: Some(namespace),
            name: Some(name),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

/// Whether the pod's Ready condition is true.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// One slice of `service`.
pub(super) fn slice(
    service: &Service,
    family: Family,
    ports: &[ResolvedPort],
    number: usize,
    endpoints: &[Endpoint],
) -> EndpointSlice {
    let (namespace, name) = key(&service.metadata);
    let ports_text = format!("{ports:?}");
    let suffix =
        names::suffix(&["EndpointSlice", &namespace, &name, family.as_str(), &ports_text, &number.to_string()]);
    let mut labels =
        BTreeMap::from([(SERVICE_LABEL.to_owned(), name.clone()), (MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned())]);
    if services::is_headless(service) {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Service".to_owned(),
        uid: service.metadata.uid.clone().unwrap_or_else(|| names::uid(&["Service", &namespace, &name])),
        controller: Some(true),
        block_owner_deletion: Some(true),
        name: name.clone(),
    };
    let port = |(name, protocol, number, app_protocol): &ResolvedPort| EndpointPort {
        name: Some(name.clone()),
        protocol: Some(protocol.clone()),
        port: Some(i32::from(*number)),
        app_protocol: app_protocol.clone(),
    };
    EndpointSlice {
        metadata: ObjectMeta {
            namespace: Some(namespace),
            name: Some(format!("{name}-{suffix}")),
            labels: Some(labels),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        address_type: family.as_str().to_owned(),
        endpoints: Some(endpoints.to_vec()),
        ports: Some(ports.iter().map(port).collect()),
    }
}
