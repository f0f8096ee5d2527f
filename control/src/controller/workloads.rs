//! Pods of Deployments, ReplicaSets, StatefulSets and DaemonSets.
//!
//! Names follow from the owner and the template alone: the same manifests give the same pods, scaling adds and removes pods
//! at the end, and an edited template of a Deployment gives pods with other names. There is no rolling update: the result is
//! the state at its end. Pods in the manifests that already belong to a workload (`kubectl get all -o yaml`) count as its
//! replicas, and a ReplicaSet in the manifests that belongs to a Deployment stands for it.

use super::{Key, Problems, names, placement};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Node, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use std::collections::{BTreeMap, BTreeSet};

/// Most pods of one workload. Far above what a lab or a node table holds; it keeps a typing error in `replicas` from filling
/// the memory.
const REPLICAS_MAX: i32 = 10_000;

const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";
const REVISION_LABEL: &str = "controller-revision-hash";

/// A workload, as far as its pods are concerned.
struct Workload<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: &'a ObjectMeta,
    selector: &'a LabelSelector,
    template: &'a PodTemplateSpec,
}

/// Collects the pods of all workloads.
pub(super) struct Expansion<'a> {
    given: &'a BTreeMap<Key, Pod>,
    pods: BTreeMap<Key, Pod>,
    problems: &'a mut Problems,
}

impl<'a> Expansion<'a> {
    /// An expansion next to the pods that the manifests have.
    pub(super) fn new(given: &'a BTreeMap<Key, Pod>, problems: &'a mut Problems) -> Expansion<'a> {
        Expansion { given, pods: BTreeMap::new(), problems }
    }

    /// The pods that were made.
    pub(super) fn finish(self) -> BTreeMap<Key, Pod> {
        self.pods
    }

    /// Adds the pods of a Deployment, unless one of `replica_sets` belongs to it: then that one has them.
    pub(super) fn deployment(&mut self, deployment: &Deployment, replica_sets: &BTreeMap<Key, ReplicaSet>) {
        let Some(spec) = &deployment.spec else { return };
        let workload = Workload {
            kind: "Deployment",
            api_version: "apps/v1",
            metadata: &deployment.metadata,
            selector: &spec.selector,
            template: &spec.template,
        };
        let (namespace, name) = key(workload.metadata);
        let has_replica_set = replica_sets
            .iter()
            .any(|((ns, _), set)| *ns == namespace && owner_is(&set.metadata, "Deployment", |owner| owner == name));
        let Some(replicas) = self.replicas(&workload, spec.replicas) else { return };
        if has_replica_set {
            return;
        }
        let hash = names::template_hash(&json(&spec.template));
        let set_name = format!("{name}-{hash}");
        let prefix = format!("{name}-");
        let owned = self.count_owned(&namespace, workload.selector, "ReplicaSet", |owner| {
            owner.strip_prefix(&prefix).is_some_and(|rest| !rest.contains('-'))
        });
        let owner = OwnerReference {
            uid: names::uid(&["ReplicaSet", &namespace, &set_name]),
            name: set_name,
            kind: "ReplicaSet".to_owned(),
            ..owner_reference(&workload)
        };
        self.add_replicas(&workload, &owner, replicas.saturating_sub(owned), &[(TEMPLATE_HASH_LABEL, &hash)]);
    }

    /// Adds the pods of a ReplicaSet.
    pub(super) fn replica_set(&mut self, set: &ReplicaSet) {
        let Some(spec) = &set.spec else { return };
        if spec.replicas == Some(0) {
            return;
        }
        let Some(template) = &spec.template else {
            return self.problems.refuse("ReplicaSet", &set.metadata, "spec.template", "it is missing");
        };
        let workload = Workload {
            kind: "ReplicaSet",
            api_version: "apps/v1",
            metadata: &set.metadata,
            selector: &spec.selector,
            template,
        };
        let Some(replicas) = self.replicas(&workload, spec.replicas) else { return };
        let (namespace, name) = key(workload.metadata);
        let owned = self.count_owned(&namespace, workload.selector, "ReplicaSet", |owner| owner == name);
        let owner = owner_reference(&workload);
        self.add_replicas(&workload, &owner, replicas.saturating_sub(owned), &[]);
    }

    /// Adds the pods of a StatefulSet: stable names `NAME-0`, `NAME-1`, ..., with hostname and subdomain for DNS.
    pub(super) fn stateful_set(&mut self, set: &StatefulSet) {
        let Some(spec) = &set.spec else { return };
        let workload = Workload {
            kind: "StatefulSet",
            api_version: "apps/v1",
            metadata: &set.metadata,
            selector: &spec.selector,
            template: &spec.template,
        };
        let Some(replicas) = self.replicas(&workload, spec.replicas) else { return };
        let (namespace, name) = key(workload.metadata);
        let revision = format!("{name}-{}", names::template_hash(&json(&spec.template)));
        let first = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0).max(0);
        for ordinal in i64::from(first)..i64::from(first) + replicas as i64 {
            let pod_name = format!("{name}-{ordinal}");
            if self.given.contains_key(&(namespace.clone(), pod_name.clone())) {
                continue;
            }
            let labels = [
                (REVISION_LABEL, revision.as_str()),
                ("statefulset.kubernetes.io/pod-name", &pod_name),
                ("apps.kubernetes.io/pod-index", &ordinal.to_string()),
            ];
            let mut pod = make_pod(&workload, &owner_reference(&workload), &pod_name, &labels);
            let pod_spec = pod.spec.get_or_insert_default();
            pod_spec.hostname = Some(pod_name);
            pod_spec.subdomain = spec.service_name.clone().filter(|service| !service.is_empty());
            self.add(&workload, pod);
        }
    }

    /// Adds the pods of a DaemonSet: one on each of `nodes` that the template's nodeSelector takes.
    pub(super) fn daemon_set(&mut self, set: &DaemonSet, nodes: &[Node]) {
        let Some(spec) = &set.spec else { return };
        let workload = Workload {
            kind: "DaemonSet",
            api_version: "apps/v1",
            metadata: &set.metadata,
            selector: &spec.selector,
            template: &spec.template,
        };
        if self.replicas(&workload, None).is_none() {
            return;
        }
        let (namespace, name) = key(workload.metadata);
        let covered: BTreeSet<&str> = self
            .given
            .iter()
            .filter(|((ns, _), pod)| *ns == namespace && owner_is(&pod.metadata, "DaemonSet", |owner| owner == name))
            .filter_map(|(_, pod)| pod.spec.as_ref()?.node_name.as_deref())
            .collect();
        let revision = names::template_hash(&json(&spec.template));
        for node in nodes {
            let node_name = super::nodes::name(node);
            let takes = placement::is_managed(node) && placement::takes(spec.template.spec.as_ref(), node);
            if covered.contains(node_name) || !takes {
                continue;
            }
            let pod_name = format!("{name}-{}", names::suffix(&["DaemonSet", &namespace, &name, node_name]));
            let mut pod =
                make_pod(&workload, &owner_reference(&workload), &pod_name, &[(REVISION_LABEL, revision.as_str())]);
            pod.spec.get_or_insert_default().node_name = Some(node_name.to_owned());
            self.add(&workload, pod);
        }
    }

    /// The workload's number of replicas, after a look at what would make its pods nonsense.
    fn replicas(&mut self, workload: &Workload<'_>, replicas: Option<i32>) -> Option<usize> {
        let replicas = replicas.unwrap_or(1);
        if !(0..=REPLICAS_MAX).contains(&replicas) {
            let reason = format!("{replicas} is not between 0 and {REPLICAS_MAX}");
            self.problems.refuse(workload.kind, workload.metadata, "spec.replicas", &reason);
            return None;
        }
        if workload.template.spec.is_none() {
            self.problems.refuse(workload.kind, workload.metadata, "spec.template.spec", "it is missing");
            return None;
        }
        Some(replicas as usize)
    }

    /// Pods in the manifests that belong to an owner of `kind` whose name is `fits`.
    fn count_owned(&self, namespace: &str, selector: &LabelSelector, kind: &str, fits: impl Fn(&str) -> bool) -> usize {
        let no_labels = BTreeMap::new();
        let owned = self.given.iter().filter(|((ns, _), pod)| {
            ns == namespace
                && owner_is(&pod.metadata, kind, &fits)
                && super::selects(selector, pod.metadata.labels.as_ref().unwrap_or(&no_labels))
        });
        owned.count()
    }

    fn add_replicas(&mut self, workload: &Workload<'_>, owner: &OwnerReference, count: usize, labels: &[(&str, &str)]) {
        let (namespace, _) = key(workload.metadata);
        let mut made = 0;
        // Five characters collide now and then among thousands of pods: such a number is passed over.
        for number in 0usize.. {
            if made == count {
                break;
            }
            let suffix = names::suffix(&[owner.kind.as_str(), &namespace, &owner.name, &number.to_string()]);
            let pod_name = format!("{}-{suffix}", owner.name);
            let key = (namespace.clone(), pod_name);
            if !self.given.contains_key(&key) && !self.pods.contains_key(&key) {
                self.add(workload, make_pod(workload, owner, &key.1, labels));
                made += 1;
            }
        }
    }

    fn add(&mut self, workload: &Workload<'_>, pod: Pod) {
        let key = key(&pod.metadata);
        self.problems.made_for("Pod", &pod.metadata, workload.kind, workload.metadata);
        if self.given.contains_key(&key) || self.pods.contains_key(&key) {
            let reason = "another object makes a pod of the same name";
            return self.problems.refuse("Pod", &pod.metadata, "metadata.name", reason);
        }
        self.pods.insert(key, pod);
    }
}

fn make_pod(workload: &Workload<'_>, owner: &OwnerReference, name: &str, labels: &[(&str, &str)]) -> Pod {
    let template = workload.template.metadata.clone().unwrap_or_default();
    let mut all_labels = template.labels.unwrap_or_default();
    all_labels.extend(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    Pod {
        metadata: ObjectMeta {
            namespace: workload.metadata.namespace.clone(),
            name: Some(name.to_owned()),
            labels: Some(all_labels),
            annotations: template.annotations,
            owner_references: Some(vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: workload.template.spec.clone(),
        status: None,
    }
}

fn owner_reference(workload: &Workload<'_>) -> OwnerReference {
    let (namespace, name) = key(workload.metadata);
    let uid = workload.metadata.uid.clone().unwrap_or_else(|| names::uid(&[workload.kind, &namespace, &name]));
    OwnerReference {
        api_version: workload.api_version.to_owned(),
        kind: workload.kind.to_owned(),
        name,
        uid,
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

fn owner_is(metadata: &ObjectMeta, kind: &str, fits: impl Fn(&str) -> bool) -> bool {
    let owners = metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| owner.controller == Some(true) && owner.kind == kind && fits(&owner.name))
}

fn key(metadata: &ObjectMeta) -> Key {
    super::key(metadata)
}

/// The template as text: what names are derived from. Maps of the API types are sorted, so equal templates give equal text.
fn json(template: &PodTemplateSpec) -> String {
    serde_json::to_string(template).expect("an API type with string keys is JSON")
}
