//! The lab's controller: what the scheduler, IPAM and the Namespace, Deployment, ReplicaSet, StatefulSet, DaemonSet, Service
//! and EndpointSlice controllers do to a cluster's objects, as one pure function.
//!
//! In: the objects as a person wrote them, the result of the last call, the address plan. Out: objects as a node needs
//! them: every Namespace exists, every Node has pod ranges and addresses, every Pod a node, addresses and conditions, every
//! Service its ClusterIPs, and every Service with a selector, or with Endpoints of its own, its EndpointSlices; and what serves
//! Ingresses and Gateways is there if they are podplane's to serve. What the manifests state is taken as it is;
//! only what is missing is filled in.
//!
//! Stable: the same input gives the same output, its own output as `previous` changes nothing, and a change moves nothing
//! that it does not concern (nodes, addresses and names stay). There is no clock: nothing rolls out step by step.

mod endpoints;
mod hints;
mod ingress_proxy;
mod lacking;
mod load_balancers;
mod mirroring;
mod names;
mod network;
mod node_ports;
mod nodes;
mod placement;
mod publish;
mod services;
mod status;
mod workloads;

#[cfg(test)]
mod tests;

pub use ingress_proxy::{PROXY_LABEL, PROXY_NAME, PROXY_NAMESPACE};
pub(crate) use lacking::Lacking;
pub(crate) use load_balancers::give_load_balancer_addresses;
pub use network::LabNetwork;
pub use publish::publish;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Node, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, NetworkPolicy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use policy::objects::{
    ClusterNetworkPolicy, Gateway, GatewayClass, HTTPRoute, IPAddressPool, Object, ObjectRef, Problem, ReferenceGrant,
    Severity, Source, Sourced,
};
use policy::selector::Selector;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

pub(crate) use names::suffix;

/// Where the objects that the controller makes say they come from.
const SOURCE: &str = "controller";

/// Label of a namespace with its name, set by the API server.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Namespace and name.
type Key = (String, String);

/// Namespace and name of a Service.
pub(crate) type ServiceKey = Key;

/// The result of [`fill`].
#[derive(Clone, Debug, Default)]
pub struct Filled {
    /// Namespaces, Nodes, Pods, Services, EndpointSlices, NetworkPolicies, ClusterNetworkPolicies, Ingresses, IngressClasses,
    /// Secrets, GatewayClasses, Gateways, HTTPRoutes and ReferenceGrants, in this order, each by namespace and name.
    pub objects: Vec<Sourced<Object>>,
    /// Objects that were refused, and why; everything else is in `objects`. Warnings are about what an object lacks there.
    pub problems: Vec<Problem>,
}

/// Fills in what `desired` leaves open; `previous` are the objects of the last result.
pub fn fill<'a>(
    desired: impl IntoIterator<Item = &'a Sourced<Object>>,
    previous: impl IntoIterator<Item = &'a Sourced<Object>>,
    network: &LabNetwork,
) -> Filled {
    let mut problems = Problems::default();
    let mut state = State::default();
    for sourced in desired {
        problems.sources.insert(sourced.object.reference(), sourced.source.clone());
        state.insert(sourced.object.clone());
    }
    let mut before = State::default();
    previous.into_iter().for_each(|sourced| before.insert(sourced.object.clone()));

    ingress_proxy::add(&mut state);
    let named = state.pods.values().filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).filter(|n| !n.is_empty());
    let nodes = nodes::fill(&state.nodes, &before.nodes, &named.collect(), network);
    let made = state.expand(&nodes, &mut problems);
    state.pods.extend(made);
    let places = placement::place(&state.pods, &nodes, &before.pods, &mut problems);
    state.pods.retain(|key, _| places.contains_key(key));
    for (key, pod) in &mut state.pods {
        status::fill(pod, &places[key], &nodes);
    }
    services::fill(&mut state.services, &before.services, &network.services, &mut problems);
    node_ports::fill(&mut state.services, &before.services, &mut problems);
    state.give_addresses(&before, &nodes, network, &mut problems);
    state.compute_endpoints(&places, &nodes);
    state.complete_namespaces();
    state.nodes = nodes.into_iter().map(|node| (nodes::name(&node).to_owned(), node)).collect();
    Filled { objects: state.into_objects(&problems), problems: problems.list }
}

/// Objects by kind and name.
#[derive(Default)]
struct State {
    namespaces: BTreeMap<String, Namespace>,
    nodes: BTreeMap<String, Node>,
    pods: BTreeMap<Key, Pod>,
    deployments: BTreeMap<Key, Deployment>,
    replica_sets: BTreeMap<Key, ReplicaSet>,
    stateful_sets: BTreeMap<Key, StatefulSet>,
    daemon_sets: BTreeMap<Key, DaemonSet>,
    services: BTreeMap<Key, Service>,
    slices: BTreeMap<Key, EndpointSlice>,
    policies: BTreeMap<Key, NetworkPolicy>,
    cluster_policies: BTreeMap<Key, ClusterNetworkPolicy>,
    endpoints: BTreeMap<Key, Endpoints>,
    pools: BTreeMap<Key, IPAddressPool>,
    ingresses: BTreeMap<Key, Ingress>,
    ingress_classes: BTreeMap<Key, IngressClass>,
    secrets: BTreeMap<Key, Secret>,
    gateway_classes: BTreeMap<Key, GatewayClass>,
    gateways: BTreeMap<Key, Gateway>,
    http_routes: BTreeMap<Key, HTTPRoute>,
    reference_grants: BTreeMap<Key, ReferenceGrant>,
}

impl State {
    fn insert(&mut self, object: Object) {
        let key = key(object.metadata());
        match object {
            Object::Namespace(namespace) => drop(self.namespaces.insert(key.1, Arc::unwrap_or_clone(namespace))),
            Object::Node(node) => drop(self.nodes.insert(key.1, Arc::unwrap_or_clone(node))),
            Object::Pod(pod) => drop(self.pods.insert(key, Arc::unwrap_or_clone(pod))),
            Object::Deployment(deployment) => drop(self.deployments.insert(key, Arc::unwrap_or_clone(deployment))),
            Object::ReplicaSet(set) => drop(self.replica_sets.insert(key, Arc::unwrap_or_clone(set))),
            Object::StatefulSet(set) => drop(self.stateful_sets.insert(key, Arc::unwrap_or_clone(set))),
            Object::DaemonSet(set) => drop(self.daemon_sets.insert(key, Arc::unwrap_or_clone(set))),
            Object::Service(service) => drop(self.services.insert(key, Arc::unwrap_or_clone(service))),
            Object::EndpointSlice(slice) => drop(self.slices.insert(key, Arc::unwrap_or_clone(slice))),
            Object::NetworkPolicy(policy) => drop(self.policies.insert(key, Arc::unwrap_or_clone(policy))),
            Object::ClusterNetworkPolicy(policy) => {
                drop(self.cluster_policies.insert(key, Arc::unwrap_or_clone(policy)))
            }
            Object::Endpoints(endpoints) => drop(self.endpoints.insert(key, Arc::unwrap_or_clone(endpoints))),
            Object::IPAddressPool(pool) => drop(self.pools.insert(key, Arc::unwrap_or_clone(pool))),
            Object::Ingress(ingress) => drop(self.ingresses.insert(key, Arc::unwrap_or_clone(ingress))),
            Object::IngressClass(class) => drop(self.ingress_classes.insert(key, Arc::unwrap_or_clone(class))),
            Object::Secret(secret) => drop(self.secrets.insert(key, Arc::unwrap_or_clone(secret))),
            Object::GatewayClass(class) => drop(self.gateway_classes.insert(key, Arc::unwrap_or_clone(class))),
            Object::Gateway(gateway) => drop(self.gateways.insert(key, Arc::unwrap_or_clone(gateway))),
            Object::HTTPRoute(route) => drop(self.http_routes.insert(key, Arc::unwrap_or_clone(route))),
            Object::ReferenceGrant(grant) => drop(self.reference_grants.insert(key, Arc::unwrap_or_clone(grant))),
        }
    }

    /// The pods of all workloads.
    fn expand(&self, nodes: &[Node], problems: &mut Problems) -> BTreeMap<Key, Pod> {
        let mut expansion = workloads::Expansion::new(&self.pods, problems);
        self.deployments.values().for_each(|deployment| expansion.deployment(deployment, &self.replica_sets));
        self.replica_sets.values().for_each(|set| expansion.replica_set(set));
        self.stateful_sets.values().for_each(|set| expansion.stateful_set(set));
        self.daemon_sets.values().for_each(|set| expansion.daemon_set(set, nodes));
        expansion.finish()
    }

    fn give_addresses(&mut self, before: &State, nodes: &[Node], network: &LabNetwork, problems: &mut Problems) {
        let of_node = |node: &Node| {
            let owner = format!("Node {}", nodes::name(node));
            nodes::addresses(node).into_iter().map(move |address| (address, owner.clone()))
        };
        let in_use: Vec<(IpAddr, String)> = nodes.iter().flat_map(of_node).collect();
        let mut pools = load_balancers::pools(&self.pools, &self.services, &self.namespaces);
        if pools.is_empty() {
            pools.push(network.load_balancer_pool());
        }
        load_balancers::fill(&mut self.services, &before.services, pools, in_use, problems);
    }

    fn compute_endpoints(&mut self, places: &BTreeMap<Key, placement::Place>, nodes: &[Node]) {
        self.slices.retain(|_, slice| !endpoints::is_ours(slice));
        let served: BTreeSet<Key> = self.slices.values().filter_map(endpoints::service_of).collect();
        for (key, service) in &self.services {
            if !served.contains(key) {
                let mirrored = self.endpoints.get(key).map(|endpoints| mirroring::slices(service, endpoints));
                let mut slices = endpoints::slices(service, &self.pods, places, nodes);
                slices.extend(mirrored.into_iter().flatten());
                self.slices.extend(slices.into_iter().map(|slice| (self::key(&slice.metadata), slice)));
            }
        }
    }

    /// Every namespace that is used exists and has the label that the API server gives it.
    fn complete_namespaces(&mut self) {
        let keys = self.pods.keys().chain(self.services.keys()).chain(self.slices.keys()).chain(self.policies.keys());
        let keys = keys.chain(self.ingresses.keys()).chain(self.secrets.keys()).chain(self.gateways.keys());
        let keys = keys.chain(self.http_routes.keys()).chain(self.reference_grants.keys());
        let used: BTreeSet<String> = keys.map(|(namespace, _)| namespace.clone()).collect();
        for name in used {
            self.namespaces.entry(name.clone()).or_insert_with(|| {
                let mut namespace = Namespace::default();
                namespace.metadata.name = Some(name);
                namespace
            });
        }
        for (name, namespace) in &mut self.namespaces {
            let labels = namespace.metadata.labels.get_or_insert_default();
            labels.insert(NAME_LABEL.to_owned(), name.clone());
        }
    }

    fn into_objects(self, problems: &Problems) -> Vec<Sourced<Object>> {
        let namespaces = self.namespaces.into_values().map(Object::from);
        let nodes = self.nodes.into_values().map(Object::from);
        let pods = self.pods.into_values().map(Object::from);
        let services = self.services.into_values().map(Object::from);
        let slices = self.slices.into_values().map(Object::from);
        let policies = self.policies.into_values().map(Object::from);
        let cluster_policies = self.cluster_policies.into_values().map(Object::from);
        let all =
            namespaces.chain(nodes).chain(pods).chain(services).chain(slices).chain(policies).chain(cluster_policies);
        let all = all.chain(self.ingresses.into_values().map(Object::from));
        let all = all.chain(self.ingress_classes.into_values().map(Object::from));
        let all = all.chain(self.secrets.into_values().map(Object::from));
        let all = all.chain(self.gateway_classes.into_values().map(Object::from));
        let all = all.chain(self.gateways.into_values().map(Object::from));
        let all = all.chain(self.http_routes.into_values().map(Object::from));
        let all = all.chain(self.reference_grants.into_values().map(Object::from));
        all.map(|object| Sourced { source: problems.source(&object.reference()), object }).collect()
    }
}

/// Collects what is refused.
#[derive(Default)]
struct Problems {
    list: Vec<Problem>,
    sources: BTreeMap<ObjectRef, Source>,
}

impl Problems {
    fn refuse(&mut self, kind: &str, metadata: &ObjectMeta, field: &str, reason: &str) {
        self.add(kind, metadata, field, reason, Severity::Refused);
    }

    /// The object stays in force without the part that `reason` is about.
    fn warn(&mut self, kind: &str, metadata: &ObjectMeta, field: &str, reason: &str) {
        self.add(kind, metadata, field, reason, Severity::Warning);
    }

    fn add(&mut self, kind: &str, metadata: &ObjectMeta, field: &str, reason: &str, severity: Severity) {
        let object = reference(kind, metadata);
        let source = self.source(&object);
        self.list.push(Problem::of(&source, object, field, reason, severity));
    }

    /// Notes that an object is made for another one: its problems are found where that one is written.
    fn made_for(&mut self, kind: &str, made: &ObjectMeta, owner_kind: &str, owner: &ObjectMeta) {
        let source = self.source(&reference(owner_kind, owner));
        self.sources.insert(reference(kind, made), source);
    }

    fn source(&self, object: &ObjectRef) -> Source {
        self.sources.get(object).cloned().unwrap_or_else(|| Source { file: SOURCE.into(), document: 0 })
    }
}

fn reference(kind: &str, metadata: &ObjectMeta) -> ObjectRef {
    let (namespace, name) = key(metadata);
    ObjectRef::new(kind, namespace, name)
}

fn key(metadata: &ObjectMeta) -> Key {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    Selector::compile(selector).matches(labels)
}

fn has_labels(metadata: &ObjectMeta, wanted: &BTreeMap<String, String>) -> bool {
    let labels = metadata.labels.as_ref();
    wanted.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}
