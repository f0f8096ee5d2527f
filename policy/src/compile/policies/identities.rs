//! Identities: pods in groups that no selector can tell apart, and the identities that a selector finds.

use super::read::{Namespaces, PodsPeer, Policy};
use crate::cluster::Cluster;
use crate::rules::Identity;
use crate::selector::{Labels, Selector};
use crate::tables::Tables;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Namespace, and the labels that some selector reads.
type Distinction<'a> = (&'a str, Vec<(&'a str, &'a str)>);

/// The identities of all pods. Every selector is matched once per identity, not per pod.
pub(super) struct Identities<'a> {
    /// By pod.
    pub(super) of_pod: Vec<Identity>,
    /// By identity.
    distinctions: Vec<Distinction<'a>>,
    by_namespace: BTreeMap<&'a str, Vec<Identity>>,
    namespaces: Arc<Vec<(Arc<str>, Labels)>>,
}

impl<'a> Identities<'a> {
    /// Tells the pods of `tables` apart as far as `policies` do.
    pub(super) fn of(tables: &'a Tables, policies: &[Policy]) -> Identities<'a> {
        let keys: BTreeSet<&str> = policies.iter().flat_map(Policy::pod_selectors).flat_map(Selector::keys).collect();
        let mut numbers: HashMap<Distinction<'_>, Identity> = HashMap::new();
        let mut identities = Identities {
            of_pod: Vec::with_capacity(tables.pods.len()),
            distinctions: Vec::new(),
            by_namespace: BTreeMap::new(),
            namespaces: tables.namespaces.clone(),
        };
        for pod in tables.pods.iter() {
            let read: Vec<(&str, &str)> = pod.labels.iter().filter(|(key, _)| keys.contains(key)).collect();
            let identity = *numbers.entry((&*pod.namespace, read)).or_insert_with_key(|distinction| {
                let identity = Identity(identities.distinctions.len() as u32);
                identities.distinctions.push(distinction.clone());
                identities.by_namespace.entry(distinction.0).or_default().push(identity);
                identity
            });
            identities.of_pod.push(identity);
        }
        identities
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.distinctions.len()
    }

    /// The identities of the pods that `peer` speaks of, each once.
    pub(super) fn matching(&self, peer: &PodsPeer) -> Vec<Identity> {
        match &peer.namespaces {
            Namespaces::Own(namespace) => self.matching_in(namespace, &peer.pods).collect(),
            Namespaces::Matching(selector) => {
                let namespaces = self.namespaces.iter().filter(|(_, labels)| selector.selects(labels));
                namespaces.flat_map(|(namespace, _)| self.matching_in(namespace, &peer.pods)).collect()
            }
        }
    }

    fn matching_in<'s>(&'s self, namespace: &str, selector: &'s Selector) -> impl Iterator<Item = Identity> + 's {
        let identities = self.by_namespace.get(namespace).map_or(&[][..], Vec::as_slice);
        let matches = |identity: &Identity| {
            let labels = &self.distinctions[identity.0 as usize].1;
            selector.matches_with(|key| labels.iter().find(|label| label.0 == key).map(|label| label.1))
        };
        identities.iter().copied().filter(matches)
    }
}

/// Every namespace that has an object or pods, with its labels, in order.
pub(super) fn namespaces(cluster: &Cluster) -> Vec<(Arc<str>, Labels)> {
    let defined = cluster.namespaces.keys().map(|(_, name)| name);
    let names: BTreeSet<&Arc<str>> = defined.chain(cluster.pods.keys().map(|(namespace, _)| namespace)).collect();
    let with_labels = names.into_iter().map(|name| {
        let object = cluster.namespaces.get(&(Arc::from(""), name.clone()));
        let mut labels = object.and_then(|sourced| sourced.object.metadata.labels.clone()).unwrap_or_default();
        // The API server sets this label on every namespace (KEP-2161).
        labels.insert("kubernetes.io/metadata.name".into(), name.to_string());
        (name.clone(), Labels::from(&labels))
    });
    with_labels.collect()
}
