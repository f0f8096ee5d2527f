//! Identities: pods in groups that no selector can tell apart, and the identities that a selector finds.

use super::read::{Namespaces, PodsPeer, Policy};
use crate::cluster::{Cluster, Delta};
use crate::compile::cluster_dns;
use crate::objects::Kind;
use crate::rules::Identity;
use crate::selector::{Labels, Selector};
use crate::tables::{PodEntry, Tables};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Namespaces with their labels, in order.
pub(super) type NamespaceLabels = Vec<(Arc<str>, Labels)>;

/// Namespace, and the labels that some selector reads.
type Distinction = (Arc<str>, Labels);

/// Keys and values.
type Pairs<'a> = Vec<(&'a str, &'a str)>;

/// The identities of all pods. Every selector is matched once per identity, not per pod.
#[derive(Debug, Default)]
pub(super) struct Identities {
    /// The label keys that some selector reads.
    keys: BTreeSet<String>,
    numbers: HashMap<Distinction, Identity>,
    /// By identity.
    distinctions: Vec<Distinction>,
    by_namespace: BTreeMap<Arc<str>, Vec<Identity>>,
}

impl Identities {
    /// Tells the pods of `tables` apart as far as `policies` do; with the identity of each pod.
    pub(super) fn of(tables: &Tables, policies: &[Policy]) -> (Identities, Vec<Identity>) {
        let keys =
            policies.iter().flat_map(Policy::pod_selectors).flat_map(Selector::keys).map(str::to_owned).collect();
        let mut identities = Identities { keys, ..Identities::default() };
        // Most pods are like one before, so they are looked up by what they have.
        let mut known: HashMap<(&str, Pairs<'_>), Identity> = HashMap::new();
        let mut of_pod = Vec::with_capacity(tables.pods.len());
        for pod in tables.pods.iter() {
            let read: Pairs<'_> = pod.labels.iter().filter(|(key, _)| identities.keys.contains(*key)).collect();
            let identity = match known.get(&(&*pod.namespace, read.clone())) {
                Some(identity) => *identity,
                None => {
                    let identity = identities.add((pod.namespace.clone(), read.iter().copied().collect()));
                    *known.entry((&*pod.namespace, read)).or_insert(identity)
                }
            };
            of_pod.push(identity);
        }
        (identities, of_pod)
    }

    fn add(&mut self, distinction: Distinction) -> Identity {
        let identity = Identity(self.distinctions.len() as u32);
        self.by_namespace.entry(distinction.0.clone()).or_default().push(identity);
        self.numbers.insert(distinction.clone(), identity);
        self.distinctions.push(distinction);
        identity
    }

    /// The identity of a pod, which may be one more.
    pub(super) fn identify(&mut self, pod: &PodEntry) -> Identity {
        let read = pod.labels.iter().filter(|(key, _)| self.keys.contains(*key)).collect();
        let distinction = (pod.namespace.clone(), read);
        match self.numbers.get(&distinction) {
            Some(identity) => *identity,
            None => self.add(distinction),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.distinctions.len()
    }

    /// The identities of a namespace.
    pub(super) fn in_namespace(&self, namespace: &str) -> &[Identity] {
        self.by_namespace.get(namespace).map_or(&[], Vec::as_slice)
    }

    /// The identities of the pods that `peer` speaks of, each once.
    pub(super) fn matching(&self, peer: &PodsPeer, namespaces: &NamespaceLabels) -> Vec<Identity> {
        let matching_in = |namespace| {
            let matches = |identity: &Identity| peer.pods.selects(&self.distinctions[identity.0 as usize].1);
            self.in_namespace(namespace).iter().copied().filter(matches)
        };
        match &peer.namespaces {
            Namespaces::Own(namespace) => matching_in(namespace).collect(),
            Namespaces::Matching(selector) => {
                let namespaces = namespaces.iter().filter(|(_, labels)| selector.selects(labels));
                namespaces.flat_map(|(namespace, _)| matching_in(namespace)).collect()
            }
        }
    }

    /// Whether `peer` speaks of the pods of an identity, one by one the same as [`Identities::matching`].
    pub(super) fn matcher<'a>(
        &'a self,
        identity: Identity,
        namespaces: &'a NamespaceLabels,
    ) -> impl Fn(&PodsPeer) -> bool + 'a {
        let (namespace, labels) = &self.distinctions[identity.0 as usize];
        let found = namespaces.binary_search_by(|(name, _)| name.cmp(namespace));
        let of_namespace = found.ok().map(|position| &namespaces[position].1);
        move |peer| {
            let is_there = match &peer.namespaces {
                Namespaces::Own(own) => **own == **namespace,
                Namespaces::Matching(selector) => of_namespace.is_some_and(|labels| selector.selects(labels)),
            };
            is_there && peer.pods.selects(labels)
        }
    }
}

/// Every namespace that has an object or pods, with its labels, in order; that of the nodes' own DNS too, if `answers_dns`.
pub(super) fn namespaces(cluster: &Cluster, answers_dns: bool) -> NamespaceLabels {
    let built_in = Arc::from(cluster_dns::NAMESPACE);
    let defined = cluster.namespaces.keys().map(|(_, name)| name).chain(answers_dns.then_some(&built_in));
    let names: BTreeSet<&Arc<str>> = defined.chain(cluster.pods.keys().map(|(namespace, _)| namespace)).collect();
    names.into_iter().map(|name| (name.clone(), labels_of(cluster, name))).collect()
}

fn labels_of(cluster: &Cluster, namespace: &Arc<str>) -> Labels {
    let object = cluster.namespaces.get(&(Arc::from(""), namespace.clone()));
    let mut labels = object.and_then(|sourced| sourced.object.metadata.labels.clone()).unwrap_or_default();
    // The API server sets this label on every namespace (KEP-2161).
    labels.insert("kubernetes.io/metadata.name".into(), namespace.to_string());
    Labels::from(&labels)
}

/// Has `namespaces` follow a change; gives the namespaces that came or have other labels.
pub(super) fn follow_namespaces(
    cluster: &Cluster,
    delta: &Delta,
    answers_dns: bool,
    namespaces: &mut Arc<NamespaceLabels>,
) -> Vec<Arc<str>> {
    let named = delta.of(Kind::Namespace).map(|(_, name)| name);
    let touched: BTreeSet<&Arc<str>> = named.chain(delta.of(Kind::Pod).map(|(namespace, _)| namespace)).collect();
    let mut changed = Vec::new();
    for name in touched {
        let has_object = cluster.namespaces.contains_key(&(Arc::from(""), name.clone()));
        let mut pods = cluster.pods.range((name.clone(), Arc::from(""))..).take_while(|((of, _), _)| of == name);
        let is_built_in = answers_dns && **name == *cluster_dns::NAMESPACE;
        let labels = (has_object || is_built_in || pods.next().is_some()).then(|| labels_of(cluster, name));
        match (namespaces.binary_search_by(|(other, _)| other.cmp(name)), labels) {
            (Ok(place), Some(labels)) if namespaces[place].1 == labels => {}
            (Ok(place), Some(labels)) => {
                Arc::make_mut(namespaces)[place].1 = labels;
                changed.push(name.clone());
            }
            (Ok(place), None) => drop(Arc::make_mut(namespaces).remove(place)),
            (Err(place), Some(labels)) => {
                Arc::make_mut(namespaces).insert(place, (name.clone(), labels));
                changed.push(name.clone());
            }
            (Err(_), None) => {}
        }
    }
    changed
}
