//! Random clusters: namespaces, pods, Services, NetworkPolicies and ClusterNetworkPolicies from a seed, as manifests, and random
//! changes to them.

use lab::sim::Random;
use serde_json::{Value, json};

const APPS: [&str; 3] = ["web", "api", "db"];
const TIERS: [&str; 2] = ["gold", "lead"];
const TEAMS: [&str; 2] = ["red", "blue"];
/// Every pod listens here, on TCP and UDP.
pub(crate) const SERVER_PORT: u16 = 8080;
/// Every Service answers here.
pub(crate) const SERVICE_PORT: u16 = 80;

/// The objects that a person would write.
pub(crate) struct World {
    random: Random,
    namespaces: Vec<String>,
    objects: Vec<Value>,
    pods_made: usize,
    policies_made: usize,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut world = World {
            random: Random::new(seed),
            namespaces: Vec::new(),
            objects: Vec::new(),
            pods_made: 0,
            policies_made: 0,
        };
        for index in 0..2 {
            let name = format!("ns{index}");
            let team = *world.random.pick(&TEAMS);
            world.objects.push(object("v1", "Namespace", "", &name, json!({"team": team}), json!({})));
            world.namespaces.push(name);
        }
        for _ in 0..4 + world.random.below(4) {
            world.add_pod();
        }
        for namespace in world.namespaces.clone() {
            for app in APPS.iter().take(2) {
                let ports = json!([
                    {"name": "tcp", "port": SERVICE_PORT, "targetPort": SERVER_PORT},
                    {"name": "udp", "port": SERVICE_PORT, "targetPort": "datagrams", "protocol": "UDP"},
                ]);
                let families = json!(["IPv4", "IPv6"]);
                let spec = json!({"selector": {"app": app}, "ports": ports, "ipFamilyPolicy": "PreferDualStack", "ipFamilies": families});
                world.objects.push(object("v1", "Service", &namespace, app, json!({}), spec));
            }
        }
        for _ in 0..1 + world.random.below(4) {
            world.add_policy();
        }
        for _ in 0..world.random.below(3) {
            world.add_cluster_policy();
        }
        world
    }

    /// All objects as one manifest.
    pub(crate) fn manifest(&self) -> String {
        let documents: Vec<String> = self.objects.iter().map(Value::to_string).collect();
        documents.join("\n---\n")
    }

    /// Changes something; says what.
    pub(crate) fn change(&mut self) -> String {
        let of_kind = |objects: &[Value], kind: &str| -> Vec<usize> {
            (0..objects.len()).filter(|index| objects[*index]["kind"] == *kind).collect()
        };
        let mut policies = of_kind(&self.objects, "NetworkPolicy");
        policies.extend(of_kind(&self.objects, "ClusterNetworkPolicy"));
        let pods = of_kind(&self.objects, "Pod");
        match self.random.below(9) {
            0 if !policies.is_empty() => {
                let index = *self.random.pick(&policies);
                let removed = self.objects.remove(index);
                format!("remove policy {}", removed["metadata"]["name"])
            }
            1 if pods.len() > 3 => {
                let index = *self.random.pick(&pods);
                let removed = self.objects.remove(index);
                format!("remove Pod {}", removed["metadata"]["name"])
            }
            2 => {
                self.add_pod();
                "add a Pod".to_owned()
            }
            3 => {
                let index = *self.random.pick(&pods);
                let app = *self.random.pick(&APPS);
                self.objects[index]["metadata"]["labels"]["app"] = json!(app);
                format!("label Pod {} app={app}", self.objects[index]["metadata"]["name"])
            }
            4 => {
                let namespaces = of_kind(&self.objects, "Namespace");
                let index = *self.random.pick(&namespaces);
                let team = *self.random.pick(&TEAMS);
                self.objects[index]["metadata"]["labels"]["team"] = json!(team);
                format!("label Namespace {} team={team}", self.objects[index]["metadata"]["name"])
            }
            5 | 6 => {
                self.add_cluster_policy();
                format!("add {}", self.objects.last().expect("just added"))
            }
            7 if !policies.is_empty() => {
                let index = *self.random.pick(&policies);
                let metadata = &mut self.objects[index]["metadata"];
                let is_dry = metadata["annotations"]["podplane.io/dry-run"] == "true";
                metadata["annotations"] = if is_dry { json!({}) } else { json!({"podplane.io/dry-run": "true"}) };
                format!("dry run of policy {}: {}", metadata["name"], !is_dry)
            }
            _ => {
                self.add_policy();
                format!("add {}", self.objects.last().expect("just added"))
            }
        }
    }

    fn add_pod(&mut self) {
        let name = format!("pod{}", self.pods_made);
        self.pods_made += 1;
        let namespace = self.random.pick(&self.namespaces).clone();
        let (app, tier) = (*self.random.pick(&APPS), *self.random.pick(&TIERS));
        let ports = json!([
            {"name": "streams", "containerPort": SERVER_PORT},
            {"name": "datagrams", "containerPort": SERVER_PORT, "protocol": "UDP"},
        ]);
        let spec = json!({"containers": [{"name": "main", "image": "none", "ports": ports}]});
        self.objects.push(object("v1", "Pod", &namespace, &name, json!({"app": app, "tier": tier}), spec));
    }

    fn add_policy(&mut self) {
        let name = format!("policy{}", self.policies_made);
        self.policies_made += 1;
        let namespace = self.random.pick(&self.namespaces).clone();
        let mut spec = json!({"podSelector": self.pod_selector()});
        let direction = self.random.below(3);
        if direction != 1 {
            spec["ingress"] = self.rules("from");
        }
        if direction != 0 {
            spec["egress"] = self.rules("to");
        }
        spec["policyTypes"] = match direction {
            0 => json!(["Ingress"]),
            1 => json!(["Egress"]),
            _ => json!(["Ingress", "Egress"]),
        };
        self.objects.push(object("networking.k8s.io/v1", "NetworkPolicy", &namespace, &name, json!({}), spec));
    }

    fn add_cluster_policy(&mut self) {
        let name = format!("cluster{}", self.policies_made);
        self.policies_made += 1;
        let tier = *self.random.pick(&["Admin", "Baseline"]);
        let mut spec = json!({"tier": tier, "priority": self.random.below(4), "subject": self.pods()});
        let direction = self.random.below(3);
        for (list, peers, other) in [("ingress", "from", 1), ("egress", "to", 0)] {
            if direction != other {
                let rules = (0..1 + self.random.below(2)).map(|_| self.cluster_rule(peers));
                spec[list] = rules.collect();
            }
        }
        let version = "policy.networking.k8s.io/v1alpha2";
        self.objects.push(object(version, "ClusterNetworkPolicy", "", &name, json!({}), spec));
    }

    fn cluster_rule(&mut self, peers: &str) -> Value {
        let networks = json!({"networks": ["10.244.1.0/24", "fd00:10:244:2::/64"]});
        let of_networks = peers == "to" && self.random.chance(300);
        let peer = if of_networks { networks } else { self.pods() };
        let mut rule = json!({"action": *self.random.pick(&["Accept", "Deny", "Pass"]), peers: [peer]});
        let protocols = [
            json!([{"tcp": {"destinationPort": {"number": SERVER_PORT}}}]),
            json!([{"udp": {"destinationPort": {"range": {"start": 1, "end": 9000}}}}]),
            json!([{"destinationNamedPort": "streams"}]),
        ];
        if self.random.chance(500) {
            // Addresses have no named ports.
            rule["protocols"] = self.random.pick(&protocols[..if of_networks { 2 } else { 3 }]).clone();
        }
        rule
    }

    fn pods(&mut self) -> Value {
        match self.random.below(3) {
            0 => json!({"namespaces": {"matchLabels": {"team": *self.random.pick(&TEAMS)}}}),
            1 => json!({"namespaces": {}}),
            _ => json!({"pods": {"namespaceSelector": {}, "podSelector": self.pod_selector()}}),
        }
    }

    fn rules(&mut self, peers: &str) -> Value {
        let count = self.random.below(3);
        let rules = (0..count).map(|_| {
            let mut rule = json!({});
            let peer_count = self.random.below(3);
            if peer_count > 0 {
                rule[peers] = (0..peer_count).map(|_| self.peer()).collect();
            }
            if self.random.chance(400) {
                rule["ports"] = self.ports();
            }
            rule
        });
        rules.collect()
    }

    fn peer(&mut self) -> Value {
        match self.random.below(4) {
            0 => json!({"podSelector": self.pod_selector()}),
            1 => json!({"namespaceSelector": {"matchLabels": {"team": *self.random.pick(&TEAMS)}}}),
            2 => json!({"namespaceSelector": {}, "podSelector": self.pod_selector()}),
            _ => {
                let blocks = [
                    json!({"cidr": "10.244.0.0/16", "except": ["10.244.2.0/24"]}),
                    json!({"cidr": "10.244.1.0/25"}),
                    json!({"cidr": "fd00:10:244::/48", "except": ["fd00:10:244:1::/64"]}),
                ];
                json!({"ipBlock": self.random.pick(&blocks)})
            }
        }
    }

    fn ports(&mut self) -> Value {
        let ports = [
            json!([{"port": SERVER_PORT}]),
            json!([{"protocol": "UDP", "port": "datagrams"}]),
            json!([{"protocol": "TCP"}]),
            json!([{"protocol": "TCP", "port": 8000, "endPort": 9000}, {"protocol": "UDP", "port": 53}]),
            json!([{"protocol": "UDP", "port": SERVER_PORT}, {"protocol": "TCP", "port": "streams"}]),
        ];
        self.random.pick(&ports).clone()
    }

    fn pod_selector(&mut self) -> Value {
        match self.random.below(5) {
            0 => json!({}),
            1 => json!({"matchLabels": {"tier": *self.random.pick(&TIERS)}}),
            2 => {
                let values = [*self.random.pick(&APPS), *self.random.pick(&APPS)];
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": values}]})
            }
            3 => {
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": [*self.random.pick(&APPS)]}]})
            }
            _ => json!({"matchLabels": {"app": *self.random.pick(&APPS)}}),
        }
    }
}

fn object(api_version: &str, kind: &str, namespace: &str, name: &str, labels: Value, spec: Value) -> Value {
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "labels": labels}});
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = json!(namespace);
    }
    if spec != json!({}) {
        object["spec"] = spec;
    }
    object
}
