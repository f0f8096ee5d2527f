//! Peers and ports of rules as a person would say them.

use super::Flow;
use crate::tables::Owner;
use k8s_openapi::api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Entries of a list that are told; a longer list helps nobody.
const TOLD_MAX: usize = 6;

/// The other end of the flow.
pub(super) fn peer(flow: &Flow<'_>) -> String {
    match flow.tables.owner(flow.question.peer) {
        Some(Owner::Pod(pod)) => {
            let pod = flow.tables.pod(pod);
            let labels: Vec<String> = pod.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let labels = if labels.is_empty() { "no labels".to_owned() } else { listed(labels) };
            format!("{}/{} ({labels}, {})", pod.namespace, pod.name, flow.question.peer)
        }
        Some(Owner::Node(node)) => format!("node {} ({})", flow.tables.node(node).name, flow.question.peer),
        None => format!("{}, an address of no pod or node,", flow.question.peer),
    }
}

/// The peers of a rule of a policy in `namespace`.
pub(super) fn peers(peers: &[NetworkPolicyPeer], namespace: &str) -> String {
    let told = peers.iter().map(|peer| match (&peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
        (Some(block), ..) => {
            let except = block.except.iter().flatten().cloned().collect::<Vec<_>>();
            let except = if except.is_empty() { String::new() } else { format!(" except {}", listed(except)) };
            format!("ipBlock {}{except}", block.cidr)
        }
        (None, Some(namespaces), pods) => {
            format!("{} in namespaces with {}", pods_with(pods.as_ref()), selector(namespaces))
        }
        (None, None, pods) => format!("{} in namespace {namespace}", pods_with(pods.as_ref())),
    });
    listed(told.collect())
}

fn pods_with(pods: Option<&LabelSelector>) -> String {
    match pods.map(selector) {
        None => "all pods".to_owned(),
        Some(labels) if labels == "any labels" => "all pods".to_owned(),
        Some(labels) => format!("pods with {labels}"),
    }
}

fn selector(selector: &LabelSelector) -> String {
    let equal = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let expressions = selector.match_expressions.iter().flatten().map(|expression| {
        let (key, values) = (&expression.key, listed(expression.values.clone().unwrap_or_default()));
        match expression.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} not in ({values})"),
            "Exists" => key.clone(),
            "DoesNotExist" => format!("no {key}"),
            other => format!("{key} {other} ({values})"),
        }
    });
    let all: Vec<String> = equal.chain(expressions).collect();
    if all.is_empty() { "any labels".to_owned() } else { listed(all) }
}

/// The port that the flow goes to.
pub(super) fn port(flow: &Flow<'_>) -> String {
    if flow.question.protocol.has_ports() {
        format!("{} {}", flow.question.protocol, flow.question.port)
    } else {
        format!("{}, which has no ports,", flow.question.protocol)
    }
}

/// The ports of a rule; a name with the numbers that the receiver gives it.
pub(super) fn ports(ports: &[NetworkPolicyPort], flow: &Flow<'_>) -> String {
    let told = ports.iter().map(|port| {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        match (&port.port, port.end_port) {
            (None, _) => format!("every {protocol} port"),
            (Some(IntOrString::Int(first)), Some(last)) => format!("{protocol} {first}-{last}"),
            (Some(IntOrString::Int(number)), None) => format!("{protocol} {number}"),
            (Some(IntOrString::String(name)), _) => {
                let numbers: Vec<String> = flow.named(name).map(|number| number.to_string()).collect();
                let numbers = if numbers.is_empty() { "no port of the receiver".to_owned() } else { listed(numbers) };
                format!("{protocol} {name} ({numbers})")
            }
        }
    });
    listed(told.collect())
}

fn listed(mut items: Vec<String>) -> String {
    let more = items.len().saturating_sub(TOLD_MAX);
    items.truncate(TOLD_MAX);
    let text = items.join(", ");
    if more > 0 { format!("{text} and {more} more") } else { text }
}
