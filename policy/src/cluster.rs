//! A cluster's objects, by kind and name, as one generation of intent.
//!
//! In: objects from any source, one at a time. Out: typed maps in a fixed order, so that whatever is compiled from them is
//! the same on every node. An object that is defined twice stays as it was defined first; the second definition is a
//! [`Problem`] that names both files.

mod claims;

use crate::objects::{Object, ObjectRef, Problem, Severity, Sourced};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// Namespace (empty for kinds without one) and name.
pub type Key = (String, String);

/// All objects of one kind.
pub type Objects<T> = BTreeMap<Key, Sourced<Arc<T>>>;

macro_rules! cluster {
    ($($field:ident: $kind:ident, $doc:literal;)*) => {
        /// All objects of a cluster. Cloning is cheap: objects are shared.
        #[derive(Clone, Debug, Default)]
        pub struct Cluster {
            $(#[doc = $doc] pub $field: Objects<$kind>,)*
        }

        impl Cluster {
            /// Adds an object; refuses one that is there already.
            pub fn insert(&mut self, sourced: Sourced<Object>) -> Result<(), Box<Problem>> {
                let reference = sourced.object.reference();
                let key = (reference.namespace.clone(), reference.name.clone());
                let source = sourced.source;
                match sourced.object {
                    $(Object::$kind(object) => {
                        let sourced = Sourced { source, object };
                        insert(&mut self.$field, key, reference, sourced)
                    })*
                }
            }

            /// Every object, kind by kind.
            pub fn iter(&self) -> impl Iterator<Item = Sourced<Object>> {
                std::iter::empty()
                    $(.chain(self.$field.values().map(|sourced| Sourced {
                        source: sourced.source.clone(),
                        object: Object::$kind(sourced.object.clone()),
                    })))*
            }

            /// How many objects there are.
            pub fn len(&self) -> usize {
                0 $(+ self.$field.len())*
            }
        }
    };
}

cluster! {
    namespaces: Namespace, "Namespaces; the first half of the key is empty.";
    nodes: Node, "Nodes; the first half of the key is empty.";
    pods: Pod, "Pods.";
    deployments: Deployment, "Deployments.";
    replica_sets: ReplicaSet, "ReplicaSets.";
    stateful_sets: StatefulSet, "StatefulSets.";
    daemon_sets: DaemonSet, "DaemonSets.";
    services: Service, "Services.";
    endpoint_slices: EndpointSlice, "EndpointSlices.";
    network_policies: NetworkPolicy, "NetworkPolicies.";
}

impl Cluster {
    /// A cluster of the given objects, and the problems of putting them together: of two objects that claim one name or
    /// one address the one that comes first stays, the other is refused alone.
    pub fn from_objects(objects: impl IntoIterator<Item = Sourced<Object>>) -> (Cluster, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut defined = Cluster::default();
        let mut arrived = Vec::new();
        for sourced in objects {
            match defined.insert(sourced.clone()) {
                Ok(()) => arrived.push(sourced),
                Err(problem) => problems.push(*problem),
            }
        }
        let refused = claims::judge(&arrived);
        if refused.is_empty() {
            return (defined, problems);
        }
        let mut cluster = Cluster::default();
        for (position, sourced) in arrived.into_iter().enumerate() {
            match refused.get(&position) {
                Some(problem) => problems.push(problem.clone()),
                None => cluster.insert(sourced).expect("names were found to differ above"),
            }
        }
        (cluster, problems)
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn insert<T>(
    objects: &mut Objects<T>,
    key: Key,
    reference: ObjectRef,
    sourced: Sourced<Arc<T>>,
) -> Result<(), Box<Problem>> {
    match objects.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(sourced);
            Ok(())
        }
        Entry::Occupied(entry) => {
            let first = &entry.get().source;
            let message = format!(
                "defined twice: the definition in {} (document {}) stays in force, this one is refused",
                first.file, first.document
            );
            Err(Box::new(Problem::of(&sourced.source, reference, "metadata.name", message, Severity::Refused)))
        }
    }
}
