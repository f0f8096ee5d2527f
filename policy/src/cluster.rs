//! A cluster's objects, by kind and name, as one state of intent.
//!
//! In: objects from any source. Out: typed maps in a fixed order, so that whatever is compiled from them is the same on
//! every node. They hold what compiling needs and no more: Pods, EndpointSlices and Secrets in a compact form
//! ([`Pod`], [`Slice`], [`Secret`]), of Deployments and the like nothing. An object that is defined twice stays as it was
//! defined first; of two objects that claim one address the first keeps it; the other is refused alone, as a [`Problem`]
//! that names both files.
//!
//! [`Definitions`] keeps a cluster up to date file by file, at a cost that depends on what changed;
//! [`Cluster::from_objects`] makes one at once.

mod attachment;
mod claims;
mod definitions;
mod pod;
pub(crate) mod secret;
mod slice;

pub use attachment::{Attachment, StandIn};
pub use definitions::{Definition, Definitions, Delta, FileChange};
pub use pod::{HostPort, Pod, host_ports};
pub use secret::{ChainAndKey, Secret};
pub use slice::{Endpoint, Rare, Slice, SlicePort};

use crate::objects::{
    ClusterNetworkPolicy, Gateway, GatewayClass, HTTPRoute, Kind, Object, Problem, ReferenceGrant, Source, Sourced,
};
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, NetworkPolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Namespace (empty for kinds without one) and name.
pub type Key = (Arc<str>, Arc<str>);

/// All objects of one kind.
pub type Objects<T> = BTreeMap<Key, Sourced<Arc<T>>>;

macro_rules! cluster {
    ($($field:ident: $kind:ident($type:ty), $doc:literal;)*) => {
        /// All objects of a cluster that something is compiled from.
        #[derive(Debug, Default)]
        pub struct Cluster {
            $(#[doc = $doc] pub $field: Objects<$type>,)*
            /// Names of the EndpointSlices of each Service, by the Service's key.
            slices_of: BTreeMap<Key, BTreeSet<Arc<str>>>,
        }

        /// An object as the cluster keeps it.
        #[derive(Clone, Debug, PartialEq)]
        enum Item {
            $($kind(Arc<$type>),)*
            /// Of a kind that nothing is compiled from.
            Unused,
        }

        impl Cluster {
            /// Puts `new` at its place, or takes away what is there; gives what was there.
            fn put(&mut self, kind: Kind, key: &Key, new: Option<(Source, Item)>) -> Option<(Source, Item)> {
                let before = match kind {
                    $(Kind::$kind => {
                        let before = match &new {
                            Some((source, Item::$kind(object))) => {
                                let sourced = Sourced { source: source.clone(), object: object.clone() };
                                self.$field.insert(key.clone(), sourced)
                            }
                            _ => self.$field.remove(key),
                        };
                        before.map(|before| (before.source, Item::$kind(before.object)))
                    })*
                    _ => None,
                };
                if let Some((_, Item::EndpointSlice(slice))) = &before {
                    self.unlist(key, slice);
                }
                if let Some((_, Item::EndpointSlice(slice))) = &new {
                    self.list(key, slice);
                }
                before
            }
        }
    };
}

cluster! {
    namespaces: Namespace(Namespace), "Namespaces; the first half of the key is empty.";
    nodes: Node(Node), "Nodes; the first half of the key is empty.";
    pods: Pod(Pod), "Pods.";
    services: Service(Service), "Services.";
    endpoint_slices: EndpointSlice(Slice), "EndpointSlices.";
    network_policies: NetworkPolicy(NetworkPolicy), "NetworkPolicies.";
    cluster_network_policies: ClusterNetworkPolicy(ClusterNetworkPolicy), "ClusterNetworkPolicies; the first half of the key is empty.";
    ingresses: Ingress(Ingress), "Ingresses.";
    ingress_classes: IngressClass(IngressClass), "IngressClasses; the first half of the key is empty.";
    secrets: Secret(Secret), "Secrets: certificates and keys, and the names of all others.";
    gateway_classes: GatewayClass(GatewayClass), "GatewayClasses; the first half of the key is empty.";
    gateways: Gateway(Gateway), "Gateways.";
    http_routes: HTTPRoute(HTTPRoute), "HTTPRoutes.";
    reference_grants: ReferenceGrant(ReferenceGrant), "ReferenceGrants.";
}

impl Item {
    fn of(object: &Object) -> Item {
        match object {
            Object::Namespace(object) => Item::Namespace(object.clone()),
            Object::Node(object) => Item::Node(object.clone()),
            Object::Pod(object) => Item::Pod(Arc::new(Pod::from(&**object))),
            Object::Service(object) => Item::Service(object.clone()),
            Object::EndpointSlice(object) => Item::EndpointSlice(Arc::new(Slice::from(&**object))),
            Object::NetworkPolicy(object) => Item::NetworkPolicy(object.clone()),
            Object::ClusterNetworkPolicy(object) => Item::ClusterNetworkPolicy(object.clone()),
            Object::Ingress(object) => Item::Ingress(object.clone()),
            Object::IngressClass(object) => Item::IngressClass(object.clone()),
            Object::Secret(object) => Item::Secret(Arc::new(Secret::from(&**object))),
            Object::GatewayClass(object) => Item::GatewayClass(object.clone()),
            Object::Gateway(object) => Item::Gateway(object.clone()),
            Object::HTTPRoute(object) => Item::HTTPRoute(object.clone()),
            Object::ReferenceGrant(object) => Item::ReferenceGrant(object.clone()),
            Object::Deployment(_)
            | Object::ReplicaSet(_)
            | Object::StatefulSet(_)
            | Object::DaemonSet(_)
            | Object::Endpoints(_)
            | Object::IPAddressPool(_) => Item::Unused,
        }
    }
}

impl Cluster {
    /// A cluster of the given objects, and the problems of putting them together: of two objects that claim one name or
    /// one address the one that comes first stays, the other is refused alone.
    pub fn from_objects(objects: impl IntoIterator<Item = Sourced<Object>>) -> (Cluster, Vec<Problem>) {
        let definitions = Definitions::of(objects);
        let problems = definitions.problems();
        (definitions.into_cluster(), problems)
    }

    fn list(&mut self, key: &Key, slice: &Slice) {
        if let Some(service) = &slice.service {
            self.slices_of.entry((key.0.clone(), service.clone())).or_default().insert(key.1.clone());
        }
    }

    fn unlist(&mut self, key: &Key, slice: &Slice) {
        let Some(service) = &slice.service else { return };
        let service = (key.0.clone(), service.clone());
        if let Some(names) = self.slices_of.get_mut(&service) {
            names.remove(&key.1);
            if names.is_empty() {
                self.slices_of.remove(&service);
            }
        }
    }

    /// The EndpointSlices of a Service, by name.
    pub fn slices_of(&self, service: &Key) -> impl Iterator<Item = &Sourced<Arc<Slice>>> {
        let names = self.slices_of.get(service).into_iter().flatten();
        names.filter_map(|name| self.endpoint_slices.get(&(service.0.clone(), name.clone())))
    }
}

/// The objects among `objects` that [`Cluster::from_objects`] takes, as they are, and the same problems.
pub fn settle(objects: Vec<Sourced<Object>>) -> (Vec<Sourced<Object>>, Vec<Problem>) {
    let definitions = Definitions::of(objects.iter().cloned());
    let problems = definitions.problems();
    let taken = (0u32..).zip(objects).filter(|(position, sourced)| definitions.is_taken(&sourced.object, *position));
    (taken.map(|(_, sourced)| sourced).collect(), problems)
}
