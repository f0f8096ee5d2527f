//! The reference model: who may talk to whom, stated as literally as the Kubernetes API documentation does, over the objects' JSON.
//! It shares no code with the compiler or the switch, indexes nothing, and looks at everything each time.

use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;

type Labels = BTreeMap<String, String>;

/// The protocol of a flow, as NetworkPolicy and Service spell it; ICMP has no name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

impl Protocol {
    fn is(self, name: &str) -> bool {
        matches!((self, name), (Protocol::Tcp, "TCP") | (Protocol::Udp, "UDP"))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) node: String,
    pub(crate) addresses: Vec<IpAddr>,
    labels: Labels,
    ports: Vec<(String, String, u16)>,
}

/// All objects of one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    namespaces: BTreeMap<String, Labels>,
    nodes: BTreeMap<String, Vec<IpAddr>>,
    pub(crate) pods: Vec<Pod>,
    policies: Vec<Value>,
    cluster_policies: Vec<Value>,
    services: Vec<Value>,
}

fn labels(object: &Value) -> Labels {
    let Some(labels) = object["metadata"]["labels"].as_object() else { return Labels::new() };
    labels.iter().map(|(k, v)| (k.clone(), text(v))).collect()
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn address(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}

impl Model {
    /// The model of objects as the controller filled them in.
    pub(crate) fn new(objects: &[Value]) -> Model {
        let mut model = Model::default();
        for object in objects {
            let name = text(&object["metadata"]["name"]);
            match object["kind"].as_str() {
                Some("Namespace") => {
                    let mut labels = labels(object);
                    // Every namespace has this label (KEP-2161).
                    labels.insert("kubernetes.io/metadata.name".to_owned(), name.clone());
                    model.namespaces.insert(name, labels);
                }
                Some("Node") => {
                    let addresses = items(&object["status"]["addresses"]);
                    model.nodes.insert(name, addresses.iter().filter_map(|a| address(&a["address"])).collect());
                }
                Some("Pod") => model.pods.push(pod(object)),
                // One in dry run decides nothing.
                Some(kind @ ("NetworkPolicy" | "ClusterNetworkPolicy")) => {
                    let dry_run = object["metadata"]["annotations"]["podplane.io/dry-run"] == "true";
                    match kind {
                        _ if dry_run => {}
                        "NetworkPolicy" => model.policies.push(object.clone()),
                        _ => model.cluster_policies.push(object.clone()),
                    }
                }
                Some("Service") => model.services.push(object.clone()),
                _ => {}
            }
        }
        model
    }

    pub(crate) fn pod_at(&self, addr: IpAddr) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.addresses.contains(&addr))
    }

    /// Whether `from` may send to `to`:`port`, judged at the sender.
    pub(crate) fn egress(&self, from: IpAddr, to: IpAddr, protocol: Protocol, port: u16) -> bool {
        let Some(subject) = self.pod_at(from) else { return true };
        self.judge(subject, "Egress", to, self.pod_at(to), protocol, port)
    }

    /// Whether `to` may receive from `from` on `port`, judged at the receiver.
    pub(crate) fn ingress(&self, from: IpAddr, to: IpAddr, protocol: Protocol, port: u16) -> bool {
        let Some(subject) = self.pod_at(to) else { return true };
        // The node that a pod runs on may always reach it.
        self.nodes.get(&subject.node).is_some_and(|node| node.contains(&from))
            || self.judge(subject, "Ingress", from, Some(subject), protocol, port)
    }

    /// Whether a flow may open.
    pub(crate) fn allows(&self, from: IpAddr, to: IpAddr, protocol: Protocol, port: u16) -> bool {
        self.egress(from, to, protocol, port) && self.ingress(from, to, protocol, port)
    }

    fn judge(
        &self,
        subject: &Pod,
        direction: &str,
        peer: IpAddr,
        receiver: Option<&Pod>,
        protocol: Protocol,
        port: u16,
    ) -> bool {
        if subject.addresses.contains(&peer) {
            return true;
        }
        let of_tier = |tier| self.judge_tier(tier, (subject, direction), peer, receiver, protocol, port);
        if let Some(allowed) = of_tier("Admin") {
            return allowed;
        }
        let (rules, peers) = if direction == "Egress" { ("egress", "to") } else { ("ingress", "from") };
        let selecting: Vec<&Value> =
            self.policies.iter().filter(|policy| selects(policy, subject, direction)).collect();
        if selecting.is_empty() {
            return of_tier("Baseline").unwrap_or(true);
        }
        selecting.iter().any(|policy| {
            items(&policy["spec"][rules]).iter().any(|rule| {
                let peers = items(&rule[peers]);
                let ports = items(&rule["ports"]);
                (peers.is_empty() || peers.iter().any(|p| self.is_peer(p, &policy["metadata"]["namespace"], peer)))
                    && (ports.is_empty() || ports.iter().any(|p| is_port(p, receiver, protocol, port)))
            })
        })
    }

    /// What the ClusterNetworkPolicies of a tier say: "policies with lower priority values have higher precedence", and within one
    /// "a rule that appears at the top ... would take the highest precedence". `None` leaves it to the next tier.
    fn judge_tier(
        &self,
        tier: &str,
        (subject, direction): (&Pod, &str),
        peer: IpAddr,
        receiver: Option<&Pod>,
        protocol: Protocol,
        port: u16,
    ) -> Option<bool> {
        let (rules, peers) = if direction == "Egress" { ("egress", "to") } else { ("ingress", "from") };
        let mut policies: Vec<&Value> = self
            .cluster_policies
            .iter()
            .filter(|policy| policy["spec"]["tier"] == tier && self.is_among(&policy["spec"]["subject"], subject))
            .collect();
        policies.sort_by_key(|policy| (policy["spec"]["priority"].as_u64(), text(&policy["metadata"]["name"])));
        let mut all = policies.into_iter().flat_map(|policy| items(&policy["spec"][rules]));
        let first = all.find(|rule| {
            let protocols = items(&rule["protocols"]);
            items(&rule[peers]).iter().any(|to| match &to["networks"] {
                Value::Null => self.pod_at(peer).is_some_and(|pod| self.is_among(to, pod)),
                networks => items(networks).iter().any(|cidr| in_cidr(peer, &text(cidr))),
            }) && (protocols.is_empty() || protocols.iter().any(|wanted| is_protocol(wanted, receiver, protocol, port)))
        })?;
        match first["action"].as_str() {
            Some("Accept") => Some(true),
            Some("Deny") => Some(false),
            _ => None,
        }
    }

    /// Whether `pod` is among the pods of `choice`, which has `namespaces` or `pods`.
    fn is_among(&self, choice: &Value, pod: &Pod) -> bool {
        let none = Labels::new();
        let namespace = self.namespaces.get(&pod.namespace).unwrap_or(&none);
        match &choice["pods"] {
            Value::Null => matches(&choice["namespaces"], namespace),
            pods => matches(&pods["namespaceSelector"], namespace) && matches(&pods["podSelector"], &pod.labels),
        }
    }

    fn is_peer(&self, peer: &Value, policy_namespace: &Value, addr: IpAddr) -> bool {
        if let Some(cidr) = peer["ipBlock"]["cidr"].as_str() {
            return in_cidr(addr, cidr) && !items(&peer["ipBlock"]["except"]).iter().any(|e| in_cidr(addr, &text(e)));
        }
        let Some(pod) = self.pod_at(addr) else { return false };
        let in_namespace = match &peer["namespaceSelector"] {
            Value::Null => policy_namespace.as_str() == Some(&*pod.namespace),
            selector => self.namespaces.get(&pod.namespace).is_some_and(|labels| matches(selector, labels)),
        };
        in_namespace && (peer["podSelector"].is_null() || matches(&peer["podSelector"], &pod.labels))
    }

    /// Whether `addr` is a Service's.
    pub(crate) fn is_virtual(&self, addr: IpAddr) -> bool {
        self.services.iter().any(|s| items(&s["spec"]["clusterIPs"]).iter().any(|ip| address(ip) == Some(addr)))
    }

    /// The virtual addresses of all Services.
    pub(crate) fn virtual_addresses(&self) -> Vec<IpAddr> {
        self.services.iter().flat_map(|s| items(&s["spec"]["clusterIPs"])).filter_map(address).collect()
    }

    /// The addresses and ports behind a virtual address; `None` if it is no Service's.
    pub(crate) fn backends(&self, vip: IpAddr, protocol: Protocol, port: u16) -> Option<Vec<(IpAddr, u16)>> {
        let is_vip = |service: &&Value| items(&service["spec"]["clusterIPs"]).iter().any(|ip| address(ip) == Some(vip));
        let service = self.services.iter().find(is_vip)?;
        let mut found = Vec::new();
        for service_port in items(&service["spec"]["ports"]) {
            let name = service_port["protocol"].as_str().unwrap_or("TCP");
            if !protocol.is(name) || service_port["port"] != port {
                continue;
            }
            for pod in self.pods.iter().filter(|pod| text(&service["metadata"]["namespace"]) == pod.namespace) {
                let selector = serde_json::json!({"matchLabels": service["spec"]["selector"]});
                let target = match &service_port["targetPort"] {
                    Value::String(wanted) => pod.ports.iter().find(|(n, p, _)| n == wanted && p == name).map(|p| p.2),
                    Value::Number(number) => number.as_u64().map(|n| n as u16),
                    _ => Some(port),
                };
                let of_family = pod.addresses.iter().find(|addr| addr.is_ipv4() == vip.is_ipv4());
                if let (true, Some(target), Some(addr)) = (matches(&selector, &pod.labels), target, of_family) {
                    found.push((*addr, target));
                }
            }
        }
        Some(found)
    }
}

fn pod(object: &Value) -> Pod {
    let containers = items(&object["spec"]["containers"]).iter();
    let ports = containers.flat_map(|container| items(&container["ports"])).map(|port| {
        let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
        (text(&port["name"]), protocol, port["containerPort"].as_u64().unwrap_or(0) as u16)
    });
    Pod {
        namespace: text(&object["metadata"]["namespace"]),
        name: text(&object["metadata"]["name"]),
        node: text(&object["spec"]["nodeName"]),
        addresses: items(&object["status"]["podIPs"]).iter().filter_map(|ip| address(&ip["ip"])).collect(),
        labels: labels(object),
        ports: ports.collect(),
    }
}

/// Whether `policy` isolates `pod` in `direction`.
fn selects(policy: &Value, pod: &Pod, direction: &str) -> bool {
    let spec = &policy["spec"];
    let listed = match items(&spec["policyTypes"]) {
        // "If this field is not specified, it will default based on the existence of ingress or egress rules; policies that
        // contain an egress section are assumed to affect egress, and all policies are assumed to affect ingress."
        [] => direction == "Ingress" || !items(&spec["egress"]).is_empty(),
        types => types.contains(&Value::from(direction)),
    };
    listed && text(&policy["metadata"]["namespace"]) == pod.namespace && matches(&spec["podSelector"], &pod.labels)
}

fn is_port(rule: &Value, receiver: Option<&Pod>, protocol: Protocol, port: u16) -> bool {
    let name = rule["protocol"].as_str().unwrap_or("TCP");
    protocol.is(name)
        && match &rule["port"] {
            Value::Null => true,
            Value::Number(first) => {
                let first = first.as_u64().unwrap_or(0);
                (first..=rule["endPort"].as_u64().unwrap_or(first)).contains(&u64::from(port))
            }
            named => receiver.is_some_and(|pod| {
                pod.ports.iter().any(|(n, p, number)| *n == text(named) && p == name && *number == port)
            }),
        }
}

/// Whether an entry of a ClusterNetworkPolicy rule's `protocols` matches.
fn is_protocol(wanted: &Value, receiver: Option<&Pod>, protocol: Protocol, port: u16) -> bool {
    if let Some(name) = wanted["destinationNamedPort"].as_str() {
        let is_named = |(n, p, number): &(String, String, u16)| n == name && protocol.is(p) && *number == port;
        return receiver.is_some_and(|pod| pod.ports.iter().any(is_named));
    }
    let field = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Icmp => return false,
    };
    let ports = &wanted[field]["destinationPort"];
    let (start, end) = (&ports["range"]["start"], &ports["range"]["end"]);
    let in_range = start.as_u64().zip(end.as_u64()).is_some_and(|(start, end)| (start..=end).contains(&port.into()));
    ports["number"] == port || in_range
}

fn matches(selector: &Value, labels: &Labels) -> bool {
    let equal = selector["matchLabels"]
        .as_object()
        .is_none_or(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(&text(value))));
    let expressions = items(&selector["matchExpressions"]).iter().all(|expression| {
        let value = labels.get(&text(&expression["key"]));
        let listed = value.is_some_and(|value| items(&expression["values"]).contains(&Value::from(value.as_str())));
        match expression["operator"].as_str() {
            Some("In") => listed,
            Some("NotIn") => !listed,
            Some("Exists") => value.is_some(),
            Some("DoesNotExist") => value.is_none(),
            other => panic!("no such operator: {other:?}"),
        }
    });
    equal && expressions
}

fn in_cidr(addr: IpAddr, cidr: &str) -> bool {
    let (base, len) = cidr.split_once('/').expect("a CIDR has a prefix length");
    let (base, len): (IpAddr, u32) = (base.parse().expect("an address"), len.parse().expect("a length"));
    let bits = |addr: IpAddr| match addr {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    let ((addr, width), (base, base_width)) = (bits(addr), bits(base));
    width == base_width && (len == 0 || addr >> (width - len) == base >> (width - len))
}
