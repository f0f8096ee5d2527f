//! Peers and ports of rules as a person would say them.

use super::Flow;
use super::reading::{Namespaces, Peer, Port, Rule};
use crate::selector::Labels;
use crate::tables::{Action, PolicyEntry};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Entries of a list that are told; a longer list helps nobody.
const TOLD_MAX: usize = 6;

/// The label that repeats a namespace's name (KEP-2161).
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Name, tier and action of a ClusterNetworkPolicy's rule, to follow its place.
pub(super) fn title(policy: &PolicyEntry, rule: &Rule<'_>) -> String {
    let name = rule.name.map(|name| format!(" \"{name}\"")).unwrap_or_default();
    let closed = match rule.closed && rule.action != Action::Accept {
        true => "; closed, so it denies everything: podplane check names the field that is not understood",
        false => "",
    };
    format!("{name} ({} tier, {}{closed})", policy.tier.as_str(), rule.action.as_str())
}

/// The other end of the flow, with the labels that `rule` asks for first.
pub(super) fn peer(flow: &Flow<'_>, rule: &Rule<'_>) -> String {
    let addr = flow.question.peer;
    if let Some(pod) = flow.peer_pod() {
        let asked = |peer: &Peer<'_>| match peer {
            Peer::Pods { pods, .. } => pods.map(keys).unwrap_or_default(),
            _ => Vec::new(),
        };
        let asked: Vec<String> = rule.peers.iter().flat_map(asked).collect();
        let labels = labelled(&pod.labels, &asked).unwrap_or_else(|| "no labels".to_owned());
        let namespace = namespace_of(flow, &pod.namespace, rule);
        return format!("{}/{} ({labels}{namespace}, {addr})", pod.namespace, pod.name);
    }
    let Some(node) = flow.peer_node() else { return format!("{addr}, an address of no pod or node,") };
    let asked = rule.peers.iter().filter_map(|peer| match peer {
        Peer::Nodes(selector) => Some(keys(selector)),
        _ => None,
    });
    let asked: Vec<Vec<String>> = asked.collect();
    let labels = if asked.is_empty() { None } else { labelled(&node.labels, &asked.concat()) };
    let labels = labels.map(|labels| format!("{labels}, ")).unwrap_or_default();
    format!("node {} ({labels}{addr})", node.name)
}

/// What the rule asks of the labels of the other end's namespace, and finds there.
fn namespace_of(flow: &Flow<'_>, namespace: &str, rule: &Rule<'_>) -> String {
    let asked = |peer: &Peer<'_>| match peer {
        Peer::Pods { namespaces: Namespaces::Matching(selector), .. } => keys(selector),
        _ => Vec::new(),
    };
    let mut asked: Vec<String> = rule.peers.iter().flat_map(asked).filter(|key| key != NAMESPACE_NAME).collect();
    asked.sort();
    asked.dedup();
    if asked.is_empty() {
        return String::new();
    }
    let labels = flow.tables.namespace_labels(namespace).cloned().unwrap_or_default();
    let told = asked.iter().map(|key| match labels.get(key) {
        Some(value) => format!("{key}={value}"),
        None => format!("no {key}"),
    });
    format!(", namespace with {}", listed(told.collect()))
}

/// The labels, those under the keys `first` before all others; `None` if there is none.
fn labelled(labels: &Labels, first: &[String]) -> Option<String> {
    let is_first = |(key, _): &(&str, &str)| first.iter().any(|asked| asked == key);
    let (asked, others): (Vec<_>, Vec<_>) = labels.iter().partition(is_first);
    let told: Vec<String> = asked.into_iter().chain(others).map(|(key, value)| format!("{key}={value}")).collect();
    if told.is_empty() { None } else { Some(listed(told)) }
}

/// The label keys that a selector reads.
fn keys(selector: &LabelSelector) -> Vec<String> {
    let equal = selector.match_labels.iter().flatten().map(|(key, _)| key.clone());
    equal.chain(selector.match_expressions.iter().flatten().map(|expression| expression.key.clone())).collect()
}

/// The peers of a rule.
pub(super) fn peers(peers: &[Peer<'_>]) -> String {
    let told = peers.iter().map(|peer| match peer {
        Peer::Block { cidr, except: [] } => format!("ipBlock {cidr}"),
        Peer::Block { cidr, except } => format!("ipBlock {cidr} except {}", listed(except.to_vec())),
        Peer::Pods { namespaces, pods } => {
            let namespaces = match namespaces {
                Namespaces::Own(namespace) => format!("namespace {namespace}"),
                Namespaces::Matching(namespaces) => format!("namespaces with {}", selector(namespaces)),
                Namespaces::All => "all namespaces".to_owned(),
            };
            format!("{} in {namespaces}", some_or_all("pods", *pods))
        }
        Peer::Nodes(nodes) => some_or_all("nodes", Some(nodes)),
        Peer::Networks(networks) => format!("networks {}", listed(networks.to_vec())),
        Peer::Names(names) => format!("names {}", listed(names.to_vec())),
        Peer::Unknown => "a peer that is not understood".to_owned(),
    });
    listed(told.collect())
}

fn some_or_all(what: &str, labels: Option<&LabelSelector>) -> String {
    match labels.map(selector) {
        None => format!("all {what}"),
        Some(labels) if labels == "any labels" => format!("all {what}"),
        Some(labels) => format!("{what} with {labels}"),
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
    let protocol = flow.question.protocol;
    if protocol.has_ports() {
        format!("{protocol} {}", flow.question.port)
    } else {
        format!("{protocol}, which has no ports,")
    }
}

/// The ports of a rule; a name with the numbers that the receiver gives it.
pub(super) fn ports(flow: &Flow<'_>, ports: &[Port<'_>]) -> String {
    let told = ports.iter().map(|port| match port {
        Port::Every(protocol) => format!("every {protocol} port"),
        Port::Range(protocol, first, last) if first == last => format!("{protocol} {first}"),
        Port::Range(protocol, first, last) => format!("{protocol} {first}-{last}"),
        Port::Named(protocol, name) => {
            let number = |port: &crate::tables::ContainerPort| match protocol {
                Some(_) => port.port.to_string(),
                None => format!("{} {}", port.protocol, port.port),
            };
            let numbers: Vec<String> = flow.named(*protocol, name).map(number).collect();
            let numbers = if numbers.is_empty() { "no port of the receiver".to_owned() } else { listed(numbers) };
            let protocol = protocol.map(|protocol| format!("{protocol} ")).unwrap_or_default();
            format!("{protocol}{name} ({numbers})")
        }
        Port::Unknown => "a port that is not understood".to_owned(),
    });
    listed(told.collect())
}

/// Items beside each other, the first few of many.
pub fn listed(mut items: Vec<String>) -> String {
    let more = items.len().saturating_sub(TOLD_MAX);
    items.truncate(TOLD_MAX);
    let text = items.join(", ");
    if more > 0 { format!("{text} and {more} more") } else { text }
}
