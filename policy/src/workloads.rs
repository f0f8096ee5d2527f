//! Which workload a pod belongs to: the name that people know it by, and the only one that outlives an edited template.

use crate::objects::{Object, Sourced};
use k8s_openapi::api::core::v1::Pod;
use std::collections::HashMap;

/// Label of a Deployment's pods that ends the name of their ReplicaSet.
const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";

/// Pods of workloads.
#[derive(Clone, Debug, Default)]
pub struct Workloads {
    /// By namespace and name of the pod.
    of_pod: HashMap<(String, String), String>,
}

impl Workloads {
    /// The workloads of the pods among `objects`, by their owner references.
    pub fn of<'a>(objects: impl IntoIterator<Item = &'a Sourced<Object>>) -> Workloads {
        let pods = objects.into_iter().filter_map(|sourced| match &sourced.object {
            Object::Pod(pod) => Some(pod),
            _ => None,
        });
        let of_pod = pods.filter_map(|pod| {
            let metadata = &pod.metadata;
            Some(((metadata.namespace.clone()?, metadata.name.clone()?), workload(pod)?))
        });
        Workloads { of_pod: of_pod.collect() }
    }

    /// The workload of a pod, in the pod's namespace.
    pub fn find(&self, namespace: &str, pod: &str) -> Option<&str> {
        self.of_pod.get(&(namespace.to_owned(), pod.to_owned())).map(String::as_str)
    }
}

fn workload(pod: &Pod) -> Option<String> {
    let owner = pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    let hash = pod.metadata.labels.as_ref().and_then(|labels| labels.get(TEMPLATE_HASH_LABEL));
    let of_deployment = hash.filter(|_| owner.kind == "ReplicaSet");
    let deployment = of_deployment.and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
    Some(deployment.unwrap_or(&owner.name).to_owned())
}
