//! Single fields of objects, as the API reference reads them.

use super::Asked;
use ipnet::IpNet;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn labels(object: &Value) -> &Value {
    &object["metadata"]["labels"]
}

/// Whether an annotation says just this.
pub(super) fn flag(object: &Value, annotation: &str, wanted: &str) -> bool {
    object["metadata"]["annotations"][annotation] == wanted
}

/// Whether both are the pod of one name.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    let name = |pod: &Value| (pod["metadata"]["namespace"].clone(), pod["metadata"]["name"].clone());
    name(one) == name(other)
}

pub(super) fn has_ended(pod: &Value) -> bool {
    ["Failed", "Succeeded"].contains(&text(&pod["status"]["phase"]))
}

pub(super) fn is_host_network(pod: &Value) -> bool {
    pod["spec"]["hostNetwork"] == true
}

pub(super) fn addresses(pod: &Value) -> Vec<IpAddr> {
    items(&pod["status"]["podIPs"]).iter().map(|ip| text(&ip["ip"]).parse().expect("an address")).collect()
}

/// The first address of each range that the node has for its pods.
pub(super) fn gateways(node: &Value) -> impl Iterator<Item = IpAddr> {
    let cidrs = items(&node["spec"]["podCIDRs"]).iter().map(|cidr| text(cidr).parse::<IpNet>().expect("a CIDR"));
    cidrs.map(|cidr| match cidr {
        IpNet::V4(cidr) => cidr.hosts().next().map(IpAddr::from).expect("a first host"),
        IpNet::V6(cidr) => cidr.hosts().nth(1).map(IpAddr::from).expect("a first host"),
    })
}

pub(super) fn cidr_holds(cidr: &Value, addr: IpAddr) -> bool {
    text(cidr).parse::<IpNet>().expect("a CIDR").contains(&addr)
}

/// "Except is a slice of CIDRs that should not be included within an IPBlock."
pub(super) fn block_matches(block: &Value, addr: IpAddr) -> bool {
    cidr_holds(&block["cidr"], addr) && !items(&block["except"]).iter().any(|except| cidr_holds(except, addr))
}

/// "If this field is not provided, this matches all port names and numbers"; "endPort indicates that the range of ports from
/// port to endPort if set, inclusive, should be allowed".
pub(super) fn number_matches(port: &Value, number: u16) -> bool {
    let Some(first) = port["port"].as_u64() else { return true };
    (first..=port["endPort"].as_u64().unwrap_or(first)).contains(&u64::from(number))
}

/// Whether a container of `receiver` calls the port of the flow so; `protocol` only if the policy asks for it.
pub(super) fn named_port_matches(receiver: &Value, name: &str, protocol: Option<&str>, asked: &Asked<'_>) -> bool {
    let spec = &receiver["spec"];
    // "Restartable init containers" run beside the others.
    let sidecars = items(&spec["initContainers"]).iter().filter(|container| container["restartPolicy"] == "Always");
    let ports = items(&spec["containers"]).iter().chain(sidecars).flat_map(|container| items(&container["ports"]));
    let mut of_name = ports.filter(|port| port["name"] == name);
    of_name.any(|port| {
        let own = port["protocol"].as_str().unwrap_or("TCP");
        protocol.is_none_or(|wanted| wanted == own)
            && asked.protocol.to_string() == own
            && port["containerPort"] == asked.port
    })
}

/// "'*', the wildcard specifier, matches one or more entire labels." Names are without case and final dot.
pub(super) fn domain_matches(pattern: &str, name: &str) -> bool {
    let pattern = pattern.trim_end_matches('.').to_ascii_lowercase();
    let wanted: Vec<&str> = pattern.split('.').collect();
    let found: Vec<&str> = name.split('.').collect();
    match wanted.as_slice() {
        ["*", parent @ ..] => found.len() > parent.len() && found[found.len() - parent.len()..] == *parent,
        exact => found == exact,
    }
}

/// Whether `labels` have what a LabelSelector asks for; one that is empty or missing asks for nothing.
pub(super) fn matches(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten().all(|(key, value)| labels[key] == *value);
    let expressions = items(&selector["matchExpressions"]).iter().all(|expression| {
        let value = &labels[text(&expression["key"])];
        let listed = items(&expression["values"]).contains(value);
        match text(&expression["operator"]) {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => !value.is_null(),
            "DoesNotExist" => value.is_null(),
            other => panic!("the generator wrote operator {other}"),
        }
    });
    equal && expressions
}

/// The fields of rules that the API's types have.
pub(super) struct Known {
    /// Of kind and list.
    shapes: BTreeMap<(&'static str, &'static str), Value>,
}

impl Known {
    pub(super) fn new() -> Known {
        let selector = json!({
            "matchLabels": {"*": null}, "matchExpressions": [{"key": null, "operator": null, "values": [null]}],
        });
        let block = json!({"cidr": null, "except": [null]});
        let peers = json!([{"podSelector": selector, "namespaceSelector": selector, "ipBlock": block}]);
        let ports = json!([{"protocol": null, "port": null, "endPort": null}]);
        let pods = json!({"namespaceSelector": selector, "podSelector": selector});
        let port = json!({"destinationPort": {"number": null, "range": {"start": null, "end": null}}});
        let protocols = json!([{"tcp": port, "udp": port, "sctp": port, "destinationNamedPort": null}]);
        let sources = json!([{"namespaces": selector, "pods": pods}]);
        let mut destinations = sources.clone();
        destinations[0]["nodes"] = selector;
        destinations[0]["networks"] = json!([null]);
        destinations[0]["domainNames"] = json!([null]);
        let rule =
            |list: &str, peers: &Value| json!({"name": null, "action": null, list: peers, "protocols": protocols});
        let shapes = [
            (("NetworkPolicy", "ingress"), json!({"from": peers, "ports": ports})),
            (("NetworkPolicy", "egress"), json!({"to": peers, "ports": ports})),
            (("ClusterNetworkPolicy", "ingress"), rule("from", &sources)),
            (("ClusterNetworkPolicy", "egress"), rule("to", &destinations)),
        ];
        Known { shapes: shapes.into_iter().collect() }
    }

    /// Whether there is no other field in the rule (N16).
    pub(super) fn has_all_of(&self, kind: &'static str, list: &'static str, rule: &Value) -> bool {
        has_shape(rule, &self.shapes[&(kind, list)])
    }
}

/// Whether `value` has no other fields than `shape`: `null` stands for anything, a field `*` for any field, a list has one element
/// for all of its own.
fn has_shape(value: &Value, shape: &Value) -> bool {
    match (value, shape) {
        (Value::Object(fields), Value::Object(known)) => fields.iter().all(|(name, value)| {
            known.get(name).or_else(|| known.get("*")).is_some_and(|shape| has_shape(value, shape))
        }),
        (Value::Array(values), Value::Array(shapes)) => values.iter().all(|value| has_shape(value, &shapes[0])),
        _ => true,
    }
}
