//! Who and what is in a cluster, as far as names lead there: nodes, pods that have not ended, Services, EndpointSlices.
//!
//! In: completed objects, of a lab's cluster directory or of manifests after [`control::controller::fill`]. Out: lookups for
//! [`crate::place`] and [`crate::names`], so that a name means the same to a probe and to `explain`.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use policy::objects::Object;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// Label of an EndpointSlice that names its Service (KEP-752).
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Namespace and name.
pub(crate) type Key = (String, String);

/// The objects of a cluster that names lead to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Census {
    pub(crate) nodes: BTreeMap<String, Arc<Node>>,
    pub(crate) pods: BTreeMap<Key, Arc<Pod>>,
    pub(crate) services: BTreeMap<Key, Arc<Service>>,
    /// The pod that owns an address.
    owners: HashMap<IpAddr, Key>,
    /// By the Service that they belong to.
    pub(crate) slices: BTreeMap<Key, Vec<Arc<EndpointSlice>>>,
}

impl Census {
    /// Takes what is of interest.
    pub(crate) fn of<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Census {
        let mut census = Census::default();
        for object in objects {
            let metadata = object.metadata();
            let namespace = metadata.namespace.clone().unwrap_or_default();
            let name = metadata.name.clone().unwrap_or_default();
            match object {
                Object::Node(node) => drop(census.nodes.insert(name, node.clone())),
                Object::Pod(pod) if !has_ended(pod) => {
                    // A pod of the host network owns none: its address is the node's.
                    let own = if is_host_network(pod) { Vec::new() } else { pod_addresses(pod) };
                    for address in own {
                        census.owners.entry(address).or_insert_with(|| (namespace.clone(), name.clone()));
                    }
                    census.pods.insert((namespace, name), pod.clone());
                }
                Object::Service(service) => drop(census.services.insert((namespace, name), service.clone())),
                Object::EndpointSlice(slice) => {
                    if let Some(service) = metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME_LABEL)) {
                        census.slices.entry((namespace, service.clone())).or_default().push(slice.clone());
                    }
                }
                _ => {}
            }
        }
        census
    }

    /// The pod `namespace`/`name`.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<&Pod> {
        self.pods.get(&(namespace.to_owned(), name.to_owned())).map(|pod| &**pod)
    }

    /// The Service `namespace`/`name`.
    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.services.get(&(namespace.to_owned(), name.to_owned())).map(|service| &**service)
    }

    /// The pod that owns `address`.
    pub(crate) fn pod_of(&self, address: IpAddr) -> Option<&Key> {
        self.owners.get(&address)
    }

    /// The node that owns `address`.
    pub(crate) fn node_of(&self, address: IpAddr) -> Option<&str> {
        let mut nodes = self.nodes.iter();
        nodes.find(|(_, node)| node_addresses(node).contains(&address)).map(|(name, _)| name.as_str())
    }

    /// The node whose pod range holds `address`, and the range.
    pub(crate) fn pod_range_of(&self, address: IpAddr) -> Option<(&str, IpNet)> {
        let ranges = self
            .nodes
            .iter()
            .flat_map(|(name, node)| pod_cidrs(node).into_iter().map(move |cidr| (name.as_str(), cidr)));
        ranges.filter(|(_, cidr)| cidr.contains(&address)).max_by_key(|(_, cidr)| cidr.prefix_len())
    }

    /// `NAMESPACE/NAME` of every pod.
    pub(crate) fn pod_names(&self) -> Vec<String> {
        self.pods.keys().map(|(namespace, name)| format!("{namespace}/{name}")).collect()
    }
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// spec.hostNetwork.
pub(crate) fn is_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
}

/// status.podIPs, or status.podIP if there is only that.
pub(crate) fn pod_addresses(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else { return Vec::new() };
    let one = status.pod_ip.iter().filter(|_| status.pod_ips.is_none());
    status.pod_ips.iter().flatten().map(|ip| &ip.ip).chain(one).filter_map(|ip| ip.parse().ok()).collect()
}

/// The addresses of a node, internal ones first.
pub(crate) fn node_addresses(node: &Node) -> Vec<IpAddr> {
    let listed = || node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let of_kind = |kind: &'static str| listed().filter(move |a| a.type_ == kind).filter_map(|a| a.address.parse().ok());
    of_kind("InternalIP").chain(of_kind("ExternalIP")).collect()
}

/// spec.podCIDRs, or spec.podCIDR if there is only that.
pub(crate) fn pod_cidrs(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let one = spec.pod_cidr.iter().filter(|_| spec.pod_cidrs.is_none());
    spec.pod_cidrs.iter().flatten().chain(one).filter_map(|cidr| cidr.parse().ok()).collect()
}
