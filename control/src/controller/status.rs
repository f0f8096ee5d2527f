//! What the scheduler, the kubelet and the API server write into a pod: node, addresses, phase, conditions, uid.

use super::placement::{self, Place};
use super::{key, names, nodes};
use k8s_openapi::api::core::v1::{HostIP, Node, Pod, PodCondition, PodIP};

/// Conditions of a pod that runs.
const CONDITIONS: [&str; 4] = ["PodScheduled", "Initialized", "ContainersReady", "Ready"];

/// Completes `pod` for its place. What the manifest states, stays: a pod with `Ready: "False"` is not ready.
pub(super) fn fill(pod: &mut Pod, place: &Place, all_nodes: &[Node]) {
    let node = place.node.map(|index| &all_nodes[index]);
    if let Some(node) = node {
        pod.spec.get_or_insert_default().node_name = Some(nodes::name(node).to_owned());
    }
    // The uid stands for this sandbox: another spec or another node is another pod, even under the same name.
    let (namespace, name) = key(&pod.metadata);
    let spec = serde_json::to_string(&pod.spec).expect("an API type with string keys is JSON");
    pod.metadata.uid.get_or_insert_with(|| names::uid(&["Pod", &namespace, &name, &spec]));
    if placement::has_ended(pod) {
        return;
    }
    let status = pod.status.get_or_insert_default();
    status.phase.get_or_insert_with(|| "Running".to_owned());
    status.pod_ip = place.addresses.first().map(ToString::to_string);
    status.pod_ips = Some(place.addresses.iter().map(|address| PodIP { ip: address.to_string() }).collect());
    let host: Vec<String> = node.map(nodes::addresses).unwrap_or_default().iter().map(ToString::to_string).collect();
    status.host_ip = host.first().cloned();
    status.host_ips = Some(host.into_iter().map(|ip| HostIP { ip }).collect());
    let running = status.phase.as_deref() == Some("Running");
    let conditions = status.conditions.get_or_insert_default();
    for type_ in CONDITIONS {
        if !conditions.iter().any(|condition| condition.type_ == type_) {
            let holds = running || type_ == "PodScheduled";
            conditions.push(PodCondition {
                type_: type_.to_owned(),
                status: if holds { "True" } else { "False" }.to_owned(),
                ..PodCondition::default()
            });
        }
    }
}
