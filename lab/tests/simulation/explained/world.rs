//! Random clusters in which much is forbidden: pods on three nodes, some of the host network, Services of several types,
//! NetworkPolicies and ClusterNetworkPolicies of both tiers, some in dry run; and random questions about them.

use control::controller::LabNetwork;
use lab::probe::ProbeProtocol;
use lab::sim::Random;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};

const NAMESPACES: [&str; 2] = ["ns0", "ns1"];
const NODES: usize = 3;
const APPS: [&str; 3] = ["web", "api", "db"];
/// Servers listen here, on TCP, UDP and SCTP.
pub(super) const SERVER_PORT: u16 = 8080;
const SERVICE_PORT: u16 = 80;
const NODE_PORT: u16 = 30_080;
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// The objects of a cluster, as a person would write them.
pub(super) fn objects(random: &mut Random) -> Vec<Value> {
    let mut world = World { random, objects: Vec::new() };
    for node in 1..=NODES {
        let labels = world.labels();
        world.add("v1", "Node", "", &format!("node{node}"), labels, json!({}), Value::Null);
    }
    for namespace in NAMESPACES {
        let labels = world.labels();
        world.add("v1", "Namespace", "", namespace, labels, json!({}), Value::Null);
    }
    for number in 0..6 + world.random.below(3) {
        world.pod(number);
    }
    for (number, kind) in ["ClusterIP", "NodePort", "LoadBalancer", "NodePort"].into_iter().enumerate() {
        world.service(number, kind);
    }
    for number in 0..world.random.below(4) {
        world.network_policy(number);
    }
    for number in 0..world.random.below(4) {
        world.cluster_network_policy(number);
    }
    world.objects
}

struct World<'a> {
    random: &'a mut Random,
    objects: Vec<Value>,
}

impl World<'_> {
    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        self.random.pick(of).clone()
    }

    #[allow(clippy::too_many_arguments)]
    fn add(
        &mut self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
        labels: Value,
        annotations: Value,
        spec: Value,
    ) {
        let metadata = json!({"name": name, "labels": labels, "annotations": annotations});
        let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata});
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = namespace.into();
        }
        if !spec.is_null() {
            object["spec"] = spec;
        }
        self.objects.push(object);
    }

    fn labels(&mut self) -> Value {
        let app = self.pick(&APPS);
        let tier = self.pick(&["x", "y"]);
        json!({"app": app, "tier": tier})
    }

    fn pod(&mut self, number: u64) {
        let namespace = self.pick(&NAMESPACES);
        let labels = self.labels();
        let ports: Vec<Value> = PROTOCOLS
            .iter()
            .map(|protocol| {
                let name = format!("{}-in", protocol.to_lowercase());
                json!({"name": name, "containerPort": SERVER_PORT, "protocol": protocol})
            })
            .collect();
        let mut spec = json!({
            "nodeName": format!("node{}", 1 + number as usize % NODES),
            "containers": [{"name": "main", "image": "none", "ports": ports}],
        });
        if self.random.chance(150) {
            spec["hostNetwork"] = true.into();
        }
        self.add("v1", "Pod", namespace, &format!("pod{number}"), labels, json!({}), spec);
    }

    fn service(&mut self, number: usize, kind: &str) {
        let namespace = self.pick(&NAMESPACES);
        let by_name = self.random.chance(500);
        let ports: Vec<Value> = PROTOCOLS
            .iter()
            .map(|protocol| {
                let name = protocol.to_lowercase();
                let target = if by_name { json!(format!("{name}-in")) } else { json!(SERVER_PORT) };
                let mut port = json!({"name": name, "port": SERVICE_PORT, "targetPort": target, "protocol": protocol});
                if kind != "ClusterIP" {
                    port["nodePort"] = (usize::from(NODE_PORT) + number).into();
                }
                port
            })
            .collect();
        let selector = json!({"app": self.pick(&APPS)});
        let mut spec = json!({
            "type": kind, "selector": selector, "ports": ports, "ipFamilyPolicy": "RequireDualStack",
            "ipFamilies": ["IPv4", "IPv6"],
        });
        if self.random.chance(200) {
            spec["internalTrafficPolicy"] = "Local".into();
        }
        if kind != "ClusterIP" && self.random.chance(400) {
            spec["externalTrafficPolicy"] = "Local".into();
        }
        self.add("v1", "Service", namespace, &format!("svc{number}"), json!({}), json!({}), spec);
    }

    fn annotations(&mut self) -> Value {
        let dry_run = if self.random.chance(250) { json!({"podplane.io/dry-run": "true"}) } else { json!({}) };
        let mut annotations = dry_run;
        if self.random.chance(200) {
            annotations["podplane.io/established"] = "keep".into();
        }
        annotations
    }

    fn selector(&mut self) -> Value {
        match self.random.below(6) {
            0 | 1 => json!({}),
            2 => json!({"matchLabels": {"tier": self.pick(&["x", "y"])}}),
            3 => {
                let values = [self.pick(&APPS)];
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": values}]})
            }
            _ => json!({"matchLabels": {"app": self.pick(&APPS)}}),
        }
    }

    fn network_policy(&mut self, number: u64) {
        let namespace = self.pick(&NAMESPACES);
        let types = self.pick(&[json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])]);
        let (ingress, egress) = (self.rules("from"), self.rules("to"));
        let spec = json!({"podSelector": self.selector(), "policyTypes": types, "ingress": ingress, "egress": egress});
        let annotations = self.annotations();
        let name = format!("policy{number}");
        self.add("networking.k8s.io/v1", "NetworkPolicy", namespace, &name, json!({}), annotations, spec);
    }

    fn rules(&mut self, list: &str) -> Value {
        let rules = (0..self.random.below(3)).map(|_| {
            let peers: Vec<Value> = (0..self.random.below(3)).map(|_| self.peer()).collect();
            let mut rule = json!({list: peers});
            if self.random.chance(400) {
                let ports = [
                    json!([{"port": SERVER_PORT}]),
                    json!([{"port": "udp-in", "protocol": "UDP"}, {"port": "tcp-in"}]),
                    json!([{"port": 8_000, "endPort": 9_000, "protocol": "SCTP"}]),
                    json!([{"protocol": "TCP"}, {"protocol": "UDP"}]),
                ];
                rule["ports"] = self.pick(&ports);
            }
            rule
        });
        rules.collect()
    }

    fn peer(&mut self) -> Value {
        match self.random.below(4) {
            0 => json!({"podSelector": self.selector()}),
            1 => json!({"namespaceSelector": self.selector(), "podSelector": self.selector()}),
            2 => json!({"namespaceSelector": self.selector()}),
            _ => {
                let blocks = [
                    json!({"cidr": "0.0.0.0/0", "except": ["10.244.2.0/24"]}),
                    json!({"cidr": "10.244.1.0/24"}),
                    json!({"cidr": "172.30.0.0/24"}),
                    json!({"cidr": "::/0", "except": ["fd00:10:244:1::/64"]}),
                ];
                json!({"ipBlock": self.pick(&blocks)})
            }
        }
    }

    fn cluster_network_policy(&mut self, number: u64) {
        let tier = self.pick(&["Admin", "Baseline"]);
        let priority = self.random.below(3);
        let mut spec = json!({"tier": tier, "priority": priority, "subject": self.pods()});
        for (list, peers) in [("ingress", "from"), ("egress", "to")] {
            if self.random.chance(700) {
                spec[list] = self.cluster_rules(peers);
            }
        }
        let annotations = self.annotations();
        let name = format!("cluster{number}");
        let version = "policy.networking.k8s.io/v1alpha2";
        self.add(version, "ClusterNetworkPolicy", "", &name, json!({}), annotations, spec);
    }

    fn pods(&mut self) -> Value {
        match self.random.below(3) {
            0 => json!({"namespaces": {}}),
            1 => json!({"namespaces": self.selector()}),
            _ => json!({"pods": {"namespaceSelector": self.selector(), "podSelector": self.selector()}}),
        }
    }

    fn cluster_rules(&mut self, list: &str) -> Value {
        let rules = (0..1 + self.random.below(3)).map(|_| {
            let peer = match self.random.below(4) {
                0 if list == "to" => json!({"nodes": self.selector()}),
                1 if list == "to" => {
                    let networks = [json!(["0.0.0.0/0"]), json!(["10.244.1.0/24", "::/0"]), json!(["203.0.113.0/24"])];
                    json!({"networks": self.pick(&networks)})
                }
                _ => self.pods(),
            };
            let of_pods = peer.get("nodes").is_none() && peer.get("networks").is_none();
            let mut rule = json!({"action": self.pick(&["Accept", "Deny", "Pass"]), list: [peer]});
            if self.random.chance(400) {
                let protocols = [
                    json!([{"tcp": {"destinationPort": {"number": SERVER_PORT}}}]),
                    json!([{"udp": {"destinationPort": {"range": {"start": 1, "end": 9_000}}}}]),
                    json!([{"sctp": {"destinationPort": {"number": SERVER_PORT}}}]),
                    json!([{"destinationNamedPort": "tcp-in"}]),
                ];
                rule["protocols"] = self.pick(if of_pods { &protocols } else { &protocols[..3] });
            }
            rule
        });
        rules.collect()
    }
}

/// A question about a cluster: PLACE, where to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) from: String,
    pub(super) to: SocketAddr,
    pub(super) protocol: ProbeProtocol,
}

/// What may be asked about a cluster of these completed objects.
pub(super) struct Targets {
    /// Pods with addresses of their own.
    pods: Vec<(String, Vec<IpAddr>)>,
    nodes: Vec<(String, Vec<IpAddr>)>,
    virtual_addresses: Vec<IpAddr>,
    node_ports: Vec<u16>,
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn address(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}

impl Targets {
    pub(super) fn of(objects: &[Value]) -> Targets {
        let of_kind = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
        let name = |object: &Value| object["metadata"]["name"].as_str().expect("a name").to_owned();
        let pods = of_kind("Pod").filter(|pod| pod["spec"]["hostNetwork"] != true).map(|pod| {
            let namespace = pod["metadata"]["namespace"].as_str().expect("a namespace");
            (format!("{namespace}/{}", name(pod)), items(&pod["status"]["podIPs"]).filter_map(|ip| address(&ip["ip"])))
        });
        let nodes = of_kind("Node").map(|node| {
            let addresses = items(&node["status"]["addresses"]).filter_map(|entry| address(&entry["address"]));
            (format!("node:{}", name(node)), addresses.collect())
        });
        let services = || of_kind("Service");
        let cluster_ips = services().flat_map(|service| items(&service["spec"]["clusterIPs"])).filter_map(address);
        let balancers = services().flat_map(|service| items(&service["status"]["loadBalancer"]["ingress"]));
        let ports = services().flat_map(|service| items(&service["spec"]["ports"]));
        Targets {
            pods: pods.map(|(name, addresses)| (name, addresses.collect())).collect(),
            nodes: nodes.collect(),
            virtual_addresses: cluster_ips.chain(balancers.filter_map(|entry| address(&entry["ip"]))).collect(),
            node_ports: ports.filter_map(|port| port["nodePort"].as_u64()).map(|port| port as u16).collect(),
        }
    }

    pub(super) fn question(&self, random: &mut Random) -> Question {
        let protocols = [ProbeProtocol::Tcp, ProbeProtocol::Udp, ProbeProtocol::Sctp, ProbeProtocol::Icmp];
        let protocol = *random.pick(&protocols);
        let of_node = random.chance(500);
        let node_port = if of_node { *random.pick(&self.node_ports) } else { SERVER_PORT };
        let (_, of_pod) = random.pick(&self.pods);
        let (_, of_node) = random.pick(&self.nodes);
        let strange = ["203.0.113.9", "10.244.1.250", "10.96.255.250", "2001:db8::9", "fd00:10:244:2::fa"];
        let mut strange: Vec<IpAddr> = strange.iter().map(|text| text.parse().expect("an address")).collect();
        strange.extend(LabNetwork::default().world_addresses());
        let (from, addresses, ports): (String, &[IpAddr], Vec<u16>) = match random.below(20) {
            // From outside, and from the nodes' own processes.
            0..=3 => ("world".into(), of_node, vec![node_port, node_port, SERVER_PORT]),
            4 | 5 => (random.pick(&self.nodes).0.clone(), of_pod, vec![SERVER_PORT, 9]),
            6 => (random.pick(&self.nodes).0.clone(), &self.virtual_addresses, vec![SERVICE_PORT, 9]),
            // From pods; not to themselves, which no switch sees.
            case => {
                let (addresses, ports): (&[IpAddr], Vec<u16>) = match case {
                    7..=11 => (of_pod, vec![SERVER_PORT, SERVER_PORT, SERVER_PORT, 9]),
                    12..=15 => (&self.virtual_addresses, vec![SERVICE_PORT, SERVICE_PORT, SERVICE_PORT, 9]),
                    16 | 17 => (of_node, vec![node_port, node_port, SERVER_PORT, 9]),
                    _ => (&strange, vec![SERVER_PORT]),
                };
                let others: Vec<&String> =
                    self.pods.iter().filter(|(_, own)| own.as_slice() != addresses).map(|(name, _)| name).collect();
                ((*random.pick(&others)).clone(), addresses, ports)
            }
        };
        let port = if protocol == ProbeProtocol::Icmp { 0 } else { *random.pick(&ports) };
        Question { from, to: SocketAddr::new(*random.pick(addresses), port), protocol }
    }
}
